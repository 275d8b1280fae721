//! The octets and values that all codecs are measured on.

use amqp_proto::SendBuf;
use amqp_proto::wire::{
    BasicDeliver, ContentHeader, FieldArray, FieldTable, FieldTableRef, Frame, Properties,
};
use bytes::Buf;

pub(crate) const CHANNEL: u16 = 1;
pub(crate) const FRAME_MAX: u32 = 128 * 1024;
pub(crate) const CONSUMER_TAG: &str = "amq.ctag-Uq3hWqWm1mZ0cYwq8m1n2w";
pub(crate) const DELIVERY_TAG: u64 = 4711;
pub(crate) const ROUTING_KEY: &str = "hello";
pub(crate) const CONTENT_TYPE: &str = "text/plain";
pub(crate) const BODY: &[u8; 16] = b"sixteen octets !";

/// The properties of a small message.
pub(crate) fn small_properties() -> Properties<'static> {
    Properties {
        content_type: Some(CONTENT_TYPE.try_into().expect("short")),
        delivery_mode: Some(Properties::PERSISTENT),
        ..Properties::default()
    }
}

/// `basic.deliver`, content header and body: three frames.
pub(crate) fn delivery() -> Vec<u8> {
    let method = BasicDeliver {
        consumer_tag: CONSUMER_TAG.try_into().expect("short"),
        delivery_tag: DELIVERY_TAG,
        routing_key: ROUTING_KEY.try_into().expect("short"),
        ..BasicDeliver::default()
    };
    let mut output = SendBuf::new();
    output
        .content(CHANNEL, &method, &small_properties(), BODY, FRAME_MAX)
        .expect("within frame-max");
    output.copy_to_bytes(output.remaining()).into()
}

/// Ten headers, all kinds that are common and some that are not.
pub(crate) fn headers() -> FieldTable {
    let deaths = FieldTable::new()
        .with("count", 3_i64)
        .and_then(|table| table.with("queue", "orders"))
        .and_then(|table| table.with("reason", "rejected"))
        .expect("valid");
    let mut history = FieldArray::new();
    history.push(&deaths).expect("valid");
    FieldTable::new()
        .with(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .and_then(|table| table.with("tenant", "acme"))
        .and_then(|table| table.with("attempt", 3_i32))
        .and_then(|table| table.with("sequence", 1_234_567_890_123_i64))
        .and_then(|table| table.with("urgent", true))
        .and_then(|table| table.with("share", 0.25_f64))
        .and_then(|table| table.with("version", 7_i16))
        .and_then(|table| table.with("x-death", &history))
        .and_then(|table| table.with("origin", &deaths))
        .and_then(|table| table.with("region", "eu-central-1"))
        .expect("valid")
}

/// A content header frame with all fourteen properties.
pub(crate) fn full_header() -> Vec<u8> {
    let headers = headers();
    let header = ContentHeader {
        body_size: 16,
        properties: full_properties(headers.as_ref()),
    };
    let mut octets = Vec::new();
    Frame::Header {
        channel: CHANNEL,
        header,
    }
    .encode(&mut octets, FRAME_MAX)
    .expect("within frame-max");
    octets
}

pub(crate) fn full_properties(headers: FieldTableRef<'_>) -> Properties<'_> {
    let short = |text: &'static str| Some(text.try_into().expect("short"));
    Properties {
        content_type: short("application/json"),
        content_encoding: short("gzip"),
        headers: Some(headers),
        delivery_mode: Some(Properties::PERSISTENT),
        priority: Some(4),
        correlation_id: short("3f1e9a52-8c0b-4d53-9a43-5d1d8a3f7c10"),
        reply_to: short("amq.rabbitmq.reply-to"),
        expiration: short("60000"),
        message_id: short("8d9c6f2e-54c7-4b83-8a86-0f7f3a1c2b4d"),
        timestamp: Some(1_700_000_000),
        message_type: short("order.created"),
        user_id: short("guest"),
        app_id: short("checkout"),
        cluster_id: short("blue"),
    }
}

/// A body frame that is as large as frame-max allows.
pub(crate) fn large_body() -> Vec<u8> {
    let payload: Vec<u8> = (0..FRAME_MAX - 8).map(|i| i.to_le_bytes()[0]).collect();
    let mut octets = Vec::new();
    Frame::Body {
        channel: CHANNEL,
        payload: &payload,
    }
    .encode(&mut octets, FRAME_MAX)
    .expect("within frame-max");
    octets
}
