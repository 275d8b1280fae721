//! A virtual host: its exchanges, queues and bindings, and the messages in them. Who may do what was looked at before.
//!
//! ```text
//!  publish ──▶ exchanges ──route──▶ queues ──dispatch──▶ Sink
//!                 ▲                  │  ▲                  │
//!                 └───── deaths ◀────┘  └──── requeue ◀────┘
//! ```
//!
//! Nothing is delivered but by [`VirtualHost::dispatch`]. RabbitMQ hands a message to a consumer that has room before it looks at
//! the queue's length and at the message's time to live; so a queue with consumers looks at them after a dispatch, and whoever
//! publishes has to dispatch before the next publish if that difference counts.

mod arguments;
mod consumers;
mod death;
mod declare;
mod exchange;
mod headers;
mod letter;
mod messages;
mod queue;
#[cfg(test)]
mod tests;
mod topic;
mod value;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use amqp_proto::{Instant, Message};
use bytes::Bytes;

use crate::broker::ConnectionKey;
use crate::config::Release;
use crate::inspect::BindingInfo;
use death::Death;
use exchange::{Exchange, Kind};
use letter::{Envelope, Letter};
use queue::Queue;

pub(crate) use arguments::expiration;

/// The name of an exchange, a queue or a consumer: octets, as they came.
pub(crate) type Name = Bytes;

/// Which consumer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConsumerKey {
    pub(crate) connection: ConnectionKey,
    pub(crate) channel: u16,
    pub(crate) tag: Name,
}

/// A message in a queue, or taken out of it and not settled.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    envelope: Envelope,
    /// The queue it is from.
    pub(crate) queue: Name,
    /// How often it was delivered before.
    pub(crate) deliveries: u32,
    /// Its place in the queue: it goes back there, except to a quorum queue. No two messages of a virtual host have the same.
    pub(crate) position: u64,
    /// When its time to live is over.
    deadline: Option<Instant>,
}

impl Entry {
    fn into_letter(self) -> Letter {
        let Self {
            message, envelope, ..
        } = self;
        Letter { message, envelope }
    }
}

/// A message that was published, and the queues that it is for.
#[derive(Debug)]
pub(crate) struct Addressed {
    letter: Letter,
    queues: Vec<Name>,
}

impl Addressed {
    /// As it was published, but for the header `BCC`.
    pub(crate) const fn message(&self) -> &Message {
        &self.letter.message
    }

    /// What it counts for in each queue, in octets.
    pub(crate) const fn size(&self) -> u64 {
        self.letter.envelope.size
    }
}

/// What came of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    /// How many queues it was meant for, those that are gone aside.
    pub(crate) queues: usize,
    /// A queue that is full did not take it (`reject-publish`).
    pub(crate) is_rejected: bool,
}

/// What `queue.declare-ok` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) queue: Name,
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

/// Where deliveries go.
pub(crate) trait Sink {
    /// Whether the prefetch limits of its channel and of itself let it have one more.
    fn has_room(&self, consumer: &ConsumerKey) -> bool;
    /// It is delivered, and the channel's to settle unless the consumer does not acknowledge.
    fn deliver(&mut self, consumer: &ConsumerKey, entry: Entry);
}

#[derive(Debug)]
pub(crate) struct VirtualHost {
    name: String,
    release: Release,
    exchanges: BTreeMap<Name, Exchange>,
    queues: BTreeMap<Name, Queue>,
    /// Queues where something may be to deliver; each once, some of them gone.
    changed: Vec<Name>,
    /// When queues are to be looked at.
    timers: BTreeSet<(Instant, Name)>,
    /// Consumers that ended with their queues.
    cancelled: Vec<ConsumerKey>,
    /// Messages that died and were not sent on yet.
    dying: VecDeque<Death>,
    /// Of the next message.
    position: u64,
    /// How many names were made up.
    names: u64,
    memory: u64,
}

impl VirtualHost {
    pub(crate) fn new(name: &str, release: Release) -> Self {
        let predeclared = [
            ("", Kind::Direct, false),
            ("amq.direct", Kind::Direct, false),
            ("amq.fanout", Kind::Fanout, false),
            ("amq.topic", Kind::Topic, false),
            ("amq.headers", Kind::Headers, false),
            ("amq.match", Kind::Headers, false),
            ("amq.rabbitmq.trace", Kind::Topic, true),
        ];
        let exchanges = predeclared.map(|(name, kind, internal)| {
            (
                Name::from_static(name.as_bytes()),
                Exchange::predeclared(kind, internal),
            )
        });
        Self {
            name: name.to_owned(),
            release,
            exchanges: exchanges.into(),
            queues: BTreeMap::new(),
            changed: Vec::new(),
            timers: BTreeSet::new(),
            cancelled: Vec::new(),
            dying: VecDeque::new(),
            position: 0,
            names: 0,
            memory: 0,
        }
    }

    /// Consumers that ended because their queue did, since the last time.
    pub(crate) fn take_cancelled(&mut self) -> Vec<ConsumerKey> {
        std::mem::take(&mut self.cancelled)
    }

    /// When a message or a queue expires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// Octets of bodies and headers in all queues and unsettled, and something for each message. A message counts in each queue
    /// that it is in.
    pub(crate) const fn memory(&self) -> u64 {
        self.memory
    }

    /// The names of all queues, in order.
    pub(crate) fn queue_names(&self) -> impl Iterator<Item = &Name> {
        self.queues.keys()
    }

    /// The names of all exchanges, in order.
    pub(crate) fn exchange_names(&self) -> impl Iterator<Item = &Name> {
        self.exchanges.keys()
    }

    /// All bindings, but for those of the default exchange.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = BindingInfo> {
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        self.exchanges.iter().flat_map(move |(source, exchange)| {
            exchange.bindings().map(move |(key, destination)| {
                let (name, is_to_exchange) = match destination {
                    exchange::Destination::Queue(name) => (name, false),
                    exchange::Destination::Exchange(name) => (name, true),
                };
                BindingInfo {
                    source: text(source),
                    destination: text(name),
                    is_to_exchange,
                    routing_key: text(key),
                }
            })
        })
    }

    /// How many messages are ready there.
    pub(crate) fn queue_len(&self, queue: &[u8]) -> Option<usize> {
        self.queues.get(queue).map(Queue::len)
    }

    /// The messages that are ready there, the next one first.
    pub(crate) fn messages(&self, queue: &[u8]) -> Option<Vec<Message>> {
        Some(self.queues.get(queue)?.messages().cloned().collect())
    }

    pub(crate) fn is_quorum(&self, queue: &[u8]) -> bool {
        let queue = self.queues.get(queue);
        queue.is_some_and(|queue| queue.arguments.queue_type == arguments::QueueType::Quorum)
    }

    /// How many consumers it has.
    pub(crate) fn consumer_count(&self, queue: &[u8]) -> Option<usize> {
        self.queues.get(queue).map(|queue| queue.consumers.len())
    }

    /// What is durable stays, with the persistent messages in it; all else goes. Whatever was taken and not settled has to be
    /// requeued before.
    pub(crate) fn restart(&mut self) {
        self.changed.clear();
        self.cancelled.clear();
        self.dying.clear();
        self.timers.clear();
        self.queues.retain(|_, queue| queue.durable);
        self.exchanges.retain(|_, exchange| exchange.durable);
        let (queues, exchanges) = (
            &self.queues,
            self.exchanges.keys().cloned().collect::<BTreeSet<_>>(),
        );
        for exchange in self.exchanges.values_mut() {
            exchange.retain_bindings(|destination| match destination {
                exchange::Destination::Queue(name) => queues.contains_key(name),
                exchange::Destination::Exchange(name) => exchanges.contains(name),
            });
        }
        for (name, queue) in &mut self.queues {
            queue.consumers.clear();
            queue.had_consumers = false;
            queue.is_changed = false;
            queue.retain_persistent();
            queue.timer = queue.deadline();
            self.timers
                .extend(queue.timer.map(|deadline| (deadline, name.clone())));
        }
        self.memory = self.queues.values().map(Queue::memory).sum();
    }
}
