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
/// of it. The adapter, whose handles live on, learns which channels and consumers they are now.
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
    /// There may be something to send.
    is_behind: bool,
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
            is_behind: true,
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

    /// Whether every step is settled, and nothing of it is left on the connection.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.plan.is_finished() && self.own.is_none()
    }

    /// Whether that channel is none of the program's.
    #[must_use]
    pub fn is_own(&self, channel: ChannelId) -> bool {
        self.own == Some(channel)
    }

    /// Sends what can be sent now, and tells `sent` of each. To be called again behind each event.
    ///
    /// # Errors
    /// [`SendError::Full`]: there is more to send when there is room. Any other one is a step that this connection cannot send: the
    /// rest of the plan cannot be carried out.
    pub fn send(
        &mut self,
        connection: &mut Connection,
        sent: &mut dyn FnMut(Sent<'_>),
    ) -> Result<(), SendError> {
        while self.is_behind {
            self.is_behind = false;
            let limit = match (self.is_pipelined, self.is_waiting()) {
                (true, _) => usize::MAX,
                (false, is_waiting) => usize::from(!is_waiting),
            };
            let ready = self.plan.ready().filter(|step| !self.is_under_way(step.id()));
            let steps: Vec<Step> = ready.take(limit).cloned().collect();
            for step in steps {
                match self.send_step(&step, connection, sent) {
                    Ok(()) => {}
                    // What ended is told by an event that is to come.
                    Err(SendError::Stale | SendError::Closed | SendError::NotConnected) => break,
                    Err(SendError::TooManyRequests) => {
                        self.is_behind = true;
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if self.plan.is_finished()
            && let Some(own) = self.own
            && let Ok(mut channel) = connection.channel(own)
        {
            // Its end is told by an event, which finds it.
            let _: Result<(), _> = channel.close(ReplyCode::REPLY_SUCCESS, "restored");
        }
        Ok(())
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
                    return false;
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
                if is_own {
                    self.own = None;
                }
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

    /// Of several under way on the channel of its own, the first was refused; the others are tried again on the next one.
    fn on_failed(&mut self, request: RequestId, cause: &RequestError) -> bool {
        let Some(step) = self.take(request) else {
            return self.is_own(request.channel());
        };
        let channel = request.channel();
        if let RequestError::ChannelClosed(ChannelCloseReason::Connection(_)) = cause {
            return true;
        }
        self.settle(step);
        if self.is_own(channel) && matches!(cause, RequestError::ChannelClosed(_)) {
            let under_way = &mut self.under_way;
            self.requests.retain(|(other, _), step| {
                let is_elsewhere = *other != channel;
                is_elsewhere || !under_way.remove(step)
            });
            self.own = None;
        }
        self.is_behind = true;
        self.plan.failed(step, cause.clone());
        true
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
