//! What a shutdown needs of the core: consumers that end all at once, and how much is in flight.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{AckCoalescing, ChannelId, DeliveryTag, Event, InFlight, SendError};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, get_ok, short};

fn consume(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        consumer_tag: short(tag),
        ..BasicConsume::default()
    }
}

fn consume_ok(tag: &str) -> BasicConsumeOk<'_> {
    BasicConsumeOk {
        consumer_tag: short(tag),
    }
}

fn cancel_ok(tag: &str) -> BasicCancelOk<'_> {
    BasicCancelOk {
        consumer_tag: short(tag),
    }
}

fn in_flight(peer: &Peer) -> [usize; 3] {
    let all = peer.connection.in_flight();
    [all.consumers, all.unsettled, all.unconfirmed]
}

#[test]
fn all_consumers_are_cancelled_and_those_that_start_as_soon_as_they_are_there() {
    let mut peer = Peer::open();
    let (one, two) = (peer.open_channel(), peer.open_channel());
    peer.consume(one, "a", false);
    peer.consume(two, "b", true);
    peer.channel(two).consume(&consume("late")).unwrap();
    let gone = peer.consume(one, "gone", false);
    peer.channel(one).cancel(gone).unwrap();
    peer.sent();
    assert_eq!(in_flight(&peer), [4, 0, 0]);

    peer.connection.cancel_consumers();
    // Again is no harm.
    peer.connection.cancel_consumers();
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.cancel consumer_tag="a""#,
            r#"ch 2 basic.cancel consumer_tag="b""#
        ]
    );
    peer.send(2, consume_ok("late"));
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert_eq!(peer.sent(), [r#"ch 2 basic.cancel consumer_tag="late""#]);
    assert_eq!(in_flight(&peer), [4, 0, 0]);
    for (channel, tag) in [(1, "a"), (1, "gone"), (2, "b"), (2, "late")] {
        peer.send(channel, cancel_ok(tag));
    }
    peer.events();
    assert_eq!(in_flight(&peer), [0, 0, 0]);
    peer.assert_quiet();
}

#[test]
fn what_still_comes_goes_back_or_is_told_if_the_broker_has_forgotten_it() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "a", false);
    let auto = peer.consume(id, "auto", true);
    peer.connection.cancel_consumers();
    peer.sent();
    peer.send_content(1, deliver("a", 1), b"x");
    peer.send_content(1, deliver("auto", 2), b"y");
    let told = delivery(peer.event());
    assert_eq!((told.consumer, &*told.message.body()), (auto, b"y".as_slice()));
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
    assert_eq!(in_flight(&peer), [2, 0, 0]);
    // The end of a consumer that was asked for is no event, whoever is quicker.
    for tag in ["a", "auto"] {
        let consumer_tag = short(tag);
        peer.send(
            1,
            BasicCancel {
                consumer_tag,
                no_wait: true,
            },
        );
    }
    let told = peer.events();
    assert!(
        matches!(told.as_slice(), [Event::ConsumerCancelled { consumer }] if *consumer == auto),
        "{told:?}"
    );
}

#[test]
fn new_consumers_are_refused_and_all_else_goes_on() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.select_confirms(id);
    peer.connection.cancel_consumers();
    let refused = Err(SendError::ShuttingDown);
    assert_eq!(peer.channel(id).consume(&consume("c")).map(drop), refused);
    assert_eq!(peer.channel(id).consume_nowait(&consume("c")).map(drop), refused);
    peer.assert_quiet();
    assert!(peer.publish(id, "q", b"x").is_some());
    peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.send_content(1, get_ok(1), b"");
    peer.event();
    assert_eq!(in_flight(&peer), [0, 1, 1]);
    peer.channel(id).ack(DeliveryTag::new(id, 1)).unwrap();
    let other = peer.open_channel();
    assert_eq!(peer.channel(other).consume(&consume("c")).map(drop), refused);
}

#[test]
fn answers_to_what_is_asked_still_come() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let replies = |tag| BasicConsume {
        queue: short("amq.rabbitmq.reply-to"),
        no_ack: true,
        ..consume(tag)
    };
    let (first, _) = peer.channel(id).consume(&replies("first")).unwrap();
    peer.send(1, consume_ok("first"));
    let (starting, _) = peer.channel(id).consume(&replies("starting")).unwrap();
    peer.events();
    peer.sent();
    peer.connection.cancel_consumers();
    peer.send(1, consume_ok("starting"));
    peer.events();
    peer.assert_quiet();
    assert_eq!(in_flight(&peer), [0, 0, 0]);
    peer.channel(id).consume(&replies("late")).unwrap();
    for (tag, consumer) in [("first", first), ("starting", starting)] {
        assert_eq!(peer.channel(id).takes_replies(consumer), Some(true));
        peer.send_content(1, deliver(tag, 1), b"42");
        assert_eq!(delivery(peer.event()).consumer, consumer);
    }
}

#[test]
fn consumers_are_cancelled_behind_a_commit() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "a", false);
    peer.consume(id, "auto", true);
    peer.channel(id).request(&TxCommit {}).unwrap();
    peer.sent();
    peer.connection.cancel_consumers();
    peer.assert_quiet();
    peer.send(1, TxCommitOk {});
    peer.event();
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.cancel consumer_tag="a""#,
            r#"ch 1 basic.cancel consumer_tag="auto""#
        ]
    );
}

/// Channel 1 with deliveries 1 to 5.
fn with_deliveries() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "c", false);
    for tag in 1..=5 {
        peer.send_content(1, deliver("c", tag), b"m");
        peer.event();
    }
    (peer, id)
}

#[test]
fn every_way_to_settle_counts() {
    type Settle = fn(&mut amqp_proto::Channel<'_>, DeliveryTag) -> Result<(), SendError>;
    let ways: [(Settle, usize); 7] = [
        (|channel, tag| channel.ack(tag), 4),
        (|channel, tag| channel.nack(tag, true), 4),
        (|channel, tag| channel.reject(tag, false), 4),
        (|channel, tag| channel.ack_multiple(tag), 2),
        (|channel, tag| channel.nack_multiple(tag, false), 2),
        (
            |channel, _| channel.recover_async(&BasicRecoverAsync { requeue: true }),
            0,
        ),
        // Only its answer says that they went back.
        (
            |channel, _| channel.request(&BasicRecover { requeue: true }).map(drop),
            5,
        ),
    ];
    for (settle, left) in ways {
        let (mut peer, id) = with_deliveries();
        settle(&mut peer.channel(id), DeliveryTag::new(id, 3)).unwrap();
        assert_eq!(
            (
                peer.channel(id).unsettled(),
                peer.connection.in_flight().unsettled
            ),
            (left, left)
        );
    }
    let (mut peer, id) = with_deliveries();
    peer.channel(id).request(&BasicRecover { requeue: true }).unwrap();
    peer.send(1, BasicRecoverOk {});
    peer.event();
    assert_eq!(peer.channel(id).unsettled(), 0);
}

#[test]
fn what_was_refused_here_is_not_settled_and_what_needs_no_acknowledgement_is_not_counted() {
    let (mut peer, id) = with_deliveries();
    peer.channel(id).ack(DeliveryTag::new(id, 9)).unwrap_err();
    peer.channel(id)
        .ack(DeliveryTag::new(ChannelId::new(2, 7), 3))
        .unwrap_err();
    assert_eq!(peer.channel(id).unsettled(), 5);
    peer.consume(id, "auto", true);
    peer.send_content(1, deliver("auto", 6), b"m");
    // In one piece, in two, and without a body.
    peer.send_content(1, deliver("auto", 7), b"");
    let get = BasicGet {
        no_ack: true,
        ..BasicGet::default()
    };
    peer.channel(id).get(&get).unwrap();
    peer.send_content(1, get_ok(8), b"m");
    peer.send_content(1, deliver("c", 9), b"");
    assert_eq!(peer.events().len(), 4);
    assert_eq!(peer.channel(id).unsettled(), 6);
}

#[test]
fn what_comes_in_pieces_is_unsettled_from_its_first() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    for (tag, no_ack, unsettled) in [("auto", true, 0), ("c", false, 1)] {
        let consumer = peer.consume(id, tag, no_ack);
        peer.channel(id).stream_bodies(consumer, true).unwrap();
        peer.send(1, deliver(tag, 1));
        peer.send_header(1, 2, Properties::default());
        assert!(matches!(peer.event(), Event::DeliveryStarted { .. }));
        assert_eq!(peer.channel(id).unsettled(), unsettled);
        peer.send_body(1, b"xy");
        peer.events();
    }
}

/// Channel 1 with deliveries 1 to 5, where acknowledgements are joined for an hour.
fn with_joined_deliveries() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let options = AckCoalescing::new(100, Duration::from_secs(3600));
    peer.channel(id).set_ack_coalescing(Some(options)).unwrap();
    peer.consume(id, "c", false);
    for tag in 1..=5 {
        peer.send_content(1, deliver("c", tag), b"m");
        peer.event();
    }
    (peer, id)
}

#[test]
fn acknowledgements_that_wait_for_others_wait_no_longer() {
    let (mut peer, id) = with_joined_deliveries();
    for tag in [1, 2, 4] {
        peer.channel(id).ack(DeliveryTag::new(id, tag)).unwrap();
    }
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(in_flight(&peer), [1, 5, 0]);
    peer.connection.cancel_consumers();
    assert_eq!(in_flight(&peer), [1, 2, 0]);
    let said = [
        "ch 1 basic.ack delivery_tag=2 multiple",
        "ch 1 basic.ack delivery_tag=4",
        r#"ch 1 basic.cancel consumer_tag="c""#,
    ];
    assert_eq!(peer.sent(), said);
    for (tag, left) in [(5, 1), (3, 0)] {
        peer.channel(id).ack(DeliveryTag::new(id, tag)).unwrap();
        assert_eq!(in_flight(&peer), [1, left, 0]);
        assert_eq!(peer.sent(), [format!("ch 1 basic.ack delivery_tag={tag}")]);
    }
}

#[test]
fn acknowledgements_that_were_not_said_are_abandoned_with_their_channel() {
    let (mut peer, id) = with_joined_deliveries();
    for tag in [1, 3] {
        peer.channel(id).ack(DeliveryTag::new(id, tag)).unwrap();
    }
    peer.send(1, close_406());
    peer.events();
    assert_eq!(peer.connection.counters().abandoned, 5);

    let (mut peer, id) = with_joined_deliveries();
    for tag in [1, 3] {
        peer.channel(id).ack(DeliveryTag::new(id, tag)).unwrap();
    }
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
    peer.send(1, ChannelCloseOk {});
    peer.events();
    assert_eq!(peer.connection.counters().abandoned, 3);
}

#[test]
fn what_is_not_settled_when_its_channel_ends_is_abandoned() {
    let (mut peer, id) = with_deliveries();
    peer.channel(id).ack(DeliveryTag::new(id, 1)).unwrap();
    peer.send(1, close_406());
    peer.events();
    assert_eq!(peer.connection.counters().abandoned, 4);
    assert_eq!(peer.connection.in_flight(), InFlight::default());

    let (mut peer, id) = with_deliveries();
    peer.channel(id).ack(DeliveryTag::new(id, 5)).unwrap();
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
    assert_eq!(in_flight(&peer), [1, 4, 0]);
    peer.send(1, ChannelCloseOk {});
    peer.events();
    assert_eq!(peer.connection.counters().abandoned, 4);
}
