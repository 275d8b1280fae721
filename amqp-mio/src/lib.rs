//! An AMQP 0-9-1 (RabbitMQ) client for [mio]: non-blocking, on one thread, in your own loop.
//!
//! [`Connector`] finds a broker, [`MioConnection`] is a source of events for your [`mio::Poll`] and speaks with it. Channels, requests
//! and events are those of [`amqp_proto`].

mod connection;
mod connector;
mod resolver;
mod session;
mod stream;

pub use amqp_net::{AttemptError, ConnectError, TlsConfig, TlsMaterial, TlsVersion};
pub use amqp_proto as proto;
pub use amqp_proto::Event;
pub use connection::MioConnection;
pub use connector::Connector;

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
