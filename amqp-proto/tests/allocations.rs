//! Nothing on the hot paths allocates once it is warm, and large bodies are not copied.
//!
//! The counter counts what the calling thread allocates. One more `Box` a round fails every test here but the one that allows an
//! allocation for every 64 KiB received.

use allocation_counter::measure;
use amqp_proto::wire::{
    BasicAck, BasicDeliver, BasicNack, BasicPublish, ContentHeader, FieldArray, FieldArrayRef, FieldTable,
    FieldTableRef, FieldValue, Frame, FrameLimits, Method, Properties, RawFrame, ShortStr,
};
use amqp_proto::{RecvBuf, SendBuf};
use bytes::{Buf, Bytes};
use std::hint::black_box;

const ROUNDS: u64 = 10_000;
const FRAME_MAX: u32 = 128 * 1024;

fn short(text: &str) -> ShortStr<'_> {
    text.try_into().unwrap()
}

/// How often `run` allocates in so many rounds, after a few that do not count.
fn allocations(rounds: u64, mut run: impl FnMut()) -> u64 {
    (0..100).for_each(|_| run());
    measure(|| (0..rounds).for_each(|_| run())).count_total
}

fn small_properties() -> Properties<'static> {
    Properties {
        content_type: Some(short("text/plain")),
        delivery_mode: Some(Properties::PERSISTENT),
        ..Properties::default()
    }
}

fn publish(output: &mut SendBuf, body: impl Into<amqp_proto::Payload<'static>>) {
    let method = BasicPublish {
        routing_key: short("hello"),
        ..BasicPublish::default()
    };
    output
        .content(1, &method, &small_properties(), body, FRAME_MAX)
        .unwrap();
}

/// The frames of a small delivery.
fn delivery() -> Vec<u8> {
    let method = BasicDeliver {
        consumer_tag: short("amq.ctag-Uq3hWqWm1mZ0cYwq8m1n2w"),
        delivery_tag: 4711,
        routing_key: short("hello"),
        ..BasicDeliver::default()
    };
    let mut output = SendBuf::new();
    output
        .content(1, &method, &small_properties(), b"sixteen octets !", FRAME_MAX)
        .unwrap();
    output.copy_to_bytes(output.remaining()).into()
}

/// Entries of every common type, nested ones among them.
fn headers() -> FieldTable {
    let inner = FieldTable::new().with("queue", "orders").unwrap();
    let mut list = FieldArray::new();
    list.push(&inner).unwrap();
    list.push(7).unwrap();
    FieldTable::new()
        .with(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .and_then(|table| table.with("attempt", 3_i32))
        .and_then(|table| table.with("sequence", 1_234_567_890_123_i64))
        .and_then(|table| table.with("urgent", true))
        .and_then(|table| table.with("share", 0.25_f64))
        .and_then(|table| table.with("x-death", &list))
        .and_then(|table| table.with("origin", &inner))
        .unwrap()
}

fn read_table(table: FieldTableRef<'_>) -> usize {
    table.iter().map(|entry| 1 + read_value(entry.unwrap().1)).sum()
}

fn read_array(array: FieldArrayRef<'_>) -> usize {
    array.iter().map(|item| 1 + read_value(item.unwrap())).sum()
}

fn read_value(value: FieldValue<'_>) -> usize {
    match value {
        FieldValue::Table(table) => read_table(table),
        FieldValue::Array(array) => read_array(array),
        value => {
            black_box(value.as_str());
            0
        }
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(10, || drop(black_box(Box::new(1)))), 10);
}

#[test]
fn publishing_and_writing_out() {
    let mut output = SendBuf::new();
    let count = allocations(ROUNDS, || {
        publish(&mut output, b"sixteen octets !");
        publish(&mut output, Bytes::from_static(b"shared, but small"));
        while output.has_remaining() {
            let chunk = output.chunk().len();
            output.advance(chunk);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn reading_deliveries_acknowledgements_and_confirms() {
    let mut octets = delivery();
    let ack = BasicAck {
        delivery_tag: 7,
        multiple: true,
    };
    for method in [Method::from(ack), Method::from(BasicNack::default())] {
        method.encode(&mut octets, 1, FRAME_MAX).unwrap();
    }
    let limits = FrameLimits::default();
    let count = allocations(ROUNDS, || {
        let mut rest = &octets[..];
        let mut frames = 0;
        while let Some(raw) = RawFrame::parse(rest, &limits).unwrap() {
            black_box(raw.decode().unwrap());
            rest = &rest[raw.size()..];
            frames += 1;
        }
        assert_eq!((frames, rest.len()), (5, 0));
    });
    assert_eq!(count, 0);
}

#[test]
fn writing_acknowledgements() {
    let mut output = SendBuf::new();
    let count = allocations(ROUNDS, || {
        output.method(1, &BasicAck::default(), FRAME_MAX).unwrap();
        output.heartbeat();
        output.advance(usize::MAX);
    });
    assert_eq!(count, 0);
}

#[test]
fn reading_every_property_and_every_header() {
    let headers = headers();
    let properties = Properties {
        content_type: Some(short("application/json")),
        content_encoding: Some(short("gzip")),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(Properties::PERSISTENT),
        priority: Some(4),
        correlation_id: Some(short("3f1e9a52-8c0b-4d53-9a43-5d1d8a3f7c10")),
        reply_to: Some(short("amq.rabbitmq.reply-to")),
        expiration: Some(short("60000")),
        message_id: Some(short("8d9c6f2e-54c7-4b83-8a86-0f7f3a1c2b4d")),
        timestamp: Some(1_700_000_000),
        message_type: Some(short("order.created")),
        user_id: Some(short("guest")),
        app_id: Some(short("checkout")),
        cluster_id: Some(short("blue")),
    };
    let header = ContentHeader {
        body_size: 16,
        properties,
    };
    let mut octets = Vec::new();
    Frame::Header { channel: 1, header }
        .encode(&mut octets, FRAME_MAX)
        .unwrap();
    let count = allocations(ROUNDS, || {
        let raw = RawFrame::parse(&octets, &FrameLimits::default())
            .unwrap()
            .unwrap();
        let read = ContentHeader::decode(raw.payload).unwrap();
        let mut properties = 0;
        read.properties.for_each(&mut |_, _| properties += 1);
        assert_eq!(properties, 14);
        let table = read.properties.headers.unwrap();
        table.validate().unwrap();
        assert_eq!(read_table(table), 11);
        assert_eq!(table.get("urgent").unwrap(), Some(FieldValue::Bool(true)));
    });
    assert_eq!(count, 0);
}

#[test]
fn walking_a_table_to_keep() {
    let table = headers();
    let count = allocations(ROUNDS, || {
        assert_eq!(table.iter().count(), 7);
        assert!(table.get("origin").is_some());
        assert!(table.get("absent").is_none());
    });
    assert_eq!(count, 0);
}

/// As a socket would: fills the spare room, and says how much that was.
fn arrive(input: &mut RecvBuf) -> u64 {
    let spare = input.spare_mut();
    spare.fill(7);
    let count = spare.len();
    input.advance(count);
    count as u64
}

#[test]
fn receiving_without_taking_anything_out() {
    let mut input = RecvBuf::new();
    let count = allocations(ROUNDS, || {
        assert!(arrive(&mut input) > 0);
        while !input.unread().is_empty() {
            input.consume(100);
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn receiving_and_dropping_what_is_taken_out() {
    let mut input = RecvBuf::new();
    for leftover in [0, 1, 60] {
        let mut received = 0;
        let mut largest = 0;
        let count = allocations(1000, || {
            let arrived = arrive(&mut input);
            received += arrived;
            largest = largest.max(arrived);
            while input.unread().len() > leftover {
                black_box(input.take(100.min(input.unread().len() - leftover)));
            }
        });
        assert!(largest > 32 * 1024, "it reads {largest} octets at a time");
        let allowed = received.div_ceil(64 * 1024);
        assert!(count <= allowed, "{count} allocations for {received} octets");
    }
}

#[test]
#[cfg(feature = "std")]
fn a_large_shared_body_is_neither_copied_nor_allocated_for() {
    let body = Bytes::from(vec![7; 300_000]);
    let start = body.as_ptr();
    let mut output = SendBuf::new();
    let count = allocations(ROUNDS / 10, || {
        publish(&mut output, body.clone());
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let used = output.chunks_vectored(&mut slices);
        let (mut seen, mut size) = (0, 0);
        for slice in &slices[..used] {
            size += slice.len();
            if slice.len() > 4096 {
                // The piece stands where the body has it.
                assert_eq!(slice.as_ptr(), start.wrapping_add(seen));
                seen += slice.len();
            }
        }
        assert_eq!((seen, size), (body.len(), output.remaining()));
        output.advance(size);
    });
    assert_eq!(count, 0);
    assert!(body.is_unique(), "the buffer keeps nothing of it");
}
