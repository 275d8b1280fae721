//! What callbacks reach.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use amqp_proto::wire::ReplyCode;
use amqp_proto::{CloseReason, GiveUpReason, ReconnectPolicy, SendError};
use mio::{Interest, Registry, Token};

use super::channel::{ChannelRef, ChannelView};
use super::connection::{ConnectionId, ConnectionView, Entry};
use super::handle::Handle;
use super::reconnecting::Reconnecting;
use super::recovering::Recovering;
use super::recovery::Recovery;
use super::timers::{TimerId, Timers};
use crate::{ConnectError, Connector, MioConnection};

type Timer<S> = Box<dyn FnOnce(&mut Ctx<'_, S>)>;

/// All of the loop but its poll.
#[derive(Debug)]
pub(super) struct Inner<S> {
    registry: Registry,
    pub(super) connections: BTreeMap<ConnectionId, Entry<S>>,
    next_connection: usize,
    timers: Timers<Timer<S>>,
    pub(super) handle: Handle<S>,
    pub(super) is_stopped: bool,
    /// The first callback that panicked, and whose it was.
    panicked: Option<(Option<ConnectionId>, String)>,
}

impl<S> Inner<S> {
    pub(super) const fn new(registry: Registry, handle: Handle<S>) -> Self {
        Self {
            registry,
            connections: BTreeMap::new(),
            next_connection: 0,
            timers: Timers::new(),
            handle,
            is_stopped: false,
            panicked: None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.connections.is_empty() && self.timers.is_empty() && self.handle.is_empty()
    }

    pub(super) fn on_ready(&mut self, event: &mio::event::Event) {
        if let Some(entry) = self.connections.get_mut(&ConnectionId(event.token().0)) {
            entry.connection.on_ready(event);
        }
    }

    pub(super) fn next_timeout(&self, now: Instant) -> Option<Duration> {
        if !self.handle.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self
            .timers
            .next_deadline()
            .map(|at| at.saturating_duration_since(now));
        let connections = self
            .connections
            .values()
            .flat_map(|entry| [entry.connection.next_timeout(), entry.time_left()])
            .flatten();
        connections.chain(timer).min()
    }

    fn register(&self, id: ConnectionId, connection: &mut MioConnection) -> Result<(), ConnectError> {
        // Nothing is registered yet: it registers each socket when it has it.
        let registering = self
            .registry
            .register(connection, Token(id.0), Interest::READABLE);
        registering.map_err(|error| connection.unregistered(&error))
    }

    /// Begins the next life of a connection that has ended, and says after what delay; `None` if there is none to be.
    pub(super) fn reconnect(
        &mut self,
        id: ConnectionId,
        reason: &CloseReason,
    ) -> Option<Result<Duration, GiveUpReason>> {
        let has_panicked = matches!(self.panicked, Some((Some(panicked), _)) if panicked == id);
        let entry = self.connections.get_mut(&id).filter(|_| !has_panicked)?;
        let was_never_open = entry
            .recovering
            .as_ref()
            .is_some_and(|recovering| !recovering.was_open());
        if entry.connection.is_leaving() || was_never_open {
            return None;
        }
        let next = entry.reconnecting.as_mut()?.next(&entry.connection, reason);
        let (mut connection, delay) = match next {
            Ok(next) => next,
            Err(reason) => return Some(Err(reason)),
        };
        match self.register(id, &mut connection) {
            Ok(()) => {
                self.connections.get_mut(&id)?.connection = connection;
                Some(Ok(delay))
            }
            Err(error) => Some(Err(GiveUpReason::Permanent(error.into()))),
        }
    }

    /// Whether the end of a connection for that reason is not the end of what was on it.
    pub(super) fn outlives(&self, id: ConnectionId, reason: &CloseReason) -> bool {
        let has_panicked = matches!(self.panicked, Some((Some(panicked), _)) if panicked == id);
        let is_requested = matches!(reason, CloseReason::Requested { .. });
        let entry = self
            .connections
            .get(&id)
            .filter(|_| !has_panicked && !is_requested);
        entry.is_some_and(|entry| {
            let was_open = entry
                .recovering
                .as_ref()
                .is_some_and(|recovering| recovering.was_open());
            was_open && !entry.connection.is_leaving()
        })
    }

    /// The panic to tell of, when its connection is closed.
    pub(super) fn take_panic(&mut self) -> Option<String> {
        let (connection, _) = self.panicked.as_ref()?;
        if connection.is_some_and(|id| self.connections.contains_key(&id)) {
            return None;
        }
        self.panicked.take().map(|(_, message)| message)
    }

    /// Makes sure that a connection whose callback panicked ends in order.
    fn note_panic(&mut self, connection: Option<ConnectionId>, payload: &(dyn Any + Send)) {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned());
        if let Some(entry) = connection.and_then(|id| self.connections.get_mut(&id)) {
            entry
                .connection
                .close(ReplyCode::INTERNAL_ERROR, "a callback of the client panicked");
        }
        self.panicked.get_or_insert((connection, message));
    }
}

/// What a callback reaches: the connections and channels of its loop, timers, and the application's state.
#[derive(Debug)]
pub struct Ctx<'a, S> {
    pub(super) inner: &'a mut Inner<S>,
    state: &'a mut S,
}

impl<'a, S> Ctx<'a, S> {
    pub(super) const fn new(inner: &'a mut Inner<S>, state: &'a mut S) -> Self {
        Self { inner, state }
    }

    /// The application's state.
    pub const fn state(&mut self) -> &mut S {
        self.state
    }

    /// Begins to connect. Add callbacks to the [`connection`](Self::connection): it comes to nothing before this callback has returned.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub fn connect(&mut self, connector: &Connector) -> Result<ConnectionId, ConnectError> {
        self.add(connector.connect()?, None, None)
    }

    /// The same, but when no broker is reached, or the connection is lost, it is made again, as the policy says: one attempt at one host at
    /// a time, for which [`connection_attempts`](amqp_proto::ConnectionParameters) do not count. It keeps its name and its own callbacks:
    /// those of [`on_open`](ConnectionView::on_open) are called each time, and have to open channels anew; the old ones stay closed.
    ///
    /// Closing it is the end of it.
    ///
    /// # Errors
    /// As [`Connector::connect`]; also [`ConfigError`](amqp_proto::ConfigError) if the credentials erase themselves.
    pub fn connect_with(
        &mut self,
        connector: &Connector,
        policy: ReconnectPolicy,
    ) -> Result<ConnectionId, ConnectError> {
        let mut reconnecting = Reconnecting::new(connector, policy)?;
        let connection = reconnecting.begin()?;
        self.add(connection, Some(Box::new(reconnecting)), None)
    }

    /// Begins to connect; when the connection is lost after it was open, it is made again with everything that was on it, as
    /// [`Recovery`] says. Its own name and callbacks go on, and those of its channels and consumers. [`on_open`](ConnectionView::on_open)
    /// tells the first time that it is open, [`on_recovered`](ConnectionView::on_recovered) each later one;
    /// [`on_lost`](ConnectionView::on_lost) that it is lost, [`on_close`](ConnectionView::on_close) that it is not made again any more.
    ///
    /// Closing it is the end of it.
    ///
    /// ```no_run
    /// use amqp_mio::proto::wire::{BasicConsume, QueueDeclare};
    /// use amqp_mio::{ChannelRef, Connector, Ctx, EventLoop, Recovery};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut event_loop = EventLoop::new(())?;
    /// let connector = Connector::from_uri("amqp://localhost")?;
    /// let connection = event_loop.connect_recovering(&connector, Recovery::default())?;
    /// let mut ctx = event_loop.context();
    /// let mut view = ctx.connection(connection)?;
    /// view.on_open(|ctx, connection| {
    ///     // Once: all of this is there again after each loss.
    ///     let opened = ctx.connection(connection).and_then(|mut view| view.open_channel(on_channel));
    ///     opened.expect("it is open");
    /// });
    /// view.on_lost(|_, _, reason| println!("lost: {reason}"));
    /// view.on_queue_renamed(|_, _, old, new| println!("{old} is called {new} now"));
    /// view.on_recovered(|_, _, report| println!("there again: {report:?}"));
    /// event_loop.run()?;
    /// # Ok(())
    /// # }
    ///
    /// fn on_channel(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    ///     let mut view = ctx.channel(channel).expect("it is open");
    ///     let queue = QueueDeclare { exclusive: true, ..Default::default() };
    ///     view.request(&queue, |_, _, _| {}).expect("nothing waits to be written");
    ///     // From the queue that was declared last.
    ///     let consumer = view.consume(&BasicConsume::default(), |ctx, channel, delivery| {
    ///         ctx.channel(channel).and_then(|mut view| view.ack(delivery.tag)).expect("it is open");
    ///     });
    ///     consumer.expect("nothing waits to be written");
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`connect_with`](Self::connect_with).
    pub fn connect_recovering(
        &mut self,
        connector: &Connector,
        recovery: Recovery,
    ) -> Result<ConnectionId, ConnectError> {
        let reconnecting = Reconnecting::new(connector, recovery.reconnect)?;
        let recovering = Recovering::new(recovery.filter);
        let connection = connector.connect()?;
        self.add(connection, Some(Box::new(reconnecting)), Some(recovering))
    }

    fn add(
        &mut self,
        mut connection: MioConnection,
        reconnecting: Option<Box<Reconnecting>>,
        recovering: Option<Box<Recovering>>,
    ) -> Result<ConnectionId, ConnectError> {
        let id = ConnectionId(self.inner.next_connection);
        self.inner.next_connection = self.inner.next_connection.wrapping_add(1);
        self.inner.register(id, &mut connection)?;
        self.inner
            .connections
            .insert(id, Entry::new(connection, reconnecting, recovering));
        Ok(id)
    }

    /// A connection of this loop.
    ///
    /// # Errors
    /// [`SendError::Closed`] if it is closed and gone.
    pub fn connection(&mut self, id: ConnectionId) -> Result<ConnectionView<'_, S>, SendError> {
        let entry = self.inner.connections.get_mut(&id).ok_or(SendError::Closed)?;
        Ok(ConnectionView::new(id, entry))
    }

    /// A channel of one of its connections.
    ///
    /// # Errors
    /// [`SendError::Stale`] if it is closed and gone, [`SendError::Closed`] if its connection is.
    pub fn channel(&mut self, channel: ChannelRef) -> Result<ChannelView<'_, S>, SendError> {
        let id = channel.connection();
        let entry = self.inner.connections.get_mut(&id).ok_or(SendError::Closed)?;
        ChannelView::new(channel, entry)
    }

    /// Calls that once, after the delay; `None` if that time never comes. (pika: `call_later`, `add_timeout`.)
    pub fn call_later(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut Ctx<'_, S>) + 'static,
    ) -> Option<TimerId> {
        self.inner.timers.add(Instant::now(), delay, Box::new(call))
    }

    /// Forgets a timer; says whether there was one.
    pub fn remove_timeout(&mut self, timer: TimerId) -> bool {
        self.inner.timers.remove(timer)
    }

    /// The loop returns from [`run`](super::EventLoop::run) after this round. Connections stay as they are.
    pub const fn stop(&mut self) {
        self.inner.is_stopped = true;
    }

    /// For other threads.
    #[must_use]
    pub fn handle(&self) -> Handle<S> {
        self.inner.handle.clone()
    }

    /// Calls user code. If it panics, its connection ends in order, and the loop says so then.
    pub(super) fn guarded(&mut self, connection: Option<ConnectionId>, call: impl FnOnce(&mut Ctx<'_, S>)) {
        let mut inside = Ctx::new(self.inner, self.state);
        // Whatever state the callback leaves the application's data in, the loop's own is whole: callbacks only reach it through calls.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| call(&mut inside))) {
            self.inner.note_panic(connection, &*payload);
        }
    }

    pub(super) fn run_posted(&mut self) {
        for call in self.inner.handle.take() {
            self.guarded(None, call);
        }
    }

    pub(super) fn run_timers(&mut self) {
        let now = Instant::now();
        while let Some(call) = self.inner.timers.take_due(now) {
            self.guarded(None, call);
        }
    }
}
