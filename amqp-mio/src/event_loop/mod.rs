//! A loop with callbacks, made of what a [`MioConnection`](crate::MioConnection) shows to everybody.
//!
//! ```text
//! EventLoop ─ run ─▶ poll ─▶ connections: on_ready, on_timeout, poll_event ─▶ callbacks(&mut Ctx, ..)
//!                            timers, calls from other threads ─────────────▶ callbacks(&mut Ctx)
//! ```

mod callbacks;
mod channel;
mod connection;
mod context;
mod dispatch;
mod handle;
mod options;
mod poller;
mod reconnecting;
mod recovering;
mod recovery;
mod republishing;
mod timers;

use std::io;
use std::time::{Duration, Instant};

use amqp_proto::ReconnectPolicy;
use mio::{Events, Poll, Token, Waker};

pub use callbacks::CallbackId;
pub use channel::{ChannelRef, ChannelView};
pub use connection::{Backpressure, ConnectionId, ConnectionView};
pub use context::Ctx;
pub use handle::{Handle, PostError};
pub use options::ChannelOptions;
pub use poller::{PollBackend, PollerError, PollerType, poll_backend};
pub use recovery::Recovery;
pub use timers::TimerId;

use crate::{ConnectError, Connector};
use context::Inner;

const WAKER: Token = Token(usize::MAX);

/// How many events the system tells at once.
const MOST_READY: usize = 256;

/// pika's `IOLoop` and `SelectConnection` in one: connections, timers and callbacks on the thread that calls [`run`](Self::run).
///
/// Every callback gets a [`Ctx`]: through it it reaches the loop's connections and channels, and the application's own state `S`. So nothing
/// has to be shared between callbacks by `Rc` and `RefCell`. Callbacks run one after another, never inside of each other, and may add and
/// remove any callback, themselves included.
///
/// ```no_run
/// use amqp_mio::proto::RequestError;
/// use amqp_mio::proto::wire::{QueueDeclare, QueueDeclareOk, ReplyCode, ShortStr};
/// use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, EventLoop};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let mut event_loop = EventLoop::new(0)?;
///     let connection = event_loop.connect(&Connector::from_uri("amqp://localhost")?)?;
///     event_loop.context().connection(connection)?.on_open(on_open);
///     event_loop.run()?; // Until the last connection is closed.
///     println!("{} messages", event_loop.state());
///     Ok(())
/// }
///
/// fn on_open(ctx: &mut Ctx<'_, u32>, connection: ConnectionId) {
///     let mut connection = ctx.connection(connection).expect("it is open");
///     connection.open_channel(on_channel_open).expect("no other channel is open");
/// }
///
/// fn on_channel_open(ctx: &mut Ctx<'_, u32>, channel: ChannelRef) {
///     let queue = QueueDeclare { queue: ShortStr::new("test").unwrap(), durable: true, ..Default::default() };
///     let mut view = ctx.channel(channel).expect("it is open");
///     view.request(&queue, on_declared).expect("nothing waits to be written");
/// }
///
/// fn on_declared(ctx: &mut Ctx<'_, u32>, channel: ChannelRef, answer: Result<QueueDeclareOk<'_>, RequestError>) {
///     *ctx.state() = answer.expect("nobody else uses that name").message_count;
///     let mut connection = ctx.connection(channel.connection()).expect("it is open");
///     connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
/// }
/// ```
#[derive(Debug)]
pub struct EventLoop<S = ()> {
    poll: Poll,
    ready: Events,
    inner: Inner<S>,
    state: S,
}

/// Why a loop ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The system's poll failed.
    #[error("poll: {0}")]
    Poll(#[from] io::Error),
    /// A callback panicked, with this message. If it was one of a connection's, that was closed in order before this was said.
    #[error("a callback panicked: {0}")]
    Panicked(String),
}

impl<S: 'static> EventLoop<S> {
    /// A loop without connections, and the application's state.
    ///
    /// # Errors
    /// The system has no poll to give.
    pub fn new(state: S) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let registry = poll.registry().try_clone()?;
        Ok(Self {
            poll,
            ready: Events::with_capacity(MOST_READY),
            inner: Inner::new(registry, Handle::new(waker)),
            state,
        })
    }

    /// The same, waiting with that poller.
    ///
    /// # Errors
    /// [`PollerError`].
    pub fn with_poller(poller: PollerType, state: S) -> Result<Self, PollerError> {
        poller.backend()?;
        Ok(Self::new(state)?)
    }

    /// What callbacks get: for what is to be done before or between runs.
    pub fn context(&mut self) -> Ctx<'_, S> {
        Ctx::new(&mut self.inner, &mut self.state)
    }

    /// Begins to connect.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect(&mut self, connector: &Connector) -> Result<ConnectionId, ConnectError> {
        self.context().connect(connector)
    }

    /// The same, again and again.
    ///
    /// # Errors
    /// As [`Ctx::connect_with`].
    pub fn connect_with(
        &mut self,
        connector: &Connector,
        policy: ReconnectPolicy,
    ) -> Result<ConnectionId, ConnectError> {
        self.context().connect_with(connector, policy)
    }

    /// The same, with everything that was on a lost connection.
    ///
    /// # Errors
    /// As [`Ctx::connect_recovering`].
    pub fn connect_recovering(
        &mut self,
        connector: &Connector,
        recovery: Recovery,
    ) -> Result<ConnectionId, ConnectError> {
        self.context().connect_recovering(connector, recovery)
    }

    /// The application's state.
    #[must_use]
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// The same, to change it.
    pub const fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }

    /// For other threads.
    #[must_use]
    pub fn handle(&self) -> Handle<S> {
        self.inner.handle.clone()
    }

    /// Runs until [`Ctx::stop`] is called, or until there are neither connections nor timers.
    ///
    /// It may be called again: after `close` was called on the connections, for example, until they are closed (pika's way to end on
    /// Ctrl-C).
    ///
    /// # Errors
    /// [`RunError`]. The loop can be run again.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.inner.is_stopped = false;
        loop {
            self.work()?;
            if self.inner.is_stopped || self.inner.is_idle() {
                return Ok(());
            }
            self.wait(None)?;
        }
    }

    /// Waits for something to happen, but no longer than that, and does what it takes: for a loop around this one.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run_once(&mut self, limit: Duration) -> Result<(), RunError> {
        self.work()?;
        self.wait(Some(limit))?;
        self.work()
    }

    /// Calls from other threads, timers, events, once.
    fn work(&mut self) -> Result<(), RunError> {
        let mut ctx = Ctx::new(&mut self.inner, &mut self.state);
        ctx.run_posted();
        ctx.run_timers();
        ctx.run_connections();
        match self.inner.take_panic() {
            Some(message) => Err(RunError::Panicked(message)),
            None => Ok(()),
        }
    }

    fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        let timeout = self.inner.next_timeout(Instant::now());
        let timeout = [timeout, limit].into_iter().flatten().min();
        match self.poll.poll(&mut self.ready, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.ready {
            self.inner.on_ready(event);
        }
        Ok(())
    }
}

impl<S> Drop for EventLoop<S> {
    fn drop(&mut self) {
        self.inner.handle.end();
    }
}
