//! The committed golden octets (`golden/README.md`), read and written by our codec: every line, both ways.

use std::collections::{BTreeMap, BTreeSet};

use amqp_proto::wire::{
    Argument, ContentHeader, Decimal, Domain, FieldArray, FieldError, FieldTable, FieldTableRef, FieldValue,
    Frame, FrameLimits, FrameType, HEARTBEAT, METHODS, Method, PROTOCOL_HEADER, RawFrame,
    parse_protocol_header,
};
use serde_json::{Map, Value, json};

const METHOD_LINES: usize = 529;
const PROPERTY_LINES: usize = 80;
const FIELD_LINES: usize = 131;
const FRAME_LINES: usize = 10;

/// No golden frame is larger.
const LIMIT: u32 = 128 * 1024;

/// The columns of each line. Every file's lines are counted, so that none passes for want of them.
fn lines<const N: usize>(file: &'static str, count: usize) -> Vec<[&'static str; N]> {
    let lines: Vec<[&str; N]> = file
        .lines()
        .map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            columns
                .try_into()
                .unwrap_or_else(|_| panic!("not {N} columns: {line}"))
        })
        .collect();
    assert_eq!(
        lines.len(),
        count,
        "a new golden file? Then say here how many lines it has"
    );
    lines
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

/// Delimits the one frame that is there, and checks what is around the payload.
fn only_frame<'a>(octets: &'a [u8], frame_type: FrameType, channel: &str) -> RawFrame<'a> {
    let raw = RawFrame::parse(octets, &FrameLimits::default()).unwrap().unwrap();
    assert_eq!(raw.size(), octets.len());
    assert_eq!(raw.frame_type, frame_type);
    assert_eq!(raw.channel.to_string(), channel);
    assert_eq!(raw.payload, &octets[7..octets.len() - 1]);
    raw
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    frame.encode(&mut out, LIMIT).unwrap();
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

fn argument_json(argument: Argument<'_>) -> Value {
    match argument {
        Argument::Bit(value) => json!(value),
        Argument::Octet(value) => json!(value),
        Argument::Short(value) => json!(value),
        Argument::Long(value) => json!(value),
        Argument::LongLong(value) => json!(value),
        Argument::ReplyCode(value) => json!(value.0),
        Argument::ShortStr(value) => json!({ "hex": hex(value.as_bytes()) }),
        Argument::LongStr(value) => json!({ "hex": hex(value.as_bytes()) }),
        Argument::Secret(value) => json!({ "hex": hex(value.as_bytes()) }),
        Argument::Table(value) => {
            value.validate().unwrap();
            json!({ "table_hex": hex(value.as_encoded()) })
        }
        other => panic!("the test does not know {other:?}"),
    }
}

const fn domain(argument: &Argument<'_>) -> Option<Domain> {
    Some(match argument {
        Argument::Bit(_) => Domain::bit,
        Argument::Octet(_) => Domain::octet,
        Argument::Short(_) => Domain::short,
        Argument::Long(_) => Domain::long,
        Argument::LongLong(_) => Domain::longlong,
        Argument::ReplyCode(_) => Domain::reply_code,
        Argument::ShortStr(_) => Domain::shortstr,
        Argument::LongStr(_) => Domain::longstr,
        Argument::Secret(_) => Domain::secret,
        Argument::Table(_) => Domain::table,
        _ => return None,
    })
}

/// The arguments as the golden file spells them; that the visitor keeps to the method's row is checked on the way.
fn arguments_json(method: &Method<'_>) -> Map<String, Value> {
    let mut named = method
        .spec()
        .arguments
        .iter()
        .filter(|row| row.name != "reserved");
    let mut fields = Map::new();
    method.for_each_argument(&mut |name, argument| {
        let row = named.next().expect("no more arguments than the row has");
        assert_eq!(row.name, name);
        assert_eq!(Some(row.domain), domain(&argument));
        let name = if name == "exchange_type" { "type" } else { name };
        fields.insert(name.to_owned(), argument_json(argument));
    });
    assert_eq!(named.next(), None, "an argument that was not shown");
    fields
}

#[test]
fn methods_decode_to_the_values_and_encode_to_the_octets() {
    let lines = lines::<6>(include_str!("golden/methods.txt"), METHOD_LINES);
    let mut frames = BTreeMap::new();
    for [encoder, name, case, _, _, frame] in &lines {
        assert_eq!(
            frames.insert((*encoder, *name, *case), *frame),
            None,
            "{encoder} {name} {case}"
        );
    }
    let mut values: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    for [encoder, name, case, channel, fields, frame] in lines {
        let context = format!("{encoder} {name} {case}");
        let octets = unhex(frame);
        let decoded = only_frame(&octets, FrameType::Method, channel).decode().unwrap();
        let Frame::Method { channel: on, method } = decoded else {
            panic!("{context}: {decoded:?}")
        };
        assert_eq!(on.to_string(), channel, "{context}");
        assert_eq!(method.spec().name, name);
        let expected: Map<String, Value> = serde_json::from_str(fields).unwrap();
        let found = arguments_json(&method);
        assert_eq!(found, expected, "{context}");
        for (field, value) in found {
            values.entry((name, field)).or_default().insert(value.to_string());
        }

        // pamqp fills two reserved strings that are empty from us; pika's octets are ours then.
        let is_filled = encoder == "pamqp" && matches!(name, "channel.open" | "channel.open-ok");
        let expected = if is_filled {
            frames[&("pika", name, case)]
        } else {
            frame
        };
        assert_eq!(hex(&encoded(&decoded)), expected, "{context}");
        assert_eq!(expected == frame, !is_filled, "{context}");
    }
    let covered: BTreeSet<_> = frames.keys().map(|(_, name, _)| *name).collect();
    let missing: Vec<_> = METHODS
        .iter()
        .map(|spec| spec.name)
        .filter(|name| !covered.contains(name))
        .collect();
    assert!(missing.is_empty(), "methods without a golden frame: {missing:?}");
    assert_eq!(covered.len(), 66);
    let constant: Vec<_> = values.iter().filter(|(_, values)| values.len() < 2).collect();
    assert!(
        constant.is_empty(),
        "arguments that have the same value everywhere: {constant:?}"
    );
}

#[test]
fn properties_decode_to_the_values_and_encode_to_the_octets() {
    let mut seen = BTreeSet::new();
    for [encoder, class, case, channel, fields, frame] in
        lines::<6>(include_str!("golden/properties.txt"), PROPERTY_LINES)
    {
        let context = format!("{encoder} {case}");
        assert_eq!(class, "basic");
        let octets = unhex(frame);
        let decoded = only_frame(&octets, FrameType::Header, channel).decode().unwrap();
        let Frame::Header { channel: on, header } = decoded else {
            panic!("{context}: {decoded:?}")
        };
        assert_eq!(on.to_string(), channel, "{context}");
        let ContentHeader {
            body_size,
            properties,
            ..
        } = header;
        let mut found = Map::from_iter([("body_size".to_owned(), json!(body_size))]);
        properties.for_each(&mut |name, value| {
            let name = if name == "message_type" { "type" } else { name };
            seen.insert(name.to_owned());
            found.insert(name.to_owned(), argument_json(value));
        });
        let expected: Map<String, Value> = serde_json::from_str(fields).unwrap();
        assert_eq!(found, expected, "{context}");
        assert_eq!(hex(&encoded(&decoded)), frame, "{context}");
    }
    assert_eq!(seen.len(), 14, "properties without a golden header: {seen:?}");
}

fn value_json(value: FieldValue<'_>) -> Value {
    let tag = char::from(value.type_octet()).to_string();
    match value {
        FieldValue::Bool(value) => json!({ "tag": tag, "value": value }),
        FieldValue::I8(value) => json!({ "tag": tag, "value": value }),
        FieldValue::U8(value) => json!({ "tag": tag, "value": value }),
        FieldValue::I16(value) => json!({ "tag": tag, "value": value }),
        FieldValue::U16(value) => json!({ "tag": tag, "value": value }),
        FieldValue::I32(value) => json!({ "tag": tag, "value": value }),
        FieldValue::U32(value) => json!({ "tag": tag, "value": value }),
        FieldValue::I64(value) => json!({ "tag": tag, "value": value }),
        FieldValue::Timestamp(value) => json!({ "tag": tag, "value": value }),
        FieldValue::F32(value) => json!({ "tag": tag, "bits": hex(&value.to_be_bytes()) }),
        FieldValue::F64(value) => json!({ "tag": tag, "bits": hex(&value.to_be_bytes()) }),
        FieldValue::Decimal(Decimal { scale, raw }) => json!({ "tag": tag, "scale": scale, "raw": raw }),
        FieldValue::LongStr(octets) | FieldValue::ByteArray(octets) => {
            json!({ "tag": tag, "hex": hex(octets) })
        }
        FieldValue::Array(array) => {
            let items: Vec<_> = array.iter().map(|item| value_json(item.unwrap())).collect();
            json!({ "tag": tag, "items": items })
        }
        FieldValue::Table(table) => {
            let entries: Vec<_> = table
                .iter()
                .map(|entry| entry.unwrap())
                .map(|(key, value)| json!([key.to_str().unwrap(), value_json(value)]))
                .collect();
            json!({ "tag": tag, "entries": entries })
        }
        FieldValue::Void => json!({ "tag": tag }),
        other => panic!("the test does not know {other:?}"),
    }
}

/// Makes the value that the JSON describes, through the owned types, and hands it on.
fn build(
    tree: &Value,
    put: &mut dyn FnMut(FieldValue<'_>) -> Result<(), FieldError>,
) -> Result<(), FieldError> {
    let signed = || tree["value"].as_i64().unwrap();
    let unsigned = || tree["value"].as_u64().unwrap();
    let octets = || unhex(tree["hex"].as_str().unwrap());
    let bits = || u64::from_str_radix(tree["bits"].as_str().unwrap(), 16).unwrap();
    match tree["tag"].as_str().unwrap() {
        "t" => put(tree["value"].as_bool().unwrap().into()),
        "b" => put(i8::try_from(signed()).unwrap().into()),
        "B" => put(u8::try_from(unsigned()).unwrap().into()),
        "s" => put(i16::try_from(signed()).unwrap().into()),
        "u" => put(u16::try_from(unsigned()).unwrap().into()),
        "I" => put(i32::try_from(signed()).unwrap().into()),
        "i" => put(u32::try_from(unsigned()).unwrap().into()),
        "l" => put(signed().into()),
        "f" => put(f32::from_bits(u32::try_from(bits()).unwrap()).into()),
        "d" => put(f64::from_bits(bits()).into()),
        "D" => put(FieldValue::Decimal(Decimal {
            scale: u8::try_from(tree["scale"].as_u64().unwrap()).unwrap(),
            raw: u32::try_from(tree["raw"].as_u64().unwrap()).unwrap(),
        })),
        "S" => put(FieldValue::LongStr(&octets())),
        "x" => put(FieldValue::ByteArray(&octets())),
        "T" => put(FieldValue::Timestamp(unsigned())),
        "A" => {
            let mut array = FieldArray::new();
            for item in tree["items"].as_array().unwrap() {
                build(item, &mut |value| array.push(value))?;
            }
            put((&array).into())
        }
        "F" => {
            let mut table = FieldTable::new();
            for entry in tree["entries"].as_array().unwrap() {
                let key = entry[0].as_str().unwrap();
                build(&entry[1], &mut |value| table.insert(key, value))?;
            }
            put((&table).into())
        }
        "V" => put(FieldValue::Void),
        other => panic!("the test does not know {other}"),
    }
}

#[test]
fn fields_decode_to_the_values_and_are_built_to_the_octets() {
    let mut tags = BTreeSet::new();
    let mut refused = Vec::new();
    for [encoder, tag, case, value, encoded] in lines::<5>(include_str!("golden/fields.txt"), FIELD_LINES) {
        let context = format!("{encoder} {tag} {case}");
        tags.insert(tag);
        let octets = unhex(encoded);
        let table = FieldTableRef::from_encoded(&octets);
        table.validate().unwrap();
        assert_eq!(table.iter().count(), 1, "{context}");
        let tree: Value = serde_json::from_str(value).unwrap();
        let found = table.get("k").unwrap().expect("the entry is named k");
        assert_eq!(found.type_octet(), tag.as_bytes()[0], "{context}");
        assert_eq!(value_json(found), tree, "{context}");

        let mut built = FieldTable::new();
        match build(&tree, &mut |value| built.insert("k", value)) {
            Ok(()) => assert_eq!(hex(built.as_ref().as_encoded()), encoded, "{context}"),
            Err(error) => {
                assert_eq!(error, FieldError::NotFinite, "{context}");
                assert!(built.is_empty(), "{context}");
                refused.push(context);
            }
        }
    }
    assert_eq!(tags.into_iter().collect::<String>(), "ABDFISTVbdfilstux");
    assert_eq!(refused, ["pamqp d infinity", "pamqp f infinity"]);
}

#[test]
fn frames_decode_to_the_payload_and_encode_to_the_octets() {
    let mut kinds = BTreeMap::<_, usize>::new();
    for [encoder, kind, case, channel, payload, frame] in
        lines::<6>(include_str!("golden/frames.txt"), FRAME_LINES)
    {
        let context = format!("{encoder} {kind} {case}");
        *kinds.entry(kind).or_default() += 1;
        let octets = unhex(frame);
        let decoded = match kind {
            "body" => only_frame(&octets, FrameType::Body, channel).decode().unwrap(),
            "heartbeat" => {
                assert_eq!(octets, HEARTBEAT);
                only_frame(&octets, FrameType::Heartbeat, channel)
                    .decode()
                    .unwrap()
            }
            "protocol-header" => {
                assert_eq!(octets, PROTOCOL_HEADER);
                assert_eq!(parse_protocol_header(&octets), Ok(Some(())));
                continue;
            }
            other => panic!("the test does not know {other}"),
        };
        let expected = match kind {
            "body" => Frame::Body {
                channel: channel.parse().unwrap(),
                payload: &unhex(payload),
            },
            _ => Frame::Heartbeat,
        };
        assert_eq!(decoded, expected, "{context}");
        assert_eq!(hex(&encoded(&decoded)), frame, "{context}");
    }
    assert_eq!(
        Vec::from_iter(kinds),
        [("body", 6), ("heartbeat", 2), ("protocol-header", 2)]
    );
}
