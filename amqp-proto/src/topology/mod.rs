//! What a program has declared, and how to have it again on a new connection: a record and a plan, both pure data.
//!
//! ```text
//!  methods that were answered                       steps to send
//!  QueueDeclare, QueueBind, … ──▶ Topology ──▶ Plan ──────────────▶ adapter
//!                                    ▲          ▲  succeeded, failed    │
//!                                    │          └───────────────────────┤
//!                                    └──────────────────────────────────┘
//!                                        queue_renamed
//! ```
//!
//! ```
//! use amqp_proto::topology::{ChannelKey, Plan, Topology};
//! use amqp_proto::wire::{BasicConsume, QueueBind, QueueDeclare, ShortStr};
//!
//! // While the connection lives, what was answered is recorded, with the name that the server gave the queue.
//! let channel = ChannelKey::new(1);
//! let mut topology = Topology::default();
//! let declare = QueueDeclare { exclusive: true, ..Default::default() };
//! topology.queue_declared(channel, &declare, "amq.gen-1".try_into()?);
//! let bind = QueueBind { exchange: "amq.fanout".try_into()?, ..Default::default() };
//! topology.queue_bound(channel, &bind);
//! topology.consumer_started(channel, &BasicConsume::default(), "mine".try_into()?);
//!
//! // On the next one, the plan is carried out step by step.
//! let mut plan = Plan::new(&topology);
//! let mut sent = Vec::new();
//! while let Some(step) = plan.next_step() {
//!     sent.push(step.to_string());
//!     let (id, named) = (step.id(), step.declares_queue().then(|| ShortStr::new("amq.gen-2")).transpose()?);
//!     if let Some(renamed) = plan.succeeded(id, named) {
//!         topology.queue_renamed(&renamed.old, &renamed.new);
//!     }
//! }
//! assert_eq!(sent, [
//!     r#"queue.declare queue="" exclusive"#,
//!     r#"queue.bind queue="amq.gen-2" exchange="amq.fanout" routing_key="amq.gen-2""#,
//!     "channel.open",
//!     r#"basic.consume queue="amq.gen-2" consumer_tag="mine""#,
//! ]);
//! assert!(plan.is_recovered());
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod culprits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
mod name;
mod ordered;
mod plan;
mod prune;
mod record;
mod recorder;
mod report;
mod requests;
mod restorer;
mod step;
#[cfg(test)]
mod tests;

pub use culprits::Culprits;
pub use name::Name;
pub use plan::{Outcome, Plan, Renamed};
pub use record::{BindingRecord, ConsumerRecord, Destination, ExchangeRecord, QueueRecord};
pub use report::{RecoveryReport, StepFilter, Unrestored};
pub use requests::Recorder;
pub use restorer::{Restorer, Sent};
pub use step::{Step, StepError, StepId, StepKind};

use alloc::collections::BTreeMap;

use ordered::Ordered;
use record::ChannelRecord;

/// What a program has declared and has not taken back: exchanges, queues, bindings, and the state of its channels.
///
/// It is told what the server has *answered*, in the methods that asked for it, and takes out what the server takes out by
/// itself: an auto-delete queue with its last consumer, an auto-delete exchange with its last binding, and what hangs on them
/// (RabbitMQ page "Queues", section "Temporary Queues"; specification, `exchange.declare`). It knows this program's consumers
/// and bindings only. Queues that expire (`x-expires`) stay in it until [`forget_queue`](Self::forget_queue).
///
/// Passive declares record nothing; exchanges that every virtual host has are not recorded, bindings to them are. It grows with
/// what the program declares, and with nothing else.
///
/// **Getters** take `&self`; everything else is an **input**, of which none fails: what is not known is not taken out.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    exchanges: Ordered<Name, ExchangeRecord>,
    queues: Ordered<Name, QueueRecord>,
    bindings: Ordered<BindingRecord, ()>,
    channels: BTreeMap<ChannelKey, ChannelRecord>,
}

/// A channel as the program sees it, which lives on when the channel of the connection is another one: a number that the
/// adapter chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey(u64);

impl ChannelKey {
    /// Names a channel.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number that was chosen.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl Topology {
    /// The exchanges, in the order they were declared.
    pub fn exchanges(&self) -> impl Iterator<Item = &ExchangeRecord> {
        self.exchanges.in_order().map(|(_, exchange)| exchange)
    }

    /// The queues, in the order they were declared.
    pub fn queues(&self) -> impl Iterator<Item = &QueueRecord> {
        self.queues.in_order().map(|(_, queue)| queue)
    }

    /// The bindings of queues and of exchanges, in the order they were made.
    pub fn bindings(&self) -> impl Iterator<Item = &BindingRecord> {
        self.bindings.in_order().map(|(binding, ())| binding)
    }

    /// The channels, in the order of their keys.
    pub fn channels(&self) -> impl Iterator<Item = ChannelKey> {
        self.channels.keys().copied()
    }

    /// The consumers of a channel, in the order they were started.
    pub fn consumers(&self, channel: ChannelKey) -> impl Iterator<Item = &ConsumerRecord> {
        let channel = self.channels.get(&channel);
        channel
            .into_iter()
            .flat_map(|channel| channel.consumers.in_order())
            .map(|(_, consumer)| consumer)
    }

    /// The queue of that name.
    #[must_use]
    pub fn queue(&self, name: &Name) -> Option<&QueueRecord> {
        self.queues.get(name)
    }

    /// The name that the queue has now which has this name, or had it: how a handle follows a server-named queue. A queue's
    /// last sixteen names are known; `None` if there is no such queue any more.
    #[must_use]
    pub fn current_queue_name(&self, name: &Name) -> Option<&Name> {
        if let Some(queue) = self.queues.get(name) {
            return Some(&queue.name);
        }
        let mut queues = self.queues.values();
        queues
            .find(|queue| queue.former_names().contains(name))
            .map(|queue| &queue.name)
    }

    /// The queue that an empty name means on this channel: the last one declared on it, by its present name.
    ///
    /// The server forgets it with the connection, so a client that reconnects writes the name out.
    #[must_use]
    pub fn last_queue(&self, channel: ChannelKey) -> Option<&Name> {
        self.channels.get(&channel)?.last_queue.as_ref()
    }
}
