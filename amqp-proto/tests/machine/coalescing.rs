//! Acknowledgements that wait for others: when they are said, and how few methods it takes.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{AckCoalescing, ChannelId, DeliveryTag, Event, Instant, SendError, TimeoutReason};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, get_ok, short};

const SECOND: Duration = Duration::from_secs(1);

/// Channel 1 with the consumer "c", which joins so many for a second.
fn joining(count: u16) -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    join(&mut peer, id, count);
    peer.consume(id, "c", false);
    (peer, id)
}

fn join(peer: &mut Peer, id: ChannelId, count: u16) {
    let options = AckCoalescing::new(count, SECOND);
    peer.channel(id).set_ack_coalescing(Some(options)).unwrap();
}

/// These come to that consumer, on channel 1.
fn come(peer: &mut Peer, consumer: &str, tags: impl IntoIterator<Item = u64>) {
    for tag in tags {
        peer.send_content(1, deliver(consumer, tag), b"m");
        assert!(matches!(peer.event(), Event::Delivery(_)));
    }
}

fn ack(peer: &mut Peer, id: ChannelId, tags: impl IntoIterator<Item = u64>) {
    for tag in tags {
        peer.channel(id).ack(DeliveryTag::new(id, tag)).unwrap();
    }
}

#[test]
fn without_it_each_is_said_at_once() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "c", false);
    come(&mut peer, "c", 1..=2);
    ack(&mut peer, id, 1..=2);
    let said = ["ch 1 basic.ack delivery_tag=1", "ch 1 basic.ack delivery_tag=2"];
    assert_eq!(peer.sent(), said);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn so_many_are_said_in_one_whatever_their_order() {
    let (mut peer, id) = joining(4);
    come(&mut peer, "c", 1..=9);
    ack(&mut peer, id, [3, 1, 4]);
    assert_eq!(peer.sent(), [""; 0]);
    ack(&mut peer, id, [2]);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=4 multiple"]);
    ack(&mut peer, id, 5..=8);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=8 multiple"]);
}

#[test]
fn what_is_behind_an_unsettled_one_is_said_one_by_one_if_it_is_more_than_half() {
    let (mut peer, id) = joining(4);
    come(&mut peer, "c", 1..=6);
    ack(&mut peer, id, [6, 1, 4, 5]);
    let said = [
        "ch 1 basic.ack delivery_tag=1",
        "ch 1 basic.ack delivery_tag=4",
        "ch 1 basic.ack delivery_tag=5",
        "ch 1 basic.ack delivery_tag=6",
    ];
    assert_eq!(peer.sent(), said);
    ack(&mut peer, id, [3, 2]);
    peer.advance(SECOND);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=3 multiple"]);
}

#[test]
fn what_is_behind_an_unsettled_one_waits_on_if_it_is_no_more_than_half() {
    let (mut peer, id) = joining(4);
    come(&mut peer, "c", 1..=6);
    ack(&mut peer, id, [6]);
    peer.advance(SECOND / 2);
    ack(&mut peer, id, [1, 4, 2]);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2 multiple"]);
    // Not for longer than since the first of them.
    let due = Instant::EPOCH + SECOND;
    assert_eq!(peer.connection.poll_timeout(), Some(due));
    ack(&mut peer, id, [5, 3]);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=6 multiple"]);
    assert_eq!(peer.connection.poll_timeout(), Some(due), "a wake-up for nothing");
    peer.advance(SECOND / 2);
    assert_eq!(peer.sent(), [""; 0]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn one_alone_is_said_without_multiple_when_its_time_has_come_and_then_there_is_no_wake_up() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=2);
    assert_eq!(peer.connection.poll_timeout(), None);
    ack(&mut peer, id, [1]);
    peer.transmit();
    assert_eq!(peer.connection.poll_timeout(), Some(Instant::EPOCH + SECOND));
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Acks));
    peer.advance(SECOND / 2);
    ack(&mut peer, id, [2]);
    peer.transmit();
    // The time is that of the first.
    assert_eq!(peer.connection.poll_timeout(), Some(Instant::EPOCH + SECOND));
    peer.advance(SECOND / 2 - Duration::from_nanos(1));
    assert_eq!(peer.sent(), [""; 0]);
    peer.advance(Duration::from_nanos(1));
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2 multiple"]);
    assert_eq!(peer.connection.poll_timeout(), None);

    come(&mut peer, "c", [3]);
    ack(&mut peer, id, [3]);
    peer.advance(SECOND);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=3"]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn the_time_begins_anew_with_what_comes_after_the_count() {
    let (mut peer, id) = joining(2);
    come(&mut peer, "c", 1..=3);
    ack(&mut peer, id, [1]);
    peer.advance(SECOND / 2);
    ack(&mut peer, id, [2, 3]);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2 multiple"]);
    let due = Instant::EPOCH + SECOND + SECOND / 2;
    assert_eq!(peer.connection.poll_timeout(), Some(due));
    peer.advance(SECOND);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=3"]);
}

#[test]
fn without_time_what_lies_between_two_writes_is_joined() {
    let (mut peer, id) = joining(100);
    let options = AckCoalescing::new(100, Duration::ZERO);
    peer.channel(id).set_ack_coalescing(Some(options)).unwrap();
    come(&mut peer, "c", 1..=5);
    ack(&mut peer, id, 1..=3);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=3 multiple"]);
    ack(&mut peer, id, 4..=5);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=5 multiple"]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn every_channel_has_its_own_time() {
    let (mut peer, first) = joining(100);
    let second = peer.open_channel();
    join(&mut peer, second, 100);
    peer.channel(second).get(&BasicGet::default()).unwrap();
    peer.send_content(2, get_ok(1), b"m");
    peer.event();
    come(&mut peer, "c", [1]);
    peer.sent();
    ack(&mut peer, first, [1]);
    peer.advance(SECOND / 4);
    ack(&mut peer, second, [1]);
    peer.advance(SECOND / 2);
    assert_eq!(peer.sent(), [""; 0]);
    peer.advance(SECOND / 4);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=1"]);
    peer.advance(SECOND / 4);
    assert_eq!(peer.sent(), ["ch 2 basic.ack delivery_tag=1"]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn deliveries_of_other_consumers_and_by_get_are_not_taken_along() {
    let (mut peer, id) = joining(100);
    peer.consume(id, "other", false);
    peer.consume(id, "without", true);
    come(&mut peer, "c", [1]);
    come(&mut peer, "without", [2]);
    come(&mut peer, "c", [3]);
    come(&mut peer, "other", [4]);
    peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.send_content(1, get_ok(5), b"m");
    peer.event();
    come(&mut peer, "c", [6]);
    peer.sent();
    ack(&mut peer, id, [1, 3, 6]);
    peer.channel(id).flush_acks();
    let said = [
        "ch 1 basic.ack delivery_tag=3 multiple",
        "ch 1 basic.ack delivery_tag=6",
    ];
    assert_eq!(peer.sent(), said);
    come(&mut peer, "c", [7]);
    ack(&mut peer, id, [7, 5]);
    peer.channel(id).flush_acks();
    let said = ["ch 1 basic.ack delivery_tag=5", "ch 1 basic.ack delivery_tag=7"];
    assert_eq!(peer.sent(), said);
}

#[test]
fn what_came_by_get_and_needs_no_ack_holds_nothing_up() {
    let (mut peer, id) = joining(100);
    let get = BasicGet {
        no_ack: true,
        ..BasicGet::default()
    };
    peer.channel(id).get(&get).unwrap();
    peer.send_content(1, get_ok(1), b"m");
    peer.event();
    come(&mut peer, "c", 2..=3);
    peer.sent();
    ack(&mut peer, id, 2..=3);
    peer.channel(id).flush_acks();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=3 multiple"]);
}

#[test]
fn nothing_but_a_publish_overtakes_an_ack() {
    type Command = fn(&mut Peer, ChannelId, DeliveryTag);
    let commands: [(&str, Command); 12] = [
        ("basic.nack", |peer, id, tag| {
            peer.channel(id).nack(tag, true).unwrap();
        }),
        ("basic.nack", |peer, id, tag| {
            peer.channel(id).nack_multiple(tag, true).unwrap();
        }),
        ("basic.reject", |peer, id, tag| {
            peer.channel(id).reject(tag, true).unwrap();
        }),
        ("basic.ack", |peer, id, tag| {
            peer.channel(id).ack_multiple(tag).unwrap();
        }),
        ("basic.recover", |peer, id, _| {
            peer.channel(id).request(&BasicRecover { requeue: true }).unwrap();
        }),
        ("basic.recover-async", |peer, id, _| {
            let recover = BasicRecoverAsync { requeue: true };
            peer.channel(id).recover_async(&recover).unwrap();
        }),
        ("queue.purge", |peer, id, _| {
            peer.channel(id).send_nowait(&QueuePurge::default()).unwrap();
        }),
        ("tx.select", |peer, id, _| {
            peer.channel(id).request(&TxSelect::default()).unwrap();
        }),
        ("basic.get", |peer, id, _| {
            peer.channel(id).get(&BasicGet::default()).unwrap();
        }),
        ("basic.consume", |peer, id, _| {
            peer.channel(id).consume(&BasicConsume::default()).unwrap();
        }),
        ("basic.cancel", |peer, id, _| {
            peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
        }),
        ("basic.cancel", |peer, _, _| {
            peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
        }),
    ];
    for (name, command) in commands {
        let (mut peer, id) = joining(100);
        come(&mut peer, "c", 1..=3);
        ack(&mut peer, id, 1..=2);
        command(&mut peer, id, DeliveryTag::new(id, 3));
        let said = peer.sent();
        assert_eq!(said[0], "ch 1 basic.ack delivery_tag=2 multiple", "{name}");
        assert!(said[1].contains(name), "{said:?}");
    }
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=2);
    ack(&mut peer, id, 1..=2);
    peer.publish(id, "k", b"m");
    let said = peer.sent().join("\n");
    assert!(!said.contains("basic.ack"), "{said}");
    peer.advance(SECOND);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2 multiple"]);
}

#[test]
fn what_was_settled_in_another_way_holds_nothing_up() {
    let settle: [fn(&mut Peer, ChannelId); 4] = [
        |peer, id| peer.channel(id).ack_multiple(DeliveryTag::new(id, 2)).unwrap(),
        |peer, id| {
            let tag = DeliveryTag::new(id, 2);
            peer.channel(id).nack_multiple(tag, false).unwrap();
        },
        |peer, id| {
            for tag in [2, 1] {
                peer.channel(id).nack(DeliveryTag::new(id, tag), true).unwrap();
            }
        },
        |peer, id| {
            for tag in [1, 2] {
                peer.channel(id).reject(DeliveryTag::new(id, tag), true).unwrap();
            }
        },
    ];
    for settle in settle {
        let (mut peer, id) = joining(2);
        come(&mut peer, "c", 1..=5);
        settle(&mut peer, id);
        peer.sent();
        ack(&mut peer, id, 3..=4);
        assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=4 multiple"]);
    }
}

#[test]
fn an_ended_consumer_leaves_nothing_behind() {
    let (mut peer, id) = joining(100);
    let consumer = peer.consume(id, "d", false);
    come(&mut peer, "d", 1..=2);
    ack(&mut peer, id, 1..=2);
    peer.channel(id).cancel(consumer).unwrap();
    let said = [
        "ch 1 basic.ack delivery_tag=2 multiple",
        "ch 1 basic.cancel consumer_tag=\"d\"",
    ];
    assert_eq!(peer.sent(), said);
}

#[test]
fn at_most_half_of_the_prefetch_limit_waits() {
    for (count, is_global, half) in [(10, false, 5), (10, true, 5), (3, false, 1), (1, false, 1)] {
        let mut peer = Peer::open();
        let id = peer.open_channel();
        join(&mut peer, id, 100);
        let qos = BasicQos {
            prefetch_count: count,
            global: is_global,
            ..BasicQos::default()
        };
        peer.channel(id).request(&qos).unwrap();
        peer.send(1, BasicQosOk {});
        peer.event();
        peer.consume(id, "c", false);
        // A later consumer may have more; the earlier one has not.
        if !is_global {
            let more = BasicQos {
                prefetch_count: 1000,
                ..BasicQos::default()
            };
            peer.channel(id).request(&more).unwrap();
            peer.send(1, BasicQosOk {});
            peer.event();
            peer.consume(id, "d", false);
        }
        peer.sent();
        come(&mut peer, "c", 1..=u64::from(count));
        ack(&mut peer, id, 1..half);
        assert_eq!(peer.sent(), [""; 0], "{count}");
        ack(&mut peer, id, [half]);
        assert_eq!(peer.sent().len(), 1, "{count}");
    }
}

#[test]
fn what_was_settled_before_is_for_the_broker_to_judge() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=3);
    ack(&mut peer, id, [1, 2, 1]);
    let said = [
        "ch 1 basic.ack delivery_tag=2 multiple",
        "ch 1 basic.ack delivery_tag=1",
    ];
    assert_eq!(peer.sent(), said);
}

#[test]
fn what_is_delivered_again_is_not_waited_for() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=2);
    peer.channel(id).request(&BasicRecover { requeue: true }).unwrap();
    come(&mut peer, "c", [3]);
    peer.send(1, BasicRecoverOk {});
    peer.event();
    come(&mut peer, "c", 4..=5);
    peer.sent();
    ack(&mut peer, id, 4..=5);
    peer.channel(id).flush_acks();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=5 multiple"]);

    let recover = BasicRecoverAsync { requeue: true };
    come(&mut peer, "c", [6]);
    peer.channel(id).recover_async(&recover).unwrap();
    come(&mut peer, "c", 7..=8);
    peer.sent();
    ack(&mut peer, id, 7..=8);
    peer.channel(id).flush_acks();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=8 multiple"]);
}

#[test]
fn what_is_acknowledged_while_all_goes_back_is_for_the_broker_to_judge() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=2);
    peer.channel(id).request(&BasicRecover { requeue: true }).unwrap();
    peer.sent();
    ack(&mut peer, id, [2]);
    peer.send(1, BasicRecoverOk {});
    peer.event();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2"]);
    assert_eq!(peer.channel(id).unsettled(), 0);
}

#[test]
fn in_a_transaction_each_is_said_at_once() {
    let (mut peer, id) = joining(100);
    peer.channel(id).request(&TxSelect::default()).unwrap();
    come(&mut peer, "c", 1..=2);
    peer.sent();
    ack(&mut peer, id, 1..=2);
    let said = ["ch 1 basic.ack delivery_tag=1", "ch 1 basic.ack delivery_tag=2"];
    assert_eq!(peer.sent(), said);
}

#[test]
fn it_can_be_ended_at_any_time_and_begun_only_before_the_first_delivery() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=3);
    ack(&mut peer, id, 1..=2);
    peer.channel(id).set_ack_coalescing(None).unwrap();
    ack(&mut peer, id, [3]);
    let said = [
        "ch 1 basic.ack delivery_tag=2 multiple",
        "ch 1 basic.ack delivery_tag=3",
    ];
    assert_eq!(peer.sent(), said);
    let options = AckCoalescing::new(2, SECOND);
    let result = peer.channel(id).set_ack_coalescing(Some(options));
    assert_eq!(result, Err(SendError::Delivered));
}

#[test]
fn what_may_be_from_a_stream_and_is_nobody_s_is_not_acknowledged() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    join(&mut peer, id, 100);
    let mut arguments = FieldTable::new();
    arguments
        .insert("x-stream-offset", FieldValue::from("first"))
        .unwrap();
    let stream = BasicConsume {
        consumer_tag: short("s"),
        arguments: arguments.as_ref(),
        ..BasicConsume::default()
    };
    peer.channel(id).consume_nowait(&stream).unwrap();
    come(&mut peer, "s", [1]);
    peer.send_content(1, deliver("unknown", 2), b"m");
    assert_eq!(peer.events(), []);
    come(&mut peer, "s", 3..=4);
    peer.sent();
    ack(&mut peer, id, [1, 3, 4]);
    peer.channel(id).flush_acks();
    let said = [
        "ch 1 basic.ack delivery_tag=1",
        "ch 1 basic.ack delivery_tag=3",
        "ch 1 basic.ack delivery_tag=4",
    ];
    assert_eq!(peer.sent(), said);
}

#[test]
fn tags_need_not_count_upwards() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", [200, 5, 70]);
    ack(&mut peer, id, [70, 200]);
    peer.channel(id).flush_acks();
    let said = [
        "ch 1 basic.ack delivery_tag=70",
        "ch 1 basic.ack delivery_tag=200",
    ];
    assert_eq!(peer.sent(), said);
    come(&mut peer, "c", [6]);
    ack(&mut peer, id, [6, 5]);
    peer.channel(id).flush_acks();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=6 multiple"]);
}

#[test]
fn more_than_can_be_kept_track_of_end_it() {
    let (mut peer, id) = joining(100);
    // Each is in a word of its own.
    come(&mut peer, "c", (0..=1 << 16).map(|number| 64 * number + 1));
    ack(&mut peer, id, [1]);
    assert_eq!(peer.sent(), [""; 0]);
    ack(&mut peer, id, [65]);
    come(
        &mut peer,
        "c",
        ((1 << 16) + 1..(1 << 16) + 5).map(|number| 64 * number + 1),
    );
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=65 multiple"]);
    ack(&mut peer, id, [129]);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=129"]);
    let last = ((1 << 16) + 4) * 64 + 1;
    ack(&mut peer, id, [last]);
    assert_eq!(peer.sent(), [format!("ch 1 basic.ack delivery_tag={last}")]);
}

#[test]
fn what_waited_on_a_channel_that_ended_is_not_said_on_the_next_one() {
    let (mut peer, id) = joining(100);
    come(&mut peer, "c", 1..=2);
    ack(&mut peer, id, 1..=2);
    peer.transmit();
    peer.send(1, close_406());
    peer.events();
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    let next = peer.connection.open_channel_with_number(1).unwrap();
    join(&mut peer, next, 100);
    peer.send(1, ChannelOpenOk {});
    peer.events();
    peer.consume(next, "c", false);
    come(&mut peer, "c", 1..=2);
    ack(&mut peer, next, 1..=2);
    assert_eq!(
        peer.channel(next).ack(DeliveryTag::new(id, 1)),
        Err(SendError::Stale)
    );
    peer.advance(SECOND / 2);
    peer.advance(SECOND / 2);
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=2 multiple"]);
    assert_eq!(peer.connection.poll_timeout(), None);
}
