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

use super::encode::{Room, append_to};
use super::method::{Arguments, Method, MethodId};
use super::properties::BASIC;
use super::text::Printable;
use super::{ContentHeader, EncodeError, Problem, Properties, ProtocolError};

/// The octets before a frame's payload.
pub const HEADER_SIZE: usize = 7;

/// The octets of class and method number, before a method's arguments.
pub(crate) const METHOD_ID_SIZE: usize = 4;

/// The octets around a frame's payload.
pub const FRAME_OVERHEAD: u32 = 8;

/// The smallest frame-max that may be negotiated, and what is in force before (specification 1.2). RabbitMQ 4.1 and later
/// want 8192.
pub const FRAME_MIN_SIZE: u32 = 4096;

/// The last octet of every frame.
pub(crate) const FRAME_END: u8 = 0xCE;

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
    /// For body frames: the frame-max that was negotiated; `u32::MAX` where that is 0, "no limit". A
    /// [`RecvBuf`](crate::RecvBuf) must be allowed to hold as much.
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
                append_to(out, header.properties.long_parts(), limit, |room| {
                    write_header(room, *channel, header.body_size, &header.properties, limit)
                })
            }
            Self::Body { channel, payload } => {
                let size = payload.len().saturating_add(FRAME_OVERHEAD as usize);
                if size > limit as usize {
                    return Err(EncodeError::FrameTooLarge {
                        name: "body",
                        size,
                        limit,
                    });
                }
                append_to(out, payload.len(), limit, |room| {
                    write_body(room, *channel, payload);
                    Ok(())
                })
            }
            Self::Heartbeat => {
                out.extend_from_slice(&HEARTBEAT);
                Ok(())
            }
        }
    }
}

/// Writes a method frame.
#[inline(always)]
pub(crate) fn write_method<A: Arguments>(
    room: &mut Room<'_>,
    channel: u16,
    method: &A,
    limit: u32,
) -> Result<(), EncodeError> {
    let MethodId {
        class,
        method: number,
    } = A::SPEC.id;
    let frame = Unfinished::begin(room, A::SPEC.name, limit)?;
    method.write_arguments(room);
    frame.end(room, |size| {
        frame_start(FrameType::Method, channel, size, class, number)
    })
}

/// Writes a content header frame.
#[inline(always)]
pub(crate) fn write_header(
    room: &mut Room<'_>,
    channel: u16,
    body_size: u64,
    properties: &Properties<'_>,
    limit: u32,
) -> Result<(), EncodeError> {
    let weight = 0;
    let frame = Unfinished::begin(room, "content header", limit)?;
    room.put(body_size.to_be_bytes());
    properties.write(room);
    frame.end(room, |size| {
        frame_start(FrameType::Header, channel, size, BASIC, weight)
    })
}

/// Writes a body frame; `piece` fits the room and the limit.
#[inline(always)]
pub(crate) fn write_body(room: &mut Room<'_>, channel: u16, piece: &[u8]) {
    let (before, behind) = body_frame(channel, piece.len());
    room.put(before);
    room.put_octets(piece);
    room.put(behind);
}

/// The octets before and behind a piece of body.
#[inline]
pub(crate) const fn body_frame(channel: u16, size: usize) -> ([u8; HEADER_SIZE], [u8; 1]) {
    let [header @ .., _, _, _, _] = frame_start(FrameType::Body, channel, size, 0, 0);
    (header, [FRAME_END])
}

/// A frame's header, and the two numbers that the payload of a method or content header begins with. As one integer it is
/// stored in two pieces instead of eleven.
#[inline]
const fn frame_start(frame_type: FrameType, channel: u16, size: usize, class: u16, number: u16) -> [u8; 11] {
    let start = (frame_type as u128) << 80
        | (channel as u128) << 64
        | (size as u128) << 32
        | (class as u128) << 16
        | number as u128;
    let [_, _, _, _, _, octets @ ..] = start.to_be_bytes();
    octets
}

/// A frame whose start is left open: only at its end is the payload's size known.
struct Unfinished<'o> {
    name: &'static str,
    limit: u32,
    start: &'o mut [u8; 11],
    room_before: usize,
}

impl<'o> Unfinished<'o> {
    #[inline(always)]
    fn begin(room: &mut Room<'o>, name: &'static str, limit: u32) -> Result<Self, EncodeError> {
        let room_before = room.left();
        let Some(start) = room.place() else {
            return Err(EncodeError::FrameTooLarge {
                name,
                size: room_before,
                limit,
            });
        };
        Ok(Self {
            name,
            limit,
            start,
            room_before,
        })
    }

    /// Writes the end octet, and the start into its place.
    #[inline(always)]
    fn end(self, room: &mut Room<'o>, start: impl FnOnce(usize) -> [u8; 11]) -> Result<(), EncodeError> {
        let Self { name, limit, .. } = self;
        room.put([FRAME_END]);
        let size = self.room_before.wrapping_sub(room.left());
        // Without room left it was larger than the room; that is made larger than any frame within the limit.
        if size > limit as usize || room.left() == 0 {
            return Err(EncodeError::FrameTooLarge { name, size, limit });
        }
        *self.start = start(size.wrapping_sub(FRAME_OVERHEAD as usize));
        Ok(())
    }
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
        // Said of the alert alone, whether something follows it already or not.
        _ if is_tls => Problem::not_amqp(input.get(..HEADER_SIZE).unwrap_or(input)),
        _ if is_text => Problem::not_amqp(input),
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
