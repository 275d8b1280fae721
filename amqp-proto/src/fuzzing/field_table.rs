//! Any octets, as a field table.

use super::check::{one_line, one_line_debug};
use super::naive::{self, Value};
use crate::wire::{FieldError, FieldTable, FieldTableRef, FieldValue, TableError, TableProblem};

/// How many entries are put into another table: it looks for each of them from the start.
const REBUILT: usize = 64;

/// Any octets as a field table, without its length.
///
/// [`FieldTableRef::validate`] finds what a naive reader finds; reading every entry of every level gives the same values; an
/// owned copy is the same table, and one built from the values is written as RabbitMQ would; reading what is broken ends.
pub fn field_table(data: &[u8]) {
    let table = FieldTableRef::from_encoded(data);
    one_line_debug(&table);
    assert!(table.iter().count() <= data.len());
    let entries = match (table.validate(), naive::table(data, 0)) {
        (Ok(()), Ok(entries)) => entries,
        (Err(error), Err(problem)) => {
            assert_eq!(error.problem, problem);
            table_error(&error, data);
            assert_eq!(table.to_owned(), Err(error));
            if problem != TableProblem::TooDeep {
                assert!(!is_readable(FieldValue::Table(table), 0));
            }
            return;
        }
        (found, expected) => panic!("{found:?} instead of {expected:?}"),
    };
    assert_eq!(naive::entries_of(table), entries);
    let owned = table.to_owned().expect("validated");
    assert_eq!(owned.as_ref(), table);
    assert_eq!(owned.iter().count(), entries.len());
    rebuild(table, &entries);
}

/// Points at what it is about.
fn table_error(error: &TableError, data: &[u8]) {
    one_line(error);
    match error.problem {
        TableProblem::UnknownType(found) => assert_eq!(data.get(error.offset), Some(&found)),
        TableProblem::TooDeep => assert!(matches!(data[error.offset - 5], b'A' | b'F')),
        TableProblem::Truncated => assert!(error.offset <= data.len()),
    }
}

/// Whether all of a value can be read, however deep it is.
fn is_readable(value: FieldValue<'_>, depth: usize) -> bool {
    if depth > 200 {
        return true;
    }
    match value {
        FieldValue::Table(table) => table
            .iter()
            .all(|entry| entry.is_ok_and(|(_, value)| is_readable(value, depth + 1))),
        FieldValue::Array(array) => array
            .iter()
            .all(|item| item.is_ok_and(|value| is_readable(value, depth + 1))),
        _ => true,
    }
}

/// Puts entries into a new table, and gets them out again: of those with one key the first place, and there the last value.
fn rebuild(table: FieldTableRef<'_>, entries: &[(Vec<u8>, Value)]) {
    let mut built = FieldTable::new();
    let mut expected: Vec<(Vec<u8>, Value)> = Vec::new();
    for (key, value) in table.iter().map_while(Result::ok).take(REBUILT) {
        let Ok(key) = key.to_str() else { continue };
        let first = entries.iter().find(|(name, _)| name == key.as_bytes());
        let got = table.get(key).expect("validated").map(Value::of);
        assert_eq!(got.as_ref(), first.map(|(_, value)| value));
        if value.as_f64().is_some_and(|number| !number.is_finite()) {
            assert_eq!(built.insert(key, value), Err(FieldError::NotFinite));
            continue;
        }
        built.insert(key, value).expect("it was in a table before");
        let value = Value::of(value);
        match expected.iter_mut().find(|(name, _)| name == key.as_bytes()) {
            Some((_, place)) => *place = value,
            None => expected.push((key.into(), value)),
        }
    }
    assert_eq!(naive::entries_of(built.as_ref()), expected);
}
