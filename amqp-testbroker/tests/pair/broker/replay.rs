//! A second client puts back what the first one had declared.

use std::collections::HashMap;

use amqp_proto::topology::{ChannelKey, Destination, Name, Plan, Step, Topology};
use amqp_proto::wire::*;
use amqp_proto::{ChannelId, ConfirmOutcome, Delivery, Event, RequestId};
use amqp_testbroker::{Broker, LinkConfig, Pair};

use super::story::{config, short};

/// What the second client has.
#[derive(Debug)]
pub(crate) struct Replay {
    pair: Pair<Broker>,
    plan: Plan,
    /// As the broker has it in the end.
    topology: Topology,
    /// For what belongs to no channel.
    own: ChannelId,
    channels: HashMap<ChannelKey, ChannelId>,
    /// The methods of a step that are not answered.
    requests: HashMap<RequestId, Step>,
    opens: HashMap<ChannelId, Step>,
    pub(crate) deliveries: Vec<Delivery>,
}

impl Replay {
    /// Connects, and carries out the whole plan.
    #[track_caller]
    pub(crate) fn run(broker: Broker, topology: Topology) -> Self {
        let mut pair = Pair::new(config(), broker, LinkConfig::perfect());
        pair.drive(|event| *event == Event::Connected).unwrap();
        let own = pair.client.open_channel().unwrap();
        pair.drive(|event| *event == Event::ChannelOpened { channel: own })
            .unwrap();
        let mut replay = Self {
            pair,
            plan: Plan::new(&topology),
            topology,
            own,
            channels: HashMap::new(),
            requests: HashMap::new(),
            opens: HashMap::new(),
            deliveries: Vec::new(),
        };
        while !replay.plan.is_finished() {
            let ready: Vec<Step> = replay.plan.ready().cloned().collect();
            for step in ready {
                replay.send(step);
            }
            while !replay.requests.is_empty() || !replay.opens.is_empty() {
                let events = replay.pair.drive(|_| true).unwrap();
                events.iter().for_each(|event| replay.on_event(event));
            }
        }
        assert!(replay.plan.is_recovered(), "{:#?}", replay.plan);
        replay
    }

    fn send(&mut self, step: Step) {
        let method = step.method();
        if let Method::ChannelOpen(_) = method {
            let channel = self.pair.client.open_channel().unwrap();
            self.channels.insert(step.channel().unwrap(), channel);
            self.opens.insert(channel, step);
            return;
        }
        let channel = step.channel().map_or(self.own, |key| self.channels[&key]);
        let mut channel = self.pair.client.channel(channel).unwrap();
        let request = match method {
            Method::ExchangeDeclare(method) => channel.request(&method).unwrap().untyped(),
            Method::ExchangeBind(method) => channel.request(&method).unwrap().untyped(),
            Method::QueueDeclare(method) => channel.request(&method).unwrap().untyped(),
            Method::QueueBind(method) => channel.request(&method).unwrap().untyped(),
            Method::BasicQos(method) => channel.request(&method).unwrap().untyped(),
            Method::ConfirmSelect(method) => channel.request(&method).unwrap().untyped(),
            Method::TxSelect(method) => channel.request(&method).unwrap().untyped(),
            Method::BasicConsume(method) => channel.consume(&method).unwrap().1.untyped(),
            other => panic!("no step sends {other}"),
        };
        self.requests.insert(request, step);
    }

    fn on_event(&mut self, event: &Event) {
        match event {
            Event::ChannelOpened { channel } => {
                let step = self.opens.remove(channel).expect("opened once");
                assert_eq!(self.plan.succeeded(step.id(), None), None);
            }
            Event::Reply(reply) => {
                let step = self.requests.remove(&reply.request()).expect("answered once");
                let queue = match reply.method() {
                    Some(Method::QueueDeclareOk(ok)) => Some(ok.queue),
                    _ => None,
                };
                if let Some(renamed) = self.plan.succeeded(step.id(), queue) {
                    assert!(self.topology.queue_renamed(&renamed.old, &renamed.new));
                }
            }
            Event::Delivery(delivery) => self.deliveries.push(delivery.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// The broker has the queues, the consumers and the bindings of the record. (Exchanges without bindings: the plan says so.)
    #[track_caller]
    pub(crate) fn check(&mut self) {
        let broker = &self.pair.server;
        let mut consumers: HashMap<Name, usize> = HashMap::new();
        for key in self.topology.channels() {
            for consumer in self.topology.consumers(key) {
                *consumers.entry(consumer.queue().clone()).or_default() += 1;
            }
        }
        for queue in self.topology.queues() {
            let name = queue.name().as_short_str().to_string();
            let count = consumers.get(queue.name()).copied().unwrap_or(0);
            assert_eq!(broker.consumer_count("/", &name), Some(count), "{name}");
        }
        // The channel's own, the program's.
        assert_eq!(
            broker.connections()[0].channels,
            1 + self.topology.channels().count()
        );
        self.probe_bindings();
    }

    /// Publishes along each binding: the keys of the session's patterns match themselves.
    #[track_caller]
    fn probe_bindings(&mut self) {
        let mut channel = self.pair.client.channel(self.own).unwrap();
        let _: RequestId<_> = channel.request(&ConfirmSelect::default()).unwrap();
        let is_to_tasks =
            |destination: &Destination| matches!(destination, Destination::Queue(queue) if *queue == "tasks");
        let leads_on = self
            .topology
            .bindings()
            .any(|binding| is_to_tasks(binding.destination()));
        let mut probes = HashMap::new();
        for binding in self.topology.bindings() {
            let routing_key = match binding.destination() {
                Destination::Queue(_) => binding.routing_key().as_short_str(),
                // From there the binding of `tasks` leads on.
                _ if leads_on => short("task.probe"),
                // Or none does that is known to the record.
                _ => continue,
            };
            let publish = BasicPublish {
                exchange: binding.source().as_short_str(),
                routing_key,
                mandatory: true,
                ..Default::default()
            };
            let tag = channel.publish(&publish, &Properties::default(), b"0").unwrap();
            probes.insert(tag.unwrap(), binding.clone());
        }
        while !probes.is_empty() {
            for event in self.pair.drive(|_| true).unwrap() {
                let Event::Confirmed { tags, outcome } = event else {
                    continue;
                };
                for tag in tags.iter() {
                    let binding = probes.remove(&tag).expect("confirmed once");
                    assert_eq!(outcome, ConfirmOutcome::Acked, "{binding:?}");
                }
            }
        }
    }
}
