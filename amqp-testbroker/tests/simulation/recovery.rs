//! An adapter's part of the recovery: it has the plan carried out, and writes down what was sent.

use amqp_proto::topology::{
    ChannelKey, Outcome, Plan, Restorer, Sent as Told, Step, StepError, StepKind, Topology,
};
use amqp_proto::{ChannelId, Connection, ConsumerId, Event, SendError};

use crate::ledger::{Checked, Ledger, Violation};

/// A plan that is being carried out.
#[derive(Debug)]
pub(crate) struct Recovery {
    restorer: Restorer,
    /// For a new connection, and not for one channel only.
    pub(crate) is_full: bool,
}

/// What the program has to know of a step that was sent.
#[derive(Debug)]
pub(crate) enum Sent {
    Channel(ChannelKey, ChannelId),
    Transaction(ChannelKey),
    Consumer(ChannelKey, ConsumerId, Started),
}

/// A consumer that was started again.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) tag: String,
    pub(crate) queue: String,
    pub(crate) no_ack: bool,
}

impl Recovery {
    pub(crate) fn new(plan: Plan, is_full: bool, pipelines: bool) -> Self {
        let restorer = match pipelines {
            true => Restorer::new(plan),
            false => Restorer::new(plan).one_by_one(),
        };
        Self { restorer, is_full }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.restorer.is_finished()
    }

    /// Sends what can be sent now.
    pub(crate) fn send(&mut self, connection: &mut Connection, ledger: &mut Ledger) -> Checked<Vec<Sent>> {
        let (mut sent, mut checked) = (Vec::new(), Ok(()));
        let result = self.restorer.send(connection, &mut |told| {
            let noted = note(&told, ledger);
            sent.extend(sent_of(&told));
            if checked.is_ok() {
                checked = noted;
            }
        });
        checked?;
        match result {
            Ok(()) => {}
            Err(SendError::Full { .. }) => ledger.refused_for_room(),
            Err(error) => {
                return Err(Violation {
                    rule: "a step of a plan can be sent",
                    detail: error.to_string(),
                });
            }
        }
        Ok(sent)
    }

    /// Says whether the event was about the plan alone.
    pub(crate) fn on_event(&mut self, event: &Event, topology: &mut Topology) -> bool {
        self.restorer.on_event(event, topology)
    }

    /// The steps that failed by themselves, each with its error.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Step, &StepError)> {
        let outcomes = self.restorer.plan().outcomes();
        outcomes.filter_map(|(step, outcome)| match outcome {
            Outcome::Failed(error) => Some((step, error)),
            _ => None,
        })
    }

    pub(crate) fn is_recovered(&self) -> bool {
        self.restorer.plan().is_recovered()
    }
}

fn note(told: &Told<'_>, ledger: &mut Ledger) -> Checked {
    match told {
        Told::OwnChannel(channel) | Told::Channel(_, channel) => ledger.channel_made(*channel),
        Told::Request(_, request) | Told::Consumer(_, request, _) => ledger.asked(*request),
        _ => Ok(()),
    }
}

fn sent_of(told: &Told<'_>) -> Option<Sent> {
    match told {
        Told::Channel(key, channel) => Some(Sent::Channel(*key, *channel)),
        Told::Request(step, _) if *step.kind() == StepKind::Transaction => {
            step.channel().map(Sent::Transaction)
        }
        Told::Consumer(step, _, consumer) => {
            let StepKind::Consumer(record) = step.kind() else {
                return None;
            };
            let method = record.consume();
            let started = Started {
                tag: method.consumer_tag.to_string(),
                queue: method.queue.to_string(),
                no_ack: method.no_ack,
            };
            Some(Sent::Consumer(step.channel()?, *consumer, started))
        }
        _ => None,
    }
}
