//! An adapter's part of the recovery: it sends the steps of a plan and tells the plan what came of each.

use std::collections::{BTreeMap, HashMap};

use amqp_proto::topology::{ChannelKey, Outcome, Plan, Step, StepError, StepId, StepKind, Topology};
use amqp_proto::wire::{Method, ReplyCode, ShortStr};
use amqp_proto::{ChannelId, Connection, ConsumerId, RequestError, RequestId, SendError};

use crate::ledger::{Checked, Ledger, Violation};

/// A plan that is being carried out.
#[derive(Debug)]
pub(crate) struct Recovery {
    plan: Plan,
    /// For a new connection, and not for one channel only.
    pub(crate) is_full: bool,
    /// For what belongs to no channel.
    own: Option<ChannelId>,
    pub(crate) channels: BTreeMap<ChannelKey, ChannelId>,
    requests: HashMap<RequestId, StepId>,
    opens: BTreeMap<ChannelId, StepId>,
    pipelines: bool,
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
        Self {
            plan,
            is_full,
            own: None,
            channels: BTreeMap::new(),
            requests: HashMap::new(),
            opens: BTreeMap::new(),
            pipelines,
        }
    }

    pub(crate) const fn is_finished(&self) -> bool {
        self.plan.is_finished() && self.own.is_none()
    }

    pub(crate) fn has(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request)
    }

    /// Sends what can be sent now.
    pub(crate) fn send(&mut self, connection: &mut Connection, ledger: &mut Ledger) -> Checked<Vec<Sent>> {
        let mut sent = Vec::new();
        loop {
            let ready = self.plan.ready().find(|step| !self.is_under_way(step.id()));
            let is_waiting = !(self.requests.is_empty() && self.opens.is_empty());
            let step = match ready {
                Some(step) if self.pipelines || !is_waiting => step.clone(),
                _ => break,
            };
            match self.send_step(&step, connection, ledger, &mut sent)? {
                Ok(()) => {}
                Err(SendError::Full { .. }) => {
                    ledger.refused_for_room();
                    break;
                }
                // What ended is told by an event that is to come.
                Err(SendError::Stale | SendError::Closed | SendError::NotConnected) => break,
                Err(error) => {
                    return Err(Violation {
                        rule: "a step of a plan can be sent",
                        detail: format!("{step}: {error}"),
                    });
                }
            }
        }
        if self.plan.is_finished()
            && let Some(own) = self.own
            && let Ok(mut channel) = connection.channel(own)
        {
            // Its end is told by an event, which finds it.
            let _: Result<(), _> = channel.close(ReplyCode::REPLY_SUCCESS, "recovered");
        }
        Ok(sent)
    }

    fn is_under_way(&self, step: StepId) -> bool {
        self.requests
            .values()
            .chain(self.opens.values())
            .any(|other| *other == step)
    }

    fn send_step(
        &mut self,
        step: &Step,
        connection: &mut Connection,
        ledger: &mut Ledger,
        sent: &mut Vec<Sent>,
    ) -> Checked<Result<(), SendError>> {
        if *step.kind() == StepKind::Channel {
            let Some(key) = step.channel() else {
                return Ok(Ok(()));
            };
            let channel = match connection.open_channel() {
                Ok(channel) => channel,
                Err(error) => return Ok(Err(error)),
            };
            ledger.channel_made(channel)?;
            self.channels.insert(key, channel);
            self.opens.insert(channel, step.id());
            sent.push(Sent::Channel(key, channel));
            return Ok(Ok(()));
        }
        let channel = match step.channel() {
            Some(key) => self.channels.get(&key).copied(),
            None => match self.own_channel(connection, ledger)? {
                Ok(channel) => Some(channel),
                Err(error) => return Ok(Err(error)),
            },
        };
        let Some(channel) = channel else {
            // It was closed when nothing was under way on it.
            self.plan.failed(step.id(), SendError::Stale);
            return Ok(Ok(()));
        };
        match ask(step, connection, channel, sent) {
            Ok(request) => {
                self.requests.insert(request, step.id());
                ledger.asked(request)?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn own_channel(
        &mut self,
        connection: &mut Connection,
        ledger: &mut Ledger,
    ) -> Checked<Result<ChannelId, SendError>> {
        if let Some(own) = self.own {
            return Ok(Ok(own));
        }
        match connection.open_channel() {
            Ok(own) => {
                ledger.channel_made(own)?;
                self.own = Some(own);
                Ok(Ok(own))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// A channel was opened; says whether it is one of the plan's.
    pub(crate) fn on_opened(&mut self, channel: ChannelId) -> bool {
        if self.own == Some(channel) {
            return true;
        }
        match self.opens.remove(&channel) {
            Some(step) => {
                self.plan.succeeded(step, None);
                true
            }
            None => false,
        }
    }

    /// A step was answered.
    pub(crate) fn on_reply(
        &mut self,
        request: RequestId,
        method: Option<Method<'_>>,
        topology: &mut Topology,
    ) {
        let Some(step) = self.requests.remove(&request) else {
            return;
        };
        let queue: Option<ShortStr<'_>> = match method {
            Some(Method::QueueDeclareOk(ok)) => Some(ok.queue),
            _ => None,
        };
        if let Some(renamed) = self.plan.succeeded(step, queue) {
            topology.queue_renamed(&renamed.old, &renamed.new);
        }
    }

    /// A step was not answered. Of several under way on the adapter's own channel the first was refused.
    pub(crate) fn on_failed(&mut self, request: RequestId, cause: &RequestError) {
        let Some(step) = self.requests.remove(&request) else {
            return;
        };
        if Some(request.channel()) != self.own {
            self.plan.failed(step, cause.clone());
            return;
        }
        if matches!(cause, RequestError::ChannelClosed(_)) {
            let own = request.channel();
            self.requests.retain(|other, _| other.channel() != own);
            self.own = None;
        }
        self.plan.failed(step, cause.clone());
    }

    /// A channel ended, behind the requests on it.
    pub(crate) fn on_channel_closed(&mut self, channel: ChannelId, cause: &RequestError) {
        if self.own == Some(channel) {
            self.own = None;
        }
        if let Some(step) = self.opens.remove(&channel) {
            self.plan.failed(step, cause.clone());
        }
        self.channels.retain(|_, id| *id != channel);
    }

    /// The steps that failed by themselves, each with its error.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Step, &StepError)> {
        self.plan.outcomes().filter_map(|(step, outcome)| match outcome {
            Outcome::Failed(error) => Some((step, error)),
            _ => None,
        })
    }

    pub(crate) fn is_recovered(&self) -> bool {
        self.plan.is_recovered()
    }
}

/// Sends a step that is a request.
fn ask(
    step: &Step,
    connection: &mut Connection,
    channel: ChannelId,
    sent: &mut Vec<Sent>,
) -> Result<RequestId, SendError> {
    let mut channel = connection.channel(channel)?;
    Ok(match step.method() {
        Method::ExchangeDeclare(method) => channel.request(&method)?.untyped(),
        Method::ExchangeBind(method) => channel.request(&method)?.untyped(),
        Method::QueueDeclare(method) => channel.request(&method)?.untyped(),
        Method::QueueBind(method) => channel.request(&method)?.untyped(),
        Method::BasicQos(method) => channel.request(&method)?.untyped(),
        Method::ConfirmSelect(method) => channel.request(&method)?.untyped(),
        Method::TxSelect(method) => {
            sent.extend(step.channel().map(Sent::Transaction));
            channel.request(&method)?.untyped()
        }
        Method::BasicConsume(method) => {
            let (consumer, request) = channel.consume(&method)?;
            let started = Started {
                tag: method.consumer_tag.to_string(),
                queue: method.queue.to_string(),
                no_ack: method.no_ack,
            };
            sent.extend(step.channel().map(|key| Sent::Consumer(key, consumer, started)));
            request.untyped()
        }
        other => unreachable!("no step sends {other}"),
    })
}
