//! Requests and their answers: which methods ask, what answers them, and the queue of those that wait.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::id::{ChannelId, RequestId};
use crate::time::Instant;
use crate::wire::*;

/// A method that is answered and that changes nothing in the core: what [`Channel::request`](crate::Channel::request) takes.
/// Its `no_wait` is not looked at.
///
/// `basic.consume`, `basic.cancel` and `basic.get` are methods of [`Channel`](crate::Channel).
pub trait Request: Arguments {
    /// The method itself, whatever it borrows from; it says what answers it.
    type Method: Answered;

    /// The same with or without wish for an answer, where it has that choice.
    #[doc(hidden)]
    #[must_use]
    fn with_no_wait(self, no_wait: bool) -> Self;

    /// The same as any method.
    fn as_method(&self) -> Method<'_>;
}

/// A request that can do without its answer: what [`Channel::send_nowait`](crate::Channel::send_nowait) takes.
pub trait NoWait: Request {}

/// A method and what answers it.
pub trait Answered: Arguments {
    /// The answer.
    type Answer<'a>;

    /// The answer, if that method is it.
    #[doc(hidden)]
    fn answer(method: Method<'_>) -> Option<Self::Answer<'_>>;
}

/// The answer to a request. It shares the memory it was received in.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    request: RequestId,
    /// The payload of the frame.
    payload: Bytes,
}

impl Reply {
    /// An answer as it could arrive; for tests.
    ///
    /// # Errors
    /// A method that fits no frame.
    pub fn new<'m>(request: RequestId, answer: impl Into<Method<'m>>) -> Result<Self, EncodeError> {
        let mut frame = Vec::new();
        answer
            .into()
            .encode(&mut frame, request.channel().number(), u32::MAX)?;
        let payload = Bytes::from(frame).split_off(HEADER_SIZE);
        Ok(Self::from_frame(request, payload))
    }

    /// `frame` is what follows the frame's header, its end octet included.
    pub(crate) fn from_frame(request: RequestId, mut frame: Bytes) -> Self {
        frame.truncate(frame.len().saturating_sub(1));
        Self {
            request,
            payload: frame,
        }
    }

    /// The request it answers.
    #[must_use]
    pub const fn request(&self) -> RequestId {
        self.request
    }

    /// The answer to that request, if it is this one.
    ///
    /// ```
    /// use amqp_proto::wire::{QueueDeclare, QueueDeclareOk};
    /// use amqp_proto::{ChannelId, Reply, RequestId};
    ///
    /// let request = RequestId::<QueueDeclare>::new(ChannelId::new(1, 0), 5);
    /// let answer = QueueDeclareOk { queue: "tasks".try_into()?, message_count: 7, consumer_count: 0 };
    /// let reply = Reply::new(request.untyped(), answer)?;
    /// assert_eq!(reply.read(request).unwrap().message_count, 7);
    /// assert_eq!(reply.read(RequestId::<QueueDeclare>::new(ChannelId::new(1, 0), 6)), None);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub fn read<M: Answered>(&self, request: RequestId<M>) -> Option<M::Answer<'_>> {
        if self.request != request {
            return None;
        }
        M::answer(self.method()?)
    }

    /// The answer as any method. It was checked when it arrived.
    #[must_use]
    pub fn method(&self) -> Option<Method<'_>> {
        Method::decode(&self.payload).ok()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = f.debug_struct("Reply");
        parts.field("request", &self.request);
        match self.method() {
            Some(method) => parts.field("method", &format_args!("{method}")).finish(),
            None => parts.finish_non_exhaustive(),
        }
    }
}

macro_rules! requests {
    ($($method:ident $(<$life:lifetime>)? $([$no_wait:ident])? => $answer:ident $(<$answer_life:lifetime>)?;)+) => {
        $(request! { [$($no_wait)?] $method [$($life)?] })+
        answered! { $($method $($life)? => $answer $($answer_life)?;)+ }
    };
}

macro_rules! request {
    ([] $method:ident [$($life:lifetime)?]) => {
        impl $(<$life>)? Request for $method $(<$life>)? {
            type Method = request_method!($method $($life)?);

            fn with_no_wait(self, _: bool) -> Self {
                self
            }

            fn as_method(&self) -> Method<'_> {
                (*self).into()
            }
        }
    };
    ([no_wait] $method:ident [$($life:lifetime)?]) => {
        impl $(<$life>)? Request for $method $(<$life>)? {
            type Method = request_method!($method $($life)?);

            fn with_no_wait(self, no_wait: bool) -> Self {
                #[allow(clippy::needless_update, reason = "one of them has nothing else")]
                Self { no_wait, ..self }
            }

            fn as_method(&self) -> Method<'_> {
                (*self).into()
            }
        }

        impl $(<$life>)? NoWait for $method $(<$life>)? {}
    };
}

macro_rules! request_method {
    ($method:ident) => { $method };
    ($method:ident $life:lifetime) => { $method<'static> };
}

macro_rules! answered {
    ($($method:ident $($life:lifetime)? => $answer:ident $($answer_life:lifetime)?;)+) => {
        $(impl $(<$life>)? Answered for answered_type!($method $($life)?) {
            type Answer<'r> = answer_type!($answer $($answer_life)?);

            fn answer(method: Method<'_>) -> Option<Self::Answer<'_>> {
                match method {
                    Method::$answer(answer) => Some(answer),
                    _ => None,
                }
            }
        })+
    };
}

macro_rules! answered_type {
    ($method:ident) => { $method };
    ($method:ident $life:lifetime) => { $method<$life> };
}

macro_rules! answer_type {
    ($answer:ident) => { $answer };
    ($answer:ident $life:lifetime) => { $answer<'r> };
}

requests! {
    AccessRequest<'a> => AccessRequestOk;
    ExchangeDeclare<'a> [no_wait] => ExchangeDeclareOk;
    ExchangeDelete<'a> [no_wait] => ExchangeDeleteOk;
    ExchangeBind<'a> [no_wait] => ExchangeBindOk;
    ExchangeUnbind<'a> [no_wait] => ExchangeUnbindOk;
    QueueDeclare<'a> [no_wait] => QueueDeclareOk<'a>;
    QueueBind<'a> [no_wait] => QueueBindOk;
    QueueUnbind<'a> => QueueUnbindOk;
    QueuePurge<'a> [no_wait] => QueuePurgeOk;
    QueueDelete<'a> [no_wait] => QueueDeleteOk;
    ChannelFlow => ChannelFlowOk;
    BasicQos => BasicQosOk;
    BasicRecover => BasicRecoverOk;
    ConfirmSelect [no_wait] => ConfirmSelectOk;
    TxSelect => TxSelectOk;
    TxCommit => TxCommitOk;
    TxRollback => TxRollbackOk;
}

answered! {
    ConnectionUpdateSecret 'a => ConnectionUpdateSecretOk;
    BasicConsume 'a => BasicConsumeOk 'r;
    BasicCancel 'a => BasicCancelOk 'r;
}

impl Answered for BasicGet<'_> {
    /// What answers it comes as [`Event::Got`](crate::Event::Got) or [`Event::GetEmpty`](crate::Event::GetEmpty).
    type Answer<'r> = core::convert::Infallible;

    fn answer(_: Method<'_>) -> Option<Self::Answer<'_>> {
        None
    }
}

/// How many requests of one channel may wait.
const MAX_WAITING: usize = 1 << 16;

/// The requests of one channel that wait for their answer, in the order in which they were written. They are answered in that
/// order, but for those that are [late](Waiting::is_late).
#[derive(Debug)]
pub(crate) struct Requests {
    channel: ChannelId,
    waiting: VecDeque<Waiting>,
    next_sequence: u64,
    /// How many of the last ones were not handed over.
    unsent: usize,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    sequence: u64,
    pub(crate) method: &'static MethodSpec,
    pub(crate) purpose: Purpose,
    /// Whoever asked does not care any more; the answer is discarded.
    pub(crate) is_abandoned: bool,
    /// [`Instant::MAX`] while nobody looked, and if there is none.
    deadline: Instant,
}

/// What the answer means to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing.
    Plain,
    /// The channel is open.
    Open,
    /// A consumer started.
    Consume { number: u32 },
    /// A consumer ended.
    Cancel { number: u32 },
    /// A message may come.
    Get { no_ack: bool },
}

impl Waiting {
    /// In RabbitMQ the queue answers it, not the channel; what was asked later may be answered before.
    const fn is_late(&self) -> bool {
        matches!(self.purpose, Purpose::Consume { .. } | Purpose::Cancel { .. })
    }
}

impl Requests {
    pub(crate) const fn new(channel: ChannelId) -> Self {
        Self::starting_at(channel, 0)
    }

    /// Counts on from there.
    pub(crate) const fn starting_at(channel: ChannelId, next_sequence: u64) -> Self {
        Self {
            channel,
            waiting: VecDeque::new(),
            next_sequence,
            unsent: 0,
        }
    }

    /// Whether there are as many as anybody could want: a peer that reads and does not answer must not cost more.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING
    }

    /// A request was written.
    pub(crate) fn push<T>(&mut self, method: &'static MethodSpec, purpose: Purpose) -> RequestId<T> {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.unsent += 1;
        if self.waiting.capacity() == 0 {
            // Most channels never have more: they are opened, and set to confirm publishes.
            self.waiting.reserve_exact(2);
        }
        self.waiting.push_back(Waiting {
            sequence,
            method,
            purpose,
            is_abandoned: false,
            deadline: Instant::MAX,
        });
        RequestId::new(self.channel, sequence)
    }

    /// Takes the one that is answered by `found`, which must be for that purpose.
    pub(crate) fn answer(
        &mut self,
        found: MethodId,
        is_for: impl Fn(Purpose) -> bool,
    ) -> Result<(RequestId, Waiting), ProtocolError> {
        let (index, answered) = self.find(found, is_for)?;
        self.waiting.remove(index);
        Ok((RequestId::new(self.channel, answered.sequence), answered))
    }

    /// The one that is answered by `found` once the message that it carries is complete.
    pub(crate) fn due(&self, found: MethodId) -> Result<Waiting, ProtocolError> {
        self.find(found, |_| true).map(|(_, waiting)| waiting)
    }

    fn find(
        &self,
        found: MethodId,
        is_for: impl Fn(Purpose) -> bool,
    ) -> Result<(usize, Waiting), ProtocolError> {
        let is_due = |waiting: &Waiting| waiting.method.replies.contains(&found) && is_for(waiting.purpose);
        let mut open = self.waiting.iter().enumerate();
        match open.find(|(_, waiting)| is_due(waiting) || !waiting.is_late()) {
            Some((index, waiting)) if is_due(waiting) => Ok((index, *waiting)),
            _ => {
                let request = self.waiting.front().map(|waiting| waiting.method.id);
                let problem = Problem::UnexpectedReply { found, request };
                Err(ProtocolError::new(problem, "method id", HEADER_SIZE))
            }
        }
    }

    /// Whether something was asked about that consumer and is not answered.
    pub(crate) fn is_about(&self, consumer: u32) -> bool {
        self.waiting.iter().any(|waiting| {
            let (Purpose::Consume { number } | Purpose::Cancel { number }) = waiting.purpose else {
                return false;
            };
            number == consumer
        })
    }

    /// Nobody waits for that answer any more; says what it was for, if somebody did.
    pub(crate) fn abandon(&mut self, request: RequestId) -> Option<Purpose> {
        let place = |waiting: &Waiting| waiting.sequence.cmp(&request.sequence());
        let index = self.waiting.binary_search_by(place).ok()?;
        let waiting = self.waiting.get_mut(index)?;
        let was_abandoned = core::mem::replace(&mut waiting.is_abandoned, true);
        (!was_abandoned).then_some(waiting.purpose)
    }

    /// Sets the deadline of those that are handed over now; of those that only wait to be, if they have none.
    pub(crate) fn start_timeout(&mut self, deadline: Instant, is_handed_over: bool) {
        for waiting in self.waiting.iter_mut().rev().take(self.unsent) {
            if is_handed_over || waiting.deadline == Instant::MAX {
                waiting.deadline = deadline;
            }
        }
        if is_handed_over {
            self.unsent = 0;
        }
    }

    /// The earliest deadline of those that somebody waits for.
    pub(crate) fn deadline(&self) -> Instant {
        let awaited = self.waiting.iter().find(|waiting| !waiting.is_abandoned);
        awaited.map_or(Instant::MAX, |waiting| waiting.deadline)
    }

    /// Abandons those whose deadline has come, and tells each.
    pub(crate) fn expire(&mut self, now: Instant, mut report: impl FnMut(RequestId, Purpose)) {
        for waiting in &mut self.waiting {
            if !waiting.is_abandoned && waiting.deadline <= now {
                waiting.is_abandoned = true;
                report(RequestId::new(self.channel, waiting.sequence), waiting.purpose);
            }
        }
    }

    /// Forgets all, and tells each that somebody waits for.
    pub(crate) fn fail(&mut self, mut report: impl FnMut(RequestId, Purpose)) {
        for waiting in self.waiting.drain(..) {
            if !waiting.is_abandoned {
                report(RequestId::new(self.channel, waiting.sequence), waiting.purpose);
            }
        }
    }
}
