//! Why a connection or a channel ended, and why a command was refused.
//!
//! Four things, never one enum of strings: [`CloseReason`] and [`ChannelCloseReason`] say who ended what and why,
//! [`ProtocolError`] how the peer broke the protocol, and [`SendError`] what was wrong with a call.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::fmt;
use core::time::Duration;

use crate::wire::{EncodeError, MethodId, ProtocolError, ReplyCode};
use crate::{ConfigError, ConnectionState, InequivalentArgument, SaslError};

/// Why a connection ended. The cheapest of clones, since everything that was waiting gets one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Connection::close`](crate::Connection::close) was called.
    #[error("closed on request{}", if *acknowledged { "" } else { ", and the peer did not confirm that" })]
    Requested {
        /// Whether the peer answered with `connection.close-ok` in time.
        acknowledged: bool,
    },
    /// The peer sent `connection.close`.
    #[error("{0}")]
    Peer(PeerClose),
    /// The peer refused our credentials: a `connection.close` with 403 during the handshake, or the end of the stream where
    /// its answer to them belongs, which is how RabbitMQ refuses a client that does not announce
    /// `authentication_failure_close`.
    #[error("authentication refused{}", refusal(peer))]
    AuthRefused {
        /// The peer's words; `None` if it only hung up, in which case it may as well have been restarted.
        peer: Option<PeerClose>,
    },
    /// Our side of the authentication failed: no common mechanism, erased credentials, a challenge without an answer.
    #[error("authentication impossible: {0}")]
    Sasl(#[from] SaslError),
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The peer broke the protocol; it was told so if there was a way to.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// What we have to say does not fit the peer's limits during the handshake.
    #[error("handshake impossible: {0}")]
    Encode(#[from] EncodeError),
    /// The stream ended or failed.
    #[error("connection lost while {state}: {error}")]
    Transport {
        /// What the connection was doing.
        state: ConnectionState,
        /// What the transport said.
        error: TransportError,
    },
    /// Nothing arrived for two heartbeat intervals.
    #[error("nothing received for {silence:?}, the heartbeat interval is {interval:?}")]
    HeartbeatMissed {
        /// The negotiated interval.
        interval: Duration,
        /// How long nothing had arrived.
        silence: Duration,
    },
    /// The handshake was not done within [`Config::handshake_timeout`](crate::Config::handshake_timeout).
    #[error("handshake timed out while {state}")]
    HandshakeTimeout {
        /// What it was waiting for.
        state: ConnectionState,
    },
    /// The peer kept the connection blocked for longer than
    /// [`Config::blocked_connection_timeout`](crate::Config::blocked_connection_timeout).
    #[error("blocked for too long: {reason}")]
    BlockedTimeout {
        /// The peer's words, such as `low on memory`.
        reason: Arc<str>,
    },
}

/// What the peer said when it closed a connection or a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerClose {
    /// Why, as a number.
    pub code: ReplyCode,
    /// Why, in words; octets that are not UTF-8 are replaced.
    pub text: Arc<str>,
    /// The method that caused it, if one did.
    pub method: Option<MethodId>,
}

/// Why a channel ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelCloseReason {
    /// [`Channel::close`](crate::Channel::close) or [`Connection::close`](crate::Connection::close) was called, and the peer
    /// confirmed it.
    #[error("channel closed on request")]
    Requested,
    /// The peer sent `channel.close`.
    #[error("{0}")]
    Peer(PeerClose),
    /// A message came that is larger than [`Config::max_message_size`](crate::Config::max_message_size), or than what is left
    /// of [`Config::max_partial_content`](crate::Config::max_partial_content); the peer was told 311.
    #[error("message of {size} octets is over the limit of {limit}")]
    ContentTooLarge {
        /// The size that its header declares, in octets.
        size: u64,
        /// What is allowed, in octets.
        limit: u64,
    },
    /// The peer did not answer `channel.open` or `channel.close` in time; the number is not used again before it does.
    #[error("the peer did not answer {0} in time")]
    Timeout(MethodId),
    /// The connection ended, and the channel with it.
    #[error("{0}")]
    Connection(CloseReason),
}

/// Why a request will not be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No answer within [`Config::request_timeout`](crate::Config::request_timeout); one that still comes is discarded.
    #[error("no answer in time")]
    Timeout,
    /// The channel ended first. If the peer closed it, [`PeerClose::method`] tells whether this request was the cause.
    #[error("{0}")]
    ChannelClosed(ChannelCloseReason),
}

/// Why a command was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is not open yet.
    #[error("the connection is not open yet")]
    NotConnected,
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed,
    /// The channel is closing or closed, or the tag belongs to one that was.
    #[error("the channel is closed")]
    Stale,
    /// `tx.commit` was not answered yet. RabbitMQ takes nothing on this channel before it has: it would end the connection
    /// (504).
    #[error("the transaction on this channel is being committed")]
    Committing,
    /// Too much is waiting to be written. [`Event::Writable`](crate::Event::Writable) follows.
    #[error("{queued} octets are waiting to be written, the limit is {limit}")]
    Full {
        /// What is waiting, in octets.
        queued: usize,
        /// The mark that is passed.
        limit: usize,
    },
    /// Too many publishes, or octets of them, wait for their confirm. [`Event::Confirmed`](crate::Event::Confirmed) makes
    /// room.
    #[error("too many publishes wait for their confirm")]
    InFlight,
    /// The peer stopped the flow of content on this channel; [`Event::Flow`](crate::Event::Flow) follows.
    #[error("the peer stopped the flow on this channel")]
    FlowStopped,
    /// Too many requests of this channel wait for their answer: 65536.
    #[error("too many requests wait for their answer")]
    TooManyRequests,
    /// All channel numbers up to the negotiated maximum are in use.
    #[error("all {channel_max} channels are in use")]
    NoFreeChannel {
        /// The negotiated maximum.
        channel_max: u16,
    },
    /// The channel number is in use.
    #[error("channel {0} is in use")]
    ChannelInUse(u16),
    /// The channel number is 0 or above the negotiated maximum.
    #[error("channel {number} is not between 1 and {channel_max}")]
    ChannelNumber {
        /// The number that was asked for.
        number: u16,
        /// The negotiated maximum.
        channel_max: u16,
    },
    /// The consumer's tag is in use on this channel.
    #[error("the consumer tag is in use on this channel")]
    ConsumerTagInUse,
    /// The connection is about to be closed, and takes no new consumers
    /// ([`Connection::cancel_consumers`](crate::Connection::cancel_consumers)).
    #[error("the connection is shutting down and takes no new consumers")]
    ShuttingDown,
    /// No such consumer, or it was cancelled.
    #[error("no such consumer")]
    UnknownConsumer,
    /// A delivery tag that this channel has not seen.
    #[error("delivery tag {0} was never delivered")]
    UnknownDelivery(u64),
    /// Something was delivered on this channel already, so it is not known what is unsettled.
    #[error("something was delivered on this channel already")]
    Delivered,
    /// The delivery came from a stream, or one before it may have. A stream takes nothing back: what comes from it can only be
    /// acknowledged. RabbitMQ would end the connection (540).
    #[error("a stream takes nothing back: its deliveries can only be acknowledged")]
    StreamDelivery,
    /// It does not fit a frame of the negotiated size.
    #[error("{0}")]
    Encode(#[from] EncodeError),
    /// A text that must be short is longer than 255 octets.
    #[error("{0}")]
    TooLong(#[from] crate::wire::TooLong),
    /// The header table of the properties cannot be read, so the publish's number cannot be put into it.
    #[error("unreadable header table: {0}")]
    Headers(Arc<str>),
}

/// How the transport failed: what the operating system said, in words that can be kept, cloned and compared.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportError {
    text: Arc<str>,
}

impl CloseReason {
    /// Whether trying again with the same configuration must end the same way: refused credentials (with the peer's word for
    /// it), no common mechanism, a virtual host that is not there or not ours, another protocol.
    ///
    /// All else, a hang-up where the answer to our credentials belongs included, may be a broker that restarts.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::AuthRefused { peer } => peer.is_some(),
            Self::Sasl(_) | Self::Config(_) | Self::Encode(_) => true,
            Self::Peer(peer) => peer.is_virtual_host_refused(),
            Self::Protocol(error) => error.is_other_protocol(),
            _ => false,
        }
    }

    /// What the peer said, if it closed the connection.
    #[must_use]
    pub const fn peer(&self) -> Option<&PeerClose> {
        match self {
            Self::Peer(peer) | Self::AuthRefused { peer: Some(peer) } => Some(peer),
            _ => None,
        }
    }
}

impl PeerClose {
    /// What a peer could have said; for tests.
    #[must_use]
    pub fn new(code: ReplyCode, text: &str, method: Option<MethodId>) -> Self {
        Self {
            code,
            text: text.into(),
            method,
        }
    }

    /// Whether RabbitMQ closed the channel because a delivery was not settled in time (page "Consumers", section "Delivery
    /// Acknowledgement Timeout"). It is a 406 like others, caused by no method, so its words tell it.
    #[must_use]
    pub fn is_ack_timeout(&self) -> bool {
        self.code == ReplyCode::PRECONDITION_FAILED
            && self.method.is_none()
            && self.text.contains("ack")
            && self.text.contains("timed out")
    }

    /// Whether RabbitMQ refused it because the node that a queue lives on is not there, or the queue has just been stopped there: a
    /// durable classic queue until the node is back, a stream for some seconds. It is a 404 like others, so its words tell it.
    #[must_use]
    pub fn is_queue_down(&self) -> bool {
        self.code == ReplyCode::NOT_FOUND && self.text.starts_with("NOT_FOUND - home node '")
    }

    /// What differs from what is there, if a declaration was refused for that (406).
    #[must_use]
    pub fn inequivalent_argument(&self) -> Option<InequivalentArgument<'_>> {
        InequivalentArgument::read(self.code, &self.text)
    }

    pub(crate) fn read(code: ReplyCode, text: &[u8], class_id: u16, method_id: u16) -> Self {
        let method = MethodId {
            class: class_id,
            method: method_id,
        };
        Self {
            code,
            text: String::from_utf8_lossy(text).into(),
            method: (method != MethodId::default()).then_some(method),
        }
    }

    /// RabbitMQ refuses `connection.open` with 530 for several reasons; a limit on connections is one that passes. Of that too it
    /// says that access is `refused for user`, and then which limit is reached.
    fn is_virtual_host_refused(&self) -> bool {
        let open = MethodId {
            class: 10,
            method: 40,
        };
        self.code == ReplyCode::NOT_ALLOWED
            && self.method == Some(open)
            && (self.text.contains("not found") || self.text.contains("refused for user"))
            && !self.text.contains("connection limit")
    }
}

impl ChannelCloseReason {
    /// What the peer said, if it closed the channel or the connection.
    #[must_use]
    pub const fn peer(&self) -> Option<&PeerClose> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Connection(reason) => reason.peer(),
            _ => None,
        }
    }
}

impl TransportError {
    /// The end of the stream.
    #[must_use]
    pub fn end_of_stream() -> Self {
        Self::new("the peer closed the stream")
    }

    /// In the words of whoever noticed.
    #[must_use]
    pub fn new(text: impl fmt::Display) -> Self {
        Self {
            text: text.to_string().into(),
        }
    }

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(feature = "std")]
impl From<std::io::Error> for TransportError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl core::error::Error for TransportError {}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for PeerClose {
    /// Code, name and text, and the method that caused it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closed by the peer: {} {:?}", self.code, self.text)?;
        match self.method {
            Some(method) => write!(f, " (caused by {method})"),
            None => Ok(()),
        }
    }
}

fn refusal(peer: &Option<PeerClose>) -> String {
    match peer {
        Some(peer) => alloc::format!(": {peer}"),
        None => ", it seems: the peer hung up where its answer to the credentials belongs".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_s_words_are_found_wherever_they_are() {
        let peer = PeerClose::new(ReplyCode::CONNECTION_FORCED, "shutdown", None);
        let closed = CloseReason::Peer(peer.clone());
        assert_eq!(closed.peer(), Some(&peer));
        assert_eq!(ChannelCloseReason::Connection(closed).peer(), Some(&peer));
        assert_eq!(ChannelCloseReason::Peer(peer.clone()).peer(), Some(&peer));
        assert_eq!(ChannelCloseReason::Requested.peer(), None);
        let refused = CloseReason::AuthRefused { peer: Some(peer) };
        assert_eq!(
            refused.to_string(),
            "authentication refused: closed by the peer: 320 CONNECTION_FORCED \"shutdown\""
        );
        let hung_up = CloseReason::AuthRefused { peer: None }.to_string();
        assert!(hung_up.contains("hung up where its answer"), "{hung_up}");
    }

    #[test]
    fn a_transport_error_is_its_words() {
        assert_eq!(TransportError::new("reset").as_str(), "reset");
        assert_eq!(TransportError::new("reset").to_string(), "reset");
    }
}
