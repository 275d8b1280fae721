//! Reading a method's arguments.

use nom::error::{ErrorKind, ParseError};

use super::octets;
use super::{FieldTableRef, LongStr, Problem, ProtocolError, ReplyCode, SecretStr, ShortStr};

/// Walks the octets of one frame's payload. Bits that follow each other share an octet, the first in its lowest bit.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
    end: usize,
    bits: u8,
    bits_left: u8,
}

/// Why a value could not be read, and how many octets before the end of the payload.
pub(super) struct Failure {
    problem: Problem,
    left: usize,
}

impl<'a> ParseError<&'a [u8]> for Failure {
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Self {
            problem: Problem::Truncated,
            left: at.len(),
        }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

macro_rules! domains {
    ($($name:ident -> $type:ty = $parser:path;)+) => {
        $(
            #[inline]
            pub(super) fn $name(&mut self) -> Result<$type, Failure> {
                self.bits_left = 0;
                self.parse($parser)
            }
        )+
    };
}

impl<'a> Decoder<'a> {
    /// `offset` is where the payload begins in its frame.
    #[inline]
    pub(super) const fn new(payload: &'a [u8], offset: usize) -> Self {
        Self {
            rest: payload,
            end: offset.saturating_add(payload.len()),
            bits: 0,
            bits_left: 0,
        }
    }

    #[inline]
    fn parse<T>(
        &mut self,
        parser: impl Fn(&'a [u8]) -> nom::IResult<&'a [u8], T, Failure>,
    ) -> Result<T, Failure> {
        match parser(self.rest) {
            Ok((rest, value)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(nom::Err::Error(failure) | nom::Err::Failure(failure)) => Err(failure),
            // The parsers are complete ones: nothing gives this.
            Err(nom::Err::Incomplete(_)) => Err(Failure {
                problem: Problem::Truncated,
                left: self.rest.len(),
            }),
        }
    }

    domains! {
        octet -> u8 = octets::octet;
        short -> u16 = octets::short;
        long -> u32 = octets::long;
        longlong -> u64 = octets::longlong;
        shortstr -> ShortStr<'a> = octets::short_string;
        octets -> &'a [u8] = octets::long_string;
    }

    #[inline]
    pub(super) fn bit(&mut self) -> Result<bool, Failure> {
        if self.bits_left == 0 {
            self.bits = self.octet()?;
            self.bits_left = 8;
        }
        let value = self.bits & 1 == 1;
        self.bits >>= 1;
        self.bits_left = self.bits_left.saturating_sub(1);
        Ok(value)
    }

    #[inline]
    pub(super) fn reply_code(&mut self) -> Result<ReplyCode, Failure> {
        self.short().map(ReplyCode)
    }

    #[inline]
    pub(super) fn longstr(&mut self) -> Result<LongStr<'a>, Failure> {
        self.octets().map(LongStr::new)
    }

    #[inline]
    pub(super) fn secret(&mut self) -> Result<SecretStr<'a>, Failure> {
        self.octets().map(SecretStr::new)
    }

    /// A table in a method is walked at once: what it configures must be understood now or never.
    #[inline]
    pub(super) fn table(&mut self) -> Result<FieldTableRef<'a>, Failure> {
        let table = FieldTableRef::from_encoded(self.octets()?);
        match table.validate() {
            Ok(()) => Ok(table),
            Err(error) => Err(Failure {
                problem: Problem::Table(error.problem),
                left: self
                    .rest
                    .len()
                    .saturating_add(table.as_encoded().len().saturating_sub(error.offset)),
            }),
        }
    }

    /// Checks that nothing is left.
    #[inline]
    pub(super) fn finish(self, place: &'static str) -> Result<(), ProtocolError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.trailing(place))
        }
    }

    #[cold]
    fn trailing(self, place: &'static str) -> ProtocolError {
        ProtocolError::new(
            Problem::Trailing(self.rest.len()),
            place,
            self.end.saturating_sub(self.rest.len()),
        )
    }

    /// Gives a failure its place and its offset in the frame.
    #[cold]
    pub(super) fn located(&self, failure: Failure, place: &'static str) -> ProtocolError {
        ProtocolError::new(failure.problem, place, self.end.saturating_sub(failure.left))
    }
}
