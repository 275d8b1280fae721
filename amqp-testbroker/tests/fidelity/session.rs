//! A client that hides nothing: methods out, methods in, in the order of the wire.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{RecvBuf, SendBuf};
use amqp_testbroker::Release;
use bytes::BufMut;

use crate::link::{Exchanged, Link};

/// Longer than any broker takes for anything here, shorter than anybody waits for a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often to look for what happens soon.
const POLLS: u32 = 3000;

/// What the broker proposes.
pub(crate) const FRAME_MAX: u32 = 131_072;

/// What a client can do, as it says itself.
pub(crate) const CAPABILITIES: [&str; 5] = [
    "authentication_failure_close",
    "basic.nack",
    "connection.blocked",
    "consumer_cancel_notify",
    "publisher_confirms",
];

/// Who connects, where to, and how.
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) virtual_host: &'a str,
    pub(crate) capabilities: &'a [&'a str],
    pub(crate) tune: ConnectionTuneOk,
}

impl Default for Login<'_> {
    fn default() -> Self {
        Self {
            user: "guest",
            password: "guest",
            virtual_host: "/",
            capabilities: &CAPABILITIES,
            tune: ConnectionTuneOk {
                channel_max: 2047,
                frame_max: FRAME_MAX,
                heartbeat: 0,
            },
        }
    }
}

/// One end of a stream.
pub(crate) struct Session {
    link: Box<dyn Link>,
    input: RecvBuf,
    output: Vec<u8>,
    release: Option<Release>,
    /// What came before the answer that was waited for.
    earlier: VecDeque<Received>,
    heartbeats: usize,
}

/// A method from the broker, with its content.
#[derive(Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) channel: u16,
    method: Vec<u8>,
    content: Option<Content>,
}

#[derive(Clone, PartialEq)]
struct Content {
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Received {
    pub(crate) fn method(&self) -> Method<'_> {
        Method::decode(&self.method).unwrap()
    }

    pub(crate) fn is<A: Arguments>(&self) -> bool {
        self.method().spec().id == A::SPEC.id
    }

    #[track_caller]
    pub(crate) fn properties(&self) -> Properties<'_> {
        let header = &self.content.as_ref().expect("content").header;
        ContentHeader::decode(header).unwrap().properties
    }

    /// A header of its own, if it has it.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<FieldValue<'_>> {
        self.properties().headers?.get(name).unwrap()
    }

    #[track_caller]
    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.content.as_ref().expect("content").body).unwrap()
    }

    /// Of a delivery or the answer to a get.
    #[track_caller]
    pub(crate) fn delivery_tag(&self) -> u64 {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.delivery_tag,
            Method::BasicGetOk(got) => got.delivery_tag,
            other => panic!("no delivery: {other}"),
        }
    }

    #[track_caller]
    pub(crate) fn is_redelivered(&self) -> bool {
        match self.method() {
            Method::BasicDeliver(deliver) => deliver.redelivered,
            Method::BasicGetOk(got) => got.redelivered,
            other => panic!("no delivery: {other}"),
        }
    }
}

/// The method, then what differs from an empty content.
impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ch {} {}", self.channel, self.method())?;
        match &self.content {
            Some(_) => write!(f, " {:?}", self.body()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Octets and frames.
impl Session {
    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        Self {
            link,
            input: RecvBuf::with_limit(1024 * 1024),
            output: Vec::new(),
            release: None,
            earlier: VecDeque::new(),
            heartbeats: 0,
        }
    }

    /// The one that `connection.start` tells of.
    pub(crate) fn release(&self) -> Release {
        self.release.expect("connection.start")
    }

    /// Everything that is sent is written before the next wait, or by [`flush`](Self::flush).
    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        self.output.extend_from_slice(octets);
    }

    pub(crate) fn send<A: Arguments>(&mut self, method: &A) {
        self.send_on(1, method);
    }

    #[track_caller]
    pub(crate) fn send_on<A: Arguments>(&mut self, channel: u16, method: &A) {
        let mut frames = SendBuf::new();
        frames.method(channel, method, FRAME_MAX).unwrap();
        self.output.put(frames);
    }

    #[track_caller]
    pub(crate) fn publish_with(
        &mut self,
        publish: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: impl AsRef<[u8]>,
    ) {
        let mut frames = SendBuf::new();
        frames
            .content(1, publish, properties, body.as_ref(), FRAME_MAX)
            .unwrap();
        self.output.put(frames);
    }

    pub(crate) fn flush(&mut self) {
        self.link
            .exchange(&mut self.output, &mut self.input, Duration::ZERO);
    }

    /// The next frame but heartbeats; `None` if the stream ends first.
    #[track_caller]
    fn next_frame<T>(&mut self, read: impl FnOnce(u16, &Frame<'_>, &[u8]) -> T) -> Option<T> {
        loop {
            let limits = FrameLimits::default();
            while let Some(raw) = RawFrame::parse(self.input.unread(), &limits).unwrap() {
                let size = raw.size();
                if raw.frame_type == FrameType::Heartbeat {
                    self.input.consume(size);
                    self.heartbeats += 1;
                    continue;
                }
                let result = read(raw.channel, &raw.decode().unwrap(), raw.payload);
                self.input.consume(size);
                return Some(result);
            }
            match self.link.exchange(&mut self.output, &mut self.input, PATIENCE) {
                Exchanged::Something => {}
                Exchanged::End => return None,
                Exchanged::Nothing => panic!("nothing comes"),
            }
        }
    }

    /// What comes next, or `None` if the stream ends.
    #[track_caller]
    fn receive(&mut self) -> Option<Received> {
        let (channel, method, has_content) = self.next_frame(|channel, frame, payload| match frame {
            Frame::Method { method, .. } => (channel, payload.to_vec(), method.spec().has_content),
            other => panic!("no method: {other}"),
        })?;
        let content = has_content.then(|| self.content(channel));
        Some(Received {
            channel,
            method,
            content,
        })
    }

    #[track_caller]
    fn content(&mut self, channel: u16) -> Content {
        let read_header = |on, frame: &Frame<'_>, payload: &[u8]| match frame {
            Frame::Header { header, .. } if on == channel => (payload.to_vec(), header.body_size),
            other => panic!("no content header on channel {channel}: {other}"),
        };
        let (header, size) = self.next_frame(read_header).unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < size {
            let read_body = |on, frame: &Frame<'_>, _: &[u8]| match frame {
                Frame::Body { payload, .. } if on == channel => body.extend_from_slice(payload),
                other => panic!("no body on channel {channel}: {other}"),
            };
            self.next_frame(read_body).unwrap();
        }
        Content { header, body }
    }

    /// All that comes until the stream ends, which no frames need be.
    #[track_caller]
    pub(crate) fn octets_until_end(&mut self) -> Vec<u8> {
        loop {
            match self.link.exchange(&mut self.output, &mut self.input, PATIENCE) {
                Exchanged::Something => {}
                Exchanged::End => return self.input.unread().to_vec(),
                Exchanged::Nothing => panic!("the stream does not end"),
            }
        }
    }

    /// How many heartbeats have come.
    pub(crate) fn heartbeats(&self) -> usize {
        self.heartbeats
    }

    /// What comes next.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Received {
        match self.earlier.pop_front() {
            Some(received) => received,
            None => self.receive().expect("the stream has ended"),
        }
    }

    /// What comes next is this, as [`Received`] is displayed.
    #[track_caller]
    pub(crate) fn expect(&mut self, expected: &str) -> Received {
        let received = self.next();
        assert_eq!(received.to_string(), expected);
        received
    }

    /// The broker says no more and hangs up.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.earlier, []);
        assert_eq!(self.receive(), None);
    }
}

/// Requests and refusals.
impl Session {
    #[track_caller]
    pub(crate) fn call<A: Arguments>(&mut self, method: &A) -> Received {
        self.call_on(1, method)
    }

    /// Sends a request and waits for the answer. What comes before it is kept for [`next`](Self::next).
    #[track_caller]
    pub(crate) fn call_on<A: Arguments>(&mut self, channel: u16, method: &A) -> Received {
        self.send_on(channel, method);
        self.wait_for(channel, A::SPEC.replies)
    }

    #[track_caller]
    fn wait_for(&mut self, channel: u16, wanted: &[MethodId]) -> Received {
        loop {
            let Some(received) = self.receive() else {
                panic!("the stream has ended, after {:?}", self.earlier);
            };
            if received.channel == channel && wanted.contains(&received.method().spec().id) {
                return received;
            }
            assert!(
                !received.is::<ChannelClose>() && !received.is::<ConnectionClose>(),
                "{received}"
            );
            self.earlier.push_back(received);
        }
    }

    /// The broker refuses that method: it closes channel 1, which is opened again.
    #[track_caller]
    pub(crate) fn refused<A: Arguments>(&mut self, method: &A, code: u16, text: &str) {
        self.send(method);
        self.expect_close(code, text, A::SPEC);
    }

    /// What comes next closes channel 1, because of that method; it is opened again.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, code: u16, text: &str, cause: &MethodSpec) {
        let received = self.next();
        let Method::ChannelClose(close) = received.method() else {
            panic!("no channel.close: {received}");
        };
        let id = MethodId {
            class: close.class_id,
            method: close.method_id,
        };
        let seen = (
            received.channel,
            close.reply_code.0,
            close.reply_text.to_str().unwrap(),
            id,
        );
        assert_eq!(seen, (1, code, text, cause.id));
        self.send(&ChannelCloseOk {});
        self.open(1);
    }

    /// The broker closes the connection because of that method.
    #[track_caller]
    pub(crate) fn fatal<A: Arguments>(&mut self, method: &A, code: u16, text: &str) {
        self.send(method);
        self.expect_connection_close(code, text, A::SPEC.id);
    }

    /// What comes next closes the connection, because of that method (0.0 if of none); then it ends.
    #[track_caller]
    pub(crate) fn expect_connection_close(&mut self, code: u16, text: &str, cause: MethodId) {
        let received = self.next();
        let Method::ConnectionClose(close) = received.method() else {
            panic!("no connection.close: {received}");
        };
        let id = MethodId {
            class: close.class_id,
            method: close.method_id,
        };
        let seen = (
            received.channel,
            close.reply_code.0,
            close.reply_text.to_str().unwrap(),
            id,
        );
        assert_eq!(seen, (0, code, text, cause));
        self.send_on(0, &ConnectionCloseOk {});
        self.expect_end();
    }
}

/// Connections and channels.
impl Session {
    /// Up to `connection.tune`, which is returned.
    #[track_caller]
    pub(crate) fn authenticate(&mut self, login: &Login<'_>) -> Received {
        self.send_octets(&PROTOCOL_HEADER);
        self.expect_start();
        self.start_ok(
            login.capabilities,
            "PLAIN",
            &format!("\0{}\0{}", login.user, login.password),
        );
        self.next()
    }

    /// `connection.start`, and the release that it tells of.
    #[track_caller]
    pub(crate) fn expect_start(&mut self) -> Received {
        let received = self.next();
        let Method::ConnectionStart(start) = received.method() else {
            panic!("no connection.start: {received}");
        };
        let version = start.server_properties.get("version").unwrap().unwrap();
        self.release = Some(match version.as_str().unwrap().starts_with("3.") {
            true => Release::V3_10,
            false => Release::V4,
        });
        received
    }

    pub(crate) fn start_ok(&mut self, capabilities: &[&str], mechanism: &str, response: &str) {
        let mut table = FieldTable::new();
        for capability in capabilities {
            table.insert(capability, true).unwrap();
        }
        let properties = args([("capabilities", (&table).into())]);
        self.send_on(
            0,
            &ConnectionStartOk {
                client_properties: properties.as_ref(),
                mechanism: short(mechanism),
                response: SecretStr::new(response.as_bytes()),
                ..Default::default()
            },
        );
    }

    /// Up to `connection.tune-ok`.
    #[track_caller]
    pub(crate) fn log_in(&mut self, login: &Login<'_>) {
        let tune = self.authenticate(login);
        assert!(tune.is::<ConnectionTune>(), "{tune}");
        self.send_on(0, &login.tune);
    }

    #[track_caller]
    pub(crate) fn enter(&mut self, virtual_host: &str) {
        let virtual_host = short(virtual_host);
        self.call_on(0, &ConnectionOpen { virtual_host });
    }

    #[track_caller]
    pub(crate) fn open(&mut self, channel: u16) {
        self.call_on(channel, &ChannelOpen {});
    }

    #[track_caller]
    pub(crate) fn close_channel(&mut self) {
        let reply_code = ReplyCode::REPLY_SUCCESS;
        self.call(&ChannelClose {
            reply_code,
            ..Default::default()
        });
    }

    #[track_caller]
    pub(crate) fn close(mut self) {
        let reply_code = ReplyCode::REPLY_SUCCESS;
        self.call_on(
            0,
            &ConnectionClose {
                reply_code,
                ..Default::default()
            },
        );
    }
}

/// Queues and messages, on channel 1.
impl Session {
    /// A queue of this session alone.
    #[track_caller]
    pub(crate) fn queue(&mut self, name: &str) {
        self.call(&exclusive(name));
    }

    #[track_caller]
    pub(crate) fn queue_with<const N: usize>(&mut self, name: &str, arguments: [(&str, FieldValue<'_>); N]) {
        let arguments = args(arguments);
        self.call(&QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(name)
        });
    }

    /// An exchange that goes with its last binding.
    #[track_caller]
    pub(crate) fn exchange(&mut self, name: &str, exchange_type: &str) {
        self.call(&auto_delete(name, exchange_type));
    }

    #[track_caller]
    pub(crate) fn bind(&mut self, queue: &str, exchange: &str, routing_key: &str) {
        self.call(&QueueBind {
            queue: short(queue),
            exchange: short(exchange),
            routing_key: short(routing_key),
            ..Default::default()
        });
    }

    #[track_caller]
    pub(crate) fn publish(&mut self, exchange: &str, routing_key: &str, body: impl AsRef<[u8]>) {
        self.publish_with(&publish(exchange, routing_key), &Properties::default(), body);
    }

    /// Publishes to a queue.
    #[track_caller]
    pub(crate) fn put(&mut self, queue: &str, body: impl AsRef<[u8]>) {
        self.publish("", queue, body);
    }

    /// Takes a message that is to be acknowledged.
    #[track_caller]
    pub(crate) fn get(&mut self, queue: &str) -> Received {
        self.call(&BasicGet {
            queue: short(queue),
            no_ack: false,
        })
    }

    /// Takes a message for good, if there is one.
    #[track_caller]
    pub(crate) fn take(&mut self, queue: &str) -> Option<Received> {
        let queue = short(queue);
        let received = self.call(&BasicGet { queue, no_ack: true });
        received.is::<BasicGetOk>().then_some(received)
    }

    /// Takes all messages for good; their bodies.
    #[track_caller]
    pub(crate) fn drain(&mut self, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.take(queue))
            .map(|message| message.body().to_owned())
            .collect()
    }

    /// Takes a message for good as soon as there is one: what one queue sends to another takes its time.
    #[track_caller]
    pub(crate) fn take_soon(&mut self, queue: &str) -> Received {
        let message = self.get_soon(queue);
        self.ack(message.delivery_tag());
        message
    }

    /// Takes a message that is to be acknowledged as soon as there is one.
    #[track_caller]
    pub(crate) fn get_soon(&mut self, queue: &str) -> Received {
        for _ in 0..POLLS {
            let message = self.get(queue);
            if message.is::<BasicGetOk>() {
                return message;
            }
            self.pause();
        }
        panic!("nothing comes into {queue}");
    }

    #[track_caller]
    pub(crate) fn consume(&mut self, queue: &str, tag: &str) {
        let queue = short(queue);
        let consumer_tag = short(tag);
        self.call(&BasicConsume {
            queue,
            consumer_tag,
            ..Default::default()
        });
    }

    /// The next delivery; its consumer's tag and body.
    #[track_caller]
    pub(crate) fn delivery(&mut self) -> (String, String) {
        let received = self.next();
        let Method::BasicDeliver(deliver) = received.method() else {
            panic!("no basic.deliver: {received}");
        };
        let tag = deliver.consumer_tag.to_str().unwrap().to_owned();
        (tag, received.body().to_owned())
    }

    pub(crate) fn ack(&mut self, delivery_tag: u64) {
        self.send(&BasicAck {
            delivery_tag,
            multiple: false,
        });
    }

    pub(crate) fn nack(&mut self, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.send(&BasicNack {
            delivery_tag,
            multiple,
            requeue,
        });
    }

    /// How many messages a queue has ready, and how many consumers.
    #[track_caller]
    fn count(&mut self, queue: &str) -> (u32, u32) {
        let answer = self.call(&passive(queue));
        match answer.method() {
            Method::QueueDeclareOk(ok) => (ok.message_count, ok.consumer_count),
            _ => unreachable!("the only answer"),
        }
    }

    /// A queue has that many messages ready, and that many consumers. RabbitMQ's queues answer this before they look at what was
    /// published to them a moment ago, so it may become true only soon.
    #[track_caller]
    pub(crate) fn expect_count(&mut self, queue: &str, expected: (u32, u32)) {
        for _ in 0..POLLS {
            if self.count(queue) == expected {
                return;
            }
            self.pause();
        }
        assert_eq!(self.count(queue), expected);
    }

    /// Asks passively until what is asked for is not there any more.
    #[track_caller]
    pub(crate) fn becomes_missing<A: Arguments>(&mut self, passive: &A) {
        for _ in 0..POLLS {
            self.send(passive);
            let answer = self.next();
            if let Method::ChannelClose(close) = answer.method() {
                self.send(&ChannelCloseOk {});
                self.open(1);
                if close.reply_code == ReplyCode::NOT_FOUND {
                    return;
                }
                // An exclusive queue of another connection is locked until it goes.
                assert_eq!(close.reply_code, ReplyCode::RESOURCE_LOCKED, "{answer}");
            }
            self.pause();
        }
        panic!("it stays");
    }

    /// Lets a moment go by.
    fn pause(&mut self) {
        self.link
            .exchange(&mut self.output, &mut self.input, Duration::from_millis(1));
    }

    /// Nothing has come that nobody asked for. Other connections' doings are not waited for.
    #[track_caller]
    pub(crate) fn expect_nothing(&mut self) {
        self.call(&ExchangeDeclare {
            exchange: short("amq.direct"),
            passive: true,
            ..Default::default()
        });
        assert_eq!(self.earlier, []);
    }

    #[track_caller]
    pub(crate) fn confirm(&mut self) {
        self.call(&ConfirmSelect::default());
    }
}

#[track_caller]
pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

#[track_caller]
pub(crate) fn args<const N: usize>(entries: [(&str, FieldValue<'_>); N]) -> FieldTable {
    let mut table = FieldTable::new();
    for (name, value) in entries {
        table.insert(name, value).unwrap();
    }
    table
}

#[track_caller]
pub(crate) fn exclusive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        exclusive: true,
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn passive(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        passive: true,
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn auto_delete<'a>(exchange: &'a str, exchange_type: &'a str) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        exchange: short(exchange),
        exchange_type: short(exchange_type),
        auto_delete: true,
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn publish<'a>(exchange: &'a str, routing_key: &'a str) -> BasicPublish<'a> {
    BasicPublish {
        exchange: short(exchange),
        routing_key: short(routing_key),
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn consume<'a>(queue: &'a str, tag: &'a str) -> BasicConsume<'a> {
    BasicConsume {
        queue: short(queue),
        consumer_tag: short(tag),
        ..Default::default()
    }
}
