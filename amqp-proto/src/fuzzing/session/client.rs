//! The client: gives commands, and knows what came of them.

use arbitrary::Arbitrary;

use super::ledger::{Asked, consume};
use super::machine::Machine;
use crate::fuzzing::check::pattern;
use crate::trace::Direction;
use crate::wire::*;
use crate::{
    Channel, ChannelId, Config, ConfirmLimits, ConsumerId, DeliveryTag, Event, Instant, RequestId, Secret,
    SendError,
};

#[derive(Debug, Arbitrary)]
pub(super) enum ClientOp {
    Open,
    OpenWithNumber(u8),
    Request(u8, Kind),
    Nowait(u8, Kind),
    Publish {
        channel: u8,
        size: u16,
        mandatory: bool,
        is_routable: bool,
        key: u8,
    },
    Consume {
        channel: u8,
        tag: u8,
        no_ack: bool,
        no_wait: bool,
    },
    Cancel(u8, u8),
    Stream(u8, u8, bool),
    Get(u8, bool),
    Settle(u8, How, u8),
    Abandon(u8),
    CloseChannel(u8),
    Close,
    SetLimits(u8, u8, u16),
    NumberPublishes(u8, bool),
    UpdateSecret(u16),
    Tap(bool),
    Multiplier(u8),
}

#[derive(Debug, Arbitrary, Clone, Copy)]
pub(super) enum Kind {
    Declare,
    Purge,
    Qos,
    Flow,
    ConfirmSelect,
}

#[derive(Debug, Arbitrary, Clone, Copy)]
pub(super) enum How {
    Ack,
    AckMultiple,
    Nack,
    NackMultiple,
    Reject,
}

/// A client that gives any command at any time.
pub(super) struct Client {
    pub(super) machine: Machine,
    /// Ended ones too: what is asked of them is refused.
    channels: Vec<ChannelId>,
    consumers: Vec<ConsumerId>,
    requests: Vec<RequestId>,
    deliveries: Vec<DeliveryTag>,
}

impl Client {
    pub(super) fn new(config: Config, tune: ConnectionTune) -> Self {
        Self {
            machine: Machine::shaken(config, tune, 3),
            channels: vec![ChannelId::new(3, 77)],
            consumers: vec![ConsumerId::new(ChannelId::new(3, 77), 0)],
            requests: vec![RequestId::new(ChannelId::CONNECTION, 77)],
            deliveries: vec![DeliveryTag::new(ChannelId::new(3, 77), 1)],
        }
    }

    /// Remembers what can be named later.
    pub(super) fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Delivery(delivery) | Event::DeliveryStarted { delivery, .. } => {
                    self.deliveries.push(delivery.tag);
                }
                Event::Got(got) => self.deliveries.push(got.tag),
                _ => {}
            }
        }
    }

    pub(super) fn apply(&mut self, op: ClientOp) {
        let before = (self.machine.connection.queued_bytes(), self.sent());
        let result = self.command(op);
        if let Err(error) = result {
            crate::fuzzing::check::one_line(&error);
            let after = (self.machine.connection.queued_bytes(), self.sent());
            assert_eq!(after, before, "refused ({error}), and yet written");
        }
    }

    fn sent(&self) -> u64 {
        self.machine.connection.counters().frames_sent
    }

    fn command(&mut self, op: ClientOp) -> Result<(), SendError> {
        match op {
            ClientOp::Open => {
                let channel = self.machine.connection.open_channel()?;
                self.opened(channel);
            }
            ClientOp::OpenWithNumber(number) => {
                let number = (number % 8).into();
                let channel = self.machine.connection.open_channel_with_number(number)?;
                assert_eq!(channel.number(), number);
                self.opened(channel);
            }
            ClientOp::Request(which, kind) => {
                let (request, spec) = request(&mut self.channel(which)?, kind)?;
                self.asked(request, Asked::Plain(spec));
            }
            ClientOp::Nowait(which, kind) => nowait(&mut self.channel(which)?, kind)?,
            ClientOp::Publish { .. } => self.publish(op)?,
            ClientOp::Consume { .. } => self.consume(op)?,
            ClientOp::Cancel(which, consumer) => {
                let consumer = pick(&self.consumers, consumer);
                let request = self.channel(which)?.cancel(consumer)?;
                self.asked(request.untyped(), Asked::Cancel(consumer));
            }
            ClientOp::Stream(which, consumer, stream) => {
                let consumer = pick(&self.consumers, consumer);
                self.channel(which)?.stream_bodies(consumer, stream)?;
            }
            ClientOp::Get(which, no_ack) => {
                let get = BasicGet {
                    no_ack,
                    ..Default::default()
                };
                let request = self.channel(which)?.get(&get)?;
                self.asked(request.untyped(), Asked::Get);
            }
            ClientOp::Settle(which, how, tag) => self.settle(which, how, tag)?,
            ClientOp::Abandon(which) => {
                let request = pick(&self.requests, which);
                self.machine.connection.abandon(request);
                self.machine.ledger.abandoned(request);
            }
            ClientOp::CloseChannel(which) => {
                self.channel(which)?.close(ReplyCode::REPLY_SUCCESS, "bye")?;
            }
            _ => self.configure(op)?,
        }
        Ok(())
    }

    fn configure(&mut self, op: ClientOp) -> Result<(), SendError> {
        match op {
            ClientOp::Close => self.machine.connection.close(ReplyCode::REPLY_SUCCESS, "bye"),
            ClientOp::SetLimits(which, count, octets) => {
                let limits = ConfirmLimits::default().count(count.into()).octets(octets.into());
                self.channel(which)?.set_confirm_limits(limits);
            }
            ClientOp::NumberPublishes(which, number) => self.channel(which)?.number_publishes(number),
            ClientOp::UpdateSecret(size) => {
                let secret = Secret::new(vec![b's'; usize::from(size) % 6000]);
                let request = self.machine.connection.update_secret(&secret, "it expires")?;
                self.asked(request.untyped(), Asked::Plain(ConnectionUpdateSecret::SPEC));
            }
            ClientOp::Tap(is_on) => {
                let tap = |_: Instant, _: Direction, channel: u16, octets: &[u8]| {
                    assert!(octets.len() >= 8);
                    assert_eq!(octets[1..3], channel.to_be_bytes());
                };
                self.machine
                    .connection
                    .set_tap(is_on.then_some(Box::new(tap) as _));
            }
            ClientOp::Multiplier(multiplier) => {
                self.machine
                    .connection
                    .set_backpressure_multiplier(multiplier.into());
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, op: ClientOp) -> Result<(), SendError> {
        let ClientOp::Publish {
            channel,
            size,
            mandatory,
            is_routable,
            key,
        } = op
        else {
            return Ok(());
        };
        let body = pattern((size % 20_000).into(), key);
        let mut channel = self.channel(channel)?;
        // A server leads `-` to no queue.
        let start = match (is_routable, channel.is_confirming()) {
            (true, _) => b'q',
            (false, true) => b'-',
            (false, false) => b'~',
        };
        let key = [start, b'a' + key % 2];
        let publish = BasicPublish {
            routing_key: ShortStr::delimited(&key),
            mandatory,
            ..Default::default()
        };
        let waiting = channel.unconfirmed();
        let result = channel.publish(&publish, &Properties::default(), body);
        assert_eq!(
            channel.unconfirmed(),
            waiting + usize::from(matches!(result, Ok(Some(_))))
        );
        if let Some(tag) = result? {
            assert!(channel.is_unconfirmed(tag));
            self.machine.ledger.published(tag);
        }
        Ok(())
    }

    fn consume(&mut self, op: ClientOp) -> Result<(), SendError> {
        let ClientOp::Consume {
            channel,
            tag,
            no_ack,
            no_wait,
        } = op
        else {
            return Ok(());
        };
        let names: [&[u8]; 4] = [b"", b"a", b"b", b"c"];
        let method = BasicConsume {
            consumer_tag: ShortStr::delimited(names[usize::from(tag) % 4]),
            no_ack,
            ..Default::default()
        };
        if no_wait {
            let consumer = self.channel(channel)?.consume_nowait(&method)?;
            self.machine.ledger.consuming(consumer);
            self.consumers.push(consumer);
        } else {
            let started = self.channel(channel)?.consume(&method)?;
            self.consumers.push(started.0);
            let (request, asked) = consume(started);
            self.asked(request, asked);
        }
        Ok(())
    }

    fn settle(&mut self, which: u8, how: How, tag: u8) -> Result<(), SendError> {
        let id = pick(&self.channels, which);
        let tag = match tag {
            // One that no server ever gave.
            255 => DeliveryTag::new(id, u64::MAX),
            254 => DeliveryTag::new(id, 0),
            which => pick(&self.deliveries, which),
        };
        let mut channel = self.channel(which)?;
        let result = match how {
            How::Ack => channel.ack(tag),
            How::AckMultiple => channel.ack_multiple(tag),
            How::Nack => channel.nack(tag, true),
            How::NackMultiple => channel.nack_multiple(tag, false),
            How::Reject => channel.reject(tag, true),
        };
        assert!(result.is_err() || tag.channel() == id, "a stale tag was taken");
        result
    }

    fn opened(&mut self, channel: ChannelId) {
        self.machine.ledger.opened(channel);
        self.channels.push(channel);
    }

    fn asked(&mut self, request: RequestId, asked: Asked) {
        self.machine.ledger.asked(request, asked);
        self.requests.push(request);
    }

    fn channel(&mut self, which: u8) -> Result<Channel<'_>, SendError> {
        let id = pick(&self.channels, which);
        self.machine.connection.channel(id)
    }
}

/// The last ones most easily.
fn pick<T: Copy>(all: &[T], which: u8) -> T {
    all[all.len() - 1 - usize::from(which) % all.len()]
}

fn request(channel: &mut Channel<'_>, kind: Kind) -> Result<(RequestId, &'static MethodSpec), SendError> {
    Ok(match kind {
        Kind::Declare => (
            channel.request(&QueueDeclare::default())?.untyped(),
            QueueDeclare::SPEC,
        ),
        Kind::Purge => (
            channel.request(&QueuePurge::default())?.untyped(),
            QueuePurge::SPEC,
        ),
        Kind::Qos => (channel.request(&BasicQos::default())?.untyped(), BasicQos::SPEC),
        Kind::Flow => (
            channel.request(&ChannelFlow { active: true })?.untyped(),
            ChannelFlow::SPEC,
        ),
        Kind::ConfirmSelect => (
            channel.request(&ConfirmSelect::default())?.untyped(),
            ConfirmSelect::SPEC,
        ),
    })
}

fn nowait(channel: &mut Channel<'_>, kind: Kind) -> Result<(), SendError> {
    match kind {
        Kind::Declare | Kind::Qos | Kind::Flow => channel.send_nowait(&QueueDeclare::default()),
        Kind::Purge => channel.send_nowait(&QueuePurge::default()),
        Kind::ConfirmSelect => channel.send_nowait(&ConfirmSelect::default()),
    }
}
