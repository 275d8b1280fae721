//! The connection, from the first address that is tried to the end.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use amqp_net::rustls::{ClientConfig, ClientConnection};
use amqp_net::{AttemptError, ConnectError, Search, Stage, Step, TlsConfig, connect_start, finish};
use amqp_proto::topology::{Restorer, Sent};
use amqp_proto::trace::FrameTap;
use amqp_proto::wire::{ConnectionUpdateSecret, ReplyCode};
use amqp_proto::{
    Channel, ChannelId, CloseReason, CloseReport, Config, Connection, ConnectionParameters, Event, Instant,
    ProvidedCredentials, ProviderError, RequestId, Secret, SendError, Shutdown,
};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token, event::Source};

use crate::credentials::{Asking, CredentialsEvent, CredentialsSource, Refreshing};
use crate::offload::{Offload, Panicked};
use crate::session::Session;
use crate::stream::Stream;

mod source;

/// A connection to a broker as a source of events for a [`mio::Poll`]. It never waits and starts no thread, but one for each name that
/// the system has to look up, and for each call of a [provider of credentials](CredentialsSource).
///
/// Register it, for any interests: it takes those that it needs. It moves from address to address and from socket to socket by itself,
/// and stays registered. Then go round:
///
/// ```no_run
/// use amqp_mio::{Connector, Event};
/// use mio::{Events, Interest, Poll, Token};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// const BROKER: Token = Token(0);
/// let mut poll = Poll::new()?;
/// let mut ready = Events::with_capacity(64);
/// let mut connection = Connector::from_uri("amqp://localhost")?.connect()?;
/// poll.registry().register(&mut connection, BROKER, Interest::READABLE)?;
/// loop {
///     poll.poll(&mut ready, connection.next_timeout())?;
///     for event in ready.iter().filter(|event| event.token() == BROKER) {
///         connection.on_ready(event);
///     }
///     connection.on_timeout();
///     while let Some(event) = connection.poll_event()? {
///         match event {
///             Event::Connected => {
///                 connection.open_channel()?;
///             }
///             Event::Closed(reason) => return Err(reason.into()),
///             _ => {}
///         }
///     }
/// }
/// # }
/// ```
///
/// What the commands have to say is written by [`poll_event`](Self::poll_event) when it has no more events, or by
/// [`flush`](Self::flush). Each call does a bounded amount of work; as long as some is left, [`next_timeout`](Self::next_timeout) says
/// now, and no edge of the socket is lost.
#[derive(Debug)]
pub struct MioConnection {
    way: Way,
    search: Search,
    phase: Phase,
    registration: Option<Registration>,
    epoch: std::time::Instant,
    /// The search is over: what becomes of the session is told.
    is_settled: bool,
    /// Until when its secret is valid.
    valid_until: Option<Instant>,
    /// If that is to be renewed.
    refreshing: Option<Box<Refreshing>>,
}

/// What takes us to a broker.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) config: Arc<Config>,
    pub(crate) parameters: ConnectionParameters,
    pub(crate) tls: Option<(Arc<ClientConfig>, TlsConfig)>,
    /// Instead of what a resolver says.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    pub(crate) first_incarnation: u32,
    pub(crate) credentials: Option<CredentialsSource>,
}

type Resolver = Offload<io::Result<Vec<SocketAddr>>>;

#[derive(Debug)]
enum Phase {
    /// The search says what is next.
    Searching,
    /// Nothing is tried before that: every host has failed, or the caller wants it so.
    Waiting(Instant),
    Resolving(Resolver, Instant),
    /// Who connects, before anything else is done there.
    Asking(Asking, Target),
    Connecting(Attempt, TcpStream),
    /// With the moment when the handshakes have taken too long, until they are done.
    Session(Box<Session>, Option<Instant>),
    /// Nothing is left to try; told once.
    Failed(Option<ConnectError>),
    /// It was closed before there was a connection; told once.
    Abandoned(Option<CloseReason>),
}

/// What is tried.
#[derive(Debug)]
enum Target {
    Address(String, SocketAddr),
    /// The one that the caller brought.
    Stream(Box<Stream>),
}

/// An address that is tried.
#[derive(Debug)]
struct Attempt {
    host: String,
    identity: Identity,
    /// For the TCP connection.
    connected_by: Instant,
    /// For everything.
    open_by: Instant,
}

/// With what to connect, and until when that is valid.
#[derive(Debug)]
struct Identity {
    config: Arc<Config>,
    valid_until: Option<Instant>,
}

#[derive(Debug)]
struct Registration {
    registry: Registry,
    token: Token,
}

impl MioConnection {
    pub(crate) fn search(way: Way, delay: Duration) -> Self {
        let search = Search::new(&way.parameters);
        Self::new(way, search, Phase::Waiting(Instant::EPOCH + delay))
    }

    /// On a stream that is there.
    pub(crate) fn on_stream(way: Way, stream: Stream) -> Self {
        let search = Search::new(&way.parameters);
        let mut connection = Self::new(way, search, Phase::Searching);
        // There is nothing else to try if it fails.
        connection.is_settled = true;
        connection.identify(Target::Stream(Box::new(stream)), Instant::EPOCH);
        connection
    }

    fn new(way: Way, search: Search, phase: Phase) -> Self {
        Self {
            way,
            search,
            phase,
            registration: None,
            epoch: std::time::Instant::now(),
            is_settled: false,
            valid_until: None,
            refreshing: None,
        }
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }
}

/// What the loop calls.
impl MioConnection {
    /// There is an event with this connection's token.
    pub fn on_ready(&mut self, event: &mio::event::Event) {
        if let Phase::Session(session, _) = &mut self.phase {
            let is_over = event.is_error() || event.is_read_closed();
            session.on_ready(event.is_readable() || is_over, event.is_writable() || is_over);
        }
    }

    /// Time has passed. To be called once a round; it does nothing before [`next_timeout`](Self::next_timeout) is over.
    pub fn on_timeout(&mut self) {
        let now = self.now();
        if let Phase::Session(session, _) = &mut self.phase {
            session.on_timeout(now);
        }
    }

    /// How long the poll may wait; `None` for as long as nothing happens.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        let now = self.now();
        let deadline = match &self.phase {
            Phase::Searching | Phase::Failed(Some(_)) | Phase::Abandoned(Some(_)) => now,
            Phase::Failed(None) | Phase::Abandoned(None) => return None,
            Phase::Waiting(until) => *until,
            #[cfg(unix)]
            Phase::Resolving(_, late) => *late,
            #[cfg(not(unix))]
            Phase::Resolving(_, late) => (*late).min(now + Duration::from_millis(10)),
            #[cfg(unix)]
            Phase::Asking(asking, _) => asking.late,
            #[cfg(not(unix))]
            Phase::Asking(asking, _) => asking.late.min(now + Duration::from_millis(10)),
            Phase::Connecting(attempt, _) => attempt.connected_by.min(attempt.open_by),
            Phase::Session(session, _) if session.has_work() => now,
            Phase::Session(session, open_by) => {
                let refresh = self
                    .refreshing
                    .as_ref()
                    .and_then(|refreshing| refreshing.deadline(now));
                [session.deadline(), *open_by, refresh]
                    .into_iter()
                    .flatten()
                    .min()?
            }
        };
        let left = deadline.duration_since(now);
        // Polls count milliseconds, some of them down: one more spares us to come back for the rest of it.
        Some(if left.is_zero() {
            left
        } else {
            left + Duration::from_millis(1)
        })
    }

    /// What happened next; `None` when that is all for now.
    ///
    /// [`Event::Connected`] is the first, unless everything that is tried fails. [`Event::Closed`] is the last.
    ///
    /// # Errors
    /// No broker was reached: all that was tried, and why it failed. Said once, and nothing comes after it.
    pub fn poll_event(&mut self) -> Result<Option<Event>, ConnectError> {
        loop {
            let now = self.now();
            let is_settled = self.is_settled;
            if self.refreshing.is_some() {
                self.refresh(now);
            }
            match &mut self.phase {
                Phase::Session(session, open_by) => {
                    let event = session.poll_event(now);
                    match event {
                        Some(event) if is_taken(&mut self.refreshing, now, &event) => {}
                        Some(Event::Closed(reason)) if !is_settled && !is_requested(&reason) => {
                            let error = session.tls_error.take();
                            self.fail(error.unwrap_or_else(|| reason.into()));
                        }
                        Some(event) => {
                            if event == Event::Connected {
                                *open_by = None;
                                self.is_settled = true;
                                self.begin_to_refresh(now);
                            }
                            return Ok(Some(event));
                        }
                        None if open_by.is_some_and(|at| at <= now) => {
                            self.fail_late(self.phase.stage(), self.way.parameters.stack_timeout);
                        }
                        None => return Ok(None),
                    }
                }
                Phase::Failed(error) => return error.take().map_or(Ok(None), Err),
                Phase::Abandoned(reason) => return Ok(reason.take().map(Event::Closed)),
                _ => {
                    if !self.advance(now) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Writes what there is to write, as far as the socket takes it. [`poll_event`](Self::poll_event) does so too, when it has no more
    /// events.
    pub fn flush(&mut self) {
        let now = self.now();
        if let Phase::Session(session, _) = &mut self.phase {
            session.flush(now);
        }
    }

    /// Nothing is read until [`resume`](Self::resume), which holds the broker back; what was read before is still told. That nothing comes
    /// is no reason to take the broker for dead then, and no answers come either.
    pub fn pause(&mut self) {
        if let Phase::Session(session, _) = &mut self.phase {
            session.pause();
        }
    }

    /// Reads again.
    pub fn resume(&mut self) {
        let now = self.now();
        if let Phase::Session(session, _) = &mut self.phase {
            session.resume(now);
        }
    }
}

/// The way to an open connection.
impl MioConnection {
    /// One step on the way; says whether another one may follow at once.
    fn advance(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Searching => self.step(now),
            Phase::Waiting(until) if *until > now => return false,
            Phase::Waiting(_) => self.phase = Phase::Searching,
            Phase::Resolving(resolver, late) => match resolver.poll() {
                Some(answer) => {
                    let answer =
                        answer.unwrap_or_else(|Panicked| Err(io::Error::other("the resolver panicked")));
                    self.search
                        .resolved(answer.map_err(|error| AttemptError::io(Stage::Resolve, &error)));
                    self.leave_phase();
                }
                None if *late <= now => {
                    self.fail_late(Stage::Resolve, self.way.parameters.connection_timeout);
                }
                None => return false,
            },
            Phase::Asking(asking, _) => match asking.poll(now) {
                Some(answer) => self.on_identity(answer, now),
                None => return false,
            },
            Phase::Connecting(attempt, socket) => match finish(socket) {
                Ok(()) => self.greet(),
                Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                    self.fail(AttemptError::io(Stage::Tcp, &error));
                }
                Err(_) if attempt.connected_by.min(attempt.open_by) <= now => {
                    self.fail_late(Stage::Tcp, self.way.parameters.connection_timeout);
                }
                Err(_) => return false,
            },
            Phase::Session(..) | Phase::Failed(_) | Phase::Abandoned(_) => return false,
        }
        true
    }

    /// What the search says.
    fn step(&mut self, now: Instant) {
        let parameters = &self.way.parameters;
        match self.search.next_step() {
            Some(Step::Resolve { name, port }) => {
                if let Some(addresses) = &self.way.addresses {
                    self.search.resolved(Ok(addresses.clone()));
                } else if let Ok(address) = name.parse::<IpAddr>() {
                    self.search.resolved(Ok(vec![(address, port).into()]));
                } else {
                    let late = now + parameters.connection_timeout;
                    let look_up = move || Ok((name, port).to_socket_addrs()?.collect());
                    match Resolver::start("amqp-resolver", look_up) {
                        Ok(resolver) => self.enter(Phase::Resolving(resolver, late)),
                        Err(error) => self.fail(AttemptError::io(Stage::Resolve, &error)),
                    }
                }
            }
            Some(Step::Connect { name, address }) => self.identify(Target::Address(name, address), now),
            Some(Step::Wait(delay)) => self.phase = Phase::Waiting(now + delay),
            Some(_) => {}
            None => {
                let error = self.search.clone().into_error();
                self.phase = Phase::Failed(Some(error));
            }
        }
    }

    /// Learns with what to connect there, which comes first.
    fn identify(&mut self, target: Target, now: Instant) {
        let Some(source) = &self.way.credentials else {
            let identity = Identity {
                config: Arc::clone(&self.way.config),
                valid_until: None,
            };
            return self.approach(target, identity, now);
        };
        match source.ask(now) {
            Ok(asking) => self.enter(Phase::Asking(asking, target)),
            Err(error) => self.fail(error.into()),
        }
    }

    fn on_identity(&mut self, answer: Result<ProvidedCredentials, ProviderError>, now: Instant) {
        let phase = std::mem::replace(&mut self.phase, Phase::Searching);
        match (answer, phase) {
            (Ok(provided), Phase::Asking(_, target)) => {
                let config = Config::clone(&self.way.config).credentials(provided.credentials);
                let identity = Identity {
                    config: Arc::new(config),
                    valid_until: provided.valid_for.map(|duration| now + duration),
                };
                self.approach(target, identity, now);
            }
            (Err(error), _) => self.fail(error.into()),
            (Ok(_), phase) => self.phase = phase,
        }
    }

    fn approach(&mut self, target: Target, identity: Identity, now: Instant) {
        let (name, address) = match target {
            Target::Address(name, address) => (name, address),
            Target::Stream(stream) => return self.begin(*stream, identity, None),
        };
        let parameters = &self.way.parameters;
        let attempt = Attempt {
            host: name,
            identity,
            connected_by: now + parameters.connection_timeout,
            open_by: now + parameters.stack_timeout,
        };
        match connect_start(address, &parameters.tcp) {
            Ok(socket) => {
                let socket = TcpStream::from_std(socket.into());
                self.enter(Phase::Connecting(attempt, socket));
            }
            Err(error) => self.fail(AttemptError::io(Stage::Tcp, &error)),
        }
    }

    /// TCP is connected: TLS and AMQP are next.
    fn greet(&mut self) {
        let Phase::Connecting(attempt, socket) = std::mem::replace(&mut self.phase, Phase::Searching) else {
            return;
        };
        let stream = match &self.way.tls {
            None => Ok(socket.into()),
            Some((config, names)) => over_tls(config, names, &attempt.host, socket),
        };
        match stream {
            Ok(stream) => self.begin(stream, attempt.identity, Some(attempt.open_by)),
            Err(error) => self.fail(error),
        }
    }

    /// The socket, registered by now, is spoken on; a stream that the caller brought is still to be.
    fn begin(&mut self, stream: Stream, identity: Identity, open_by: Option<Instant>) {
        self.valid_until = identity.valid_until;
        let session = Session::new(stream, identity.config, self.now(), self.way.first_incarnation);
        let phase = Phase::Session(Box::new(session), open_by);
        match open_by {
            None => self.enter(phase),
            Some(_) => self.phase = phase,
        }
    }

    /// This attempt has failed; the search goes on.
    fn fail(&mut self, error: AttemptError) {
        self.search.failed(error);
        self.leave_phase();
        if self.is_settled {
            self.phase = Phase::Failed(Some(self.search.clone().into_error()));
        }
    }

    fn fail_late(&mut self, stage: Stage, limit: Duration) {
        self.fail(AttemptError::TimedOut { stage, limit });
    }

    /// Goes on with the search.
    fn leave_phase(&mut self) {
        if let Some(registration) = &self.registration
            && let Some(source) = self.phase.source()
        {
            // It is closed, which does the same.
            let _ = source.deregister(&registration.registry);
        }
        self.phase = Phase::Searching;
    }

    /// Goes on with a socket, which is registered like the one before.
    fn enter(&mut self, mut phase: Phase) {
        if let Some(registration) = &self.registration
            && let Some(source) = phase.source()
            && let Err(error) = source.register(&registration.registry, registration.token, INTERESTS)
        {
            self.fail(AttemptError::io(Stage::Tcp, &error));
            return;
        }
        self.phase = phase;
    }
}

/// The secret that runs out.
impl MioConnection {
    /// What became of the secret, if a [provider](crate::Connector::credentials_source) renews it; `None` when that is all for now. To be
    /// asked behind [`poll_event`](Self::poll_event). Who is more than 16 events behind misses the oldest ones.
    pub fn poll_credentials(&mut self) -> Option<CredentialsEvent> {
        self.refreshing.as_mut()?.poll_event()
    }

    fn begin_to_refresh(&mut self, now: Instant) {
        if let (Phase::Session(session, _), Some(source), Some(until)) =
            (&self.phase, &self.way.credentials, self.valid_until)
        {
            self.refreshing = Refreshing::new(source, &session.core, now, until).map(Box::new);
        }
    }

    #[cold]
    fn refresh(&mut self, now: Instant) {
        let (Phase::Session(session, _), Some(refreshing)) = (&mut self.phase, &mut self.refreshing) else {
            return;
        };
        let has_begun = refreshing.step(now, session);
        if let (true, Some(registration), Some(call)) = (has_begun, &self.registration, refreshing.call()) {
            // Without that, its answer is seen when something else happens, or when it is late.
            let _ = call.register(&registration.registry, registration.token, INTERESTS);
        }
    }
}

/// Whether that is about the new secret alone.
fn is_taken(refreshing: &mut Option<Box<Refreshing>>, now: Instant, event: &Event) -> bool {
    match refreshing {
        Some(refreshing) => refreshing.takes(now, event),
        None => false,
    }
}

/// Commands, as the core has them.
impl MioConnection {
    /// Opens a channel with a free number. It can be used at once; [`Event::ChannelOpened`] confirms it.
    ///
    /// # Errors
    /// As [`Connection::open_channel`].
    pub fn open_channel(&mut self) -> Result<ChannelId, SendError> {
        self.commands()?.open_channel()
    }

    /// Opens the channel with that number.
    ///
    /// # Errors
    /// As [`Connection::open_channel_with_number`].
    pub fn open_channel_with_number(&mut self, number: u16) -> Result<ChannelId, SendError> {
        self.commands()?.open_channel_with_number(number)
    }

    /// A view of a channel, for its commands.
    ///
    /// # Errors
    /// As [`Connection::channel`].
    pub fn channel(&mut self, id: ChannelId) -> Result<Channel<'_>, SendError> {
        self.commands()?.channel(id)
    }

    /// Renews a token before it expires. [`Event::Reply`] answers it, on [`ChannelId::CONNECTION`].
    ///
    /// # Errors
    /// As [`Connection::update_secret`].
    pub fn update_secret(
        &mut self,
        new_secret: &Secret,
        reason: &str,
    ) -> Result<RequestId<ConnectionUpdateSecret<'static>>, SendError> {
        self.commands()?.update_secret(new_secret, reason)
    }

    /// Sends the next steps of a plan that restores what was on an earlier connection: [`Restorer::send`]. To be called when this one is
    /// open, and again behind each event.
    ///
    /// A program with a poll of its own keeps a [`Recorder`](amqp_proto::topology::Recorder) and a
    /// [`Reconnect`](amqp_proto::Reconnect), which says when and where to connect next. This is what is between the two:
    ///
    /// ```no_run
    /// use amqp_mio::proto::topology::{ChannelKey, Plan, Recorder, Restorer, Sent};
    /// use amqp_mio::proto::{ChannelId, SendError};
    /// use amqp_mio::{ConnectError, Connector, Event, MioConnection};
    /// use std::collections::HashMap;
    /// use std::time::Duration;
    ///
    /// /// What goes on from one connection to the next.
    /// struct Program {
    ///     /// Told of each request, as the method and the id that it got.
    ///     recorder: Recorder,
    ///     /// What the program's channels are now.
    ///     channels: HashMap<ChannelKey, ChannelId>,
    ///     restorer: Option<Restorer>,
    /// }
    ///
    /// impl Program {
    ///     /// The next connection, when this one is lost. Tags of the old one are known to be stale there.
    ///     fn again(&self, old: &MioConnection, connector: &Connector, delay: Duration) -> Result<MioConnection, ConnectError> {
    ///         let first = old.core().map_or(connector.incarnation(), |core| core.next_incarnation());
    ///         connector.clone().first_incarnation(first).connect_after(delay)
    ///     }
    ///
    ///     fn on_event(&mut self, connection: &mut MioConnection, event: &Event) -> Result<(), SendError> {
    ///         match event {
    ///             // The first time, there is nothing to restore.
    ///             Event::Connected => self.restorer = Some(Restorer::new(Plan::new(self.recorder.topology()))),
    ///             Event::Closed(_) => {
    ///                 self.restorer = None;
    ///                 self.recorder.disconnected();
    ///             }
    ///             _ => {}
    ///         }
    ///         let topology = self.recorder.topology_mut();
    ///         let is_about_the_plan = self.restorer.as_mut().is_some_and(|restorer| restorer.on_event(event, topology));
    ///         match event {
    ///             _ if is_about_the_plan => {}
    ///             Event::Reply(reply) => {
    ///                 self.recorder.answered(reply);
    ///             }
    ///             Event::RequestFailed { request, .. } => self.recorder.failed(*request),
    ///             _ => { /* The program's own. */ }
    ///         }
    ///         let Some(restorer) = &mut self.restorer else {
    ///             return Ok(());
    ///         };
    ///         let channels = &mut self.channels;
    ///         let mut note = |sent: Sent<'_>| match sent {
    ///             Sent::Channel(key, channel) => drop(channels.insert(key, channel)),
    ///             _ => { /* `Sent::Consumer` says what its consumers are now. */ }
    ///         };
    ///         match connection.restore(restorer, &mut note) {
    ///             Ok(()) | Err(SendError::Full { .. }) => {}
    ///             Err(error) => return Err(error),
    ///         }
    ///         // If the connection has just ended, which is still to be told, all that was left has failed.
    ///         if restorer.is_finished() && connection.core().is_some_and(|core| core.is_open()) {
    ///             self.restorer = None; // `amqp_mio::RecoveryReport::new(restorer.plan())` says what came of it.
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Restorer::send`]; [`SendError::NotConnected`], [`SendError::Closed`].
    pub fn restore(
        &mut self,
        restorer: &mut Restorer,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<(), SendError> {
        restorer.send(self.commands()?, sent)
    }

    /// Nobody waits for that answer any more: it is discarded, and what it would leave behind is undone.
    pub fn abandon<T>(&mut self, request: RequestId<T>) {
        if let Ok(core) = self.commands() {
            core.abandon(request);
        }
    }

    /// Closes the connection, its channels first; [`Event::Closed`] follows. The search for a broker is over at once.
    pub fn close(&mut self, code: ReplyCode, text: &str) {
        if let Ok(core) = self.commands() {
            core.close(code, text);
        } else if !matches!(self.phase, Phase::Failed(_) | Phase::Abandoned(_)) {
            self.leave_phase();
            let acknowledged = false;
            self.phase = Phase::Abandoned(Some(CloseReason::Requested { acknowledged }));
        }
    }

    /// Finishes what is under way, then closes the connection, all within `timeout`: its consumers are cancelled, and what still comes to
    /// them goes back; what was delivered is settled; the broker confirms what was published; then as [`close`](Self::close), for which
    /// half of the time is kept, or of [`Config::close_timeout`] if that is less. All else can be used meanwhile, but no new consumers
    /// ([`SendError::ShuttingDown`]). [`Event::Closed`] follows, and then there is a [`report`](Self::report).
    ///
    /// A `close` meanwhile does not wait any longer. The search for a broker is over at once.
    pub fn shutdown(&mut self, timeout: Duration) {
        let now = self.now();
        match &mut self.phase {
            Phase::Session(session, _) if self.is_settled => {
                let plan = Shutdown::draining(now, timeout, self.way.config.close_timeout);
                session.shut_down(plan);
            }
            _ => self.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"),
        }
    }

    /// What came of a [`shutdown`](Self::shutdown); `None` before [`Event::Closed`], or if it was not shut down while it was open.
    #[must_use]
    pub const fn report(&self) -> Option<&CloseReport> {
        match &self.phase {
            Phase::Session(session, _) => session.report.as_ref(),
            _ => None,
        }
    }

    /// Whether it is being shut down, or was.
    pub(crate) const fn is_leaving(&self) -> bool {
        matches!(&self.phase, Phase::Session(session, _) if session.is_leaving())
    }

    /// It has taken too long: what is under way fails, and nothing else is tried.
    pub(crate) fn break_off(&mut self) {
        let (now, late) = (self.now(), io::Error::other("it has taken too long"));
        match &mut self.phase {
            Phase::Failed(_) | Phase::Abandoned(_) => {}
            Phase::Session(session, _) if self.is_settled => session.disconnect(now, Some(late)),
            phase => {
                let stage = phase.stage();
                self.is_settled = true;
                self.fail(AttemptError::io(stage, &late));
            }
        }
    }

    /// Another multiplier than [`Config::backpressure_multiplier`], for this connection.
    pub fn set_backpressure_multiplier(&mut self, multiplier: u32) {
        if let Ok(core) = self.commands() {
            core.set_backpressure_multiplier(multiplier);
        }
    }

    /// Records every frame from now on.
    pub fn set_tap(&mut self, tap: Option<Box<dyn FrameTap>>) {
        if let Ok(core) = self.commands() {
            core.set_tap(tap);
        }
    }

    /// The core's connection, to ask it for things; `None` while there is no stream.
    #[must_use]
    pub fn core(&self) -> Option<&Connection> {
        match &self.phase {
            Phase::Session(session, _) => Some(&session.core),
            _ => None,
        }
    }

    /// What to say if a poll does not take it.
    pub(crate) fn unregistered(&mut self, error: &io::Error) -> ConnectError {
        self.search.failed(AttemptError::io(Stage::Tcp, error));
        self.search.clone().into_error()
    }

    fn commands(&mut self) -> Result<&mut Connection, SendError> {
        match &mut self.phase {
            Phase::Session(session, _) => Ok(session.commands()),
            Phase::Failed(_) | Phase::Abandoned(_) => Err(SendError::Closed),
            _ => Err(SendError::NotConnected),
        }
    }
}

/// It reads and writes.
const INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE);

fn is_requested(reason: &CloseReason) -> bool {
    matches!(reason, CloseReason::Requested { .. })
}

pub(crate) fn over_tls(
    config: &Arc<ClientConfig>,
    names: &TlsConfig,
    host: &str,
    socket: TcpStream,
) -> Result<Stream, AttemptError> {
    let name = names.server_name_for(host)?;
    let tls = ClientConnection::new(Arc::clone(config), name).map_err(AttemptError::Tls)?;
    Ok(Stream::from(socket).with_tls(tls))
}

impl Phase {
    /// What is being done.
    fn stage(&self) -> Stage {
        match self {
            Self::Resolving(..) => Stage::Resolve,
            Self::Session(session, _) if session.stream.is_handshaking() => Stage::Tls,
            Self::Session(..) => Stage::Amqp,
            _ => Stage::Tcp,
        }
    }
}
