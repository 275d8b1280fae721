//! One value of a field table, and how it looks.

use core::fmt;

use super::{Entries, FieldArray, FieldArrayRef, FieldTable, FieldTableRef, Items, MAX_TABLE_DEPTH};
use crate::wire::text::Printable;

/// A value in a field table or array, with the type octet that RabbitMQ reads and writes for it.
///
/// RabbitMQ and the specification differ here (RabbitMQ's errata, "field types"): `s` is a 16-bit integer, `l` is signed, `x` exists, and `U`
/// ends the connection. Of the letters that RabbitMQ only reads or only others write, `L` is read as a signed 64-bit
/// integer and `U` as a signed 16-bit one; neither is ever written anew; a table or array of a
/// peer's that is put into another one is copied as it is.
#[derive(Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum FieldValue<'a> {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s` (`U` when read)
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` (`L` when read)
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`
    Decimal(Decimal),
    /// `S`: text by convention, any octets in fact.
    LongStr(&'a [u8]),
    /// `x`: octets that are no text.
    ByteArray(&'a [u8]),
    /// `T`: seconds since 1970-01-01 UTC.
    Timestamp(u64),
    /// `A`
    Array(FieldArrayRef<'a>),
    /// `F`
    Table(FieldTableRef<'a>),
    /// `V`
    Void,
}

/// A decimal number as the wire has it: `raw / 10^scale`. Clients disagree whether the 32 bits are signed (the
/// specification says so, RabbitMQ reads them unsigned), so they are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// How many of the digits stand behind the point.
    pub scale: u8,
    /// The digits.
    pub raw: u32,
}

impl<'a> FieldValue<'a> {
    /// The text of a long string, if this is one and it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        core::str::from_utf8(self.as_bytes()?).ok()
    }

    /// The octets of a long string or byte array.
    #[must_use]
    pub const fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::LongStr(octets) | Self::ByteArray(octets) => Some(octets),
            _ => None,
        }
    }

    /// Any of the integers.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Self::I8(value) => value.into(),
            Self::U8(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I64(value) => value,
            _ => return None,
        })
    }

    /// Either of the floating-point numbers.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(value) => Some(value.into()),
            Self::F64(value) => Some(value),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A nested table.
    #[must_use]
    pub const fn as_table(&self) -> Option<FieldTableRef<'a>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// A nested array.
    #[must_use]
    pub const fn as_array(&self) -> Option<FieldArrayRef<'a>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The type octet that this is written with.
    #[must_use]
    pub const fn type_octet(&self) -> u8 {
        match self {
            Self::Bool(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal(_) => b'D',
            Self::LongStr(_) => b'S',
            Self::ByteArray(_) => b'x',
            Self::Timestamp(_) => b'T',
            Self::Array(_) => b'A',
            Self::Table(_) => b'F',
            Self::Void => b'V',
        }
    }
}

macro_rules! conversions {
    ($($type:ty => $variant:ident),+) => {
        $(impl From<$type> for FieldValue<'_> {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        })+
    };
}

conversions!(bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    f32 => F32, f64 => F64, Decimal => Decimal);

impl<'a> From<&'a str> for FieldValue<'a> {
    fn from(text: &'a str) -> Self {
        Self::LongStr(text.as_bytes())
    }
}

impl<'a> From<&'a FieldTable> for FieldValue<'a> {
    fn from(table: &'a FieldTable) -> Self {
        Self::Table(table.as_ref())
    }
}

impl<'a> From<&'a FieldArray> for FieldValue<'a> {
    fn from(array: &'a FieldArray) -> Self {
        Self::Array(array.as_ref())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}e-{}", self.raw, self.scale)
    }
}

impl fmt::Display for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(f, *self, 1)
    }
}

impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for FieldTableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_table(f, self.iter(), 1)
    }
}

impl fmt::Debug for FieldArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_array(f, self.iter(), 1)
    }
}

/// Text in quotes, other octets as hex, numbers bare: enough to read, with no type letters in the way.
fn write_value(f: &mut fmt::Formatter<'_>, value: FieldValue<'_>, depth: usize) -> fmt::Result {
    match value {
        FieldValue::Bool(value) => write!(f, "{value}"),
        FieldValue::I8(value) => write!(f, "{value}"),
        FieldValue::U8(value) => write!(f, "{value}"),
        FieldValue::I16(value) => write!(f, "{value}"),
        FieldValue::U16(value) => write!(f, "{value}"),
        FieldValue::I32(value) => write!(f, "{value}"),
        FieldValue::U32(value) => write!(f, "{value}"),
        FieldValue::I64(value) => write!(f, "{value}"),
        FieldValue::F32(value) => write!(f, "{value:?}"),
        FieldValue::F64(value) => write!(f, "{value:?}"),
        FieldValue::Decimal(value) => write!(f, "{value}"),
        FieldValue::LongStr(octets) => write!(f, "{}", Printable(octets)),
        FieldValue::ByteArray(octets) => {
            f.write_str("0x")?;
            octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
        }
        FieldValue::Timestamp(seconds) => write!(f, "@{seconds}"),
        FieldValue::Array(array) => write_array(f, array.iter(), depth.saturating_add(1)),
        FieldValue::Table(table) => write_table(f, table.iter(), depth.saturating_add(1)),
        FieldValue::Void => f.write_str("void"),
    }
}

fn write_table(f: &mut fmt::Formatter<'_>, entries: Entries<'_>, depth: usize) -> fmt::Result {
    if depth > MAX_TABLE_DEPTH {
        return f.write_str("{…}");
    }
    f.write_str("{")?;
    for (i, entry) in entries.enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        match entry {
            Ok((key, value)) => {
                write!(f, "{key:?}: ")?;
                write_value(f, value, depth)?;
            }
            Err(error) => write!(f, "<{error}>")?,
        }
    }
    f.write_str("}")
}

fn write_array(f: &mut fmt::Formatter<'_>, items: Items<'_>, depth: usize) -> fmt::Result {
    if depth > MAX_TABLE_DEPTH {
        return f.write_str("[…]");
    }
    f.write_str("[")?;
    for (i, item) in items.enumerate() {
        f.write_str(if i == 0 { "" } else { ", " })?;
        match item {
            Ok(value) => write_value(f, value, depth)?,
            Err(error) => write!(f, "<{error}>")?,
        }
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    const OCTETS: &[u8] = b"\x01kt\x01";

    /// One value of each type: as text, as integer, as floating-point number, as octets.
    #[test]
    fn each_accessor_takes_its_types_and_no_other() {
        let table = FieldTableRef::from_encoded(OCTETS);
        let array = FieldArrayRef::from_encoded(b"VV");
        for (value, text, integer, float, octets) in [
            (FieldValue::Bool(true), "true", None, None, None),
            (FieldValue::I8(-8), "-8", Some(-8), None, None),
            (FieldValue::U8(200), "200", Some(200), None, None),
            (FieldValue::I16(-300), "-300", Some(-300), None, None),
            (FieldValue::U16(65535), "65535", Some(65535), None, None),
            (
                FieldValue::I32(i32::MIN),
                "-2147483648",
                Some(i32::MIN.into()),
                None,
                None,
            ),
            (
                FieldValue::U32(u32::MAX),
                "4294967295",
                Some(u32::MAX.into()),
                None,
                None,
            ),
            (
                FieldValue::I64(i64::MIN),
                "-9223372036854775808",
                Some(i64::MIN),
                None,
                None,
            ),
            (FieldValue::F32(0.5), "0.5", None, Some(0.5), None),
            (FieldValue::F64(-1e300), "-1e300", None, Some(-1e300), None),
            (
                FieldValue::Decimal(Decimal { scale: 2, raw: 314 }),
                "314e-2",
                None,
                None,
                None,
            ),
            (
                FieldValue::LongStr(b"a\"\n"),
                r#""a\"\n""#,
                None,
                None,
                Some(&b"a\"\n"[..]),
            ),
            (
                FieldValue::ByteArray(b"\0\xff"),
                "0x00ff",
                None,
                None,
                Some(b"\0\xff"),
            ),
            (FieldValue::Timestamp(17), "@17", None, None, None),
            (FieldValue::Array(array), "[void, void]", None, None, None),
            (FieldValue::Table(table), r#"{"k": true}"#, None, None, None),
            (FieldValue::Void, "void", None, None, None),
        ] {
            assert_eq!(format!("{value}"), text);
            assert_eq!(format!("{value:?}"), text);
            assert_eq!(value.as_i64(), integer, "{value}");
            assert_eq!(value.as_f64(), float, "{value}");
            assert_eq!(value.as_bytes(), octets, "{value}");
            assert_eq!(
                value.as_str(),
                octets.and_then(|octets| core::str::from_utf8(octets).ok())
            );
            assert_eq!(value.as_bool(), (value.type_octet() == b't').then_some(true));
            assert_eq!(value.as_table(), (value.type_octet() == b'F').then_some(table));
            assert_eq!(value.as_array(), (value.type_octet() == b'A').then_some(array));
        }
        assert_eq!(FieldValue::Bool(false).as_bool(), Some(false));
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_such() {
        let table = FieldTableRef::from_encoded(b"\x01kt\x01\x01k?");
        assert_eq!(
            format!("{table:?}"),
            r#"{"k": true, <unknown field type 0x3f (octet 6 of the table)>}"#
        );
    }

    #[test]
    fn printing_stops_at_64_levels() {
        for (tag, open, hidden, close) in [("\x01kF", r#"{"k": "#, "{…}", "}"), ("A", "[", "[…]", "]")] {
            let octets = (0..70).fold(Vec::new(), |inner, _| {
                let mut outer = tag.as_bytes().to_vec();
                outer.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
                outer.extend_from_slice(&inner);
                outer
            });
            let text = if tag == "A" {
                format!("{:?}", FieldArrayRef::from_encoded(&octets))
            } else {
                format!("{:?}", FieldTableRef::from_encoded(&octets))
            };
            assert_eq!(text, format!("{}{hidden}{}", open.repeat(64), close.repeat(64)));
        }
    }

    #[test]
    fn owned_tables_and_arrays_are_values() {
        let table = FieldTable::new().with("k", true).unwrap();
        assert_eq!(
            FieldValue::from(&table),
            FieldValue::Table(FieldTableRef::from_encoded(OCTETS))
        );
        let mut array = FieldArray::new();
        array.push(true).unwrap();
        assert_eq!(
            FieldValue::from(&array),
            FieldValue::Array(FieldArrayRef::from_encoded(b"t\x01"))
        );
    }
}
