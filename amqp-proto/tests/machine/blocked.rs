//! A peer that reads nothing for the time being (RabbitMQ page "Blocked Connection Notifications").

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, ConnectionState, Event, TimeoutReason};

use crate::peer::Peer;
use crate::states::{At, TUNE, assert_closed_for_good, blocked};

const NANO: Duration = Duration::from_nanos(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn told(reason: &str) -> Event {
    Event::Blocked {
        reason: reason.into(),
    }
}

fn given_up(reason: &str) -> Event {
    Event::Closed(CloseReason::BlockedTimeout {
        reason: reason.into(),
    })
}

/// An open connection that waits a minute for a peer that blocks.
fn open() -> Peer {
    Peer::open_with(
        Config::default().blocked_connection_timeout(Some(seconds(60))),
        TUNE,
    )
}

#[test]
fn blocked_and_unblocked_are_told_and_seen_in_the_state() {
    let mut peer = Peer::open();
    assert_eq!(peer.connection.blocked(), None);
    peer.send(0, blocked("low on memory"));
    assert_eq!(peer.event(), told("low on memory"));
    assert_eq!(peer.connection.state(), ConnectionState::Blocked);
    assert_eq!(peer.connection.blocked(), Some("low on memory"));
    assert!(peer.connection.is_open());
    peer.send(0, ConnectionUnblocked {});
    assert_eq!(peer.event(), Event::Unblocked);
    assert_eq!(peer.connection.state(), ConnectionState::Open);
    assert_eq!(peer.connection.blocked(), None);
    assert!(peer.sent().is_empty());
}

#[test]
fn unblocked_without_blocked_is_silent() {
    let mut peer = Peer::open();
    peer.send(0, ConnectionUnblocked {});
    assert_eq!(peer.events(), []);
    peer.send(0, blocked("low on disk"));
    peer.send(0, ConnectionUnblocked {});
    peer.send(0, ConnectionUnblocked {});
    assert_eq!(peer.events(), [told("low on disk"), Event::Unblocked]);
}

#[test]
fn a_second_alarm_renews_the_words() {
    let mut peer = Peer::open();
    peer.send(0, blocked("low on memory"));
    peer.send(0, blocked("low on disk"));
    assert_eq!(peer.events(), [told("low on memory"), told("low on disk")]);
    assert_eq!(peer.connection.blocked(), Some("low on disk"));
}

#[test]
fn words_that_are_not_utf_8_are_replaced() {
    let mut peer = Peer::open();
    let reason = ShortStr::from_bytes(b"l\xffw").unwrap();
    peer.send(0, ConnectionBlocked { reason });
    assert_eq!(peer.event(), told("l\u{fffd}w"));
}

#[test]
fn a_peer_that_blocks_for_too_long_is_given_up() {
    let mut peer = open();
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.send(0, blocked("low on memory"));
    peer.event();
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Blocked));
    assert_eq!(peer.advance(seconds(60) - NANO), []);
    assert_eq!(peer.advance(NANO), [given_up("low on memory")]);
    // It would not read a close.
    assert!(peer.sent().is_empty());
    let reason = peer.connection.close_reason().unwrap();
    assert!(!reason.is_permanent());
    assert_eq!(reason.to_string(), "blocked for too long: low on memory");
    assert_closed_for_good(&mut peer);
}

#[test]
fn a_second_alarm_gives_no_more_time() {
    let mut peer = open();
    peer.send(0, blocked("low on memory"));
    peer.advance(seconds(40));
    peer.send(0, blocked("low on disk"));
    assert_eq!(peer.advance(seconds(20) - NANO), [told("low on disk")]);
    assert_eq!(peer.advance(NANO), [given_up("low on disk")]);
}

#[test]
fn an_alarm_that_is_over_does_not_count() {
    let mut peer = open();
    peer.send(0, blocked("low on memory"));
    peer.advance(seconds(40));
    peer.send(0, ConnectionUnblocked {});
    assert_eq!(peer.advance(seconds(100)), [Event::Unblocked]);
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.send(0, blocked("low on memory"));
    assert_eq!(peer.advance(seconds(60) - NANO), [told("low on memory")]);
    assert_eq!(peer.advance(NANO), [given_up("low on memory")]);
}

#[test]
fn without_a_timeout_it_may_block_for_ever() {
    let mut peer = Peer::open();
    peer.send(0, blocked("low on memory"));
    peer.event();
    assert_eq!(peer.connection.poll_timeout(), None);
    assert_eq!(peer.advance(seconds(365 * 24 * 3600)), []);
    assert_eq!(peer.connection.state(), ConnectionState::Blocked);
}

#[test]
fn heartbeats_of_a_peer_that_blocks_keep_it_alive_and_its_clock_running() {
    let tune = ConnectionTune {
        heartbeat: 10,
        ..TUNE
    };
    let config = Config::default().blocked_connection_timeout(Some(seconds(60)));
    let mut peer = Peer::open_with(config, tune);
    peer.send(0, blocked("low on memory"));
    peer.event();
    for _ in 0..11 {
        peer.send_frame(Frame::Heartbeat);
        assert_eq!(peer.advance(seconds(5)), []);
    }
    assert_eq!(peer.advance(seconds(5)), [given_up("low on memory")]);
}

#[test]
fn the_close_of_a_blocked_connection_is_bounded() {
    let mut peer = Peer::open();
    peer.send(0, blocked("low on memory"));
    peer.event();
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    assert_eq!(peer.sent().len(), 1);
    assert_eq!(peer.connection.state(), ConnectionState::Closing);
    assert_eq!(peer.connection.blocked(), Some("low on memory"));
    assert_eq!(peer.advance(seconds(10) - NANO), []);
    let reason = CloseReason::Requested { acknowledged: false };
    assert_eq!(peer.advance(NANO), [Event::Closed(reason)]);
    assert_closed_for_good(&mut peer);
}

#[test]
fn a_blocked_peer_that_reads_again_confirms_the_close() {
    let mut peer = At::Blocked.reach();
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    peer.sent();
    peer.send(0, ConnectionUnblocked {});
    peer.send(1, ChannelCloseOk {});
    assert_eq!(peer.events().first(), Some(&Event::Unblocked));
    assert_eq!(peer.sent().len(), 1);
    peer.send(0, ConnectionCloseOk {});
    assert_eq!(
        peer.event(),
        Event::Closed(CloseReason::Requested { acknowledged: true })
    );
}
