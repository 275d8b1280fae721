//! The plan: what to send, in which order, and what became of it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::record::{ChannelRecord, Destination, Mode};
use super::{ChannelKey, Name, Step, StepError, StepId, StepKind, Topology};
use crate::wire::{BasicQos, ShortStr};

/// The steps that restore a [`Topology`], in order, and what has become of each.
///
/// ```text
/// exchanges ─▶ bindings of exchanges ─▶ queues ─▶ their bindings ─▶ each channel: open, limits, mode, consumers
/// ```
///
/// An adapter sends [`next_step`](Self::next_step) and tells what came of it, until there is none left; or it sends all that are
/// [`ready`](Self::ready) and tells of each. What belongs to no channel it sends on one of its own, which it opens again when a
/// refusal has closed it.
///
/// What needs an entity that failed is skipped. A step that fails on a program's channel takes the channel with it, which the
/// adapter closes if it is still open. A consumer is then left out and the plan goes back: to the opening of the channel, and to
/// what the server deletes because the channel's consumers are gone. Without its mode or its limits a channel is not given back:
/// all of it is skipped. There are no endless rounds, since each costs a step that failed.
///
/// A plan is data: the same answers give the same plan. It does not change the record, so when the connection is lost on the way
/// it is thrown away, and a new one made on the next connection is complete again.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order of their ids.
    entries: Vec<Entry>,
    /// No entry before this one is pending.
    first_pending: usize,
}

/// What has become of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Not known yet.
    Pending,
    /// Restored.
    Succeeded,
    /// Not restored.
    Failed(StepError),
    /// Not restored, because another step failed: one that it needs, one of its channel, or one that ended the connection.
    Skipped {
        /// The step that failed.
        because: StepId,
    },
}

/// A queue that has another name now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renamed {
    /// The name in the record.
    pub old: Name,
    /// The name that the server gave it.
    pub new: Name,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    step: Step,
    outcome: Outcome,
}

impl Plan {
    /// Everything, for a new connection.
    #[must_use]
    pub fn new(topology: &Topology) -> Self {
        let mut plan = Self {
            entries: Vec::new(),
            first_pending: 0,
        };
        for exchange in topology.exchanges() {
            plan.push(None, StepKind::Exchange(exchange.clone()));
        }
        for binding in topology.bindings() {
            if let Destination::Exchange(_) = binding.destination {
                plan.push(None, StepKind::ExchangeBinding(binding.clone()));
            }
        }
        for queue in topology.queues() {
            plan.push(None, StepKind::Queue(queue.clone()));
        }
        for binding in topology.bindings() {
            if let Destination::Queue(_) = binding.destination {
                plan.push(None, StepKind::QueueBinding(binding.clone()));
            }
        }
        for (key, channel) in &topology.channels {
            plan.push_channel(*key, channel);
        }
        plan
    }

    /// One channel, which the server closed while the connection lives: the channel's own steps, and what the server deleted
    /// because the last consumer of an auto-delete queue was on it. For after `channel.close-ok`; RabbitMQ may take a moment
    /// longer to delete such a queue.
    #[must_use]
    pub fn for_channel(topology: &Topology, channel: ChannelKey) -> Self {
        // What the server took out is what the record would lose; the plan is for the difference.
        let mut left = topology.clone();
        left.channel_closed(channel);
        Self::new(topology).leave_out(|step| match &step.kind {
            StepKind::Exchange(exchange) => left.exchanges.contains(&exchange.name),
            StepKind::Queue(queue) => left.queues.contains(&queue.name),
            StepKind::ExchangeBinding(binding) | StepKind::QueueBinding(binding) => {
                left.bindings.contains(binding)
            }
            _ => step.channel != Some(channel),
        })
    }

    /// The same plan without some steps, which are not reported either. What needs them stays: it may be there already. With a
    /// channel go all of its steps.
    #[must_use]
    pub fn leave_out(mut self, mut is_left_out: impl FnMut(&Step) -> bool) -> Self {
        let mut channels = BTreeSet::new();
        self.entries.retain(|Entry { step, .. }| {
            let is_left_out =
                is_left_out(step) || step.channel.is_some_and(|channel| channels.contains(&channel));
            if is_left_out && step.kind == StepKind::Channel {
                channels.extend(step.channel);
            }
            !is_left_out
        });
        self.advance_from(0);
        self
    }

    /// The step to send now; the same one until it is told what came of it. `None` if every step is settled.
    #[must_use]
    pub fn next_step(&self) -> Option<&Step> {
        self.entries.get(self.first_pending).map(|entry| &entry.step)
    }

    /// All steps that can be sent without waiting for one another, in the order to send them: those of the kind that is next.
    /// Each stays among them until it is told what came of it.
    pub fn ready(&self) -> impl Iterator<Item = &Step> {
        let stage = self.next_step().map(Step::stage);
        let entries = self.entries.iter().skip(self.first_pending);
        entries
            .filter(move |entry| entry.outcome == Outcome::Pending && Some(entry.step.stage()) == stage)
            .map(|entry| &entry.step)
    }

    /// A step was answered. `queue` is the name in a `queue.declare-ok`: if it is another one than the server gave the queue the
    /// last time, the steps behind it follow, and it is told, for [`Topology::queue_renamed`] and for the program's handles.
    ///
    /// A step that is settled stays as it is, as when its channel was lost while the answer was on its way.
    pub fn succeeded(&mut self, step: StepId, queue: Option<ShortStr<'_>>) -> Option<Renamed> {
        let entry = self.pending_mut(step)?;
        entry.outcome = Outcome::Succeeded;
        let renamed = renamed(&entry.step, queue);
        if let Some(Renamed { old, new }) = &renamed {
            for entry in &mut self.entries {
                entry.step.rename_queue(old, new);
            }
        }
        self.advance_from(self.first_pending);
        renamed
    }

    /// A step was refused, was not answered, or could not be sent. A step that is settled stays as it is, and so does one whose
    /// channel was lost before: it goes with the others.
    ///
    /// When a refusal closes the adapter's own channel with several steps under way on it, the first of them was refused. The
    /// others are not failures; they stay [`ready`](Self::ready).
    pub fn failed(&mut self, step: StepId, error: impl Into<StepError>) {
        let (Some(entry), error) = (self.pending_mut(step), error.into()) else {
            return;
        };
        let failed = entry.step.clone();
        let is_connection_lost = error.is_connection_lost();
        // It may have been on its way when what it needs was lost, its channel or a queue: then it was only too early.
        let is_early = self.is_pending(|step| failed.needs(step));
        if !is_connection_lost {
            self.close_channel_of(&failed);
        }
        if is_connection_lost || !is_early {
            self.fail(&failed, error);
        }
        self.advance_from(0);
    }

    /// A step was not answered and is to be sent once more: it stays as it is, but its channel goes, with what was on it.
    pub(super) fn interrupted(&mut self, step: StepId) {
        if let Some(entry) = self.pending_mut(step) {
            let step = entry.step.clone();
            self.close_channel_of(&step);
            self.advance_from(0);
        }
    }

    /// A step that failed is to be tried once more, with what was skipped because of it. One that ended connections is not.
    pub(super) fn retry(&mut self, step: StepId) {
        for entry in &mut self.entries {
            let is_meant = match &entry.outcome {
                Outcome::Failed(StepError::EndedConnection(_)) => false,
                Outcome::Failed(_) => entry.step.id == step,
                Outcome::Skipped { because } => *because == step,
                _ => false,
            };
            if is_meant {
                entry.outcome = Outcome::Pending;
            }
        }
        self.advance_from(0);
    }

    /// Some steps are not to be tried at all, each for its error: those fail before anything was sent, with what needs them.
    pub(super) fn give_up(&mut self, why: impl Fn(&Step) -> Option<StepError>) {
        let steps = self.entries.iter().map(|entry| &entry.step);
        let hopeless: Vec<_> = steps
            .filter_map(|step| Some((step.clone(), why(step)?)))
            .collect();
        for (step, error) in hopeless {
            self.fail(&step, error);
        }
        self.advance_from(0);
    }

    /// Settles a step, and what cannot be without it.
    fn fail(&mut self, failed: &Step, error: StepError) {
        let is_connection_lost = error.is_connection_lost();
        self.settle(failed, Outcome::Failed(error));
        let takes_channel = failed.channel.is_some() && !matches!(failed.kind, StepKind::Consumer(_));
        self.skip(failed, |step| {
            is_connection_lost || step.needs(failed) || takes_channel && step.channel == failed.channel
        });
    }

    /// Every step with what has become of it, in order.
    pub fn outcomes(&self) -> impl Iterator<Item = (&Step, &Outcome)> {
        self.entries.iter().map(|entry| (&entry.step, &entry.outcome))
    }

    /// A step of this plan.
    #[must_use]
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.position(id)
            .and_then(|position| self.entries.get(position))
            .map(|entry| &entry.step)
    }

    /// Whether every step is settled.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.first_pending >= self.entries.len()
    }

    /// Whether every step succeeded: nothing less counts as recovered.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.outcome == Outcome::Succeeded)
    }

    fn push(&mut self, channel: Option<ChannelKey>, kind: StepKind) {
        let id = StepId(self.entries.len());
        self.entries.push(Entry {
            step: Step { id, channel, kind },
            outcome: Outcome::Pending,
        });
    }

    /// A limit for new consumers comes before the first consumer that was started under it.
    fn push_channel(&mut self, key: ChannelKey, channel: &ChannelRecord) {
        let key = Some(key);
        self.push(key, StepKind::Channel);
        if let Some(qos) = channel.global_qos {
            self.push(key, StepKind::Qos(qos));
        }
        match channel.mode {
            Mode::Plain => {}
            Mode::Confirmed => self.push(key, StepKind::Confirm),
            Mode::Transactional => self.push(key, StepKind::Transaction),
        }
        let mut in_force = None;
        for (_, consumer) in channel.consumers.in_order() {
            self.push_qos(key, consumer.qos, &mut in_force);
            self.push(key, StepKind::Consumer(consumer.clone()));
        }
        self.push_qos(key, channel.qos, &mut in_force);
    }

    fn push_qos(
        &mut self,
        key: Option<ChannelKey>,
        wanted: Option<BasicQos>,
        in_force: &mut Option<BasicQos>,
    ) {
        if let Some(qos) = wanted
            && *in_force != wanted
        {
            self.push(key, StepKind::Qos(qos));
            *in_force = wanted;
        }
    }

    fn position(&self, id: StepId) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.step.id).ok()
    }

    fn pending_mut(&mut self, id: StepId) -> Option<&mut Entry> {
        let position = self.position(id)?;
        let entry = self.entries.get_mut(position)?;
        (entry.outcome == Outcome::Pending).then_some(entry)
    }

    fn is_pending(&self, is_meant: impl Fn(&Step) -> bool) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.outcome == Outcome::Pending && is_meant(&entry.step))
    }

    fn settle(&mut self, step: &Step, outcome: Outcome) {
        if let Some(entry) = self.pending_mut(step.id) {
            entry.outcome = outcome;
        }
    }

    /// Gives up pending steps.
    fn skip(&mut self, failed: &Step, is_meant: impl Fn(&Step) -> bool) {
        for Entry { step, outcome } in &mut self.entries {
            if *outcome == Outcome::Pending && is_meant(step) {
                *outcome = Outcome::Skipped { because: failed.id };
            }
        }
    }

    /// Goes back to steps that had succeeded.
    fn repeat(&mut self, is_meant: impl Fn(&Step) -> bool) {
        for Entry { step, outcome } in &mut self.entries {
            if *outcome == Outcome::Succeeded && is_meant(step) {
                *outcome = Outcome::Pending;
            }
        }
    }

    /// Goes back to the opening of a channel, and to the queues that go with its consumers.
    fn close_channel_of(&mut self, failed: &Step) {
        if failed.channel.is_some() {
            let is_on_channel = |step: &Step| step.channel == failed.channel;
            let running = self.consumed_queues(is_on_channel);
            self.repeat(is_on_channel);
            self.restore_queues(&running);
        }
    }

    /// Goes back to those of these queues that the server deletes now that a channel is gone, and to what may have gone with
    /// them. That may be more than was lost: to declare and to bind what is there does nothing.
    fn restore_queues(&mut self, suspects: &BTreeSet<Name>) {
        let consumed = self.consumed_queues(|_| true);
        let is_lost = |step: &Step| match &step.kind {
            StepKind::Queue(queue) => {
                queue.auto_delete && suspects.contains(&queue.name) && !consumed.contains(&queue.name)
            }
            _ => false,
        };
        if self.entries.iter().any(|entry| is_lost(&entry.step)) {
            self.repeat(|step| match &step.kind {
                StepKind::Exchange(exchange) => exchange.auto_delete,
                StepKind::ExchangeBinding(_) | StepKind::QueueBinding(_) => true,
                _ => is_lost(step),
            });
        }
    }

    /// The queues of consumers that run.
    fn consumed_queues(&self, is_meant: impl Fn(&Step) -> bool) -> BTreeSet<Name> {
        let entries = self.entries.iter();
        let running = entries.filter(|entry| entry.outcome == Outcome::Succeeded && is_meant(&entry.step));
        running
            .filter_map(|entry| match &entry.step.kind {
                StepKind::Consumer(consumer) => Some(consumer.queue.clone()),
                _ => None,
            })
            .collect()
    }

    /// Finds the first pending step, of which there is none before that place.
    fn advance_from(&mut self, place: usize) {
        let behind = self.entries.iter().skip(place);
        let settled = behind
            .take_while(|entry| entry.outcome != Outcome::Pending)
            .count();
        self.first_pending = place.saturating_add(settled);
    }
}

fn renamed(step: &Step, name: Option<ShortStr<'_>>) -> Option<Renamed> {
    let StepKind::Queue(queue) = &step.kind else {
        return None;
    };
    let (old, new) = (queue.name.clone(), Name::from(name?));
    (queue.is_server_named() && !new.is_empty() && old != new).then_some(Renamed { old, new })
}
