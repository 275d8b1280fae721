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
