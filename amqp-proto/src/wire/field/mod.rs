//! Field tables (specification 4.2.5.5) as RabbitMQ reads them: the arguments of methods, the headers of messages.
//!
//! A table is kept as its octets, always: [`FieldTable`] owns them, [`FieldTableRef`] borrows them, as `String` and `str` do.
//! Building one writes octets; sending one copies them; reading one walks them, and only when it is asked for.

#[cfg(feature = "arbitrary")]
mod arbitrary;
mod array;
mod parse;
mod table;
mod value;

pub use array::{FieldArray, FieldArrayRef};
pub use parse::{Entries, Items};
pub use table::{FieldTable, FieldTableRef};
pub use value::{Decimal, FieldValue};

use super::{TableError, TooLong};

/// How deep tables and arrays may nest, the outermost table counted: far more than any program needs, and far less than a
/// stack holds.
pub const MAX_TABLE_DEPTH: usize = 64;

/// A key or value that cannot stand in a field table; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A key is a short string.
    #[error("the key is too long: {0}")]
    Key(#[from] TooLong),
    /// RabbitMQ closes a connection that sends it NaN or an infinity.
    #[error("RabbitMQ takes no number that is not finite")]
    NotFinite,
    /// Lengths are 32 bits.
    #[error("{0} octets are more than a table can hold")]
    TooLarge(usize),
    /// A table or array inside the value cannot be read, or would nest too deep here.
    #[error(transparent)]
    Nested(#[from] TableError),
}
