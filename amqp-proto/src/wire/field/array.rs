//! Arrays, owned and borrowed, and the writing of values.

use alloc::vec::Vec;
use core::fmt;

use super::parse::{validate_array, validate_value};
use super::value::FieldValue;
use super::{FieldError, Items};
use crate::wire::TableError;
use crate::wire::encode::long_string;

/// A field array to build and keep, in encoded form: always valid.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldArray {
    encoded: Vec<u8>,
}

/// A field array somewhere in a buffer, in encoded form. Nothing was checked but its length, so reading may fail.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FieldArrayRef<'a> {
    encoded: &'a [u8],
}

impl FieldArray {
    /// An empty array; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded: Vec::new() }
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// A number that is not finite, a nested table that cannot be read or is too deep. The array is unchanged then.
    pub fn push<'v>(&mut self, value: impl Into<FieldValue<'v>>) -> Result<(), FieldError> {
        let before = self.encoded.len();
        write_value(&mut self.encoded, value.into())
            .and_then(|()| {
                u32::try_from(self.encoded.len()).map_err(|_| FieldError::TooLarge(self.encoded.len()))
            })
            .inspect_err(|_| self.encoded.truncate(before))?;
        Ok(())
    }

    /// The items, in their order.
    pub fn iter(&self) -> impl Iterator<Item = FieldValue<'_>> {
        self.as_ref().iter().flatten()
    }

    /// Whether there are no items.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The same array, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> FieldArrayRef<'_> {
        FieldArrayRef {
            encoded: &self.encoded,
        }
    }
}

impl<'a> FieldArrayRef<'a> {
    /// Octets as they stand on the wire, without the four of the length. Nothing is checked.
    #[must_use]
    pub const fn from_encoded(encoded: &'a [u8]) -> Self {
        Self { encoded }
    }

    /// The octets as they stand on the wire, without the four of the length.
    #[must_use]
    pub const fn as_encoded(self) -> &'a [u8] {
        self.encoded
    }

    /// The items, in their order, nested tables unread.
    #[must_use]
    pub const fn iter(self) -> Items<'a> {
        Items::new(self.encoded)
    }

    /// Whether there are no items.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.encoded.is_empty()
    }

    /// Reads every item of every level once.
    ///
    /// # Errors
    /// The first thing that cannot be read, or a depth over [`MAX_TABLE_DEPTH`](super::MAX_TABLE_DEPTH).
    pub fn validate(self) -> Result<(), TableError> {
        validate_array(self.encoded, 0)
    }
}

impl<'a> IntoIterator for FieldArrayRef<'a> {
    type Item = Result<FieldValue<'a>, TableError>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl fmt::Debug for FieldArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

/// Writes type octet and value, as an entry of a table or array that is itself not nested.
///
/// An owned table can be put into another one, so its depth must leave room for what is put around it: each insertion
/// checks the value as if one level were open around it.
pub(super) fn write_value(out: &mut Vec<u8>, value: FieldValue<'_>) -> Result<(), FieldError> {
    validate_value(value, 1).map_err(|nested| FieldError::Nested(nested.error))?;
    if !value.as_f64().is_none_or(f64::is_finite) {
        return Err(FieldError::NotFinite);
    }
    out.push(value.type_octet());
    match value {
        FieldValue::Bool(value) => out.push(u8::from(value)),
        FieldValue::I8(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::U8(value) => out.push(value),
        FieldValue::I16(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::U16(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::I32(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::U32(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::I64(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::F32(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::F64(value) => out.extend_from_slice(&value.to_be_bytes()),
        FieldValue::Decimal(decimal) => {
            out.push(decimal.scale);
            out.extend_from_slice(&decimal.raw.to_be_bytes());
        }
        FieldValue::LongStr(octets) | FieldValue::ByteArray(octets) => write_octets(out, octets)?,
        FieldValue::Timestamp(seconds) => out.extend_from_slice(&seconds.to_be_bytes()),
        FieldValue::Array(array) => write_octets(out, array.as_encoded())?,
        FieldValue::Table(table) => write_octets(out, table.as_encoded())?,
        FieldValue::Void => {}
    }
    Ok(())
}

fn write_octets(out: &mut Vec<u8>, octets: &[u8]) -> Result<(), FieldError> {
    u32::try_from(octets.len()).map_err(|_| FieldError::TooLarge(octets.len()))?;
    long_string(out, octets);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Decimal, FieldTable, FieldTableRef, TableProblem};
    use alloc::format;

    /// An array in an array, and so on: `depth` arrays in all.
    fn nested(depth: usize) -> Vec<u8> {
        (1..depth).fold(Vec::new(), |inner, _| {
            let mut outer = b"A".to_vec();
            outer.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
            outer.extend_from_slice(&inner);
            outer
        })
    }

    #[test]
    fn every_type_is_written_with_its_letter_in_network_order() {
        let table = FieldTable::new().with("k", true).unwrap();
        let mut inner = FieldArray::new();
        inner.push(FieldValue::Void).unwrap();
        for (value, expected) in [
            (FieldValue::Bool(true), &b"t\x01"[..]),
            (FieldValue::Bool(false), b"t\0"),
            (FieldValue::I8(-2), b"b\xfe"),
            (FieldValue::U8(254), b"B\xfe"),
            (FieldValue::I16(-2), b"s\xff\xfe"),
            (FieldValue::U16(0x1234), b"u\x12\x34"),
            (FieldValue::I32(-2), b"I\xff\xff\xff\xfe"),
            (FieldValue::U32(0x1234_5678), b"i\x12\x34\x56\x78"),
            (FieldValue::I64(-2), b"l\xff\xff\xff\xff\xff\xff\xff\xfe"),
            (FieldValue::F32(1.0), b"f\x3f\x80\0\0"),
            (FieldValue::F64(1.0), b"d\x3f\xf0\0\0\0\0\0\0"),
            (
                FieldValue::Decimal(Decimal { scale: 2, raw: 314 }),
                b"D\x02\0\0\x01\x3a",
            ),
            (FieldValue::LongStr(b"ab"), b"S\0\0\0\x02ab"),
            (FieldValue::ByteArray(b"\0\xff"), b"x\0\0\0\x02\0\xff"),
            (FieldValue::Timestamp(1), b"T\0\0\0\0\0\0\0\x01"),
            (FieldValue::Array(inner.as_ref()), b"A\0\0\0\x01V"),
            (FieldValue::Table(table.as_ref()), b"F\0\0\0\x04\x01kt\x01"),
            (FieldValue::Void, b"V"),
        ] {
            let mut array = FieldArray::new();
            assert!(array.is_empty() && array.as_ref().is_empty());
            array.push(value).unwrap();
            assert!(!array.is_empty() && !array.as_ref().is_empty());
            assert_eq!(array.as_ref().as_encoded(), expected);
            assert_eq!(array.iter().collect::<Vec<_>>(), [value]);
        }
    }

    #[test]
    fn a_refused_item_changes_nothing() {
        let mut array = FieldArray::new();
        array.push(1_u8).unwrap();
        assert_eq!(array.push(f32::NAN), Err(FieldError::NotFinite));
        assert_eq!(array.push(f64::NEG_INFINITY), Err(FieldError::NotFinite));
        let unreadable = FieldValue::Table(FieldTableRef::from_encoded(b"\x05k"));
        assert!(matches!(array.push(unreadable), Err(FieldError::Nested(_))));
        assert_eq!(array.as_ref().as_encoded(), b"B\x01");
        array.push("after").unwrap();
        assert_eq!(format!("{array:?}"), r#"[1, "after"]"#);
    }

    #[test]
    fn an_array_takes_what_leaves_it_64_levels_and_no_more() {
        let mut array = FieldArray::new();
        let deepest = nested(63);
        array
            .push(FieldValue::Array(FieldArrayRef::from_encoded(&deepest)))
            .unwrap();
        array.as_ref().validate().unwrap();

        let too_deep = nested(64);
        FieldArrayRef::from_encoded(&too_deep).validate().unwrap();
        let error = TableError {
            problem: TableProblem::TooDeep,
            offset: 63 * 5,
        };
        assert_eq!(
            array.push(FieldValue::Array(FieldArrayRef::from_encoded(&too_deep))),
            Err(FieldError::Nested(error))
        );
        assert_eq!(array.iter().count(), 1);
        assert_eq!(
            FieldArrayRef::from_encoded(&nested(65)).validate(),
            Err(TableError {
                problem: TableProblem::TooDeep,
                offset: 64 * 5
            })
        );
    }

    #[test]
    fn an_unreadable_item_ends_the_array() {
        let array = FieldArrayRef::from_encoded(b"t\x01?t\x01");
        let error = TableError {
            problem: TableProblem::UnknownType(b'?'),
            offset: 2,
        };
        let items: Vec<_> = array.into_iter().collect();
        assert_eq!(items, [Ok(FieldValue::Bool(true)), Err(error)]);
        assert_eq!(array.validate(), Err(error));
        assert_eq!(
            format!("{array:?}"),
            "[true, <unknown field type 0x3f (octet 2 of the table)>]"
        );
    }
}
