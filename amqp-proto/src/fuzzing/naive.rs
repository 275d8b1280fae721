//! The specification spelt out: readers that are slow, allocate, and share nothing with the codec but the method table.

use crate::wire::{Domain, FieldTableRef, FieldValue, METHODS, TableProblem};

/// A value of a field table: with the type octet and the octets that RabbitMQ would write for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Plain(u8, Vec<u8>),
    Table(Vec<(Vec<u8>, Self)>),
    Array(Vec<Self>),
}

/// Reads a table, `depth` others around it.
pub(super) fn table(octets: &[u8], depth: usize) -> Result<Vec<(Vec<u8>, Value)>, TableProblem> {
    if depth >= 64 {
        return Err(TableProblem::TooDeep);
    }
    let mut input = Input(octets);
    let mut entries = Vec::new();
    while !input.0.is_empty() {
        let key = input.short_string().ok_or(TableProblem::Truncated)?[1..].to_vec();
        entries.push((key, value(&mut input, depth + 1)?));
    }
    Ok(entries)
}

fn array(octets: &[u8], depth: usize) -> Result<Vec<Value>, TableProblem> {
    if depth >= 64 {
        return Err(TableProblem::TooDeep);
    }
    let mut input = Input(octets);
    let mut items = Vec::new();
    while !input.0.is_empty() {
        items.push(value(&mut input, depth + 1)?);
    }
    Ok(items)
}

fn value(input: &mut Input<'_>, depth: usize) -> Result<Value, TableProblem> {
    let tag = input.take(1).ok_or(TableProblem::Truncated)?[0];
    let octets = match tag {
        b'V' => Some(&[][..]),
        b't' | b'b' | b'B' => input.take(1),
        b's' | b'u' | b'U' => input.take(2),
        b'I' | b'i' | b'f' => input.take(4),
        b'D' => input.take(5),
        b'l' | b'L' | b'd' | b'T' => input.take(8),
        b'S' | b'x' | b'A' | b'F' => input.long_string(),
        unknown => return Err(TableProblem::UnknownType(unknown)),
    }
    .ok_or(TableProblem::Truncated)?;
    Ok(match tag {
        b'A' => Value::Array(array(&octets[4..], depth)?),
        b'F' => Value::Table(table(&octets[4..], depth)?),
        b't' => Value::Plain(tag, vec![u8::from(octets[0] != 0)]),
        b'U' => Value::Plain(b's', octets.to_vec()),
        b'L' => Value::Plain(b'l', octets.to_vec()),
        _ => Value::Plain(tag, octets.to_vec()),
    })
}

impl Value {
    /// The same value, as our readers show it.
    pub(super) fn of(value: FieldValue<'_>) -> Self {
        let octets = match value {
            FieldValue::Table(table) => return Self::Table(entries_of(table)),
            FieldValue::Array(array) => {
                return Self::Array(
                    array
                        .iter()
                        .map(|item| Self::of(item.expect("validated")))
                        .collect(),
                );
            }
            FieldValue::Bool(value) => vec![value.into()],
            FieldValue::I8(value) => value.to_be_bytes().to_vec(),
            FieldValue::U8(value) => vec![value],
            FieldValue::I16(value) => value.to_be_bytes().to_vec(),
            FieldValue::U16(value) => value.to_be_bytes().to_vec(),
            FieldValue::I32(value) => value.to_be_bytes().to_vec(),
            FieldValue::U32(value) => value.to_be_bytes().to_vec(),
            FieldValue::I64(value) => value.to_be_bytes().to_vec(),
            FieldValue::F32(value) => value.to_be_bytes().to_vec(),
            FieldValue::F64(value) => value.to_be_bytes().to_vec(),
            FieldValue::Decimal(value) => [&[value.scale][..], &value.raw.to_be_bytes()].concat(),
            FieldValue::LongStr(octets) | FieldValue::ByteArray(octets) => long_string(octets),
            FieldValue::Timestamp(value) => value.to_be_bytes().to_vec(),
            FieldValue::Void => Vec::new(),
        };
        Self::Plain(value.type_octet(), octets)
    }

    /// Appends type octet and value in wire form.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len() + 1;
        match self {
            Self::Plain(tag, octets) => {
                out.push(*tag);
                return out.extend(octets);
            }
            Self::Table(entries) => {
                out.extend(b"F\0\0\0\0");
                for (key, value) in entries {
                    out.extend(short_string(key));
                    value.write(out);
                }
            }
            Self::Array(items) => {
                out.extend(b"A\0\0\0\0");
                items.iter().for_each(|item| item.write(out));
            }
        }
        let length = u32::try_from(out.len() - start - 4).expect("a short one");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The entries of a table that was validated, as our readers show them.
pub(super) fn entries_of(table: FieldTableRef<'_>) -> Vec<(Vec<u8>, Value)> {
    table
        .iter()
        .map(|entry| {
            let (key, value) = entry.expect("validated");
            (key.as_bytes().to_vec(), Value::of(value))
        })
        .collect()
}

/// What is to be expected of a method's payload.
pub(super) struct Method {
    /// How it is written: as it came, reserved arguments and unused bits cleared.
    pub(super) canonical: Vec<u8>,
    /// The same with every octet of its secrets zero.
    pub(super) masked: Vec<u8>,
    /// How many arguments are not reserved.
    pub(super) arguments: usize,
}

/// Reads the payload of a method frame by the method's row in the table; `None` if that cannot be done.
pub(super) fn method(payload: &[u8]) -> Option<Method> {
    let mut input = Input(payload);
    let id = input.take(4)?;
    let spec = METHODS
        .iter()
        .find(|spec| [spec.id.class.to_be_bytes(), spec.id.method.to_be_bytes()].concat() == id)?;
    let mut expected = Method {
        canonical: id.to_vec(),
        masked: id.to_vec(),
        arguments: spec
            .arguments
            .iter()
            .filter(|argument| argument.name != "reserved")
            .count(),
    };
    let (mut bits, mut bit) = (0, 8);
    for argument in spec.arguments {
        let is_reserved = argument.name == "reserved";
        if argument.domain == Domain::bit {
            if bit == 8 {
                (bits, bit) = (input.take(1)?[0], 0);
                expected.push(&[0], false);
            }
            if !is_reserved {
                expected.add_bit(bits & 1 << bit);
            }
            bit += 1;
            continue;
        }
        bit = 8;
        let (octets, nothing) = match argument.domain {
            Domain::bit => unreachable!("handled above"),
            Domain::octet => (input.take(1)?, &[0][..]),
            Domain::short | Domain::reply_code => (input.take(2)?, &[0; 2][..]),
            Domain::long => (input.take(4)?, &[0; 4][..]),
            Domain::longlong => (input.take(8)?, &[0; 8][..]),
            Domain::shortstr => (input.short_string()?, &[0][..]),
            Domain::longstr | Domain::secret | Domain::table => (input.long_string()?, &[0; 4][..]),
        };
        if argument.domain == Domain::table {
            table(&octets[4..], 0).ok()?;
        }
        expected.push(
            if is_reserved { nothing } else { octets },
            argument.domain == Domain::secret,
        );
    }
    input.0.is_empty().then_some(expected)
}

impl Method {
    fn push(&mut self, octets: &[u8], is_secret: bool) {
        self.canonical.extend(octets);
        self.masked.extend(octets);
        if is_secret {
            let start = self.masked.len() + 4 - octets.len();
            self.masked[start..].fill(0);
        }
    }

    fn add_bit(&mut self, bit: u8) {
        for octets in [&mut self.canonical, &mut self.masked] {
            if let Some(last) = octets.last_mut() {
                *last |= bit;
            }
        }
    }
}

/// Whether a content header can be read: every property by its flag, highest bit first.
pub(super) fn is_content_header(payload: &[u8]) -> bool {
    let read = || {
        let mut input = Input(payload);
        let start = input.take(14)?;
        let flags = u16::from_be_bytes([start[12], start[13]]);
        if start[..4] != [0, 60, 0, 0] || flags & 0b11 != 0 {
            return None;
        }
        for bit in (2..16).rev().filter(|bit| flags & 1 << bit != 0) {
            match bit {
                13 => input.long_string()?,
                12 | 11 => input.take(1)?,
                6 => input.take(8)?,
                _ => input.short_string()?,
            };
        }
        input.0.is_empty().then_some(())
    };
    read().is_some()
}

/// A frame in wire form.
pub(super) fn encoded_frame(frame_type: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    [
        &[frame_type][..],
        &channel.to_be_bytes(),
        &long_string(payload),
        &[0xCE],
    ]
    .concat()
}

/// A short string in wire form.
pub(super) fn short_string(octets: &[u8]) -> Vec<u8> {
    [&[u8::try_from(octets.len()).expect("a short string")][..], octets].concat()
}

fn long_string(octets: &[u8]) -> Vec<u8> {
    [
        &u32::try_from(octets.len()).expect("a long string").to_be_bytes()[..],
        octets,
    ]
    .concat()
}

/// Octets to read from the front. Strings are given with their length.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short_string(&mut self) -> Option<&'a [u8]> {
        let length = *self.0.first()?;
        self.take(1 + usize::from(length))
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(*self.0.first_chunk()?);
        self.take(4 + length as usize)
    }
}
