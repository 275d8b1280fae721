//! A channel: what can be asked of it ([`Channel`]), and its state.
// Octets from a stranger and calls of any kind reach this code. (Tests may fail, so they and the models in them are let off.)
#![cfg_attr(
    not(any(test, feature = "fuzzing")),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod coalesce;
pub(crate) mod confirm;
mod consumers;
mod content;
mod progress;
mod publish;
mod request;
mod small;
mod state;
mod unsettled;

pub use coalesce::AckCoalescing;
pub use confirm::{ConfirmLimits, ConfirmOutcome};
pub use request::{Answered, NoWait, Reply, Request};

pub(crate) use confirm::Settled;
pub(crate) use publish::with_header;
pub(crate) use request::{Purpose, Requests};
pub(crate) use small::{SmallDelivery, SmallFrame, small_below};
pub(crate) use state::{ChannelState, Phase, Step, payload};

use alloc::boxed::Box;
use core::fmt;

use crate::error::{ChannelCloseReason, SendError};
use crate::id::{ChannelId, ConfirmTag, ConsumerId, DeliveryTag, RequestId};
use crate::link::Link;
use crate::wire::*;
use confirm::ConfirmWindow;

/// What is consumed from to get answers without a queue.
const DIRECT_REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// A view of one channel, to command it: borrowed from its connection, not an object to keep.
///
/// Every command writes whole frames or nothing. They may be sent as soon as the channel was asked for: the peer takes them in
/// order. Answers come as [`Event`](crate::Event)s, in the order of the requests, but for those to `basic.consume` and
/// `basic.cancel`, which RabbitMQ may give later than what was asked behind.
pub struct Channel<'c> {
    state: &'c mut ChannelState,
    link: &'c mut Link,
}

impl<'c> Channel<'c> {
    #[inline]
    pub(crate) const fn new(state: &'c mut ChannelState, link: &'c mut Link) -> Self {
        Self { state, link }
    }

    /// Which channel it is.
    #[must_use]
    pub const fn id(&self) -> ChannelId {
        self.state.id
    }

    /// Whether the peer confirmed it, and it is not closing. Commands are taken before that too.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state.phase, Phase::Open)
    }

    /// Sends a request. [`Event::Reply`](crate::Event::Reply) or
    /// [`Event::RequestFailed`](crate::Event::RequestFailed) answers it; `no_wait` is not looked at.
    ///
    /// `confirm.select` takes effect at once: publishes behind it are numbered from 1. Behind `tx.commit` every command is
    /// refused until it is answered.
    ///
    /// # Errors
    /// [`SendError::Stale`], [`SendError::Full`], [`SendError::Committing`], [`SendError::TooManyRequests`]; a method that fits no
    /// frame.
    pub fn request<R: Request>(&mut self, method: &R) -> Result<RequestId<R::Method>, SendError> {
        self.check_request()?;
        self.state.flush_acks(self.link);
        self.link
            .method(self.state.id.number(), &method.with_no_wait(false))?;
        self.note_effect(method);
        self.note_confirm_select::<R>(true);
        self.state.is_committing |= R::SPEC.id == TxCommit::SPEC.id;
        Ok(self.push(R::SPEC, Purpose::Plain))
    }

    /// Sends a request whose answer nobody needs (`no_wait`). If the peer refuses it, it closes the channel.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn send_nowait<R: NoWait>(&mut self, method: &R) -> Result<(), SendError> {
        self.check_usable()?;
        self.link.check_high_water()?;
        self.state.flush_acks(self.link);
        self.link
            .method(self.state.id.number(), &method.with_no_wait(true))?;
        self.note_confirm_select::<R>(false);
        Ok(())
    }

    /// Starts a consumer. Its deliveries name the [`ConsumerId`]; they may come before the answer is looked at.
    ///
    /// The argument `x-stream-offset` makes it a stream's. A stream takes nothing back, and RabbitMQ ends the connection of who tries
    /// (540): what comes to this consumer and is not wanted is acknowledged, and [`nack`](Self::nack) and its like refuse it. A stream
    /// that is consumed without that argument is not known to be one.
    ///
    /// Without a tag it gets one, `ctag` and numbers that this connection and its successors use once only. `no_wait` is not looked at.
    ///
    /// # Errors
    /// [`SendError::ConsumerTagInUse`] on this channel, [`SendError::ShuttingDown`]; as [`request`](Self::request).
    pub fn consume(
        &mut self,
        method: &BasicConsume<'_>,
    ) -> Result<(ConsumerId, RequestId<BasicConsume<'static>>), SendError> {
        self.check_request()?;
        let number = self.start_consumer(method, false)?;
        let request = self.push(BasicConsume::SPEC, Purpose::Consume { number });
        Ok((ConsumerId::new(self.state.id, number), request))
    }

    /// As [`consume`](Self::consume), without an answer. If the peer refuses it, it closes the channel.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    pub fn consume_nowait(&mut self, method: &BasicConsume<'_>) -> Result<ConsumerId, SendError> {
        self.check_usable()?;
        self.link.check_high_water()?;
        let number = self.start_consumer(method, true)?;
        Ok(ConsumerId::new(self.state.id, number))
    }

    /// Ends a consumer. Deliveries may come until the answer does. One whose `basic.consume` was not answered yet is better given up
    /// with [`Connection::abandon`](crate::Connection::abandon): RabbitMQ 3 ends the connection (541) if `basic.cancel` comes first.
    ///
    /// # Errors
    /// [`SendError::UnknownConsumer`], also if it was given up so; as [`request`](Self::request).
    pub fn cancel(&mut self, consumer: ConsumerId) -> Result<RequestId<BasicCancel<'static>>, SendError> {
        self.check_request()?;
        self.state.flush_acks(self.link);
        let number = self.send_cancel(consumer)?;
        Ok(self.push(BasicCancel::SPEC, Purpose::Cancel { number }))
    }

    /// The consumer's tag, while there is such a consumer.
    #[must_use]
    pub fn consumer_tag(&mut self, consumer: ConsumerId) -> Option<ShortStr<'_>> {
        if consumer.channel() != self.state.id {
            return None;
        }
        let (tag, _) = self.state.consumers.by_number(consumer.number())?;
        Some(ShortStr::delimited(tag))
    }

    /// Whether what comes to that consumer is to be acknowledged; `None` if there is no such consumer.
    #[must_use]
    pub fn wants_acks(&mut self, consumer: ConsumerId) -> Option<bool> {
        if consumer.channel() != self.state.id {
            return None;
        }
        let (_, found) = self.state.consumers.by_number(consumer.number())?;
        Some(!found.no_ack)
    }

    /// Whether what comes to that consumer are answers to what is asked on this channel (RabbitMQ page "Direct Reply-to"); `None` if
    /// there is no such consumer.
    #[must_use]
    pub fn takes_replies(&mut self, consumer: ConsumerId) -> Option<bool> {
        if consumer.channel() != self.state.id {
            return None;
        }
        let (_, found) = self.state.consumers.by_number(consumer.number())?;
        Some(found.takes_replies)
    }

    /// Whether bodies for that consumer come in pieces, as they arrive, instead of whole. For messages that begin to arrive
    /// from now on; the limit on the size of messages does not apply to them.
    ///
    /// # Errors
    /// [`SendError::UnknownConsumer`].
    pub fn stream_bodies(&mut self, consumer: ConsumerId, stream: bool) -> Result<(), SendError> {
        let is_ours = consumer.channel() == self.state.id;
        match self.state.consumers.by_number(consumer.number()) {
            Some((_, found)) if is_ours => {
                found.is_streamed = stream;
                Ok(())
            }
            _ => Err(SendError::UnknownConsumer),
        }
    }

    /// Asks for one message. [`Event::Got`](crate::Event::Got) or [`Event::GetEmpty`](crate::Event::GetEmpty) answers it.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn get(&mut self, method: &BasicGet<'_>) -> Result<RequestId<BasicGet<'static>>, SendError> {
        self.check_request()?;
        self.state.flush_acks(self.link);
        self.link.method(self.state.id.number(), method)?;
        let no_ack = method.no_ack;
        Ok(self.push(BasicGet::SPEC, Purpose::Get { no_ack }))
    }

    /// Acknowledges one delivery, now or [together with others](Self::set_ack_coalescing).
    ///
    /// The broker closes the channel (406) if it is acknowledged twice; that is not looked at here.
    ///
    /// # Errors
    /// [`SendError::Stale`] if it came on another channel or before this one was reopened,
    /// [`SendError::UnknownDelivery`], [`SendError::Committing`], [`SendError::Full`] above the hard limit.
    #[inline]
    pub fn ack(&mut self, tag: DeliveryTag) -> Result<(), SendError> {
        let delivery_tag = self.check_settle(tag)?;
        if self.state.coalescer.is_some() {
            self.state.hold_ack(self.link, delivery_tag);
            return Ok(());
        }
        let ack = BasicAck {
            delivery_tag,
            multiple: false,
        };
        self.link.method(self.state.id.number(), &ack)?;
        self.state.unsettled.remove(delivery_tag);
        Ok(())
    }

    /// Acknowledges a delivery and all before it on this channel.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    #[inline]
    pub fn ack_multiple(&mut self, tag: DeliveryTag) -> Result<(), SendError> {
        self.settle(tag, true, |delivery_tag| BasicAck {
            delivery_tag,
            multiple: true,
        })
    }

    /// Refuses one delivery: back to its queue, or dropped or dead-lettered (RabbitMQ page "Negative Acknowledgements").
    ///
    /// # Errors
    /// [`SendError::StreamDelivery`]; as [`ack`](Self::ack).
    pub fn nack(&mut self, tag: DeliveryTag, requeue: bool) -> Result<(), SendError> {
        self.check_goes_back(tag, false)?;
        self.settle(tag, false, |delivery_tag| BasicNack {
            delivery_tag,
            multiple: false,
            requeue,
        })
    }

    /// Refuses a delivery and all before it on this channel.
    ///
    /// # Errors
    /// [`SendError::StreamDelivery`] always, once this channel has consumed from a stream; as [`ack`](Self::ack).
    pub fn nack_multiple(&mut self, tag: DeliveryTag, requeue: bool) -> Result<(), SendError> {
        self.check_goes_back(tag, true)?;
        self.settle(tag, true, |delivery_tag| BasicNack {
            delivery_tag,
            multiple: true,
            requeue,
        })
    }

    /// Refuses one delivery, by the method of the specification that brokers other than RabbitMQ know too.
    ///
    /// # Errors
    /// As [`nack`](Self::nack).
    pub fn reject(&mut self, tag: DeliveryTag, requeue: bool) -> Result<(), SendError> {
        self.check_goes_back(tag, false)?;
        self.settle(tag, false, |delivery_tag| BasicReject {
            delivery_tag,
            requeue,
        })
    }

    /// `basic.recover-async`: requeues what this channel has not acknowledged, without an answer. Deprecated by the
    /// specification; [`request`](Self::request) with `BasicRecover` is answered.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn recover_async(&mut self, method: &BasicRecoverAsync) -> Result<(), SendError> {
        self.check_usable()?;
        self.link.check_high_water()?;
        self.state.flush_acks(self.link);
        self.link.method(self.state.id.number(), method)?;
        self.state.forget_unsettled();
        Ok(())
    }

    /// Whether acknowledgements of single deliveries are joined, and how; `None`, as at first, says each at once, and those that wait
    /// now too. To be said before anything is delivered.
    ///
    /// # Errors
    /// [`SendError::Delivered`], and nothing changes. [`SendError::Stale`], [`SendError::Committing`].
    pub fn set_ack_coalescing(&mut self, options: Option<AckCoalescing>) -> Result<(), SendError> {
        self.check_usable()?;
        match self.state.set_ack_coalescing(self.link, options) {
            true => Ok(()),
            false => Err(SendError::Delivered),
        }
    }

    /// Says what was [acknowledged and waits](Self::set_ack_coalescing) for others.
    pub fn flush_acks(&mut self) {
        self.state.flush_acks(self.link);
    }

    /// How much may be published before it is confirmed; no limit at first. It has an effect in confirm mode.
    pub fn set_confirm_limits(&mut self, limits: ConfirmLimits) {
        self.state.confirm_limits = limits;
        if let Some(window) = &mut self.state.confirm {
            window.set_limits(limits);
        }
    }

    /// How many deliveries were told that want to be settled and are not. Those whose acknowledgement
    /// [waits](Self::set_ack_coalescing) are among them.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.state.unsettled()
    }

    /// How many publishes wait for their confirm.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        self.state.unconfirmed()
    }

    /// How many octets of bodies wait for their confirm.
    #[must_use]
    pub fn unconfirmed_octets(&self) -> usize {
        self.state.confirm.as_ref().map_or(0, |window| window.octets())
    }

    /// Whether that publish waits for its confirm.
    #[must_use]
    pub fn is_unconfirmed(&self, tag: ConfirmTag) -> bool {
        let window = self
            .state
            .confirm
            .as_ref()
            .filter(|_| tag.channel() == self.state.id);
        window.is_some_and(|window| window.is_outstanding(tag.value()))
    }

    /// The publish that has waited longest for its confirm.
    #[must_use]
    pub fn oldest_unconfirmed(&self) -> Option<ConfirmTag> {
        let tag = self.state.confirm.as_ref()?.oldest()?;
        Some(ConfirmTag::new(self.state.id, tag))
    }

    /// Whether the channel was put into confirm mode.
    #[must_use]
    pub const fn is_confirming(&self) -> bool {
        self.state.confirm.is_some()
    }

    /// Closes it: cancels its consumers, then says `channel.close`. What was asked before is still answered, but RabbitMQ may
    /// leave out the answers to `basic.consume` and `basic.cancel`.
    /// [`Event::ChannelClosed`](crate::Event::ChannelClosed) is its end. A text over 255 octets is cut.
    ///
    /// # Errors
    /// [`SendError::Stale`] if it is closing already.
    pub fn close(&mut self, code: ReplyCode, text: &str) -> Result<(), SendError> {
        if !self.state.is_usable() {
            return Err(SendError::Stale);
        }
        self.state
            .close(self.link, code, cut(text), ChannelCloseReason::Requested);
        Ok(())
    }

    #[inline]
    fn check_usable(&self) -> Result<(), SendError> {
        if !self.state.is_usable() {
            return Err(SendError::Stale);
        }
        if self.state.is_committing {
            return Err(SendError::Committing);
        }
        Ok(())
    }

    fn check_request(&mut self) -> Result<(), SendError> {
        self.check_usable()?;
        if self.state.requests.is_full() {
            return Err(SendError::TooManyRequests);
        }
        self.link.check_high_water()
    }

    /// A request was written.
    fn push<T>(&mut self, method: &'static MethodSpec, purpose: Purpose) -> RequestId<T> {
        self.link.note_unsent(self.state.id.number());
        self.state.requests.push(method, purpose)
    }

    fn start_consumer(&mut self, method: &BasicConsume<'_>, no_wait: bool) -> Result<u32, SendError> {
        let takes_replies = method.queue.as_bytes() == DIRECT_REPLY_TO;
        if self.link.takes_no_consumers && !takes_replies {
            return Err(SendError::ShuttingDown);
        }
        let given = method.consumer_tag.as_bytes();
        let tag: Box<[u8]> = match given {
            [] => self.state.consumers.next_tag(self.state.id.incarnation()),
            given => given.into(),
        };
        if self.state.consumers.contains(&tag) {
            return Err(SendError::ConsumerTagInUse);
        }
        let method = BasicConsume {
            consumer_tag: ShortStr::from_bytes(&tag)?,
            no_wait,
            ..*method
        };
        self.state.flush_acks(self.link);
        self.link.method(self.state.id.number(), &method)?;
        let is_stream_queue = matches!(method.arguments.get("x-stream-offset"), Ok(Some(_)));
        let no_ack = method.no_ack;
        if !no_ack {
            self.state.prefetch.note_consumer();
        }
        let consumers = &mut self.state.consumers;
        Ok(consumers.insert(tag, no_ack, is_stream_queue, takes_replies))
    }

    fn send_cancel(&mut self, consumer: ConsumerId) -> Result<u32, SendError> {
        let is_ours = consumer.channel() == self.state.id;
        match self.state.consumers.by_number(consumer.number()) {
            Some((tag, found)) if is_ours && !found.is_cancelling && !found.is_unwanted => {
                let consumer_tag = ShortStr::from_bytes(tag)?;
                let cancel = BasicCancel {
                    consumer_tag,
                    no_wait: false,
                };
                self.link.method(self.state.id.number(), &cancel)?;
                found.is_cancelling = true;
                Ok(found.number)
            }
            _ => Err(SendError::UnknownConsumer),
        }
    }

    /// A stream takes nothing back.
    fn check_goes_back(&self, tag: DeliveryTag, multiple: bool) -> Result<(), SendError> {
        let is_from_stream = tag.is_from_stream() || multiple && self.state.consumers.had_stream();
        if is_from_stream && tag.channel() == self.state.id {
            return Err(SendError::StreamDelivery);
        }
        Ok(())
    }

    /// Settles in a way that overtakes no acknowledgement.
    #[inline]
    fn settle<A: Arguments>(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        method: impl FnOnce(u64) -> A,
    ) -> Result<(), SendError> {
        let value = self.check_settle(tag)?;
        self.state.flush_acks(self.link);
        self.link.method(self.state.id.number(), &method(value))?;
        match multiple {
            false => _ = self.state.unsettled.remove(value),
            true => self.state.unsettled.remove_up_to(value),
        }
        Ok(())
    }

    /// The number of a delivery that can be settled now.
    #[inline]
    fn check_settle(&mut self, tag: DeliveryTag) -> Result<u64, SendError> {
        if tag.channel() != self.state.id {
            return Err(SendError::Stale);
        }
        self.check_usable()?;
        let value = tag.value();
        if value == 0 || value > self.state.last_delivery {
            return Err(SendError::UnknownDelivery(value));
        }
        self.link.check_limit()?;
        Ok(value)
    }

    /// A request was written that changes what is known of deliveries.
    fn note_effect<R: Request>(&mut self, method: &R) {
        self.state.prefetch.note(method);
        if R::SPEC.id == TxSelect::SPEC.id {
            self.state.end_coalescing(self.link);
        }
    }

    /// What is published behind `confirm.select` is numbered.
    fn note_confirm_select<R: Request>(&mut self, is_answered: bool) {
        if R::SPEC.id == ConfirmSelect::SPEC.id && self.state.confirm.is_none() {
            let key = self.state.id.incarnation();
            let window = ConfirmWindow::new(self.state.confirm_limits, key.into());
            self.state.confirm = Some(Box::new(window));
            self.state.is_confirm_pending = is_answered;
        }
    }
}

impl fmt::Debug for Channel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.state.id)
            .field("phase", &self.state.phase)
            .field("unconfirmed", &self.unconfirmed())
            .finish_non_exhaustive()
    }
}

/// At most 255 octets of a text, whole characters.
pub(crate) fn cut(text: &str) -> ShortStr<'_> {
    let end = (0..=text.len().min(255))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    ShortStr::delimited(text.get(..end.unwrap_or(0)).unwrap_or_default().as_bytes())
}
