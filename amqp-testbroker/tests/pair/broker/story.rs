//! A session in acts that uses everything that a client can send, on a real broker.

use std::collections::HashMap;

use amqp_proto::topology::{ChannelKey, Topology};
use amqp_proto::wire::*;
use amqp_proto::{
    Channel, ChannelCloseReason, ChannelId, Config, ConfirmTag, Connection, ConsumerId, Credentials,
    Delivery, DeliveryTag, Event, Heartbeat, Reply, Request, RequestError, Secret,
};
use amqp_testbroker::{Broker, BrokerConfig, LinkConfig, Pair};

use super::ledger::{Ledger, number};

/// How many steps a session takes at most.
const STEPS: usize = 100_000;

/// The channels, by what they are for: confirms and consumers, transactions, gets, an error.
const MAIN: usize = 0;
const TX: usize = 1;
const GETS: usize = 2;
const DOOMED: usize = 3;

/// Each begins when all that the one before asked for has come.
const ACTS: [fn(&mut Story, &mut Pair<Broker>); 25] = [
    Story::open_channels,
    Story::set_modes,
    Story::declare,
    Story::bind,
    Story::take_back,
    Story::post,
    Story::post_what_is_nacked,
    Story::consume,
    Story::settle_three,
    Story::settle_multiple,
    Story::requeue,
    Story::cancel,
    Story::fill_scratch,
    Story::get_two,
    Story::recover,
    Story::get_two,
    Story::recover_async,
    Story::get_all,
    Story::purge,
    Story::commit,
    Story::roll_back,
    Story::lose_a_channel,
    Story::be_blocked,
    Story::be_unblocked,
    Story::close_a_channel,
];

/// Who closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    ByClient,
    ByServer,
}

/// The client's half.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) ledger: Ledger,
    /// Events, by their names, without answers.
    pub(crate) told: Vec<&'static str>,
    next_act: usize,
    end: End,
    channels: Vec<ChannelId>,
    consumers: HashMap<&'static str, ConsumerId>,
    /// The last delivery of each letter.
    deliveries: HashMap<u32, DeliveryTag>,
    /// Events that the next act waits for.
    awaited: Vec<&'static str>,
    /// The next act waits for all confirms.
    awaits_confirms: bool,
}

/// For both clients.
pub(crate) fn config() -> Config {
    Config::default()
        .credentials(Credentials::rabbit_cr_demo("guest", "guest"))
        // So that nothing to do is nothing to do.
        .heartbeat(Heartbeat::Off)
        .backpressure_multiplier(0)
}

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

impl Story {
    /// Runs it to its end. `prepare` is given the client before anything is written.
    #[track_caller]
    pub(crate) fn run(
        link: LinkConfig,
        end: End,
        prepare: impl FnOnce(&mut Connection),
    ) -> (Self, Pair<Broker>) {
        let mut story = Self {
            ledger: Ledger::default(),
            told: Vec::new(),
            next_act: 0,
            end,
            channels: Vec::new(),
            consumers: HashMap::new(),
            deliveries: HashMap::new(),
            awaited: Vec::new(),
            awaits_confirms: false,
        };
        let mut pair = Pair::new(config(), Broker::new(BrokerConfig::default()), link);
        prepare(&mut pair.client);
        for _ in 0..STEPS {
            while let Some(event) = pair.client.events.pop_front() {
                story.on_event(&event);
            }
            if pair.client.is_over() {
                return (story, pair);
            }
            if pair.client.is_open() && story.is_quiet() {
                story.act(&mut pair);
            }
            pair.step();
        }
        panic!("{story:#?} comes to no end");
    }

    /// Whether all acts were played.
    pub(crate) const fn is_complete(&self) -> bool {
        self.next_act == ACTS.len()
    }

    fn is_quiet(&self) -> bool {
        self.awaited.is_empty()
            && !self.ledger.has_open_requests()
            && !(self.awaits_confirms && self.ledger.has_open_publishes())
    }

    fn act(&mut self, pair: &mut Pair<Broker>) {
        self.ledger.note_quiet();
        self.awaits_confirms = false;
        if let Some(act) = ACTS.get(self.next_act) {
            self.next_act += 1;
            act(self, pair);
            return;
        }
        match self.end {
            End::ByClient => pair.client.close(ReplyCode::REPLY_SUCCESS, "done"),
            End::ByServer => {
                let (key, now) = (pair.client.key, pair.now());
                let code = ReplyCode::CONNECTION_FORCED;
                pair.server.close_connection(key, now, code, "shutdown");
                self.awaited.push("closed");
            }
        }
    }

    fn on_event(&mut self, event: &Event) {
        assert_eq!(self.ledger.closed, 0, "{event:?} behind the end");
        let name = self.take(event);
        if let Some(place) = self.awaited.iter().position(|awaited| *awaited == name) {
            self.awaited.remove(place);
        }
        if !["answer", "confirmed"].contains(&name) {
            self.told.push(name);
        }
    }

    /// Keeps account of an event; says what it is called.
    fn take(&mut self, event: &Event) -> &'static str {
        match event {
            Event::Connected => "connected",
            Event::ChannelOpened { channel } => {
                let key = self.key(*channel);
                self.ledger.topology.channel_opened(key);
                "channel opened"
            }
            Event::Reply(reply) => {
                self.ledger.replied(reply);
                "answer"
            }
            Event::RequestFailed { request, cause } => {
                assert_ne!(*cause, RequestError::Timeout);
                self.ledger.resolved(*request);
                "answer"
            }
            Event::Delivery(delivery) => {
                self.note_delivery(delivery);
                "delivery"
            }
            Event::Got(got) => {
                self.ledger.resolved(got.request.untyped());
                "got"
            }
            Event::GetEmpty { request } => {
                self.ledger.resolved(request.untyped());
                "get empty"
            }
            Event::Returned(_) => "returned",
            Event::Confirmed { tags, outcome } => {
                self.ledger.confirmed(*tags, outcome);
                "confirmed"
            }
            Event::ConsumerCancelled { consumer } => {
                assert_eq!(*consumer, self.consumers["mourner"]);
                "consumer cancelled"
            }
            Event::ChannelClosed { channel, reason } => {
                if !matches!(reason, ChannelCloseReason::Connection(_)) {
                    let key = self.key(*channel);
                    self.ledger.topology.channel_closed(key);
                }
                "channel closed"
            }
            Event::Blocked { .. } => "blocked",
            Event::Unblocked => "unblocked",
            Event::Closed(_) => {
                self.ledger.closed += 1;
                "closed"
            }
            other => panic!("{other:?}"),
        }
    }

    fn note_delivery(&mut self, delivery: &Delivery) {
        assert_eq!(delivery.consumer, self.consumers["eater"]);
        let letter = number(&delivery.message);
        self.ledger.saw(letter, delivery.redelivered);
        self.deliveries.insert(letter, delivery.tag);
    }

    fn key(&self, channel: ChannelId) -> ChannelKey {
        let place = self.channels.iter().position(|id| *id == channel);
        ChannelKey::new(place.expect("one of ours") as u64)
    }

    fn channel<'p>(&self, pair: &'p mut Pair<Broker>, channel: usize) -> Channel<'p> {
        pair.client.connection.channel(self.channels[channel]).unwrap()
    }

    fn ask<R: Request + 'static>(
        &mut self,
        pair: &mut Pair<Broker>,
        channel: usize,
        method: R,
        record: impl FnOnce(&mut Topology, &R, &Reply) + 'static,
    ) {
        let request = self.channel(pair, channel).request(&method).unwrap();
        self.ledger.asked(request.untyped(), move |topology, reply| {
            record(topology, &method, reply);
        });
    }

    /// What was sent on that channel before has been dealt with when this is answered.
    fn sync(&mut self, pair: &mut Pair<Broker>, channel: usize) {
        self.ask(pair, channel, ChannelFlow { active: true }, |_, _, _| {});
    }

    fn await_times(&mut self, count: usize, name: &'static str) {
        self.awaited.extend(std::iter::repeat_n(name, count));
    }

    fn publish(
        &self,
        pair: &mut Pair<Broker>,
        channel: usize,
        to: (&str, &str),
        body: &str,
    ) -> Option<ConfirmTag> {
        let publish = BasicPublish {
            exchange: short(to.0),
            routing_key: short(to.1),
            mandatory: true,
            ..Default::default()
        };
        let mut channel = self.channel(pair, channel);
        channel
            .publish(&publish, &Properties::default(), body.as_bytes())
            .unwrap()
    }

    /// One for the queue `tasks`.
    fn post_letter(&mut self, pair: &mut Pair<Broker>, letter: u32) {
        let tag = self.publish(pair, MAIN, ("events", "task.new"), &letter.to_string());
        self.ledger.posted(tag.unwrap(), letter);
        self.awaits_confirms = true;
    }
}

/// The acts: what is set up.
impl Story {
    fn open_channels(&mut self, pair: &mut Pair<Broker>) {
        self.channels = (0..4).map(|_| pair.client.open_channel().unwrap()).collect();
        self.await_times(4, "channel opened");
    }

    fn set_modes(&mut self, pair: &mut Pair<Broker>) {
        let key = |channel: usize| ChannelKey::new(channel as u64);
        self.ask(pair, MAIN, AccessRequest::default(), |_, _, _| {});
        self.ask(pair, MAIN, ConfirmSelect::default(), move |topology, _, _| {
            topology.confirm_selected(key(MAIN));
        });
        self.ask(pair, TX, TxSelect {}, move |topology, _, _| {
            topology.transaction_selected(key(TX));
        });
        let qos = BasicQos {
            prefetch_count: 3,
            ..Default::default()
        };
        self.ask(pair, MAIN, qos, move |topology, qos, _| {
            topology.qos(key(MAIN), qos)
        });
        let secret = Secret::from("guest");
        let request = pair.client.update_secret(&secret, "it gets old").unwrap();
        self.ledger.asked(request.untyped(), |_, _| {});
    }

    fn declare(&mut self, pair: &mut Pair<Broker>) {
        for (name, exchange_type) in [("events", "topic"), ("upstream", "fanout"), ("brief", "direct")] {
            let declare = ExchangeDeclare {
                exchange: short(name),
                exchange_type: short(exchange_type),
                durable: true,
                ..Default::default()
            };
            self.ask(pair, MAIN, declare, |topology, declare, _| {
                topology.exchange_declared(declare);
            });
        }
        for (name, exclusive) in [
            ("tasks", false),
            ("scratch", false),
            ("passing", false),
            ("mine", true),
            ("", true),
        ] {
            let declare = QueueDeclare {
                queue: short(name),
                durable: !exclusive,
                exclusive,
                ..Default::default()
            };
            self.ask(pair, MAIN, declare, |topology, declare, reply| {
                let Some(Method::QueueDeclareOk(ok)) = reply.method() else {
                    panic!("{reply:?}");
                };
                topology.queue_declared(ChannelKey::new(MAIN as u64), declare, ok.queue);
            });
        }
    }

    fn bind(&mut self, pair: &mut Pair<Broker>) {
        for (source, destination) in [("upstream", "events"), ("upstream", "brief")] {
            let bind = ExchangeBind {
                source: short(source),
                destination: short(destination),
                ..Default::default()
            };
            self.ask(pair, MAIN, bind, |topology, bind, _| {
                topology.exchange_bound(bind);
            });
        }
        for (exchange, queue, key) in [
            ("events", "tasks", "task.*"),
            ("brief", "passing", "by"),
            ("amq.direct", "mine", "mine"),
            // The last one declared, by its own name.
            ("amq.direct", "", ""),
        ] {
            let bind = QueueBind {
                exchange: short(exchange),
                queue: short(queue),
                routing_key: short(key),
                ..Default::default()
            };
            self.ask(pair, MAIN, bind, |topology, bind, _| {
                topology.queue_bound(ChannelKey::new(MAIN as u64), bind);
            });
        }
    }

    /// Some of what was set up; the queue stays, for a consumer that is to lose it.
    fn take_back(&mut self, pair: &mut Pair<Broker>) {
        let key = ChannelKey::new(MAIN as u64);
        let unbind = QueueUnbind {
            exchange: short("brief"),
            queue: short("passing"),
            routing_key: short("by"),
            ..Default::default()
        };
        self.ask(pair, MAIN, unbind, move |topology, unbind, _| {
            topology.queue_unbound(key, unbind);
        });
        let unbind = ExchangeUnbind {
            source: short("upstream"),
            destination: short("brief"),
            ..Default::default()
        };
        self.ask(pair, MAIN, unbind, |topology, unbind, _| {
            topology.exchange_unbound(unbind);
        });
        let delete = ExchangeDelete {
            exchange: short("brief"),
            ..Default::default()
        };
        self.ask(pair, MAIN, delete, |topology, delete, _| {
            topology.exchange_deleted(delete);
        });
    }

    fn post(&mut self, pair: &mut Pair<Broker>) {
        for letter in 0..8 {
            self.post_letter(pair, letter);
        }
        let tag = self.publish(pair, MAIN, ("events", "nowhere"), "lost");
        self.ledger.published(tag.unwrap());
        self.await_times(1, "returned");
    }

    fn post_what_is_nacked(&mut self, pair: &mut Pair<Broker>) {
        pair.server.nack_publishes(1);
        self.post_letter(pair, 8);
    }
}

/// The acts: what is consumed.
impl Story {
    fn consume(&mut self, pair: &mut Pair<Broker>) {
        for (tag, queue) in [("eater", "tasks"), ("mourner", "passing"), ("visitor", "scratch")] {
            let consume = BasicConsume {
                queue: short(queue),
                consumer_tag: short(tag),
                ..Default::default()
            };
            let (consumer, request) = self.channel(pair, MAIN).consume(&consume).unwrap();
            self.consumers.insert(tag, consumer);
            self.ledger.asked(request.untyped(), move |topology, _| {
                topology.consumer_started(ChannelKey::new(MAIN as u64), &consume, consume.consumer_tag);
            });
        }
        self.await_times(3, "delivery");
    }

    fn settle_three(&mut self, pair: &mut Pair<Broker>) {
        let tags = [0, 1, 2].map(|letter| self.deliveries[&letter]);
        let mut channel = self.channel(pair, MAIN);
        channel.ack(tags[0]).unwrap();
        channel.nack(tags[1], false).unwrap();
        channel.reject(tags[2], false).unwrap();
        (0..=2).for_each(|letter| self.ledger.settled(letter));
        self.sync(pair, MAIN);
        self.await_times(3, "delivery");
    }

    fn settle_multiple(&mut self, pair: &mut Pair<Broker>) {
        let last = self.deliveries[&4];
        self.channel(pair, MAIN).ack_multiple(last).unwrap();
        (3..=4).for_each(|letter| self.ledger.settled(letter));
        self.sync(pair, MAIN);
        self.await_times(2, "delivery");
    }

    fn requeue(&mut self, pair: &mut Pair<Broker>) {
        let last = self.deliveries[&7];
        self.channel(pair, MAIN).nack_multiple(last, true).unwrap();
        self.await_times(3, "delivery");
    }

    /// One consumer is cancelled, one loses its queue.
    fn cancel(&mut self, pair: &mut Pair<Broker>) {
        let visitor = self.consumers["visitor"];
        let request = self.channel(pair, MAIN).cancel(visitor).unwrap();
        self.ledger.asked(request.untyped(), |topology, _| {
            topology.consumer_cancelled(ChannelKey::new(MAIN as u64), short("visitor"));
        });
        let delete = QueueDelete {
            queue: short("passing"),
            ..Default::default()
        };
        self.ask(pair, GETS, delete, |topology, delete, _| {
            topology.queue_deleted(ChannelKey::new(GETS as u64), delete);
        });
        self.await_times(1, "consumer cancelled");
    }

    fn fill_scratch(&mut self, pair: &mut Pair<Broker>) {
        for body in ["one", "two"] {
            let tag = self.publish(pair, MAIN, ("", "scratch"), body);
            self.ledger.published(tag.unwrap());
        }
        self.awaits_confirms = true;
    }

    fn get(&mut self, pair: &mut Pair<Broker>, channel: usize, no_ack: bool) {
        let get = BasicGet {
            queue: short("scratch"),
            no_ack,
        };
        let request = self.channel(pair, channel).get(&get).unwrap();
        self.ledger.asked(request.untyped(), |_, _| {});
    }

    fn get_two(&mut self, pair: &mut Pair<Broker>) {
        self.get(pair, GETS, false);
        self.get(pair, GETS, false);
        self.await_times(2, "got");
    }

    fn recover(&mut self, pair: &mut Pair<Broker>) {
        self.ask(pair, GETS, BasicRecover { requeue: true }, |_, _, _| {});
    }

    fn recover_async(&mut self, pair: &mut Pair<Broker>) {
        let recover = BasicRecoverAsync { requeue: true };
        self.channel(pair, GETS).recover_async(&recover).unwrap();
        self.sync(pair, GETS);
    }

    fn get_all(&mut self, pair: &mut Pair<Broker>) {
        self.get(pair, GETS, true);
        self.get(pair, GETS, false);
        self.get(pair, GETS, false);
        self.await_times(2, "got");
        self.await_times(1, "get empty");
    }

    /// Nothing is ready in it: one is gone, one not settled.
    fn purge(&mut self, pair: &mut Pair<Broker>) {
        let purge = QueuePurge {
            queue: short("scratch"),
            ..Default::default()
        };
        self.ask(pair, GETS, purge, |_, _, reply| {
            let Some(Method::QueuePurgeOk(ok)) = reply.method() else {
                panic!("{reply:?}");
            };
            assert_eq!(ok.message_count, 0);
        });
    }
}

/// The acts: transactions, and what the server does.
impl Story {
    fn commit(&mut self, pair: &mut Pair<Broker>) {
        assert_eq!(self.publish(pair, TX, ("", "scratch"), "committed"), None);
        self.ask(pair, TX, TxCommit {}, |_, _, _| {});
    }

    fn roll_back(&mut self, pair: &mut Pair<Broker>) {
        assert_eq!(self.publish(pair, TX, ("", "scratch"), "rolled back"), None);
        self.ask(pair, TX, TxRollback {}, |_, _, _| {});
    }

    fn lose_a_channel(&mut self, pair: &mut Pair<Broker>) {
        let declare = QueueDeclare {
            queue: short("nobody's"),
            passive: true,
            ..Default::default()
        };
        self.ask(pair, DOOMED, declare, |_, _, reply| panic!("{reply:?}"));
        self.await_times(1, "channel closed");
    }

    fn be_blocked(&mut self, pair: &mut Pair<Broker>) {
        pair.server.block("low on memory");
        self.post_letter(pair, 9);
        self.awaits_confirms = false;
        self.await_times(1, "blocked");
    }

    fn be_unblocked(&mut self, pair: &mut Pair<Broker>) {
        let now = pair.now();
        pair.server.unblock(now);
        self.awaits_confirms = true;
        self.await_times(1, "unblocked");
    }

    fn close_a_channel(&mut self, pair: &mut Pair<Broker>) {
        let mut channel = self.channel(pair, GETS);
        channel.close(ReplyCode::REPLY_SUCCESS, "done").unwrap();
        self.await_times(1, "channel closed");
    }
}
