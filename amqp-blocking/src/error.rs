//! Why waiting for deliveries and callbacks ended.

use std::any::Any;

use amqp_async::{ConsumerEnd, HandlerError};
use amqp_proto::{ChannelCloseReason, CloseReason};

/// Why waiting for deliveries and callbacks ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// A handler said that it failed, with this. Its consumer goes on when deliveries are waited for again.
    #[error("a handler failed: {0}")]
    Handler(HandlerError),
    /// A handler or a callback panicked, with this message. The connection was closed in order before this was said.
    #[error("a callback panicked: {0}")]
    Panicked(String),
    /// Nothing is consumed any more: what ended the last consumer.
    #[error("nothing is consumed any more: {0}")]
    Consumer(ConsumerEnd),
    /// The connection has ended.
    #[error("connection closed: {0}")]
    Closed(CloseReason),
}

impl DispatchError {
    /// Whether it came as it was asked for: the consumer was cancelled, or its channel or connection closed, from here.
    #[must_use]
    pub const fn is_requested(&self) -> bool {
        match self {
            Self::Closed(reason) => matches!(reason, CloseReason::Requested { .. }),
            Self::Consumer(end) => is_requested(end),
            Self::Handler(_) | Self::Panicked(_) => false,
        }
    }
}

/// Whether a consumer's end came as it was asked for.
pub(crate) const fn is_requested(end: &ConsumerEnd) -> bool {
    match end {
        ConsumerEnd::Requested | ConsumerEnd::Channel(ChannelCloseReason::Requested) => true,
        ConsumerEnd::Channel(ChannelCloseReason::Connection(reason)) => {
            matches!(reason, CloseReason::Requested { .. })
        }
        _ => false,
    }
}

/// Why a callback was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The connection has ended, or all its handles are gone.
    #[error("the connection has ended")]
    Closed,
    /// 65 536 callbacks wait already: nobody runs them.
    #[error("too many callbacks wait")]
    Full,
}

/// What a panic says.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
