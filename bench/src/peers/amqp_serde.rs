//! amqprs's codec. amqp_serde knows AMQP's types; frames and methods are structs of its user's, so those that are measured
//! are declared here, with the types and in the steps that amqprs has for them.

use amqp_serde::types::{FieldTable, ShortStr};
use amqp_serde::{from_bytes, to_buffer};
use bytes::{BufMut, BytesMut};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::samples;

const FRAME_END: u8 = 0xCE;

#[derive(Serialize, Deserialize)]
struct FrameHeader {
    frame_type: u8,
    channel: u16,
    size: u32,
}

#[derive(Serialize, Deserialize)]
struct MethodId {
    class: u16,
    method: u16,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deliver {
    pub(crate) consumer_tag: ShortStr,
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: ShortStr,
    pub(crate) routing_key: ShortStr,
}

#[derive(Serialize)]
pub(crate) struct Publish {
    ticket: u16,
    exchange: ShortStr,
    routing_key: ShortStr,
    bits: u8,
}

#[derive(Serialize)]
pub(crate) struct Ack {
    delivery_tag: u64,
    multiple: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Common {
    class: u16,
    weight: u16,
    pub(crate) body_size: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ContentHeader {
    pub(crate) common: Common,
    pub(crate) properties: Properties,
}

macro_rules! properties {
    ($($name:ident: $type:ty = bit $bit:literal,)+) => {
        #[derive(Debug, Default, Serialize)]
        pub(crate) struct Properties {
            flags: [u8; 2],
            $(#[serde(skip_serializing_if = "Option::is_none")] pub(crate) $name: Option<$type>,)+
        }

        impl<'de> Deserialize<'de> for Properties {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                const FIELDS: &[&str] = &["flags", $(stringify!($name)),+];
                deserializer.deserialize_struct("Properties", FIELDS, PropertiesVisitor)
            }
        }

        impl<'de> Visitor<'de> for PropertiesVisitor {
            type Value = Properties;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("message properties")
            }

            /// Only the properties that have their flag set are there.
            fn visit_seq<S: SeqAccess<'de>>(self, mut sequence: S) -> Result<Properties, S::Error> {
                let missing = || S::Error::custom("missing");
                let flags: [u8; 2] = sequence.next_element()?.ok_or_else(missing)?;
                let set = u16::from_be_bytes(flags);
                let mut properties = Properties { flags, ..Properties::default() };
                $(if set & 1 << $bit != 0 {
                    properties.$name = Some(sequence.next_element()?.ok_or_else(missing)?);
                })+
                Ok(properties)
            }
        }
    };
}

struct PropertiesVisitor;

properties! {
    content_type: ShortStr = bit 15,
    content_encoding: ShortStr = bit 14,
    headers: FieldTable = bit 13,
    delivery_mode: u8 = bit 12,
    priority: u8 = bit 11,
    correlation_id: ShortStr = bit 10,
    reply_to: ShortStr = bit 9,
    expiration: ShortStr = bit 8,
    message_id: ShortStr = bit 7,
    timestamp: u64 = bit 6,
    message_type: ShortStr = bit 5,
    user_id: ShortStr = bit 4,
    app_id: ShortStr = bit 3,
    cluster_id: ShortStr = bit 2,
}

/// The frames that the benchmarks read; amqprs boxes its content headers too.
#[derive(Debug)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "making them is what is measured; only the tests look inside"
    )
)]
pub(crate) enum Frame {
    Deliver(Deliver),
    Header(Box<ContentHeader>),
    Body(Vec<u8>),
}

/// Reads the frame that `octets` begins with, and says how long it is.
pub(crate) fn decode(octets: &[u8]) -> (usize, Frame) {
    let header: FrameHeader = from_bytes(&octets[..7]).expect("a frame header");
    let end = 7 + header.size as usize;
    assert_eq!(octets[end], FRAME_END);
    let frame = match header.frame_type {
        1 => {
            let id: MethodId = from_bytes(&octets[7..11]).expect("a method's numbers");
            match (id.class, id.method) {
                (60, 60) => Frame::Deliver(from_bytes(&octets[11..end]).expect("basic.deliver")),
                _ => panic!("not among the cases"),
            }
        }
        2 => Frame::Header(Box::new(ContentHeader {
            common: from_bytes(&octets[7..19]).expect("class, weight, size"),
            properties: from_bytes(&octets[19..end]).expect("properties"),
        })),
        _ => Frame::Body(octets[7..end].to_vec()),
    };
    (end + 1, frame)
}

/// Writes a method frame.
pub(crate) fn encode_method(out: &mut BytesMut, method_number: u16, method: &impl Serialize) {
    let id = MethodId {
        class: 60,
        method: method_number,
    };
    encode_frame(out, 1, |out| {
        to_buffer(&id, out).expect("room");
        to_buffer(method, out).expect("room");
    });
}

/// Writes a content header frame.
pub(crate) fn encode_header(out: &mut BytesMut, header: &ContentHeader) {
    encode_frame(out, 2, |out| {
        to_buffer(header, out).expect("room");
    });
}

/// Writes a body frame; amqprs leaves serde out of that, too.
pub(crate) fn encode_body(out: &mut BytesMut, body: &[u8]) {
    encode_frame(out, 3, |out| out.put_slice(body));
}

fn encode_frame(out: &mut BytesMut, frame_type: u8, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    let header = FrameHeader {
        frame_type,
        channel: samples::CHANNEL,
        size: 0,
    };
    to_buffer(&header, out).expect("room");
    payload(out);
    let size = u32::try_from(out.len() - start - 7).expect("small");
    out[start + 3..start + 7].copy_from_slice(&size.to_be_bytes());
    out.put_u8(FRAME_END);
}

/// `basic.publish`, ready made.
pub(crate) fn publish() -> Publish {
    Publish {
        ticket: 0,
        exchange: ShortStr::default(),
        routing_key: samples::ROUTING_KEY.try_into().expect("short"),
        bits: 0,
    }
}

/// The content header of a small message, ready made; `typed` with content_type and delivery_mode.
pub(crate) fn header(typed: bool) -> ContentHeader {
    ContentHeader {
        common: Common {
            class: 60,
            weight: 0,
            body_size: samples::BODY.len() as u64,
        },
        properties: if !typed {
            Properties::default()
        } else {
            Properties {
                flags: [0b1001_0000, 0],
                content_type: Some(samples::CONTENT_TYPE.try_into().expect("short")),
                delivery_mode: Some(2),
                ..Properties::default()
            }
        },
    }
}

/// An acknowledgement, ready made.
pub(crate) const fn ack() -> Ack {
    Ack {
        delivery_tag: samples::DELIVERY_TAG,
        multiple: false,
    }
}
