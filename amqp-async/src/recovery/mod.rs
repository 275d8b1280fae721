//! A connection that is made again when it was lost, with everything that was on it.
//!
//! ```text
//!                    ┌─────────────── delay, next host ◀──────────────┐
//!                    ▼                                                │
//! open ──▶ lost ──▶ stream ──▶ handshake ──▶ plan carried out ──▶ recovered ──▶ lost …
//!                    │             │                 │
//!                    └─────────────┴─────────────────┴──▶ given up: closed
//! ```
//!
//! `run` is the task that goes round, `lost` what a loss does to what handles see, `restoring` what puts it right.

mod judging;
mod lost;
mod names;
mod restoring;
mod run;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use amqp_proto::topology::{Culprits, Outcome, Recorder, Restorer, Step};
pub use amqp_proto::topology::{RecoveryReport, StepFilter, Unrestored};
use amqp_proto::{Backoff, ConsumerId, Instant, ReconnectPolicy, RequestId};

pub use judging::{StepDecision, StepJudge};
pub(crate) use names::NameCell;
pub use names::QueueName;
pub(crate) use run::run;
pub use run::{Connect, Connected};

/// How a lost connection is made again.
///
/// Everything that handles stand for is there again afterwards: channels with their limits and confirms, exchanges, queues and bindings
/// that were declared through this connection and not deleted, consumers. What was under way is not: calls that waited fail, publishes
/// that were not confirmed are [`Lost`](crate::PublishError::Lost), unless their channel [publishes them
/// again](crate::ChannelOptions::republish), and deliveries that were not settled come again; to settle one of
/// those is an error that changes nothing. Calls that are made meanwhile wait until all is there again. Channels in transactions end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recovery {
    /// When and where it is tried, and which failures end it. Default: after half a second, which doubles up to 30 s,
    /// for ever; [permanent](amqp_proto::CloseReason::is_permanent) failures end it.
    pub reconnect: ReconnectPolicy,
    /// What is made again. Default: everything.
    pub filter: Option<StepFilter>,
    /// Decides about what could not be made again. Default: it is left out.
    pub on_step: Option<StepJudge>,
}

/// Clients that do not act in step: the delays are drawn from a seed that differs from one connection to the next.
impl Default for Recovery {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        Self::new(ReconnectPolicy::new(Backoff::new(seed)))
    }
}

impl Recovery {
    /// With those delays and hosts, and everything made again.
    #[must_use]
    pub const fn new(reconnect: ReconnectPolicy) -> Self {
        Self {
            reconnect,
            filter: None,
            on_step: None,
        }
    }

    /// Makes only those steps that `is_wanted` says.
    #[must_use]
    pub fn filter(mut self, is_wanted: impl Fn(&Step) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(StepFilter::new(is_wanted));
        self
    }

    /// Learns of each step what became of it, when all are settled and before anybody goes on, and decides about those that failed: they
    /// are left out, tried again, or end the recovery. No lock is held; the connection is not driven meanwhile.
    ///
    /// ```
    /// use amqp_async::proto::topology::Outcome;
    /// use amqp_async::{Recovery, StepDecision};
    /// use std::time::Duration;
    ///
    /// // The broker may take a moment until it knows that the last connection, which had an exclusive queue, is gone.
    /// let recovery = Recovery::default().on_step(|step, outcome| match outcome {
    ///     Outcome::Failed(_) if step.declares_queue() => StepDecision::TryAgain(Duration::from_secs(1)),
    ///     // A node of the cluster is about to come back, or a stream to move.
    ///     Outcome::Failed(error) if error.is_transient() => StepDecision::TryAgain(Duration::from_secs(2)),
    ///     _ => StepDecision::LeaveOut,
    /// });
    /// ```
    #[must_use]
    pub fn on_step(
        mut self,
        decide: impl Fn(&Step, &Outcome) -> StepDecision + Send + Sync + 'static,
    ) -> Self {
        self.on_step = Some(StepJudge::new(decide));
        self
    }
}

/// What is known beside the handles, for the next life of a connection.
#[derive(Debug)]
pub(crate) struct Recovering {
    recorder: Recorder,
    /// There is another connection, and no plan for it.
    is_to_plan: bool,
    /// It was open once: before, a failure is the user's to handle.
    was_open: bool,
    /// When everything was there again in this life of the connection.
    recovered_at: Option<Instant>,
    restorer: Option<Restorer>,
    /// What the user's code says about the plan; none if there is no such code.
    judging: Option<judging::Judging>,
    /// Consumers whose `basic.consume` is not answered: RabbitMQ 3 ends the connection of who cancels one before that (541).
    starting: HashMap<RequestId, ConsumerId>,
    /// Of lives that ended before everything was there again.
    culprits: Culprits,
    names: names::Names,
}
