//! What other clients make of the same octets, each in the way that its client uses its codec.

pub(crate) mod amq_protocol;
pub(crate) mod amqp_serde;
