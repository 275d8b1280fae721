//! A peer that breaks the protocol: it is told which rule, in a code and in words that name the culprit.

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Event};

use crate::states::{At, assert_closed_for_good, frame};

/// The peer's octets, the code it is answered, and the words.
type Row<'a> = (Vec<u8>, u16, &'a str);

fn check(rows: &[Row<'_>]) {
    for (octets, code, words) in rows {
        let mut peer = At::Open.reach();
        peer.send_octets(octets);
        let events = peer.events();
        let Some(Event::Closed(CloseReason::Protocol(error))) = events.last() else {
            panic!("{words}: {events:?}");
        };
        assert_eq!(error.reply_code(), ReplyCode(*code), "{words}");
        let sent = peer.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(
            sent[0].starts_with(&format!("ch 0 connection.close reply_code={code} ")),
            "{sent:?}"
        );
        assert!(sent[0].contains(&format!("reply_text=\"{words}")), "{sent:?}");
        assert!(sent[0].ends_with(" class_id=0 method_id=0"), "{sent:?}");
        assert!(!CloseReason::Protocol(error.clone()).is_permanent(), "{words}");
        assert_closed_for_good(&mut peer);
    }
}

fn method<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = Vec::new();
    method.into().encode(&mut octets, channel, u32::MAX).unwrap();
    octets
}

#[test]
fn frames_that_are_none_get_501_and_505() {
    check(&[
        (vec![7, 0, 0, 0, 0, 0, 0, 0xCE], 501, "unknown frame type 7"),
        (
            vec![8, 0, 0, 0, 0, 0, 0, 0xCD],
            501,
            "frame ends in 0xcd instead of 0xce",
        ),
        (frame(8, 0, b"x"), 501, "heartbeat with a payload of 1 octets"),
        (frame(8, 3, b""), 505, "heartbeat on channel 3"),
        (
            frame(1, 0, &[0, 10]),
            501,
            "value runs past the end of the frame (in method id",
        ),
        (
            frame(1, 0, &[0, 10, 0, 61, 1]),
            501,
            "1 octets too many after the last value",
        ),
        (
            vec![3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF],
            501,
            "frame of 4294967303 octets is over the limit of 131072",
        ),
    ]);
}

#[test]
fn methods_that_are_not_due_get_503() {
    check(&[
        (frame(1, 0, &[0, 10, 0, 99]), 503, "unknown method 99 of class 10"),
        (
            method(0, ConnectionOpenOk {}),
            503,
            "connection.open-ok is not valid here",
        ),
        (
            method(0, ChannelOpenOk {}),
            503,
            "channel.open-ok is not valid here",
        ),
        (
            method(0, ConnectionUpdateSecretOk {}),
            503,
            "connection.update-secret-ok answers nothing",
        ),
        (
            method(1, ConnectionUnblocked {}),
            503,
            "connection.unblocked answers nothing",
        ),
        (
            method(1, ConnectionClose::default()),
            503,
            "connection.close answers nothing",
        ),
        (
            method(1, ConnectionOpen::default()),
            503,
            "connection.open is not valid here",
        ),
    ]);
}

#[test]
fn channels_that_are_not_open_get_504() {
    check(&[
        (method(2, BasicQosOk {}), 504, "channel 2 is not open"),
        (
            method(65535, ChannelClose::default()),
            504,
            "channel 65535 is not open",
        ),
        (frame(3, 9, b"body"), 504, "channel 9 is not open"),
    ]);
}

#[test]
fn content_that_is_not_due_gets_505() {
    check(&[
        (
            frame(2, 0, &[0; 14]),
            505,
            "content without a method that carries it",
        ),
        (
            frame(3, 0, b"body"),
            505,
            "content without a method that carries it",
        ),
        (
            frame(3, 1, b"body"),
            505,
            "content without a method that carries it",
        ),
    ]);
}

#[test]
fn a_table_that_cannot_be_read_gets_502() {
    let mut start = method(0, crate::states::START);
    // An entry of an unknown type where the empty table of server properties is.
    let table = [0, 0, 0, 3, 1, b'k', b'?'];
    start.splice(13..17, table);
    start[6] += 3;
    let mut peer = At::Start.reach();
    peer.send_octets(&start);
    assert!(matches!(peer.event(), Event::Closed(CloseReason::Protocol(_))));
    let sent = peer.sent();
    assert!(
        sent[0].contains("reply_code=502 SYNTAX_ERROR reply_text=\"unknown field type 0x3f"),
        "{sent:?}"
    );
}

/// Octets of a message that got out of step look like text, and are no reason to give up for good.
#[test]
fn a_peer_that_has_spoken_amqp_is_not_taken_for_one_of_another_protocol() {
    for (octets, first) in [
        (&b"HTTP/1.1"[..], b'H'),
        (b"AMQP\0\0\x09\x01", b'A'),
        (b"\x15\x03\x03\0\x02\x02\x46", 0x15),
    ] {
        for at in [At::Tune, At::OpenOk, At::Open] {
            let mut peer = at.reach();
            peer.send_octets(octets);
            let events = peer.events();
            let Some(Event::Closed(reason @ CloseReason::Protocol(error))) = events.last() else {
                panic!("{at:?}: {events:?}");
            };
            assert_eq!(error.problem, Problem::FrameType(first));
            assert!(!reason.is_permanent());
            let sent = peer.sent();
            assert!(
                sent[0].contains(&format!("unknown frame type {first}")),
                "{sent:?}"
            );
        }
    }
}

#[test]
fn frames_before_the_error_are_told_and_frames_behind_it_are_not() {
    let mut peer = At::Open.reach();
    peer.send(0, crate::states::blocked("low on memory"));
    peer.send_content(1, BasicReturn::default(), b"body");
    peer.send(0, ConnectionOpenOk {});
    peer.send(0, ConnectionUnblocked {});
    let events = peer.events();
    assert!(
        matches!(events[..2], [Event::Blocked { .. }, Event::Returned(_)]),
        "{events:?}"
    );
    assert!(
        matches!(events[3..], [Event::Closed(CloseReason::Protocol(_))]),
        "{events:?}"
    );
}

#[test]
fn a_channel_that_the_peer_closes_again_and_again_is_no_error() {
    let mut peer = At::Open.reach();
    for _ in 0..3 {
        peer.send(1, ChannelClose::default());
    }
    assert_eq!(peer.events().len(), 1);
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    peer.send(1, ChannelCloseOk {});
    assert!(matches!(peer.event(), Event::Closed(CloseReason::Protocol(_))));
}
