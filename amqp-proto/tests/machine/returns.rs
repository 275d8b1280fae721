//! Publishes that come back: which one it was, and what its confirm says then.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, ConfirmOutcome, ConfirmTag, Event, Returned, SendError};

use crate::peer::Peer;
use crate::stage::{returned, short};

fn confirming() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.select_confirms(id);
    (peer, id)
}

/// The only event is a return.
#[track_caller]
fn returned_event(peer: &mut Peer) -> Returned {
    match peer.event() {
        Event::Returned(returned) => returned,
        other => panic!("{other:?}"),
    }
}

/// The broker acknowledges: the tags and outcomes that are told.
fn acked(peer: &mut Peer, delivery_tag: u64, multiple: bool) -> Vec<(u64, u64, ConfirmOutcome)> {
    let ack = BasicAck {
        delivery_tag,
        multiple,
    };
    peer.send(1, ack);
    confirmed(peer.events())
}

fn confirmed(events: Vec<Event>) -> Vec<(u64, u64, ConfirmOutcome)> {
    events
        .into_iter()
        .map(|event| match event {
            Event::Confirmed { tags, outcome } => (tags.first(), tags.last(), outcome),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_return_tells_why_and_brings_the_message_back() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    assert_eq!(peer.publish(id, "k", b"hello"), None);
    peer.send_content(1, returned("k"), b"hello");
    let back = returned_event(&mut peer);
    assert_eq!(back.channel, id);
    assert_eq!(back.tag, None, "it is not in confirm mode");
    assert_eq!(back.code, ReplyCode::NO_ROUTE);
    assert_eq!(back.text, "NO_ROUTE");
    assert_eq!(back.message.exchange(), short("x"));
    assert_eq!(back.message.routing_key(), short("k"));
    assert_eq!(&*back.message.body(), b"hello");
    let made = Returned::new(id, None, ReplyCode::NO_ROUTE, "NO_ROUTE", back.message.clone());
    assert_eq!(back, made);
    assert_eq!(peer.connection.counters().returned, 1);
}

#[test]
fn words_that_are_not_utf_8_are_made_so() {
    let (mut peer, _) = confirming();
    let odd = BasicReturn {
        reply_text: ShortStr::from_bytes(b"no\xff").unwrap(),
        ..returned("k")
    };
    peer.send_content(1, odd, b"");
    assert_eq!(returned_event(&mut peer).text, "no\u{fffd}");
}

#[test]
fn a_publish_that_came_back_is_confirmed_as_returned() {
    let (mut peer, id) = confirming();
    peer.publish(id, "lost", b"m");
    peer.publish(id, "found", b"m");
    peer.send_content(1, returned("lost"), b"m");
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 1)));
    assert!(peer.channel(id).is_unconfirmed(ConfirmTag::new(id, 1)));
    assert_eq!(
        acked(&mut peer, 2, true),
        [(1, 1, ConfirmOutcome::Returned), (2, 2, ConfirmOutcome::Acked)]
    );
    let counters = peer.connection.counters();
    assert_eq!((counters.returned, counters.acked), (1, 1));
}

#[test]
fn a_publish_that_came_back_and_is_refused_is_refused() {
    let (mut peer, id) = confirming();
    peer.publish(id, "k", b"m");
    peer.send_content(1, returned("k"), b"m");
    returned_event(&mut peer);
    let nack = BasicNack {
        delivery_tag: 1,
        multiple: false,
        requeue: false,
    };
    peer.send(1, nack);
    assert_eq!(confirmed(peer.events()), [(1, 1, ConfirmOutcome::Nacked)]);
}

#[test]
fn of_publishes_with_the_same_route_the_earlier_one_came_back_first() {
    let (mut peer, id) = confirming();
    for key in ["k", "other", "k", "k"] {
        peer.publish(id, key, b"m");
    }
    for tag in [1, 3, 4] {
        peer.send_content(1, returned("k"), b"m");
        assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, tag)));
    }
    peer.send_content(1, returned("k"), b"m");
    assert_eq!(returned_event(&mut peer).tag, None, "there was no fourth");
    assert_eq!(
        acked(&mut peer, 0, true),
        [
            (1, 1, ConfirmOutcome::Returned),
            (2, 2, ConfirmOutcome::Acked),
            (3, 4, ConfirmOutcome::Returned),
        ]
    );
}

#[test]
fn only_a_publish_that_could_come_back_is_taken_for_one_that_did() {
    let (mut peer, id) = confirming();
    let properties = Properties::default();
    let plain = BasicPublish {
        exchange: short("x"),
        routing_key: short("k"),
        ..BasicPublish::default()
    };
    let immediate = BasicPublish {
        immediate: true,
        ..plain
    };
    peer.channel(id).publish(&plain, &properties, b"m").unwrap();
    peer.channel(id).publish(&immediate, &properties, b"m").unwrap();
    peer.send_content(1, returned("k"), b"m");
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 2)));
}

#[test]
fn a_return_is_matched_when_the_whole_of_it_is_there() {
    let (mut peer, id) = confirming();
    peer.publish(id, "k", b"hello");
    peer.send(1, returned("k"));
    peer.send_octets(&HEARTBEAT);
    peer.send_header(1, 5, Properties::default());
    peer.send_body(1, b"he");
    assert_eq!(peer.events(), []);
    peer.send_body(1, b"llo");
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 1)));
}

/// As the broker sends it: with the headers that the publish had.
fn send_back(peer: &mut Peer, headers: FieldTableRef<'_>) {
    peer.send(1, returned("k"));
    let properties = Properties {
        headers: Some(headers),
        ..Properties::default()
    };
    peer.send_header(1, 0, properties);
}

#[test]
fn with_numbers_in_their_headers_publishes_of_the_same_route_are_told_apart() {
    let (mut peer, id) = confirming();
    peer.channel(id).number_publishes(true);
    for _ in 0..3 {
        peer.publish(id, "k", b"");
    }
    let sent = peer.sent();
    let headers: Vec<_> = sent.iter().filter(|line| line.contains(" header ")).collect();
    assert_eq!(
        headers,
        [
            r#"ch 1 header body_size=0 headers={"x-publish-number": 1}"#,
            r#"ch 1 header body_size=0 headers={"x-publish-number": 2}"#,
            r#"ch 1 header body_size=0 headers={"x-publish-number": 3}"#,
        ]
    );
    let number = |number: i64| FieldTable::new().with("x-publish-number", number).unwrap();
    send_back(&mut peer, number(3).as_ref());
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 3)));
    send_back(&mut peer, number(1).as_ref());
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 1)));
    for never in [4, 0, -1] {
        send_back(&mut peer, number(never).as_ref());
        assert_eq!(returned_event(&mut peer).tag, None);
    }
}

#[test]
fn a_number_goes_beside_the_callers_own_headers() {
    let (mut peer, id) = confirming();
    peer.channel(id).number_publishes(true);
    let headers = FieldTable::new()
        .with("a", 1)
        .unwrap()
        .with("x-publish-number", "forged")
        .unwrap()
        .with("b", "two")
        .unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        priority: Some(3),
        ..Properties::default()
    };
    let publish = BasicPublish {
        mandatory: true,
        ..BasicPublish::default()
    };
    peer.channel(id).publish(&publish, &properties, b"").unwrap();
    assert_eq!(
        peer.sent()[1],
        r#"ch 1 header body_size=0 headers={"a": 1, "x-publish-number": 1, "b": "two"} priority=3"#
    );
}

#[test]
fn a_number_is_not_added_where_it_says_nothing() {
    let header = |is_confirming: bool, mandatory: bool, numbered: bool| {
        let mut peer = Peer::open();
        let id = peer.open_channel();
        if is_confirming {
            peer.select_confirms(id);
        }
        peer.channel(id).number_publishes(numbered);
        let publish = BasicPublish {
            mandatory,
            ..BasicPublish::default()
        };
        let properties = Properties::default();
        peer.channel(id).publish(&publish, &properties, b"").unwrap();
        peer.sent().remove(1)
    };
    let plain = "ch 1 header body_size=0";
    assert_eq!(header(false, true, true), plain);
    assert_eq!(header(true, false, true), plain);
    assert_eq!(header(true, true, false), plain);
    assert_ne!(header(true, true, true), plain);
}

#[test]
fn a_number_that_we_did_not_write_is_not_looked_at() {
    let (mut peer, id) = confirming();
    peer.publish(id, "k", b"");
    peer.publish(id, "k", b"");
    let forged = FieldTable::new().with("x-publish-number", 2_i64).unwrap();
    send_back(&mut peer, forged.as_ref());
    assert_eq!(returned_event(&mut peer).tag, Some(ConfirmTag::new(id, 1)));
}

#[test]
fn headers_that_cannot_be_read_come_back_without_a_number() {
    let (mut peer, id) = confirming();
    peer.channel(id).number_publishes(true);
    let bad = FieldTableRef::from_encoded(b"\x01k?");
    let properties = Properties {
        headers: Some(bad),
        ..Properties::default()
    };
    let publish = BasicPublish {
        mandatory: true,
        ..BasicPublish::default()
    };
    let refused = peer.channel(id).publish(&publish, &properties, b"");
    assert!(matches!(refused, Err(SendError::Headers(_))), "{refused:?}");
    peer.assert_quiet();
    assert_eq!(peer.publish(id, "k", b""), Some(ConfirmTag::new(id, 1)));
    send_back(&mut peer, bad);
    assert_eq!(
        returned_event(&mut peer).tag,
        Some(ConfirmTag::new(id, 1)),
        "by its route"
    );
}
