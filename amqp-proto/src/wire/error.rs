//! What can be wrong with octets that the peer sent, and where.

use core::fmt;

use super::ReplyCode;
use super::method::MethodId;
use super::text::Printable;

/// The peer broke the protocol: what is wrong, in which part of which frame, and at which octet.
///
/// Every such error ends the connection: the receiver says [`reply_code`](Self::reply_code) in `connection.close`
/// (specification 4.10), unless the other end does not speak AMQP 0-9-1 at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (in {place}, octet {offset} of the frame)")]
#[non_exhaustive]
pub struct ProtocolError {
    /// What is wrong.
    pub problem: Problem,
    /// What was being read: `frame header`, `basic.deliver routing_key`, `content header priority`.
    pub place: &'static str,
    /// Where, in octets from the first octet of the frame.
    pub offset: usize,
}

impl ProtocolError {
    /// Names a problem, what was being read and the offset from the frame's first octet.
    #[must_use]
    pub const fn new(problem: Problem, place: &'static str, offset: usize) -> Self {
        Self {
            problem,
            place,
            offset,
        }
    }

    /// The code for `connection.close`: one of 501 to 505.
    #[must_use]
    pub const fn reply_code(&self) -> ReplyCode {
        self.problem.reply_code()
    }

    /// Whether the other end does not speak AMQP 0-9-1 at all, so that there is nobody to tell.
    #[must_use]
    pub const fn is_other_protocol(&self) -> bool {
        matches!(self.problem, Problem::ProtocolHeader(_) | Problem::NotAmqp(_))
    }
}

/// The kinds of [`ProtocolError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The other end answered with a protocol header, as a broker does that wants another version (501). The four
    /// octets after `AMQP` say which: `[0, 0, 9, 1]` is 0-9-1 itself, `[3, 1, 0, 0]` is SASL of AMQP 1.0.
    ProtocolHeader([u8; 4]),
    /// The other end does not speak AMQP: its first octets, zeros where there are fewer (501).
    NotAmqp([u8; 8]),
    /// A frame type other than 1, 2, 3 and 8 (501).
    FrameType(u8),
    /// A frame that does not end in 0xCE (501).
    FrameEnd(u8),
    /// A frame over the limit, both in octets of the whole frame (501).
    FrameTooLarge {
        /// What the frame's header declares, framing included.
        size: u64,
        /// What is allowed for a frame of this type.
        limit: u32,
    },
    /// A frame whose payload ends before the value does (501).
    Truncated,
    /// Octets that nothing accounts for, after the last value (501).
    Trailing(usize),
    /// A heartbeat that carries octets (501).
    HeartbeatPayload(usize),
    /// A heartbeat on a channel other than 0 (505, as RabbitMQ; specification 4.2.7 leaves it open).
    HeartbeatChannel(u16),
    /// A class and method number that RabbitMQ's 0-9-1 does not have (503).
    UnknownMethod {
        /// The class number.
        class: u16,
        /// The method number.
        method: u16,
    },
    /// Content of a class other than basic (505).
    ContentClass(u16),
    /// A content weight other than 0 (505).
    ContentWeight(u16),
    /// Property flags that the basic class does not have: the unknown bits (502).
    PropertyFlags(u16),
    /// A field table that cannot be read (502).
    Table(TableProblem),
    /// A method that its sender must not send, or not now, or not on this channel (503).
    UnexpectedMethod(MethodId),
    /// An answer that is not the next one due (503): what came, and the oldest request without an answer.
    UnexpectedReply {
        /// What came.
        found: MethodId,
        /// The request it should have answered, if there is one.
        request: Option<MethodId>,
    },
    /// A frame on a channel that is not open (504).
    ChannelNotOpen(u16),
    /// A content header or a piece of a body where none is due (505).
    UnexpectedContent,
    /// Another frame where a content header or the rest of a body is due (505).
    ContentInterrupted,
    /// A body longer than its header says: how many octets there are and how many were left (501).
    BodyTooLong {
        /// What the frame carries.
        size: usize,
        /// What was due at most.
        left: u64,
    },
    /// A `frame_max` below 4096 is offered, which no peer can keep (502).
    FrameMaxTooSmall(u32),
    /// A confirm of a publish that was never made (502).
    UnknownConfirm(u64),
}

impl Problem {
    /// `NotAmqp` with what the peer began with.
    pub(super) fn not_amqp(input: &[u8]) -> Self {
        let mut first = [0; 8];
        first
            .iter_mut()
            .zip(input)
            .for_each(|(place, octet)| *place = *octet);
        Self::NotAmqp(first)
    }

    /// The same of a peer that has spoken AMQP before: one whose octets got out of step, not one of another protocol.
    pub(crate) const fn of_amqp_peer(self) -> Self {
        match self {
            Self::ProtocolHeader(_) => Self::FrameType(b'A'),
            Self::NotAmqp([first, ..]) => Self::FrameType(first),
            other => other,
        }
    }

    const fn reply_code(&self) -> ReplyCode {
        match self {
            Self::ProtocolHeader(_)
            | Self::NotAmqp(_)
            | Self::FrameType(_)
            | Self::FrameEnd(_)
            | Self::FrameTooLarge { .. }
            | Self::Truncated
            | Self::Trailing(_)
            | Self::HeartbeatPayload(_) => ReplyCode::FRAME_ERROR,
            Self::BodyTooLong { .. } => ReplyCode::FRAME_ERROR,
            Self::PropertyFlags(_) | Self::Table(_) | Self::UnknownConfirm(_) | Self::FrameMaxTooSmall(_) => {
                ReplyCode::SYNTAX_ERROR
            }
            Self::UnknownMethod { .. } | Self::UnexpectedMethod(_) | Self::UnexpectedReply { .. } => {
                ReplyCode::COMMAND_INVALID
            }
            Self::ChannelNotOpen(_) => ReplyCode::CHANNEL_ERROR,
            Self::HeartbeatChannel(_)
            | Self::ContentClass(_)
            | Self::ContentWeight(_)
            | Self::UnexpectedContent
            | Self::ContentInterrupted => ReplyCode::UNEXPECTED_FRAME,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProtocolHeader([a, b, c, d]) => {
                write!(f, "the peer wants another protocol version: AMQP {a} {b} {c} {d}")
            }
            Self::NotAmqp(first) => write!(
                f,
                "the peer does not speak AMQP, it began with {}",
                Printable(first)
            ),
            Self::FrameType(found) => write!(f, "unknown frame type {found}"),
            Self::FrameEnd(found) => write!(f, "frame ends in {found:#04x} instead of 0xce"),
            Self::FrameTooLarge { size, limit } => {
                write!(f, "frame of {size} octets is over the limit of {limit}")
            }
            Self::Truncated => f.write_str("value runs past the end of the frame"),
            Self::Trailing(count) => write!(f, "{count} octets too many after the last value"),
            Self::HeartbeatPayload(count) => write!(f, "heartbeat with a payload of {count} octets"),
            Self::HeartbeatChannel(channel) => write!(f, "heartbeat on channel {channel}"),
            Self::UnknownMethod { class, method } => write!(f, "unknown method {method} of class {class}"),
            Self::ContentClass(class) => write!(f, "content of class {class}"),
            Self::ContentWeight(weight) => write!(f, "content of weight {weight}"),
            Self::UnexpectedMethod(found) => write!(f, "{found} is not valid here"),
            Self::UnexpectedReply {
                found,
                request: Some(request),
            } => {
                write!(
                    f,
                    "{found} does not answer {request}, which is the next to be answered"
                )
            }
            Self::UnexpectedReply { found, request: None } => {
                write!(f, "{found} answers nothing: no request is waiting")
            }
            Self::ChannelNotOpen(channel) => write!(f, "channel {channel} is not open"),
            Self::UnexpectedContent => f.write_str("content without a method that carries it"),
            Self::ContentInterrupted => f.write_str("content of a message is missing before this frame"),
            Self::BodyTooLong { size, left } => {
                write!(f, "body frame of {size} octets where at most {left} are left")
            }
            Self::FrameMaxTooSmall(offered) => {
                write!(f, "frame_max of {offered} octets is below the minimum of 4096")
            }
            Self::UnknownConfirm(tag) => write!(f, "confirm of publish {tag}, which was never made"),
            Self::PropertyFlags(flags) => write!(f, "unknown property flags {flags:#06x}"),
            Self::Table(problem) => write!(f, "{problem}"),
        }
    }
}

/// A field table that cannot be read: what is wrong, and where.
///
/// In a message's headers it concerns that message only, and the connection lives; in a method's arguments it becomes a
/// [`ProtocolError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (octet {offset} of the table)")]
#[non_exhaustive]
pub struct TableError {
    /// What is wrong.
    pub problem: TableProblem,
    /// Where, in octets from the table's first entry.
    pub offset: usize,
}

/// The kinds of [`TableError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableProblem {
    /// A key or value that declares more octets than its table or array has left.
    #[error("table entry runs past the end of its table")]
    Truncated,
    /// A type octet that RabbitMQ does not know.
    #[error("unknown field type {0:#04x}")]
    UnknownType(u8),
    /// Tables and arrays nested deeper than [`MAX_TABLE_DEPTH`](super::MAX_TABLE_DEPTH).
    #[error("tables nested deeper than {}", super::MAX_TABLE_DEPTH)]
    TooDeep,
}

/// What the caller wanted to send does not fit the wire; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The frame would be larger than the peer accepts. Only the arguments of a method or the headers of a message
    /// do that in a [`SendBuf`](crate::SendBuf), which splits bodies.
    #[error("{name} makes a frame of {size} octets, and the peer accepts {limit}")]
    FrameTooLarge {
        /// The method's name, `content header` or `body`.
        name: &'static str,
        /// The whole frame, in octets; at least so many, where a table is over the limit all by itself.
        size: usize,
        /// The limit in force: the negotiated frame-max, or 4096 before it is.
        limit: u32,
    },
}
