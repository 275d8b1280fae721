//! A program, its record and a broker of lists, driven by octets: shared by the tests and the fuzz target.
//!
//! ```text
//! octets ─▶ what the program does ─┬─▶ Broker (lists) ──┐
//!                                  └─▶ Topology         ├─ hold the same, always
//!                                         │ Plan        │
//!                                         └─▶ a new Broker
//! ```
#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::panic,
        clippy::arithmetic_side_effects,
        reason = "it fails by panicking"
    )
)]

mod broker;
mod invariants;
mod operations;

pub(crate) use invariants::{assert_replays, assert_sound};

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::record::Mode;
use super::{ChannelKey, Destination, Name, Outcome, Plan, Step, StepError, StepId, StepKind, Topology};
use crate::wire::{Method, ReplyCode, ShortStr};
use crate::{ChannelCloseReason, CloseReason, PeerClose, RequestError, TransportError};
use broker::{Answer, Broker, consume_line};

/// The channel of whoever carries out a plan.
const RECOVERY: ChannelKey = ChannelKey::new(99);

/// A program with its broker.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) topology: Topology,
}

/// How a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Sends what is ready at once instead of step by step.
    pub(crate) is_pipelined: bool,
    /// Which entities the broker refuses, by [`fault_bit`].
    pub(crate) faults: u8,
    /// Loses the connection at that step.
    pub(crate) cut: Option<usize>,
}

/// One answer that a plan was given.
#[derive(Debug, Clone)]
pub(crate) enum Feedback {
    Succeeded(StepId, String),
    Failed(StepId, StepError),
}

impl Manner {
    pub(crate) const PLAIN: Self = Self {
        is_pipelined: false,
        faults: 0,
        cut: None,
    };
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            broker: Broker::new(0),
            topology: Topology::default(),
        }
    }

    /// The record is what the broker has.
    pub(crate) fn check(&self) {
        assert_eq!(lines(&self.topology), self.broker.lines());
        assert_sound(&Plan::new(&self.topology));
    }

    /// The connection is lost, and everything that was on the broker with it; the names it makes up go on.
    pub(crate) fn lose_broker(&mut self) {
        self.broker = Broker::new(self.broker.made_up());
    }

    /// Carries out a plan; the record learns of new names.
    pub(crate) fn carry_out(&mut self, plan: &mut Plan, manner: Manner) {
        assert_sound(plan);
        let fresh = plan.clone();
        let mut feedback = Vec::new();
        loop {
            let batch: Vec<StepId> = match manner.is_pipelined {
                true => plan.ready().map(Step::id).collect(),
                false => plan.next_step().map(Step::id).into_iter().collect(),
            };
            if batch.is_empty() {
                break;
            }
            self.take_steps(plan, &batch, manner, &mut feedback);
        }
        self.broker.close_channel(RECOVERY);
        assert!(plan.is_finished());
        assert_replays(fresh, &feedback, plan);
    }

    /// Steps that are under way together. The server looks at nothing that comes behind a refusal on the same channel: what
    /// belongs to no channel is sent again, what belongs to one fails with it.
    fn take_steps(
        &mut self,
        plan: &mut Plan,
        batch: &[StepId],
        manner: Manner,
        feedback: &mut Vec<Feedback>,
    ) {
        let mut lost = Vec::new();
        for id in batch {
            let Some(step) = plan.step(*id).cloned() else {
                panic!("it was there")
            };
            let key = step.channel().unwrap_or(RECOVERY);
            let answer = match lost.contains(&key) {
                true => Err(refused(ReplyCode::PRECONDITION_FAILED)),
                false if manner.cut == Some(feedback.len()) => Err(connection_lost()),
                false => self.answer(&step, key, manner.faults).map_err(refused),
            };
            match answer {
                Ok(name) => {
                    let queue = step.declares_queue().then(|| short(&name));
                    if let Some(renamed) = plan.succeeded(*id, queue) {
                        assert!(self.topology.queue_renamed(&renamed.old, &renamed.new));
                    }
                    feedback.push(Feedback::Succeeded(*id, name));
                }
                Err(error) => {
                    self.broker.close_channel(key);
                    plan.failed(*id, error.clone());
                    feedback.push(Feedback::Failed(*id, error));
                    if step.channel().is_none() {
                        break;
                    }
                    lost.push(key);
                }
            }
        }
    }

    fn answer(&mut self, step: &Step, key: ChannelKey, faults: u8) -> Answer {
        if fault_bit(step) & faults != 0 {
            return Err(ReplyCode::PRECONDITION_FAILED);
        }
        self.broker.handle(key, &step.method())
    }

    /// Carries out a plan on a new broker that refuses some of it: everything is there that can be, and what is there is what
    /// the plan says.
    pub(crate) fn recover_with_faults(&mut self, manner: Manner) {
        let expected = possible_consumers(&self.topology, manner.faults);
        self.lose_broker();
        let mut plan = Plan::new(&self.topology);
        self.carry_out(&mut plan, manner);
        let has_failures = plan
            .outcomes()
            .any(|(step, _)| fault_bit(step) & manner.faults != 0);
        assert_eq!(plan.is_recovered(), !has_failures);
        assert_eq!(self.broker.consumer_names(), expected);
        let restored = plan.outcomes().filter(|(step, outcome)| {
            let is_state = matches!(
                step.kind(),
                StepKind::Qos(_) | StepKind::Confirm | StepKind::Transaction
            );
            **outcome == Outcome::Succeeded && !is_state
        });
        assert_eq!(self.broker.lines().len(), restored.count());
    }
}

/// Of the consumers, those that are not refused, nor their channel, nor their queue.
fn possible_consumers(topology: &Topology, faults: u8) -> Vec<(ChannelKey, String)> {
    let plan = Plan::new(topology);
    let is_refused = |step: &Step| fault_bit(step) & faults != 0;
    let steps = || plan.outcomes().map(|(step, _)| step);
    let mut consumers: Vec<_> = steps()
        .filter_map(|step| match step.kind() {
            StepKind::Consumer(consumer) if !is_refused(step) => Some((step.channel()?, consumer)),
            _ => None,
        })
        .filter(|(key, consumer)| {
            !steps()
                .filter(|step| is_refused(step))
                .any(|step| match step.kind() {
                    StepKind::Channel => step.channel() == Some(*key),
                    StepKind::Queue(queue) => queue.name() == consumer.queue(),
                    _ => false,
                })
        })
        .map(|(key, consumer)| (key, format!("{}", consumer.tag())))
        .collect();
    consumers.sort();
    consumers
}

/// One of eight bits for a step that the broker may refuse, the same in every plan; none for one it never does.
fn fault_bit(step: &Step) -> u8 {
    let (salt, name) = match step.kind() {
        StepKind::Exchange(exchange) => (1, exchange.name()),
        StepKind::Queue(queue) if !queue.is_server_named() => (2, queue.name()),
        StepKind::Consumer(consumer) => (3, consumer.tag()),
        StepKind::Channel => (4, &Name::default()),
        _ => return 0,
    };
    let sum = name
        .as_short_str()
        .as_bytes()
        .iter()
        .fold(salt, |sum: u8, octet| sum.wrapping_add(*octet));
    let key = step.channel().map_or(0, ChannelKey::number);
    1 << ((u64::from(sum) + key * 5) % 8)
}

/// Everything in the record, in the words of [`Broker::lines`].
fn lines(topology: &Topology) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for exchange in topology.exchanges() {
        lines.push(format!("{}", Method::from(exchange.declare())));
    }
    for queue in topology.queues() {
        lines.push(format!("{} is {}", queue.name(), Method::from(queue.declare())));
    }
    for binding in topology.bindings() {
        let (is_to_queue, destination) = match binding.destination() {
            Destination::Queue(name) => (true, name),
            Destination::Exchange(name) => (false, name),
        };
        let (source, key, arguments) = (
            binding.source(),
            binding.routing_key(),
            binding.arguments.to_vec(),
        );
        lines.push(format!(
            "{source} to {destination} (a queue: {is_to_queue}) by {key}, {arguments:?}"
        ));
    }
    for (key, channel) in &topology.channels {
        let mode = match channel.mode {
            Mode::Plain => "plain",
            Mode::Confirmed => "confirms",
            Mode::Transactional => "transactions",
        };
        lines.push(format!(
            "{key:?} {mode} {:?} {:?}",
            channel.qos, channel.global_qos
        ));
        for consumer in topology.consumers(*key) {
            let consume = consume_line(&consumer.consume(), &format!("{}", consumer.tag()));
            lines.push(format!(
                "{key:?} {} {consume} {:?}",
                consumer.queue(),
                consumer.qos
            ));
        }
    }
    lines.sort();
    lines
}

pub(crate) fn refused(code: ReplyCode) -> StepError {
    let peer = PeerClose::new(code, "refused", None);
    RequestError::ChannelClosed(ChannelCloseReason::Peer(peer)).into()
}

pub(crate) fn connection_lost() -> StepError {
    let reason = CloseReason::Transport {
        state: crate::ConnectionState::Open,
        error: TransportError::end_of_stream(),
    };
    RequestError::ChannelClosed(ChannelCloseReason::Connection(reason)).into()
}

/// For names of tests, which are not long.
pub(crate) fn short(name: &str) -> ShortStr<'_> {
    ShortStr::new(name).unwrap_or_else(|error| panic!("{error}"))
}
