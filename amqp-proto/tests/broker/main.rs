//! The codec against a real broker, through the client of the `session` example, and the machines ([`machine`]).
//!
//! `cargo xtask test` starts the broker and sets the variables:
//! `AMQP_TEST_URL`, `AMQP_TEST_TLS_URL`, `AMQP_TEST_CLIENT_CERT`, `AMQP_TEST_CLIENT_KEY`, `AMQP_TEST_CTL`.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a broker is reached through a socket"
)]

#[path = "../../examples/session/client.rs"]
mod client;
mod connect;
mod handshake;
mod machine;
mod messages;
mod refusals;
