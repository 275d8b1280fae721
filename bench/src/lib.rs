//! The codec of amqp-proto beside amq-protocol's (lapin) and amqp_serde's (amqprs), on the same octets; and whole clients,
//! against a broker that does next to nothing.
//!
//! [`cases`] says what is measured of the codecs; `benches/codec.rs` takes the time of it, `src/bin/instructions.rs` counts
//! the instructions and compares them with the budgets.
//!
//! The module `clients`, behind the feature of that name, says what is measured of the clients, each in a process of its own, `src/bin/client.rs`;
//! `src/bin/null_broker` is the other end, `src/bin/compare` runs all of it and prints the table.

pub mod cases;
#[cfg(feature = "clients")]
pub mod clients;
mod machine;
mod peers;
#[cfg(feature = "clients")]
mod queue_name;
mod round_trip;
mod samples;

#[cfg(feature = "clients")]
pub use queue_name::{ECHO_QUEUE, QueueName};
