//! What comes out of a connection.

use alloc::sync::Arc;

use bytes::Bytes;

use crate::channel::{ConfirmOutcome, Reply};
use crate::error::{ChannelCloseReason, CloseReason, RequestError};
use crate::id::{ChannelId, ConfirmTags, ConsumerId, DeliveryTag, RequestId};
use crate::message::{Delivery, Got, Returned};
use crate::wire::BasicGet;

/// What happened. [`Connection::poll_event`](crate::Connection::poll_event) gives one at a time.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is done: channels can be opened.
    Connected,
    /// The peer confirmed a channel. It could be used before.
    ChannelOpened {
        /// The channel.
        channel: ChannelId,
    },
    /// The answer to a request.
    Reply(Reply),
    /// A request will not be answered.
    RequestFailed {
        /// The request.
        request: RequestId,
        /// Why.
        cause: RequestError,
    },
    /// A message came to a consumer.
    Delivery(Delivery),
    /// A message comes in pieces to a consumer that asked for that
    /// ([`Channel::stream_bodies`](crate::Channel::stream_bodies)). Its body is empty so far.
    DeliveryStarted {
        /// The message without its body.
        delivery: Delivery,
        /// How many octets the body will have.
        body_size: u64,
    },
    /// The next piece of such a message.
    DeliveryChunk {
        /// The message.
        tag: DeliveryTag,
        /// The piece, never empty.
        chunk: Bytes,
    },
    /// Such a message is complete. If the channel ends before, so does the message, without this.
    DeliveryEnded {
        /// The message.
        tag: DeliveryTag,
    },
    /// A message answers a `basic.get`.
    Got(Got),
    /// The queue of a `basic.get` is empty.
    GetEmpty {
        /// The request.
        request: RequestId<BasicGet<'static>>,
    },
    /// A publish came back. In confirm mode its tag is resolved by a [`Confirmed`](Self::Confirmed) that follows.
    Returned(Returned),
    /// Publishes are resolved: each of them is in one such event, once.
    Confirmed {
        /// Which ones, in a row.
        tags: ConfirmTags,
        /// What became of them.
        outcome: ConfirmOutcome,
    },
    /// The server ended a consumer: its queue was deleted, or moved away (RabbitMQ page "Consumer Cancel Notification"), or, from
    /// RabbitMQ 4.3 on, a delivery was not settled in time. It is cancelled from here as well, so its tag is free.
    ConsumerCancelled {
        /// The consumer.
        consumer: ConsumerId,
    },
    /// How far a consumer of a stream has come, which is about to end together with its channel or by the server's will: told before
    /// [`ChannelClosed`](Self::ChannelClosed) and [`ConsumerCancelled`](Self::ConsumerCancelled), if anything was delivered to it. A
    /// consumer that starts with this as its `x-stream-offset` goes on without a gap.
    StreamPosition {
        /// The consumer.
        consumer: ConsumerId,
        /// The offset of the first delivery that was not settled, or the one behind the last delivery.
        next: u64,
    },
    /// The peer stopped or resumed the flow of content on a channel. It was answered. RabbitMQ no longer does that.
    Flow {
        /// The channel.
        channel: ChannelId,
        /// Whether content may flow.
        active: bool,
    },
    /// A channel ended: its requests and publishes were resolved before, and nothing comes of it any more.
    ChannelClosed {
        /// The channel.
        channel: ChannelId,
        /// Why.
        reason: ChannelCloseReason,
    },
    /// The server reads nothing more until it says otherwise (RabbitMQ page "Blocked Connection Notifications").
    Blocked {
        /// Its words, such as `low on memory`.
        reason: Arc<str>,
    },
    /// The server reads again.
    Unblocked,
    /// There is room again, after a [`SendError::Full`](crate::SendError::Full).
    Writable,
    /// More is waiting to be written than `limit`: pika's rule, the multiplier times the mean size of a frame.
    BackpressureOn {
        /// What is waiting, in octets.
        queued: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// Less than half of that limit is waiting.
    BackpressureOff {
        /// What is waiting, in octets.
        queued: usize,
    },
    /// The connection ended. The last event, after those of everything that it took with it.
    Closed(CloseReason),
}

impl Event {
    /// The channel it is about; `None` if it is about the connection.
    #[must_use]
    pub fn channel(&self) -> Option<ChannelId> {
        let channel = match self {
            Self::ChannelOpened { channel }
            | Self::Flow { channel, .. }
            | Self::ChannelClosed { channel, .. } => *channel,
            Self::Reply(reply) => reply.request().channel(),
            Self::RequestFailed { request, .. } => request.channel(),
            Self::GetEmpty { request } => request.channel(),
            Self::Got(got) => got.tag.channel(),
            Self::Delivery(delivery) | Self::DeliveryStarted { delivery, .. } => delivery.tag.channel(),
            Self::DeliveryChunk { tag, .. } | Self::DeliveryEnded { tag } => tag.channel(),
            Self::Returned(returned) => returned.channel,
            Self::Confirmed { tags, .. } => tags.channel(),
            Self::ConsumerCancelled { consumer } | Self::StreamPosition { consumer, .. } => {
                consumer.channel()
            }
            Self::Connected
            | Self::Blocked { .. }
            | Self::Unblocked
            | Self::Writable
            | Self::BackpressureOn { .. }
            | Self::BackpressureOff { .. }
            | Self::Closed(_) => return None,
        };
        Some(channel).filter(|channel| *channel != ChannelId::CONNECTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ConnectionUpdateSecretOk, QueuePurgeOk};

    #[test]
    fn an_event_knows_its_channel() {
        let channel = ChannelId::new(3, 7);
        let tag = DeliveryTag::new(channel, 1);
        let consumer = ConsumerId::new(channel, 0);
        let answer = QueuePurgeOk { message_count: 1 };
        let reply = Reply::new(RequestId::new(channel, 0), answer).unwrap();
        for event in [
            Event::ChannelOpened { channel },
            Event::Reply(reply),
            Event::DeliveryEnded { tag },
            Event::ConsumerCancelled { consumer },
            Event::StreamPosition { consumer, next: 9 },
            Event::Confirmed {
                tags: ConfirmTags::new(channel, 1, 2),
                outcome: ConfirmOutcome::Acked,
            },
        ] {
            assert_eq!(event.channel(), Some(channel), "{event:?}");
        }
        let renewed = Reply::new(
            RequestId::new(ChannelId::CONNECTION, 0),
            ConnectionUpdateSecretOk {},
        )
        .unwrap();
        assert_eq!(Event::Reply(renewed).channel(), None);
        assert_eq!(Event::Writable.channel(), None);
    }
}
