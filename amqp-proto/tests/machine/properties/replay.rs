//! A trace, played to another connection that is given the same commands, makes it tell the same.

#![expect(
    clippy::disallowed_types,
    reason = "a tap that the test looks into needs a lock; the core has none"
)]

use std::sync::{Arc, Mutex};

use amqp_proto::trace::{Direction, FrameTap, TraceReader, TraceWriter};
use amqp_proto::wire::*;
use amqp_proto::{Config, Event, Instant};

use super::transcript::{Busy, in_turn, lanes};
use crate::peer::Peer;

/// What an application does, the same in both lives: it acknowledges, and closes when it got what it asked for.
fn react(busy: &mut Busy, event: &Event) {
    let connection = &mut busy.peer.connection;
    match event {
        Event::Delivery(delivery) => {
            let mut channel = connection.channel(delivery.tag.channel()).unwrap();
            channel.ack(delivery.tag).unwrap();
        }
        Event::Got(_) => connection.close(ReplyCode::REPLY_SUCCESS, "enough"),
        _ => {}
    }
}

/// Octets arrive at their times; what is told, and what is written.
fn live(busy: &mut Busy, arrivals: &[(Instant, Vec<u8>)]) -> (Vec<Event>, Vec<String>) {
    let mut events = Vec::new();
    for (at, octets) in arrivals {
        busy.peer.now = *at;
        busy.peer.connection.handle_timeout(*at);
        busy.peer.send_octets(octets);
        while let Some(event) = busy.peer.connection.poll_event(*at, &mut busy.peer.input) {
            react(busy, &event);
            events.push(event);
        }
        busy.peer.transmit();
    }
    (events, busy.peer.sent())
}

#[test]
fn a_recorded_session_replayed_with_the_same_commands_tells_the_same() {
    let writer = Arc::new(Mutex::new(TraceWriter::new(1024 * 1024)));
    let shared = Arc::clone(&writer);
    let mut busy = Busy::new(Config::default());
    let tap = move |now: Instant, direction: Direction, channel: u16, octets: &[u8]| {
        shared.lock().unwrap().frame(now, direction, channel, octets);
    };
    busy.peer.connection.set_tap(Some(Box::new(tap)));
    let arrivals = in_turn(&lanes());
    let arrivals: Vec<_> = (1..)
        .zip(arrivals.chunks(700))
        .map(|(second, octets)| (Instant::from_nanos(second * 1_000_000_000), octets.to_vec()))
        .collect();
    let (told, sent) = live(&mut busy, &arrivals);
    assert!(told.len() > 20);

    let trace = writer.lock().unwrap().take();
    let received = TraceReader::new(&trace).unwrap().received();
    let frames: Vec<_> = received
        .map(|frame| frame.map(|(now, octets)| (now, octets.to_vec())))
        .collect::<Result<_, _>>()
        .unwrap();
    let mut again = Busy::new(Config::default());
    let (told_again, sent_again) = live(&mut again, &frames);
    assert_eq!(told_again, told);
    assert_eq!(sent_again, sent);

    let records = TraceReader::new(&trace).unwrap().map(Result::unwrap);
    let traced = records.filter(|record| record.direction == Direction::Sent);
    let traced: Vec<String> = traced.map(|record| line(record.octets)).collect();
    assert_eq!(traced, sent);
}

fn line(frame: &[u8]) -> String {
    let mut peer = Peer::open();
    peer.send_octets(frame);
    let raw = RawFrame::parse(peer.input.unread(), &FrameLimits::default())
        .unwrap()
        .unwrap();
    raw.decode().unwrap().to_string()
}
