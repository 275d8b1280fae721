//! Publishing, and what becomes of it.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use amqp_async::{Error, Exchange, Message, PublishError};

use crate::channel::BlockingChannel;
use crate::wait::{ask, ask_until, wait_for};

/// What becomes of a publish. To drop it changes nothing but that nobody learns it.
#[derive(Debug)]
#[must_use = "it says whether the broker has the message"]
pub struct Confirm {
    confirm: amqp_async::Confirm,
    timeout: Duration,
}

impl Confirm {
    /// Waits until the broker has confirmed or refused it.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Lost`] with [`Error::Timeout`] if the broker did not say anything in time.
    pub fn wait(self) -> Result<(), PublishError> {
        let confirmed = wait_for(self.timeout, self.confirm);
        confirmed.unwrap_or(Err(PublishError::Lost(Error::Timeout)))
    }
}

/// Publishing.
impl BlockingChannel {
    /// Publishes a message, and waits until the broker has confirmed it, or has it written on a channel that does not confirm. A
    /// message that no queue gets comes back as an error (`mandatory`); [`basic_publish_optional`](Self::basic_publish_optional)
    /// does without.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing was sent if it is [`PublishError::NotSent`], with [`Error::Blocked`] if the broker takes none.
    pub fn basic_publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<(), PublishError> {
        let deadline = Instant::now().checked_add(self.timeout());
        let exchange = self.exchange(exchange);
        let sent = ask_until(deadline, exchange.publish_deferred(message, routing_key));
        let confirm = sent.unwrap_or_else(|| Err(self.not_sent()))?;
        let confirmed = ask_until(deadline, confirm);
        confirmed.unwrap_or(Err(PublishError::Lost(Error::Timeout)))
    }

    /// The same for a message that need not get to any queue.
    ///
    /// # Errors
    /// As [`basic_publish`](Self::basic_publish), without [`PublishError::Returned`].
    pub fn basic_publish_optional(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<(), PublishError> {
        let exchange = self.exchange(exchange);
        let published = ask(self.timeout(), exchange.publish_optional(message, routing_key));
        published.unwrap_or(Err(PublishError::Lost(Error::Timeout)))
    }

    /// Publishes a message as soon as there is room for it, and gives what to wait for its confirm with: many can be under way.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn basic_publish_deferred(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<Confirm, Error> {
        let exchange = self.exchange(exchange);
        let sent = wait_for(self.timeout(), exchange.publish_deferred(message, routing_key));
        Ok(Confirm {
            confirm: sent.unwrap_or_else(|| Err(self.not_sent()))?,
            timeout: self.timeout(),
        })
    }

    /// Publishes a message as soon as there is room for it; nobody learns what becomes of it.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn basic_publish_unconfirmed(
        &self,
        exchange: &str,
        routing_key: &str,
        message: impl Into<Message>,
    ) -> Result<(), Error> {
        let exchange = self.exchange(exchange);
        let sent = wait_for(self.timeout(), exchange.publish_unconfirmed(message, routing_key));
        sent.unwrap_or_else(|| Err(self.not_sent()))
    }

    fn exchange(&self, name: &str) -> Cow<'_, Exchange> {
        match name {
            "" => Cow::Borrowed(&self.inner.default_exchange),
            name => Cow::Owned(self.asynchronous().exchange(name)),
        }
    }

    /// Why there was no room in time.
    fn not_sent(&self) -> Error {
        match self.connection().blocked() {
            Some(reason) => Error::Blocked { reason },
            None => Error::Timeout,
        }
    }
}
