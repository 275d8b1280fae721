//! Content: a method, a header and body frames become a message, in whatever pieces they come.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, CloseReason, Delivery, Event, Instant, Message};
use bytes::Bytes;

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, get_ok, returned, short};

/// Channel 1 with a consumer "c".
fn consuming() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "c", false);
    (peer, id)
}

/// The octets of frames, one after the other.
fn frames(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    for frame in frames {
        frame.encode(&mut octets, u32::MAX).unwrap();
    }
    octets
}

fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Frame<'m> {
    let method = method.into();
    Frame::Method { channel, method }
}

fn header(channel: u16, body_size: u64) -> Frame<'static> {
    let header = ContentHeader {
        body_size,
        properties: Properties::default(),
    };
    Frame::Header { channel, header }
}

fn body(channel: u16, payload: &[u8]) -> Frame<'_> {
    Frame::Body { channel, payload }
}

#[track_caller]
fn assert_body(delivery: &Delivery, octets: &[u8]) {
    assert_eq!(delivery.message.body_len(), octets.len());
    assert_eq!(&*delivery.message.body(), octets);
    assert_eq!(
        delivery.message.body_chunks().collect::<Vec<_>>().concat(),
        octets
    );
    assert!(delivery.message.body_chunks().all(|chunk| !chunk.is_empty()));
    assert_eq!(delivery.message.clone().into_body(), octets);
}

#[test]
fn a_message_in_one_piece() {
    let (mut peer, id) = consuming();
    peer.send_content(
        1,
        BasicDeliver {
            redelivered: true,
            ..deliver("c", 7)
        },
        b"hello",
    );
    let delivery = delivery(peer.event());
    assert_eq!((delivery.tag.channel(), delivery.tag.value()), (id, 7));
    assert_eq!((delivery.consumer.channel(), delivery.consumer.number()), (id, 0));
    assert!(delivery.redelivered);
    assert_eq!(delivery.message.exchange(), short("x"));
    assert_eq!(delivery.message.routing_key(), short("k"));
    assert_eq!(delivery.message.properties(), Properties::default());
    assert_body(&delivery, b"hello");
    let expected = Message::new(short("x"), short("k"), &Properties::default(), b"hello").unwrap();
    assert_eq!(delivery.message, expected);
    assert_eq!(peer.connection.counters().delivered, 1);
}

#[test]
fn an_empty_body_has_no_frame() {
    let (mut peer, _) = consuming();
    peer.send_content(1, deliver("c", 1), b"");
    assert_body(&delivery(peer.event()), b"");
    peer.send(1, deliver("c", 2));
    assert_eq!(peer.events(), []);
    peer.send_header(1, 0, Properties::default());
    assert_body(&delivery(peer.event()), b"");
}

#[test]
fn a_method_waits_for_its_header_and_the_header_for_the_body() {
    let (mut peer, _) = consuming();
    peer.send(1, deliver("c", 1));
    assert_eq!(peer.events(), []);
    peer.send_header(1, 5, Properties::default());
    assert_eq!(peer.events(), []);
    peer.send_body(1, b"he");
    assert_eq!(peer.events(), []);
    peer.send_body(1, b"llo");
    assert_body(&delivery(peer.event()), b"hello");
}

/// A delivery, a get-ok, a return and an empty one; other channels and heartbeats in between.
fn mixed_session() -> Vec<u8> {
    frames(&[
        method(1, deliver("c", 1)),
        header(1, 3),
        body(1, b"one"),
        Frame::Heartbeat,
        method(1, get_ok(2)),
        Frame::Heartbeat,
        method(2, deliver("d", 1)),
        header(1, 6),
        body(1, b"tw"),
        header(2, 4),
        body(1, b""),
        body(2, b"o"),
        Frame::Heartbeat,
        body(1, b"o of"),
        body(2, b"the"),
        method(1, returned("k")),
        header(1, 0),
        method(2, QueuePurgeOk { message_count: 1 }),
        method(1, deliver("c", 3)),
        method(2, deliver("d", 2)),
        header(2, 0),
        header(1, 1),
        body(1, b"!"),
    ])
}

/// Channels 1 and 2 with consumers "c" and "d", a get on 1 and a purge on 2.
fn two_channels() -> Peer {
    let (mut peer, one) = consuming();
    let two = peer.open_channel();
    peer.consume(two, "d", false);
    peer.channel(one).get(&BasicGet::default()).unwrap();
    peer.channel(two).request(&QueuePurge::default()).unwrap();
    peer.sent();
    peer
}

#[test]
fn contents_of_channels_may_be_mixed_frame_by_frame_and_with_heartbeats() {
    let mut peer = two_channels();
    peer.send_octets(&mixed_session());
    let told: Vec<String> = peer
        .events()
        .iter()
        .map(|event| match event {
            Event::Delivery(delivery) => {
                let (number, tag) = (delivery.tag.channel().number(), delivery.tag.value());
                let body = delivery.message.body();
                format!("{number} delivery {tag} {}", String::from_utf8_lossy(&body))
            }
            Event::Got(got) => format!("got {}", String::from_utf8_lossy(&got.message.body())),
            Event::Returned(_) => "returned".to_owned(),
            Event::Reply(_) => "reply".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "1 delivery 1 one",
            "got two of",
            "2 delivery 1 othe",
            "returned",
            "reply",
            "2 delivery 2 ",
            "1 delivery 3 !",
        ]
    );
    assert_eq!(peer.connection.counters().heartbeats_received, 3);
}

#[test]
fn the_same_octets_tell_the_same_events_wherever_they_are_cut() {
    let session = mixed_session();
    let mut whole = two_channels();
    whole.send_octets(&session);
    let events = whole.events();
    for cut in 0..session.len() {
        let mut peer = two_channels();
        peer.send_octets(&session[..cut]);
        let mut found = peer.events();
        peer.send_octets(&session[cut..]);
        found.extend(peer.events());
        assert_eq!(found, events, "cut at {cut}");
        assert_eq!(
            peer.connection.counters(),
            whole.connection.counters(),
            "cut at {cut}"
        );
    }
    let mut peer = two_channels();
    let found: Vec<_> = session
        .chunks(1)
        .flat_map(|octet| {
            peer.send_octets(octet);
            peer.events()
        })
        .collect();
    assert_eq!(found, events, "octet by octet");
}

#[test]
fn a_tap_sees_every_frame_and_changes_nothing() {
    let session = mixed_session();
    let mut plain = two_channels();
    plain.send_octets(&session);
    let events = plain.events();

    let seen = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = seen.clone();
    let mut peer = two_channels();
    peer.connection.set_tap(Some(Box::new(
        move |_: Instant, _: amqp_proto::trace::Direction, _: u16, octets: &[u8]| {
            count.fetch_add(octets.len(), std::sync::atomic::Ordering::Relaxed);
        },
    )));
    peer.send_octets(&session);
    assert_eq!(peer.events(), events);
    assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), session.len());
    assert_eq!(peer.connection.counters(), plain.connection.counters());
}

#[test]
fn body_frames_of_no_octets_are_passed_over() {
    let (mut peer, _) = consuming();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 2, Properties::default());
    for piece in [&b""[..], b"a", b"", b"", b"b"] {
        peer.send_body(1, piece);
    }
    assert_body(&delivery(peer.event()), b"ab");
    peer.send_body(1, b"");
    assert_eq!(peer.violation(), "505 content without a method that carries it");
}

#[test]
fn small_pieces_of_a_body_are_joined_and_large_ones_stay_where_they_are() {
    let (mut peer, _) = consuming();
    let large = vec![7; 4096];
    let pieces: [&[u8]; 6] = [b"a", b"b", &large, b"c", &large, &large[1..]];
    let total: usize = pieces.iter().map(|piece| piece.len()).sum();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, total as u64, Properties::default());
    assert_eq!(peer.events(), []);
    for piece in pieces {
        peer.send_body(1, piece);
    }
    let before = peer.input.unread().as_ptr_range();
    let delivery = delivery(peer.event());
    assert_body(&delivery, &pieces.concat());
    let chunks: Vec<_> = delivery.message.body_chunks().collect();
    assert_eq!(
        chunks.iter().map(|chunk| chunk.len()).collect::<Vec<_>>(),
        [2, 4096, 1, 4096, 4095]
    );
    let is_shared = |chunk: &&[u8]| before.contains(&chunk.as_ptr());
    assert_eq!(
        chunks.iter().map(is_shared).collect::<Vec<_>>(),
        [false, true, false, true, false]
    );
}

#[test]
fn a_body_that_is_there_with_its_head_is_not_copied() {
    // Up to 16 KiB it is taken in one piece with the head, above that as a piece of its own.
    for size in [1, 16 * 1024 - 1, 16 * 1024, 60_000] {
        let (mut peer, _) = consuming();
        peer.send_content(1, deliver("c", 1), &vec![1; size]);
        let before = peer.input.unread().as_ptr_range();
        let delivery = delivery(peer.event());
        assert_eq!(delivery.message.body_len(), size);
        let chunk = delivery.message.body_chunks().next().unwrap().as_ptr();
        assert!(before.contains(&chunk), "{size}");
        assert_eq!(delivery.message.into_body().as_ptr(), chunk, "nor by into_body");
    }
}

#[test]
fn a_detached_message_is_equal_and_independent_of_the_buffer() {
    let (mut peer, _) = consuming();
    let headers = FieldTable::new().with("k", "v").unwrap();
    let properties = Properties {
        content_type: Some(short("text/plain")),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(Properties::PERSISTENT),
        ..Properties::default()
    };
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 5, properties);
    peer.send_body(1, b"he");
    peer.send_body(1, b"llo");
    let message = delivery(peer.event()).message;
    let memory = peer.input.unread().as_ptr_range();
    let detached = message.detach();
    assert_eq!(detached, message);
    assert_eq!(detached.properties(), properties);
    assert_eq!(
        detached,
        Message::new(short("x"), short("k"), &properties, b"hello").unwrap()
    );
    for text in [detached.exchange().as_bytes(), &detached.body()] {
        assert!(!memory.contains(&text.as_ptr()));
    }
    assert_ne!(
        detached.exchange().as_bytes().as_ptr(),
        message.exchange().as_bytes().as_ptr()
    );
}

#[test]
fn memory_is_read_into_again_when_no_message_holds_it() {
    let (mut peer, _) = consuming();
    let mut addresses = std::collections::BTreeSet::new();
    let mut kept: Vec<Message> = Vec::new();
    for tag in 1..=100 {
        peer.send_content(1, deliver("c", tag), &[0; 1000]);
        addresses.insert(peer.input.unread().as_ptr() as usize / 65_536);
        kept.push(delivery(peer.event()).message.detach());
    }
    assert!(addresses.len() < 20, "{addresses:?}");
    assert_eq!(kept.len(), 100);
}

#[test]
fn a_header_table_that_cannot_be_read_concerns_its_message_only() {
    let (mut peer, _) = consuming();
    let properties = Properties {
        headers: Some(FieldTableRef::from_encoded(b"\x01k?not a type")),
        message_id: Some(short("m1")),
        ..Properties::default()
    };
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 2, properties);
    peer.send_body(1, b"ok");
    let delivery = delivery(peer.event());
    assert_eq!(delivery.message.properties().message_id, Some(short("m1")));
    assert!(delivery.message.properties().headers.unwrap().validate().is_err());
    assert_body(&delivery, b"ok");
    assert!(peer.connection.is_open());
}

#[test]
fn names_that_are_not_utf_8_arrive_as_they_are() {
    let (mut peer, _) = consuming();
    let odd = BasicDeliver {
        routing_key: ShortStr::from_bytes(b"\xff\0").unwrap(),
        exchange: ShortStr::from_bytes(&[0xfe; 255]).unwrap(),
        ..deliver("c", 1)
    };
    peer.send_content(1, odd, b"ok");
    let delivery = delivery(peer.event());
    assert_eq!(delivery.message.routing_key(), odd.routing_key);
    assert_eq!(delivery.message.exchange(), odd.exchange);
}

/// What the peer is told when, behind these frames of channel 1, comes that one; all at once and one by one.
#[track_caller]
fn violated(before: &[Frame<'_>], last: &[u8]) -> String {
    let (mut at_once, _) = consuming();
    at_once.send_octets(&[&frames(before), last].concat());
    let first = at_once.violation();
    let (mut one_by_one, _) = consuming();
    for frame in before {
        one_by_one.send_frame(*frame);
        assert_eq!(one_by_one.events(), []);
    }
    one_by_one.send_octets(last);
    assert_eq!(one_by_one.violation(), first);
    let (mut tapped, _) = consuming();
    let tap = |_: Instant, _: amqp_proto::trace::Direction, _: u16, _: &[u8]| {};
    tapped.connection.set_tap(Some(Box::new(tap)));
    tapped.send_octets(&[&frames(before), last].concat());
    assert_eq!(tapped.violation(), first);
    first
}

#[test]
fn frames_out_of_order_are_violations() {
    let start = method(1, deliver("c", 1));
    let interrupted = "505 content of a message is missing before this frame";
    let other_method = frames(&[method(1, BasicQosOk {})]);
    let other_content = frames(&[method(1, deliver("c", 2))]);
    let another_header = frames(&[header(1, 5)]);
    let too_early = frames(&[body(1, b"a")]);
    for last in [&other_method, &other_content, &too_early] {
        assert_eq!(violated(&[start], last), interrupted);
    }
    for last in [&other_method, &other_content, &another_header] {
        assert_eq!(violated(&[start, header(1, 5)], last), interrupted);
        assert_eq!(violated(&[start, header(1, 5), body(1, b"a")], last), interrupted);
    }
}

#[test]
fn a_body_past_its_size_is_a_violation() {
    let start = method(1, deliver("c", 1));
    assert_eq!(
        violated(
            &[start, header(1, 5), body(1, b"abc")],
            &frames(&[body(1, b"def")])
        ),
        "501 body frame of 3 octets where at most 2 are left"
    );
    assert_eq!(
        violated(&[start, header(1, 5)], &frames(&[body(1, b"abcdef")])),
        "501 body frame of 6 octets where at most 5 are left"
    );
}

#[test]
fn a_header_that_cannot_be_read_is_a_violation() {
    let start = method(1, deliver("c", 1));
    let raw = |payload: &[u8]| {
        let size = u8::try_from(payload.len()).unwrap();
        [&[2, 0, 1, 0, 0, 0, size][..], payload, &[0xCE]].concat()
    };
    for (payload, expected) in [
        (
            &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
            "502 unknown property flags 0x0001",
        ),
        (
            &[0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "505 content of class 10",
        ),
        (
            &[0, 60, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "505 content of weight 7",
        ),
        (&[0, 60, 0, 0], "501 value runs past the end of the frame"),
        (
            &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9],
            "501 2 octets too many after the last value",
        ),
    ] {
        assert_eq!(violated(&[start], &raw(payload)), expected);
    }
}

#[test]
fn a_heartbeat_on_the_channel_in_the_middle_of_content_is_505() {
    let start = method(1, deliver("c", 1));
    let heartbeat = [8, 0, 1, 0, 0, 0, 0, 0xCE];
    assert_eq!(violated(&[start], &heartbeat), "505 heartbeat on channel 1");
    assert_eq!(
        violated(&[start, header(1, 5)], &heartbeat),
        "505 heartbeat on channel 1"
    );
}

#[test]
fn a_channel_closed_in_the_middle_of_content_is_closed() {
    let all = [
        method(1, deliver("c", 1)),
        header(1, 5),
        body(1, b"abc"),
        body(1, b"d"),
    ];
    for there in 1..=all.len() {
        for at_once in [true, false] {
            let (mut peer, id) = consuming();
            let other = peer.open_channel();
            peer.consume(other, "d", false);
            peer.send_octets(&frames(&all[..there]));
            if !at_once {
                assert_eq!(peer.events(), []);
            }
            peer.send(1, close_406());
            let event = peer.event();
            assert!(
                matches!(event, Event::ChannelClosed { channel, .. } if channel == id),
                "{event:?}"
            );
            assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
            peer.send_content(2, deliver("d", 1), b"alive");
            assert_body(&delivery(peer.event()), b"alive");
        }
    }
}

#[test]
fn a_message_can_be_as_large_as_many_frames() {
    let (mut peer, _) = consuming();
    let piece = vec![3; 131_072 - 8];
    let mut expected = Vec::new();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 20 * piece.len() as u64, Properties::default());
    let mut events = Vec::new();
    for _ in 0..20 {
        peer.send_body(1, &piece);
        expected.extend_from_slice(&piece);
        events.extend(peer.events());
    }
    assert_eq!(events.len(), 1);
    assert_body(&delivery(events.remove(0)), &expected);
}

#[test]
fn messages_made_by_users_equal_received_ones_however_their_body_is_split() {
    let (mut peer, _) = consuming();
    peer.send_content(1, deliver("c", 1), b"hello");
    let within = delivery(peer.event()).message;
    peer.send(1, deliver("c", 2));
    peer.send_header(1, 5, Properties::default());
    peer.send_octets(&HEARTBEAT);
    peer.send_body(1, b"hello");
    let apart = delivery(peer.event()).message;
    let made = |key, properties: Properties<'_>, body: &'static [u8]| {
        Message::new(short("x"), short(key), &properties, Bytes::from_static(body)).unwrap()
    };
    let same = made("k", Properties::default(), b"hello");
    assert_eq!(within, apart);
    assert_eq!(within, same);
    assert_eq!(apart, same);
    assert_ne!(within, made("other", Properties::default(), b"hello"));
    assert_ne!(within, made("k", Properties::default(), b"hullo"));
    let persistent = Properties {
        delivery_mode: Some(2),
        ..Properties::default()
    };
    assert_ne!(within, made("k", persistent, b"hello"));
}

#[test]
fn frames_that_only_look_like_a_small_message_are_violations() {
    let start = method(1, deliver("c", 1));
    let missing = "505 content of a message is missing before this frame";
    let stray = "505 content without a method that carries it";
    let header_payload = &frames(&[header(1, 5)])[7..21];
    // In the header's place a body that reads like one; then a header of another channel.
    let as_body = frames(&[body(1, header_payload), body(1, b"12345")]);
    assert_eq!(violated(&[start], &as_body), missing);
    let elsewhere = [frames(&[header(2, 5)]), frames(&[body(1, b"12345")])].concat();
    assert_eq!(violated(&[start], &elsewhere), "504 channel 2 is not open");
    // In the body's place a header of its length; then a body of another channel.
    let again = frames(&[header(1, 14)]);
    assert_eq!(violated(&[start, header(1, 14)], &again), missing);
    let elsewhere = frames(&[body(2, b"12345")]);
    assert_eq!(
        violated(&[start, header(1, 5)], &elsewhere),
        "504 channel 2 is not open"
    );
    // Nothing is missing of an empty message.
    let (mut peer, _) = consuming();
    peer.send_octets(&frames(&[start, header(1, 0), body(1, b"")]));
    let events = peer.events();
    let [
        Event::Delivery(empty),
        Event::Closed(_) | Event::ChannelClosed { .. },
        ..,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(empty.message.body_len(), 0);
    let Some(Event::Closed(CloseReason::Protocol(error))) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(format!("{} {}", error.reply_code().0, error.problem), stray);
}
