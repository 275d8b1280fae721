//! A message that came, to be settled once.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;

use amqp_proto::{DeliveryTag, Got, Message, SendError};

use crate::call::retry;
use crate::channel::{Channel, refusal};
use crate::channels::Unsaid;
use crate::error::{Error, PublishError};
use crate::observe::{self, InHand, Outcome};
use crate::poison::PoisonPolicy;
use crate::shared::State;
use crate::times::DeliveryMode;

/// A message that came to a consumer, or that was asked for. It dereferences to the [`Message`].
///
/// It is settled once: each of `ack`, `nack` and `reject` takes it away. Dropped without that it goes back to its queue, unless
/// it needs no acknowledgement; or it is dropped or dead-lettered, if its channel's options
/// [say so](crate::ChannelOptions::requeue_dropped). One from a [stream](crate::Consumer) is acknowledged then.
///
/// ```compile_fail,E0382
/// async fn twice(delivery: amqp_async::Delivery) {
///     delivery.ack().await.unwrap();
///     delivery.ack().await.unwrap();
/// }
/// ```
#[must_use = "dropped, it goes back to its queue"]
pub struct Delivery {
    origin: Arc<Origin>,
    tag: DeliveryTag,
    redelivered: bool,
    /// How many messages were left in the queue, if it was asked for.
    message_count: u32,
    message: Message,
    /// There is nothing to settle, or it was.
    is_settled: bool,
    in_hand: InHand,
}

/// Where deliveries come from: one for all of a consumer.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) channel: Channel,
    /// Its tag.
    pub(crate) consumer: Option<String>,
    pub(crate) no_ack: bool,
}

impl Origin {
    fn in_hand(&self) -> InHand {
        InHand::new(self.channel.shared().meters(), self.no_ack)
    }
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliverySource<'d> {
    /// To a consumer.
    Consume {
        /// The consumer's tag.
        tag: &'d str,
    },
    /// It was asked for: [`Queue::get`](crate::Queue::get).
    Get {
        /// How many messages were left in the queue.
        message_count: u32,
    },
}

/// What becomes of a delivery whose handler failed ([`Delivery::process`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProcessOptions {
    /// It goes back to its queue; otherwise, and that is the default, it is dropped or dead-lettered.
    pub requeue: bool,
    /// One that came a second time is dropped or dead-lettered all the same.
    pub reject_on_redelivered: bool,
    /// What is done with one that was delivered too often: the handler is not called for it any more ([`Error::Poison`]), and the
    /// last failure puts it away at once. Default: nothing.
    pub poison: Option<PoisonPolicy>,
}

impl ProcessOptions {
    /// Sets [`requeue`](Self#structfield.requeue).
    #[must_use]
    pub const fn requeue(mut self, requeue: bool) -> Self {
        self.requeue = requeue;
        self
    }

    /// Sets [`reject_on_redelivered`](Self#structfield.reject_on_redelivered).
    #[must_use]
    pub const fn reject_on_redelivered(mut self, reject: bool) -> Self {
        self.reject_on_redelivered = reject;
        self
    }

    /// Sets [`poison`](Self#structfield.poison).
    #[must_use]
    pub fn poison(mut self, policy: PoisonPolicy) -> Self {
        self.poison = Some(policy);
        self
    }
}

/// What a handler says of its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ack,
    Reject,
    /// It may come again: from its queue, or else by a dead-letter exchange.
    Retry {
        requeue: bool,
    },
}

impl Delivery {
    /// It came to a consumer.
    #[inline(always)]
    pub(crate) fn consumed(origin: Arc<Origin>, delivery: amqp_proto::Delivery) -> Self {
        Self {
            tag: delivery.tag,
            redelivered: delivery.redelivered,
            message_count: 0,
            message: delivery.message,
            is_settled: origin.no_ack,
            in_hand: origin.in_hand(),
            origin,
        }
    }

    /// It was asked for.
    pub(crate) fn got(origin: Arc<Origin>, got: Got) -> Self {
        Self {
            tag: got.tag,
            redelivered: got.redelivered,
            message_count: got.message_count,
            message: got.message,
            is_settled: origin.no_ack,
            in_hand: origin.in_hand(),
            origin,
        }
    }

    /// What was received.
    #[must_use]
    pub const fn message(&self) -> &Message {
        &self.message
    }

    /// The body; copied only if it came in pieces.
    #[must_use]
    pub fn body(&self) -> Cow<'_, [u8]> {
        self.message.body()
    }

    /// What it is to be settled with on the channel itself.
    #[must_use]
    pub const fn tag(&self) -> DeliveryTag {
        self.tag
    }

    /// It may have been delivered before.
    #[must_use]
    pub const fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// Whether it cannot be settled any more, since the life of the channel that it came on has ended: the connection was lost, or the
    /// channel was closed. If it was not settled before and wants that, it comes again; work on it can be given up.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let mut state = self.channel().shared().lock();
        let core = state.connection.channel(self.tag.channel());
        !core.is_ok_and(|core| core.is_open())
    }

    /// The channel that it came on.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.origin.channel
    }

    /// How it came.
    #[must_use]
    pub fn source(&self) -> DeliverySource<'_> {
        match &self.origin.consumer {
            Some(tag) => DeliverySource::Consume { tag },
            None => DeliverySource::Get {
                message_count: self.message_count,
            },
        }
    }

    /// Whether the broker keeps it on disk.
    #[must_use]
    pub fn delivery_mode(&self) -> DeliveryMode {
        DeliveryMode::of(&self.message.properties())
    }

    /// It was dealt with: the broker forgets it.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`]: it will be delivered again. Nothing is waited for but room.
    pub async fn ack(self) -> Result<(), Error> {
        self.settle(Outcome::Ack, |channel, tag| channel.ack(tag)).await
    }

    /// This one and all before it on the channel were dealt with.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn ack_multiple(self) -> Result<(), Error> {
        self.settle(Outcome::Ack, |channel, tag| channel.ack_multiple(tag))
            .await
    }

    /// It was not dealt with: it goes back to its queue, or is dropped or dead-lettered.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`SendError::StreamDelivery`] if it came from a [stream](crate::Consumer), which takes nothing back: it is
    /// acknowledged. As [`ack`](Self::ack).
    pub async fn nack(self, requeue: bool) -> Result<(), Error> {
        self.settle(Outcome::Nack, |channel, tag| channel.nack(tag, requeue))
            .await
    }

    /// This one and all before it on the channel were not dealt with.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`SendError::StreamDelivery`] if the channel has consumed from a [stream](crate::Consumer): this one goes
    /// back, or is acknowledged if it came from there. As [`ack`](Self::ack).
    pub async fn nack_multiple(self, requeue: bool) -> Result<(), Error> {
        self.settle(Outcome::Nack, |channel, tag| channel.nack_multiple(tag, requeue))
            .await
    }

    /// As [`nack`](Self::nack), by the method that brokers other than RabbitMQ know too.
    ///
    /// # Errors
    /// As [`nack`](Self::nack).
    pub async fn reject(self, requeue: bool) -> Result<(), Error> {
        self.settle(Outcome::Reject, |channel, tag| channel.reject(tag, requeue))
            .await
    }

    /// It is not wanted: it is dropped or dead-lettered, and stays where it is in a stream.
    pub(crate) async fn discard(self) -> Result<(), Error> {
        match self.tag.is_from_stream() {
            true => self.ack().await,
            false => self.reject(false).await,
        }
    }

    /// Runs a handler: acknowledges if it succeeds, rejects if it fails or panics, or if this is dropped while it runs. What came from a
    /// [stream](crate::Consumer) is acknowledged in any case.
    ///
    /// # Errors
    /// The handler's; one in settling only if the handler succeeded. [`Error::Poison`] and [`Error::NotPutAway`] if the handler was
    /// not called, as [`ProcessOptions::poison`] says.
    pub async fn process<F, Fut, T, E>(self, options: ProcessOptions, handler: F) -> Result<T, E>
    where
        F: FnOnce(Message) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        E: From<Error>,
    {
        let requeue = options.requeue;
        let verdict = |result: &Result<T, E>| match result {
            Ok(_) => Verdict::Ack,
            Err(_) => Verdict::Retry { requeue },
        };
        match self.settle_after(options, handler, verdict).await {
            Ok((Ok(value), settled)) => settled.map(|()| value).map_err(E::from),
            Ok((Err(error), _)) => Err(error),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs a handler, and settles as the verdict on its result says. Gives the result, and what came of settling.
    ///
    /// # Errors
    /// Why the handler was not called.
    pub(crate) async fn settle_after<F, Fut, R>(
        self,
        options: ProcessOptions,
        handler: F,
        verdict: impl FnOnce(&R) -> Verdict,
    ) -> Result<(R, Result<(), Error>), Error>
    where
        F: FnOnce(Message) -> Fut,
        Fut: Future<Output = R>,
    {
        let last = options.poison.as_ref().filter(|policy| policy.is_last(&self));
        let delivery = match &options.poison {
            None => self,
            Some(policy) => match policy.sift(self).await {
                Ok(Some(delivery)) => delivery,
                Ok(None) => return Err(Error::Poison),
                Err(error) => return Err(Error::NotPutAway(Box::new(error))),
            },
        };
        let stays_away = options.reject_on_redelivered && delivery.redelivered;
        let mut guard = Guard {
            // Parking takes time, which whoever drops this does not give: the next delivery will be parked.
            requeue: last.map_or(options.requeue, |policy| policy.parking.is_some()) && !stays_away,
            delivery: None,
        };
        let message = delivery.message.clone();
        guard.delivery = Some(delivery);
        let result = observe::processing(message, handler).await;
        let settled = match (verdict(&result), last) {
            (Verdict::Ack, _) => guard.succeed().await,
            (Verdict::Retry { .. }, Some(policy)) => guard.put_away(policy).await,
            (Verdict::Retry { requeue }, None) => guard.reject(requeue && !stays_away),
            (Verdict::Reject, _) => guard.reject(false),
        };
        Ok((result, settled))
    }

    /// It is no longer this one's to settle, and waits for [`Channel::basic_ack`] and its like.
    pub fn into_message(mut self) -> (DeliveryTag, Message) {
        self.is_settled = true;
        (self.tag, self.message.clone())
    }

    async fn settle(
        mut self,
        outcome: Outcome,
        settle: impl Fn(&mut amqp_proto::Channel<'_>, DeliveryTag) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        if self.is_settled {
            return Ok(());
        }
        let (tag, channel) = (self.tag, &self.origin.channel);
        let place = channel.place();
        let deadline = channel.deadline();
        let command = |state: &mut State| settle(&mut state.core_to_settle(place)?, tag);
        retry(channel.shared(), &deadline, command, refusal(place)).await?;
        drop(deadline);
        self.is_settled = true;
        self.in_hand.settled(outcome);
        Ok(())
    }

    /// Says that, now or as soon as there is room for it.
    fn give_up(&mut self, what: Unsaid) {
        if !std::mem::replace(&mut self.is_settled, true) {
            // A channel that ended has given it back already.
            let shared = self.channel().shared();
            shared.command(|state| state.say(self.tag.channel(), what));
            self.in_hand.settled(match what {
                Unsaid::Reject { .. } => Outcome::Reject,
                _ => Outcome::Nack,
            });
        }
    }
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// Everything but the channel and the body's content.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("tag", &self.tag)
            .field("redelivered", &self.redelivered)
            .field("source", &self.source())
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if !self.is_settled {
            self.forget();
        }
    }
}

impl Delivery {
    /// Dropped without being settled.
    #[cold]
    fn forget(&mut self) {
        let (tag, requeue) = (self.tag, self.channel().requeues_dropped());
        observe::forgotten(self);
        let shared = self.channel().shared();
        shared.command(|state| state.note_unsettled(tag.channel()));
        self.give_up(Unsaid::Nack { tag, requeue });
    }
}

/// A delivery that is rejected unless its handler succeeds.
struct Guard {
    requeue: bool,
    delivery: Option<Delivery>,
}

impl Guard {
    async fn succeed(mut self) -> Result<(), Error> {
        match self.delivery.take() {
            Some(delivery) => delivery.ack().await,
            None => Ok(()),
        }
    }

    async fn put_away(mut self, policy: &PoisonPolicy) -> Result<(), Error> {
        match self.delivery.take() {
            Some(delivery) => policy.put_away(delivery).await.map_err(|error| match error {
                PublishError::NotSent(error) => error,
                error => Error::NotPutAway(Box::new(error)),
            }),
            None => Ok(()),
        }
    }

    /// Waits for nothing.
    fn reject(mut self, requeue: bool) -> Result<(), Error> {
        self.requeue = requeue;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut delivery) = self.delivery.take() {
            let (tag, requeue) = (delivery.tag, self.requeue);
            delivery.give_up(Unsaid::Reject { tag, requeue });
        }
    }
}
