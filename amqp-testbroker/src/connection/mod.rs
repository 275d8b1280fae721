//! The server's end of one connection: frames in, and what has to be said to the peer.

mod basic;
mod channel;
mod confirm;
mod content;
mod context;
mod exchange;
mod frame;
mod handshake;
mod heartbeat;
mod output;
mod publish;
mod queue;
mod sasl;
mod settle;
mod tx;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{Instant, Message, RecvBuf, SendBuf};

use crate::broker::{Common, ConnectionKey};
use crate::config::{BrokerConfig, Permissions};
use crate::refusal::{Refusal, Scope};
use crate::vhost::{ConsumerKey, Entry as QueueEntry};

use channel::{Channel, Failure};
use context::Context;
use frame::Delimited;
use heartbeat::Heartbeat;
use output::Output;

/// How long RabbitMQ keeps silent before it drops a peer that it does not trust.
const SILENT_CLOSE_DELAY: Duration = Duration::from_secs(3);

/// How long RabbitMQ waits for `connection.close-ok`.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(30);

/// What the connection came through.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain,
    Tls {
        /// The name in the client's certificate, if it showed one.
        certificate_name: Option<String>,
    },
}

/// Where a connection is in its life. The names in brackets are RabbitMQ's.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The protocol header is awaited.
    ProtocolHeader,
    /// `connection.start` is out (starting).
    Starting,
    /// `connection.secure` is out, for that user (securing).
    Securing { user: String },
    /// `connection.tune` is out (tuning).
    Tuning { user: String },
    /// `connection.open` is awaited (opening).
    Opening { user: String },
    /// All is well.
    Running,
    /// `connection.close` is out, and its answer awaited (closing).
    Closing,
    /// Nothing is read nor said until the deadline.
    Silent,
    /// Only to be written out and closed.
    Over,
}

/// Who is connected, and where.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    pub(crate) host: Arc<str>,
    pub(crate) permissions: Permissions,
}

/// What the client said that it can do.
#[derive(Debug, Default, Clone, Copy)]
struct Capabilities {
    consumer_cancel_notify: bool,
    connection_blocked: bool,
    authentication_failure_close: bool,
}

/// The server's end of one connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    stream: Stream,
    state: State,
    /// When the handshake, the silence or the wait for `close-ok` ends.
    deadline: Option<Instant>,
    capabilities: Capabilities,
    channel_max: u16,
    frame_max: u32,
    heartbeat: Option<Heartbeat>,
    session: Option<Session>,
    channels: BTreeMap<u16, Channel>,
    output: Output,
    /// It published while resources are low: it was told so, and nothing is read.
    is_blocked: bool,
    /// A fault: nothing is read.
    is_deaf: bool,
    /// A fault: nothing is written.
    pub(crate) is_mute: bool,
    /// A fault: after so many more octets it is over.
    pub(crate) hang_up_after: Option<usize>,
    /// Something happened that the caller is to look at.
    has_news: bool,
}

impl Connection {
    pub(crate) fn new(key: ConnectionKey, config: &BrokerConfig, now: Instant, stream: Stream) -> Self {
        Self {
            key,
            stream,
            state: State::ProtocolHeader,
            deadline: Some(now + config.handshake_timeout),
            capabilities: Capabilities::default(),
            channel_max: config.channel_max,
            frame_max: config.frame_max,
            heartbeat: None,
            session: None,
            channels: BTreeMap::new(),
            output: Output::default(),
            is_blocked: false,
            is_deaf: false,
            is_mute: false,
            hang_up_after: None,
            has_news: false,
        }
    }

    /// Takes one frame, or the protocol header. `false` if there is none, or it does not read.
    pub(crate) fn step(&mut self, common: &mut Common, now: Instant, input: &mut RecvBuf) -> bool {
        if matches!(self.state, State::Silent | State::Over) {
            input.consume(usize::MAX);
            return false;
        }
        if self.is_blocked || self.is_deaf || self.output.is_congested() {
            return false;
        }
        if self.state == State::ProtocolHeader {
            return self.on_protocol_header(common, input);
        }
        let largest = self.largest_payload(&common.config);
        input.raise_limit((largest as usize).saturating_add(FRAME_OVERHEAD as usize));
        match Delimited::parse(input.unread(), largest, common.config.release) {
            Ok(Some(frame)) => {
                let size = frame.size();
                if let Some(heartbeat) = &mut self.heartbeat {
                    heartbeat.note_received(now);
                }
                self.on_frame(common, now, frame);
                input.consume(size);
                true
            }
            Ok(None) => false,
            Err(error) => {
                self.fail_fatally(common, now, &error);
                input.consume(usize::MAX);
                true
            }
        }
    }

    /// RabbitMQ takes eight octets more than it says. Where there is no limit, no frame needs to be larger than a message.
    fn largest_payload(&self, config: &BrokerConfig) -> u32 {
        match self.frame_max {
            0 => u32::try_from(config.max_message_size)
                .unwrap_or(u32::MAX)
                .max(128 * 1024),
            frame_max => frame_max,
        }
    }

    fn on_frame(&mut self, common: &mut Common, now: Instant, frame: Delimited<'_>) {
        if self.state == State::Closing {
            self.on_frame_while_closing(common, now, frame);
            return;
        }
        let release = common.config.release;
        if frame.is_malformed() {
            let refusal = frame.error(release, "unknown_frame");
            self.fail(common, now, &refusal, MethodId::default());
            return;
        }
        match (frame.kind, frame.channel) {
            (Delimited::HEARTBEAT, 0) => {}
            (Delimited::METHOD, 0) => self.on_method(common, now, frame.payload),
            (Delimited::HEARTBEAT, _) | (_, 0) => {
                self.fail(common, now, &frame.unexpected(release), MethodId::default());
            }
            _ => self.on_channel_frame(common, now, frame),
        }
    }

    /// Once it is closing, only that goes on.
    fn on_frame_while_closing(&mut self, common: &mut Common, now: Instant, frame: Delimited<'_>) {
        if (frame.kind, frame.channel) != (Delimited::METHOD, 0) {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionClose(_)) => self.output.method(0, &ConnectionCloseOk {}),
            Ok(Method::ConnectionCloseOk(_)) => self.become_over(),
            Ok(_) => {}
            Err(error) => self.on_undecodable(common, now, &error),
        }
    }

    /// A method on channel 0.
    fn on_method(&mut self, common: &mut Common, now: Instant, payload: &[u8]) {
        let method = match Method::decode(payload) {
            Ok(method) => method,
            Err(error) => {
                self.on_undecodable(common, now, &error);
                return;
            }
        };
        let names = frame::check_names(&method);
        let result = match &method {
            _ if names.is_err() => names,
            _ if self.state != State::Running => self.on_handshake(common, now, &method),
            Method::ConnectionClose(_) => {
                self.end(common, now);
                self.output.method(0, &ConnectionCloseOk {});
                self.become_over();
                Ok(())
            }
            Method::ConnectionUpdateSecret(_) => {
                self.output.method(0, &ConnectionUpdateSecretOk {});
                Ok(())
            }
            _ => Err(self.unexpected_method()),
        };
        if let Err(refusal) = result {
            self.fail(common, now, &refusal, method.spec().id);
        }
    }

    fn unexpected_method(&self) -> Refusal {
        let state = match self.state {
            State::ProtocolHeader | State::Starting => "starting",
            State::Securing { .. } => "securing",
            State::Tuning { .. } => "tuning",
            State::Opening { .. } => "opening",
            State::Running => "running",
            State::Closing => "closing",
            State::Silent | State::Over => "closed",
        };
        Refusal::connection(
            ReplyCode::CHANNEL_ERROR,
            format_args!("unexpected method in connection state {state}"),
        )
    }

    /// Octets on channel 0 that are no method. RabbitMQ hangs up without a word at numbers that it does not know.
    fn on_undecodable(&mut self, common: &mut Common, now: Instant, error: &ProtocolError) {
        if matches!(error.problem, Problem::UnknownMethod { .. }) {
            self.end(common, now);
            self.hang_up();
        } else {
            self.fail(common, now, &Refusal::internal_error(), MethodId::default());
        }
    }

    /// A frame on a channel.
    fn on_channel_frame(&mut self, common: &mut Common, now: Instant, frame: Delimited<'_>) {
        let Some(session) = &self.session else {
            self.fall_silent(common, now);
            return;
        };
        let opened = self.channels.len();
        let channel = match self.channels.entry(frame.channel) {
            Entry::Occupied(channel) => channel.into_mut(),
            Entry::Vacant(_) if self.channel_max != 0 && opened >= usize::from(self.channel_max) => {
                let refusal = too_many_channels(opened, self.channel_max);
                self.fail(common, now, &refusal, MethodId::default());
                return;
            }
            Entry::Vacant(place) => place.insert(Channel::default()),
        };
        let mut cx = Context {
            now,
            connection: self.key,
            number: frame.channel,
            session,
            frame_max: self.frame_max,
            output: &mut self.output,
            common,
        };
        match channel.on_frame(&mut cx, &frame) {
            Ok(()) => {}
            Err(Failure::Refused(refusal, id)) if refusal.scope == Scope::Channel => {
                channel.close(&mut cx, &refusal, id);
            }
            Err(Failure::Refused(refusal, id)) => {
                self.fail(common, now, &refusal, id);
                return;
            }
            Err(Failure::HangUp) => {
                self.end(common, now);
                self.hang_up();
                return;
            }
        }
        if channel.is_gone() {
            self.channels.remove(&frame.channel);
        }
        if frame.kind != Delimited::METHOD
            && let Some(reason) = &common.alarm
        {
            self.become_blocked(reason);
        }
    }

    /// It published while resources are low.
    fn become_blocked(&mut self, reason: &str) {
        self.is_blocked = true;
        if self.capabilities.connection_blocked {
            let reason = ShortStr::new(reason).unwrap_or_default();
            self.output.method(0, &ConnectionBlocked { reason });
        }
    }

    /// Resources are fine again; says whether this one reads again.
    pub(crate) fn unblock(&mut self, now: Instant) -> bool {
        let was_blocked = std::mem::take(&mut self.is_blocked);
        if was_blocked && self.capabilities.connection_blocked {
            self.output.method(0, &ConnectionUnblocked {});
        }
        if let (true, Some(heartbeat)) = (was_blocked, &mut self.heartbeat) {
            heartbeat.note_received(now);
        }
        was_blocked
    }

    /// Does something with one of its channels; `None` without that channel.
    fn with_channel<T>(
        &mut self,
        common: &mut Common,
        now: Instant,
        number: u16,
        change: impl FnOnce(&mut Channel, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let mut cx = Context {
            now,
            connection: self.key,
            number,
            session: self.session.as_ref()?,
            frame_max: self.frame_max,
            output: &mut self.output,
            common,
        };
        Some(change(self.channels.get_mut(&number)?, &mut cx))
    }

    /// The peer made a mistake, with that method: it is told so, if it is trusted so far.
    pub(crate) fn fail(&mut self, common: &mut Common, now: Instant, refusal: &Refusal, id: MethodId) {
        let is_trusted = match self.state {
            State::Running | State::Closing => true,
            State::Opening { .. } => refusal.code == ReplyCode::NOT_ALLOWED,
            _ => false,
        };
        if !is_trusted {
            self.fall_silent(common, now);
            return;
        }
        self.end(common, now);
        self.say_close(refusal, id);
        self.state = State::Closing;
        self.deadline = Some(now + CLOSING_TIMEOUT);
    }

    /// Frames are out of step: nothing more can be read, after it was told why.
    fn fail_fatally(&mut self, common: &mut Common, now: Instant, refusal: &Refusal) {
        if matches!(self.state, State::Running | State::Closing) {
            self.say_close(refusal, MethodId::default());
        }
        self.fall_silent(common, now);
    }

    fn say_close(&mut self, refusal: &Refusal, id: MethodId) {
        let text = refusal.short_text();
        // Where RabbitMQ fails it does not say over what.
        let id = if refusal.code == ReplyCode::INTERNAL_ERROR {
            MethodId::default()
        } else {
            id
        };
        let close = ConnectionClose {
            reply_code: refusal.code,
            reply_text: ShortStr::from_bytes(&text).unwrap_or_default(),
            class_id: id.class,
            method_id: id.method,
        };
        self.output.method(0, &close);
    }

    fn fall_silent(&mut self, common: &mut Common, now: Instant) {
        self.end(common, now);
        self.state = State::Silent;
        self.deadline = Some(now + SILENT_CLOSE_DELAY);
    }

    /// What it has written is still written.
    fn become_over(&mut self) {
        self.state = State::Over;
        self.deadline = None;
        self.heartbeat = None;
        self.has_news = true;
    }

    /// Without another word.
    pub(crate) fn hang_up(&mut self) {
        self.become_over();
        self.output.clear();
    }

    /// Its channels and its exclusive queues go.
    pub(crate) fn end(&mut self, common: &mut Common, now: Instant) {
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.with_channel(common, now, number, Channel::end_for_good);
        }
        self.channels.clear();
        if let Some(session) = &self.session
            && let Some(host) = common.hosts.get_mut(&session.host)
        {
            host.forget_connection(self.key, now);
        }
    }

    /// When it wants to be looked at.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let heartbeat = self.heartbeat.as_ref().and_then(|heartbeat| {
            let is_heard = !self.is_blocked && !self.is_deaf;
            heartbeat.next_deadline(is_heard, !self.is_mute)
        });
        let confirms = self.channels.values().filter_map(Channel::next_confirm);
        let unsettled = self.channels.values().filter_map(Channel::settle_by);
        let channels = confirms.chain(unsettled);
        channels.chain(self.deadline).chain(heartbeat).min()
    }

    /// That time has come.
    pub(crate) fn handle_timeout(&mut self, common: &mut Common, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.end(common, now);
            self.become_over();
        }
        let is_heard = !self.is_blocked && !self.is_deaf;
        if let Some(heartbeat) = &mut self.heartbeat {
            if is_heard && heartbeat.is_dead(now) {
                self.end(common, now);
                self.hang_up();
            } else if !self.is_mute && heartbeat.is_due(now) {
                heartbeat.note_sent(now);
                self.output.heartbeat();
            }
        }
        self.flush_confirms(common, now);
        for number in self.numbers_of_due(now, Channel::settle_by) {
            let ended = self.with_channel(common, now, number, Channel::time_out);
            for tag in ended.into_iter().flatten() {
                self.say_cancel(number, &tag);
            }
        }
    }

    /// Says which publishes are confirmed.
    pub(crate) fn flush_confirms(&mut self, common: &mut Common, now: Instant) {
        for number in self.numbers_of_due(now, Channel::next_confirm) {
            self.with_channel(common, now, number, Channel::flush_confirms);
        }
    }

    /// The channels for which that has come.
    fn numbers_of_due(&self, now: Instant, due: impl Fn(&Channel) -> Option<Instant>) -> Vec<u16> {
        let channels = self.channels.iter();
        let due = channels.filter(|(_, channel)| due(channel).is_some_and(|due| due <= now));
        due.map(|(number, _)| *number).collect()
    }

    /// Hands over what is to be written.
    pub(crate) fn transmit(&mut self, now: Instant, out: &mut SendBuf) -> bool {
        if self.is_mute {
            return false;
        }
        let count = self.output.transmit(out);
        if count > 0
            && let Some(heartbeat) = &mut self.heartbeat
        {
            heartbeat.note_sent(now);
        }
        self.hang_up_after = self.hang_up_after.and_then(|left| {
            let left = left.saturating_sub(count);
            if left == 0 {
                self.state = State::Over;
                self.deadline = None;
                self.has_news = true;
            }
            (left > 0).then_some(left)
        });
        count > 0
    }

    /// Whether it reads; what came meanwhile is not held against the peer.
    pub(crate) fn set_deaf(&mut self, now: Instant, is_deaf: bool) {
        self.is_deaf = is_deaf;
        self.has_news = true;
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.note_received(now);
        }
    }

    /// As if its queue were gone; says whether there was such a consumer.
    pub(crate) fn cancel_consumer(
        &mut self,
        common: &mut Common,
        now: Instant,
        number: u16,
        tag: &[u8],
    ) -> bool {
        let is_ended = self.with_channel(common, now, number, |channel, cx| channel.end_consumer(cx, tag));
        if is_ended == Some(true) {
            self.say_cancel(number, tag);
        }
        is_ended == Some(true)
    }

    /// Closes a channel; says whether it was open.
    pub(crate) fn close_channel(
        &mut self,
        common: &mut Common,
        now: Instant,
        number: u16,
        refusal: &Refusal,
    ) -> bool {
        self.with_channel(common, now, number, |channel, cx| {
            let is_open = channel.is_open();
            if is_open {
                channel.close(cx, refusal, MethodId::default());
            }
            is_open
        })
        .unwrap_or(false)
    }

    /// Whether so much is unwritten that nothing more is made for it.
    pub(crate) fn is_congested(&self) -> bool {
        self.output.is_congested()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the caller is to look at it; says so once for what is no output.
    pub(crate) fn takes_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news) | (!self.is_mute && self.output.takes_news())
    }

    /// The virtual host it is in.
    pub(crate) fn host(&self) -> Option<Arc<str>> {
        self.session.as_ref().map(|session| Arc::clone(&session.host))
    }

    pub(crate) const fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    pub(crate) fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// There is room in the output again.
    pub(crate) fn note_room(&mut self, common: &mut Common, now: Instant) {
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.with_channel(common, now, number, |channel, cx| channel.note_room(cx));
        }
    }

    /// Whether one more message may go to that consumer.
    pub(crate) fn has_room(&self, consumer: &ConsumerKey) -> bool {
        let channel = self.channels.get(&consumer.channel);
        let is_able = self.state == State::Running && !self.output.is_congested();
        is_able && channel.is_some_and(|channel| channel.has_room(&consumer.tag))
    }

    /// Delivers it; gives it back if that settled it.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        consumer: &ConsumerKey,
        entry: QueueEntry,
    ) -> Option<QueueEntry> {
        let channel = self.channels.get_mut(&consumer.channel)?;
        let (entry, result) = channel.deliver(&mut self.output, consumer, entry, now, self.frame_max);
        self.check_delivered(&result);
        entry
    }

    /// Delivers a direct reply, if its consumer is still there.
    pub(crate) fn deliver_reply(&mut self, consumer: &ConsumerKey, message: &Message) {
        if let Some(channel) = self.channels.get_mut(&consumer.channel) {
            let result = channel.deliver_reply(&mut self.output, consumer, message, self.frame_max);
            self.check_delivered(&result);
        }
    }

    /// A message whose properties do not fit this client's frames cannot be skipped: its tag is given away.
    fn check_delivered(&mut self, result: &Result<(), Refusal>) {
        if let Err(refusal) = result {
            self.say_close(refusal, MethodId::default());
            self.become_over();
        }
    }

    /// A consumer ended with its queue: whoever wants to know is told.
    pub(crate) fn on_consumer_gone(&mut self, consumer: &ConsumerKey) {
        let is_known = self
            .channels
            .get_mut(&consumer.channel)
            .is_some_and(|channel| channel.forget_consumer(&consumer.tag));
        if is_known {
            self.say_cancel(consumer.channel, &consumer.tag);
        }
    }

    fn say_cancel(&mut self, channel: u16, tag: &[u8]) {
        if self.capabilities.consumer_cancel_notify {
            let consumer_tag = ShortStr::from_bytes(tag).unwrap_or_default();
            let no_wait = true;
            self.output.method(
                channel,
                &BasicCancel {
                    consumer_tag,
                    no_wait,
                },
            );
        }
    }
}

/// RabbitMQ counts channels, whatever their numbers.
fn too_many_channels(opened: usize, channel_max: u16) -> Refusal {
    let text = format_args!(
        "number of channels opened ({opened}) has reached the negotiated channel_max ({channel_max})"
    );
    Refusal::connection(ReplyCode::NOT_ALLOWED, text)
}
