//! Operations on both ends of a link, and on the link: whatever goes wrong, everything is resolved once.

use std::iter;
use std::time::Duration;

use amqp_proto::fuzzing::Ledger;
use amqp_proto::wire::ReplyCode;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, Config, ConsumerId, DeliveryTag, Event, Heartbeat,
};
use arbitrary::{Arbitrary, Unstructured};

use super::commands::Command;
use super::honest::Honest;
use super::{MAX_MEMORY, MAX_MESSAGE_SIZE, check_memory};
use crate::broker::Broker;
use crate::config::{BrokerConfig, Release};
use crate::link::{LinkConfig, Side};
use crate::pair::Pair;

/// More operations than these teach nothing new and only take time.
const MOST_OPERATIONS: usize = 200;

/// How many steps the end of a connection takes at most.
const MOST_STEPS: usize = 300_000;

#[derive(Debug, Arbitrary)]
struct Setup {
    /// The first operation comes before the handshake; otherwise there is a channel in confirm mode already.
    is_early: bool,
    is_old: bool,
    is_tight: bool,
    joins_confirms: bool,
    heartbeat: u8,
    seed: u8,
    segment: u8,
    latency: u8,
    jitter: u8,
    bandwidth: u8,
    ends_in_order: bool,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Client(Command),
    Broker(BrokerOp),
    Link(LinkOp),
    Step,
    /// In milliseconds.
    Sleep(u16),
}

#[derive(Debug, Arbitrary)]
enum BrokerOp {
    Restart,
    Block,
    Unblock,
    Nack(u8),
    /// In milliseconds.
    DelayConfirms(u16),
    ReverseConfirms(bool),
    CancelConsumer(u8),
    CloseChannel(u8),
    CloseConnection,
    Mute(bool),
    Deaf(bool),
    HangUpAfter(u16),
}

#[derive(Debug, Arbitrary)]
enum LinkOp {
    Reset(bool),
    Shutdown(bool),
    /// In milliseconds.
    Stall(bool, u16),
    Release(bool),
}

/// What a client may ask, what a broker may do to it, and what may happen on the way: in any order, and in time.
///
/// Each request, publish and channel is resolved exactly once, before the end of what it belongs to, and nothing comes behind
/// that. Neither side finds that the other one breaks the protocol; bodies are those that were published; memory is bounded. When
/// the faults are over, a connection that is left answers everything; when the stream has ended, nothing is outstanding at either
/// end, and an honest client is served.
pub fn both_ends(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut u) else {
        return;
    };
    let mut session = Session::new(&setup);
    let more = || {
        if u.is_empty() {
            None
        } else {
            Op::arbitrary(&mut u).ok()
        }
    };
    for op in iter::from_fn(more).take(MOST_OPERATIONS) {
        session.apply(op);
        session.look();
        if session.ledger.is_closed() {
            break;
        }
    }
    session.finish(setup.ends_in_order);
}

pub(super) struct Session {
    pub(super) pair: Pair<Broker>,
    pub(super) ledger: Ledger,
    /// Ended ones too: what is asked of them is refused.
    pub(super) channels: Vec<ChannelId>,
    pub(super) consumers: Vec<ConsumerId>,
    pub(super) deliveries: Vec<DeliveryTag>,
    /// The sizes of what was published; a body consists of its place in here.
    pub(super) bodies: Vec<usize>,
}

impl Session {
    fn new(setup: &Setup) -> Self {
        let broker = Broker::new(BrokerConfig {
            max_memory: MAX_MEMORY,
            max_message_size: MAX_MESSAGE_SIZE,
            channel_max: 7,
            joins_confirms: setup.joins_confirms,
            ..BrokerConfig::of(if setup.is_old { Release::V3_10 } else { Release::V4 })
        });
        let heartbeat = Heartbeat::Seconds((setup.heartbeat % 32).into());
        let mut config = Config::default().heartbeat(heartbeat);
        if setup.is_tight {
            config = config.outbound_high_water(2000).outbound_limit(4000);
        }
        let mut link = LinkConfig::perfect()
            .seed(setup.seed.into())
            .latency(Duration::from_millis(setup.latency.into()))
            .jitter(Duration::from_millis(setup.jitter.into()));
        if setup.segment > 0 {
            link = link.segment(setup.segment.into());
        }
        if setup.bandwidth > 0 {
            link = link.bandwidth(u64::from(setup.bandwidth) * 4096);
        }
        let mut session = Self {
            pair: Pair::new(config, broker, link),
            ledger: Ledger::default(),
            channels: vec![ChannelId::CONNECTION],
            consumers: vec![ConsumerId::new(ChannelId::CONNECTION, 0)],
            deliveries: vec![DeliveryTag::new(ChannelId::CONNECTION, 1)],
            bodies: Vec::new(),
        };
        if !setup.is_early {
            session.sleep(Duration::from_secs(9));
            session.start().expect("it is connected");
        }
        session
    }

    fn apply(&mut self, op: Op) {
        match op {
            // What is refused is no concern of the broker.
            Op::Client(op) => drop(self.command(&op)),
            Op::Broker(op) => self.fault(&op),
            Op::Link(op) => self.disturb(&op),
            Op::Step => drop(self.pair.step()),
            Op::Sleep(millis) => self.sleep(Duration::from_millis(millis.into())),
        }
    }

    fn fault(&mut self, op: &BrokerOp) {
        let (now, key) = (self.pair.now(), self.pair.client.key);
        let broker = &mut self.pair.server;
        match *op {
            BrokerOp::Restart => broker.restart(now),
            BrokerOp::Block => broker.block("low on memory"),
            BrokerOp::Unblock => broker.unblock(now),
            BrokerOp::Nack(count) => broker.nack_publishes(count.into()),
            BrokerOp::DelayConfirms(millis) => broker.delay_confirms(Duration::from_millis(millis.into())),
            BrokerOp::ReverseConfirms(is_reversed) => broker.reverse_confirms(is_reversed),
            BrokerOp::CancelConsumer(which) => {
                let consumer = pick(&self.consumers, which);
                let channel = self.pair.client.channel(consumer.channel());
                let tag = channel.ok().and_then(|mut channel| {
                    let tag = channel.consumer_tag(consumer)?;
                    Some(String::from_utf8_lossy(tag.as_bytes()).into_owned())
                });
                if let Some(tag) = tag {
                    let number = consumer.channel().number();
                    self.pair.server.cancel_consumer(key, now, number, &tag);
                }
            }
            BrokerOp::CloseChannel(which) => {
                let number = pick(&self.channels, which).number();
                broker.close_channel(key, now, number, ReplyCode::RESOURCE_LOCKED, "a fault");
            }
            BrokerOp::CloseConnection => {
                broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "a fault");
            }
            BrokerOp::Mute(is_mute) => broker.set_mute(key, now, is_mute),
            BrokerOp::Deaf(is_deaf) => broker.set_deaf(key, now, is_deaf),
            BrokerOp::HangUpAfter(octets) => broker.hang_up_after(key, now, octets.into()),
        }
    }

    fn disturb(&mut self, op: &LinkOp) {
        let now = self.pair.now();
        let link = &mut self.pair.client.link;
        match *op {
            LinkOp::Reset(side_of_client) => link.reset(side(side_of_client), now),
            LinkOp::Shutdown(side_of_client) => link.shutdown(side(side_of_client), now),
            LinkOp::Stall(side_of_client, millis) => {
                link.stall(side(side_of_client), now, Duration::from_millis(millis.into()));
            }
            LinkOp::Release(side_of_client) => link.release(side(side_of_client)),
        }
    }

    fn sleep(&mut self, duration: Duration) {
        let events = self.pair.drive_for(duration);
        self.note(&events.unwrap_or_else(|stuck| panic!("{stuck}")));
    }

    fn look(&mut self) {
        let events = self.pair.client.take_events();
        self.note(&events);
        check_memory(&self.pair.server);
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            self.ledger.take(event);
            match event {
                Event::Delivery(delivery) => {
                    self.check_body(&delivery.message.body());
                    self.deliveries.push(delivery.tag);
                }
                Event::Got(got) => {
                    self.check_body(&got.message.body());
                    self.deliveries.push(got.tag);
                }
                Event::Returned(returned) => self.check_body(&returned.message.body()),
                Event::ChannelClosed { reason, .. } => check_channel_end(reason),
                Event::Closed(reason) => check_end(reason),
                _ => {}
            }
        }
    }

    fn check_body(&self, body: &[u8]) {
        let [number, ..] = body else {
            panic!("nobody published nothing");
        };
        let size = self.bodies.get(usize::from(*number));
        assert_eq!(size, Some(&body.len()), "number {number}");
        assert!(body.iter().all(|octet| octet == number));
    }

    /// The faults end. Then the stream does, after an answer to everything or at once.
    fn finish(mut self, in_order: bool) {
        let (now, key) = (self.pair.now(), self.pair.client.key);
        self.pair.server.unblock(now);
        self.pair.server.set_mute(key, now, false);
        self.pair.server.set_deaf(key, now, false);
        self.pair.server.delay_confirms(Duration::ZERO);
        self.pair.server.nack_publishes(0);
        for side in [Side::Client, Side::Server] {
            self.pair.client.link.release(side);
        }
        if in_order {
            // Delayed confirms take a minute, what the client waits for half of one.
            self.sleep(Duration::from_secs(120));
            self.ledger.is_settled();
            assert_eq!(self.pair.client.queued_bytes(), 0);
            self.pair.client.close(ReplyCode::REPLY_SUCCESS, "bye");
        } else {
            self.pair.client.link.reset(Side::Client, now);
        }
        let events = self.pair.drive_bounded(MOST_STEPS);
        self.note(&events.unwrap_or_else(|stuck| panic!("{stuck}")));
        assert!(self.ledger.is_closed());
        assert!(self.pair.client.is_over(), "{:?}", self.pair.client);
        let now = self.pair.now();
        let broker = &mut self.pair.server;
        assert!(broker.connections().is_empty());
        assert_eq!(broker.common.held, 0);
        let mut honest = Honest::connect(broker, now);
        honest.clear();
        honest.works();
        honest.leave();
    }
}

/// The last ones most easily.
pub(super) fn pick<T: Copy>(all: &[T], which: u8) -> T {
    all[all.len() - 1 - usize::from(which) % all.len()]
}

const fn side(is_client: bool) -> Side {
    if is_client { Side::Client } else { Side::Server }
}

/// Refusals, and what both sides agree upon.
fn check_channel_end(reason: &ChannelCloseReason) {
    if let ChannelCloseReason::Peer(peer) = reason {
        let expected = [
            ReplyCode::ACCESS_REFUSED,
            ReplyCode::NOT_FOUND,
            ReplyCode::RESOURCE_LOCKED,
            ReplyCode::PRECONDITION_FAILED,
        ];
        assert!(expected.contains(&peer.code), "{reason}");
    }
}

/// Nobody breaks the protocol.
fn check_end(reason: &CloseReason) {
    match reason {
        CloseReason::Peer(peer) => {
            let expected = [ReplyCode::CONNECTION_FORCED, ReplyCode::RESOURCE_ERROR];
            assert!(expected.contains(&peer.code), "{reason}");
        }
        // An end of the stream at the wrong time looks as if the broker did not like the password.
        CloseReason::AuthRefused { peer: None }
        | CloseReason::Requested { .. }
        | CloseReason::HandshakeTimeout { .. }
        | CloseReason::Transport { .. }
        | CloseReason::HeartbeatMissed { .. } => {}
        other => panic!("{other}"),
    }
}
