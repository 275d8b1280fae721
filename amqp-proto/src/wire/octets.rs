//! The elementary domains (specification 4.2.5) as nom parsers over octets that are all there: what a frame's payload or a
//! table delimits is complete, so that "incomplete" can only mean malformed.

use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult, Parser};

use super::{FieldTableRef, ShortStr};

/// `N` octets. Every integer goes through here: one bounds check each.
#[inline]
pub(super) fn fixed<'a, const N: usize, E: ParseError<&'a [u8]>>(
    input: &'a [u8],
) -> IResult<&'a [u8], [u8; N], E> {
    match input.split_first_chunk::<N>() {
        Some((octets, rest)) => Ok((rest, *octets)),
        None => Err(Err::Error(E::from_error_kind(input, ErrorKind::Eof))),
    }
}

macro_rules! integers {
    ($($name:ident: $type:ty),+) => {
        $(
            #[inline]
            pub(super) fn $name<'a, E: ParseError<&'a [u8]>>(input: &'a [u8]) -> IResult<&'a [u8], $type, E> {
                fixed.map(<$type>::from_be_bytes).parse(input)
            }
        )+
    };
}

integers!(octet: u8, short: u16, long: u32, longlong: u64);

/// As many octets as a length says.
#[inline]
fn delimited<'a, E: ParseError<&'a [u8]>>(input: &'a [u8], length: usize) -> IResult<&'a [u8], &'a [u8], E> {
    match input.split_at_checked(length) {
        Some((octets, rest)) => Ok((rest, octets)),
        None => Err(Err::Error(E::from_error_kind(input, ErrorKind::Eof))),
    }
}

/// An octet of length, then as many octets.
#[inline]
pub(super) fn short_string<'a, E: ParseError<&'a [u8]>>(
    input: &'a [u8],
) -> IResult<&'a [u8], ShortStr<'a>, E> {
    let (input, length) = octet(input)?;
    let (rest, octets) = delimited(input, length.into())?;
    Ok((rest, ShortStr::delimited(octets)))
}

/// Four octets of length, then as many octets.
#[inline]
pub(super) fn long_string<'a, E: ParseError<&'a [u8]>>(input: &'a [u8]) -> IResult<&'a [u8], &'a [u8], E> {
    let (input, length) = long(input)?;
    delimited(input, length as usize)
}

/// A field table: its length is checked, its entries are not looked at.
#[inline]
pub(super) fn field_table<'a, E: ParseError<&'a [u8]>>(
    input: &'a [u8],
) -> IResult<&'a [u8], FieldTableRef<'a>, E> {
    long_string.map(FieldTableRef::from_encoded).parse(input)
}
