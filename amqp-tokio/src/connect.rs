//! Reaching a broker: names, addresses, TCP, TLS, the handshake, each with its deadline.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp_async::{Connection, Error};
use amqp_net::{
    Attempt, AttemptError, Attempts, ConnectError, FailedAttempts, Stage, TlsConfig, apply, order, rustls,
};
use amqp_proto::{CloseReason, Config, ConnectionParameters};
use tokio::net::{TcpStream, lookup_host};
use tokio::time;
use tokio_rustls::TlsConnector;

use crate::connect_over;

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
}

/// What TLS takes.
#[derive(Clone)]
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

    /// Connects: tries each host and each of its addresses in turn, as often as the parameters say.
    ///
    /// # Errors
    /// All that was tried and why it failed. A refusal that would be the same everywhere, as of a password, ends the search.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time and I/O enabled.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        let parameters = &self.parameters;
        parameters.validate()?;
        let tls = self.load_tls().await?;
        let config = Arc::new(parameters.config.clone());
        let mut failed = FailedAttempts::new();
        for attempt in Attempts::new(parameters) {
            match attempt {
                Attempt::Host { name, port } => {
                    let host = HostAttempt {
                        parameters,
                        config: &config,
                        tls: tls.as_ref(),
                        name: &name,
                        port,
                    };
                    match host.connect(&mut failed).await {
                        Found::Connection(connection) => return Ok(connection),
                        Found::Refusal => break,
                        Found::Nothing => {}
                    }
                }
                Attempt::Wait(delay) => time::sleep(delay).await,
                _ => {}
            }
        }
        Err(failed.into())
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
        let client: Arc<rustls::ClientConfig> = match building.await {
            Ok(built) => built?,
            // The runtime is going down.
            Err(_) => return Ok(None),
        };
        let connector = TlsConnector::from(client);
        Ok(Some(Tls { connector, config }))
    }
}

/// One host of the list.
struct HostAttempt<'c> {
    parameters: &'c ConnectionParameters,
    config: &'c Arc<Config>,
    tls: Option<&'c Tls>,
    name: &'c str,
    port: u16,
}

/// What came of a host.
enum Found {
    Connection(Connection),
    Nothing,
    /// The next one would say the same.
    Refusal,
}

impl HostAttempt<'_> {
    async fn connect(&self, failed: &mut FailedAttempts) -> Found {
        let addresses = match self.resolve().await {
            Ok(addresses) if addresses.is_empty() => Err(AttemptError::NoAddress),
            resolved => resolved,
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                failed.push(self.name, self.port, None, error);
                return Found::Nothing;
            }
        };
        for address in addresses {
            match self.connect_to(address).await {
                Ok(connection) => return Found::Connection(connection),
                Err(error) => {
                    let is_final = is_final(&error);
                    failed.push(self.name, self.port, Some(address), error);
                    if is_final {
                        return Found::Refusal;
                    }
                }
            }
        }
        Found::Nothing
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, AttemptError> {
        let lookup = lookup_host((self.name, self.port));
        let resolved = within(Stage::Resolve, self.parameters.connection_timeout, lookup).await?;
        Ok(order(resolved))
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Connection, AttemptError> {
        let limit = self.parameters.stack_timeout;
        let connecting = async {
            let tcp = TcpStream::connect(address);
            let stream = within(Stage::Tcp, self.parameters.connection_timeout, tcp).await?;
            apply(&self.parameters.tcp, &stream).map_err(|error| AttemptError::io(Stage::Tcp, &error))?;
            let config = Arc::clone(self.config);
            let Some(tls) = self.tls else {
                return connect_over(stream, config).await.map_err(attempt_error);
            };
            let name = tls.config.server_name_for(self.name)?;
            let handshake = tls.connector.connect(name, stream);
            let stream = within(Stage::Tls, limit, handshake).await?;
            connect_over(stream, config).await.map_err(attempt_error)
        };
        time::timeout(limit, connecting)
            .await
            .unwrap_or(Err(AttemptError::TimedOut {
                stage: Stage::Amqp,
                limit,
            }))
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

fn attempt_error(error: Error) -> AttemptError {
    match error {
        Error::ConnectionClosed(reason) => reason.into(),
        // Nothing else ends a handshake.
        _ => AttemptError::Closed(CloseReason::Requested { acknowledged: false }),
    }
}

/// Whether every host would say the same.
fn is_final(error: &AttemptError) -> bool {
    matches!(error, AttemptError::Closed(reason) if reason.is_permanent())
}
