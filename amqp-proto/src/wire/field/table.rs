//! The table itself, owned and borrowed.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use super::array::write_value;
use super::parse::validate_table;
use super::value::FieldValue;
use super::{Entries, FieldError};
use crate::wire::encode::short_string;
use crate::wire::{ShortStr, TableError};

/// A field table to build and keep, in encoded form: always valid.
///
/// ```
/// use amqp_proto::wire::FieldTable;
///
/// let mut arguments = FieldTable::new();
/// arguments.insert("x-queue-type", "quorum")?;
/// arguments.insert("x-delivery-limit", 5)?;
/// assert_eq!(arguments.get("x-delivery-limit").and_then(|value| value.as_i64()), Some(5));
/// assert_eq!(format!("{arguments:?}"), r#"{"x-queue-type": "quorum", "x-delivery-limit": 5}"#);
/// # Ok::<(), amqp_proto::wire::FieldError>(())
/// ```
///
/// Two tables are equal if their octets are: same entries, same types, same order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldTable {
    encoded: Vec<u8>,
}

/// A field table somewhere in a buffer, in encoded form. Nothing was checked but its length, so reading may fail.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FieldTableRef<'a> {
    encoded: &'a [u8],
}

impl FieldTable {
    /// An empty table; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { encoded: Vec::new() }
    }

    /// Sets a key: an entry of that name is replaced where it stands, a new one goes to the end. A nested table that came from
    /// a peer is copied as it is, with the letters and numbers of [`FieldTableRef::to_owned`] in it.
    ///
    /// # Errors
    /// A key over 255 octets, a number that is not finite, a nested table that cannot be read or is too deep. The table is
    /// unchanged then.
    pub fn insert<'v>(&mut self, key: &str, value: impl Into<FieldValue<'v>>) -> Result<(), FieldError> {
        let key = ShortStr::new(key)?;
        let mut entry = Vec::new();
        short_string(&mut entry, key);
        write_value(&mut entry, value.into())?;
        let place = self.find(key).unwrap_or(self.encoded.len()..self.encoded.len());
        let size = self
            .encoded
            .len()
            .saturating_sub(place.len())
            .saturating_add(entry.len());
        u32::try_from(size).map_err(|_| FieldError::TooLarge(size))?;
        self.encoded.splice(place, entry);
        Ok(())
    }

    /// [`insert`](Self::insert), for chains.
    ///
    /// # Errors
    /// As `insert`.
    pub fn with<'v>(mut self, key: &str, value: impl Into<FieldValue<'v>>) -> Result<Self, FieldError> {
        self.insert(key, value)?;
        Ok(self)
    }

    /// Takes a key out and says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let Ok(key) = ShortStr::new(key) else { return false };
        let Some(place) = self.find(key) else { return false };
        self.encoded.drain(place);
        true
    }

    /// The value of a key. Of entries with the same key, which only a peer can write, the first.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<FieldValue<'_>> {
        self.as_ref().get(key).ok().flatten()
    }

    /// The entries, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (ShortStr<'_>, FieldValue<'_>)> {
        self.as_ref().iter().flatten()
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The same table, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> FieldTableRef<'_> {
        FieldTableRef {
            encoded: &self.encoded,
        }
    }

    /// Where the first entry of that name stands.
    fn find(&self, key: ShortStr<'_>) -> Option<Range<usize>> {
        let mut entries = Entries::new(&self.encoded);
        let mut start = 0;
        while let Some(Ok((name, _))) = entries.next() {
            if name == key {
                return Some(start..entries.position());
            }
            start = entries.position();
        }
        None
    }
}

impl<'a> FieldTableRef<'a> {
    /// A table without entries.
    pub const EMPTY: Self = Self { encoded: &[] };

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

    /// The entries, in their order, nested tables unread.
    #[must_use]
    pub const fn iter(self) -> Entries<'a> {
        Entries::new(self.encoded)
    }

    /// The value of a key. Of entries with the same key, the first, as RabbitMQ 4 has it.
    ///
    /// # Errors
    /// Where an entry before it cannot be read.
    pub fn get(self, key: &str) -> Result<Option<FieldValue<'a>>, TableError> {
        for entry in self.iter() {
            let (name, value) = entry?;
            if name == key {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.encoded.is_empty()
    }

    /// Reads every entry of every level once.
    ///
    /// # Errors
    /// The first thing that cannot be read, or a depth over [`MAX_TABLE_DEPTH`](super::MAX_TABLE_DEPTH).
    pub fn validate(self) -> Result<(), TableError> {
        validate_table(self.encoded, 0)
    }

    /// A copy to keep, of the very octets: what [`insert`](FieldTable::insert) would refuse or not write stays in it, equal
    /// keys, numbers that are not finite, the letters `U` and `L`. RabbitMQ ends the connection of a client that sends `U`,
    /// NaN or an infinity.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn to_owned(self) -> Result<FieldTable, TableError> {
        self.validate()?;
        Ok(FieldTable {
            encoded: self.encoded.to_vec(),
        })
    }
}

impl<'a> IntoIterator for FieldTableRef<'a> {
    type Item = Result<(ShortStr<'a>, FieldValue<'a>), TableError>;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

impl<'a> From<&'a FieldTable> for FieldTableRef<'a> {
    fn from(table: &'a FieldTable) -> Self {
        table.as_ref()
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FieldArray, TableProblem, TooLong};
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::{format, vec::Vec};

    fn three() -> FieldTable {
        FieldTable::new()
            .with("a", 1_u8)
            .and_then(|table| table.with("b", "two"))
            .and_then(|table| table.with("c", true))
            .unwrap()
    }

    /// A table with one entry `k` that holds a table, and so on: `depth` tables in all.
    fn nested(depth: usize) -> Vec<u8> {
        (1..depth).fold(Vec::new(), |inner, _| {
            let mut outer = b"\x01kF".to_vec();
            outer.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
            outer.extend_from_slice(&inner);
            outer
        })
    }

    fn keys(table: &FieldTable) -> Vec<&str> {
        table.iter().map(|(key, _)| key.to_str().unwrap()).collect()
    }

    #[test]
    fn an_insert_replaces_where_the_entry_stands_whatever_the_lengths() {
        for (key, value, expected) in [
            (
                "a",
                FieldValue::from("longer than before"),
                r#"{"a": "longer than before", "b": "two", "c": true}"#,
            ),
            ("b", FieldValue::Void, r#"{"a": 1, "b": void, "c": true}"#),
            ("c", FieldValue::from(-5_i64), r#"{"a": 1, "b": "two", "c": -5}"#),
            (
                "d",
                FieldValue::from(2.5_f64),
                r#"{"a": 1, "b": "two", "c": true, "d": 2.5}"#,
            ),
            (
                "",
                FieldValue::from("no key"),
                r#"{"a": 1, "b": "two", "c": true, "": "no key"}"#,
            ),
        ] {
            let mut table = three();
            table.insert(key, value).unwrap();
            assert_eq!(format!("{table:?}"), expected);
            assert_eq!(table.get(key), Some(value));
            table.as_ref().validate().unwrap();
        }
    }

    #[test]
    fn a_removed_entry_leaves_the_others() {
        for (key, left) in [("a", ["b", "c"]), ("b", ["a", "c"]), ("c", ["a", "b"])] {
            let mut table = three();
            assert!(table.remove(key));
            assert_eq!(keys(&table), left);
            assert_eq!(table.get(key), None);
            assert!(!table.remove(key));
            assert_eq!(keys(&table), left);
        }
        let mut table = three();
        assert!(!table.remove(&"k".repeat(256)));
        assert_eq!(table, three());
    }

    #[test]
    fn of_equal_keys_the_first_counts() {
        let octets = b"\x01ab\x01\x01bb\x02\x01ab\x03";
        let borrowed = FieldTableRef::from_encoded(octets);
        assert_eq!(borrowed.get("a"), Ok(Some(FieldValue::I8(1))));
        let mut table = borrowed.to_owned().unwrap();
        assert_eq!(table.get("a"), Some(FieldValue::I8(1)));
        table.insert("a", 9_i8).unwrap();
        assert_eq!(table.as_ref().as_encoded(), b"\x01ab\x09\x01bb\x02\x01ab\x03");
        assert!(table.remove("a"));
        assert_eq!(table.as_ref().as_encoded(), b"\x01bb\x02\x01ab\x03");
        assert_eq!(table.get("a"), Some(FieldValue::I8(3)));
    }

    #[test]
    fn what_stands_before_an_unreadable_entry_can_be_got() {
        let table = FieldTableRef::from_encoded(b"\x01ab\x01\x01b?\x01cb\x03");
        assert_eq!(table.get("a"), Ok(Some(FieldValue::I8(1))));
        let error = TableError {
            problem: TableProblem::UnknownType(b'?'),
            offset: 6,
        };
        assert_eq!(table.get("c"), Err(error));
        assert_eq!(table.to_owned(), Err(error));
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        let mut table = three();
        let long_key = "k".repeat(256);
        assert_eq!(
            table.insert(&long_key, 1_u8),
            Err(FieldError::Key(TooLong { length: 256 }))
        );
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(table.insert("b", value), Err(FieldError::NotFinite));
            #[expect(clippy::cast_possible_truncation, reason = "what is not finite stays so")]
            let value = value as f32;
            assert_eq!(table.insert("z", value), Err(FieldError::NotFinite));
        }
        let unreadable = FieldValue::Table(FieldTableRef::from_encoded(b"\x01kU"));
        assert_eq!(
            table.insert("b", unreadable),
            Err(FieldError::Nested(TableError {
                problem: TableProblem::Truncated,
                offset: 3
            }))
        );
        assert_eq!(table, three());
        assert!(table.clone().with("b", f32::NAN).is_err());
    }

    #[test]
    fn a_table_takes_what_leaves_it_64_levels_and_no_more() {
        let deepest = nested(63);
        let mut table = three();
        table
            .insert("b", FieldValue::Table(FieldTableRef::from_encoded(&deepest)))
            .unwrap();
        table.as_ref().validate().unwrap();
        let before = table.clone();

        let too_deep = nested(64);
        FieldTableRef::from_encoded(&too_deep).validate().unwrap();
        let error = TableError {
            problem: TableProblem::TooDeep,
            offset: 63 * 7,
        };
        assert_eq!(
            table.insert("b", FieldValue::Table(FieldTableRef::from_encoded(&too_deep))),
            Err(FieldError::Nested(error))
        );
        assert_eq!(table, before);
        // So no table that was built can become one that a peer of this kind refuses.
        assert!(FieldTable::new().with("outer", &table).is_err());
        assert_eq!(
            FieldTableRef::from_encoded(&nested(65)).to_owned(),
            Err(TableError {
                problem: TableProblem::TooDeep,
                offset: 64 * 7
            })
        );
    }

    #[test]
    fn the_longest_key_fits_and_comes_back() {
        let key = "k".repeat(255);
        let mut table = FieldTable::new();
        assert!(table.is_empty() && table.as_ref().is_empty());
        table.insert(&key, 7_u16).unwrap();
        assert!(!table.is_empty() && !table.as_ref().is_empty());
        assert_eq!(keys(&table), [key.as_str()]);
        assert_eq!(table.get(&key), Some(FieldValue::U16(7)));
        assert!(table.remove(&key));
        assert!(table.is_empty());
    }

    #[test]
    fn a_key_that_is_not_utf8_is_in_nobodys_way() {
        let table = FieldTableRef::from_encoded(b"\x02\xff\xfet\x01\x01kt\x00");
        table.validate().unwrap();
        assert_eq!(table.get("k"), Ok(Some(FieldValue::Bool(false))));
        assert_eq!(table.get("\u{fffd}"), Ok(None));
        assert_eq!(format!("{table:?}"), r#"{"\xff\xfe": true, "k": false}"#);
        let first = table.into_iter().next().unwrap().unwrap();
        assert!(first.0.to_str().is_err());
    }

    #[test]
    fn tables_are_equal_if_their_octets_are() {
        let turned = FieldTable::new()
            .with("b", 2_u8)
            .and_then(|table| table.with("a", 1_u8))
            .unwrap();
        let straight = FieldTable::new()
            .with("a", 1_u8)
            .and_then(|table| table.with("b", 2_u8))
            .unwrap();
        assert_ne!(turned, straight);
        assert_eq!(FieldTableRef::EMPTY, FieldTable::default().as_ref());
        assert_eq!(FieldTableRef::from(&straight).to_owned(), Ok(straight));
    }

    #[test]
    fn nested_tables_and_arrays_come_back_as_they_went_in() {
        let mut items = FieldArray::new();
        items.push("one").unwrap();
        items.push(&three()).unwrap();
        let table = FieldTable::new()
            .with("items", &items)
            .and_then(|table| table.with("f", 1.0_f32))
            .unwrap();
        let array = table.get("items").and_then(|value| value.as_array()).unwrap();
        assert_eq!(array, items.as_ref());
        let inner = array.iter().nth(1).unwrap().unwrap();
        assert_eq!(inner.as_table(), Some(three().as_ref()));
        assert_eq!(
            format!("{table:?}"),
            r#"{"items": ["one", {"a": 1, "b": "two", "c": true}], "f": 1.0}"#
        );
    }

    #[test]
    fn errors_say_what_to_change() {
        let mut table = FieldTable::new();
        let texts: Vec<_> = vec![
            table.insert(&"k".repeat(300), 1_u8).unwrap_err().to_string(),
            table.insert("k", f64::NAN).unwrap_err().to_string(),
            table
                .insert("k", FieldValue::Table(FieldTableRef::from_encoded(&nested(64))))
                .unwrap_err()
                .to_string(),
            FieldError::TooLarge(5_000_000_000).to_string(),
        ];
        assert_eq!(
            texts,
            [
                "the key is too long: 300 octets are too many for a short string, which holds 255",
                "RabbitMQ takes no number that is not finite",
                "tables nested deeper than 64 (octet 441 of the table)",
                "5000000000 octets are more than a table can hold",
            ]
        );
    }
}
