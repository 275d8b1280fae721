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
//! # Features
//!
//! * `deadpool`: pools of connections and of channels (the module `pool`).
//! * `tracing`, `metrics`, `trace-context`: as [`amqp_async`] has them.
//!
//! The handles are those of `amqp-async`, all of which is here too; this crate brings connecting ([`connect()`], [`Connector`],
//! [`connect_over`]), with credentials from a [`CredentialsProvider`] too, and runs each connection as one task.

mod connect;
#[cfg(feature = "deadpool")]
pub mod pool;
mod runtime;

#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;

pub use amqp_async::*;
pub use amqp_net::{
    AttemptError, ConnectError, FailedAttempt, FailedAttempts, Stage, TlsConfig, TlsError, TlsMaterial,
    TlsVersion,
};
pub use connect::Connector;
use tokio::io::{AsyncRead, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixStream;

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

/// Connects over a stream that is there: a tunnel, TLS of your own, memory. What has to be said before AMQP is said on the stream first.
///
/// Through a SOCKS 5 proxy:
///
/// ```no_run
/// # async fn example(host: &str, port: u16) -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// let mut stream = tokio::net::TcpStream::connect("proxy.example:1080").await?;
/// stream.write_all(&[5, 1, 0]).await?; // Version 5, and one way to log in: none.
/// let mut answer = [0; 2];
/// stream.read_exact(&mut answer).await?;
/// let connect = [&[5, 1, 0, 3, u8::try_from(host.len())?], host.as_bytes(), &port.to_be_bytes()];
/// stream.write_all(&connect.concat()).await?;
/// let mut answer = [0; 10];
/// stream.read_exact(&mut answer).await?; // Its second octet is 0 if all is well.
/// let connection = amqp_tokio::connect_over(stream, Default::default()).await?;
/// # Ok(())
/// # }
/// ```
///
/// To a broker that expects the [PROXY protocol](https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt):
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::AsyncWriteExt;
/// let mut stream = tokio::net::TcpStream::connect("broker.example:5672").await?;
/// stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 5672\r\n").await?;
/// let connection = amqp_tokio::connect_over(stream, Default::default()).await?;
/// # Ok(())
/// # }
/// ```
///
/// In memory, with whatever `serve` is at the other end:
///
/// ```no_run
/// # async fn serve(_: tokio::io::DuplexStream) {}
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(64 * 1024);
/// tokio::spawn(serve(far));
/// let connection = amqp_tokio::connect_over(near, Default::default()).await?;
/// # Ok(())
/// # }
/// ```
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

/// Connects over a Unix socket.
///
/// ```no_run
/// # async fn example() -> Result<(), amqp_tokio::Error> {
/// let connection = amqp_tokio::connect_unix("/run/rabbitmq.sock", Default::default()).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::ConnectionClosed`] with why there is nobody at that path, or why the broker did not let us in.
///
/// # Panics
/// Outside of a tokio runtime with its time and I/O enabled.
#[cfg(unix)]
pub async fn connect_unix(path: impl AsRef<Path>, config: Arc<proto::Config>) -> Result<Connection, Error> {
    let limit = config.handshake_timeout;
    let connecting = tokio::time::timeout(limit, UnixStream::connect(path));
    // A deadline that has passed becomes an I/O error too.
    let connected = connecting.await.map_err(std::io::Error::from);
    match connected.and_then(|stream| stream) {
        Ok(stream) => connect_over(stream, config).await,
        Err(error) => Err(Error::ConnectionClosed(proto::CloseReason::Transport {
            state: proto::ConnectionState::WaitingForStart,
            error: error.into(),
        })),
    }
}

/// The READMEs' snippets are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../README.md")]
struct Readme;
