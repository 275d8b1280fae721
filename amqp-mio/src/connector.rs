//! Which broker to connect to, and how.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amqp_net::{ConnectError, TlsConfig};
use amqp_proto::{Config, ConnectionParameters, ProvidedCredentials};
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;

use crate::connection::{MioConnection, Way};
use crate::credentials::CredentialsSource;

/// Which broker to connect to, and how.
///
/// ```no_run
/// use amqp_mio::{Connector, TlsConfig};
///
/// # fn example() -> Result<(), amqp_mio::ConnectError> {
/// let connector = Connector::from_uri("amqps://ann:s3cret@broker.example/orders")?.tls(TlsConfig::amazon_mq());
/// let connection = connector.connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Connector {
    parameters: ConnectionParameters,
    tls: Option<TlsConfig>,
    first_incarnation: u32,
    credentials: Option<CredentialsSource>,
}

impl Connector {
    /// Connects as those parameters say.
    #[must_use]
    pub const fn new(parameters: ConnectionParameters) -> Self {
        Self {
            parameters,
            tls: None,
            first_incarnation: 0,
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

    /// Asks for credentials before each attempt, those in the parameters do not count then; and asks again before they run out, for as
    /// long as the connection lives ([`CredentialsSource`]).
    ///
    /// ```no_run
    /// # fn example() -> Result<(), amqp_mio::ConnectError> {
    /// use amqp_mio::proto::Credentials;
    /// use amqp_mio::{Connector, ProvidedCredentials};
    /// use std::time::Duration;
    ///
    /// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_provider(|| {
    ///     let token = std::fs::read_to_string("/run/secrets/token")?;
    ///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn credentials_provider(
        self,
        provider: impl Fn() -> Result<ProvidedCredentials, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.credentials_source(CredentialsSource::new(provider))
    }

    /// The same, by a policy of one's own: [`CredentialsSource::policy`].
    #[must_use]
    pub fn credentials_source(mut self, source: CredentialsSource) -> Self {
        self.credentials = Some(source);
        self
    }

    /// What it connects as.
    #[must_use]
    pub const fn parameters(&self) -> &ConnectionParameters {
        &self.parameters
    }

    /// The same, to change it.
    pub const fn parameters_mut(&mut self) -> &mut ConnectionParameters {
        &mut self.parameters
    }

    /// Goes on counting where an earlier connection ended, so that its tags are known to be stale:
    /// [`next_incarnation`](amqp_proto::Connection::next_incarnation).
    #[must_use]
    pub const fn first_incarnation(mut self, incarnation: u32) -> Self {
        self.first_incarnation = incarnation;
        self
    }

    /// Where it goes on counting.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.first_incarnation
    }

    /// Begins to connect: each host and each of its addresses in turn, as often as the parameters say. Names are looked up on a thread
    /// of their own. Files with certificates are read before this returns.
    ///
    /// # Errors
    /// Nothing can be tried: [`ConnectError::Config`], [`ConnectError::Tls`].
    pub fn connect(&self) -> Result<MioConnection, ConnectError> {
        self.connect_after(Duration::ZERO)
    }

    /// The same, but nothing is tried before that time has passed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_after(&self, delay: Duration) -> Result<MioConnection, ConnectError> {
        Ok(MioConnection::search(self.way(None)?, delay))
    }

    /// The same with these addresses, for every host there is: nothing is looked up, no thread started.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_addrs(&self, addresses: Vec<SocketAddr>) -> Result<MioConnection, ConnectError> {
        Ok(MioConnection::search(self.way(Some(addresses))?, Duration::ZERO))
    }

    /// Speaks plain AMQP on a stream that is there, or on its way.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_tcp(&self, stream: TcpStream) -> Result<MioConnection, ConnectError> {
        Ok(MioConnection::on_stream(self.way(None)?, stream.into()))
    }

    /// Speaks plain AMQP on a Unix socket.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    #[cfg(unix)]
    pub fn connect_unix(&self, stream: UnixStream) -> Result<MioConnection, ConnectError> {
        Ok(MioConnection::on_stream(self.way(None)?, stream.into()))
    }

    fn way(&self, addresses: Option<Vec<SocketAddr>>) -> Result<Way, ConnectError> {
        self.parameters.validate()?;
        let tls = match &self.parameters.tls {
            None => None,
            Some(parameters) => {
                let config = self
                    .tls
                    .clone()
                    .unwrap_or_else(|| TlsConfig::from_parameters(parameters));
                Some((config.build()?, config))
            }
        };
        Ok(Way {
            config: Arc::<Config>::new(self.parameters.config.clone()),
            parameters: self.parameters.clone(),
            tls,
            addresses,
            first_incarnation: self.first_incarnation,
            credentials: self.credentials.clone(),
        })
    }
}
