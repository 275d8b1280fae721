//! Heartbeats, both ways.

use std::time::Duration;

use amqp_proto::wire::*;

use crate::stage::{Stage, all_capabilities};

fn open(stage: &mut Stage, heartbeat: u16) -> usize {
    let who = stage.start("guest", "guest", &all_capabilities());
    stage.tune(who, heartbeat);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    who
}

#[test]
fn one_is_sent_after_half_an_interval_without_anything_else() {
    let mut stage = Stage::new();
    let who = open(&mut stage, 4);
    stage.advance(Duration::from_millis(1999));
    assert!(stage.received(who).is_empty());
    stage.advance(Duration::from_millis(1));
    assert_eq!(stage.received(who), ["ch 0 heartbeat"]);
    stage.advance(Duration::from_secs(1));
    stage.channel(who, 1);
    stage.advance(Duration::from_millis(1999));
    assert!(stage.received(who).is_empty());
    stage.advance(Duration::from_millis(1));
    assert_eq!(stage.received(who), ["ch 0 heartbeat"]);
}

#[test]
fn after_three_intervals_of_silence_the_stream_breaks_off() {
    let mut stage = Stage::new();
    let who = open(&mut stage, 4);
    stage.advance(Duration::from_secs(11));
    stage.send_octets(who, &HEARTBEAT);
    stage.advance(Duration::from_millis(11_999));
    assert!(!stage.is_over(who));
    stage.advance(Duration::from_millis(1));
    assert!(stage.is_over(who));
}

#[test]
fn other_deadlines_bring_none() {
    let mut stage = Stage::new();
    let who = open(&mut stage, 4);
    stage.broker.delay_confirms(Duration::from_secs(1));
    stage.channel(who, 1);
    stage.call(who, 1, ConfirmSelect::default(), "confirm.select-ok");
    stage.publish(who, 1, "nowhere", b"");
    stage.advance(Duration::from_secs(1));
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=1"]);
}

#[test]
fn none_are_kept_for_when_it_is_no_longer_mute() {
    let mut stage = Stage::new();
    let who = open(&mut stage, 4);
    stage.broker.delay_confirms(Duration::from_secs(3));
    stage.channel(who, 1);
    stage.call(who, 1, ConfirmSelect::default(), "confirm.select-ok");
    stage.publish(who, 1, "nowhere", b"");
    stage.run();
    stage.broker.set_mute(stage.key(who), stage.now, true);
    stage.advance(Duration::from_secs(3));
    stage.broker.set_mute(stage.key(who), stage.now, false);
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=1"]);
}

#[test]
fn without_an_interval_there_are_none() {
    let mut stage = Stage::new();
    let who = open(&mut stage, 0);
    assert_eq!(stage.broker.poll_timeout(), None);
    stage.advance(Duration::from_secs(1_000_000));
    assert!(stage.received(who).is_empty());
    assert!(!stage.is_over(who));
}
