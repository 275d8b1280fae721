//! An AMQP 0-9-1 (RabbitMQ) client for tokio.

mod runtime;

use std::sync::Arc;

pub use amqp_async::*;
use tokio::io::{AsyncRead, AsyncWrite};

/// Connects over a stream that is there: TLS of your own, a tunnel, memory.
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
    let (connection, driver) = Connection::start(
        config,
        runtime::Stream(stream),
        runtime::Clock::new(),
        runtime::spawner(),
    );
    tokio::spawn(driver);
    connection.ready().await?;
    Ok(connection)
}
