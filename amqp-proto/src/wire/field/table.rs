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

    /// Sets a key: an entry of that name is replaced where it stands, a new one goes to the end.
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

    /// A copy to keep.
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
