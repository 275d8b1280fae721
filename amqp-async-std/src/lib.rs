//! An AMQP 0-9-1 (RabbitMQ) client for async-std, which is discontinued (RUSTSEC-2025-0052): in a new program, use `amqp-tokio`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use amqp_async_std::Message;
//!
//! let connection = amqp_async_std::connect("amqp://guest:guest@localhost/").await?;
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
//! The features `tracing`, `metrics` and `trace-context` are as [`amqp_async`] has them.
//!
//! The handles are those of `amqp-async`, all of which is here too; this crate brings connecting ([`connect()`], [`Connector`],
//! [`connect_over`]), with credentials from a [`CredentialsProvider`] too, and runs each connection as one task.

mod connect;
mod runtime;

#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;

pub use amqp_async::*;
pub use amqp_net::{
    AttemptError, ConnectError, FailedAttempt, FailedAttempts, Stage, TlsConfig, TlsError, TlsMaterial,
    TlsVersion,
};
#[cfg(unix)]
use async_std::os::unix::net::UnixStream;
pub use connect::Connector;
use futures_io::{AsyncRead, AsyncWrite};

/// Connects to the broker of that URI ([`AmqpUri`](proto::AmqpUri)).
///
/// # Errors
/// A URI that cannot be read; all that was tried and why it failed.
pub async fn connect(uri: &str) -> Result<Connection, ConnectError> {
    Connector::from_uri(uri)?.connect().await
}

/// Connects over a stream that is there: a tunnel, TLS of your own, memory. What has to be said before
/// AMQP (SOCKS, the PROXY protocol) is said on the stream first.
///
/// # Errors
/// [`Error::ConnectionClosed`] with why the broker did not let us in.
pub async fn connect_over<S>(stream: S, config: Arc<proto::Config>) -> Result<Connection, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let opened = runtime::open(stream, config).await;
    opened.map_err(Error::ConnectionClosed)
}

/// Connects over a Unix socket.
///
/// ```no_run
/// # async fn example() -> Result<(), amqp_async_std::Error> {
/// let connection = amqp_async_std::connect_unix("/run/rabbitmq.sock", Default::default()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::ConnectionClosed`] with why there is nobody at that path, or why the broker did not let us in.
#[cfg(unix)]
pub async fn connect_unix(path: impl AsRef<Path>, config: Arc<proto::Config>) -> Result<Connection, Error> {
    let limit = config.handshake_timeout;
    // A deadline that has passed is an I/O error too.
    match async_std::io::timeout(limit, UnixStream::connect(path.as_ref())).await {
        Ok(stream) => connect_over(stream, config).await,
        Err(error) => Err(Error::ConnectionClosed(proto::CloseReason::Transport {
            state: proto::ConnectionState::WaitingForStart,
            error: error.into(),
        })),
    }
}

/// The README's snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
