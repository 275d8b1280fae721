//! Frames (specification 4.2.3): delimited first, decoded after.
//!
//! ```text
//! 0      1         3             7                  size+7
//! +------+---------+-------------+------------------+----------+
//! | type | channel | size        | payload          | end 0xCE |
//! +------+---------+-------------+------------------+----------+
//! ```

use alloc::vec::Vec;
use core::fmt;

use super::method::{Arguments, Method};
use super::text::Printable;
use super::{ContentHeader, EncodeError, Problem, Properties, ProtocolError};

/// The octets before a frame's payload.
pub const HEADER_SIZE: usize = 7;

/// The octets around a frame's payload.
pub const FRAME_OVERHEAD: u32 = 8;

/// The smallest frame-max that may be negotiated, and what is in force before (specification 1.2). RabbitMQ 4.1 and later
/// want 8192.
pub const FRAME_MIN_SIZE: u32 = 4096;

/// The last octet of every frame.
const FRAME_END: u8 = 0xCE;

/// A heartbeat frame, complete.
pub const HEARTBEAT: [u8; FRAME_OVERHEAD as usize] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];

/// What kind of payload a frame has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// A method and its arguments.
    Method = 1,
    /// A content header.
    Header = 2,
    /// A piece of a body.
    Body = 3,
    /// Nothing.
    Heartbeat = 8,
}

/// The largest frames that are accepted, in octets of the whole frame.
///
/// RabbitMQ keeps to frame-max for bodies, and ignores it for the methods and content headers it sends, so that these have a
/// limit of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// For body frames: the frame-max that was negotiated.
    pub body: u32,
    /// For method and content header frames.
    pub other: u32,
}

impl Default for FrameLimits {
    /// 128 KiB each, which is what RabbitMQ proposes.
    fn default() -> Self {
        Self {
            body: 128 * 1024,
            other: 128 * 1024,
        }
    }
}

/// A delimited frame, its payload not looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// The kind of payload.
    pub frame_type: FrameType,
    /// The channel; 0 is the connection itself.
    pub channel: u16,
    /// What is between the header and the end octet.
    pub payload: &'a [u8],
}

/// A decoded frame. `Display` gives it on one line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frame<'a> {
    /// A method and its arguments.
    Method {
        /// The channel; 0 is the connection itself.
        channel: u16,
        /// The method.
        method: Method<'a>,
    },
    /// A content header.
    Header {
        /// The channel.
        channel: u16,
        /// Body size and properties.
        header: ContentHeader<'a>,
    },
    /// A piece of a body.
    Body {
        /// The channel.
        channel: u16,
        /// The piece.
        payload: &'a [u8],
    },
    /// A sign of life.
    Heartbeat,
}

impl<'a> RawFrame<'a> {
    /// Delimits the frame that `input` begins with; `None` if it is not all there yet. Sizes are checked as soon as the
    /// frame's header is there, and nothing is ever reserved.
    ///
    /// # Errors
    /// An unknown frame type, a frame over its limit, a wrong end octet, a heartbeat that is more than one (501, 505); a
    /// peer that answers in another protocol or version.
    // Always: an answer that goes through memory takes half as long again.
    #[inline(always)]
    pub fn parse(input: &'a [u8], limits: &FrameLimits) -> Result<Option<Self>, ProtocolError> {
        let Some(&[frame_type, c0, c1, s0, s1, s2, s3]) = input.first_chunk() else {
            check_start(input)?;
            return Ok(None);
        };
        let channel = u16::from_be_bytes([c0, c1]);
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        let (frame_type, limit) = match frame_type {
            1 => (FrameType::Method, limits.other),
            2 => (FrameType::Header, limits.other),
            3 => (FrameType::Body, limits.body),
            8 => (FrameType::Heartbeat, check_heartbeat(channel, size, limits)?),
            _ => {
                check_start(input)?;
                return Ok(None);
            }
        };
        if size > limit.saturating_sub(FRAME_OVERHEAD) {
            return Err(too_large(size, limit));
        }
        let size = size as usize;
        let Some((payload, [end, ..])) = input
            .get(HEADER_SIZE..)
            .and_then(|rest| rest.split_at_checked(size))
        else {
            return Ok(None);
        };
        if *end != FRAME_END {
            return Err(wrong_end(*end, size));
        }
        Ok(Some(Self {
            frame_type,
            channel,
            payload,
        }))
    }

    /// The whole frame's length in octets.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.payload.len().saturating_add(FRAME_OVERHEAD as usize)
    }

    /// Reads the payload.
    ///
    /// # Errors
    /// As [`Method::decode`] and [`ContentHeader::decode`].
    #[inline]
    pub fn decode(&self) -> Result<Frame<'a>, ProtocolError> {
        let Self { channel, payload, .. } = *self;
        match self.frame_type {
            FrameType::Method => Method::decode(payload).map(|method| Frame::Method { channel, method }),
            FrameType::Header => {
                ContentHeader::decode(payload).map(|header| Frame::Header { channel, header })
            }
            FrameType::Body => Ok(Frame::Body { channel, payload }),
            FrameType::Heartbeat => Ok(Frame::Heartbeat),
        }
    }
}

impl Frame<'_> {
    /// Appends the whole frame; `limit` is what the peer accepts, in octets of the whole frame.
    ///
    /// # Errors
    /// A frame over the limit; nothing is written.
    pub fn encode(&self, out: &mut Vec<u8>, limit: u32) -> Result<(), EncodeError> {
        match self {
            Self::Method { channel, method } => method.encode(out, *channel, limit),
            Self::Header { channel, header } => {
                encode_header(out, *channel, header.body_size, &header.properties, limit)
            }
            Self::Body { channel, payload } => {
                encode_frame(out, FrameType::Body, *channel, "body", limit, |out| {
                    out.extend_from_slice(payload);
                })
            }
            Self::Heartbeat => {
                out.extend_from_slice(&HEARTBEAT);
                Ok(())
            }
        }
    }
}

/// Appends a method frame.
#[inline]
pub(crate) fn encode_method<A: Arguments>(
    out: &mut Vec<u8>,
    channel: u16,
    method: &A,
    limit: u32,
) -> Result<(), EncodeError> {
    encode_frame(out, FrameType::Method, channel, A::SPEC.name, limit, |out| {
        let [c0, c1] = A::SPEC.id.class.to_be_bytes();
        let [m0, m1] = A::SPEC.id.method.to_be_bytes();
        out.extend_from_slice(&[c0, c1, m0, m1]);
        method.write_arguments(out);
    })
}

/// Appends a content header frame.
#[inline]
pub(crate) fn encode_header(
    out: &mut Vec<u8>,
    channel: u16,
    body_size: u64,
    properties: &Properties<'_>,
    limit: u32,
) -> Result<(), EncodeError> {
    encode_frame(out, FrameType::Header, channel, "content header", limit, |out| {
        properties.write_header(out, body_size);
    })
}

/// The octets before a payload of `size` octets.
#[inline]
pub(crate) const fn frame_header(frame_type: FrameType, channel: u16, size: u32) -> [u8; HEADER_SIZE] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = size.to_be_bytes();
    [frame_type as u8, c0, c1, s0, s1, s2, s3]
}

/// Appends a body frame of octets that are to be copied; `piece` is within the limit.
#[inline]
pub(crate) fn encode_body(out: &mut Vec<u8>, channel: u16, piece: &[u8]) {
    begin_body(out, channel, piece.len());
    out.extend_from_slice(piece);
    end_body(out);
}

/// Appends what stands before a piece of body that is not copied.
#[inline]
pub(crate) fn begin_body(out: &mut Vec<u8>, channel: u16, size: usize) {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    out.extend_from_slice(&frame_header(FrameType::Body, channel, size));
}

/// Appends what stands behind it.
#[inline]
pub(crate) fn end_body(out: &mut Vec<u8>) {
    out.push(FRAME_END);
}

/// Writes header, payload and end octet, then the size into its place; takes everything back if it is over the limit.
#[inline]
fn encode_frame(
    out: &mut Vec<u8>,
    frame_type: FrameType,
    channel: u16,
    name: &'static str,
    limit: u32,
    write_payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&frame_header(frame_type, channel, 0));
    write_payload(out);
    let size = out.len().saturating_sub(start).saturating_add(1);
    if size > limit as usize {
        out.truncate(start);
        return Err(EncodeError::FrameTooLarge { name, size, limit });
    }
    if let Some(place) = out
        .get_mut(start.saturating_add(3)..)
        .and_then(<[u8]>::first_chunk_mut)
    {
        // Within the limit, so within 32 bits.
        *place = u32::try_from(size.saturating_sub(FRAME_OVERHEAD as usize))
            .unwrap_or(u32::MAX)
            .to_be_bytes();
    }
    out.push(FRAME_END);
    Ok(())
}

#[cold]
fn check_heartbeat(channel: u16, size: u32, limits: &FrameLimits) -> Result<u32, ProtocolError> {
    if channel != 0 {
        return Err(ProtocolError::new(
            Problem::HeartbeatChannel(channel),
            "frame header",
            1,
        ));
    }
    if size != 0 {
        return Err(ProtocolError::new(
            Problem::HeartbeatPayload(size as usize),
            "frame header",
            3,
        ));
    }
    Ok(limits.other)
}

#[cold]
fn too_large(size: u32, limit: u32) -> ProtocolError {
    let size = u64::from(size).saturating_add(FRAME_OVERHEAD.into());
    ProtocolError::new(Problem::FrameTooLarge { size, limit }, "frame header", 3)
}

#[cold]
const fn wrong_end(found: u8, size: usize) -> ProtocolError {
    ProtocolError::new(
        Problem::FrameEnd(found),
        "frame end",
        HEADER_SIZE.saturating_add(size),
    )
}

/// For an input that is too short for a frame header, or whose first octet is no frame type: waits for more while it can
/// still become a frame or a protocol header, and otherwise says who is speaking.
#[cold]
fn check_start<'a>(input: &[u8]) -> Result<Option<RawFrame<'a>>, ProtocolError> {
    let Some(&first) = input.first() else {
        return Ok(None);
    };
    if matches!(first, 1 | 2 | 3 | 8) {
        return Ok(None);
    }
    let is_version = input
        .iter()
        .zip(b"AMQP")
        .all(|(octet, expected)| octet == expected);
    let is_text = input.iter().take(4).all(|octet| matches!(octet, b' '..=b'~'));
    // Type and major version of every TLS record: an alert, when AMQP was sent to a TLS port. It is seven octets long, and
    // nothing follows it.
    let is_tls = matches!(first, 0x14..=0x17) && input.get(1).is_none_or(|&major| major == 3);
    let is_enough = input.len() >= if is_tls { HEADER_SIZE } else { 8 };
    if (is_version || is_text || is_tls) && !is_enough {
        // More octets say more; a peer that stays silent now runs into the caller's deadline.
        return Ok(None);
    }
    let problem = match input.first_chunk() {
        Some(&[_, _, _, _, a, b, c, d]) if is_version => Problem::ProtocolHeader([a, b, c, d]),
        _ if is_text || is_tls => Problem::not_amqp(input),
        _ => Problem::FrameType(first),
    };
    Err(ProtocolError::new(problem, "frame header", 0))
}

impl fmt::Debug for RawFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ch {} {:?} frame, payload of {} octets",
            self.channel,
            self.frame_type,
            self.payload.len()
        )
    }
}

/// How many octets of a body are shown.
const SHOWN: usize = 32;

impl fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method { channel, method } => write!(f, "ch {channel} {method}"),
            Self::Header { channel, header } => write!(f, "ch {channel} {header}"),
            Self::Body { channel, payload } => {
                let (shown, more) = match payload.split_at_checked(SHOWN) {
                    Some((shown, [_, ..])) => (shown, "…"),
                    _ => (*payload, ""),
                };
                write!(
                    f,
                    "ch {channel} body {} octets {}{more}",
                    payload.len(),
                    Printable(shown)
                )
            }
            Self::Heartbeat => f.write_str("ch 0 heartbeat"),
        }
    }
}
