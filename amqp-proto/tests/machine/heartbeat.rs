//! Heartbeats: sent after half an interval of our silence, the peer dead after two of its own. On the virtual clock.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, ConnectionState, Event, Heartbeat, Instant, TimeoutReason};
use bytes::Buf;

use crate::peer::Peer;
use crate::stage::deliver;
use crate::states::{At, TUNE, assert_closed_for_good};

const NANO: Duration = Duration::from_nanos(1);
const HEARTBEATS: [&str; 1] = ["ch 0 heartbeat"];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A connection that has just been opened, with that interval.
fn open(heartbeat: u16) -> Peer {
    Peer::open_with(Config::default(), ConnectionTune { heartbeat, ..TUNE })
}

fn missed(interval: u64, silence: Duration) -> Event {
    Event::Closed(CloseReason::HeartbeatMissed {
        interval: seconds(interval),
        silence,
    })
}

#[test]
fn a_heartbeat_is_sent_after_half_an_interval_of_our_silence() {
    for interval in [1, 60] {
        let mut peer = open(interval);
        let half = seconds(interval.into()) / 2;
        for _ in 0..3 {
            assert_eq!(peer.connection.poll_timeout(), Some(peer.now + half));
            assert_eq!(
                peer.connection.timeout_reason(),
                Some(TimeoutReason::HeartbeatSend)
            );
            assert_eq!(peer.advance(half - NANO), []);
            assert!(peer.sent().is_empty());
            assert_eq!(peer.advance(NANO), []);
            assert_eq!(peer.sent(), HEARTBEATS);
            peer.send_frame(Frame::Heartbeat);
            assert_eq!(peer.events(), []);
        }
    }
}

#[test]
fn what_we_send_otherwise_puts_the_heartbeat_off() {
    let mut peer = open(60);
    peer.advance(seconds(20));
    peer.connection.open_channel().unwrap();
    assert_eq!(peer.sent(), ["ch 1 channel.open"]);
    assert_eq!(peer.advance(seconds(30) - NANO), []);
    assert!(peer.sent().is_empty());
    peer.advance(NANO);
    assert_eq!(peer.sent(), HEARTBEATS);
}

#[test]
fn a_heartbeat_that_is_due_is_not_sent_along_with_something_else() {
    let mut peer = open(60);
    peer.now = peer.now + seconds(30);
    peer.connection.open_channel().unwrap();
    assert_eq!(peer.sent(), ["ch 1 channel.open"]);
}

#[test]
fn what_the_peer_sends_does_not_put_ours_off() {
    let mut peer = open(60);
    peer.advance(seconds(29));
    peer.send_frame(Frame::Heartbeat);
    assert_eq!(peer.advance(seconds(1)), []);
    assert_eq!(peer.sent(), HEARTBEATS);
}

#[test]
fn the_peer_is_dead_after_two_intervals_to_the_nanosecond() {
    for interval in [1, 60] {
        let mut peer = open(interval);
        let two = seconds(interval.into()) * 2;
        assert_eq!(peer.advance(two - NANO), []);
        assert_eq!(peer.sent().len(), 3);
        assert_eq!(peer.advance(NANO), [missed(interval.into(), two)]);
        assert!(peer.sent().is_empty());
        let reason = peer.connection.close_reason().unwrap();
        assert!(!reason.is_permanent());
        assert_closed_for_good(&mut peer);
    }
}

#[test]
fn a_wake_up_for_a_dead_peer_says_so() {
    let mut peer = open(60);
    peer.advance(seconds(119));
    peer.connection.open_channel().unwrap();
    peer.sent();
    assert_eq!(
        peer.connection.timeout_reason(),
        Some(TimeoutReason::HeartbeatReceive)
    );
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(1)));
}

#[test]
fn a_late_wake_up_tells_the_whole_silence() {
    let mut peer = open(60);
    peer.now = peer.now + seconds(500);
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.events(), [missed(60, seconds(500))]);
}

#[test]
fn half_a_frame_is_a_sign_of_life() {
    let mut peer = open(60);
    assert_eq!(peer.advance(seconds(119)), []);
    for octet in &HEARTBEAT[..3] {
        peer.send_octets(&[*octet]);
        assert_eq!(peer.advance(seconds(120) - NANO), []);
    }
    assert_eq!(peer.connection.state(), ConnectionState::Open);
    assert_eq!(peer.advance(NANO), [missed(60, seconds(120))]);
}

#[test]
fn octets_that_arrived_once_are_no_sign_of_life_each_time_they_are_looked_at() {
    let mut peer = open(60);
    peer.send_octets(&HEARTBEAT[..3]);
    for _ in 0..119 {
        assert_eq!(peer.advance(seconds(1)), []);
    }
    assert_eq!(peer.advance(seconds(1)), [missed(60, seconds(120))]);
}

#[test]
fn frames_that_wait_to_be_looked_at_keep_the_deadline_from_firing() {
    let mut peer = open(60);
    peer.now = peer.now + seconds(200);
    peer.send_frame(Frame::Heartbeat);
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Event));
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.state(), ConnectionState::Open);
    assert_eq!(peer.connection.counters().heartbeats_received, 1);
    assert_eq!(peer.sent(), HEARTBEATS);
    assert_eq!(peer.advance(seconds(120)), [missed(60, seconds(120))]);
}

/// Whatever they were: to look again where nothing came since is no sign of life.
#[test]
fn octets_count_when_they_come_and_once() {
    for deliveries in [0, 1, 3] {
        let mut peer = open(60);
        let id = peer.open_channel();
        peer.select_confirms(id);
        let consumer = peer.consume(id, "c", true);
        peer.publish(id, "k", b"m");
        peer.advance(seconds(100));
        for tag in 1..=deliveries {
            peer.send_content(1, deliver("c", tag), b"m");
        }
        if deliveries == 0 {
            let (delivery_tag, multiple) = (1, false);
            peer.send(
                1,
                BasicAck {
                    delivery_tag,
                    multiple,
                },
            );
        }
        for turn in 0..3 {
            let event = peer.connection.poll_event(peer.now, &mut peer.input);
            assert_eq!(event.is_some(), turn == 0, "{event:?}");
            if deliveries > 1 {
                let mut row = Vec::new();
                peer.connection
                    .poll_deliveries(consumer, &mut peer.input, 2, &mut row);
            }
            peer.now = peer.now + seconds(40);
        }
        let events = peer.advance(Duration::ZERO);
        assert_eq!(events.last(), Some(&missed(60, seconds(120))), "{events:?}");
    }
}

/// How often a loop wakes within that time, with a socket that takes nothing.
fn wake_ups(peer: &mut Peer, time: Duration) -> u32 {
    let end = peer.now + time;
    let mut count = 0;
    while let Some(at) = peer.connection.poll_timeout().filter(|at| *at < end) {
        assert!(at > peer.now, "it spins");
        peer.now = at;
        peer.connection.handle_timeout(at);
        assert_eq!(peer.connection.poll_event(at, &mut peer.input), None);
        peer.connection.poll_transmit(at, &mut peer.output);
        count += 1;
    }
    count
}

#[test]
fn a_stalled_socket_gets_one_heartbeat_and_no_spinning() {
    let mut peer = open(60);
    peer.is_stalled = true;
    assert_eq!(wake_ups(&mut peer, seconds(120)), 3);
    assert_eq!(peer.output.remaining(), HEARTBEAT.len());
    assert_eq!(peer.connection.queued_bytes(), HEARTBEAT.len());
    assert_eq!(peer.connection.counters().heartbeats_sent, 1);
}

#[test]
fn a_stalled_socket_with_something_to_write_gets_no_heartbeat() {
    let config = Config::default().request_timeout(Duration::MAX);
    let mut peer = Peer::open_with(
        config,
        ConnectionTune {
            heartbeat: 60,
            ..TUNE
        },
    );
    peer.is_stalled = true;
    peer.connection.open_channel().unwrap();
    peer.transmit();
    let queued = peer.output.remaining();
    peer.connection.open_channel().unwrap();
    assert_eq!(wake_ups(&mut peer, seconds(90)), 2);
    assert_eq!(peer.output.remaining(), queued);
    assert_eq!(peer.connection.counters().heartbeats_sent, 0);
}

#[test]
fn while_reading_is_paused_silence_means_nothing() {
    let mut peer = open(60);
    peer.advance(seconds(100));
    peer.connection.handle_pause();
    assert_eq!(peer.advance(seconds(1000)), []);
    assert_eq!(peer.connection.state(), ConnectionState::Open);
    assert_eq!(peer.sent().len(), 1100 / 30);
    peer.connection.handle_resume(peer.now);
    assert_eq!(peer.advance(seconds(120) - NANO), []);
    assert_eq!(peer.advance(NANO), [missed(60, seconds(120))]);
}

#[test]
fn a_year_of_idling_takes_a_heartbeat_every_half_minute() {
    let mut peer = open(60);
    let half_minutes = 365 * 24 * 120;
    for _ in 0..half_minutes {
        let at = peer.connection.poll_timeout().unwrap();
        assert_eq!(at, peer.now + seconds(30));
        peer.now = at;
        peer.send_frame(Frame::Heartbeat);
        peer.connection.handle_timeout(at);
        assert_eq!(peer.connection.poll_event(at, &mut peer.input), None);
        assert!(peer.connection.poll_transmit(at, &mut peer.output));
        peer.output.advance(peer.output.remaining());
        assert!(!peer.connection.poll_transmit(at, &mut peer.output));
    }
    assert_eq!(peer.now, Instant::since_epoch(seconds(365 * 24 * 3600)));
    let counters = peer.connection.counters();
    assert_eq!(counters.heartbeats_sent, half_minutes);
    assert_eq!(counters.heartbeats_received, half_minutes);
}

#[test]
fn without_heartbeats_an_idle_connection_never_wakes() {
    for (config, proposal) in [
        (Config::default(), 0),
        (Config::default().heartbeat(Heartbeat::Off), 60),
        (Config::default().heartbeat(Heartbeat::Seconds(0)), 60),
        (Config::pika_0_9(), 60),
    ] {
        let tune = ConnectionTune {
            heartbeat: proposal,
            ..TUNE
        };
        let mut peer = Peer::open_with(config, tune);
        assert_eq!(peer.connection.poll_timeout(), None);
        assert_eq!(peer.connection.timeout_reason(), None);
        assert_eq!(peer.advance(seconds(365 * 24 * 3600)), []);
        peer.connection.handle_timeout(peer.now);
        assert_eq!(peer.events(), []);
        assert!(peer.sent().is_empty());
        assert_eq!(peer.connection.state(), ConnectionState::Open);
    }
}

#[test]
fn heartbeats_begin_with_tune_ok() {
    let mut peer = At::OpenOk.reach_with(crate::states::config(), ConnectionTune { heartbeat: 2, ..TUNE });
    assert_eq!(peer.advance(seconds(1) - NANO), []);
    assert!(peer.sent().is_empty());
    peer.advance(NANO);
    assert_eq!(peer.sent(), HEARTBEATS);
    assert_eq!(peer.advance(seconds(3)), [missed(2, seconds(4))]);
}

#[test]
fn before_tune_ok_there_are_none() {
    for at in [At::Start, At::Tune] {
        let mut peer = at.reach();
        assert_eq!(peer.advance(seconds(10) - NANO), []);
        assert!(peer.sent().is_empty());
    }
}

#[test]
fn heartbeats_go_on_while_the_connection_is_blocked_or_closing() {
    for at in [At::Blocked, At::ClosingChannels, At::CloseSaid] {
        let mut peer = at.reach_with(crate::states::config(), ConnectionTune { heartbeat: 2, ..TUNE });
        peer.advance(seconds(1));
        assert_eq!(peer.sent(), HEARTBEATS, "{at:?}");
        let end = match at {
            At::Blocked => missed(2, seconds(4)),
            // It was to end anyway.
            _ => Event::Closed(CloseReason::Requested { acknowledged: false }),
        };
        assert_eq!(peer.advance(seconds(3)).last(), Some(&end), "{at:?}");
    }
}

#[test]
fn a_closed_connection_sends_no_heartbeat() {
    let mut peer = open(60);
    peer.send(0, ConnectionClose::default());
    peer.events();
    assert_eq!(peer.sent(), ["ch 0 connection.close-ok"]);
    assert_eq!(peer.advance(seconds(100)), []);
    assert!(peer.sent().is_empty());
}
