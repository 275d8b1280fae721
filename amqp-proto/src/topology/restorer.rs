//! A plan that is being carried out on a connection.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::{ChannelKey, Culprits, Plan, Step, StepId, StepKind, Topology};
use crate::wire::{Method, ReplyCode};
use crate::{
    ChannelCloseReason, ChannelId, CloseReason, Connection, ConsumerId, Event, RequestError, RequestId,
    SendError,
};

/// Carries out a [`Plan`] on a [`Connection`] that is open: sends what can be sent without waiting, and learns from events what came
/// of it. What is not answered in time is tried once more, until something is late twice. The adapter, whose handles live on, learns which channels and consumers they are now.
///
/// ```
/// use amqp_proto::topology::{Plan, Restorer, Sent, Topology};
/// use amqp_proto::{Connection, Event, SendError};
///
/// # fn example(connection: &mut Connection, topology: &mut Topology, mut poll_event: impl FnMut(&mut Connection) -> Event) -> Result<(), SendError> {
/// let mut restorer = Restorer::new(Plan::new(topology));
/// while !restorer.is_finished() {
///     let mut sent = |sent: Sent<'_>| match sent {
///         Sent::Channel(_key, _channel) => { /* The program's channel is this one from now on. */ }
///         Sent::Consumer(_step, _request, _consumer) => { /* So is this consumer. */ }
///         _ => {}
///     };
///     match restorer.send(connection, &mut sent) {
///         Err(SendError::Full { .. }) | Ok(()) => {} // Tried again behind each event, `Event::Writable` among them.
///         Err(error) => return Err(error),
///     }
///     let event = poll_event(connection);
///     if !restorer.on_event(&event, topology) {
///         // It is the program's.
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// When the connection ends, the next one needs a new plan; what this one has learned goes there by
/// [`into_culprits`](Self::into_culprits).
#[derive(Debug, Clone)]
pub struct Restorer {
    plan: Plan,
    is_pipelined: bool,
    /// For what belongs to no channel of the program's.
    own: Option<ChannelId>,
    channels: BTreeMap<ChannelKey, ChannelId>,
    /// By channel and sequence.
    requests: BTreeMap<(ChannelId, u64), StepId>,
    opens: BTreeMap<ChannelId, StepId>,
    /// The steps of both.
    under_way: BTreeSet<StepId>,
    /// Nothing is sent on those any more: the own one that was used before, and what something was not answered on.
    closing: BTreeSet<ChannelId>,
    /// There may be something to send.
    is_behind: bool,
    /// What was not answered in time, and is tried once more.
    late: BTreeSet<StepId>,
    /// One of those was late again: no others are tried once more, since each would take as long.
    is_out_of_patience: bool,
    culprits: Culprits,
}

/// What was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum Sent<'s> {
    /// A channel was opened that belongs to no channel of the program's. Its events are not for the program.
    OwnChannel(ChannelId),
    /// A channel of the program's was opened again, as this one; maybe not for the first time.
    Channel(ChannelKey, ChannelId),
    /// Some other step, and the request that it became.
    Request(&'s Step, RequestId),
    /// A consumer was started again, as this one. [`Connection::abandon`] the request if nobody wants it any more.
    Consumer(&'s Step, RequestId, ConsumerId),
}

impl Restorer {
    /// Will carry it out, with as much under way at a time as can be.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            is_pipelined: true,
            own: None,
            channels: BTreeMap::new(),
            requests: BTreeMap::new(),
            opens: BTreeMap::new(),
            under_way: BTreeSet::new(),
            closing: BTreeSet::new(),
            is_behind: true,
            late: BTreeSet::new(),
            is_out_of_patience: false,
            culprits: Culprits::default(),
        }
    }

    /// Sends a step only when the one before was answered.
    #[must_use]
    pub const fn one_by_one(mut self) -> Self {
        self.is_pipelined = false;
        self
    }

    /// Leaves out what has ended too many connections, and goes step by step if it is not known what ended the last one.
    #[must_use]
    pub fn avoiding(mut self, culprits: Culprits) -> Self {
        culprits.take_out_of(&mut self.plan);
        self.is_pipelined &= !culprits.is_careful;
        self.culprits = culprits;
        self
    }

    /// The connection has ended before the plan was carried out: what is to be avoided on the next one.
    #[must_use]
    pub fn into_culprits(self, reason: &CloseReason) -> Culprits {
        let Self {
            plan,
            under_way,
            mut culprits,
            ..
        } = self;
        culprits.blame(reason, under_way.iter().filter_map(|step| plan.step(*step)));
        culprits
    }

    /// The plan, with what has become of its steps.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A step that failed is tried once more on this connection, with what was skipped because of it. Does nothing for others, and for
    /// one that [ended connections](super::StepError::EndedConnection).
    pub fn retry(&mut self, step: StepId) {
        self.plan.retry(step);
        self.is_behind = true;
    }

    /// Whether every step is settled, and nothing of it is left on the connection.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.plan.is_finished() && self.own.is_none() && self.closing.is_empty()
    }

    /// Whether that channel is none of the program's.
    #[must_use]
    pub fn is_own(&self, channel: ChannelId) -> bool {
        let is_programs = || self.channels.values().any(|id| *id == channel);
        self.own == Some(channel) || self.closing.contains(&channel) && !is_programs()
    }

    /// Sends what can be sent now, and tells `sent` of each. To be called again behind each event. What this connection cannot
    /// send, such as more channels than the peer allows now, fails like what is refused.
    ///
    /// # Errors
    /// [`SendError::Full`]: there is more to send when there is room. [`SendError::ShuttingDown`]: the rest is not to be had, since
    /// the connection is about to be closed.
    pub fn send(
        &mut self,
        connection: &mut Connection,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<(), SendError> {
        while core::mem::take(&mut self.is_behind) {
            // Its number may be needed.
            if self.plan.next_step().is_none_or(|step| step.channel().is_some()) {
                self.closing.extend(self.own.take());
            }
            let limit = match (self.is_pipelined, self.is_waiting()) {
                (true, _) => usize::MAX,
                (false, is_waiting) => usize::from(!is_waiting),
            };
            let ready = self.plan.ready().filter(|step| !self.is_under_way(step.id()));
            let steps: Vec<Step> = ready.take(limit).cloned().collect();
            let result = self.send_steps(&steps, connection, sent);
            for channel in &self.closing {
                if let Ok(mut channel) = connection.channel(*channel) {
                    // Its end is told by an event.
                    let _: Result<(), _> = channel.close(ReplyCode::REPLY_SUCCESS, "restored");
                }
            }
            result?;
        }
        Ok(())
    }

    fn send_steps(
        &mut self,
        steps: &[Step],
        connection: &mut Connection,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<(), SendError> {
        for step in steps {
            if self.must_wait(step) {
                continue;
            }
            match self.send_step(step, connection, sent) {
                Ok(()) => continue,
                // What ended is told by an event that is to come.
                Err(SendError::Stale | SendError::Closed | SendError::NotConnected) => {}
                Err(SendError::NoFreeChannel { .. }) if self.frees_channel(connection) => {}
                Err(error @ (SendError::Full { .. } | SendError::ShuttingDown)) => return Err(error),
                // Some of them are answered first.
                Err(SendError::TooManyRequests) => {}
                Err(error) => {
                    self.plan.failed(step.id(), error);
                    self.is_behind |= !self.is_waiting();
                }
            }
            break;
        }
        Ok(())
    }

    /// Whether the channel that it is for has to end first. One that is to be opened again although it is there is closed.
    fn must_wait(&mut self, step: &Step) -> bool {
        let present = step.channel().and_then(|key| self.channels.get(&key));
        let Some(channel) = present.copied() else {
            return false;
        };
        if *step.kind() == StepKind::Channel {
            self.closing.insert(channel);
        }
        self.closing.contains(&channel)
    }

    /// Whether a channel is about to end, which gives its number back.
    fn frees_channel(&self, connection: &mut Connection) -> bool {
        let mut channels = self.channels.values();
        self.own.is_some()
            || !self.closing.is_empty()
            || channels.any(|id| connection.channel(*id).is_ok_and(|channel| !channel.is_open()))
    }

    fn is_under_way(&self, step: StepId) -> bool {
        self.under_way.contains(&step)
    }

    fn is_waiting(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// What can be sent next depends on what came of that step.
    fn settle(&mut self, step: StepId) {
        self.under_way.remove(&step);
        self.is_behind |= self.under_way.is_empty();
    }

    fn send_step(
        &mut self,
        step: &Step,
        connection: &mut Connection,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<(), SendError> {
        let channel = match (step.channel(), step.kind()) {
            (Some(key), StepKind::Channel) => {
                let channel = connection.open_channel()?;
                self.channels.insert(key, channel);
                self.opens.insert(channel, step.id());
                self.under_way.insert(step.id());
                sent(Sent::Channel(key, channel));
                return Ok(());
            }
            (Some(key), _) => self.channels.get(&key).copied(),
            (None, _) => Some(self.own_channel(connection, sent)?),
        };
        let Some(channel) = channel else {
            // It was closed when nothing was under way on it.
            self.plan.failed(step.id(), SendError::Stale);
            self.is_behind = true;
            return Ok(());
        };
        let request = ask(step, connection, channel, sent)?;
        self.requests
            .insert((request.channel(), request.sequence()), step.id());
        self.under_way.insert(step.id());
        Ok(())
    }

    fn own_channel(
        &mut self,
        connection: &mut Connection,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<ChannelId, SendError> {
        if let Some(own) = self.own {
            return Ok(own);
        }
        let own = connection.open_channel()?;
        self.own = Some(own);
        sent(Sent::OwnChannel(own));
        Ok(own)
    }

    /// Learns what happened, and notes in the record which queues have another name now. Says whether the event was about the plan
    /// alone; the end of a channel of the program's, and that one was opened, are the program's business too.
    pub fn on_event(&mut self, event: &Event, topology: &mut Topology) -> bool {
        match event {
            Event::Reply(reply) => {
                let Some(step) = self.take(reply.request()) else {
                    return self.closing.contains(&reply.request().channel());
                };
                let queue = match reply.method() {
                    Some(Method::QueueDeclareOk(ok)) => Some(ok.queue),
                    _ => None,
                };
                self.settle(step);
                if let Some(renamed) = self.plan.succeeded(step, queue) {
                    self.culprits.rename(&renamed);
                    topology.queue_renamed(&renamed.old, &renamed.new);
                }
                true
            }
            Event::RequestFailed { request, cause } => self.on_failed(*request, cause),
            Event::ChannelOpened { channel } => {
                if let Some(step) = self.opens.remove(channel) {
                    self.settle(step);
                    self.plan.succeeded(step, None);
                }
                self.is_own(*channel)
            }
            // What was under way is still to be blamed for it.
            Event::ChannelClosed {
                channel,
                reason: ChannelCloseReason::Connection(_),
            } => self.is_own(*channel),
            Event::ChannelClosed { channel, reason } => {
                let is_own = self.is_own(*channel);
                if self.own == Some(*channel) {
                    self.own = None;
                }
                self.closing.remove(channel);
                if let Some(step) = self.opens.remove(channel) {
                    self.settle(step);
                    let cause = RequestError::ChannelClosed(reason.clone());
                    self.plan.failed(step, cause);
                }
                self.is_behind = true;
                self.channels.retain(|_, id| id != channel);
                is_own
            }
            Event::Writable => {
                self.is_behind = true;
                false
            }
            _ => false,
        }
    }

    fn take(&mut self, request: RequestId) -> Option<StepId> {
        self.requests.remove(&(request.channel(), request.sequence()))
    }

    /// Of several under way on the channel of its own, the first was refused; of several on any channel that are not answered in time,
    /// the first one keeps the others from it. Those are tried again on another one.
    fn on_failed(&mut self, request: RequestId, cause: &RequestError) -> bool {
        let channel = request.channel();
        let Some(step) = self.take(request) else {
            return self.is_own(channel) || self.closing.contains(&channel);
        };
        let is_over = match cause {
            // What was under way is still to be blamed for it.
            RequestError::ChannelClosed(ChannelCloseReason::Connection(_)) => return true,
            RequestError::ChannelClosed(_) => self.is_own(channel),
            RequestError::Timeout => true,
        };
        self.settle(step);
        if is_over {
            let under_way = &mut self.under_way;
            self.requests.retain(|(other, _), step| {
                let is_elsewhere = *other != channel;
                is_elsewhere || !under_way.remove(step)
            });
            self.own = self.own.filter(|own| *own != channel);
            self.closing.insert(channel);
        }
        self.is_behind = true;
        match self.is_tried_again(step, cause) {
            true => self.plan.interrupted(step),
            false => self.plan.failed(step, cause.clone()),
        }
        true
    }

    /// A step was refused or not answered. A node that hangs for a while answers nobody, and then the same step at once.
    fn is_tried_again(&mut self, step: StepId, cause: &RequestError) -> bool {
        let is_late = *cause == RequestError::Timeout;
        let is_tried_again = is_late && !self.is_out_of_patience && self.late.insert(step);
        self.is_out_of_patience |= is_late && !is_tried_again;
        is_tried_again
    }
}

/// Sends a step that is a request.
fn ask(
    step: &Step,
    connection: &mut Connection,
    channel: ChannelId,
    sent: &mut dyn FnMut(Sent<'_>),
) -> Result<RequestId, SendError> {
    let mut channel = connection.channel(channel)?;
    let request = match step.method() {
        Method::ExchangeDeclare(method) => channel.request(&method)?.untyped(),
        Method::ExchangeBind(method) => channel.request(&method)?.untyped(),
        Method::QueueDeclare(method) => channel.request(&method)?.untyped(),
        Method::QueueBind(method) => channel.request(&method)?.untyped(),
        Method::BasicQos(method) => channel.request(&method)?.untyped(),
        Method::ConfirmSelect(method) => channel.request(&method)?.untyped(),
        Method::TxSelect(method) => channel.request(&method)?.untyped(),
        Method::BasicConsume(method) => {
            let (consumer, request) = channel.consume(&method)?;
            sent(Sent::Consumer(step, request.untyped(), consumer));
            return Ok(request.untyped());
        }
        // No step is anything else.
        _ => return Err(SendError::Stale),
    };
    sent(Sent::Request(step, request));
    Ok(request)
}
