//! lapin's codec.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::{AMQPMethod, AMQPProperties, Ack, Publish};

use crate::samples;

/// Reads the frame that `octets` begins with.
pub(crate) fn decode(octets: &[u8]) -> (&[u8], AMQPFrame) {
    parse_frame(octets).expect("a whole frame")
}

/// Writes frames one after the other; `out` keeps its memory.
pub(crate) fn encode(out: &mut Vec<u8>, frames: &[AMQPFrame]) {
    let mut context = WriteContext::from(std::mem::take(out));
    for frame in frames {
        context = gen_frame(frame)(context).expect("a Vec takes all");
    }
    *out = context.into_inner().0;
}

/// The three frames of a small message, ready made; `typed` with content_type and delivery_mode.
pub(crate) fn publish(typed: bool) -> [AMQPFrame; 3] {
    let properties = match typed {
        true => AMQPProperties::default()
            .with_content_type(samples::CONTENT_TYPE.into())
            .with_delivery_mode(2),
        false => AMQPProperties::default(),
    };
    let method = Publish {
        exchange: "".into(),
        routing_key: samples::ROUTING_KEY.into(),
        mandatory: false,
        immediate: false,
    };
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: samples::BODY.len() as u64,
        properties,
    };
    [
        AMQPFrame::Method(samples::CHANNEL, AMQPClass::Basic(AMQPMethod::Publish(method))),
        AMQPFrame::Header(samples::CHANNEL, header),
        AMQPFrame::Body(samples::CHANNEL, samples::BODY.to_vec()),
    ]
}

/// An acknowledgement, ready made.
pub(crate) fn ack() -> [AMQPFrame; 1] {
    let method = Ack {
        delivery_tag: samples::DELIVERY_TAG,
        multiple: false,
    };
    [AMQPFrame::Method(
        samples::CHANNEL,
        AMQPClass::Basic(AMQPMethod::Ack(method)),
    )]
}
