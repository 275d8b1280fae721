//! Names and values as RabbitMQ writes them into its errors, and values as it compares them.

use std::fmt;

use amqp_proto::wire::FieldValue;

/// Octets that are text by convention.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.0))
    }
}

/// A queue or an exchange by kind and name: `queue 'q' in vhost '/'`.
#[derive(Clone, Copy)]
pub(super) struct Resource<'a> {
    pub(super) kind: &'static str,
    pub(super) name: &'a [u8],
    pub(super) virtual_host: &'a str,
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            name,
            virtual_host,
        } = self;
        write!(f, "{kind} '{}' in vhost '{virtual_host}'", Text(name))
    }
}

/// RabbitMQ's name of a value's type.
pub(super) const fn type_name(value: &FieldValue<'_>) -> &'static str {
    match value {
        FieldValue::Bool(_) => "bool",
        FieldValue::I8(_) => "byte",
        FieldValue::U8(_) => "unsignedbyte",
        FieldValue::I16(_) => "short",
        FieldValue::U16(_) => "unsignedshort",
        FieldValue::I32(_) => "signedint",
        FieldValue::U32(_) => "unsignedint",
        FieldValue::I64(_) => "long",
        FieldValue::F32(_) => "float",
        FieldValue::F64(_) => "double",
        FieldValue::Decimal(_) => "decimal",
        FieldValue::LongStr(_) => "longstr",
        FieldValue::ByteArray(_) => "binary",
        FieldValue::Timestamp(_) => "timestamp",
        FieldValue::Array(_) => "array",
        FieldValue::Table(_) => "table",
        FieldValue::Void => "void",
        _ => "unknown",
    }
}

/// A value between quotes, without its type.
pub(super) struct Bare<'a>(pub(super) FieldValue<'a>);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            FieldValue::LongStr(octets) | FieldValue::ByteArray(octets) => Text(octets).fmt(f),
            FieldValue::Timestamp(seconds) => seconds.fmt(f),
            FieldValue::Void => f.write_str("undefined"),
            value => value.fmt(f),
        }
    }
}

/// Whether two values are the same to RabbitMQ: the width of a number does not count, nor which kind of octets they are.
pub(super) fn same(one: FieldValue<'_>, other: FieldValue<'_>) -> bool {
    if let (Some(one), Some(other)) = (one.as_i64(), other.as_i64()) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.as_f64(), other.as_f64()) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (one.as_bytes(), other.as_bytes()) {
        return one == other;
    }
    one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_whatever_their_width() {
        assert!(same(FieldValue::I8(5), FieldValue::I64(5)));
        assert!(same(FieldValue::U32(5), FieldValue::I16(5)));
        assert!(!same(FieldValue::I8(5), FieldValue::I8(6)));
        assert!(same(FieldValue::F32(0.5), FieldValue::F64(0.5)));
        assert!(!same(FieldValue::F32(0.5), FieldValue::F64(0.25)));
        assert!(!same(FieldValue::I8(5), FieldValue::F64(5.0)));
        assert!(same(FieldValue::LongStr(b"a"), FieldValue::ByteArray(b"a")));
        assert!(!same(FieldValue::LongStr(b"5"), FieldValue::I8(5)));
        assert!(same(FieldValue::Void, FieldValue::Void));
        assert!(!same(FieldValue::Bool(true), FieldValue::Bool(false)));
    }

    #[test]
    fn values_are_written_as_in_the_brokers_errors() {
        for (value, type_, text) in [
            (FieldValue::LongStr(b"b"), "longstr", "b"),
            (FieldValue::I32(-5), "signedint", "-5"),
            (FieldValue::Bool(true), "bool", "true"),
            (FieldValue::Timestamp(7), "timestamp", "7"),
            (FieldValue::F64(1.5), "double", "1.5"),
            (FieldValue::Void, "void", "undefined"),
        ] {
            assert_eq!(
                (type_name(&value), Bare(value).to_string().as_str()),
                (type_, text)
            );
        }
    }
}
