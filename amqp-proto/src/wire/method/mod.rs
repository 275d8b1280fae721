//! The methods of RabbitMQ's AMQP 0-9-1: [`table`](self) one row each, everything else is made from the rows.

#[macro_use]
mod macros;
mod table;

pub use table::*;

use alloc::vec::Vec;
use core::fmt;

use super::decode::Decoder;
use super::encode::append_to;
use super::{
    EncodeError, FieldTableRef, LongStr, Problem, ProtocolError, ReplyCode, SecretStr, ShortStr, frame,
    octets,
};

/// The number of a class and of a method in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MethodId {
    /// The class: 10 connection, 20 channel, 30 access, 40 exchange, 50 queue, 60 basic, 85 confirm, 90 tx.
    pub class: u16,
    /// The method in its class.
    pub method: u16,
}

/// One row of the method table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodSpec {
    /// Class and method number.
    pub id: MethodId,
    /// The specification's name, as in `queue.declare-ok`.
    pub name: &'static str,
    /// Who may send it.
    pub sender: Sender,
    /// What answers it; empty where nothing does.
    pub replies: &'static [MethodId],
    /// Whether a content header and body follow.
    pub has_content: bool,
    /// Its arguments in wire order, the reserved ones included.
    pub arguments: &'static [ArgumentSpec],
}

/// One argument in a [`MethodSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArgumentSpec {
    /// The specification's name with underscores, `reserved` for every reserved one; `exchange_type` is its `type`.
    pub name: &'static str,
    /// How it is written.
    pub domain: Domain,
}

/// Who may send a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Only the client.
    Client,
    /// Only the server.
    Server,
    /// Either of them.
    Both,
}

/// The elementary domains of the specification (4.2.5), in its spelling; two of ours read as one of its.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    non_camel_case_types,
    reason = "the specification's own words, which the method table is written in"
)]
pub enum Domain {
    /// One bit; neighbours share an octet.
    bit,
    /// 8 bits.
    octet,
    /// 16 bits.
    short,
    /// 32 bits.
    long,
    /// 64 bits.
    longlong,
    /// A `short` that is a reply code.
    reply_code,
    /// Up to 255 octets.
    shortstr,
    /// Octets with a 32-bit length.
    longstr,
    /// A `longstr` that must not be printed.
    secret,
    /// A field table.
    table,
}

/// What the methods have in common. Implemented by the types of the method table, and by nothing else.
pub trait Arguments: Copy + fmt::Debug + sealed::Sealed {
    /// The method's row in the table.
    const SPEC: &'static MethodSpec;

    /// Shows every argument with its name, in wire order, the reserved ones left out.
    fn for_each_argument(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>));
}

/// A method that a content header and a body follow.
pub trait CarriesContent: Arguments {}

/// An argument's value, for printing and comparing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Argument<'a> {
    /// `bit`
    Bit(bool),
    /// `octet`
    Octet(u8),
    /// `short`
    Short(u16),
    /// `long`
    Long(u32),
    /// `longlong`, and `timestamp` in seconds
    LongLong(u64),
    /// `short` that is a reply code
    ReplyCode(ReplyCode),
    /// `shortstr`
    ShortStr(ShortStr<'a>),
    /// `longstr`
    LongStr(LongStr<'a>),
    /// `longstr` that must not be printed
    Secret(SecretStr<'a>),
    /// `table`
    Table(FieldTableRef<'a>),
}

/// Where a method's arguments begin in its frame: after the frame's header and the method's numbers.
const ARGUMENTS_OFFSET: usize = 11;

impl<'a> Method<'a> {
    /// Reads the payload of a method frame.
    ///
    /// # Errors
    /// An unknown method (503), arguments that end too soon or too late (501), a table that cannot be read (502).
    pub fn decode(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        let (id, arguments) = Self::split_id(payload)?;
        Self::read(id, arguments, ARGUMENTS_OFFSET)
    }

    /// Reads only which method a method frame carries: its numbers, then its arguments' octets.
    ///
    /// # Errors
    /// Fewer than four octets (501).
    #[inline]
    pub fn split_id(payload: &'a [u8]) -> Result<(MethodId, &'a [u8]), ProtocolError> {
        let parsed: nom::IResult<_, _, ()> = nom::Parser::parse(&mut (octets::short, octets::short), payload);
        match parsed {
            Ok((arguments, (class, method))) => Ok((MethodId { class, method }, arguments)),
            Err(_) => Err(ProtocolError::new(
                Problem::Truncated,
                "method id",
                frame::HEADER_SIZE.saturating_add(payload.len()),
            )),
        }
    }

    /// The method's row in the table.
    #[must_use]
    pub fn spec(&self) -> &'static MethodSpec {
        self.as_arguments().spec()
    }

    /// Shows every argument with its name, in wire order, the reserved ones left out.
    pub fn for_each_argument(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>)) {
        self.as_arguments().visit(visit);
    }

    /// Appends the whole frame; `limit` is what the peer accepts, in octets of the whole frame.
    ///
    /// # Errors
    /// A frame over the limit; nothing is written.
    pub fn encode(&self, out: &mut Vec<u8>, channel: u16, limit: u32) -> Result<(), EncodeError> {
        self.as_arguments().encode(out, channel, limit)
    }
}

/// [`Arguments`] without the associated constant, so that [`Method`] can delegate in one `match`.
trait DynArguments {
    fn spec(&self) -> &'static MethodSpec;
    fn visit(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>));
    fn encode(&self, out: &mut Vec<u8>, channel: u16, limit: u32) -> Result<(), EncodeError>;
}

impl<A: Arguments> DynArguments for A {
    fn spec(&self) -> &'static MethodSpec {
        A::SPEC
    }

    fn visit(&self, visit: &mut dyn FnMut(&'static str, Argument<'_>)) {
        self.for_each_argument(visit);
    }

    fn encode(&self, out: &mut Vec<u8>, channel: u16, limit: u32) -> Result<(), EncodeError> {
        append_to(out, self.long_parts(), limit, |room| {
            frame::write_method(room, channel, self, limit)
        })
    }
}

#[cold]
fn unknown_method(id: MethodId) -> ProtocolError {
    let problem = Problem::UnknownMethod {
        class: id.class,
        method: id.method,
    };
    ProtocolError::new(problem, "method id", frame::HEADER_SIZE)
}

impl fmt::Display for MethodId {
    /// The method's name, or its numbers if it has none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match METHODS.iter().find(|spec| spec.id == *self) {
            Some(spec) => f.write_str(spec.name),
            None => write!(f, "{}.{}", self.class, self.method),
        }
    }
}

impl fmt::Display for Method<'_> {
    /// The name, then the arguments; bits that are not set and tables without entries are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.spec().name)?;
        let mut result = Ok(());
        self.for_each_argument(&mut |name, argument| {
            result = result.and_then(|()| argument.write(f, name));
        });
        result
    }
}

impl Argument<'_> {
    /// ` name=value`, a mere ` name` for a bit that is set, nothing for a clear bit or an empty table.
    pub(super) fn write(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        match self {
            Self::Bit(false) => Ok(()),
            Self::Bit(true) => write!(f, " {name}"),
            Self::Table(table) if table.is_empty() => Ok(()),
            Self::Octet(value) => write!(f, " {name}={value}"),
            Self::Short(value) => write!(f, " {name}={value}"),
            Self::Long(value) => write!(f, " {name}={value}"),
            Self::LongLong(value) => write!(f, " {name}={value}"),
            Self::ReplyCode(value) => write!(f, " {name}={value}"),
            Self::ShortStr(value) => write!(f, " {name}={value:?}"),
            Self::LongStr(value) => write!(f, " {name}={value:?}"),
            Self::Secret(value) => write!(f, " {name}={value}"),
            Self::Table(value) => write!(f, " {name}={value:?}"),
        }
    }
}

macro_rules! arguments_from {
    ($($type:ty => $variant:ident),+ $(,)?) => {
        $(impl<'a> From<$type> for Argument<'a> {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

arguments_from! {
    bool => Bit, u8 => Octet, u16 => Short, u32 => Long, u64 => LongLong, ReplyCode => ReplyCode,
    ShortStr<'a> => ShortStr, LongStr<'a> => LongStr, SecretStr<'a> => Secret, FieldTableRef<'a> => Table,
}

mod sealed {
    use crate::wire::encode::Room;

    #[expect(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {
        /// How many octets of tables and long strings the arguments have.
        fn long_parts(&self) -> usize;

        /// Writes the arguments, without class and method number.
        fn write_arguments(&self, room: &mut Room<'_>);
    }
}
