//! The codec of amqp-proto beside amq-protocol's (lapin) and amqp_serde's (amqprs), on the same octets.
//!
//! [`cases`] says what is measured; `benches/codec.rs` takes the time of it, `src/bin/instructions.rs` counts the
//! instructions and compares them with the budgets.

pub mod cases;
mod machine;
mod peers;
mod round_trip;
mod samples;
