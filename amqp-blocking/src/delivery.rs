//! A message that came, to be settled once.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use amqp_async::{DeliverySource, Error};
use amqp_proto::{DeliveryTag, Message};

use crate::wait::wait_for;

/// A message that came to a consumer, or that was asked for. It dereferences to what was [received](Message).
///
/// It is settled once: by [`ack`](Self::ack), [`nack`](Self::nack) or [`reject`](Self::reject), or on its channel, which takes it or its
/// [tag](Self::into_tag). Dropped without that it goes back to its queue, unless it needs no acknowledgement.
///
/// ```compile_fail
/// fn twice(delivery: amqp_blocking::Delivery) {
///     delivery.ack().unwrap();
///     delivery.ack().unwrap();
/// }
/// ```
#[must_use = "dropped, it goes back to its queue"]
pub struct Delivery {
    delivery: amqp_async::Delivery,
    timeout: Duration,
}

impl Delivery {
    pub(crate) const fn new(delivery: amqp_async::Delivery, timeout: Duration) -> Self {
        Self { delivery, timeout }
    }

    /// What was received.
    #[must_use]
    pub const fn message(&self) -> &Message {
        self.delivery.message()
    }

    /// The body; copied only if it came in pieces.
    #[must_use]
    pub fn body(&self) -> Cow<'_, [u8]> {
        self.delivery.body()
    }

    /// What it is to be settled with on the channel itself, once this is [out of the way](Self::into_tag).
    #[must_use]
    pub const fn tag(&self) -> DeliveryTag {
        self.delivery.tag()
    }

    /// It may have been delivered before.
    #[must_use]
    pub const fn is_redelivered(&self) -> bool {
        self.delivery.is_redelivered()
    }

    /// Whether it cannot be settled any more, since the connection was lost or the channel was closed after it came. If it was not
    /// settled and wants that, it comes again.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.delivery.is_stale()
    }

    /// How it came: to which consumer, or because it was asked for.
    #[must_use]
    pub fn source(&self) -> DeliverySource<'_> {
        self.delivery.source()
    }

    /// It is no longer this one's to settle, and waits for [`basic_ack`](crate::BlockingChannel::basic_ack) and its like.
    #[must_use]
    pub fn into_tag(self) -> DeliveryTag {
        self.delivery.into_message().0
    }

    /// It was dealt with: the broker forgets it.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`]: it will be delivered again. Nothing is waited for but room.
    pub fn ack(self) -> Result<(), Error> {
        settled(self.timeout, self.delivery.ack())
    }

    /// This one and all before it on the channel were dealt with.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn ack_multiple(self) -> Result<(), Error> {
        settled(self.timeout, self.delivery.ack_multiple())
    }

    /// It was not dealt with: it goes back to its queue, or is dropped or dead-lettered.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn nack(self, requeue: bool) -> Result<(), Error> {
        settled(self.timeout, self.delivery.nack(requeue))
    }

    /// The same, by the method that brokers other than RabbitMQ know too.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub fn reject(self, requeue: bool) -> Result<(), Error> {
        settled(self.timeout, self.delivery.reject(requeue))
    }
}

/// A message that was asked for ([`BlockingChannel::basic_get`](crate::BlockingChannel::basic_get)).
#[derive(Debug)]
#[must_use = "dropped, it goes back to its queue"]
#[non_exhaustive]
pub struct GetMessage {
    /// The message, to be settled.
    pub delivery: Delivery,
    /// How many messages were left in the queue.
    pub message_count: u32,
}

impl GetMessage {
    pub(crate) fn new(delivery: amqp_async::Delivery, timeout: Duration) -> Self {
        let message_count = match delivery.source() {
            DeliverySource::Get { message_count } => message_count,
            _ => 0,
        };
        Self {
            delivery: Delivery::new(delivery, timeout),
            message_count,
        }
    }
}

fn settled(timeout: Duration, settling: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    wait_for(timeout, settling).unwrap_or(Err(Error::Timeout))
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.delivery.fmt(f)
    }
}

impl Deref for Delivery {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.delivery.message()
    }
}

impl From<Delivery> for DeliveryTag {
    fn from(delivery: Delivery) -> Self {
        delivery.into_tag()
    }
}
