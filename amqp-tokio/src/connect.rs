//! Reaching a broker: names, addresses, TCP, TLS, the handshake, each with its deadline.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp_async::{
    BoxFuture, BoxTransport, Connect, Connected, Connection, CredentialsProvider, CredentialsSource, Recovery,
};
use amqp_net::{AttemptError, ConnectError, Search, Stage, Step, TlsConfig, apply};
use amqp_proto::{CloseReason, Config, ConnectionParameters, ProviderError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{self, Instant};
use tokio_rustls::TlsConnector;

use crate::runtime::{boxed, open, open_recovering};

/// Which broker to connect to, and how.
///
/// ```no_run
/// # async fn example() -> Result<(), amqp_tokio::ConnectError> {
/// use amqp_tokio::{Connector, TlsConfig};
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
    recovery: Option<Arc<Recovery>>,
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
            recovery: None,
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
    /// # async fn example() -> Result<(), amqp_tokio::ConnectError> {
    /// use amqp_tokio::proto::Credentials;
    /// use amqp_tokio::{Connector, ProvidedCredentials};
    /// use std::time::Duration;
    ///
    /// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_provider(|| async {
    ///     let token = fetch().await?; // From an OAuth 2 server, for example.
    ///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
    /// });
    /// let connection = connector.connect().await?;
    /// # Ok(())
    /// # }
    /// # async fn fetch() -> Result<String, amqp_tokio::HandlerError> { Ok(String::new()) }
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

    /// Makes the connection again when it is lost, with everything that was on it ([`Recovery`]). Before it was open once, what the
    /// parameters say counts.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use amqp_tokio::{Connector, Recovery};
    ///
    /// let connector = Connector::from_uri("amqp://b1,b2,b3")?.recovery(Recovery::default());
    /// let connection = connector.connect().await?;
    /// let queue = connection.channel().await?.declare_queue("tasks").durable(true).await?;
    /// let mut consumer = queue.consume().await?;
    /// // It goes on, whatever becomes of the connection in between.
    /// while let Some(delivery) = consumer.next().await {
    ///     delivery?.ack().await.ok();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = Some(Arc::new(recovery));
        self
    }

    /// Connects: tries each host and each of its addresses in turn, as often as the parameters say.
    ///
    /// # Errors
    /// All that was tried and why it failed. A refusal that would be the same everywhere, as of a password, ends the search.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time and I/O enabled.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        // A task is as large as the largest future that it ever awaits, to its end: this one is kept out of it.
        Box::pin(self.search()).await
    }

    async fn search(&self) -> Result<Connection, ConnectError> {
        self.parameters.validate()?;
        if self.recovery.is_some() {
            self.parameters.config.validate_reconnect()?;
        }
        let way = Way {
            parameters: self.parameters.clone(),
            config: Arc::new(self.parameters.config.clone()),
            tls: self.load_tls().await?,
            credentials: self.credentials.clone(),
            recovery: self.recovery.clone(),
        };
        let way = Arc::new(way);
        match way
            .search(Search::new(&self.parameters), Goal::Connection)
            .await?
        {
            Reached::Connection(connection) => Ok(connection),
            // That is not what was looked for.
            Reached::Stream(_) => Err(Search::new(&self.parameters).into_error()),
        }
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
        let building = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || config.build())
        };
        let client = match building.await {
            Ok(built) => built?,
            // The runtime is going down. Whatever becomes of it, without TLS we do not go on.
            Err(_) => config.build()?,
        };
        let connector = TlsConnector::from(client);
        Ok(Some(Tls { connector, config }))
    }
}

/// What takes us from a name to a connection.
struct Way {
    parameters: ConnectionParameters,
    config: Arc<Config>,
    tls: Option<Tls>,
    credentials: Option<CredentialsSource>,
    recovery: Option<Arc<Recovery>>,
}

/// What a search is for.
#[derive(Debug, Clone, Copy)]
enum Goal {
    Connection,
    /// For a connection that was lost.
    Stream,
}

enum Reached {
    Connection(Connection),
    Stream(Connected<BoxTransport>),
}

impl Way {
    async fn search(self: &Arc<Self>, mut search: Search, goal: Goal) -> Result<Reached, ConnectError> {
        while let Some(step) = search.next_step() {
            match step {
                Step::Resolve { name, port } => search.resolved(self.resolve(&name, port).await),
                Step::Connect { name, address } => match self.connect(&name, address, goal).await {
                    Ok(reached) => return Ok(reached),
                    Err(error) => search.failed(error),
                },
                Step::Wait(delay) => time::sleep(delay).await,
                _ => {}
            }
        }
        Err(search.into_error())
    }

    async fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, AttemptError> {
        let lookup = lookup_host((name, port));
        let resolved = within(Stage::Resolve, self.parameters.connection_timeout, lookup).await?;
        Ok(resolved.collect())
    }

    async fn connect(
        self: &Arc<Self>,
        name: &str,
        address: SocketAddr,
        goal: Goal,
    ) -> Result<Reached, AttemptError> {
        let (config, valid_until) = self.ask().await?;
        let limit = self.parameters.stack_timeout;
        let connecting = async {
            let tcp = TcpStream::connect(address);
            let stream = within(Stage::Tcp, self.parameters.connection_timeout, tcp).await?;
            apply(&self.parameters.tcp, &stream).map_err(|error| AttemptError::io(Stage::Tcp, &error))?;
            let Some(tls) = &self.tls else {
                return self.begin(stream, config, goal).await;
            };
            let handshake = tls.connector.connect(tls.config.server_name_for(name)?, stream);
            let stream = within(Stage::Tls, limit, handshake).await?;
            self.begin(stream, config, goal).await
        };
        let stage = Stage::Amqp;
        let late = Err(AttemptError::TimedOut { stage, limit });
        let reached = time::timeout(limit, connecting).await.unwrap_or(late)?;
        let Some(source) = self.credentials.clone() else {
            return Ok(reached);
        };
        let left = valid_until.map(|until| until.saturating_duration_since(Instant::now()));
        Ok(match reached {
            Reached::Connection(connection) => {
                connection.refresh_credentials(source, left);
                Reached::Connection(connection)
            }
            Reached::Stream(connected) => Reached::Stream(connected.renewed_by(source, left)),
        })
    }

    /// There is a stream: begins a connection on it, or leaves that to the one that was lost.
    async fn begin<S>(
        self: &Arc<Self>,
        stream: S,
        config: Arc<Config>,
        goal: Goal,
    ) -> Result<Reached, AttemptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(match (goal, &self.recovery) {
            (Goal::Stream, _) => Reached::Stream(Connected::new(boxed(stream), config)),
            (Goal::Connection, None) => Reached::Connection(open(stream, config).await?),
            (Goal::Connection, Some(recovery)) => {
                let first = Connected::new(boxed(stream), config);
                let again = Again(Arc::clone(self));
                Reached::Connection(open_recovering(first, again, recovery).await?)
            }
        })
    }

    /// With what to connect now, and until when that is valid.
    async fn ask(&self) -> Result<(Arc<Config>, Option<Instant>), ProviderError> {
        let Some(source) = &self.credentials else {
            return Ok((Arc::clone(&self.config), None));
        };
        let limit = source.timeout();
        let late = Err(ProviderError::TimedOut { limit });
        let provided = time::timeout(limit, source.ask()).await.unwrap_or(late)?;
        let valid_until = |duration| Instant::now().checked_add(duration);
        let until = provided.valid_for.and_then(valid_until);
        let config = Config::clone(&self.config);
        Ok((Arc::new(config.credentials(provided.credentials)), until))
    }
}

/// The way that was gone once, gone again.
struct Again(Arc<Way>);

impl Connect for Again {
    type Transport = BoxTransport;

    fn hosts(&self) -> usize {
        self.0.parameters.hosts.len()
    }

    fn connect(&mut self, host: usize) -> BoxFuture<Result<Connected<BoxTransport>, CloseReason>> {
        let way = Arc::clone(&self.0);
        Box::pin(async move {
            let mut parameters = way.parameters.clone().connection_attempts(1);
            parameters.hosts = parameters.hosts.get(host).cloned().into_iter().collect();
            match way.search(Search::new(&parameters), Goal::Stream).await? {
                Reached::Stream(connected) => Ok(connected),
                Reached::Connection(_) => Err(Search::new(&parameters).into_error().into()),
            }
        })
    }
}

/// Gives an I/O operation so much time, and says of its error what was being done.
async fn within<T>(
    stage: Stage,
    limit: Duration,
    operation: impl Future<Output = std::io::Result<T>>,
) -> Result<T, AttemptError> {
    match time::timeout(limit, operation).await {
        Ok(result) => result.map_err(|error| AttemptError::io(stage, &error)),
        Err(_) => Err(AttemptError::TimedOut { stage, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// On a runtime that has ended nothing is read in the background: that must not end in a connection without TLS.
    #[test]
    fn without_its_tls_configuration_nothing_is_tried() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let _entered = handle.enter();
        let connector = Connector::from_uri("amqps://localhost?cacertfile=/nowhere.pem").unwrap();
        let connecting = pin!(connector.connect());
        let result = connecting.poll(&mut Context::from_waker(Waker::noop()));
        assert!(
            matches!(result, Poll::Ready(Err(ConnectError::Tls(_)))),
            "{result:?}"
        );
    }
}
