//! The end of a channel: by the peer, by us, by both at once, by the clock. What waited is resolved before it is told.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, Config, ConfirmOutcome, Event, PeerClose, RequestError, SendError,
};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, short};

const SECOND: Duration = Duration::from_secs(1);

fn open() -> (Peer, ChannelId) {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let config = Config::default()
        .request_timeout(10 * SECOND)
        .close_timeout(20 * SECOND);
    let mut peer = Peer::open_with(config, tune);
    let id = peer.open_channel();
    (peer, id)
}

fn reason_406() -> ChannelCloseReason {
    let method = Some(QueueDeclare::SPEC.id);
    let text = "PRECONDITION_FAILED - unequal";
    ChannelCloseReason::Peer(PeerClose::new(ReplyCode::PRECONDITION_FAILED, text, method))
}

const CLOSE: &str =
    r#"ch 1 channel.close reply_code=200 REPLY_SUCCESS reply_text="bye" class_id=0 method_id=0"#;

#[test]
fn the_peers_close_resolves_everything_and_comes_last() {
    let (mut peer, id) = open();
    peer.select_confirms(id);
    let other = peer.open_channel();
    peer.publish(id, "k", b"m");
    let declare = peer.channel(id).request(&QueueDeclare::default()).unwrap();
    let get = peer.channel(id).get(&BasicGet::default()).unwrap();
    let undisturbed = peer.channel(other).request(&QueuePurge::default()).unwrap();
    peer.sent();
    peer.send(1, close_406());
    peer.send(2, QueuePurgeOk { message_count: 1 });
    let events = peer.events();
    let cause = RequestError::ChannelClosed(reason_406());
    let failed = |request| Event::RequestFailed {
        request,
        cause: cause.clone(),
    };
    assert_eq!(events[..2], [failed(declare.untyped()), failed(get.untyped())]);
    assert!(
        matches!(&events[2], Event::Confirmed { tags, outcome }
            if tags.count() == 1 && *outcome == ConfirmOutcome::Lost(reason_406())),
        "{events:?}"
    );
    let reason = reason_406();
    assert_eq!(events[3], Event::ChannelClosed { channel: id, reason });
    assert!(matches!(&events[4..], [Event::Reply(reply)] if reply.read(undisturbed).is_some()));
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    assert!(peer.connection.channel(id).is_err());
    assert!(peer.channel(other).is_open());
    assert_eq!(peer.advance(100 * SECOND), [], "nothing of it is left");
}

#[test]
fn what_the_peer_said_can_be_read_and_printed() {
    let reason = reason_406();
    assert_eq!(
        reason.peer().and_then(|peer| peer.method),
        Some(QueueDeclare::SPEC.id)
    );
    assert_eq!(
        reason.to_string(),
        "closed by the peer: 406 PRECONDITION_FAILED \"PRECONDITION_FAILED - unequal\" (caused by queue.declare)"
    );
}

#[test]
fn a_close_without_a_method_or_in_odd_letters_is_taken_as_it_is() {
    let (mut peer, _) = open();
    let close = ChannelClose {
        reply_code: ReplyCode(999),
        reply_text: ShortStr::from_bytes(b"\xff").unwrap(),
        class_id: 0,
        method_id: 0,
    };
    peer.send(1, close);
    let event = peer.event();
    let Event::ChannelClosed { reason, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(
        reason,
        ChannelCloseReason::Peer(PeerClose::new(ReplyCode(999), "\u{fffd}", None))
    );
}

#[test]
fn a_close_that_is_repeated_until_it_is_answered_is_told_and_answered_once() {
    let (mut peer, _) = open();
    for _ in 0..3 {
        peer.send(1, close_406());
    }
    assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    peer.send(1, close_406());
    peer.assert_quiet();
    peer.send(1, BasicQosOk {});
    assert_eq!(peer.violation(), "504 channel 1 is not open");
}

#[test]
fn a_channel_that_never_was_cannot_be_closed() {
    let (mut peer, _) = open();
    peer.send(2, close_406());
    assert_eq!(peer.violation(), "504 channel 2 is not open");
}

#[test]
fn we_close_and_the_peer_confirms() {
    let (mut peer, id) = open();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    assert!(!peer.channel(id).is_open());
    assert_eq!(peer.sent(), [CLOSE]);
    peer.send(1, ChannelCloseOk {});
    let reason = ChannelCloseReason::Requested;
    assert_eq!(peer.event(), Event::ChannelClosed { channel: id, reason });
    assert_eq!(peer.connection.channel_count(), 0);
    assert_eq!(peer.advance(100 * SECOND), []);
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let (mut peer, id) = open();
    peer.channel(id)
        .close(ReplyCode::REPLY_SUCCESS, &format!("a{}", "ä".repeat(200)))
        .unwrap();
    let sent = peer.sent();
    assert!(sent[0].contains(&format!("\"a{}\"", "ä".repeat(127))), "{sent:?}");
}

#[test]
fn closing_cancels_the_consumers_first() {
    let (mut peer, id) = open();
    let a = peer.consume(id, "a", false);
    peer.consume(id, "b", false);
    let starting = BasicConsume {
        consumer_tag: short("c"),
        ..BasicConsume::default()
    };
    peer.channel(id).consume(&starting).unwrap();
    peer.channel(id).cancel(a).unwrap();
    peer.sent();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    assert_eq!(
        peer.sent(),
        [r#"ch 1 basic.cancel consumer_tag="b""#, CLOSE],
        "a was cancelled before, and c is not there yet: RabbitMQ 3 would end the connection"
    );
}

#[test]
fn what_was_asked_before_the_close_is_answered_and_deliveries_are_dropped() {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    let purge = peer.channel(id).request(&QueuePurge::default()).unwrap();
    let get = peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.sent();
    peer.send_content(1, deliver("c", 1), b"dropped");
    peer.send(1, QueuePurgeOk { message_count: 0 });
    peer.send_content(1, BasicGetOk::default(), b"got");
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("c"),
        },
    );
    peer.send(1, ChannelCloseOk {});
    let events = peer.events();
    let [Event::Reply(reply), Event::Got(got), Event::ChannelClosed { .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(reply.read(purge).is_some());
    assert_eq!(got.request, get);
    assert_eq!(
        peer.sent(),
        [""; 0],
        "the broker requeues what is not acknowledged"
    );
    assert_eq!(peer.connection.counters().undeliverable, 1);
}

#[test]
fn what_the_peer_does_not_answer_before_close_ok_fails() {
    let (mut peer, id) = open();
    let purge = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.send(1, ChannelCloseOk {});
    let cause = RequestError::ChannelClosed(ChannelCloseReason::Requested);
    let request = purge.untyped();
    let reason = ChannelCloseReason::Requested;
    assert_eq!(
        peer.events(),
        [
            Event::RequestFailed { request, cause },
            Event::ChannelClosed { channel: id, reason }
        ]
    );
}

#[test]
fn a_message_that_was_arriving_when_we_closed_is_swallowed_or_told_whole() {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 4, Properties::default());
    peer.send_body(1, b"ab");
    assert_eq!(peer.events(), []);
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.send_body(1, b"cd");
    assert_eq!(&*delivery(peer.event()).message.body(), b"abcd");
}

#[test]
fn a_channel_closes_in_every_phase_before_it_is_closed() {
    let mut peer = Peer::open();
    let id = peer.connection.open_channel().unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    assert_eq!(peer.sent(), ["ch 1 channel.open", CLOSE]);
    peer.send(1, ChannelOpenOk {});
    assert_eq!(peer.event(), Event::ChannelOpened { channel: id });
    assert!(!peer.channel(id).is_open());
    assert_eq!(
        peer.channel(id).close(ReplyCode::REPLY_SUCCESS, ""),
        Err(SendError::Stale)
    );
    peer.send(1, ChannelCloseOk {});
    assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
}

#[test]
fn closed_from_both_sides_at_once_it_ends_with_the_peers_words_when_ours_is_answered() {
    let (mut peer, id) = open();
    let purge = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.sent();
    for _ in 0..3 {
        peer.send(1, close_406());
    }
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    assert_eq!(
        peer.connection.open_channel_with_number(1),
        Err(SendError::ChannelInUse(1))
    );
    peer.send(1, ChannelCloseOk {});
    let request = purge.untyped();
    let cause = RequestError::ChannelClosed(reason_406());
    let reason = reason_406();
    assert_eq!(
        peer.events(),
        [
            Event::RequestFailed { request, cause },
            Event::ChannelClosed { channel: id, reason }
        ]
    );
    assert_eq!(peer.connection.channel_count(), 0);
}

#[test]
fn a_message_that_was_arriving_when_both_closed_is_forgotten() {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 4, Properties::default());
    peer.send_body(1, b"ab");
    peer.events();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.send(1, close_406());
    peer.send(1, ChannelCloseOk {});
    assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
}

#[test]
fn a_close_that_is_not_answered_in_time_ends_the_channel_and_keeps_its_number() {
    let (mut peer, id) = open();
    peer.select_confirms(id);
    peer.publish(id, "k", b"m");
    peer.consume(id, "c", false);
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.transmit();
    assert_eq!(peer.advance(20 * SECOND - Duration::from_nanos(1)), []);
    let reason = ChannelCloseReason::Timeout(ChannelClose::SPEC.id);
    let events = peer.advance(Duration::from_nanos(1));
    assert!(
        matches!(&events[..], [Event::Confirmed { outcome: ConfirmOutcome::Lost(cause), .. },
            Event::ChannelClosed { reason: told, .. }] if *cause == reason && *told == reason),
        "{events:?}"
    );
    assert_eq!(
        peer.connection.open_channel_with_number(1),
        Err(SendError::ChannelInUse(1))
    );
    peer.sent();
    // What still comes concerns nobody.
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("c"),
        },
    );
    peer.send(
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    peer.send_content(1, deliver("c", 1), b"late");
    peer.assert_quiet();
    peer.send(1, ChannelCloseOk {});
    peer.assert_quiet();
    assert!(peer.connection.open_channel_with_number(1).is_ok());
}

#[test]
fn the_clock_of_a_close_starts_when_it_is_handed_over_or_waits_to_be() {
    let (mut peer, id) = open();
    peer.is_stalled = true;
    peer.publish(id, "k", b"m");
    peer.transmit();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    // It waits behind what the socket does not take.
    assert_eq!(peer.advance(19 * SECOND), []);
    peer.is_stalled = false;
    assert_eq!(peer.advance(19 * SECOND), [], "it was handed over only now");
    assert_eq!(peer.advance(SECOND).len(), 1);

    let (mut peer, id) = open();
    peer.is_stalled = true;
    peer.publish(id, "k", b"m");
    peer.transmit();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    assert_eq!(peer.advance(20 * SECOND).len(), 1, "the socket never took it");
}

#[test]
fn a_request_on_a_closing_channel_times_out_by_its_own_clock() {
    let (mut peer, id) = open();
    let purge = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "bye").unwrap();
    peer.transmit();
    let request = purge.untyped();
    let cause = RequestError::Timeout;
    assert_eq!(
        peer.advance(10 * SECOND),
        [Event::RequestFailed { request, cause }]
    );
    assert!(matches!(
        peer.advance(10 * SECOND)[..],
        [Event::ChannelClosed { .. }]
    ));
}

#[test]
fn a_number_that_is_used_again_belongs_to_the_new_channel() {
    let (mut peer, old) = open();
    let request = peer.channel(old).request(&QueuePurge::default()).unwrap();
    peer.send(1, close_406());
    peer.events();
    let new = peer.connection.open_channel_with_number(1).unwrap();
    peer.send(1, ChannelOpenOk {});
    assert_eq!(peer.event(), Event::ChannelOpened { channel: new });
    let again = peer.channel(new).request(&QueuePurge::default()).unwrap();
    assert_eq!(request.sequence(), again.sequence());
    peer.connection.abandon(request);
    peer.send(1, QueuePurgeOk { message_count: 0 });
    let event = peer.event();
    let Event::Reply(reply) = event else {
        panic!("{event:?}")
    };
    assert!(reply.read(request).is_none());
    assert!(reply.read(again).is_some());
}
