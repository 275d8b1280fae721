//! What can be watched: every frame by a tap, counts of them.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use amqp_proto::trace::Direction;
use amqp_proto::wire::*;
use amqp_proto::{Event, Instant};

use crate::peer::Peer;
use crate::states::{START, TUNE, blocked, close, config};

/// What a tap saw: when, which way, on which channel, what.
type Seen = Receiver<(Instant, Direction, u16, Vec<u8>)>;

fn tap(peer: &mut Peer) -> Seen {
    let (saw, seen) = channel();
    let tap = move |now: Instant, direction: Direction, channel: u16, octets: &[u8]| {
        saw.send((now, direction, channel, octets.to_vec())).unwrap();
    };
    peer.connection.set_tap(Some(Box::new(tap)));
    seen
}

/// What was seen since the last time: the second, an arrow and the name for each frame.
fn lines(seen: &Seen) -> Vec<String> {
    let line = |(now, direction, channel, octets): (Instant, Direction, u16, Vec<u8>)| {
        let second = now.as_nanos() / 1_000_000_000;
        if octets == PROTOCOL_HEADER {
            return format!("{second} {direction} protocol header");
        }
        let raw = RawFrame::parse(&octets, &FrameLimits::default())
            .unwrap()
            .unwrap();
        assert_eq!((raw.channel, raw.size()), (channel, octets.len()));
        let text = raw.decode().unwrap().to_string();
        let name = text.split(' ').take(3).collect::<Vec<_>>().join(" ");
        format!("{second} {direction} {name}")
    };
    seen.try_iter().map(line).collect()
}

/// A session with a bit of everything, and its events.
fn session(peer: &mut Peer) -> Vec<Event> {
    let mut events = peer.events();
    peer.send(0, START);
    events.extend(peer.events());
    peer.send(
        0,
        ConnectionTune {
            heartbeat: 60,
            ..TUNE
        },
    );
    events.extend(peer.events());
    peer.send(0, ConnectionOpenOk {});
    events.extend(peer.events());
    let channel = peer.connection.open_channel().unwrap();
    let mut view = peer.connection.channel(channel).unwrap();
    view.publish(&BasicPublish::default(), &Properties::default(), b"body")
        .unwrap();
    events.extend(peer.events());
    peer.send(1, ChannelOpenOk {});
    peer.send(0, blocked("low on memory"));
    peer.send_frame(Frame::Heartbeat);
    events.extend(peer.advance(Duration::from_secs(31)));
    peer.send(0, close(320, "shutdown"));
    events.extend(peer.events());
    events
}

#[test]
fn a_tap_sees_every_frame_of_both_directions_in_order() {
    let mut peer = Peer::new(config());
    let seen = tap(&mut peer);
    session(&mut peer);
    assert_eq!(
        lines(&seen),
        [
            "0 -> protocol header",
            "0 <- ch 0 connection.start",
            "0 -> ch 0 connection.start-ok",
            "0 <- ch 0 connection.tune",
            "0 -> ch 0 connection.tune-ok",
            "0 -> ch 0 connection.open",
            "0 <- ch 0 connection.open-ok",
            "0 -> ch 1 channel.open",
            "0 -> ch 1 basic.publish",
            "0 -> ch 1 header",
            "0 -> ch 1 body",
            "0 <- ch 1 channel.open-ok",
            "0 <- ch 0 connection.blocked",
            "0 <- ch 0 heartbeat",
            "30 -> ch 0 heartbeat",
            "31 <- ch 0 connection.close",
            "31 -> ch 0 connection.close-ok",
        ]
    );
}

#[test]
fn a_tap_changes_nothing() {
    let (mut with, mut without) = (Peer::new(config()), Peer::new(config()));
    let seen = tap(&mut with);
    let events = session(&mut without);
    assert_eq!(session(&mut with), events);
    assert!(events.len() > 3);
    assert_eq!(with.sent_octets(), without.sent_octets());
    assert_eq!(with.connection.counters(), without.connection.counters());
    assert!(!lines(&seen).is_empty());
}

#[test]
fn a_tap_sees_what_it_sees_once_and_not_what_was_dropped_or_comes_after_it() {
    let mut peer = Peer::open();
    let seen = tap(&mut peer);
    peer.is_stalled = true;
    peer.connection.open_channel().unwrap();
    peer.transmit();
    peer.transmit();
    assert_eq!(lines(&seen), ["0 -> ch 1 channel.open"]);
    peer.connection.open_channel().unwrap();
    peer.transmit();
    assert_eq!(
        lines(&seen),
        Vec::<String>::new(),
        "the socket has not taken the first"
    );
    peer.send(0, close(320, ""));
    peer.events();
    peer.is_stalled = false;
    peer.sent();
    assert_eq!(
        lines(&seen),
        ["0 <- ch 0 connection.close", "0 -> ch 0 connection.close-ok"]
    );

    let mut peer = Peer::open();
    let seen = tap(&mut peer);
    peer.connection.set_tap(None);
    peer.send_frame(Frame::Heartbeat);
    peer.connection.open_channel().unwrap();
    peer.events();
    assert_eq!(lines(&seen), Vec::<String>::new());
}

#[test]
fn frames_and_octets_are_counted() {
    let mut peer = Peer::new(config());
    session(&mut peer);
    let sent = peer.sent_octets();
    let counters = peer.connection.counters();
    assert_eq!(counters.octets_sent, sent.len() as u64);
    // Without the protocol header, which is no frame.
    assert_eq!(counters.frames_sent, 9);
    assert_eq!(counters.frames_received, 7);
    assert_eq!((counters.heartbeats_sent, counters.heartbeats_received), (1, 1));
    assert_eq!(counters.published, 1);
    let mut received = Vec::new();
    for (channel, method) in [
        (0, Method::from(START)),
        (0, TUNE.into()),
        (0, ConnectionOpenOk {}.into()),
        (1, ChannelOpenOk {}.into()),
        (0, blocked("low on memory").into()),
        (0, close(320, "shutdown").into()),
    ] {
        method.encode(&mut received, channel, u32::MAX).unwrap();
    }
    assert_eq!(
        counters.octets_received,
        (received.len() + HEARTBEAT.len()) as u64
    );
}

#[test]
fn what_waits_to_be_written_is_counted() {
    let mut peer = Peer::open();
    assert_eq!(peer.connection.queued_bytes(), 0);
    assert!(peer.connection.is_drained());
    peer.connection.open_channel().unwrap();
    let one = peer.connection.queued_bytes();
    assert_eq!(one, 13);
    assert!(!peer.connection.is_drained());
    peer.is_stalled = true;
    peer.transmit();
    assert!(peer.connection.is_drained(), "it is the caller's now");
    assert_eq!(peer.connection.queued_bytes(), one);
    peer.connection.open_channel().unwrap();
    assert_eq!(peer.connection.queued_bytes(), 2 * one);
    peer.is_stalled = false;
    peer.sent();
    assert_eq!(peer.connection.queued_bytes(), 0);
}
