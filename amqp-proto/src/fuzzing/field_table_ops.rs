//! Operations on an owned table.

use arbitrary::{Arbitrary, Unstructured};

use super::check::{one_line_debug, operations};
use super::naive::{self, Value};
use crate::wire::{Decimal, FieldArray, FieldError, FieldTable, FieldValue, TableProblem};

/// A table that is put into itself again and again doubles each time.
const LARGE: usize = 2 * 1024;

#[derive(Debug, Arbitrary)]
enum Op<'a> {
    Insert(Key<'a>, Plain<'a>),
    /// The table as it is, inserted into itself.
    InsertTable(Key<'a>),
    InsertArray(Key<'a>, Vec<Plain<'a>>),
    /// An array of the table as it is.
    InsertArrayOfTable(Key<'a>),
    Remove(Key<'a>),
    Clear,
}

#[derive(Debug, Arbitrary)]
enum Key<'a> {
    /// One of a few, so that they meet again.
    Known(u8),
    Any(&'a str),
    /// Around the 255 octets that a key may have.
    Long(u8),
}

#[derive(Debug, Arbitrary)]
enum Plain<'a> {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    LongStr(&'a str),
    ByteArray(&'a [u8]),
    Timestamp(u64),
    Void,
}

/// `insert`, `remove` and `get` on a [`FieldTable`], against a list of encoded entries.
///
/// After each of them the table's octets are those of the list; what cannot stand in a table is refused with the reason and
/// changes nothing; what was inserted is got again; the table can always be read, to any depth it can have.
pub fn field_table_ops(data: &[u8]) {
    let mut table = FieldTable::new();
    let mut model = Vec::new();
    let mut u = Unstructured::new(data);
    // Now and then near the depth that a table can have.
    let depth = u.arbitrary::<u8>().unwrap_or_default().saturating_sub(0xFF - 66);
    for _ in 0..depth {
        apply(&mut table, &mut model, Op::InsertTable(Key::Known(0)));
    }
    for op in operations(&mut u) {
        apply(&mut table, &mut model, op);
        let encoded: Vec<u8> = model.iter().flat_map(Entry::encoded).collect();
        assert_eq!(table.as_ref().as_encoded(), encoded);
        assert_eq!(table.is_empty(), model.is_empty());
    }
    assert_eq!(table.as_ref().validate(), Ok(()));
    assert_eq!(table.iter().count(), model.len());
    one_line_debug(&table);
}

/// Key, and value with its type octet, in wire form.
struct Entry {
    key: String,
    value: Vec<u8>,
}

impl Entry {
    fn encoded(&self) -> Vec<u8> {
        [&naive::short_string(self.key.as_bytes())[..], &self.value].concat()
    }
}

fn apply(table: &mut FieldTable, model: &mut Vec<Entry>, op: Op<'_>) {
    let whole = table.clone();
    match op {
        Op::Clear => {
            *table = FieldTable::new();
            model.clear();
        }
        Op::Remove(key) => {
            let key = key.text();
            let place = model.iter().position(|entry| entry.key == key);
            assert_eq!(table.remove(&key), place.is_some());
            place.map(|place| model.remove(place));
            assert_eq!(table.get(&key), None);
        }
        Op::Insert(key, value) => insert(table, model, &key.text(), value.field()),
        Op::InsertArray(key, values) => {
            let mut array = FieldArray::new();
            for value in values {
                let before = array.clone();
                if array.push(value.field()).is_err() {
                    assert!(!is_finite(value.field()));
                    assert_eq!(array, before);
                }
            }
            insert(table, model, &key.text(), FieldValue::from(&array));
        }
        Op::InsertTable(_) | Op::InsertArrayOfTable(_) if whole.as_ref().as_encoded().len() > LARGE => {}
        Op::InsertTable(key) => insert(table, model, &key.text(), FieldValue::from(&whole)),
        Op::InsertArrayOfTable(key) => {
            let mut array = FieldArray::new();
            match array.push(&whole) {
                Ok(()) => insert(table, model, &key.text(), FieldValue::from(&array)),
                Err(error) => {
                    assert_too_deep(&error);
                    assert_eq!(depth(&Value::of(FieldValue::from(&whole))), 64);
                }
            }
        }
    }
}

fn insert(table: &mut FieldTable, model: &mut Vec<Entry>, key: &str, value: FieldValue<'_>) {
    let expected = Value::of(value);
    match table.insert(key, value) {
        Ok(()) => {
            assert!(key.len() <= 255 && is_finite(value) && depth(&expected) < 64);
            assert_eq!(table.get(key).map(Value::of).as_ref(), Some(&expected));
            let mut value = Vec::new();
            expected.write(&mut value);
            match model.iter_mut().find(|entry| entry.key == key) {
                Some(entry) => entry.value = value,
                None => model.push(Entry {
                    key: key.into(),
                    value,
                }),
            }
        }
        Err(FieldError::Key(error)) => assert_eq!((error.length, key.len() > 255), (key.len(), true)),
        Err(FieldError::NotFinite) => assert!(!is_finite(value)),
        Err(error) => {
            assert_too_deep(&error);
            assert!(depth(&expected) >= 64);
        }
    }
}

fn assert_too_deep(error: &FieldError) {
    let FieldError::Nested(nested) = error else {
        panic!("{error}")
    };
    assert_eq!(nested.problem, TableProblem::TooDeep);
}

fn is_finite(value: FieldValue<'_>) -> bool {
    value.as_f64().is_none_or(f64::is_finite)
}

/// How many tables and arrays stand in each other.
fn depth(value: &Value) -> usize {
    match value {
        Value::Plain(..) => 0,
        Value::Table(entries) => 1 + entries.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
    }
}

impl Key<'_> {
    fn text(&self) -> String {
        match self {
            Self::Known(number) => format!("key {}", number % 4),
            Self::Any(text) => (*text).into(),
            Self::Long(more) => "k".repeat(254 + usize::from(more % 4)),
        }
    }
}

impl<'a> Plain<'a> {
    fn field(&self) -> FieldValue<'a> {
        match *self {
            Self::Bool(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U8(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I64(value) => value.into(),
            Self::F32(value) => value.into(),
            Self::F64(value) => value.into(),
            Self::Decimal(scale, raw) => Decimal { scale, raw }.into(),
            Self::LongStr(text) => text.into(),
            Self::ByteArray(octets) => FieldValue::ByteArray(octets),
            Self::Timestamp(seconds) => FieldValue::Timestamp(seconds),
            Self::Void => FieldValue::Void,
        }
    }
}
