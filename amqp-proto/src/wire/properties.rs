//! Message properties and the content header that carries them (specification 4.2.6.1).

use core::fmt;

use nom::Parser;
use nom::error::{ErrorKind, ParseError};

use super::encode::Room;
use super::method::Argument;
use super::octets::{field_table, longlong, octet, short, short_string};
use super::{FieldTableRef, Problem, ProtocolError, ShortStr, frame};

/// The class of all content.
pub(super) const BASIC: u16 = 60;

/// What a content header frame carries: how long the body is, and the message's properties.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct ContentHeader<'a> {
    /// The length of the body in octets, all its frames together.
    pub body_size: u64,
    /// The properties.
    pub properties: Properties<'a>,
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a header frame. Of the header table only the length is checked: its entries are read when
    /// somebody asks for them.
    ///
    /// # Errors
    /// A payload that is too short or too long (501), another class or weight (505), unknown property flags (502).
    pub fn decode(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        let (rest, body_size, flags) = Self::begin(payload)?;
        let mut header = Self {
            body_size,
            properties: Properties::default(),
        };
        match header.properties.read(rest, flags) {
            Ok([]) => Ok(header),
            Ok(rest) => Err(trailing(rest, payload)),
            Err(failure) => Err(located(failure, payload)),
        }
    }

    /// The body size of a payload that [`decode`](Self::decode) takes, for half the price: the properties are looked at, and
    /// not kept.
    #[inline(always)]
    pub(crate) fn body_size(payload: &'a [u8]) -> Result<u64, ProtocolError> {
        let (rest, body_size, flags) = Self::begin(payload)?;
        match Properties::skip(rest, flags) {
            Ok([]) => Ok(body_size),
            Ok(rest) => Err(trailing(rest, payload)),
            Err(failure) => Err(located(failure, payload)),
        }
    }

    /// What comes before the properties: the body size and which properties there are.
    #[inline]
    fn begin(payload: &'a [u8]) -> Result<(&'a [u8], u64, u16), ProtocolError> {
        let (rest, (class, weight, body_size, flags)) = (short, short, longlong, short)
            .parse(payload)
            .map_err(|failure| located(failure, payload))?;
        if class != BASIC {
            return Err(wrong_start(Problem::ContentClass(class), 0));
        }
        if weight != 0 {
            return Err(wrong_start(Problem::ContentWeight(weight), 2));
        }
        if flags & !Properties::ALL_FLAGS != 0 {
            return Err(wrong_start(
                Problem::PropertyFlags(flags & !Properties::ALL_FLAGS),
                12,
            ));
        }
        Ok((rest, body_size, flags))
    }
}

impl fmt::Display for ContentHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header body_size={}", self.body_size)?;
        let mut result = Ok(());
        self.properties.for_each(&mut |name, value| {
            result = result.and_then(|()| value.write(f, name));
        });
        result
    }
}

macro_rules! properties {
    ($($(#[doc = $doc:literal])+ $name:ident: $parser:ident -> $type:ty = bit $bit:literal;)+) => {
        /// The fourteen properties of a message (specification 1.8.1); RabbitMQ only looks at some of them.
        #[derive(Clone, Copy, PartialEq, Default)]
        #[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
        pub struct Properties<'a> {
            $($(#[doc = $doc])+ pub $name: Option<$type>,)+
        }

        /// Those that are there.
        impl fmt::Debug for Properties<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut properties = f.debug_struct("Properties");
                $(if let Some(value) = &self.$name {
                    properties.field(stringify!($name), value);
                })+
                properties.finish()
            }
        }

        impl<'a> Properties<'a> {
            const ALL_FLAGS: u16 = $(1 << $bit)|+;

            /// Reads the properties that have their flag set, each into its place, and gives what is left.
            // Never inline: that takes the places apart into two dozen values which no processor has registers for.
            #[inline(never)]
            fn read(&mut self, rest: &'a [u8], flags: u16) -> Result<&'a [u8], nom::Err<Failure<'a>>> {
                $(let rest = if flags & 1 << $bit == 0 {
                    rest
                } else {
                    let (rest, value) = $parser(rest)
                        .map_err(|error| named(error, concat!("content header ", stringify!($name))))?;
                    self.$name = Some(value);
                    rest
                };)+
                Ok(rest)
            }

            /// Passes over the properties that have their flag set, and gives what is left.
            #[inline]
            fn skip(rest: &'a [u8], flags: u16) -> Result<&'a [u8], nom::Err<Failure<'a>>> {
                $(let rest = if flags & 1 << $bit == 0 {
                    rest
                } else {
                    let (rest, _) = $parser(rest)
                        .map_err(|error| named(error, concat!("content header ", stringify!($name))))?;
                    // Mostly there are few, and those that are common come first.
                    if flags & ((1 << $bit) - 1) == 0 {
                        return Ok(rest);
                    }
                    rest
                };)+
                Ok(rest)
            }

            /// Writes the flags of the properties that are there, then these.
            #[inline(always)]
            pub(super) fn write(&self, room: &mut Room<'_>) {
                let Some(place) = room.place() else { return };
                let mut flags: u16 = 0;
                $(if let Some(value) = self.$name {
                    flags |= 1 << $bit;
                    value.write(room);
                })+
                *place = flags.to_be_bytes();
            }

            /// Shows every property that is there, in wire order.
            pub fn for_each(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>)) {
                $(if let Some(value) = self.$name {
                    visit(stringify!($name), value.into());
                })+
            }
        }
    };
}

properties! {
    /// MIME type of the body.
    content_type: short_string -> ShortStr<'a> = bit 15;
    /// MIME content encoding of the body.
    content_encoding: short_string -> ShortStr<'a> = bit 14;
    /// Headers: for headers exchanges, and for applications.
    headers: field_table -> FieldTableRef<'a> = bit 13;
    /// 1 transient, 2 persistent.
    delivery_mode: octet -> u8 = bit 12;
    /// 0 to 255; a priority queue has as many levels as it was declared with.
    priority: octet -> u8 = bit 11;
    /// Which request this answers.
    correlation_id: short_string -> ShortStr<'a> = bit 10;
    /// Where to send the answer.
    reply_to: short_string -> ShortStr<'a> = bit 9;
    /// Time to live in milliseconds, in decimal digits.
    expiration: short_string -> ShortStr<'a> = bit 8;
    /// The application's name for the message.
    message_id: short_string -> ShortStr<'a> = bit 7;
    /// Seconds since 1970-01-01 UTC.
    timestamp: longlong -> u64 = bit 6;
    /// The application's name for the kind of message (the specification's `type`).
    message_type: short_string -> ShortStr<'a> = bit 5;
    /// The publisher; RabbitMQ checks that it is the connection's user (406).
    user_id: short_string -> ShortStr<'a> = bit 4;
    /// The publishing application.
    app_id: short_string -> ShortStr<'a> = bit 3;
    /// Deprecated; reserved in 0-9-1.
    cluster_id: short_string -> ShortStr<'a> = bit 2;
}

impl Properties<'_> {
    /// How many octets of table there are.
    #[inline]
    pub(crate) fn long_parts(&self) -> usize {
        self.headers.map_or(0, |headers| headers.as_encoded().len())
    }

    /// The [`delivery_mode`](Self::delivery_mode) of a message that need not survive a restart of the server.
    pub const TRANSIENT: u8 = 1;
    /// The [`delivery_mode`](Self::delivery_mode) of a message that survives a restart in a durable queue.
    pub const PERSISTENT: u8 = 2;
}

/// How one property is written.
trait Property {
    fn write(self, room: &mut Room<'_>);
}

impl Property for ShortStr<'_> {
    #[inline]
    fn write(self, room: &mut Room<'_>) {
        room.put_short_string(self);
    }
}

impl Property for FieldTableRef<'_> {
    #[inline]
    fn write(self, room: &mut Room<'_>) {
        room.put_long_string(self.as_encoded());
    }
}

impl Property for u8 {
    #[inline]
    fn write(self, room: &mut Room<'_>) {
        room.put([self]);
    }
}

impl Property for u64 {
    #[inline]
    fn write(self, room: &mut Room<'_>) {
        room.put(self.to_be_bytes());
    }
}

struct Failure<'a> {
    at: &'a [u8],
    place: &'static str,
}

impl<'a> ParseError<&'a [u8]> for Failure<'a> {
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Failure {
            at,
            place: "content header",
        }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[cold]
fn named<'a>(error: nom::Err<Failure<'a>>, place: &'static str) -> nom::Err<Failure<'a>> {
    error.map(|failure| Failure { place, ..failure })
}

#[cold]
fn located(error: nom::Err<Failure<'_>>, payload: &[u8]) -> ProtocolError {
    let (left, place) = match error {
        nom::Err::Error(failure) | nom::Err::Failure(failure) => (failure.at.len(), failure.place),
        // The parsers are complete ones: nothing gives this.
        nom::Err::Incomplete(_) => (0, "content header"),
    };
    ProtocolError::new(
        Problem::Truncated,
        place,
        frame::HEADER_SIZE.saturating_add(payload.len().saturating_sub(left)),
    )
}

#[cold]
fn trailing(rest: &[u8], payload: &[u8]) -> ProtocolError {
    let offset = frame::HEADER_SIZE.saturating_add(payload.len().saturating_sub(rest.len()));
    ProtocolError::new(Problem::Trailing(rest.len()), "content header", offset)
}

#[cold]
fn wrong_start(problem: Problem, offset: usize) -> ProtocolError {
    ProtocolError::new(
        problem,
        "content header",
        frame::HEADER_SIZE.saturating_add(offset),
    )
}
