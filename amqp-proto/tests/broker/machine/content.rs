//! What goes in comes out, whatever its size and properties.

use amqp_proto::wire::{ConfirmSelect, FieldTable, FieldValue, Properties, QueueDeclare};
use amqp_proto::{ChannelCloseReason, ChannelId, Event, SendError};

use super::{Session, consume, short, to, unique};
use crate::connect::parameters;

fn octets(count: usize) -> Vec<u8> {
    (0..count).map(|index| index.to_le_bytes()[index % 3]).collect()
}

/// Bodies around the frame's limit, and larger, there and back by get.
fn bodies_come_back(frame_max: u32) {
    let mut session = Session::connect(parameters().config.frame_max(frame_max));
    assert_eq!(session.core.negotiated().frame_max, frame_max);
    let channel = session.open();
    let queue = session.queue(channel);
    let one_frame = frame_max as usize - 8;
    for size in [
        0,
        1,
        one_frame - 1,
        one_frame,
        one_frame + 1,
        2 * one_frame,
        1_000_000,
    ] {
        let body = octets(size);
        session.publish(channel, &queue, &body);
        let got = session.get(channel, &queue).unwrap();
        assert_eq!(got.message.body_len(), size);
        assert!(got.message.body() == body, "{size} octets came back changed");
        assert_eq!((got.message_count, got.redelivered), (0, false));
        session.channel(channel).ack(got.tag).unwrap();
    }
    assert!(session.get(channel, &queue).is_none());
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn bodies_of_no_one_and_many_frames_come_back() {
    bodies_come_back(131_072);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn bodies_come_back_in_frames_of_8192_octets() {
    bodies_come_back(8192);
}

/// RabbitMQ 4.1 and later take no less than 8192.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn bodies_come_back_in_frames_of_4096_octets_or_the_broker_hangs_up() {
    let (session, _) = Session::guest();
    let version = version(&session);
    session.close();
    if version < 4 {
        bodies_come_back(4096);
    } else {
        let reason = Session::new(parameters().config.frame_max(4096)).end();
        assert!(
            matches!(reason, amqp_proto::CloseReason::Transport { .. }),
            "{reason:?}"
        );
        assert!(!reason.is_permanent());
    }
}

/// The broker's major version.
pub(super) fn version(session: &Session) -> u32 {
    let version = session.core.server_properties().get("version").unwrap().unwrap();
    version
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn all_properties_and_nested_headers_come_back() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let nested = FieldTable::new().with("inner", FieldValue::Void).unwrap();
    let headers = FieldTable::new()
        .with("count", -5)
        .unwrap()
        .with("nested", &nested)
        .unwrap();
    let longest = "m".repeat(255);
    let properties = Properties {
        content_type: Some(short("text/plain")),
        content_encoding: Some(short("utf-8")),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(Properties::PERSISTENT),
        priority: Some(9),
        correlation_id: Some(short("correlation")),
        reply_to: Some(short("reply")),
        expiration: Some(short("60000")),
        message_id: Some(short(&longest)),
        timestamp: Some(1_700_000_000),
        message_type: Some(short("type")),
        user_id: Some(short("guest")),
        app_id: Some(short("app")),
        cluster_id: Some(short("cluster")),
    };
    session
        .channel(channel)
        .publish(&to(&queue), &properties, "body")
        .unwrap();
    let got = session.get(channel, &queue).unwrap();
    assert_eq!(got.message.properties(), properties);
    assert_eq!(got.message.exchange(), short(""));
    assert_eq!(got.message.routing_key(), short(&queue));
    assert_eq!(got.message.detach(), got.message);
    session.close();
}

/// RabbitMQ does not hold the headers that it sends to the frame size that was agreed.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn headers_that_are_larger_than_our_frames_arrive() {
    let (mut publisher, channel) = Session::guest();
    publisher.call(channel, &ConfirmSelect::default());
    let mut reader = Session::connect(parameters().config.frame_max(8192));
    let reading = reader.open();
    let queue = unique("large headers");
    let declare = QueueDeclare {
        queue: short(&queue),
        auto_delete: true,
        ..Default::default()
    };
    reader.call(reading, &declare);
    let consumer = reader.consume(reading, &queue);
    let text = "h".repeat(100_000);
    let headers = FieldTable::new().with("large", text.as_str()).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    publisher
        .channel(channel)
        .publish(&to(&queue), &properties, octets(20_000))
        .unwrap();
    publisher.outcomes(channel, 1);
    let delivery = reader.delivery(consumer);
    assert_eq!(delivery.message.properties(), properties);
    assert!(delivery.message.body() == octets(20_000));
    // What we send obeys it.
    let refused = reader.channel(reading).publish(&to(&queue), &properties, "x");
    assert!(matches!(refused, Err(SendError::Encode(_))), "{refused:?}");
    reader.close();
    publisher.close();
}

/// One that is whole, and one in pieces.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_streamed_body_comes_in_pieces_that_join_to_the_whole() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let (consumer, request) = session.channel(channel).consume(&consume(&queue)).unwrap();
    session.channel(channel).stream_bodies(consumer, true).unwrap();
    session.answer(request).unwrap();
    for size in [0, 5, 1_000_000] {
        let body = octets(size);
        session.publish(channel, &queue, &body);
        let tag = session.wait("the beginning", |event| match event {
            Event::DeliveryStarted { delivery, body_size } if *body_size == size as u64 => Some(delivery.tag),
            _ => None,
        });
        let mut joined = Vec::new();
        loop {
            let chunk = session.wait("a piece or the end", |event| match event {
                Event::DeliveryChunk { tag: of, chunk } if *of == tag => Some(Some(chunk.clone())),
                Event::DeliveryEnded { tag: of } if *of == tag => Some(None),
                _ => None,
            });
            match chunk {
                Some(chunk) => joined.extend_from_slice(&chunk),
                None => break,
            }
        }
        assert!(joined == body, "{size} octets came as {}", joined.len());
        session.channel(channel).ack(tag).unwrap();
    }
    session.channel(channel).stream_bodies(consumer, false).unwrap();
    session.publish(channel, &queue, &octets(300_000));
    assert!(session.delivery(consumer).message.body() == octets(300_000));
    session.close();
}

fn refused(session: &mut Session, channel: ChannelId) {
    let reason = session.channel_end(channel);
    let expected = (200_001, 200_000);
    match reason {
        ChannelCloseReason::ContentTooLarge { size, limit } => assert_eq!((size, limit), expected),
        other => panic!("{other}"),
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_message_over_our_limit_ends_its_channel_and_no_other() {
    let mut session = Session::connect(parameters().config.max_message_size(200_000));
    let (channel, other) = (session.open(), session.open());
    let queue = session.queue(other);
    session.call(other, &ConfirmSelect::default());
    for size in [200_000, 200_001, 200_000] {
        session.publish(other, &queue, &octets(size));
    }
    session.outcomes(other, 3);
    let consumer = session.consume(channel, &queue);
    assert_eq!(session.delivery(consumer).message.body_len(), 200_000);
    refused(&mut session, channel);
    // Nothing was acknowledged, so all three are there still; the number of the channel is free.
    session.count_becomes(other, &queue, (3, 0));
    assert!(session.core.open_channel_with_number(channel.number()).is_ok());
    let got = session.get(other, &queue).unwrap();
    assert!(got.redelivered);
    session.close();
}
