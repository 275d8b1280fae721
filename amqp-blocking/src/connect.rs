//! Reaching a broker: names, addresses, TCP, TLS, the handshake, each with its deadline. All of it on the caller's thread but the
//! AMQP handshake.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use amqp_async::{
    BoxFuture, Connect, Connected, CredentialsSource, HandlerError, ProvidedCredentials, Recovery,
};
use amqp_mio::Stream;
use amqp_net::rustls::{ClientConfig, ClientConnection};
use amqp_net::{AttemptError, ConnectError, Search, Stage, Step, TlsConfig, apply};
use amqp_proto::{CloseReason, Config, ConnectionParameters, ProviderError};

use crate::connection::BlockingConnection;
use crate::credentials::BlockingProvider;
use crate::io_thread::{IoThread, Signal};
use crate::offload::on_thread;
use crate::transport::{Clock, Socket};
use crate::wait::{ask_until, wait_for};

/// Which broker to connect to, and how.
///
/// ```no_run
/// # fn example() -> Result<(), amqp_blocking::ConnectError> {
/// use amqp_blocking::{Connector, TlsConfig};
///
/// let connector = Connector::from_uri("amqps://ann:s3cret@broker.example/orders")?.tls(TlsConfig::amazon_mq());
/// let connection = connector.connect()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Connector {
    parameters: ConnectionParameters,
    tls: Option<TlsConfig>,
    thread: Option<IoThread>,
    credentials: Option<CredentialsSource>,
    recovery: Option<Arc<Recovery>>,
}

impl Connector {
    /// Connects as those parameters say.
    #[must_use]
    pub const fn new(parameters: ConnectionParameters) -> Self {
        Self {
            parameters,
            tls: None,
            thread: None,
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

    /// Which thread reads, writes and keeps time. Default: the one that all connections of the process share.
    #[must_use]
    pub fn io_thread(mut self, thread: &IoThread) -> Self {
        self.thread = Some(thread.clone());
        self
    }

    /// Asks for credentials before each attempt, those in the parameters do not count then; and asks again before they run out,
    /// for as long as the connection lives ([`CredentialsProvider`](amqp_async::CredentialsProvider)).
    ///
    /// Each call is on a thread of its own ([`BlockingProvider`]): the provider may wait, within
    /// [`RefreshPolicy::timeout`](amqp_proto::RefreshPolicy).
    ///
    /// ```no_run
    /// # fn example() -> Result<(), amqp_blocking::ConnectError> {
    /// use amqp_blocking::proto::Credentials;
    /// use amqp_blocking::{Connector, ProvidedCredentials};
    /// use std::time::Duration;
    ///
    /// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_provider(|| {
    ///     let token = std::fs::read_to_string("/run/secrets/token")?;
    ///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
    /// });
    /// let connection = connector.connect()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn credentials_provider(
        self,
        provider: impl Fn() -> Result<ProvidedCredentials, HandlerError> + Send + Sync + 'static,
    ) -> Self {
        self.credentials_source(CredentialsSource::new(BlockingProvider::new(provider)))
    }

    /// The same, by a policy of one's own ([`CredentialsSource::policy`]). An asynchronous provider runs on the I/O thread, where
    /// nothing may wait.
    #[must_use]
    pub fn credentials_source(mut self, source: CredentialsSource) -> Self {
        self.credentials = Some(source);
        self
    }

    /// Makes the connection again when it is lost, with everything that was on it ([`Recovery`]). Before it was open once, what the
    /// parameters say counts.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), amqp_blocking::ConnectError> {
    /// use amqp_blocking::{Connector, Recovery};
    ///
    /// let connector = Connector::from_uri("amqp://b1,b2,b3")?.recovery(Recovery::default());
    /// let connection = connector.connect()?;
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
    pub fn connect(&self) -> Result<BlockingConnection, ConnectError> {
        self.parameters.validate()?;
        if self.recovery.is_some() {
            self.parameters.config.validate_reconnect()?;
        }
        let way = Arc::new(Way {
            tls: self.load_tls()?,
            recovery: self.recovery.clone(),
            ..self.way()
        });
        let attempt = |name: &str, address| way.connect(name, address);
        way.search(Search::new(&self.parameters), attempt)
    }

    /// Without TLS, and once.
    fn way(&self) -> Way {
        Way {
            parameters: self.parameters.clone(),
            config: Arc::new(self.parameters.config.clone()),
            tls: None,
            thread: self.thread.clone(),
            credentials: self.credentials.clone(),
            recovery: None,
        }
    }

    /// Speaks plain AMQP over a stream that is there, such as a Unix socket.
    ///
    /// # Errors
    /// Why the broker did not let us in, or why there is no I/O thread.
    pub fn connect_over(&self, stream: impl Into<Stream>) -> Result<BlockingConnection, CloseReason> {
        let way = Arc::new(self.way());
        let given = way.ask().map_err(AttemptError::from)?;
        let late = Limit::new(self.parameters.stack_timeout);
        way.open(stream.into(), given, &late).map_err(CloseReason::from)
    }

    fn load_tls(&self) -> Result<Option<(Arc<ClientConfig>, TlsConfig)>, ConnectError> {
        let Some(parameters) = &self.parameters.tls else {
            return Ok(None);
        };
        let config = self
            .tls
            .clone()
            .unwrap_or_else(|| TlsConfig::from_parameters(parameters));
        Ok(Some((config.build()?, config)))
    }
}

/// What takes us from a name to a connection.
struct Way {
    parameters: ConnectionParameters,
    config: Arc<Config>,
    tls: Option<(Arc<ClientConfig>, TlsConfig)>,
    thread: Option<IoThread>,
    credentials: Option<CredentialsSource>,
    recovery: Option<Arc<Recovery>>,
}

/// With what to connect, and until when that is valid.
struct Given {
    config: Arc<Config>,
    until: Option<Instant>,
}

impl Given {
    /// How long it is valid from now on.
    fn left(&self) -> Option<Duration> {
        let until = self.until?;
        Some(until.saturating_duration_since(Instant::now()))
    }
}

/// How long something may take, and until when that is.
struct Limit {
    limit: Duration,
    /// None if that moment never comes.
    at: Option<Instant>,
}

impl Limit {
    fn new(limit: Duration) -> Self {
        let at = Instant::now().checked_add(limit);
        Self { limit, at }
    }

    fn error(&self, stage: Stage) -> AttemptError {
        let limit = self.limit;
        AttemptError::TimedOut { stage, limit }
    }

    /// What is left, never nothing.
    fn left(&self, stage: Stage) -> Result<Duration, AttemptError> {
        let Some(at) = self.at else {
            return Ok(Duration::MAX);
        };
        match at.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(self.error(stage)),
        }
    }
}

impl Way {
    fn search<R>(
        &self,
        mut search: Search,
        attempt: impl Fn(&str, SocketAddr) -> Result<R, AttemptError>,
    ) -> Result<R, ConnectError> {
        while let Some(step) = search.next_step() {
            match step {
                Step::Resolve { name, port } => search.resolved(self.resolve(&name, port)),
                Step::Connect { name, address } => match attempt(&name, address) {
                    Ok(reached) => return Ok(reached),
                    Err(error) => search.failed(error),
                },
                Step::Wait(delay) => thread::sleep(delay),
                _ => {}
            }
        }
        Err(search.into_error())
    }

    /// The system looks names up only by waiting, for as long as it likes: a thread of its own does that.
    fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, AttemptError> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let failed = |error: &io::Error| AttemptError::io(Stage::Resolve, error);
        let (sender, answer) = sync_channel(1);
        let name = name.to_owned();
        let look_up = move || {
            let addresses = (name, port).to_socket_addrs();
            // Nobody may wait for it any more.
            let _ = sender.send(addresses.map(Vec::from_iter));
        };
        thread::Builder::new()
            .name("amqp-resolver".into())
            .spawn(look_up)
            .map_err(|error| failed(&error))?;
        let limit = self.parameters.connection_timeout;
        match answer.recv_timeout(limit) {
            Ok(addresses) => addresses.map_err(|error| failed(&error)),
            Err(RecvTimeoutError::Timeout) => Err(Limit::new(limit).error(Stage::Resolve)),
            Err(RecvTimeoutError::Disconnected) => Err(AttemptError::NoAddress),
        }
    }

    fn connect(
        self: &Arc<Self>,
        name: &str,
        address: SocketAddr,
    ) -> Result<BlockingConnection, AttemptError> {
        let (stream, given, whole) = self.stream(name, address)?;
        self.open(stream, given, &whole)
    }

    /// A stream, TLS included, with what to begin on it and how much time is left for that.
    fn stream(&self, name: &str, address: SocketAddr) -> Result<(Stream, Given, Limit), AttemptError> {
        let given = self.ask()?;
        let whole = Limit::new(self.parameters.stack_timeout);
        let socket = self.connect_tcp(address)?;
        let tls = match &self.tls {
            None => None,
            Some((config, names)) => {
                let name = names.server_name_for(name)?;
                let tls = ClientConnection::new(Arc::clone(config), name)?;
                Some(shake_hands(tls, &socket, &whole)?)
            }
        };
        socket
            .set_nonblocking(true)
            .map_err(|error| AttemptError::io(Stage::Tcp, &error))?;
        let stream = Stream::from(mio::net::TcpStream::from_std(socket));
        let stream = match tls {
            Some(tls) => stream.with_tls(tls),
            None => stream,
        };
        Ok((stream, given, whole))
    }

    fn connect_tcp(&self, address: SocketAddr) -> Result<TcpStream, AttemptError> {
        let (limit, whole) = (self.parameters.connection_timeout, self.parameters.stack_timeout);
        let limit = Limit::new(limit.min(whole));
        let failed = |error: &io::Error| AttemptError::io(Stage::Tcp, error);
        let connected = TcpStream::connect_timeout(&address, limit.left(Stage::Tcp)?);
        let socket = connected.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => limit.error(Stage::Tcp),
            _ => failed(&error),
        })?;
        apply(&self.parameters.tcp, &socket).map_err(|error| failed(&error))?;
        Ok(socket)
    }

    fn ask(&self) -> Result<Given, ProviderError> {
        let Some(source) = &self.credentials else {
            let config = Arc::clone(&self.config);
            return Ok(Given { config, until: None });
        };
        let limit = source.timeout();
        let late = Err(ProviderError::TimedOut { limit });
        let provided = wait_for(limit, source.ask()).unwrap_or(late)?;
        let valid_until = |duration| Instant::now().checked_add(duration);
        let config = Config::clone(&self.config);
        Ok(Given {
            config: Arc::new(config.credentials(provided.credentials)),
            until: provided.valid_for.and_then(valid_until),
        })
    }

    /// The AMQP handshake, by the I/O thread.
    fn open(
        self: &Arc<Self>,
        stream: Stream,
        given: Given,
        limit: &Limit,
    ) -> Result<BlockingConnection, AttemptError> {
        let failed = |error: io::Error| AttemptError::io(Stage::Amqp, &error);
        let thread = match &self.thread {
            Some(thread) => thread.clone(),
            None => IoThread::of_process().map_err(failed)?,
        };
        let shared = thread.shared();
        let socket = shared.socket(stream);
        let signal = Arc::clone(socket.signal());
        let clock = Clock::new(Arc::clone(&signal));
        let config = Arc::clone(&given.config);
        let connection = match &self.recovery {
            None => {
                let started = amqp_async::Connection::start(config, socket, clock, shared.spawner());
                let (connection, driver) = started;
                shared.run(signal, Box::pin(async { drop(driver.await) }));
                connection
            }
            Some(recovery) => {
                let again = Again {
                    way: Arc::clone(self),
                    signal: Arc::clone(&signal),
                };
                let (first, spawner) = (Connected::new(socket, config), shared.spawner());
                let (connection, run) =
                    amqp_async::Connection::start_recovering(first, clock, spawner, again, recovery);
                shared.run(signal, Box::pin(async { drop(run.await) }));
                connection
            }
        };
        match ask_until(limit.at, connection.ready()) {
            Some(Ok(())) => {}
            Some(Err(reason)) => return Err(reason.into()),
            None => return Err(limit.error(Stage::Amqp)),
        }
        if let Some(source) = &self.credentials {
            connection.refresh_credentials(source.clone(), given.left());
        }
        Ok(BlockingConnection::new(connection, &self.config))
    }
}

/// The way that was gone once, gone again: on a thread of its own, which may wait.
struct Again {
    way: Arc<Way>,
    /// Of the task that drives the connection.
    signal: Arc<Signal>,
}

impl Connect for Again {
    type Transport = Socket;

    fn hosts(&self) -> usize {
        self.way.parameters.hosts.len()
    }

    fn connect(&mut self, host: usize) -> BoxFuture<Result<Connected<Socket>, CloseReason>> {
        let (way, signal) = (Arc::clone(&self.way), Arc::clone(&self.signal));
        let source = way.credentials.clone();
        Box::pin(async move {
            let search = move || {
                let mut parameters = way.parameters.clone().connection_attempts(1);
                parameters.hosts = parameters.hosts.get(host).cloned().into_iter().collect();
                way.search(Search::new(&parameters), |name, address| {
                    way.stream(name, address)
                })
            };
            let failed = |error: io::Error| CloseReason::from(AttemptError::io(Stage::Tcp, &error));
            let found = on_thread("amqp-connect", search).await.map_err(failed)?;
            // Nothing of it panics but what the user provides, which was told there.
            let found = found.map_err(|_| failed(io::ErrorKind::Other.into()))?;
            let (stream, given, _) = found?;
            let socket = Socket::new(stream, signal);
            let left = given.left();
            let connected = Connected::new(socket, given.config);
            Ok(match source {
                Some(source) => connected.renewed_by(source, left),
                None => connected,
            })
        })
    }
}

/// The TLS handshake, on a socket that waits.
fn shake_hands(
    mut tls: ClientConnection,
    mut socket: &TcpStream,
    limit: &Limit,
) -> Result<ClientConnection, AttemptError> {
    let failed = |error: &io::Error| match error.kind() {
        // Which of them it is depends on the system.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => limit.error(Stage::Tls),
        _ => AttemptError::io(Stage::Tls, error),
    };
    while tls.is_handshaking() || tls.wants_write() {
        let left = limit.left(Stage::Tls)?;
        // What cannot be waited for so long is waited for without a limit, as the system does by default.
        let left = (left != Duration::MAX).then_some(left);
        socket
            .set_write_timeout(left)
            .and_then(|()| socket.set_read_timeout(left))
            .map_err(|error| failed(&error))?;
        let done = match tls.wants_write() {
            true => tls.write_tls(&mut socket),
            false => tls.read_tls(&mut socket),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(&error)),
            Ok(0) => return Err(failed(&io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
        }
        if let Err(error) = tls.process_new_packets() {
            // The peer is told why, if the socket takes it.
            let _ = tls.write_tls(&mut socket);
            return Err(error.into());
        }
    }
    Ok(tls)
}
