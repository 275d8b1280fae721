//! What goes in comes out.

use amqp_proto::wire::{
    BasicAck, Decimal, FieldArray, FieldTable, FieldTableRef, FieldValue, Method, Properties, QueueDeclare,
    QueuePurge, QueuePurgeOk, ShortStr,
};

use crate::connect::{declare, guest, is, queue_name};

/// One entry of each type that RabbitMQ takes, nested ones included.
fn every_type() -> FieldTable {
    let mut array = FieldArray::new();
    array.push(1).unwrap();
    array.push("two").unwrap();
    let nested = FieldTable::new()
        .with("inner", &array)
        .unwrap()
        .with("void", FieldValue::Void)
        .unwrap();
    let values = [
        ("bool", true.into()),
        ("i8", i8::MIN.into()),
        ("u8", u8::MAX.into()),
        ("i16", i16::MIN.into()),
        ("u16", u16::MAX.into()),
        ("i32", i32::MIN.into()),
        ("u32", u32::MAX.into()),
        ("i64", i64::MIN.into()),
        ("f32", 1.5f32.into()),
        ("f64", (-2.25f64).into()),
        ("decimal", FieldValue::Decimal(Decimal { scale: 2, raw: 314 })),
        ("text", "grün".into()),
        ("octets", FieldValue::ByteArray(&[0, 255])),
        ("time", FieldValue::Timestamp(1_700_000_000)),
        ("void", FieldValue::Void),
    ];
    let mut table = FieldTable::new();
    for (key, value) in values {
        table.insert(key, value).unwrap();
    }
    table.insert("array", &array).unwrap();
    table.insert("table", &nested).unwrap();
    table
}

/// RabbitMQ 4 sorts the keys.
fn sorted(table: FieldTableRef<'_>) -> Vec<String> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|entry| {
            let (key, value) = entry.unwrap();
            match value {
                FieldValue::Table(nested) => format!("{key} F {:?}", sorted(nested)),
                _ => format!("{key} {} {value}", char::from(value.type_octet())),
            }
        })
        .collect();
    entries.sort();
    entries
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn headers_of_every_type_and_all_properties_come_back() {
    let mut client = guest();
    let queue = declare(&mut client);
    let headers = every_type();
    let text = |text| Some(ShortStr::new(text).unwrap());
    let properties = Properties {
        content_type: text("text/plain"),
        content_encoding: text("utf-8"),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(Properties::PERSISTENT),
        priority: Some(255),
        correlation_id: text("correlation"),
        reply_to: text("reply"),
        expiration: text("60000"),
        message_id: text(""),
        timestamp: Some(u64::from(u32::MAX) + 1),
        message_type: text("type"),
        user_id: text("guest"),
        app_id: text("app"),
        cluster_id: text("cluster"),
    };
    client.publish(&queue, &properties, b"body").unwrap();
    let got = client.get(&queue).unwrap().unwrap();
    let header = amqp_proto::wire::ContentHeader::decode(&got.header).unwrap();
    assert_eq!(header.body_size, 4);
    assert_eq!(
        sorted(header.properties.headers.unwrap()),
        sorted(headers.as_ref())
    );
    assert_eq!(
        Properties {
            headers: None,
            ..header.properties
        },
        Properties {
            headers: None,
            ..properties
        }
    );
    client.ack(&got).unwrap();
    client.close().unwrap();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn arguments_of_every_type_are_understood() {
    let mut client = guest();
    let arguments = every_type().with("x-max-length", 5).unwrap();
    let declare = QueueDeclare {
        exclusive: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    client.request(&declare, "queue.declare-ok", queue_name).unwrap();
    client.close().unwrap();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn bodies_of_no_one_and_many_frames_come_back() {
    let mut client = guest();
    let queue = declare(&mut client);
    for size in [0, 1, 131_064, 131_065, 400_000] {
        let body: Vec<u8> = (0..size).map(|i: usize| i.to_le_bytes()[0]).collect();
        client.publish(&queue, &Properties::default(), &body).unwrap();
        let got = client.get(&queue).unwrap().unwrap();
        assert!(got.body == body, "{size} octets came back as {}", got.body.len());
        client.ack(&got).unwrap();
    }
    assert!(client.get(&queue).unwrap().is_none());
    client.close().unwrap();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn names_and_keys_may_have_spaces_and_255_octets() {
    let mut client = guest();
    for name in ["hello world queue", "grüße|☃", &"n".repeat(255)] {
        let declare = QueueDeclare {
            queue: name.try_into().unwrap(),
            exclusive: true,
            ..Default::default()
        };
        assert_eq!(
            client.request(&declare, "queue.declare-ok", queue_name).unwrap(),
            name
        );
        client
            .publish(name, &Properties::default(), name.as_bytes())
            .unwrap();
        assert_eq!(client.get(name).unwrap().unwrap().body, name.as_bytes());
    }
    client.close().unwrap();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_unknown_delivery_tag_closes_the_channel_with_the_broker_s_words() {
    let mut client = guest();
    let queue = declare(&mut client);
    client
        .send(
            1,
            &BasicAck {
                delivery_tag: u64::MAX,
                multiple: false,
            },
        )
        .unwrap();
    let purge = QueuePurge {
        queue: queue.as_str().try_into().unwrap(),
        ..Default::default()
    };
    let error = client
        .request(&purge, "queue.purge-ok", is::<QueuePurgeOk>)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "waiting for queue.purge-ok, got ch 1 channel.close reply_code=406 PRECONDITION_FAILED \
         reply_text=\"PRECONDITION_FAILED - unknown delivery tag 18446744073709551615\" class_id=60 method_id=80"
    );
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_purge_counts_what_it_dropped() {
    let mut client = guest();
    let queue = declare(&mut client);
    client.publish(&queue, &Properties::default(), b"one").unwrap();
    client.publish(&queue, &Properties::default(), b"two").unwrap();
    let purge = QueuePurge {
        queue: queue.as_str().try_into().unwrap(),
        ..Default::default()
    };
    let count = client
        .request(&purge, "queue.purge-ok", |method| match method {
            Method::QueuePurgeOk(ok) => Some(ok.message_count),
            _ => None,
        })
        .unwrap();
    assert_eq!(count, 2);
    client.close().unwrap();
}
