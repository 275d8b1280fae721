//! What is measured: each case a function that runs it once, for each codec that has it.

use std::hint::black_box;
use std::io::IoSlice;

use amqp_proto::wire::{
    BasicAck, BasicPublish, ContentHeader, FieldArrayRef, FieldTableRef, FieldValue, FrameLimits, FrameType,
    Method, Properties, RawFrame,
};
use amqp_proto::{RecvBuf, SendBuf};
use bytes::{Buf, Bytes, BytesMut};

use crate::machine;
use crate::peers::{amq_protocol, amqp_serde};
use crate::round_trip;
use crate::samples;

/// Whose code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// amqp-proto.
    Ours,
    /// lapin's.
    AmqProtocol,
    /// amqprs's.
    AmqpSerde,
    /// None: one copy of the octets, as a measure.
    Memcpy,
}

/// Runs a case so many rounds, one after the other.
pub type Run = Box<dyn FnMut(usize)>;

/// Makes a [`Run`] that is good for at least so many rounds.
pub type Prepare = fn(usize) -> Run;

/// One thing to measure.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// How many instructions ours may take at most.
    pub budget: Option<u64>,
    /// How many rounds are a fair average, and how many a [`Run`] is good for.
    pub rounds: Rounds,
    /// The codecs that have it.
    pub subjects: &'static [(Codec, Prepare)],
}

/// How a case is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// As often as one likes; so many rounds are a fair average.
    Endless(usize),
    /// Something is used up, so that not more than was asked for can be had; so many at a time are enough.
    Limited(usize),
}

/// A case that only we have.
macro_rules! machine {
    ($name:literal, $budget:literal, $prepare:expr) => {
        Case {
            name: $name,
            budget: Some($budget),
            rounds: Rounds::Limited(512),
            subjects: &[(Codec::Ours, $prepare)],
        }
    };
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "parse_delivery",
        budget: Some(500),
        rounds: Rounds::Endless(64),
        subjects: &[
            (Codec::Ours, |_| frames(samples::delivery())),
            (Codec::AmqProtocol, |_| amq_protocol_frames(samples::delivery())),
            (Codec::AmqpSerde, |_| amqp_serde_frames(samples::delivery())),
        ],
    },
    // The least a message is: no properties.
    Case {
        name: "encode_publish",
        budget: Some(250),
        rounds: Rounds::Endless(512),
        subjects: &[
            (Codec::Ours, |_| publish(Properties::default())),
            (Codec::AmqProtocol, |_| {
                amq_protocol_encode(amq_protocol::publish(false))
            }),
            (Codec::AmqpSerde, |_| amqp_serde_publish(false)),
        ],
    },
    // With content_type and delivery_mode.
    Case {
        name: "encode_publish_typed",
        budget: Some(300),
        rounds: Rounds::Endless(512),
        subjects: &[
            (Codec::Ours, |_| publish(samples::small_properties())),
            (Codec::AmqProtocol, |_| {
                amq_protocol_encode(amq_protocol::publish(true))
            }),
            (Codec::AmqpSerde, |_| amqp_serde_publish(true)),
        ],
    },
    Case {
        name: "encode_ack",
        budget: Some(100),
        rounds: Rounds::Endless(512),
        subjects: &[
            (Codec::Ours, |_| ack()),
            (Codec::AmqProtocol, |_| amq_protocol_encode(amq_protocol::ack())),
            (Codec::AmqpSerde, |_| amqp_serde_ack()),
        ],
    },
    // The peers know no unread headers: they always do all of it.
    Case {
        name: "header_unread",
        budget: Some(500),
        rounds: Rounds::Endless(64),
        subjects: &[
            (Codec::Ours, |_| frames(samples::full_header())),
            (
                Codec::AmqProtocol,
                |_| amq_protocol_frames(samples::full_header()),
            ),
            (Codec::AmqpSerde, |_| amqp_serde_frames(samples::full_header())),
        ],
    },
    Case {
        name: "header_read",
        budget: Some(2500),
        rounds: Rounds::Endless(64),
        subjects: &[
            (Codec::Ours, |_| header_read()),
            (
                Codec::AmqProtocol,
                |_| amq_protocol_frames(samples::full_header()),
            ),
            (Codec::AmqpSerde, |_| amqp_serde_frames(samples::full_header())),
        ],
    },
    // The budget leaves no room for a copy: that alone would be thousands.
    Case {
        name: "body_128k",
        budget: Some(300),
        rounds: Rounds::Limited(16),
        subjects: &[
            (Codec::Ours, take_body),
            (Codec::AmqProtocol, |_| amq_protocol_frames(samples::large_body())),
            (Codec::AmqpSerde, |_| amqp_serde_frames(samples::large_body())),
            (Codec::Memcpy, |_| copy(samples::large_body())),
        ],
    },
    // From here on the buffers rather than the codec.
    Case {
        name: "receive_delivery",
        budget: Some(1000),
        rounds: Rounds::Endless(DELIVERIES),
        subjects: &[(Codec::Ours, |_| receive_delivery())],
    },
    Case {
        name: "send_shared_64k",
        budget: Some(1000),
        rounds: Rounds::Endless(64),
        subjects: &[(Codec::Ours, |_| send_shared())],
    },
    // And the machines: from the application's call to octets, and from octets to an event. An ack of its own comes through the
    // buffer, which is a third of what it costs.
    machine!("machine_publish", 400, |_| machine::publish()),
    machine!("machine_publish_confirm", 500, |_| machine::publish_confirm()),
    machine!("machine_publish_ack", 1050, |_| machine::publish_ack()),
    machine!("machine_deliver", 650, machine::deliver),
    machine!("machine_deliver_ack", 800, machine::deliver_ack),
    machine!("poll_event_idle", 50, |_| machine::idle_event()),
    machine!("poll_transmit_idle", 50, |_| machine::idle_transmit()),
    machine!("poll_timeout_idle", 50, |_| machine::idle_timeout()),
    // And all of it: client, link and test broker, there and back, with ack and confirm. Less than 2 µs of CPU.
    machine!("round_trip", 26000, |_| round_trip::together()),
    machine!("round_trip_alone", 30500, |_| round_trip::alone()),
];

/// Reads every frame there is.
fn frames(octets: Vec<u8>) -> Run {
    let limits = FrameLimits::default();
    repeated(move || {
        let mut rest = black_box(&octets[..]);
        while let Ok(Some(raw)) = RawFrame::parse(rest, &limits) {
            dispatch(raw);
            rest = &rest[raw.size()..];
        }
        assert!(rest.is_empty());
    })
}

/// As a state machine has it: each kind of frame goes its own way, with all that is in it.
#[inline(always)]
fn dispatch(raw: RawFrame<'_>) {
    black_box(raw.channel);
    match raw.frame_type {
        FrameType::Method => {
            black_box(Method::decode(raw.payload).as_ref().expect("valid"));
        }
        FrameType::Header => {
            black_box(ContentHeader::decode(raw.payload).as_ref().expect("valid"));
        }
        FrameType::Body => {
            black_box(raw.payload);
        }
        FrameType::Heartbeat => {}
    }
}

fn amq_protocol_frames(octets: Vec<u8>) -> Run {
    repeated(move || {
        let mut rest = black_box(&octets[..]);
        while !rest.is_empty() {
            let (after, frame) = amq_protocol::decode(rest);
            black_box(&frame);
            rest = after;
        }
    })
}

fn amqp_serde_frames(octets: Vec<u8>) -> Run {
    repeated(move || {
        let mut rest = black_box(&octets[..]);
        while !rest.is_empty() {
            let (size, frame) = amqp_serde::decode(rest);
            black_box(&frame);
            rest = &rest[size..];
        }
    })
}

/// Through the buffer and out again. Method and properties are ready made, as the peers' frames are.
fn publish(properties: Properties<'static>) -> Run {
    let mut output = SendBuf::new();
    let method = BasicPublish {
        routing_key: samples::ROUTING_KEY.try_into().expect("short"),
        ..BasicPublish::default()
    };
    repeated(move || {
        output
            .content(
                samples::CHANNEL,
                black_box(&method),
                black_box(&properties),
                black_box(samples::BODY.as_slice()),
                samples::FRAME_MAX,
            )
            .expect("within frame-max");
        drain(&mut output);
    })
}

/// A run of rounds: the loop is inside, so that a round is not also a call through a pointer.
pub(crate) fn repeated(mut round: impl FnMut() + 'static) -> Run {
    Box::new(move |rounds| (0..rounds).for_each(|_| round()))
}

/// Empties the buffer when there is enough for a write: messages wait for each other, as they do under load.
fn drain(output: &mut SendBuf) {
    if output.remaining() >= 4096 {
        let count = black_box(output.chunk()).len();
        output.advance(count);
    }
}

fn ack() -> Run {
    let mut output = SendBuf::new();
    repeated(move || {
        let method = BasicAck {
            delivery_tag: black_box(samples::DELIVERY_TAG),
            multiple: false,
        };
        output
            .method(samples::CHANNEL, &method, samples::FRAME_MAX)
            .expect("within frame-max");
        drain(&mut output);
    })
}

fn amq_protocol_encode<const N: usize>(frames: [::amq_protocol::frame::AMQPFrame; N]) -> Run {
    let mut out = Vec::new();
    repeated(move || {
        out.clear();
        amq_protocol::encode(&mut out, black_box(&frames));
        black_box(&out);
    })
}

fn amqp_serde_publish(typed: bool) -> Run {
    let mut out = BytesMut::new();
    let (method, header) = (amqp_serde::publish(), amqp_serde::header(typed));
    repeated(move || {
        out.clear();
        amqp_serde::encode_method(&mut out, 40, black_box(&method));
        amqp_serde::encode_header(&mut out, black_box(&header));
        amqp_serde::encode_body(&mut out, black_box(samples::BODY));
        black_box(&out);
    })
}

fn amqp_serde_ack() -> Run {
    let mut out = BytesMut::new();
    let method = amqp_serde::ack();
    repeated(move || {
        out.clear();
        amqp_serde::encode_method(&mut out, 80, black_box(&method));
        black_box(&out);
    })
}

/// Every property, every header, every level.
fn header_read() -> Run {
    let octets = samples::full_header();
    let limits = FrameLimits::default();
    repeated(move || {
        let raw = RawFrame::parse(black_box(&octets), &limits);
        let raw = raw.expect("valid").expect("whole");
        let header = ContentHeader::decode(raw.payload);
        let header = black_box(header.as_ref().expect("valid"));
        read_table(header.properties.headers.expect("it has headers"));
    })
}

fn read_table(table: FieldTableRef<'_>) {
    for entry in table {
        let (key, value) = entry.expect("valid");
        black_box(key);
        read_value(value);
    }
}

fn read_array(array: FieldArrayRef<'_>) {
    for item in array {
        read_value(item.expect("valid"));
    }
}

fn read_value(value: FieldValue<'_>) {
    match value {
        FieldValue::Table(table) => read_table(table),
        FieldValue::Array(array) => read_array(array),
        value => {
            black_box(&value);
        }
    }
}

/// A body frame out of a buffer that holds enough of them, as octets that share its memory.
fn take_body(rounds: usize) -> Run {
    let octets = samples::large_body();
    let limits = FrameLimits::default();
    let mut input = RecvBuf::with_limit(octets.len() * rounds);
    for _ in 0..rounds {
        assert_eq!(input.extend(&octets), octets.len());
    }
    repeated(move || {
        let raw = RawFrame::parse(black_box(input.unread()), &limits);
        let size = raw.expect("valid").expect("whole").size();
        black_box(&take_payload(&mut input, size));
    })
}

/// Takes the frame of `size` octets that the buffer begins with, and leaves away what stands around its payload.
fn take_payload(input: &mut RecvBuf, size: usize) -> Bytes {
    input.consume(7);
    let payload = input.take(size - 8);
    input.consume(1);
    payload
}

fn copy(octets: Vec<u8>) -> Run {
    let mut place = vec![0; octets.len()];
    repeated(move || {
        place.copy_from_slice(black_box(&octets));
        black_box(&place);
    })
}

/// How many small deliveries arrive at once.
const DELIVERIES: usize = 512;

/// A small delivery out of a buffer, its octets kept for a moment; the buffer is filled when it is empty.
fn receive_delivery() -> Run {
    let octets = samples::delivery().repeat(DELIVERIES);
    let limits = FrameLimits::default();
    let mut input = RecvBuf::new();
    repeated(move || {
        if input.unread().is_empty() {
            assert_eq!(input.extend(black_box(&octets)), octets.len());
        }
        let mut size = 0;
        for _ in 0..3 {
            let raw = RawFrame::parse(&input.unread()[size..], &limits);
            let raw = raw.expect("valid").expect("whole");
            dispatch(raw);
            size += raw.size();
        }
        black_box(&input.take(size));
    })
}

/// A large body goes through without a copy, in a vectored write.
fn send_shared() -> Run {
    let mut output = SendBuf::new();
    let properties = samples::small_properties();
    let body = Bytes::from(vec![7; 64 * 1024]);
    repeated(move || {
        let method = BasicPublish {
            routing_key: black_box(samples::ROUTING_KEY).try_into().expect("short"),
            ..BasicPublish::default()
        };
        output
            .content(
                samples::CHANNEL,
                &method,
                &properties,
                body.clone(),
                samples::FRAME_MAX,
            )
            .expect("within frame-max");
        let mut slices = [IoSlice::new(&[]); 8];
        let count = output.chunks_vectored(&mut slices);
        let size = slices[..count].iter().map(|slice| slice.len()).sum();
        black_box(&slices);
        output.advance(size);
    })
}

#[cfg(test)]
mod tests {
    use amqp_proto::wire::Frame;

    use super::*;

    #[test]
    fn every_case_runs() {
        for case in CASES {
            for (_, prepare) in case.subjects {
                let mut run = prepare(3);
                run(3);
            }
        }
    }

    #[test]
    fn all_codecs_read_the_same_from_the_same_octets() {
        let octets = samples::delivery();

        let limits = FrameLimits::default();
        let raw = RawFrame::parse(&octets, &limits).unwrap().unwrap();
        let Frame::Method {
            method: Method::BasicDeliver(ours),
            ..
        } = raw.decode().unwrap()
        else {
            panic!("not a delivery")
        };
        assert_eq!(ours.consumer_tag, samples::CONSUMER_TAG);

        let (rest, frame) = amq_protocol::decode(&octets);
        assert_eq!(rest.len(), octets.len() - raw.size());
        assert!(format!("{frame:?}").contains(samples::CONSUMER_TAG));

        let (size, amqp_serde::Frame::Deliver(deliver)) = amqp_serde::decode(&octets) else {
            panic!("not a delivery")
        };
        assert_eq!(size, raw.size());
        assert_eq!(deliver.consumer_tag.to_string(), samples::CONSUMER_TAG);
        assert_eq!(deliver.delivery_tag, samples::DELIVERY_TAG);

        let body = &octets[octets.len() - samples::BODY.len() - 8..];
        let (_, amqp_serde::Frame::Body(body)) = amqp_serde::decode(body) else {
            panic!("not a body")
        };
        assert_eq!(body, samples::BODY);
    }

    #[test]
    fn all_codecs_read_fourteen_properties_and_ten_headers() {
        let octets = samples::full_header();
        let raw = RawFrame::parse(&octets, &FrameLimits::default());
        let Ok(Frame::Header { header, .. }) = raw.unwrap().unwrap().decode() else {
            panic!("not a content header")
        };
        let mut count = 0;
        header.properties.for_each(&mut |_, _| count += 1);
        assert_eq!(count, 14);
        assert_eq!(header.properties.headers.unwrap().iter().count(), 10);

        let (_, amqp_serde::Frame::Header(theirs)) = amqp_serde::decode(&octets) else {
            panic!("not a content header")
        };
        assert_eq!(theirs.common.body_size, header.body_size);
        assert_eq!(theirs.properties.headers.as_ref().unwrap().as_ref().len(), 10);
        assert_eq!(theirs.properties.cluster_id.as_ref().unwrap().to_string(), "blue");

        let (_, ::amq_protocol::frame::AMQPFrame::Header(_, theirs)) = amq_protocol::decode(&octets) else {
            panic!("not a content header")
        };
        assert_eq!(theirs.properties.headers().as_ref().unwrap().inner().len(), 10);
    }

    #[test]
    fn all_codecs_write_the_same_octets() {
        let mut output = SendBuf::new();
        let method = BasicPublish {
            routing_key: samples::ROUTING_KEY.try_into().unwrap(),
            ..BasicPublish::default()
        };
        let properties = samples::small_properties();
        output
            .content(
                samples::CHANNEL,
                &method,
                &properties,
                samples::BODY,
                samples::FRAME_MAX,
            )
            .unwrap();

        let mut theirs = Vec::new();
        amq_protocol::encode(&mut theirs, &amq_protocol::publish(true));
        assert_eq!(output.chunk(), theirs);

        let mut theirs = BytesMut::new();
        amqp_serde::encode_method(&mut theirs, 40, &amqp_serde::publish());
        amqp_serde::encode_header(&mut theirs, &amqp_serde::header(true));
        amqp_serde::encode_body(&mut theirs, samples::BODY);
        assert_eq!(output.chunk(), theirs);
    }
}
