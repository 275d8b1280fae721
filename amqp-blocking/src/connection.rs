//! The handle of a connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use amqp_async::{ChannelOptions, CloseReport, ConnectionEvent, ConsumerEnd, Error};
use amqp_net::ConnectError;
use amqp_proto::{CloseReason, Config, Counters, Negotiated, Returned, Secret};

use crate::channel::BlockingChannel;
use crate::connect::Connector;
use crate::delivery::Delivery;
use crate::dispatch::{
    CallbackId, Dispatch, EventCallback, Listening, Registered, Removable, State, Taken, TimerId, Turn,
};
use crate::error::{DispatchError, PostError, is_requested, panic_message};
use crate::wait::ask;

/// How much longer than the I/O thread the caller waits for a close: it is that thread's to say that it took too long.
const GRACE: Duration = Duration::from_secs(5);

/// How much is handled before whoever asked for it gets its turn.
const MOST_TURNS: usize = 256;

/// A connection to a broker. Clones are handles of the same one.
///
/// When the last handle is dropped, those of its channels included, the connection is closed in an orderly way in the background;
/// [`close`](Self::close) waits for it, and a program should before it ends.
#[derive(Debug, Clone)]
pub struct BlockingConnection {
    connection: amqp_async::Connection,
    dispatch: Arc<Dispatch>,
    timeout: Duration,
    close_timeout: Duration,
}

/// Runs callbacks on the thread that waits for a connection, from any other thread. It does not keep the connection from being closed.
#[derive(Debug, Clone)]
pub struct Handle {
    dispatch: Weak<Dispatch>,
}

/// What came of a turn.
pub(crate) enum Step<T> {
    Found(T),
    /// A callback ran.
    Handled,
    /// Something happened that no callback is for.
    Unheard,
    Late,
}

impl BlockingConnection {
    pub(crate) fn new(connection: amqp_async::Connection, config: &Config) -> Self {
        let dispatch = Arc::new(Dispatch::new(connection.events()));
        Self {
            connection,
            dispatch,
            timeout: config.request_timeout,
            close_timeout: config.close_timeout,
        }
    }

    /// Connects to the broker of that URI ([`AmqpUri`](amqp_proto::AmqpUri)); [`Connector`] can do more.
    ///
    /// # Errors
    /// A URI that cannot be read; all that was tried and why it failed.
    pub fn connect(uri: &str) -> Result<Self, ConnectError> {
        Connector::from_uri(uri)?.connect()
    }

    pub(crate) const fn dispatch(&self) -> &Arc<Dispatch> {
        &self.dispatch
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The handle of the asynchronous client, which has all that is not here. Its futures can be waited for by any executor. What it runs
    /// in the background runs on the I/O thread, where nothing may wait: neither for these calls nor for anything else.
    #[must_use]
    pub const fn asynchronous(&self) -> &amqp_async::Connection {
        &self.connection
    }

    /// Opens a channel that confirms what is published on it.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`], [`SendError::NoFreeChannel`](amqp_proto::SendError::NoFreeChannel), [`Error::Timeout`].
    pub fn channel(&self) -> Result<BlockingChannel, Error> {
        self.channel_with(ChannelOptions::default())
    }

    /// Opens the channel with that number.
    ///
    /// # Errors
    /// As [`channel`](Self::channel); [`SendError::ChannelInUse`](amqp_proto::SendError::ChannelInUse),
    /// [`SendError::ChannelNumber`](amqp_proto::SendError::ChannelNumber).
    pub fn channel_with_id(&self, number: u16) -> Result<BlockingChannel, Error> {
        self.channel_with(ChannelOptions::default().number(number))
    }

    /// Opens a channel as those options say.
    ///
    /// # Errors
    /// As [`channel_with_id`](Self::channel_with_id).
    pub fn channel_with(&self, options: ChannelOptions) -> Result<BlockingChannel, Error> {
        BlockingChannel::open(self, options)
    }

    /// Closes it without waiting for handlers: waits for confirms, for half of [`Config::close_timeout`] at most, then closes channels
    /// and connection, all within that time, and says what was left. Whoever waits for something on the connection learns that it ended.
    /// Handlers may call this.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the I/O thread does not come to it, which is only while it runs somebody's code.
    pub fn close(&self) -> Result<CloseReport, Error> {
        let limit = self.close_timeout.saturating_add(GRACE);
        ask(limit, self.connection.close()).ok_or(Error::Timeout)
    }

    /// Finishes what is under way, then closes it, all within `timeout`, and says what was abandoned: consumers are cancelled, and what
    /// they have not taken goes back to its queue; handlers that run on other threads end, and what was taken is settled; the broker
    /// confirms what was published; channels and connection are closed. [`Connection::shutdown`](amqp_async::Connection::shutdown) has
    /// the details.
    ///
    /// On this thread nothing is handled meanwhile. A handler that calls this is one that it would wait for: [`close`](Self::close) is for
    /// those.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn shutdown(&self, timeout: Duration) -> Result<CloseReport, Error> {
        let limit = timeout.saturating_add(GRACE);
        ask(limit, self.connection.shutdown(timeout)).ok_or(Error::Timeout)
    }

    /// Whether it can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.connection.is_closed()
    }

    /// Why the broker takes no publishes at the moment, if it does not (RabbitMQ page "Blocked Connection Notifications").
    #[must_use]
    pub fn blocked(&self) -> Option<Arc<str>> {
        self.connection.blocked()
    }

    /// Renews a token before it expires (RabbitMQ page "OAuth 2").
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`] if the broker refuses it, [`Error::Timeout`].
    pub fn update_secret(&self, secret: &Secret, reason: &str) -> Result<(), Error> {
        let updating = self.connection.update_secret(secret, reason);
        ask(self.timeout, updating).unwrap_or(Err(Error::Timeout))
    }

    /// The limits that both sides agreed on.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        self.connection.negotiated()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.connection.counters()
    }

    /// How many octets wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.connection.queued_bytes()
    }
}

/// Callbacks. They run on a thread that waits: in [`process_data_events`](Self::process_data_events), [`sleep`](Self::sleep),
/// [`start_consuming`](BlockingChannel::start_consuming) or a [`Consumer`](crate::Consumer).
impl BlockingConnection {
    /// Handles what happens: deliveries to the handlers of all channels, timers, callbacks. Waits for the first of it for `limit` at
    /// most, then goes on with what is there, and says how many of them ran: 256 at most. What no callback is for does not count.
    ///
    /// # Errors
    /// [`DispatchError::Handler`], [`DispatchError::Panicked`]; [`DispatchError::Closed`] when the connection has ended and nothing is
    /// left.
    pub fn process_data_events(&self, limit: Duration) -> Result<usize, DispatchError> {
        let mut deadline = Instant::now().checked_add(limit);
        let mut count = 0;
        for _ in 0..MOST_TURNS {
            let step = self.step(deadline, |state, cx| state.poll_consumers(None, cx));
            match step {
                // It is told the next time.
                Err(DispatchError::Closed(_)) if count > 0 => break,
                Err(error) => return Err(error),
                Ok(Step::Late) => break,
                Ok(Step::Handled) => {}
                Ok(Step::Unheard) => continue,
                Ok(Step::Found(Taken::End(ended, reason))) => {
                    if !self.tell_of_end(*ended, &reason)? {
                        continue;
                    }
                }
                Ok(Step::Found(Taken::Delivery(registered, delivery))) => {
                    self.deliver(registered, delivery)?
                }
            }
            count += 1;
            deadline = Some(Instant::now());
        }
        Ok(count)
    }

    /// Waits for so long, and runs callbacks and timers meanwhile. Deliveries wait.
    ///
    /// # Errors
    /// As [`process_data_events`](Self::process_data_events).
    pub fn sleep(&self, duration: Duration) -> Result<(), DispatchError> {
        let deadline = Instant::now().checked_add(duration);
        loop {
            match self.step(deadline, |_, _| Poll::<()>::Pending)? {
                Step::Late => return Ok(()),
                Step::Handled | Step::Unheard | Step::Found(()) => {}
            }
        }
    }

    /// Runs a callback when so much time has passed and somebody waits.
    pub fn call_later(&self, delay: Duration, callback: impl FnOnce(&Self) + Send + 'static) -> TimerId {
        self.dispatch.set_timer(delay, Box::new(callback))
    }

    /// Removes what [`call_later`](Self::call_later) has set; says whether it was still there.
    pub fn remove_timeout(&self, timer: TimerId) -> bool {
        self.dispatch.remove_timer(timer)
    }

    /// Runs a callback on the thread that waits. From threads that should not keep the connection open: [`handle`](Self::handle).
    ///
    /// # Errors
    /// [`PostError`]
    pub fn add_callback_threadsafe(
        &self,
        callback: impl FnOnce(&Self) + Send + 'static,
    ) -> Result<(), PostError> {
        self.dispatch.post(Box::new(callback))
    }

    /// What other threads reach this connection's with.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let dispatch = Arc::downgrade(&self.dispatch);
        Handle { dispatch }
    }

    /// Runs a callback when the connection has ended, with the reason.
    pub fn add_on_close_callback(
        &self,
        mut callback: impl FnMut(&Self, &CloseReason) + Send + 'static,
    ) -> CallbackId {
        self.add_event_callback(move |connection, event| match event {
            ConnectionEvent::Closed(reason) => {
                callback(connection, reason);
                true
            }
            _ => false,
        })
    }

    /// Runs a callback whenever the broker takes no publishes any more, with its reason.
    pub fn add_on_connection_blocked_callback(
        &self,
        mut callback: impl FnMut(&Self, &str) + Send + 'static,
    ) -> CallbackId {
        self.add_event_callback(move |connection, event| match event {
            ConnectionEvent::Blocked { reason } => {
                callback(connection, reason);
                true
            }
            _ => false,
        })
    }

    /// Runs a callback whenever the broker takes publishes again.
    pub fn add_on_connection_unblocked_callback(
        &self,
        mut callback: impl FnMut(&Self) + Send + 'static,
    ) -> CallbackId {
        self.add_event_callback(move |connection, event| match event {
            ConnectionEvent::Unblocked => {
                callback(connection);
                true
            }
            _ => false,
        })
    }

    /// Runs a callback whenever too much waits to be written, with its size and the limit, both in octets
    /// ([`Config::backpressure_multiplier`]).
    pub fn add_backpressure_callback(
        &self,
        mut callback: impl FnMut(&Self, usize, usize) + Send + 'static,
    ) -> CallbackId {
        self.add_event_callback(move |connection, event| match event {
            ConnectionEvent::BackpressureOn { queued, limit } => {
                callback(connection, *queued, *limit);
                true
            }
            _ => false,
        })
    }

    /// Runs a callback for all that happens to the connection.
    pub fn add_on_event_callback(
        &self,
        mut callback: impl FnMut(&Self, &ConnectionEvent) + Send + 'static,
    ) -> CallbackId {
        self.add_event_callback(move |connection, event| {
            callback(connection, event);
            true
        })
    }

    /// Removes what was added with any `add_..` method of this connection or one of its channels; says whether it was still there. It is
    /// not called again, and a callback may remove itself.
    pub fn remove_callback(&self, id: &CallbackId) -> bool {
        self.dispatch.remove_callback(id)
    }

    fn add_event_callback(
        &self,
        callback: impl FnMut(&Self, &ConnectionEvent) -> bool + Send + 'static,
    ) -> CallbackId {
        self.dispatch.add_event_callback(Box::new(callback))
    }

    /// Waits for what `look` finds, or runs one callback.
    pub(crate) fn step<T>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut(&mut State, &mut Context<'_>) -> Poll<T>,
    ) -> Result<Step<T>, DispatchError> {
        match self.dispatch.wait(deadline, look) {
            Turn::Found(found) => Ok(Step::Found(found)),
            Turn::Late => Ok(Step::Late),
            Turn::Closed(reason) => Err(DispatchError::Closed(reason)),
            Turn::Call(call) => self.guard(|| call(self)).map(|()| Step::Handled),
            Turn::Event(event, callbacks) => self.tell(&event, callbacks),
            Turn::Returned(listening, Some(returned)) => self.give_back(listening, returned),
            // The channel has ended.
            Turn::Returned(_, None) => Ok(Step::Unheard),
        }
    }

    /// Tells all callbacks of an event.
    fn tell<T>(
        &self,
        event: &ConnectionEvent,
        mut callbacks: Vec<Removable<EventCallback>>,
    ) -> Result<Step<T>, DispatchError> {
        let mut running = None;
        let is_heard = self.guard(|| {
            let mut is_heard = false;
            for callback in &mut callbacks {
                running = Some(callback.id());
                // One before it may have removed it.
                is_heard |= callback.get().is_some_and(|callback| callback(self, event));
            }
            is_heard
        });
        if let (Err(_), Some(panicked)) = (&is_heard, running) {
            // It is not called again.
            self.dispatch.remove_callback(&panicked);
        }
        self.dispatch.put_event_callbacks_back(callbacks);
        is_heard.map(|is_heard| if is_heard { Step::Handled } else { Step::Unheard })
    }

    /// Tells who listens of what came back.
    fn give_back<T>(&self, mut listening: Listening, returned: Returned) -> Result<Step<T>, DispatchError> {
        let Some(channel) = listening.channel.upgrade() else {
            return Ok(Step::Unheard);
        };
        let channel = BlockingChannel::of(channel, self);
        let Some(callback) = listening.callback.get() else {
            return Ok(Step::Unheard);
        };
        self.guard(|| callback(&channel, returned))?;
        // Before the channel, which takes it along if this is its last handle.
        self.dispatch.add_listening(listening);
        Ok(Step::Handled)
    }

    /// Tells who wants to know that a consumer has ended, unless that was asked for; says whether there was somebody.
    pub(crate) fn tell_of_end(&self, ended: Registered, reason: &ConsumerEnd) -> Result<bool, DispatchError> {
        if is_requested(reason) {
            return Ok(false);
        }
        let Registered { channel, tag, .. } = ended;
        let key = channel.key;
        let channel = BlockingChannel::of(channel, self);
        let mut callbacks = self.dispatch.take_cancel_callbacks(key);
        let result = self.guard(|| {
            let mut is_heard = false;
            for callback in callbacks.iter_mut().filter_map(|(_, callback)| callback.get()) {
                callback(&channel, &tag, reason);
                is_heard = true;
            }
            is_heard
        });
        // Before the channel, which takes them along if this is its last handle.
        self.dispatch.put_cancel_callbacks_back(callbacks);
        result
    }

    /// Calls a handler.
    pub(crate) fn deliver(
        &self,
        mut registered: Box<Registered>,
        delivery: amqp_async::Delivery,
    ) -> Result<(), DispatchError> {
        let channel = BlockingChannel::of(Arc::clone(&registered.channel), self);
        let _working = self.connection.working();
        let delivery = Delivery::new(delivery, self.timeout);
        let result = self.guard(|| (registered.handler)(&channel, delivery));
        if result.is_err() {
            // What panicked is not called again.
            let (key, tag) = (registered.channel.key, &*registered.tag);
            self.dispatch.forget_running(key, tag);
        } else if let Some(cancelled) = self.dispatch.put_consumer_back(registered) {
            // Dropped, it is cancelled.
            drop(cancelled);
        }
        result?.map_err(DispatchError::Handler)
    }

    /// Runs somebody's code. If it panics the connection is closed in order.
    fn guard<R>(&self, callback: impl FnOnce() -> R) -> Result<R, DispatchError> {
        catch_unwind(AssertUnwindSafe(callback)).map_err(|payload| {
            // However that goes, the connection has ended or is about to.
            let _ = self.close();
            DispatchError::Panicked(panic_message(&*payload))
        })
    }
}

impl Handle {
    /// Runs a callback on the thread that waits.
    ///
    /// # Errors
    /// [`PostError`]
    pub fn add_callback_threadsafe(
        &self,
        callback: impl FnOnce(&BlockingConnection) + Send + 'static,
    ) -> Result<(), PostError> {
        let dispatch = self.dispatch.upgrade().ok_or(PostError::Closed)?;
        dispatch.post(Box::new(callback))
    }
}
