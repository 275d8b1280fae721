//! Reaching a broker: names, addresses, TCP, TLS, the handshake, each with its deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use amqp_async::{Connection, CredentialsProvider, CredentialsSource};
use amqp_net::{AttemptError, ConnectError, Search, Stage, Step, TlsConfig, apply};
use amqp_proto::{Config, ConnectionParameters, ProviderError};
use async_std::future::timeout;
use async_std::net::{TcpStream, ToSocketAddrs};
use async_std::task;
use futures_rustls::TlsConnector;

use crate::runtime::{Tcp, open};

/// Which broker to connect to, and how.
///
/// ```no_run
/// # async fn example() -> Result<(), amqp_async_std::ConnectError> {
/// use amqp_async_std::{Connector, TlsConfig};
///
/// let connector = Connector::from_uri("amqps://ann:s3cret@broker.example/orders")?.tls(TlsConfig::amazon_mq());
/// let connection = connector.connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Connector {
    parameters: ConnectionParameters,
    tls: Option<TlsConfig>,
    credentials: Option<CredentialsSource>,
}

/// What TLS takes.
struct Tls {
    connector: TlsConnector,
    config: TlsConfig,
}

impl Connector {
    /// Connects as those parameters say.
    #[must_use]
    pub const fn new(parameters: ConnectionParameters) -> Self {
        Self {
            parameters,
            tls: None,
            credentials: None,
        }
    }

    /// Connects as that URI says.
    ///
    /// # Errors
    /// [`ConnectError::Uri`].
    pub fn from_uri(uri: &str) -> Result<Self, ConnectError> {
        Ok(Self::new(ConnectionParameters::from_uri(uri)?))
    }

    /// How TLS is done, where it is: with an `amqps` URI, or with [`ConnectionParameters::tls`], whose own settings do not count then.
    #[must_use]
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Asks for credentials before each attempt, those in the parameters do not count then; and asks again before they run out,
    /// for as long as the connection lives.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), amqp_async_std::ConnectError> {
    /// use amqp_async_std::proto::Credentials;
    /// use amqp_async_std::{Connector, ProvidedCredentials};
    /// use std::time::Duration;
    ///
    /// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_provider(|| async {
    ///     let token = fetch().await?; // From an OAuth 2 server, for example.
    ///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
    /// });
    /// let connection = connector.connect().await?;
    /// # Ok(())
    /// # }
    /// # async fn fetch() -> Result<String, amqp_async_std::HandlerError> { Ok(String::new()) }
    /// ```
    #[must_use]
    pub fn credentials_provider(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.credentials = Some(CredentialsSource::new(provider));
        self
    }

    /// The same, by a policy of one's own: [`CredentialsSource::policy`].
    #[must_use]
    pub fn credentials_source(mut self, source: CredentialsSource) -> Self {
        self.credentials = Some(source);
        self
    }

    /// Connects: tries each host and each of its addresses in turn, as often as the parameters say.
    ///
    /// # Errors
    /// All that was tried and why it failed. A refusal that would be the same everywhere, as of a password, ends the search.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        // A task is as large as the largest future that it ever awaits, to its end: this one is kept out of it.
        Box::pin(self.search()).await
    }

    async fn search(&self) -> Result<Connection, ConnectError> {
        self.parameters.validate()?;
        let way = Way {
            parameters: &self.parameters,
            config: Arc::new(self.parameters.config.clone()),
            tls: self.load_tls().await?,
            credentials: self.credentials.as_ref(),
        };
        let mut search = Search::new(&self.parameters);
        while let Some(step) = search.next_step() {
            match step {
                Step::Resolve { name, port } => search.resolved(way.resolve(&name, port).await),
                Step::Connect { name, address } => match way.connect(&name, address).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => search.failed(error),
                },
                Step::Wait(delay) => task::sleep(delay).await,
                _ => {}
            }
        }
        Err(search.into_error())
    }

    /// Reading certificates takes its time: not on a thread that others wait for.
    async fn load_tls(&self) -> Result<Option<Tls>, ConnectError> {
        let Some(parameters) = &self.parameters.tls else {
            return Ok(None);
        };
        let config = self
            .tls
            .clone()
            .unwrap_or_else(|| TlsConfig::from_parameters(parameters));
        let building = config.clone();
        let client = task::spawn_blocking(move || building.build()).await?;
        let connector = TlsConnector::from(client);
        Ok(Some(Tls { connector, config }))
    }
}

/// What takes us from a name to a connection.
struct Way<'c> {
    parameters: &'c ConnectionParameters,
    config: Arc<Config>,
    tls: Option<Tls>,
    credentials: Option<&'c CredentialsSource>,
}

impl Way<'_> {
    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, AttemptError> {
        let lookup = (name, port).to_socket_addrs();
        let resolved = within(Stage::Resolve, self.parameters.connection_timeout, lookup).await?;
        Ok(resolved.collect())
    }

    async fn connect(&self, name: &str, address: SocketAddr) -> Result<Connection, AttemptError> {
        let (config, valid_until) = self.ask().await?;
        let limit = self.parameters.stack_timeout;
        let connecting = async {
            let tcp = TcpStream::connect(address);
            let stream = within(Stage::Tcp, self.parameters.connection_timeout, tcp).await?;
            apply(&self.parameters.tcp, &stream).map_err(|error| AttemptError::io(Stage::Tcp, &error))?;
            let stream = Tcp(stream);
            let Some(tls) = &self.tls else {
                return Ok(open(stream, config).await?);
            };
            let handshake = tls.connector.connect(tls.config.server_name_for(name)?, stream);
            let stream = within(Stage::Tls, limit, handshake).await?;
            Ok(open(stream, config).await?)
        };
        let stage = Stage::Amqp;
        let late = Err(AttemptError::TimedOut { stage, limit });
        let connection = timeout(limit, connecting).await.unwrap_or(late)?;
        if let (Some(source), Some(until)) = (self.credentials, valid_until) {
            let left = until.saturating_duration_since(Instant::now());
            connection.refresh_credentials(source.clone(), Some(left));
        }
        Ok(connection)
    }

    /// With what to connect now, and until when that is valid.
    async fn ask(&self) -> Result<(Arc<Config>, Option<Instant>), ProviderError> {
        let Some(source) = self.credentials else {
            return Ok((Arc::clone(&self.config), None));
        };
        let limit = source.timeout();
        let late = Err(ProviderError::TimedOut { limit });
        let provided = timeout(limit, source.ask()).await.unwrap_or(late)?;
        let valid_until = |duration| Instant::now().checked_add(duration);
        let until = provided.valid_for.and_then(valid_until);
        let config = Config::clone(&self.config);
        Ok((Arc::new(config.credentials(provided.credentials)), until))
    }
}

/// Gives an I/O operation so much time, and says of its error what was being done.
async fn within<T>(
    stage: Stage,
    limit: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> Result<T, AttemptError> {
    match timeout(limit, operation).await {
        Ok(result) => result.map_err(|error| AttemptError::io(stage, &error)),
        Err(_) => Err(AttemptError::TimedOut { stage, limit }),
    }
}
