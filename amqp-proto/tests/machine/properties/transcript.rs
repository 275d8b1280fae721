//! Sessions to cut: what the broker sends, and a client that has asked for it.

use std::collections::BTreeSet;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Config, DeliveryTag, Event, Secret};

use crate::peer::Peer;

/// A client with four channels, and what it waits for.
pub(crate) struct Busy {
    pub(crate) peer: Peer,
    pub(crate) waiting: Waiting,
    pub(crate) channels: Vec<ChannelId>,
}

/// What an event must still come for, each exactly once. Things are named as they print.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Waiting {
    things: BTreeSet<String>,
    is_closed: bool,
}

impl Waiting {
    fn add(&mut self, thing: impl std::fmt::Debug) {
        assert!(self.things.insert(format!("{thing:?}")));
    }

    fn remove(&mut self, thing: impl std::fmt::Debug) {
        let thing = format!("{thing:?}");
        assert!(
            self.things.remove(&thing),
            "{thing} is resolved, and was not waited for"
        );
    }

    pub(crate) fn take(&mut self, event: &Event) {
        assert!(!self.is_closed, "after the end: {event:?}");
        match event {
            Event::Reply(reply) => self.remove(reply.request()),
            Event::RequestFailed { request, .. } => self.remove(request),
            Event::Got(got) => self.remove(got.request),
            Event::GetEmpty { request } => self.remove(request),
            Event::Confirmed { tags, .. } => tags.iter().for_each(|tag| self.remove(tag)),
            Event::ChannelClosed { channel, .. } => {
                self.remove(channel);
                let of_it = format!(" of {channel})");
                let left: Vec<_> = self
                    .things
                    .iter()
                    .filter(|thing| thing.ends_with(&of_it))
                    .collect();
                assert!(left.is_empty(), "{channel} ended before {left:?}");
            }
            Event::Closed(_) => {
                assert_eq!(self.things, BTreeSet::new(), "they never come");
                self.is_closed = true;
            }
            _ => {}
        }
    }

    pub(crate) fn take_all(&mut self, events: &[Event]) {
        events.iter().for_each(|event| self.take(event));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

impl Busy {
    /// Channel 1 publishes with confirms, 2 consumes, 3 asks, 4 is opening and asks already.
    pub(crate) fn new(config: Config) -> Self {
        let tune = ConnectionTune {
            channel_max: 4,
            frame_max: 4096,
            heartbeat: 0,
        };
        let mut peer = Peer::open_with(config, tune);
        let mut channels: Vec<_> = (1..=3).map(|_| peer.open_channel()).collect();
        channels.push(peer.connection.open_channel().unwrap());
        let mut waiting = Waiting::default();
        channels.iter().for_each(|channel| waiting.add(channel));
        let mut channel = peer.connection.channel(channels[0]).unwrap();
        waiting.add(channel.request(&ConfirmSelect::default()).unwrap());
        for number in 0..8 {
            let publish = BasicPublish {
                routing_key: "key".try_into().unwrap(),
                mandatory: number % 2 == 0,
                ..Default::default()
            };
            let tag = channel.publish(&publish, &Properties::default(), &b"body"[..]);
            waiting.add(tag.unwrap().unwrap());
        }
        let mut channel = peer.connection.channel(channels[1]).unwrap();
        let (_, request) = channel.consume(&consume("a")).unwrap();
        waiting.add(request);
        let (streamed, request) = channel.consume(&consume("b")).unwrap();
        waiting.add(request);
        channel.stream_bodies(streamed, true).unwrap();
        for channel in &channels[2..] {
            let mut channel = peer.connection.channel(*channel).unwrap();
            waiting.add(channel.request(&QueueDeclare::default()).unwrap());
            waiting.add(channel.get(&BasicGet::default()).unwrap());
            waiting.add(channel.get(&BasicGet::default()).unwrap());
        }
        let secret = peer.connection.update_secret(&Secret::from("new"), "expires");
        waiting.add(secret.unwrap());
        peer.sent();
        Self {
            peer,
            waiting,
            channels,
        }
    }
}

pub(crate) fn consume(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        consumer_tag: tag.try_into().unwrap(),
        ..Default::default()
    }
}

pub(crate) fn deliver(tag: &str, delivery_tag: u64) -> BasicDeliver<'_> {
    BasicDeliver {
        consumer_tag: tag.try_into().unwrap(),
        delivery_tag,
        ..Default::default()
    }
}

/// Whole frames of one channel each, in the order of that channel.
pub(crate) type Lane = Vec<Vec<u8>>;

/// What the broker answers and sends to a [`Busy`] client, a lane for each channel. The last channel is closed by the broker.
pub(crate) fn lanes() -> Vec<Lane> {
    let returned = BasicReturn {
        routing_key: "key".try_into().unwrap(),
        ..Default::default()
    };
    let confirming = [
        method(1, ConfirmSelectOk {}),
        content(1, returned, b"body"),
        method(1, ack(2, true)),
        method(1, nack(5)),
        content(1, returned, b"body"),
        method(1, ack(8, true)),
    ];
    let body = vec![b'x'; 9000];
    let consuming = [
        method(2, consume_ok("a")),
        method(2, consume_ok("b")),
        content(2, deliver("a", 1), b"small"),
        content(2, deliver("b", 2), &body),
        content(2, deliver("a", 3), &body),
        content(2, deliver("a", 4), b""),
        content(2, deliver("nobody", 5), b"back it goes"),
    ];
    let mut lanes = vec![
        vec![
            vec![method_frame(0, ConnectionUpdateSecretOk {})],
            vec![HEARTBEAT.to_vec()],
        ],
        confirming.into(),
        consuming.into(),
        vec![
            method(3, QueueDeclareOk::default()),
            content(3, BasicGetOk::default(), b"got"),
            method(3, BasicGetEmpty {}),
        ],
        vec![
            method(4, ChannelOpenOk {}),
            method(4, QueueDeclareOk::default()),
            method(4, BasicGetEmpty {}),
            method(4, ChannelClose::default()),
        ],
    ];
    lanes.drain(..).map(|lane| lane.concat()).collect()
}

/// The lanes one after the other.
pub(crate) fn in_turn(lanes: &[Lane]) -> Vec<u8> {
    lanes.concat().concat()
}

pub(crate) fn ack(delivery_tag: u64, multiple: bool) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple,
    }
}

pub(crate) fn nack(delivery_tag: u64) -> BasicNack {
    BasicNack {
        delivery_tag,
        multiple: false,
        requeue: false,
    }
}

fn consume_ok(tag: &str) -> BasicConsumeOk<'_> {
    BasicConsumeOk {
        consumer_tag: tag.try_into().unwrap(),
    }
}

pub(crate) fn method_frame<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = Vec::new();
    method.into().encode(&mut octets, channel, u32::MAX).unwrap();
    octets
}

fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Lane {
    vec![method_frame(channel, method)]
}

/// A message, its body in pieces of 4000 octets.
pub(crate) fn content<'m>(channel: u16, method: impl Into<Method<'m>>, body: &[u8]) -> Lane {
    content_with(channel, method, Properties::default(), body)
}

pub(crate) fn content_with<'m>(
    channel: u16,
    method: impl Into<Method<'m>>,
    properties: Properties<'_>,
    body: &[u8],
) -> Lane {
    let header = ContentHeader {
        body_size: body.len() as u64,
        properties,
    };
    let frames = [Frame::Header { channel, header }].into_iter();
    let frames = frames.chain(body.chunks(4000).map(|payload| Frame::Body { channel, payload }));
    let frames = frames.map(|frame| {
        let mut octets = Vec::new();
        frame.encode(&mut octets, u32::MAX).unwrap();
        octets
    });
    [method_frame(channel, method)]
        .into_iter()
        .chain(frames)
        .collect()
}

/// The tags of what was delivered, streamed or not.
pub(crate) fn deliveries(events: &[Event]) -> Vec<DeliveryTag> {
    let tag = |event: &Event| match event {
        Event::Delivery(delivery) | Event::DeliveryStarted { delivery, .. } => Some(delivery.tag),
        _ => None,
    };
    events.iter().filter_map(tag).collect()
}
