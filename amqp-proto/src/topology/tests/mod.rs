//! Topologies and what happens to them. Most tests read as the lines of the plan that comes of it.

mod plans;
mod records;
mod requests;

use super::model::{Manner, World, connection_lost, refused, short};
use super::*;
use crate::wire::{
    BasicConsume, BasicQos, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, FieldTable,
    QueueBind, QueueDeclare, QueueDelete, QueueUnbind, ReplyCode,
};
use crate::{RequestError, SendError};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_record_is_what_the_broker_has_and_plans_bring_it_back(
        operations in proptest::collection::vec(any::<[u8; 6]>(), 0..60),
    ) {
        let mut world = World::new();
        for operation in operations {
            world.apply(operation);
        }
        for faults in 0..8 {
            world.clone().recover_with_faults(Manner { faults: 1 << faults, ..Manner::PLAIN });
        }
    }
}

const ONE: ChannelKey = ChannelKey::new(1);
const TWO: ChannelKey = ChannelKey::new(2);

/// Short ways to record.
impl Topology {
    fn exchange(mut self, name: &str, auto_delete: bool) -> Self {
        self.exchange_declared(&ExchangeDeclare {
            exchange: short(name),
            auto_delete,
            ..Default::default()
        });
        self
    }

    fn exchange_to(mut self, source: &str, destination: &str) -> Self {
        let (source, destination) = (short(source), short(destination));
        self.exchange_bound(&ExchangeBind {
            source,
            destination,
            ..Default::default()
        });
        self
    }

    fn named(mut self, name: &str, auto_delete: bool) -> Self {
        let declare = QueueDeclare {
            queue: short(name),
            auto_delete,
            ..Default::default()
        };
        self.queue_declared(ONE, &declare, short(name));
        self
    }

    fn server_named(mut self, name: &str) -> Self {
        let declare = QueueDeclare {
            exclusive: true,
            ..Default::default()
        };
        self.queue_declared(ONE, &declare, short(name));
        self
    }

    fn bound(mut self, queue: &str, exchange: &str, key: &str) -> Self {
        let (queue, exchange, routing_key) = (short(queue), short(exchange), short(key));
        self.queue_bound(
            ONE,
            &QueueBind {
                queue,
                exchange,
                routing_key,
                ..Default::default()
            },
        );
        self
    }

    fn consuming(mut self, channel: ChannelKey, queue: &str, tag: &str) -> Self {
        let consume = BasicConsume {
            queue: short(queue),
            consumer_tag: short(tag),
            ..Default::default()
        };
        self.consumer_started(channel, &consume, short(""));
        self
    }

    fn limited(mut self, channel: ChannelKey, prefetch_count: u16, global: bool) -> Self {
        let prefetch_size = 0;
        self.qos(
            channel,
            &BasicQos {
                prefetch_size,
                prefetch_count,
                global,
            },
        );
        self
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.outcomes().map(|(step, _)| step.to_string()).collect()
}

fn steps(topology: &Topology) -> Vec<String> {
    lines(&Plan::new(topology))
}

/// The lines without those of channels, for tests of the rest.
fn entities(topology: &Topology) -> Vec<String> {
    let plan = Plan::new(topology);
    let entities = plan
        .outcomes()
        .filter(|(step, _)| *step.kind() != StepKind::Channel);
    entities.map(|(step, _)| step.to_string()).collect()
}

/// A chain: x1 ─▶ x2 ─▶ x3 ─▶ q, all of it auto-delete, and a consumer.
fn chain() -> Topology {
    let exchanges = Topology::default()
        .exchange("x1", true)
        .exchange("x2", true)
        .exchange("x3", true);
    let bound = exchanges
        .exchange_to("x1", "x2")
        .exchange_to("x2", "x3")
        .named("q", true)
        .bound("q", "x3", "k");
    bound.consuming(ONE, "q", "t")
}

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}
