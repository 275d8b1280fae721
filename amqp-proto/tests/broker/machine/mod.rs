//! The machines against a real broker, through the smallest driver that blocks.
//!
//! Tests under `alone` disturb every other user of the broker; `cargo xtask test` runs them one after the other.

mod alone;
mod closing;
mod confirms;
mod connect;
mod consumers;
mod content;
mod refusals;
mod requests;
mod returns;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant as Clock};

use amqp_proto::wire::{
    BasicConsume, BasicGet, BasicPublish, FieldTable, Properties, QueueDeclare, ReplyCode, ShortStr,
};
use amqp_proto::{
    Answered, Channel, ChannelCloseReason, ChannelId, CloseReason, Config, ConfirmOutcome, ConfirmTag,
    Connection, ConnectionParameters, ConsumerId, Delivery, Event, Got, Instant, RecvBuf, Reply, Request,
    RequestError, RequestId, SendBuf,
};
use bytes::Buf;

use crate::connect::{PATIENCE, parameters, tcp, tls};

/// How long to write before reading has its turn, and the other way round, while the broker does not take all there is.
const A_MOMENT: Duration = Duration::from_millis(10);

/// A connection, its socket, and what lies between them.
pub(crate) struct Session {
    stream: Box<dyn Stream>,
    /// The stream's, for its timeouts.
    socket: TcpStream,
    pub(crate) core: Connection,
    input: RecvBuf,
    output: SendBuf,
    epoch: Clock,
    /// Events that nobody has asked for yet.
    unclaimed: VecDeque<Event>,
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// The answer to a request.
pub(crate) struct Answer<M> {
    reply: Reply,
    request: RequestId<M>,
}

impl<M: Answered> Answer<M> {
    pub(crate) fn get(&self) -> M::Answer<'_> {
        self.reply.read(self.request).unwrap()
    }
}

/// Connecting and driving.
impl Session {
    /// A session that has not said anything yet.
    pub(crate) fn new(config: Config) -> Self {
        let socket = tcp(&parameters());
        Self::over(Box::new(socket.try_clone().unwrap()), socket, config)
    }

    /// The same over TLS.
    pub(crate) fn new_tls(parameters: &ConnectionParameters, config: Config, with_certificate: bool) -> Self {
        let stream = tls(parameters, with_certificate);
        let socket = stream.sock.try_clone().unwrap();
        Self::over(Box::new(stream), socket, config)
    }

    fn over(stream: Box<dyn Stream>, socket: TcpStream, config: Config) -> Self {
        socket.set_write_timeout(Some(A_MOMENT)).unwrap();
        Self {
            stream,
            socket,
            core: Connection::new(Arc::new(config), Instant::EPOCH, 0),
            input: RecvBuf::new(),
            output: SendBuf::new(),
            epoch: Clock::now(),
            unclaimed: VecDeque::new(),
        }
    }

    /// A session of that configuration, ready for use.
    #[track_caller]
    pub(crate) fn connect(config: Config) -> Self {
        Self::new(config).connected()
    }

    /// The usual session, guest on `/`, with a channel.
    #[track_caller]
    pub(crate) fn guest() -> (Self, ChannelId) {
        let mut session = Self::connect(parameters().config);
        let channel = session.open();
        (session, channel)
    }

    #[track_caller]
    pub(crate) fn connected(mut self) -> Self {
        self.wait("connected", |event| {
            matches!(event, Event::Connected).then_some(())
        });
        self
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// The next event, or none until then, or none any more.
    pub(crate) fn next_event(&mut self, until: Clock) -> Option<Event> {
        loop {
            let event = self.core.poll_event(self.now(), &mut self.input);
            self.write();
            if event.is_some() || self.core.close_reason().is_some() && self.core.poll_timeout().is_none() {
                return event;
            }
            let now = self.now();
            let timeout = self.core.poll_timeout().unwrap_or(Instant::MAX);
            if timeout <= now {
                self.core.handle_timeout(now);
                continue;
            }
            let patience = until.checked_duration_since(Clock::now())?;
            self.read(patience.min(timeout.duration_since(now)));
        }
    }

    fn write(&mut self) {
        while self.core.poll_transmit(self.now(), &mut self.output) {
            match self.stream.write(self.output.chunk()) {
                Ok(written) => self.output.advance(written),
                Err(error) if is_timeout(&error) => return,
                // Why it fails is known by reading.
                Err(_) => self.output.advance(self.output.remaining()),
            }
        }
    }

    fn read(&mut self, patience: Duration) {
        let patience = match self.output.has_remaining() {
            true => A_MOMENT,
            false => patience.max(Duration::from_millis(1)),
        };
        self.socket.set_read_timeout(Some(patience)).unwrap();
        match self.stream.read(self.input.spare_mut()) {
            Ok(0) => self.core.handle_disconnect(self.now(), None),
            Ok(count) => self.input.advance(count),
            Err(error) if is_timeout(&error) => {}
            Err(error) => self.core.handle_disconnect(self.now(), Some(error.into())),
        }
    }

    /// Waits for what `wanted` recognises. What it does not stays for others.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        for index in 0..self.unclaimed.len() {
            if let Some(found) = wanted(&self.unclaimed[index]) {
                self.unclaimed.remove(index);
                return found;
            }
        }
        let until = Clock::now() + PATIENCE;
        while let Some(event) = self.next_event(until) {
            if let Some(found) = wanted(&event) {
                return found;
            }
            self.unclaimed.push_back(event);
        }
        panic!("waited for {what}; seen instead: {:#?}", self.unclaimed);
    }

    /// Lets time pass.
    pub(crate) fn idle(&mut self, duration: Duration) {
        let until = Clock::now() + duration;
        while let Some(event) = self.next_event(until) {
            self.unclaimed.push_back(event);
        }
    }

    /// What has happened that nobody asked for.
    pub(crate) fn unclaimed(&self) -> impl Iterator<Item = &Event> {
        self.unclaimed.iter()
    }

    /// Why the connection ended.
    #[track_caller]
    pub(crate) fn end(&mut self) -> CloseReason {
        self.wait("the end", |event| match event {
            Event::Closed(reason) => Some(reason.clone()),
            _ => None,
        })
    }

    /// Closes in good order.
    #[track_caller]
    pub(crate) fn close(mut self) {
        self.core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
        assert_eq!(self.end(), CloseReason::Requested { acknowledged: true });
    }
}

/// What tests do with channels.
impl Session {
    #[track_caller]
    pub(crate) fn open(&mut self) -> ChannelId {
        let id = self.core.open_channel().unwrap();
        self.wait("channel.open-ok", |event| {
            matches!(event, Event::ChannelOpened { channel } if *channel == id).then_some(())
        });
        id
    }

    #[track_caller]
    pub(crate) fn channel(&mut self, id: ChannelId) -> Channel<'_> {
        self.core.channel(id).expect("no such channel any more")
    }

    /// Sends a request and waits for what becomes of it.
    #[track_caller]
    pub(crate) fn try_call<R: Request>(
        &mut self,
        channel: ChannelId,
        method: &R,
    ) -> Result<Answer<R::Method>, RequestError> {
        let request = self.channel(channel).request(method).unwrap();
        self.answer(request)
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub(crate) fn call<R: Request>(&mut self, channel: ChannelId, method: &R) -> Answer<R::Method> {
        self.try_call(channel, method).unwrap()
    }

    #[track_caller]
    pub(crate) fn answer<M: Answered>(&mut self, request: RequestId<M>) -> Result<Answer<M>, RequestError> {
        self.wait(M::SPEC.name, |event| match event {
            Event::Reply(reply) if reply.request() == request => {
                let reply = reply.clone();
                Some(Ok(Answer { reply, request }))
            }
            Event::RequestFailed {
                request: failed,
                cause,
            } if *failed == request => Some(Err(cause.clone())),
            _ => None,
        })
    }

    /// Why that channel ended.
    #[track_caller]
    pub(crate) fn channel_end(&mut self, id: ChannelId) -> ChannelCloseReason {
        self.wait("the channel's end", |event| match event {
            Event::ChannelClosed { channel, reason } if *channel == id => Some(reason.clone()),
            _ => None,
        })
    }

    /// A queue that only this session sees and the broker names; its name.
    #[track_caller]
    pub(crate) fn queue(&mut self, channel: ChannelId) -> String {
        self.queue_with(channel, &FieldTable::new())
    }

    #[track_caller]
    pub(crate) fn queue_with(&mut self, channel: ChannelId, arguments: &FieldTable) -> String {
        let declare = QueueDeclare {
            exclusive: true,
            arguments: arguments.as_ref(),
            ..Default::default()
        };
        self.call(channel, &declare)
            .get()
            .queue
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// How many messages a queue has ready, and how many consumers.
    #[track_caller]
    pub(crate) fn count(&mut self, channel: ChannelId, queue: &str) -> (u32, u32) {
        let declare = QueueDeclare {
            queue: short(queue),
            passive: true,
            ..Default::default()
        };
        let answer = self.call(channel, &declare);
        (answer.get().message_count, answer.get().consumer_count)
    }

    /// Waits until a queue has that many: what a channel leaves behind goes back soon after its end, not before.
    #[track_caller]
    pub(crate) fn count_becomes(&mut self, channel: ChannelId, queue: &str, expected: (u32, u32)) {
        let until = Clock::now() + PATIENCE;
        loop {
            let count = self.count(channel, queue);
            if count == expected {
                return;
            }
            assert!(Clock::now() < until, "{count:?} instead of {expected:?}");
            self.idle(A_MOMENT);
        }
    }

    /// Publishes to a queue.
    #[track_caller]
    pub(crate) fn publish(&mut self, channel: ChannelId, queue: &str, body: &[u8]) -> Option<ConfirmTag> {
        let publish = to(queue);
        self.channel(channel)
            .publish(&publish, &Properties::default(), body)
            .unwrap()
    }

    #[track_caller]
    pub(crate) fn get(&mut self, channel: ChannelId, queue: &str) -> Option<Got> {
        let method = BasicGet {
            queue: short(queue),
            ..Default::default()
        };
        let request = self.channel(channel).get(&method).unwrap();
        self.wait("basic.get", |event| match event {
            Event::Got(got) if got.request == request => Some(Some(got.clone())),
            Event::GetEmpty { request: empty } if *empty == request => Some(None),
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn consume(&mut self, channel: ChannelId, queue: &str) -> ConsumerId {
        self.consume_with(channel, &consume(queue))
    }

    #[track_caller]
    pub(crate) fn consume_with(&mut self, channel: ChannelId, method: &BasicConsume<'_>) -> ConsumerId {
        let (consumer, request) = self.channel(channel).consume(method).unwrap();
        self.answer(request).unwrap();
        consumer
    }

    #[track_caller]
    pub(crate) fn delivery(&mut self, consumer: ConsumerId) -> Delivery {
        self.wait("a delivery", |event| match event {
            Event::Delivery(delivery) if delivery.consumer == consumer => Some(delivery.clone()),
            _ => None,
        })
    }

    /// The outcomes of that many publishes of a channel, by tag. That one has two is an error.
    #[track_caller]
    pub(crate) fn outcomes(&mut self, channel: ChannelId, count: usize) -> BTreeMap<u64, ConfirmOutcome> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < count {
            let (tags, outcome) = self.wait("confirms", |event| match event {
                Event::Confirmed { tags, outcome } if tags.channel() == channel => {
                    Some((*tags, outcome.clone()))
                }
                _ => None,
            });
            for tag in tags.first()..=tags.last() {
                let earlier = outcomes.insert(tag, outcome.clone());
                assert_eq!(
                    earlier, None,
                    "publish {tag} was resolved before it was {outcome:?}"
                );
            }
        }
        outcomes
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[track_caller]
pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// A publish to a queue.
pub(crate) fn to(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        routing_key: short(queue),
        ..Default::default()
    }
}

pub(crate) fn consume(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: short(queue),
        ..Default::default()
    }
}

/// A name that nothing else has.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{what} {} {number}", std::process::id())
}
