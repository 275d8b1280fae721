//! What goes wrong, in the broker's own words where it was the broker.

use std::sync::Arc;

use amqp_proto::wire::TooLong;
use amqp_proto::{ChannelCloseReason, CloseReason, PeerClose, RequestError, Returned, SendError};

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection has ended.
    #[error("connection closed: {0}")]
    ConnectionClosed(CloseReason),
    /// The channel has ended. [`PeerClose::method`] says which method the broker refused, if it was one.
    #[error("channel closed: {0}")]
    ChannelClosed(ChannelCloseReason),
    /// It was refused before anything was written.
    #[error("{0}")]
    Refused(SendError),
    /// Quorum queues and streams are deleted without conditions. It was refused before anything was written: RabbitMQ would end the
    /// connection (540) over a quorum queue, and delete a stream whatever is asked for.
    #[error("quorum queues and streams are deleted without conditions")]
    DeleteCondition,
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The broker takes no publishes, for this reason of its own.
    #[error("the broker takes no publishes: {reason}")]
    Blocked {
        /// The broker's words, such as `low on memory`.
        reason: Arc<str>,
    },
    /// The message had come too often: its handler was not called, and it was put away
    /// ([`PoisonPolicy`](crate::PoisonPolicy)).
    #[error("the message came too often and was put away")]
    Poison,
    /// The message had come too often and could not be put away: it went back to its queue.
    #[error("the message came too often and could not be put away: {0}")]
    NotPutAway(Box<PublishError>),
}

/// Why a message is not known to be with the broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The broker could not take it over (`basic.nack`), or a queue is full and refuses publishes.
    #[error("the broker refused the message")]
    Nacked,
    /// It was mandatory and no queue got it. It came back, and is in here.
    #[error("no queue got the message: {} {}", .0.code, .0.text)]
    Returned(Box<Returned>),
    /// The channel or the connection ended before the broker said anything: it may or may not have arrived.
    #[error("not confirmed: {0}")]
    Lost(Error),
    /// It was not published at all.
    #[error(transparent)]
    NotSent(#[from] Error),
}

impl Error {
    /// What the broker said when it closed the channel or the connection, if that is what happened.
    #[must_use]
    pub const fn peer(&self) -> Option<&PeerClose> {
        match self {
            Self::ConnectionClosed(reason) | Self::ChannelClosed(ChannelCloseReason::Connection(reason)) => {
                match reason {
                    CloseReason::Peer(peer) | CloseReason::AuthRefused { peer: Some(peer) } => Some(peer),
                    _ => None,
                }
            }
            Self::ChannelClosed(ChannelCloseReason::Peer(peer)) => Some(peer),
            _ => None,
        }
    }
}

impl PublishError {
    /// What the broker said when it closed the channel or the connection, if that is what happened.
    #[must_use]
    pub const fn peer(&self) -> Option<&PeerClose> {
        match self {
            Self::Lost(error) | Self::NotSent(error) => error.peer(),
            _ => None,
        }
    }
}

impl From<ChannelCloseReason> for Error {
    fn from(reason: ChannelCloseReason) -> Self {
        match reason {
            ChannelCloseReason::Connection(reason) => Self::ConnectionClosed(reason),
            reason => Self::ChannelClosed(reason),
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::ChannelClosed(reason) => reason.into(),
            // Nothing else can be but a missing answer.
            _ => Self::Timeout,
        }
    }
}

impl From<TooLong> for Error {
    fn from(error: TooLong) -> Self {
        Self::Refused(error.into())
    }
}
