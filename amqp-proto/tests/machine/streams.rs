//! Consumers of streams, which take nothing back: RabbitMQ ends the connection of who sends them `basic.nack` or `basic.reject`.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, ConsumerId, DeliveryTag, Event, SendError};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, short};

/// Asks for a consumer of a stream, and has no answer yet.
fn ask(peer: &mut Peer, id: ChannelId, tag: &str, no_ack: bool) -> (ConsumerId, amqp_proto::RequestId) {
    let arguments = FieldTable::new().with("x-stream-offset", "first").unwrap();
    let consume = BasicConsume {
        consumer_tag: short(tag),
        no_ack,
        arguments: arguments.as_ref(),
        ..BasicConsume::default()
    };
    let (consumer, request) = peer.channel(id).consume(&consume).unwrap();
    peer.sent();
    (consumer, request.untyped())
}

fn answer(peer: &mut Peer, tag: &str) {
    let consumer_tag = short(tag);
    peer.send(1, BasicConsumeOk { consumer_tag });
}

/// A channel with a consumer of a stream, `s`.
fn consuming() -> (Peer, ChannelId, ConsumerId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let (consumer, _) = ask(&mut peer, id, "s", false);
    answer(&mut peer, "s");
    assert!(matches!(peer.event(), Event::Reply(_)));
    (peer, id, consumer)
}

/// The tag of the next delivery of that consumer.
fn delivered(peer: &mut Peer, consumer: &str, tag: u64) -> DeliveryTag {
    peer.send_content(1, deliver(consumer, tag), b"m");
    delivery(peer.event()).tag
}

#[test]
fn what_comes_from_a_stream_says_so_however_it_comes() {
    let (mut peer, id, consumer) = consuming();
    let first = delivered(&mut peer, "s", 1);
    assert!(first.is_from_stream());
    assert_eq!(first, DeliveryTag::new(id, 1).from_stream(true));
    peer.send(1, deliver("s", 2));
    peer.transmit();
    peer.send_header(1, 1, Properties::default());
    peer.send_body(1, b"m");
    assert_eq!(
        delivery(peer.event()).tag,
        DeliveryTag::new(id, 2).from_stream(true)
    );
    peer.channel(id).stream_bodies(consumer, true).unwrap();
    peer.send_content(1, deliver("s", 3), b"");
    let events = peer.events();
    let [
        Event::DeliveryStarted { delivery, .. },
        Event::DeliveryEnded { tag },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert!(delivery.tag.is_from_stream() && *tag == delivery.tag);
    peer.consume(id, "c", false);
    assert_eq!(delivered(&mut peer, "c", 4), DeliveryTag::new(id, 4));
}

#[test]
fn what_comes_from_a_stream_is_acknowledged_and_not_refused() {
    let (mut peer, id, _) = consuming();
    let tag = delivered(&mut peer, "s", 1);
    let mut channel = peer.channel(id);
    for requeue in [true, false] {
        let refused = [
            channel.nack(tag, requeue),
            channel.nack_multiple(tag, requeue),
            channel.reject(tag, requeue),
        ];
        assert_eq!(refused, [const { Err(SendError::StreamDelivery) }; 3]);
    }
    peer.assert_quiet();
    peer.channel(id).ack(tag).unwrap();
    peer.channel(id).ack_multiple(tag).unwrap();
    assert_eq!(
        peer.sent_octets(),
        [
            &b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0\xce"[..],
            &b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\x01\xce"[..],
        ]
        .concat()
    );
}

#[test]
fn what_came_from_a_stream_is_stale_on_another_channel() {
    let (mut peer, ..) = consuming();
    let tag = delivered(&mut peer, "s", 1);
    let other = peer.open_channel();
    assert_eq!(peer.channel(other).nack(tag, true), Err(SendError::Stale));
    assert_eq!(peer.channel(other).ack(tag), Err(SendError::Stale));
}

#[test]
fn beside_a_stream_others_are_refused_one_by_one_and_never_in_bulk() {
    let (mut peer, id, _) = consuming();
    peer.consume(id, "c", false);
    delivered(&mut peer, "s", 1);
    let tag = delivered(&mut peer, "c", 2);
    assert_eq!(
        peer.channel(id).nack_multiple(tag, true),
        Err(SendError::StreamDelivery)
    );
    peer.assert_quiet();
    peer.channel(id).nack(tag, true).unwrap();
    peer.channel(id).reject(tag, false).unwrap();
    assert_eq!(
        peer.sent(),
        [
            "ch 1 basic.nack delivery_tag=2 requeue",
            "ch 1 basic.reject delivery_tag=2"
        ]
    );
}

#[test]
fn on_a_channel_that_never_acknowledged_a_stream_others_are_refused_in_bulk() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    ask(&mut peer, id, "s", true);
    answer(&mut peer, "s");
    peer.events();
    peer.consume(id, "c", false);
    let tag = delivered(&mut peer, "c", 1);
    peer.channel(id).nack_multiple(tag, true).unwrap();
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 multiple requeue"]);
}

#[test]
fn what_nobody_waits_for_any_more_is_acknowledged_until_the_consumer_is_gone() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let (_, request) = ask(&mut peer, id, "s", false);
    peer.connection.abandon(request);
    answer(&mut peer, "s");
    peer.send_content(1, deliver("s", 1), b"m");
    assert_eq!(peer.events(), []);
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.cancel consumer_tag="s""#,
            "ch 1 basic.ack delivery_tag=1"
        ]
    );
    let consumer_tag = short("s");
    peer.send(1, BasicCancelOk { consumer_tag });
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.counters().undeliverable, 1);
}

#[test]
fn what_is_for_nobody_where_a_stream_was_consumed_waits_for_the_channels_end() {
    let (mut peer, id, consumer) = consuming();
    peer.channel(id).cancel(consumer).unwrap();
    let consumer_tag = short("s");
    peer.send(1, BasicCancelOk { consumer_tag });
    peer.events();
    peer.sent();
    peer.send_content(1, deliver("s", 1), b"m");
    peer.send_content(1, deliver("nobody", 2), b"m");
    peer.assert_quiet();
    assert_eq!(peer.connection.counters().undeliverable, 2);

    // The next life of that channel knows of no stream.
    peer.send(1, close_406());
    peer.events();
    peer.connection.open_channel_with_number(1).unwrap();
    peer.send(1, ChannelOpenOk {});
    peer.events();
    peer.sent();
    peer.send_content(1, deliver("nobody", 1), b"m");
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
}

#[test]
fn what_must_wait_for_a_commit_is_acknowledged_behind_it() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let (_, request) = ask(&mut peer, id, "s", false);
    peer.channel(id).request(&TxCommit::default()).unwrap();
    peer.sent();
    peer.connection.abandon(request);
    answer(&mut peer, "s");
    peer.send_content(1, deliver("s", 1), b"m");
    peer.assert_quiet();
    peer.send(1, TxCommitOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert_eq!(
        peer.sent(),
        [
            "ch 1 basic.ack delivery_tag=1",
            r#"ch 1 basic.cancel consumer_tag="s""#
        ]
    );
}

/// The broker sends a message that stands there in its stream.
fn send_at(peer: &mut Peer, consumer: &str, tag: u64, offset: i64, body: &[u8]) -> DeliveryTag {
    let headers = FieldTable::new().with("x-stream-offset", offset).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Properties::default()
    };
    peer.send(1, deliver(consumer, tag));
    peer.send_header(1, body.len() as u64, properties);
    peer.send_body(1, body);
    match peer.events().swap_remove(0) {
        Event::Delivery(delivery) | Event::DeliveryStarted { delivery, .. } => delivery.tag,
        other => panic!("{other:?}"),
    }
}

fn positions(events: &[Event]) -> Vec<(ConsumerId, u64)> {
    let position = |event: &Event| match event {
        Event::StreamPosition { consumer, next } => Some((*consumer, *next)),
        _ => None,
    };
    events.iter().filter_map(position).collect()
}

#[test]
fn when_a_channel_ends_it_is_told_how_far_the_consumers_of_streams_have_come() {
    let (mut peer, id, first) = consuming();
    let (second, _) = ask(&mut peer, id, "second", false);
    let (silent, _) = ask(&mut peer, id, "silent", false);
    peer.consume(id, "of a queue", false);
    peer.events();
    let large = vec![0; 5000];
    let mut tags = vec![send_at(&mut peer, "s", 1, 100, b"m")];
    tags.push(send_at(&mut peer, "second", 2, 7, b"m"));
    peer.channel(id).stream_bodies(first, true).unwrap();
    tags.push(send_at(&mut peer, "s", 3, 101, b"m"));
    peer.channel(id).stream_bodies(first, false).unwrap();
    tags.push(send_at(&mut peer, "s", 4, 102, &large));
    tags.push(send_at(&mut peer, "second", 5, 8, &large));
    tags.push(send_at(&mut peer, "of a queue", 6, 1000, b"m"));
    // What is settled behind a gap does not count.
    for place in [0, 3, 1, 4] {
        peer.channel(id).ack(tags[place]).unwrap();
    }
    peer.send(1, close_406());
    let events = peer.events();
    assert_eq!(positions(&events), [(first, 101), (second, 9)], "{silent:?}");
    assert!(
        matches!(events.last(), Some(Event::ChannelClosed { .. })),
        "{events:?}"
    );
}

#[test]
fn when_a_consumer_of_a_stream_is_cancelled_it_is_told_how_far_it_has_come() {
    let (mut peer, id, first) = consuming();
    let (second, _) = ask(&mut peer, id, "second", false);
    answer(&mut peer, "second");
    peer.event();
    send_at(&mut peer, "second", 1, 7, b"m");
    let tag = send_at(&mut peer, "s", 2, 5, b"m");
    peer.channel(id).ack_multiple(tag).unwrap();
    let cancel = |consumer_tag| BasicCancel {
        consumer_tag: short(consumer_tag),
        no_wait: true,
    };
    peer.send(1, cancel("s"));
    let expected = [
        Event::StreamPosition {
            consumer: first,
            next: 6,
        },
        Event::ConsumerCancelled { consumer: first },
    ];
    assert_eq!(peer.events(), expected);
    // It is not told again, and neither is one that is given up here.
    peer.channel(id).cancel(second).unwrap();
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("second"),
        },
    );
    peer.send(1, close_406());
    assert_eq!(positions(&peer.events()), []);
}

#[test]
fn what_is_given_back_to_a_stream_is_not_taken_for_settled() {
    let (mut peer, id, consumer) = consuming();
    send_at(&mut peer, "s", 1, 5, b"m");
    peer.channel(id)
        .recover_async(&BasicRecoverAsync { requeue: true })
        .unwrap();
    send_at(&mut peer, "s", 2, 6, b"m");
    // Nonsense in the header is no offset.
    send_at(&mut peer, "s", 3, -7, b"m");
    peer.send(1, close_406());
    assert_eq!(positions(&peer.events()), [(consumer, 5)]);
}
