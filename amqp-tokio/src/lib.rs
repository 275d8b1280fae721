//! An AMQP 0-9-1 (RabbitMQ) client for tokio.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use amqp_tokio::Message;
//!
//! let connection = amqp_tokio::connect("amqp://guest:guest@localhost/").await?;
//! let channel = connection.channel().await?;
//! let queue = channel.declare_queue("tasks").durable(true).await?;
//!
//! let exchange = channel.default_exchange();
//! exchange.publish(Message::new("Hello").persistent(), queue.name()).await?; // The broker has it.
//!
//! let mut consumer = queue.consume().await?;
//! while let Some(delivery) = consumer.next().await {
//!     let delivery = delivery?;
//!     println!("{}", String::from_utf8_lossy(&delivery.body()));
//!     delivery.ack().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The handles are those of `amqp-async`, all of which is here too; this crate brings connecting ([`connect()`], [`Connector`],
//! [`connect_over`]) and runs each connection as one task.

mod connect;
mod runtime;

use std::sync::Arc;

pub use amqp_async::*;
pub use amqp_net::{
    AttemptError, ConnectError, FailedAttempt, FailedAttempts, Stage, TlsConfig, TlsError, TlsMaterial,
    TlsVersion,
};
pub use connect::Connector;
use tokio::io::{AsyncRead, AsyncWrite};

/// Connects to the broker of that URI ([`AmqpUri`](proto::AmqpUri)).
///
/// # Errors
/// A URI that cannot be read; all that was tried and why it failed.
///
/// # Panics
/// Outside of a tokio runtime with its time and I/O enabled.
pub async fn connect(uri: &str) -> Result<Connection, ConnectError> {
    Connector::from_uri(uri)?.connect().await
}

/// Connects over a stream that is there: a Unix socket, a tunnel, TLS of your own, memory.
///
/// # Errors
/// [`Error::ConnectionClosed`] with why the broker did not let us in.
///
/// # Panics
/// Outside of a tokio runtime with its time enabled.
pub async fn connect_over<S>(stream: S, config: Arc<proto::Config>) -> Result<Connection, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = runtime::open(stream, config).await;
    opened.map_err(Error::ConnectionClosed)
}

/// The READMEs' snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
