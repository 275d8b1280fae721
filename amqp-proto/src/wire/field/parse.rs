//! Walking a table's octets: one entry at a time for readers, all of it and all levels for validation.

use nom::error::{ErrorKind, ParseError};
use nom::{IResult, Parser};

use super::{Decimal, FieldArrayRef, FieldTableRef, FieldValue, MAX_TABLE_DEPTH};
use crate::wire::octets::{field_table, fixed, long, long_string, longlong, octet, short, short_string};
use crate::wire::{ShortStr, TableError, TableProblem};

/// The entries of a table, in their order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    length: usize,
}

/// The items of an array, in their order; ends after the first error.
#[derive(Debug, Clone)]
pub struct Items<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Entries<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self {
            rest: octets,
            length: octets.len(),
        }
    }

    /// How many octets have been walked.
    pub(super) const fn position(&self) -> usize {
        self.length.saturating_sub(self.rest.len())
    }
}

impl<'a> Items<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self {
            rest: octets,
            length: octets.len(),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(ShortStr<'a>, FieldValue<'a>), TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        step(&mut self.rest, self.length, entry)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<FieldValue<'a>, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        step(&mut self.rest, self.length, value)
    }
}

/// Checks every entry of every level; `depth` levels are already open around this table.
pub(super) fn validate_table(octets: &[u8], depth: usize) -> Result<(), TableError> {
    let depth = deeper(depth)?;
    let mut entries = Entries::new(octets);
    while let Some(entry) = entries.next() {
        validate_value(entry?.1, depth).map_err(|error| shifted(error, entries.rest, octets))?;
    }
    Ok(())
}

/// The same for an array.
pub(super) fn validate_array(octets: &[u8], depth: usize) -> Result<(), TableError> {
    let depth = deeper(depth)?;
    let mut items = Items::new(octets);
    while let Some(item) = items.next() {
        validate_value(item?, depth).map_err(|error| shifted(error, items.rest, octets))?;
    }
    Ok(())
}

pub(super) fn validate_value(value: FieldValue<'_>, depth: usize) -> Result<(), NestedError> {
    let (result, length) = match value {
        FieldValue::Table(table) => (
            validate_table(table.as_encoded(), depth),
            table.as_encoded().len(),
        ),
        FieldValue::Array(array) => (
            validate_array(array.as_encoded(), depth),
            array.as_encoded().len(),
        ),
        _ => return Ok(()),
    };
    result.map_err(|error| NestedError { error, length })
}

/// An error inside a nested table or array, and how long that is: it ends where the walk of its parent stands.
pub(super) struct NestedError {
    pub(super) error: TableError,
    length: usize,
}

fn shifted(nested: NestedError, rest: &[u8], octets: &[u8]) -> TableError {
    let start = octets
        .len()
        .saturating_sub(rest.len().saturating_add(nested.length));
    TableError {
        offset: start.saturating_add(nested.error.offset),
        ..nested.error
    }
}

const fn deeper(depth: usize) -> Result<usize, TableError> {
    if depth >= MAX_TABLE_DEPTH {
        return Err(TableError {
            problem: TableProblem::TooDeep,
            offset: 0,
        });
    }
    Ok(depth.saturating_add(1))
}

/// One step of an iterator that ends with its first error.
#[inline]
fn step<'a, T>(
    rest: &mut &'a [u8],
    length: usize,
    parser: impl Fn(&'a [u8]) -> Parsed<'a, T>,
) -> Option<Result<T, TableError>> {
    if rest.is_empty() {
        return None;
    }
    match parser(rest) {
        Ok((remaining, item)) => {
            *rest = remaining;
            Some(Ok(item))
        }
        Err(error) => {
            *rest = &[];
            Some(Err(located(error, length)))
        }
    }
}

#[cold]
fn located(error: nom::Err<Failure<'_>>, length: usize) -> TableError {
    match error {
        nom::Err::Error(failure) | nom::Err::Failure(failure) => TableError {
            problem: failure.problem,
            offset: length.saturating_sub(failure.at.len()),
        },
        // The parsers here are complete ones: nothing gives this.
        nom::Err::Incomplete(_) => TableError {
            problem: TableProblem::Truncated,
            offset: length,
        },
    }
}

type Parsed<'a, T> = IResult<&'a [u8], T, Failure<'a>>;

struct Failure<'a> {
    problem: TableProblem,
    at: &'a [u8],
}

impl<'a> ParseError<&'a [u8]> for Failure<'a> {
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Failure {
            problem: TableProblem::Truncated,
            at,
        }
    }

    fn append(_: &'a [u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

#[inline]
fn entry(input: &[u8]) -> Parsed<'_, (ShortStr<'_>, FieldValue<'_>)> {
    (short_string, value).parse(input)
}

// Always: the value goes to its reader in one move instead of two.
#[inline(always)]
fn value(input: &[u8]) -> Parsed<'_, FieldValue<'_>> {
    let (rest, tag) = octet(input)?;
    match tag {
        b't' => octet.map(|value| FieldValue::Bool(value != 0)).parse(rest),
        b'b' => fixed
            .map(|octets| FieldValue::I8(i8::from_be_bytes(octets)))
            .parse(rest),
        b'B' => octet.map(FieldValue::U8).parse(rest),
        b's' | b'U' => fixed
            .map(|octets| FieldValue::I16(i16::from_be_bytes(octets)))
            .parse(rest),
        b'u' => short.map(FieldValue::U16).parse(rest),
        b'I' => fixed
            .map(|octets| FieldValue::I32(i32::from_be_bytes(octets)))
            .parse(rest),
        b'i' => long.map(FieldValue::U32).parse(rest),
        b'l' | b'L' => fixed
            .map(|octets| FieldValue::I64(i64::from_be_bytes(octets)))
            .parse(rest),
        b'f' => fixed
            .map(|octets| FieldValue::F32(f32::from_be_bytes(octets)))
            .parse(rest),
        b'd' => fixed
            .map(|octets| FieldValue::F64(f64::from_be_bytes(octets)))
            .parse(rest),
        b'D' => (octet, long)
            .map(|(scale, raw)| FieldValue::Decimal(Decimal { scale, raw }))
            .parse(rest),
        b'S' => long_string.map(FieldValue::LongStr).parse(rest),
        b'x' => long_string.map(FieldValue::ByteArray).parse(rest),
        b'T' => longlong.map(FieldValue::Timestamp).parse(rest),
        b'A' => long_string
            .map(|octets| FieldValue::Array(FieldArrayRef::from_encoded(octets)))
            .parse(rest),
        b'F' => field_table
            .map(|table: FieldTableRef<'_>| FieldValue::Table(table))
            .parse(rest),
        b'V' => Ok((rest, FieldValue::Void)),
        unknown => Err(nom::Err::Failure(Failure {
            problem: TableProblem::UnknownType(unknown),
            at: input,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const fn error(problem: TableProblem, offset: usize) -> TableError {
        TableError { problem, offset }
    }

    /// Each entry has the key `k`, so that its type octet is at offset 2 and its value at 3.
    #[test]
    fn what_is_wrong_is_found_at_its_octet() {
        for (octets, expected) in [
            (&b"\x05k"[..], error(TableProblem::Truncated, 1)),
            (b"\x01k", error(TableProblem::Truncated, 2)),
            (b"\x01kt", error(TableProblem::Truncated, 3)),
            (b"\x01ks\0", error(TableProblem::Truncated, 3)),
            (b"\x01kI\0\0\0", error(TableProblem::Truncated, 3)),
            (b"\x01kl\0\0\0\0\0\0\0", error(TableProblem::Truncated, 3)),
            (b"\x01kD\x02\0\0\0", error(TableProblem::Truncated, 4)),
            (b"\x01kS\0\0\0", error(TableProblem::Truncated, 3)),
            (b"\x01kS\0\0\0\x02a", error(TableProblem::Truncated, 7)),
            (b"\x01kF\xff\xff\xff\xff", error(TableProblem::Truncated, 7)),
            (b"\x01kA\0\0\0\x01", error(TableProblem::Truncated, 7)),
            (b"\x01k?", error(TableProblem::UnknownType(b'?'), 2)),
            (b"\x01kV\x01k\0", error(TableProblem::UnknownType(0), 5)),
        ] {
            let table = FieldTableRef::from_encoded(octets);
            assert_eq!(table.validate(), Err(expected), "{octets:?}");
            let mut entries = table.iter();
            assert_eq!(entries.find_map(Result::err), Some(expected), "{octets:?}");
            assert_eq!(entries.next(), None);
        }
    }

    #[test]
    fn an_error_inside_counts_from_the_outermost_entry() {
        // a: void, b: table { c: array [ true, table { d: ? } ], after it: e: void }, f: void
        let octets = b"\x01aV\x01bF\0\0\0\x14\x01cA\0\0\0\x0at\x01F\0\0\0\x03\x01d?\x01eV\x01fV";
        let table = FieldTableRef::from_encoded(octets);
        assert_eq!(table.iter().filter(Result::is_ok).count(), 3);
        assert_eq!(table.validate(), Err(error(TableProblem::UnknownType(b'?'), 26)));
    }

    #[test]
    fn the_letters_of_others_are_read() {
        let table =
            FieldTableRef::from_encoded(b"\x01kU\xff\xfe\x01kL\xff\xff\xff\xff\xff\xff\xff\xfe\x01kt\x02");
        let values: Vec<_> = table.iter().map(|entry| entry.unwrap().1).collect();
        assert_eq!(
            values,
            [FieldValue::I16(-2), FieldValue::I64(-2), FieldValue::Bool(true)]
        );
    }
}
