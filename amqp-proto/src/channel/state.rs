//! A channel's state, and what the peer's methods do to it.
//!
//! ```text
//!            open-ok               close                      close-ok
//! Opening ───────────▶ Open ──────────────────▶ Closing ─────────────────▶ (none)
//!    │ └──── close ─────┼─────────────────────────▲  │ the peer's close: close-ok,
//!    │                  │ the peer's close:          │ and on waiting
//!    │                  │ close-ok                   │
//!    │                  ▼                            │
//!    │               (none)                          │
//!    └───────────────── no answer in time ───────────┴────▶ Abandoned ──▶ (none) on close-ok
//! ```
//! `Abandoned` was told as closed, only its number is not free yet. Requests, publishes and consumers may be sent while
//! `Opening`: the peer takes them in order.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem;

use super::coalesce::{Coalescer, Prefetch};
use super::confirm::{ConfirmLimits, ConfirmOutcome, ConfirmWindow};
use super::consumers::{Consumer, Consumers};
use super::content::Partial;
use super::request::{Purpose, Reply, Requests, Waiting};
use super::unsettled::Unsettled;
use crate::RecvBuf;
use crate::error::{ChannelCloseReason, PeerClose, RequestError};
use crate::event::Event;
use crate::id::{ChannelId, ConfirmTags, ConsumerId, DeliveryTag, RequestId};
use crate::link::Link;
use crate::time::Instant;
use crate::wire::*;

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) id: ChannelId,
    pub(crate) phase: Phase,
    pub(crate) requests: Requests,
    pub(crate) consumers: Consumers,
    pub(super) partial: Option<Partial>,
    pub(super) confirm: Option<Box<ConfirmWindow>>,
    pub(super) confirm_limits: ConfirmLimits,
    /// `confirm.select` was not answered: what comes back was published before it.
    pub(super) is_confirm_pending: bool,
    /// The highest delivery tag that came.
    pub(super) last_delivery: u64,
    /// Joins acknowledgements, if that was asked for.
    pub(super) coalescer: Option<Box<Coalescer>>,
    pub(super) prefetch: Prefetch,
    pub(super) unsettled: Unsettled,
    pub(super) is_flow_stopped: bool,
    /// `tx.commit` was not answered. RabbitMQ ends the connection if it gets anything but `channel.close` here before that.
    pub(super) is_committing: bool,
    /// Deliveries that nobody wants and that must wait for it.
    pub(super) unwanted_deliveries: Vec<DeliveryTag>,
    /// Mandatory publishes carry their number in a header, so that returns can be told apart.
    pub(super) numbers_publishes: bool,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Opening,
    Open,
    /// We sent `channel.close`.
    Closing {
        reason: ChannelCloseReason,
        /// [`Instant::MAX`] until somebody looks.
        deadline: Instant,
    },
    /// It was told as closed, and its number is not free yet.
    Abandoned {
        /// We said `channel.close`, and the answer is awaited.
        is_close_said: bool,
        /// The peer said so too, and has its answer.
        is_close_answered: bool,
    },
}

/// What came of a frame.
pub(crate) enum Step {
    /// It is not all there, or what belongs to it is not.
    Starved,
    /// It was taken, and there is nothing to tell but what may be in the queue of events.
    Consumed,
    Event(Event),
    /// The channel is gone; its number is free.
    ChannelGone,
}

impl ChannelState {
    pub(crate) fn new(id: ChannelId) -> Self {
        Self {
            id,
            phase: Phase::Opening,
            requests: Requests::new(id),
            consumers: Consumers::default(),
            partial: None,
            confirm: None,
            confirm_limits: ConfirmLimits::default(),
            is_confirm_pending: false,
            last_delivery: 0,
            coalescer: None,
            prefetch: Prefetch::default(),
            unsettled: Unsettled::default(),
            is_flow_stopped: false,
            is_committing: false,
            unwanted_deliveries: Vec::new(),
            numbers_publishes: false,
        }
    }

    /// Whether commands are taken.
    #[inline]
    pub(crate) const fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open)
    }

    /// How many deliveries were told and are not settled, as far as the peer was told.
    pub(crate) fn unsettled(&self) -> usize {
        let held = self.coalescer.as_ref().map_or(0, |coalescer| coalescer.len());
        self.unsettled.len() + held
    }

    /// How many publishes wait for their confirm.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.confirm.as_ref().map_or(0, |window| window.outstanding())
    }

    /// Whether it was told as closed, and only its number is not free.
    #[inline]
    pub(crate) const fn is_abandoned(&self) -> bool {
        matches!(self.phase, Phase::Abandoned { .. })
    }

    /// Takes the frame that `input` begins with; `size` octets of it are this frame.
    pub(crate) fn on_frame(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        frame_type: FrameType,
        size: usize,
        limits: &FrameLimits,
    ) -> Result<Step, ProtocolError> {
        if matches!(self.phase, Phase::Abandoned { .. }) {
            return self.on_frame_abandoned(link, input, frame_type, size);
        }
        match frame_type {
            FrameType::Method => self.on_method(link, input, size, limits),
            FrameType::Header => self.on_header(link, input, size),
            FrameType::Body | FrameType::Heartbeat => self.on_body(link, input, size),
        }
    }

    fn on_method(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
        limits: &FrameLimits,
    ) -> Result<Step, ProtocolError> {
        let (id, _) = Method::split_id(payload(input, size))?;
        if self.partial.is_some() && id != ChannelClose::SPEC.id {
            return Err(unexpected(Problem::ContentInterrupted));
        }
        match (id.class, id.method) {
            (60, 50 | 60 | 71) => self.on_content_method(link, input, size, limits),
            (60, 80 | 120) => self.on_confirm(link, input, size),
            _ => self.on_other_method(link, input, size),
        }
    }

    fn on_confirm(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let (tag, multiple, nack) = match Method::decode(payload(input, size))? {
            Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, false),
            Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, true),
            other => return Err(unexpected(Problem::UnexpectedMethod(other.spec().id))),
        };
        input.consume(size);
        let id = self.id;
        let window = self
            .confirm
            .as_mut()
            .ok_or_else(|| unexpected(Problem::UnknownConfirm(tag)))?;
        let Link { events, counters, .. } = link;
        let confirmed = window.confirm(tag, multiple, nack, |first, last, settled| {
            let tags = ConfirmTags::new(id, first, last);
            counters.note_settled(tags.count(), settled);
            let outcome = settled.into();
            events.push_back(Event::Confirmed { tags, outcome });
        });
        confirmed.map_err(unexpected)?;
        Ok(Step::Consumed)
    }

    /// The common case: an ack that settles publishes in a row, alike. `None` if it is anything else, and then nothing has
    /// happened.
    #[inline(always)]
    pub(crate) fn on_plain_ack(&mut self, link: &mut Link, ack: &BasicAck) -> Option<ConfirmTags> {
        if !matches!(self.phase, Phase::Open) || self.partial.is_some() {
            return None;
        }
        let window = self.confirm.as_mut()?;
        let (first, last) = window.plain_ack(ack.delivery_tag, ack.multiple)?;
        let tags = ConfirmTags::new(self.id, first, last);
        link.counters.acked += tags.count();
        link.counters.frames_received += 1;
        Some(tags)
    }

    /// Everything that does not come with each message.
    fn on_other_method(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let number = self.id.number();
        let method = Method::decode(payload(input, size))?;
        let step = match method {
            Method::ChannelClose(close) => self.on_close(link, &close),
            Method::ChannelCloseOk(_) => self.on_close_ok(link)?,
            // Behind `channel.close` the peer takes nothing but `channel.close-ok`.
            Method::ChannelFlow(_) if !self.is_usable() => Step::Consumed,
            Method::ChannelFlow(ChannelFlow { active }) => {
                self.is_flow_stopped = !active;
                link.answer(number, &ChannelFlowOk { active });
                Step::Event(Event::Flow {
                    channel: self.id,
                    active,
                })
            }
            Method::BasicCancel(cancel) => self.on_cancel(link, &cancel),
            Method::BasicGetEmpty(_) => {
                let (request, waiting) = self.requests.answer(BasicGetEmpty::SPEC.id, |_| true)?;
                link.tell_answer(&waiting, || Event::GetEmpty {
                    request: RequestId::new(request.channel(), request.sequence()),
                })
            }
            // Any other method of the server's answers a request, or should not be here.
            _ => {
                let id = method.spec().id;
                if method.spec().sender == Sender::Client {
                    return Err(unexpected(Problem::UnexpectedMethod(id)));
                }
                let consumers = &self.consumers;
                let (request, waiting) = self.requests.answer(id, |purpose| match method {
                    Method::BasicConsumeOk(ok) => consumers.is_about(ok.consumer_tag.as_bytes(), purpose),
                    Method::BasicCancelOk(ok) => consumers.is_about(ok.consumer_tag.as_bytes(), purpose),
                    _ => true,
                })?;
                return Ok(self.on_answer(link, input, size, request, &waiting));
            }
        };
        input.consume(size);
        Ok(step)
    }

    /// An answer that was due.
    fn on_answer(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
        request: RequestId,
        waiting: &Waiting,
    ) -> Step {
        if waiting.method.id == ConfirmSelect::SPEC.id {
            self.is_confirm_pending = false;
        }
        if waiting.method.id == TxCommit::SPEC.id {
            self.on_committed(link);
        }
        if waiting.method.id == BasicRecover::SPEC.id {
            self.note_recovered(link);
        }
        match waiting.purpose {
            Purpose::Open => {
                input.consume(size);
                if matches!(self.phase, Phase::Opening) {
                    self.phase = Phase::Open;
                }
                return Step::Event(Event::ChannelOpened { channel: self.id });
            }
            Purpose::Consume { number } => {
                self.cancel_unwanted(link, number);
                self.forget_ended(number);
            }
            Purpose::Cancel { number } => {
                // It may have to wait for the answer to its `basic.consume`, and is over all the same.
                if let Some((_, consumer)) = self.consumers.by_number(number) {
                    consumer.is_unwanted = true;
                }
                self.forget_ended(number);
            }
            Purpose::Get { .. } | Purpose::Plain => {}
        }
        if waiting.is_abandoned {
            input.consume(size);
            link.counters.discarded_replies += 1;
            return Step::Consumed;
        }
        input.consume(HEADER_SIZE);
        let payload = input.take(size.saturating_sub(HEADER_SIZE));
        Step::Event(Event::Reply(Reply::from_frame(request, payload)))
    }

    /// Says what had to wait for the answer to `tx.commit`.
    fn on_committed(&mut self, link: &mut Link) {
        self.is_committing = false;
        let unwanted = mem::take(&mut self.unwanted_deliveries);
        if !self.is_usable() {
            return;
        }
        for tag in unwanted {
            self.say_unwanted(link, tag);
        }
        self.cancel_all_unwanted(link);
    }

    /// Ends all consumers. What still comes to them goes back, but for what the broker has forgotten when it was sent: that is told.
    pub(crate) fn cancel_consumers(&mut self, link: &mut Link) {
        self.flush_acks(link);
        for (_, consumer) in self.consumers.active() {
            consumer.is_unwanted |= !consumer.no_ack && !consumer.takes_replies;
        }
        self.cancel_all_unwanted(link);
    }

    fn cancel_all_unwanted(&mut self, link: &mut Link) {
        let requests = &self.requests;
        let active = self.consumers.active().map(|(_, consumer)| consumer.number);
        let started: Vec<u32> = active.filter(|number| !requests.is_about(*number)).collect();
        for number in started {
            self.cancel_unwanted(link, number);
        }
    }

    /// Cancels a consumer that is there, if nobody wants it any more.
    fn cancel_unwanted(&mut self, link: &mut Link, number: u32) {
        if !self.is_usable() || self.is_committing {
            return;
        }
        if let Some((tag, consumer)) = self.consumers.by_number(number)
            && !consumer.is_cancelling
            && (consumer.is_unwanted || link.takes_no_consumers && !consumer.takes_replies)
        {
            consumer.is_cancelling = true;
            let consumer_tag = ShortStr::delimited(tag);
            let cancel = BasicCancel {
                consumer_tag,
                no_wait: false,
            };
            link.answer(self.id.number(), &cancel);
            let request: RequestId = self.requests.push(BasicCancel::SPEC, Purpose::Cancel { number });
            self.requests.abandon(request);
        }
    }

    /// The server ended a consumer.
    fn on_cancel(&mut self, link: &mut Link, cancel: &BasicCancel<'_>) -> Step {
        let consumer_tag = cancel.consumer_tag;
        let (channel, is_usable) = (self.id.number(), self.is_usable());
        if !cancel.no_wait && is_usable {
            link.answer(channel, &BasicCancelOk { consumer_tag });
        }
        let Some(consumer) = self.consumers.by_tag(consumer_tag.as_bytes()) else {
            return Step::Consumed;
        };
        let (number, was_unwanted) = (consumer.number, consumer.is_unwanted);
        let was_cancelling = mem::replace(&mut consumer.is_cancelling, true);
        consumer.is_unwanted = true;
        if is_usable && !was_cancelling && !self.requests.is_about(number) {
            if self.is_committing {
                consumer.is_cancelling = false; // It is cancelled afterwards.
            } else {
                // One that RabbitMQ 4.3 has ended since a delivery was not settled in time still has its tag, and goes on after a late
                // acknowledgement. For one that is gone this means nothing.
                let no_wait = true;
                link.answer(
                    channel,
                    &BasicCancel {
                        consumer_tag,
                        no_wait,
                    },
                );
            }
        }
        let position = self.consumers.position(number, &self.unsettled);
        self.forget_ended(number);
        if was_unwanted {
            return Step::Consumed;
        }
        let consumer = ConsumerId::new(self.id, number);
        let cancelled = Event::ConsumerCancelled { consumer };
        match position {
            None => Step::Event(cancelled),
            Some(next) => {
                link.events.push_back(cancelled);
                Step::Event(Event::StreamPosition { consumer, next })
            }
        }
    }

    /// Forgets a consumer that was ended, unless something was asked about it that is not answered.
    fn forget_ended(&mut self, number: u32) {
        let is_ended = |(_, consumer): (&[u8], &mut Consumer)| consumer.is_cancelling;
        if self.consumers.by_number(number).is_some_and(is_ended) && !self.requests.is_about(number) {
            self.consumers.remove_number(number);
        }
    }

    fn on_close(&mut self, link: &mut Link, close: &ChannelClose<'_>) -> Step {
        if let Phase::Closing {
            reason: ChannelCloseReason::Peer(_),
            ..
        } = self.phase
        {
            // RabbitMQ repeats it until it has our answer, and takes no second one.
            return Step::Consumed;
        }
        link.answer(self.id.number(), &ChannelCloseOk {});
        let text = close.reply_text.as_bytes();
        let reason = PeerClose::read(close.reply_code, text, close.class_id, close.method_id);
        let reason = ChannelCloseReason::Peer(reason);
        // Both closed at once: the peer still answers ours, and only then is the number free.
        if let Phase::Closing { reason: ours, .. } = &mut self.phase {
            *ours = reason.clone();
            self.drop_partial(link);
            return Step::Consumed;
        }
        self.end(link, reason);
        Step::ChannelGone
    }

    fn on_close_ok(&mut self, link: &mut Link) -> Result<Step, ProtocolError> {
        let Phase::Closing { reason, .. } = &self.phase else {
            self.requests.answer(ChannelCloseOk::SPEC.id, |_| true)?;
            return Ok(Step::Consumed);
        };
        let reason = reason.clone();
        self.end(link, reason);
        Ok(Step::ChannelGone)
    }

    /// Nobody is told anything any more: this waits for the number to be free.
    fn on_frame_abandoned(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        frame_type: FrameType,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let Phase::Abandoned {
            is_close_said,
            is_close_answered,
        } = &mut self.phase
        else {
            return Ok(Step::Consumed);
        };
        let number = self.id.number();
        let method = match frame_type {
            FrameType::Method => Some(Method::decode(payload(input, size))?),
            _ => None,
        };
        let step = match method {
            Some(Method::ChannelOpenOk(_)) if !*is_close_said => {
                *is_close_said = true;
                link.answer(
                    number,
                    &close_method(ReplyCode::REPLY_SUCCESS, ShortStr::default()),
                );
                Step::Consumed
            }
            Some(Method::ChannelClose(_)) if !*is_close_answered => {
                *is_close_answered = true;
                link.answer(number, &ChannelCloseOk {});
                // The peer still answers ours, if there is one.
                if *is_close_said {
                    Step::Consumed
                } else {
                    Step::ChannelGone
                }
            }
            Some(Method::ChannelCloseOk(_)) => Step::ChannelGone,
            _ => Step::Consumed,
        };
        input.consume(size);
        Ok(step)
    }

    /// Nobody waits for that answer any more.
    pub(crate) fn abandon(&mut self, request: RequestId) {
        if let Some(Purpose::Consume { number }) = self.requests.abandon(request)
            && let Some((_, consumer)) = self.consumers.by_number(number)
        {
            consumer.is_unwanted = true;
        }
    }

    /// Sends `channel.close`.
    pub(crate) fn close(
        &mut self,
        link: &mut Link,
        code: ReplyCode,
        text: ShortStr<'_>,
        reason: ChannelCloseReason,
    ) {
        self.flush_acks(link);
        for (tag, consumer) in self.consumers.active() {
            // RabbitMQ 3 ends the connection if it is cancelled before it has started.
            if self.requests.is_about(consumer.number) {
                continue;
            }
            consumer.is_cancelling = true;
            let cancel = BasicCancel {
                consumer_tag: ShortStr::delimited(tag),
                no_wait: false,
            };
            link.answer(self.id.number(), &cancel);
            let purpose = Purpose::Cancel {
                number: consumer.number,
            };
            let request: RequestId = self.requests.push(BasicCancel::SPEC, purpose);
            self.requests.abandon(request);
        }
        link.answer(self.id.number(), &close_method(code, text));
        link.note_unsent(self.id.number());
        self.phase = Phase::Closing {
            reason,
            deadline: Instant::MAX,
        };
    }

    /// Resolves everything that waits for this channel, and says that it ended.
    pub(crate) fn end(&mut self, link: &mut Link, reason: ChannelCloseReason) {
        self.drop_partial(link);
        let (id, unsettled) = (self.id, self.unsettled());
        let Link { events, counters, .. } = link;
        counters.abandoned += unsettled as u64;
        self.requests.fail(|request, purpose| {
            if purpose != Purpose::Open {
                let cause = RequestError::ChannelClosed(reason.clone());
                events.push_back(Event::RequestFailed { request, cause });
            }
        });
        if let Some(mut window) = self.confirm.take() {
            window.lose(|first, last| {
                let tags = ConfirmTags::new(id, first, last);
                counters.lost += tags.count();
                let outcome = ConfirmOutcome::Lost(reason.clone());
                events.push_back(Event::Confirmed { tags, outcome });
            });
        }
        for (number, next) in self.consumers.positions(&self.unsettled) {
            let consumer = ConsumerId::new(id, number);
            events.push_back(Event::StreamPosition { consumer, next });
        }
        events.push_back(Event::ChannelClosed { channel: id, reason });
    }

    /// Why the channel ends: what made us close it, if that says more than `otherwise`.
    pub(crate) fn why_closing(&self, otherwise: ChannelCloseReason) -> ChannelCloseReason {
        match &self.phase {
            Phase::Closing { reason, .. } if *reason != ChannelCloseReason::Requested => reason.clone(),
            _ => otherwise,
        }
    }

    /// Abandons what got no answer in time; gives the next deadline.
    pub(crate) fn expire(&mut self, link: &mut Link, now: Instant) -> Instant {
        let mut failed_to = None;
        if let Phase::Closing { deadline, .. } = self.phase
            && deadline <= now
        {
            failed_to = Some(ChannelClose::SPEC.id);
        }
        let consumers = &mut self.consumers;
        self.requests.expire(now, |request, purpose| {
            link.counters.timed_out += 1;
            if let Purpose::Consume { number } = purpose
                && let Some((_, consumer)) = consumers.by_number(number)
            {
                consumer.is_unwanted = true;
            }
            if purpose == Purpose::Open {
                failed_to.get_or_insert(ChannelOpen::SPEC.id);
                return;
            }
            let cause = RequestError::Timeout;
            link.events.push_back(Event::RequestFailed { request, cause });
        });
        if let Some(method) = failed_to {
            self.abandon_channel(link, method);
        }
        self.deadline()
    }

    /// It is told as closed, since that method was not answered; its number is not free before it is.
    pub(crate) fn abandon_channel(&mut self, link: &mut Link, method: MethodId) {
        let reason = self.why_closing(ChannelCloseReason::Timeout(method));
        self.end(link, reason);
        self.phase = match &self.phase {
            Phase::Closing { reason, .. } => Phase::Abandoned {
                is_close_said: true,
                is_close_answered: matches!(reason, ChannelCloseReason::Peer(_)),
            },
            _ => Phase::Abandoned {
                is_close_said: false,
                is_close_answered: false,
            },
        };
    }

    /// When something here is due.
    fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Closing { deadline, .. } => deadline.min(self.requests.deadline()),
            _ => self.requests.deadline(),
        }
    }

    /// What was written is handed over, or at least somebody looked: the clock starts. Gives the next deadline.
    pub(crate) fn start_timeout(
        &mut self,
        now: Instant,
        config: &crate::Config,
        is_handed_over: bool,
    ) -> Instant {
        self.requests
            .start_timeout(now + config.request_timeout, is_handed_over);
        if let Phase::Closing { deadline, .. } = &mut self.phase
            && (is_handed_over || *deadline == Instant::MAX)
        {
            *deadline = now + config.close_timeout;
        }
        self.deadline()
    }
}

impl Link {
    /// The event of an answer, unless nobody waits for it any more.
    fn tell_answer(&mut self, waiting: &Waiting, event: impl FnOnce() -> Event) -> Step {
        if waiting.is_abandoned {
            self.counters.discarded_replies += 1;
            return Step::Consumed;
        }
        Step::Event(event())
    }
}

fn close_method<'a>(reply_code: ReplyCode, reply_text: ShortStr<'a>) -> ChannelClose<'a> {
    ChannelClose {
        reply_code,
        reply_text,
        class_id: 0,
        method_id: 0,
    }
}

/// The payload of the frame that `input` begins with.
#[inline]
pub(crate) fn payload(input: &RecvBuf, size: usize) -> &[u8] {
    let end = size.saturating_sub(1);
    input.unread().get(HEADER_SIZE..end).unwrap_or_default()
}

#[cold]
pub(super) fn unexpected(problem: Problem) -> ProtocolError {
    ProtocolError::new(problem, "frame", 0)
}
