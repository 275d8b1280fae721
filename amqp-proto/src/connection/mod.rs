//! A connection: octets and time in, events and octets out.
// Octets from a stranger and calls of any kind reach this code. (Tests may fail, so they and the models in them are let off.)
#![cfg_attr(
    not(any(test, feature = "fuzzing")),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod close;
mod handshake;
mod receive;
mod state;
mod timeout;

pub use handshake::Negotiated;
pub use state::ConnectionState;
pub use timeout::TimeoutReason;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

use bytes::Buf;

use crate::channel::{ChannelState, ConfirmOutcome, Purpose, Requests};
use crate::error::{CloseReason, SendError, TransportError};
use crate::event::Event;
use crate::id::{ChannelId, RequestId};
use crate::link::Link;
use crate::time::Instant;
use crate::trace::FrameTap;
use crate::wire::*;
use crate::{Channel, Config, Counters, InFlight, RecvBuf, Secret, SendBuf};
use receive::Common;
use state::State;
use timeout::Deadlines;

/// The client's end of one AMQP connection, from the protocol header to the last frame. It does no I/O and reads no clock.
///
/// ```text
///                                     ┌──────────── poll_event ────────────▶ Event
///   socket ──▶ RecvBuf ── poll_event ─┤
///   commands ─────────────────────────┼──────────── poll_transmit ─▶ SendBuf ──▶ socket
///   clock ── handle_timeout ──────────┘──────────── poll_timeout ──▶ when to wake
/// ```
///
/// There are four kinds of method:
///
/// * **Inputs**, `handle_*`: something happened outside. They cannot fail; what follows comes as events.
/// * **Outputs**, `poll_*`: what is to be done outside.
/// * **Commands**: what the application wants. They write whole frames or nothing, may be given at any time, in any number,
///   and take no time: a request's deadline starts when its octets are handed over.
/// * **Getters.**
///
/// # The loop
///
/// After every input and command, and after every write:
///
/// 1. call [`poll_event`](Self::poll_event) until it gives `None`,
/// 2. call [`poll_transmit`](Self::poll_transmit) and write, as long as it says `true` and the socket takes it,
/// 3. sleep until the socket can be read, can be written (if something is left), or [`poll_timeout`](Self::poll_timeout) is
///    reached, which calls for [`handle_timeout`](Self::handle_timeout).
///
/// If step 2 made an event (there is room again), `poll_timeout` gives a moment that has passed, so that nobody sleeps over it.
///
/// Events are made as they are asked for: octets that nobody asks about stay unread in the [`RecvBuf`], and that it fills up
/// is the back-pressure. What ended stays ended: after [`Event::Closed`] nothing more comes, and every command is
/// [`SendError::Closed`]; what is left to be written (an answer to the peer's close, or ours) is still handed over, until
/// [`is_drained`](Self::is_drained).
///
/// `docs/embedding.md` in the repository has loops for several kinds of I/O.
///
/// ```
/// use amqp_proto::{Config, Connection, Event, Instant, RecvBuf, SendBuf};
/// use bytes::Buf;
/// use std::sync::Arc;
///
/// let mut connection = Connection::new(Arc::new(Config::default()), Instant::EPOCH, 0);
/// let (mut input, mut output) = (RecvBuf::new(), SendBuf::new());
/// assert!(connection.poll_transmit(Instant::EPOCH, &mut output));
/// assert_eq!(output.chunk(), b"AMQP\0\0\x09\x01");
///
/// input.extend(b"HTTP/1.1 400 Bad Request\r\n\r\n");
/// let Some(Event::Closed(reason)) = connection.poll_event(Instant::EPOCH, &mut input) else { panic!() };
/// assert!(reason.to_string().contains("does not speak AMQP"));
/// ```
pub struct Connection {
    state: State,
    link: Link,
    channels: BTreeMap<u16, Box<ChannelState>>,
    /// Requests on channel 0.
    requests: Requests,
    limits: FrameLimits,
    negotiated: Negotiated,
    server_properties: FieldTable,
    /// The name of the mechanism that was chosen; `None` before.
    mechanism: Option<String>,
    /// Of the next channel.
    incarnation: u32,
    /// Where to look for a free channel number next; they go round, so that a number rests before it is used again.
    next_channel: u16,
    /// Numbers of channels that were closed: if by the peer, it may have said so more than once.
    closed_by_peer: BTreeSet<u16>,
    deadlines: Deadlines,
    /// Why the peer reads nothing, while it does not.
    blocked: Option<Arc<str>>,
    /// How much of the input was there and looked at the last time.
    seen: usize,
    /// Of that, no whole frame is left.
    is_starved: bool,
    /// The stream has ended, and why if that is known.
    disconnected: Option<TransportError>,
    close_reason: Option<CloseReason>,
}

/// Outputs.
impl Connection {
    /// The next event, `None` when nothing more follows from what is there.
    ///
    /// Takes frames out of `input` up to the next event, and no further. `input` must be the same buffer each time; its limit is
    /// raised to what the negotiated frames need.
    #[inline]
    #[must_use = "an event is told once"]
    pub fn poll_event(&mut self, now: Instant, input: &mut RecvBuf) -> Option<Event> {
        if !self.link.events.is_empty() {
            return self.link.events.pop_front();
        }
        let arrived = input.unread().len();
        if arrived != self.seen {
            self.deadlines.note_received(now);
        } else if self.is_starved && !self.deadlines.is_noted() {
            return None; // as the last time
        }
        self.is_starved = false;
        match self.common_event(input) {
            Some(Common::Delivery(small)) => {
                self.seen = input.unread().len().saturating_sub(small.size());
                Some(Event::Delivery(small.take(input)))
            }
            Some(Common::Acked { tags, size }) => {
                input.consume(size);
                self.note_seen(input);
                let outcome = ConfirmOutcome::Acked;
                Some(Event::Confirmed { tags, outcome })
            }
            None => self.next_event(now, input),
        }
    }

    /// Hands over what is to be written, and says whether there is something to be written in `out`.
    ///
    /// Only an empty `out` is filled; of one that is not, it is noted how much is left, which counts as back-pressure. Call
    /// it after a write too, until it says `false` or the socket takes no more.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, out: &mut SendBuf) -> bool {
        let was_behind = out.has_remaining();
        let was_over_limit = self.link.is_over_limit();
        let is_left = if !was_behind && self.has_nothing_to_send(now) {
            self.link.note_all_written();
            false
        } else {
            self.transmit(now, out, was_behind)
        };
        if was_over_limit && !self.link.is_over_limit() {
            // What lies unread for want of room is read now: nobody must sleep over it.
            self.deadlines.note_timeout(now);
        }
        is_left
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` for never, as far as is known now.
    ///
    /// A moment that has passed means at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.next_timeout()).filter(|at| *at != Instant::MAX)
    }
}

/// Inputs.
impl Connection {
    /// The client's end of a new stream, at the moment the stream is there. Queues the protocol header.
    ///
    /// `first_incarnation` is 0, or the predecessor's [`next_incarnation`](Self::next_incarnation), so that tags of its channels
    /// are recognised as stale.
    #[must_use]
    pub fn new(config: Arc<Config>, now: Instant, first_incarnation: u32) -> Self {
        let other = config.max_method_frame;
        Self {
            state: State::Start,
            deadlines: Deadlines::new(now, config.handshake_timeout),
            link: Link::new(config),
            channels: BTreeMap::new(),
            // Channel 0 has no incarnation, so its requests are told apart from the predecessor's by their number.
            requests: Requests::starting_at(ChannelId::CONNECTION, u64::from(first_incarnation) << 32),
            limits: FrameLimits {
                body: FRAME_MIN_SIZE,
                other,
            },
            negotiated: Negotiated::default(),
            server_properties: FieldTable::new(),
            mechanism: None,
            incarnation: first_incarnation,
            next_channel: 1,
            closed_by_peer: BTreeSet::new(),
            blocked: None,
            seen: 0,
            is_starved: false,
            disconnected: None,
            close_reason: None,
        }
    }

    /// Time has passed: [`poll_timeout`](Self::poll_timeout) is reached. Too early or too often does no harm.
    ///
    /// What was due is told by [`poll_event`](Self::poll_event) once no whole frame lies unread, since the answer may be among
    /// them.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.deadlines.note_timeout(now);
    }

    /// The stream has ended (`None`), or failed. What lies unread is still told, then [`Event::Closed`]: a
    /// `connection.close` in the buffer says more than the reset behind it.
    pub fn handle_disconnect(&mut self, now: Instant, error: Option<TransportError>) {
        self.deadlines.note_timeout(now);
        if self.disconnected.is_none() {
            self.disconnected = Some(error.unwrap_or_else(TransportError::end_of_stream));
        }
    }

    /// The caller stops reading the socket, to hold the peer back; that nothing arrives means nothing until
    /// [`handle_resume`](Self::handle_resume).
    pub fn handle_pause(&mut self) {
        self.deadlines.pause();
    }

    /// The caller reads the socket again.
    pub fn handle_resume(&mut self, now: Instant) {
        self.deadlines.resume(now);
    }
}

/// Commands.
impl Connection {
    /// Opens a channel with a free number. It can be used at once; [`Event::ChannelOpened`] confirms it.
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::Closed`], [`SendError::NoFreeChannel`], [`SendError::Full`].
    pub fn open_channel(&mut self) -> Result<ChannelId, SendError> {
        self.check_open()?;
        let channel_max = self.channel_max();
        let after = self.next_channel..=channel_max;
        let mut numbers = after.chain(1..self.next_channel);
        let free = numbers.find(|number| !self.channels.contains_key(number));
        self.send_open(free.ok_or(SendError::NoFreeChannel { channel_max })?)
    }

    /// Opens the channel of that number.
    ///
    /// # Errors
    /// [`SendError::ChannelNumber`], [`SendError::ChannelInUse`]; as [`open_channel`](Self::open_channel).
    pub fn open_channel_with_number(&mut self, number: u16) -> Result<ChannelId, SendError> {
        self.check_open()?;
        let channel_max = self.channel_max();
        if number == 0 || number > channel_max {
            return Err(SendError::ChannelNumber { number, channel_max });
        }
        if self.channels.contains_key(&number) {
            return Err(SendError::ChannelInUse(number));
        }
        self.send_open(number)
    }

    /// A channel, to command it.
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::Closed`] while the connection is closing too, [`SendError::Stale`] if the channel
    /// has ended.
    #[inline]
    pub fn channel(&mut self, id: ChannelId) -> Result<Channel<'_>, SendError> {
        if !self.is_open() {
            self.check_open()?;
        }
        match self.channels.get_mut(&id.number()) {
            Some(state) if state.id == id && !state.is_abandoned() => Ok(Channel::new(state, &mut self.link)),
            _ => Err(SendError::Stale),
        }
    }

    /// Nobody waits for the answer of that request any more: it is discarded when it comes. What it would leave behind is
    /// undone: a consumer is cancelled, a message goes back to its queue. If it was told already, nothing happens.
    pub fn abandon<T>(&mut self, request: RequestId<T>) {
        let request = request.untyped();
        let channel = request.channel();
        if channel == ChannelId::CONNECTION {
            self.requests.abandon(request);
        } else if let Some(state) = self.channels.get_mut(&channel.number())
            && state.id == channel
        {
            state.abandon(request);
        }
    }

    /// Renews a token before it expires (RabbitMQ page "OAuth 2"). [`Event::Reply`] answers it, on
    /// [`ChannelId::CONNECTION`]; a token that is refused ends the connection (530).
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::Closed`], [`SendError::Full`]; a token that fits no frame, a reason over 255
    /// octets.
    pub fn update_secret(
        &mut self,
        new_secret: &Secret,
        reason: &str,
    ) -> Result<RequestId<ConnectionUpdateSecret<'static>>, SendError> {
        self.check_open()?;
        if self.requests.is_full() {
            return Err(SendError::TooManyRequests);
        }
        self.link.check_high_water()?;
        let method = ConnectionUpdateSecret {
            new_secret: SecretStr::new(new_secret.expose()),
            reason: ShortStr::new(reason)?,
        };
        self.link.method(0, &method)?;
        self.link.note_unsent(0);
        Ok(self.requests.push(ConnectionUpdateSecret::SPEC, Purpose::Plain))
    }

    /// Cancels all consumers, and takes no new ones: [`SendError::ShuttingDown`]. Those of direct reply-to are no such: answers to what is
    /// asked here still come. What still comes to them goes back to its queue and is
    /// not told, but for what wants no acknowledgement, which the broker has forgotten already. Whoever has to wait until all are gone
    /// looks at [`in_flight`](Self::in_flight).
    pub fn cancel_consumers(&mut self) {
        self.link.takes_no_consumers = true;
        for state in self.channels.values_mut().filter(|state| state.is_usable()) {
            state.cancel_consumers(&mut self.link);
        }
    }

    /// Closes the connection: first the consumers and channels, then the connection, within
    /// [`Config::close_timeout`]. What was written before is sent before. [`Event::Closed`] is its end.
    ///
    /// During the handshake, and while it is closing, there is nothing to be polite about: the former ends at once, the
    /// latter goes on. A text over 255 octets is cut.
    pub fn close(&mut self, code: ReplyCode, text: &str) {
        self.begin_close(code, text);
    }

    /// Another multiplier than [`Config::backpressure_multiplier`].
    pub fn set_backpressure_multiplier(&mut self, multiplier: u32) {
        self.link.set_backpressure_multiplier(multiplier);
    }

    /// Shows every frame from now on to `tap`, or to nobody.
    pub fn set_tap(&mut self, tap: Option<Box<dyn FrameTap>>) {
        self.link.tap = tap;
        self.is_starved = false;
    }
}

/// Getters.
impl Connection {
    /// What it is doing.
    #[must_use]
    pub const fn state(&self) -> ConnectionState {
        self.state.summary(self.blocked.is_some())
    }

    /// Whether channels can be opened and used.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Why it ended, once it has.
    #[must_use]
    pub const fn close_reason(&self) -> Option<&CloseReason> {
        self.close_reason.as_ref()
    }

    /// Why the peer reads nothing, while it does not.
    #[must_use]
    pub fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// The limits that both sides agreed on; all zero before that.
    #[must_use]
    pub const fn negotiated(&self) -> Negotiated {
        self.negotiated
    }

    /// What the server said of itself: product, version, capabilities; empty before it did.
    #[must_use]
    pub fn server_properties(&self) -> FieldTableRef<'_> {
        self.server_properties.as_ref()
    }

    /// The name of the authentication mechanism that was chosen, the first of [`Config::credentials`] that the server offers;
    /// `None` before that.
    #[must_use]
    pub fn mechanism(&self) -> Option<&str> {
        self.mechanism.as_deref()
    }

    /// Whether the server says that it has that capability, such as `consumer_cancel_notify`.
    #[must_use]
    pub fn server_has(&self, capability: &str) -> bool {
        let capabilities = self.server_properties.get("capabilities");
        let value = capabilities
            .and_then(|value| value.as_table())
            .and_then(|table| table.get(capability).ok().flatten());
        value.and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// How many octets wait to be written: here, and at the caller as of the last
    /// [`poll_transmit`](Self::poll_transmit).
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.link.queued()
    }

    /// Whether nothing is left to hand over; what the caller was handed and has not written is its own to know. When a closed
    /// connection is drained and all is written, the stream can be closed.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.link.is_empty()
    }

    /// What [`poll_timeout`](Self::poll_timeout) is about.
    #[must_use]
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.next_timeout_reason()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.link.counters
    }

    /// What is under way on all channels. Of handlers, and of what waits to be taken, it knows nothing.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        let mut all = InFlight::default();
        for state in self.channels.values().filter(|state| !state.is_abandoned()) {
            all.consumers += state.consumers.count();
            all.unsettled += state.unsettled();
            all.unconfirmed += state.unconfirmed();
        }
        all
    }

    /// How many channels there are, those that are closing included.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// For the [`Connection::new`] that comes after this one.
    #[must_use]
    pub const fn next_incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The settings it was made with.
    #[must_use]
    pub const fn config(&self) -> &Arc<Config> {
        &self.link.config
    }
}

impl Connection {
    #[inline]
    const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    #[inline(never)]
    fn transmit(&mut self, now: Instant, out: &mut SendBuf, was_behind: bool) -> bool {
        self.advance_close();
        if self.link.acks_due <= now {
            self.flush_due_acks(now);
        }
        self.queue_heartbeat(now, was_behind);
        if self.link.tap.is_some() && !was_behind {
            self.link.tap_queued(now);
        }
        let is_handed_over = self.link.hand_over(out);
        if is_handed_over {
            self.deadlines.note_sent(now);
        }
        self.start_timeouts(now, is_handed_over);
        if !self.is_closed() {
            self.link.watch_marks(was_behind);
        }
        out.has_remaining()
    }

    /// Neither octets, nor anything to look at when there are none.
    #[inline]
    fn has_nothing_to_send(&self, now: Instant) -> bool {
        let is_due = self.deadlines.send() <= now || self.link.acks_due <= now;
        self.link.is_quiet() && !is_due && !matches!(self.state, State::Closing { .. })
    }

    fn check_open(&self) -> Result<(), SendError> {
        match self.state {
            State::Open => Ok(()),
            State::Closing { .. } | State::Closed => Err(SendError::Closed),
            _ => Err(SendError::NotConnected),
        }
    }

    const fn channel_max(&self) -> u16 {
        match self.negotiated.channel_max {
            0 => u16::MAX,
            limit => limit,
        }
    }

    /// The number is free.
    fn send_open(&mut self, number: u16) -> Result<ChannelId, SendError> {
        self.link.check_high_water()?;
        self.link.method(number, &ChannelOpen {})?;
        self.link.note_unsent(number);
        let id = ChannelId::new(number, self.incarnation);
        self.incarnation = self.incarnation.wrapping_add(1);
        self.next_channel = number.checked_add(1).unwrap_or(1);
        let mut state = Box::new(ChannelState::new(id));
        let _: RequestId = state.requests.push(ChannelOpen::SPEC, Purpose::Open);
        self.channels.insert(number, state);
        Ok(id)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state())
            .field("negotiated", &self.negotiated)
            .field("channels", &self.channels.len())
            .field("queued_bytes", &self.queued_bytes())
            .field("close_reason", &self.close_reason)
            .finish_non_exhaustive()
    }
}
