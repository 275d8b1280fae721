//! What a consumer that goes on is told of what came between.

use std::fmt;
use std::sync::Arc;

use amqp_proto::{ChannelId, DeliveryTag};

use crate::inbox::ConsumerEnd;

/// A consumer was interrupted, and goes on: its connection was made again ([`Recovery`](crate::Recovery)), its channel was opened again
/// ([`Reopen`](crate::Reopen)), or it was started again ([`ConsumeOptions::resubscribe`](crate::ConsumeOptions::resubscribe)).
///
/// What had come and was not settled comes again, unless its queue is gone: to settle the old delivery is an error that does nothing, if
/// [`is_stale`](Self::is_stale) says so. With `no_ack`, and with a queue that was deleted, messages may be missing here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interruption {
    /// What would have ended it. Of several interruptions without a delivery between them, the last one.
    pub cause: ConsumerEnd,
    /// The channel as it is now.
    channel: ChannelId,
}

/// What is to be called then.
#[derive(Clone)]
pub(crate) struct OnInterruption(pub(crate) Arc<dyn Fn(&Interruption) + Send + Sync>);

impl Interruption {
    pub(crate) const fn new(cause: ConsumerEnd, channel: ChannelId) -> Self {
        Self { cause, channel }
    }

    /// Whether a delivery of this consumer came before the interruption and cannot be settled any more: if it was not settled, it comes
    /// again.
    #[must_use]
    pub fn is_stale(&self, tag: DeliveryTag) -> bool {
        tag.channel() != self.channel
    }
}

impl fmt::Debug for OnInterruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnInterruption(..)")
    }
}
