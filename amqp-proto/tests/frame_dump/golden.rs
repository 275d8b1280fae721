//! What other people's encoders wrote, read back as JSON: see `golden/README.md`.

use amqp_proto::wire::{FieldTableRef, Properties};
use serde_json::{Map, Value, json};

use crate::{dump, header};

/// The one table with entries that the methods and properties have, and what it looks like.
const TABLE: &str = "056172726179410000000e53000000036f6e6549000186a05604626f6f6c740103696e7449fffe7960046c6f6e676cffffff\
                     000000000006737472696e6753000000076772c3b6c39f65057461626c65460000000e047768656e54000000006553f10004\
                     766f696456";

fn rows(file: &str) -> impl Iterator<Item = Vec<&str>> {
    file.lines().map(|line| line.split('\t').collect())
}

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap())
        .collect()
}

/// The golden fields as the program shows them.
fn fields(golden: &str) -> Map<String, Value> {
    let golden: Map<String, Value> = serde_json::from_str(golden).unwrap();
    golden
        .into_iter()
        .map(|(name, value)| {
            let value = match (name.as_str(), value) {
                ("response" | "new_secret", Value::Object(secret)) => {
                    json!({"@secret": octets(secret["hex"].as_str().unwrap()).len()})
                }
                (_, Value::Object(special)) => match (special.get("hex"), special.get("table_hex")) {
                    (Some(hex), None) => string(hex.as_str().unwrap()),
                    (None, Some(table)) if table == "" => json!({}),
                    (None, Some(table)) if table == TABLE => json!({
                        "array": ["one", 100_000, null],
                        "bool": true,
                        "int": -100_000,
                        "long": -1_099_511_627_776_i64,
                        "string": "größe",
                        "table": {"when": {"@timestamp": 1_700_000_000}},
                        "void": null,
                    }),
                    _ => panic!("{special:?}"),
                },
                (_, value) => value,
            };
            (name, value)
        })
        .collect()
}

fn string(hex: &str) -> Value {
    String::from_utf8(octets(hex)).map_or_else(|_| json!({"@hex": hex}), Value::from)
}

/// Runs the program over one column of a file: one line for each row.
fn dump_column(rows: &[Vec<&str>], column: usize) -> Vec<Value> {
    let input: Vec<u8> = rows.iter().flat_map(|row| octets(row[column])).collect();
    let values = dump(&["--json"], &input).clean().json();
    assert_eq!(values.len(), rows.len());
    values
}

#[test]
fn every_method_shows_its_fields() {
    let rows: Vec<_> = rows(include_str!("../golden/methods.txt")).collect();
    for (row, shown) in rows.iter().zip(dump_column(&rows, 5)) {
        let [_, method, _, channel, golden, _] = row[..] else {
            panic!("{row:?}")
        };
        let mut arguments = fields(golden);
        if let Some(exchange_type) = arguments.remove("type") {
            arguments.insert("exchange_type".to_owned(), exchange_type);
        }
        let channel: u16 = channel.parse().unwrap();
        assert_eq!(
            shown,
            json!({"channel": channel, "type": "method", "method": method, "arguments": arguments}),
            "{row:?}"
        );
    }
}

#[test]
fn every_header_shows_its_properties() {
    let rows: Vec<_> = rows(include_str!("../golden/properties.txt")).collect();
    for (row, shown) in rows.iter().zip(dump_column(&rows, 5)) {
        let [_, _, _, channel, golden, _] = row[..] else {
            panic!("{row:?}")
        };
        let mut properties = fields(golden);
        let body_size = properties.remove("body_size").unwrap();
        if let Some(message_type) = properties.remove("type") {
            properties.insert("message_type".to_owned(), message_type);
        }
        let channel: u16 = channel.parse().unwrap();
        assert_eq!(
            shown,
            json!({"channel": channel, "type": "header", "body_size": body_size, "properties": properties}),
            "{row:?}"
        );
    }
}

#[test]
fn every_other_frame_shows_its_payload() {
    for row in rows(include_str!("../golden/frames.txt")) {
        let [_, kind, _, channel, payload, frame] = row[..] else {
            panic!("{row:?}")
        };
        let channel: u16 = channel.parse().unwrap();
        let expected = match kind {
            "body" => {
                let size = octets(payload).len();
                let body = match String::from_utf8(octets(payload)) {
                    Ok(text) => json!({"size": size, "text": text}),
                    Err(_) => json!({"size": size, "hex": payload}),
                };
                json!({"channel": channel, "type": "body", "body": body})
            }
            "heartbeat" => json!({"channel": 0, "type": "heartbeat"}),
            "protocol-header" => json!({"type": "protocol-header"}),
            _ => panic!("{row:?}"),
        };
        assert_eq!(dump(&["--json"], &octets(frame)).clean().json(), [expected]);
    }
}

#[test]
fn every_kind_of_field_shows_its_value() {
    let rows: Vec<_> = rows(include_str!("../golden/fields.txt")).collect();
    let input: Vec<u8> = rows
        .iter()
        .flat_map(|row| {
            let headers = octets(row[4]);
            let properties = Properties {
                headers: Some(FieldTableRef::from_encoded(&headers)),
                ..Default::default()
            };
            header(1, 0, properties)
        })
        .collect();
    let dump = dump(&["--json"], &input).clean();
    assert_eq!(dump.lines().len(), rows.len());
    for (row, line) in rows.iter().zip(dump.lines()) {
        let golden: Value = serde_json::from_str(row[3]).unwrap();
        let (_, shown) = line.split_once(r#""headers":{"k":"#).unwrap();
        let shown = shown.strip_suffix("}}}").unwrap();
        match golden["tag"].as_str().unwrap() {
            // The digits, since not every JSON reader gets the last bit right.
            "f" if shown.starts_with(|first: char| first != '{') => {
                let bits = format!("{:08x}", shown.parse::<f32>().unwrap().to_bits());
                assert_eq!(bits, golden["bits"], "{row:?} {line}");
            }
            "d" if shown.starts_with(|first: char| first != '{') => {
                let bits = format!("{:016x}", shown.parse::<f64>().unwrap().to_bits());
                assert_eq!(bits, golden["bits"], "{row:?} {line}");
            }
            _ => {
                let shown: Value = serde_json::from_str(shown).unwrap();
                assert_eq!(shown, field(&golden), "{row:?}");
            }
        }
    }
}

/// A golden value as the program shows it.
fn field(golden: &Value) -> Value {
    match golden["tag"].as_str().unwrap() {
        "V" => Value::Null,
        "S" => string(golden["hex"].as_str().unwrap()),
        "x" => json!({"@hex": golden["hex"]}),
        "T" => json!({"@timestamp": golden["value"]}),
        "D" => json!({"@decimal": {"scale": golden["scale"], "raw": golden["raw"]}}),
        "A" => golden["items"].as_array().unwrap().iter().map(field).collect(),
        "F" => golden["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry[0].as_str().unwrap().to_owned(), field(&entry[1])))
            .collect::<Map<_, _>>()
            .into(),
        "f" | "d" => match golden["bits"].as_str().unwrap() {
            "7f800000" | "7ff0000000000000" => json!({"@float": "inf"}),
            "ff800000" | "fff0000000000000" => json!({"@float": "-inf"}),
            bits => panic!("{bits} is finite"),
        },
        _ => golden["value"].clone(),
    }
}
