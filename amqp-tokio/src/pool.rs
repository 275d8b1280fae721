//! Pools of connections and of channels, by [`deadpool`].
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use amqp_tokio::Connector;
//! use amqp_tokio::pool::{ChannelManager, ChannelPool, ConnectionManager, ConnectionPool};
//!
//! let connector = Connector::from_uri("amqp://guest:guest@localhost/")?;
//! let connections = ConnectionPool::builder(ConnectionManager::new(connector)).max_size(2).build()?;
//! let channels = ChannelPool::builder(ChannelManager::new(connections)).max_size(16).build()?;
//!
//! let channel = channels.get().await?;
//! channel.default_exchange().publish("Hello", "tasks").await?;
//! # Ok(())
//! # }
//! ```
//!
//! What has ended is not given out again: the pool makes another one in its place. A channel goes back as it is, with its prefetch limit;
//! consumers of it should be gone by then.

use amqp_async::{Channel, ChannelOptions, Connection, Error};
use amqp_net::ConnectError;
pub use deadpool;
use deadpool::managed::{Manager, Metrics, Pool, PoolError, RecycleError, RecycleResult};

use crate::Connector;

/// A pool of connections.
pub type ConnectionPool = Pool<ConnectionManager>;

/// A pool of channels.
pub type ChannelPool = Pool<ChannelManager>;

/// Makes the connections of a pool.
#[derive(Debug, Clone)]
pub struct ConnectionManager {
    connector: Connector,
}

/// Opens the channels of a pool, on the connections of another one: each on the one that this gives it. With
/// [`QueueMode::Fifo`](deadpool::managed::QueueMode::Fifo) that one takes turns among its connections; otherwise they share one, as
/// long as it is there.
#[derive(Debug, Clone)]
pub struct ChannelManager {
    connections: ConnectionPool,
    options: ChannelOptions,
}

/// Why there is no channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// There is no connection for it.
    Connection(PoolError<ConnectError>),
    /// It could not be opened.
    Channel(Error),
}

impl ConnectionManager {
    /// Connects as that connector does.
    #[must_use]
    pub const fn new(connector: Connector) -> Self {
        Self { connector }
    }
}

impl ChannelManager {
    /// Opens channels that confirm.
    #[must_use]
    pub fn new(connections: ConnectionPool) -> Self {
        Self::with_options(connections, ChannelOptions::default())
    }

    /// Opens channels as those options say; a number that they choose is left out, since two channels cannot share it.
    #[must_use]
    pub const fn with_options(connections: ConnectionPool, mut options: ChannelOptions) -> Self {
        options.number = None;
        Self { connections, options }
    }
}

impl Manager for ConnectionManager {
    type Type = Connection;
    type Error = ConnectError;

    async fn create(&self) -> Result<Connection, ConnectError> {
        self.connector.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<ConnectError> {
        match connection.is_closed() {
            false => Ok(()),
            true => Err(RecycleError::message("the connection has ended")),
        }
    }
}

impl Manager for ChannelManager {
    type Type = Channel;
    type Error = ChannelError;

    async fn create(&self) -> Result<Channel, ChannelError> {
        let connection = self.connections.get().await.map_err(ChannelError::Connection)?;
        let channel = connection.channel_with(self.options.clone()).await;
        channel.map_err(ChannelError::Channel)
    }

    async fn recycle(&self, channel: &mut Channel, _: &Metrics) -> RecycleResult<ChannelError> {
        match channel.is_open() {
            true => Ok(()),
            false => Err(RecycleError::message("the channel has ended")),
        }
    }
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Channel(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connection(error) => Some(error),
            Self::Channel(error) => Some(error),
        }
    }
}
