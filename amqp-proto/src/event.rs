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
    /// The server ended a consumer: its queue was deleted, or moved away (RabbitMQ page "Consumer Cancel Notification").
    ConsumerCancelled {
        /// The consumer.
        consumer: ConsumerId,
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
