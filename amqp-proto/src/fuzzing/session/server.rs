//! A server: reads what the client wrote, and answers as it is told to.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::machine::{content_frames, method_frame};
use crate::ConfirmOutcome;
use crate::wire::*;

/// The server's end of a connection.
#[derive(Debug, Default)]
pub(super) struct Server {
    /// What the client sent and was not read, less than a frame.
    rest: Vec<u8>,
    has_header: bool,
    frame_max: u32,
    channels: BTreeMap<u16, Side>,
    /// The channels that had these numbers last.
    past: BTreeMap<u16, Side>,
    /// What it answers on its own.
    pub(super) answers: Vec<u8>,
    /// Methods that are to be answered on channel 0.
    pending: VecDeque<Vec<u8>>,
    next_body: u64,
}

/// A channel of it.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Payloads of methods that are to be answered, in order.
    pending: VecDeque<Vec<u8>>,
    is_open: bool,
    /// We closed it: only close-ok counts.
    is_closing: bool,
    /// The client closed it.
    is_left: bool,
    is_confirming: bool,
    publish: Option<Published>,
    publishes: Vec<Published>,
    consumers: Vec<Vec<u8>>,
    last_delivery: u64,
    /// The bodies of what was delivered, by tag.
    delivered: HashMap<u64, Vec<u8>>,
}

/// A publish, and what the server did with it.
#[derive(Debug, Default, Clone)]
pub(super) struct Published {
    routing_key: Vec<u8>,
    mandatory: bool,
    header: Vec<u8>,
    left: u64,
    is_returned: bool,
    nacked: Option<bool>,
}

impl Published {
    /// Keys that begin so lead to no queue, now and for ever.
    fn is_returnable(&self) -> bool {
        self.mandatory && self.routing_key.starts_with(b"-")
    }

    pub(super) const fn is_returned(&self) -> bool {
        self.is_returned
    }

    /// What the client has to make of it.
    pub(super) fn outcome(&self) -> Option<ConfirmOutcome> {
        Some(match self.nacked? {
            true => ConfirmOutcome::Nacked,
            false if self.is_returned => ConfirmOutcome::Returned,
            false => ConfirmOutcome::Acked,
        })
    }
}

impl Server {
    pub(super) fn new(frame_max: u32) -> Self {
        Self {
            frame_max,
            ..Self::default()
        }
    }

    /// Reads what was written: whole frames, none too large.
    pub(super) fn read(&mut self, octets: &[u8]) {
        self.rest.extend_from_slice(octets);
        let mut rest = core::mem::take(&mut self.rest);
        if !self.has_header && rest.len() >= 8 {
            assert_eq!(rest[..8], PROTOCOL_HEADER);
            rest.drain(..8);
            self.has_header = true;
        }
        let limits = FrameLimits {
            body: self.frame_max,
            other: self.frame_max,
        };
        let mut read = 0;
        while let Some(raw) = RawFrame::parse(&rest[read..], &limits).expect("the client knows the protocol")
        {
            self.frame(&raw);
            read += raw.size();
        }
        self.rest = rest.split_off(read);
    }

    fn frame(&mut self, raw: &RawFrame<'_>) {
        match raw.decode().expect("the client knows the protocol") {
            Frame::Heartbeat => {}
            Frame::Method { channel: 0, method } => {
                if !method.spec().replies.is_empty() {
                    self.pending.push_back(raw.payload.to_vec());
                }
            }
            Frame::Method { channel, method } => self.method(channel, &method, raw.payload),
            Frame::Header { channel, header } => {
                self.content(channel, |publish| {
                    publish.left = header.body_size;
                    publish.header = raw.payload.to_vec();
                });
            }
            Frame::Body { channel, payload } => self.content(channel, |publish| {
                let size = payload.len() as u64;
                publish.left = publish.left.checked_sub(size).expect("it is that long");
            }),
        }
    }

    fn method(&mut self, channel: u16, method: &Method<'_>, payload: &[u8]) {
        match method {
            Method::ChannelOpen(_) => {
                assert!(!self.channels.contains_key(&channel), "it is open already");
                self.channels.insert(channel, Side::default());
            }
            Method::ChannelCloseOk(_) => return self.forget(channel),
            _ => {}
        }
        let side = self.channels.get_mut(&channel);
        let side = side.unwrap_or_else(|| panic!("{method} on channel {channel}, which is not open"));
        assert!(!side.is_left, "{method} behind channel.close");
        side.is_left = matches!(method, Method::ChannelClose(_));
        if side.is_left && side.is_closing {
            self.answers.extend(method_frame(channel, ChannelCloseOk {}));
        }
        side.method(method, payload);
    }

    fn content(&mut self, channel: u16, note: impl FnOnce(&mut Published)) {
        let side = self.channels.get_mut(&channel).expect("it is open");
        if !side.is_closing {
            note(side.publish.as_mut().expect("a publish comes first"));
            side.end_publish();
        }
    }

    fn forget(&mut self, channel: u16) {
        if let Some(side) = self.channels.remove(&channel) {
            self.past.insert(channel, side);
        }
    }

    fn side(&mut self, channel: u16) -> Option<&mut Side> {
        self.channels
            .get_mut(&channel)
            .filter(|side| side.is_open && !side.is_closing)
    }

    /// What became of a publish.
    pub(super) fn publish(&self, channel: u16, tag: u64) -> Option<&Published> {
        let index = usize::try_from(tag.checked_sub(1)?).ok()?;
        let side = self.channels.get(&channel).or_else(|| self.past.get(&channel));
        side?.publishes.get(index)
    }

    /// The body of a message that went out, once.
    pub(super) fn delivered(&mut self, channel: u16, tag: u64) -> Vec<u8> {
        let side = self
            .channels
            .get_mut(&channel)
            .or_else(|| self.past.get_mut(&channel));
        let body = side.and_then(|side| side.delivered.remove(&tag));
        body.unwrap_or_else(|| panic!("{tag} was not delivered, or twice"))
    }

    /// Answers the oldest request there.
    pub(super) fn answer(&mut self, channel: u16, is_found: bool) -> Vec<u8> {
        if channel == 0 {
            let Some(asked) = self.pending.pop_front() else {
                return Vec::new();
            };
            return answer_connection(&asked);
        }
        let body = self.body(5);
        let Some(side) = self.channels.get_mut(&channel).filter(|side| !side.is_closing) else {
            return Vec::new();
        };
        let Some(asked) = side.pending.pop_front() else {
            return Vec::new();
        };
        let asked = Method::decode(&asked).expect("it was read before");
        if let Method::BasicGet(_) = asked
            && is_found
        {
            side.last_delivery += 1;
            side.delivered.insert(side.last_delivery, body.clone());
            let method = BasicGetOk {
                delivery_tag: side.last_delivery,
                ..Default::default()
            };
            return content_frames(channel, method, Properties::default(), &body, 4000);
        }
        let octets = side.answer(channel, &asked);
        if matches!(asked, Method::ChannelClose(_)) {
            self.forget(channel);
        }
        octets
    }

    /// A body that no message before had.
    pub(super) fn body(&mut self, size: usize) -> Vec<u8> {
        self.next_body += 1;
        let mut body = self.next_body.to_be_bytes().to_vec();
        body.resize(size, b'.');
        body
    }

    /// A message for a consumer, or for one that does not exist.
    pub(super) fn deliver(&mut self, channel: u16, consumer: u8, size: u16, piece: u16) -> Vec<u8> {
        let body = self.body(size.into());
        let Some(side) = self.side(channel) else {
            return Vec::new();
        };
        side.last_delivery += 1;
        side.delivered.insert(side.last_delivery, body.clone());
        let known = side
            .consumers
            .get(usize::from(consumer) % (side.consumers.len() + 1));
        let consumer_tag = ShortStr::delimited(known.map_or(b"nobody", |tag| tag));
        let method = BasicDeliver {
            consumer_tag,
            delivery_tag: side.last_delivery,
            ..Default::default()
        };
        let piece = usize::from(piece % 4080) + 8;
        content_frames(channel, method, Properties::default(), &body, piece)
    }

    /// Confirms a publish, or all up to it; what leads to no queue is returned before.
    pub(super) fn confirm(&mut self, channel: u16, which: u8, multiple: bool, nack: bool) -> Vec<u8> {
        let Some(side) = self.side(channel).filter(|side| side.has_numbered()) else {
            return Vec::new();
        };
        let last = usize::from(which) % side.publishes.len();
        let mut octets = side.returns(channel, last);
        let first = if multiple { 0 } else { last };
        for publish in &mut side.publishes[first..=last] {
            publish.nacked.get_or_insert(nack);
        }
        let delivery_tag = last as u64 + 1;
        octets.extend(match nack {
            true => {
                let nack = BasicNack {
                    delivery_tag,
                    multiple,
                    requeue: false,
                };
                method_frame(channel, nack)
            }
            false => method_frame(
                channel,
                BasicAck {
                    delivery_tag,
                    multiple,
                },
            ),
        });
        octets
    }

    /// Returns what leads to no queue, up to a publish.
    pub(super) fn return_up_to(&mut self, channel: u16, which: u8) -> Vec<u8> {
        match self.side(channel).filter(|side| side.has_numbered()) {
            Some(side) => side.returns(channel, usize::from(which) % side.publishes.len()),
            None => Vec::new(),
        }
    }

    pub(super) fn flow(&mut self, channel: u16, active: bool) -> Vec<u8> {
        match self.side(channel) {
            Some(_) => method_frame(channel, ChannelFlow { active }),
            None => Vec::new(),
        }
    }

    pub(super) fn close_channel(&mut self, channel: u16) -> Vec<u8> {
        let Some(side) = self.side(channel) else {
            return Vec::new();
        };
        side.is_closing = true;
        let close = ChannelClose {
            reply_code: ReplyCode::NOT_FOUND,
            ..Default::default()
        };
        method_frame(channel, close)
    }

    pub(super) fn cancel(&mut self, channel: u16, which: u8, no_wait: bool) -> Vec<u8> {
        let Some(side) = self.side(channel).filter(|side| !side.consumers.is_empty()) else {
            return Vec::new();
        };
        let tag = side.consumers.remove(usize::from(which) % side.consumers.len());
        let consumer_tag = ShortStr::delimited(&tag);
        method_frame(
            channel,
            BasicCancel {
                consumer_tag,
                no_wait,
            },
        )
    }
}

impl Side {
    fn method(&mut self, method: &Method<'_>, payload: &[u8]) {
        if self.is_closing {
            return;
        }
        match method {
            Method::BasicPublish(publish) => {
                self.publish = Some(Published {
                    routing_key: publish.routing_key.as_bytes().to_vec(),
                    mandatory: publish.mandatory,
                    ..Default::default()
                });
            }
            Method::ConfirmSelect(_) => self.is_confirming = true,
            _ => {}
        }
        let mut no_wait = false;
        method.for_each_argument(&mut |name, argument| {
            no_wait |= name == "no_wait" && argument == Argument::Bit(true);
        });
        if no_wait {
            self.take_effect(method);
        } else if !method.spec().replies.is_empty() {
            self.pending.push_back(payload.to_vec());
        }
    }

    fn end_publish(&mut self) {
        if let Some(publish) = self.publish.take_if(|publish| publish.left == 0)
            && self.is_confirming
            && !self.is_closing
        {
            self.publishes.push(publish);
        }
    }

    fn take_effect(&mut self, method: &Method<'_>) {
        match method {
            Method::ChannelOpen(_) => self.is_open = true,
            Method::BasicConsume(consume) => self.consumers.push(consume.consumer_tag.as_bytes().to_vec()),
            Method::BasicCancel(cancel) => {
                self.consumers.retain(|tag| tag != cancel.consumer_tag.as_bytes());
            }
            _ => {}
        }
    }

    fn answer(&mut self, channel: u16, asked: &Method<'_>) -> Vec<u8> {
        self.take_effect(asked);
        match asked {
            Method::ChannelOpen(_) => method_frame(channel, ChannelOpenOk {}),
            Method::ChannelClose(_) => method_frame(channel, ChannelCloseOk {}),
            Method::ChannelFlow(flow) => method_frame(channel, ChannelFlowOk { active: flow.active }),
            Method::ConfirmSelect(_) => method_frame(channel, ConfirmSelectOk {}),
            Method::QueueDeclare(_) => method_frame(channel, QueueDeclareOk::default()),
            Method::QueuePurge(_) => method_frame(channel, QueuePurgeOk::default()),
            Method::BasicQos(_) => method_frame(channel, BasicQosOk {}),
            Method::BasicGet(_) => method_frame(channel, BasicGetEmpty {}),
            Method::BasicConsume(BasicConsume { consumer_tag, .. }) => {
                let consumer_tag = *consumer_tag;
                method_frame(channel, BasicConsumeOk { consumer_tag })
            }
            Method::BasicCancel(BasicCancel { consumer_tag, .. }) => {
                let consumer_tag = *consumer_tag;
                method_frame(channel, BasicCancelOk { consumer_tag })
            }
            other => panic!("nobody asks {other}"),
        }
    }

    /// Whether there are publishes with a number. What was asked before them is answered before anything is said of them.
    fn has_numbered(&self) -> bool {
        let is_select = |asked: &Vec<u8>| matches!(Method::decode(asked), Ok(Method::ConfirmSelect(_)));
        !self.publishes.is_empty() && !self.pending.iter().any(is_select)
    }

    /// In the order of the publishes, as on every channel.
    fn returns(&mut self, channel: u16, last: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        for publish in &mut self.publishes[..=last] {
            if publish.is_returnable() && !publish.is_returned && publish.nacked.is_none() {
                publish.is_returned = true;
                let method = BasicReturn {
                    reply_code: ReplyCode::NO_ROUTE,
                    routing_key: ShortStr::delimited(&publish.routing_key),
                    ..Default::default()
                };
                let header = ContentHeader::decode(&publish.header).expect("it was read before");
                let body = vec![b'r'; usize::try_from(header.body_size).expect("it is small")];
                octets.extend(content_frames(channel, method, header.properties, &body, 4000));
            }
        }
        octets
    }
}

fn answer_connection(asked: &[u8]) -> Vec<u8> {
    match Method::decode(asked).expect("it was read before") {
        Method::ConnectionUpdateSecret(_) => method_frame(0, ConnectionUpdateSecretOk {}),
        Method::ConnectionClose(_) => method_frame(0, ConnectionCloseOk {}),
        Method::ConnectionOpen(_) => Vec::new(),
        other => panic!("nobody asks {other}"),
    }
}
