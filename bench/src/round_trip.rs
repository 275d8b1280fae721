//! A small message on the whole way: from the client's machine over a perfect link to the broker, into a queue, back to a consumer
//! of the same client, and its ack and its confirm.

use std::hint::black_box;

use amqp_proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare};
use amqp_proto::{ChannelId, Config, Event};
use amqp_testbroker::{Broker, BrokerConfig, LinkConfig, Pair, Step};

use crate::cases::Run;
use crate::samples;

/// Both ends, with a queue and its consumer.
struct Ends {
    pair: Pair<Broker>,
    channel: ChannelId,
    delivered: usize,
    confirmed: usize,
}

impl Ends {
    fn new() -> Self {
        let mut pair = Pair::new(
            Config::default(),
            Broker::new(BrokerConfig::default()),
            LinkConfig::perfect(),
        );
        pair.drive(|event| *event == Event::Connected)
            .expect("it connects");
        let channel = pair.client.open_channel().expect("open");
        let mut methods = pair.client.channel(channel).expect("open");
        let queue = samples::ROUTING_KEY.try_into().expect("short");
        let declare = QueueDeclare {
            queue,
            ..QueueDeclare::default()
        };
        methods.send_nowait(&declare).expect("open");
        methods.send_nowait(&ConfirmSelect::default()).expect("open");
        let consume = BasicConsume {
            queue,
            ..BasicConsume::default()
        };
        methods.consume(&consume).expect("open");
        pair.drive(|event| matches!(event, Event::Reply(_)))
            .expect("it consumes");
        Self {
            pair,
            channel,
            delivered: 0,
            confirmed: 0,
        }
    }

    fn publish(&mut self) {
        let method = BasicPublish {
            routing_key: samples::ROUTING_KEY.try_into().expect("short"),
            ..BasicPublish::default()
        };
        let mut channel = self.pair.client.channel(self.channel).expect("open");
        let tag = channel.publish(
            black_box(&method),
            black_box(&Properties::default()),
            black_box(samples::BODY.as_slice()),
        );
        black_box(tag.expect("there is room"));
    }

    /// Goes on until so many were delivered and confirmed.
    fn settle(&mut self, count: usize) {
        while self.delivered < count || self.confirmed < count {
            assert_eq!(self.pair.step(), Step::Worked);
            while let Some(event) = self.pair.client.events.pop_front() {
                match black_box(&event) {
                    Event::Delivery(delivery) => {
                        let mut channel = self.pair.client.channel(self.channel).expect("open");
                        channel.ack(delivery.tag).expect("open");
                        self.delivered += 1;
                    }
                    Event::Confirmed { tags, .. } => self.confirmed += tags.iter().count(),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// `window` messages are under way at a time.
fn round_trips(window: usize) -> Run {
    let mut ends = Ends::new();
    Box::new(move |rounds| {
        let mut left = rounds;
        while left > 0 {
            let count = left.min(window);
            (0..count).for_each(|_| ends.publish());
            ends.settle(count);
            (ends.delivered, ends.confirmed) = (0, 0);
            left -= count;
        }
    })
}

/// One after the other: nothing is written, read or confirmed together.
pub(crate) fn alone() -> Run {
    round_trips(1)
}

/// 64 at a time, as under load.
pub(crate) fn together() -> Run {
    round_trips(64)
}
