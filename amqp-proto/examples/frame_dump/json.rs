//! A frame as a JSON object; `--help` tells what it looks like.

use amqp_proto::trace::Direction;
use amqp_proto::wire::{
    Argument, Decimal, FieldArrayRef, FieldTableRef, FieldValue, Frame, MAX_TABLE_DEPTH, Method, Properties,
};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::frames::Piece;
use crate::output::Source;

/// A whole line.
pub(crate) struct Line<'a> {
    /// Who sent it, in captures and traces.
    pub(crate) source: Source<'a>,
    /// What it shows.
    pub(crate) piece: Piece<'a>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        match self.source {
            Source::Octets => {}
            Source::Capture(origin) => {
                line.serialize_entry("stream", &origin.stream)?;
                line.serialize_entry("from", origin.side.name())?;
            }
            Source::Trace(record) => {
                line.serialize_entry("nanoseconds", &record.now.as_nanos())?;
                line.serialize_entry("direction", direction(record.direction))?;
            }
        }
        match self.piece {
            Piece::ProtocolHeader => {
                line.serialize_entry("type", "protocol-header")?;
                if let Source::Capture(origin) = self.source {
                    line.serialize_entry("client", &origin.client.to_string())?;
                    line.serialize_entry("server", &origin.server.to_string())?;
                }
            }
            Piece::Frame(frame) => serialize_frame(frame, &mut line)?,
        }
        line.end()
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Received => "received",
        Direction::Sent => "sent",
    }
}

fn serialize_frame<M: SerializeMap>(frame: &Frame<'_>, line: &mut M) -> Result<(), M::Error> {
    let (channel, kind) = match frame {
        Frame::Method { channel, .. } => (*channel, "method"),
        Frame::Header { channel, .. } => (*channel, "header"),
        Frame::Body { channel, .. } => (*channel, "body"),
        Frame::Heartbeat => (0, "heartbeat"),
    };
    line.serialize_entry("channel", &channel)?;
    line.serialize_entry("type", kind)?;
    match frame {
        Frame::Method { method, .. } => {
            line.serialize_entry("method", method.spec().name)?;
            line.serialize_entry("arguments", &MethodArguments(method))
        }
        Frame::Header { header, .. } => {
            line.serialize_entry("body_size", &header.body_size)?;
            line.serialize_entry("properties", &PresentProperties(&header.properties))
        }
        Frame::Body { payload, .. } => line.serialize_entry("body", &Body(payload)),
        Frame::Heartbeat => Ok(()),
    }
}

struct MethodArguments<'a>(&'a Method<'a>);

impl Serialize for MethodArguments<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut result = Ok(());
        self.0.for_each_argument(&mut |name, argument| {
            if result.is_ok() {
                result = map.serialize_entry(name, &Value(argument));
            }
        });
        result?;
        map.end()
    }
}

struct PresentProperties<'a>(&'a Properties<'a>);

impl Serialize for PresentProperties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let mut result = Ok(());
        self.0.for_each(&mut |name, value| {
            if result.is_ok() {
                result = map.serialize_entry(name, &Value(value));
            }
        });
        result?;
        map.end()
    }
}

struct Body<'a>(&'a [u8]);

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("size", &self.0.len())?;
        match str::from_utf8(self.0) {
            Ok(text) => map.serialize_entry("text", text)?,
            Err(_) => map.serialize_entry("hex", &hex(self.0))?,
        }
        map.end()
    }
}

/// An argument or property.
struct Value<'a>(Argument<'a>);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Argument::Bit(value) => serializer.serialize_bool(value),
            Argument::Octet(value) => serializer.serialize_u8(value),
            Argument::Short(value) => serializer.serialize_u16(value),
            Argument::Long(value) => serializer.serialize_u32(value),
            Argument::LongLong(value) => serializer.serialize_u64(value),
            Argument::ReplyCode(value) => serializer.serialize_u16(value.0),
            Argument::ShortStr(value) => text(value.as_bytes(), serializer),
            Argument::LongStr(value) => text(value.as_bytes(), serializer),
            Argument::Secret(value) => special("@secret", &value.len(), serializer),
            Argument::Table(value) => Table {
                table: value,
                depth: 1,
            }
            .serialize(serializer),
            _ => special(
                "@error",
                "a kind of argument that this program does not know",
                serializer,
            ),
        }
    }
}

/// A table that is the `depth`-th around its entries.
struct Table<'a> {
    table: FieldTableRef<'a>,
    depth: usize,
}

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for entry in self.table {
            match entry {
                Ok((key, value)) => map.serialize_entry(
                    &key.to_string(),
                    &Field {
                        value,
                        depth: self.depth,
                    },
                )?,
                Err(error) => map.serialize_entry("@error", &error.to_string())?,
            }
        }
        map.end()
    }
}

/// An array that is the `depth`-th table or array around its items.
struct Array<'a> {
    array: FieldArrayRef<'a>,
    depth: usize,
}

impl Serialize for Array<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(None)?;
        for item in self.array {
            match item {
                Ok(value) => items.serialize_element(&Field {
                    value,
                    depth: self.depth,
                })?,
                Err(error) => items.serialize_element(&Special {
                    name: "@error",
                    value: &error.to_string(),
                })?,
            }
        }
        items.end()
    }
}

/// A value with `depth` tables and arrays around it.
struct Field<'a> {
    value: FieldValue<'a>,
    depth: usize,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let depth = self.depth + 1;
        match self.value {
            FieldValue::Array(_) | FieldValue::Table(_) if depth > MAX_TABLE_DEPTH => special(
                "@error",
                &format!("tables nested deeper than {MAX_TABLE_DEPTH}"),
                serializer,
            ),
            FieldValue::Array(array) => Array { array, depth }.serialize(serializer),
            FieldValue::Table(table) => Table { table, depth }.serialize(serializer),
            FieldValue::Bool(value) => serializer.serialize_bool(value),
            FieldValue::I8(value) => serializer.serialize_i8(value),
            FieldValue::U8(value) => serializer.serialize_u8(value),
            FieldValue::I16(value) => serializer.serialize_i16(value),
            FieldValue::U16(value) => serializer.serialize_u16(value),
            FieldValue::I32(value) => serializer.serialize_i32(value),
            FieldValue::U32(value) => serializer.serialize_u32(value),
            FieldValue::I64(value) => serializer.serialize_i64(value),
            FieldValue::F32(value) if value.is_finite() => serializer.serialize_f32(value),
            FieldValue::F64(value) if value.is_finite() => serializer.serialize_f64(value),
            FieldValue::F32(value) => special("@float", &value.to_string(), serializer),
            FieldValue::F64(value) => special("@float", &value.to_string(), serializer),
            FieldValue::Decimal(value) => special("@decimal", &Digits(value), serializer),
            FieldValue::LongStr(octets) => text(octets, serializer),
            FieldValue::ByteArray(octets) => special("@hex", &hex(octets), serializer),
            FieldValue::Timestamp(seconds) => special("@timestamp", &seconds, serializer),
            FieldValue::Void => serializer.serialize_unit(),
            _ => special(
                "@error",
                "a kind of value that this program does not know",
                serializer,
            ),
        }
    }
}

struct Digits(Decimal);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("scale", &self.0.scale)?;
        map.serialize_entry("raw", &self.0.raw)?;
        map.end()
    }
}

/// Something that JSON does not have: an object with one key.
struct Special<'a, T: ?Sized> {
    name: &'static str,
    value: &'a T,
}

impl<T: Serialize + ?Sized> Serialize for Special<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        special(self.name, self.value, serializer)
    }
}

fn special<T, S>(name: &'static str, value: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Serialize + ?Sized,
    S: Serializer,
{
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

fn text<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match str::from_utf8(octets) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => special("@hex", &hex(octets), serializer),
    }
}

fn hex(octets: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    octets
        .iter()
        .flat_map(|octet| [octet >> 4, octet & 15])
        .map(|digit| DIGITS[usize::from(digit)])
        .collect()
}
