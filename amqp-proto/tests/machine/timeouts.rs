//! Deadlines other than those of heartbeats: the handshake's, a request's, the close's; and what a wake-up is for.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, Config, ConnectionState, Event, RequestError, RequestId,
    Secret, TimeoutReason,
};
use bytes::Buf;

use crate::peer::Peer;
use crate::stage::close_406;
use crate::states::{At, CHANNEL, TUNE, assert_closed_for_good, config};

const NANO: Duration = Duration::from_nanos(1);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn update(peer: &mut Peer) -> RequestId {
    let request = peer.connection.update_secret(&Secret::from("token"), "");
    request.unwrap().untyped()
}

fn timed_out(request: RequestId) -> Event {
    Event::RequestFailed {
        request,
        cause: RequestError::Timeout,
    }
}

#[test]
fn each_step_of_the_handshake_has_the_same_deadline() {
    for at in [At::Start, At::Tune, At::OpenOk] {
        let mut peer = at.reach_with(config().handshake_timeout(seconds(7)), TUNE);
        assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Handshake));
        assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(7)));
        assert_eq!(peer.advance(seconds(7) - NANO), []);
        let state = at.summary();
        let reason = CloseReason::HandshakeTimeout { state };
        assert_eq!(peer.advance(NANO), [Event::Closed(reason.clone())]);
        assert!(peer.sent().is_empty());
        assert!(!reason.is_permanent());
        assert_eq!(reason.to_string(), format!("handshake timed out while {state}"));
        assert_closed_for_good(&mut peer);
    }
}

#[test]
fn the_handshake_has_one_deadline_and_not_one_for_each_step() {
    let mut peer = Peer::new(config());
    peer.advance(seconds(6));
    peer.send(0, crate::states::START);
    assert_eq!(peer.advance(seconds(4) - NANO), []);
    assert!(matches!(
        peer.advance(NANO)[..],
        [Event::Closed(CloseReason::HandshakeTimeout { .. })]
    ));
}

#[test]
fn an_answer_that_lies_unread_beats_the_deadline_of_the_handshake() {
    let mut peer = At::OpenOk.reach();
    peer.now = peer.now + seconds(20);
    peer.send(0, ConnectionOpenOk {});
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.events(), [Event::Connected]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn a_close_that_is_not_answered_ends_in_time() {
    let mut peer = At::CloseSaid.reach_with(config().close_timeout(seconds(3)), TUNE);
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Close));
    assert_eq!(peer.advance(seconds(3) - NANO), []);
    let reason = CloseReason::Requested { acknowledged: false };
    assert_eq!(peer.advance(NANO), [Event::Closed(reason)]);
    assert_closed_for_good(&mut peer);
}

#[test]
fn the_first_half_of_a_close_is_for_the_channels() {
    let channel_late = [Event::ChannelClosed {
        channel: CHANNEL,
        reason: ChannelCloseReason::Timeout(ChannelClose::SPEC.id),
    }];
    for is_confirmed in [false, true] {
        let mut peer = At::ClosingChannels.reach_with(config().close_timeout(seconds(6)), TUNE);
        assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Close));
        assert_eq!(peer.advance(seconds(3) - NANO), []);
        assert!(peer.sent().is_empty());
        assert_eq!(peer.advance(NANO), channel_late);
        let sent = peer.sent();
        assert!(sent[0].starts_with("ch 0 connection.close"), "{sent:?}");
        assert_eq!(peer.advance(seconds(3) - NANO), []);
        if is_confirmed {
            // Behind our close nothing of a channel is answered.
            peer.send(1, close_406());
            peer.send(1, ChannelCloseOk {});
            peer.send(2, BasicQosOk {});
            peer.assert_quiet();
            peer.send(0, ConnectionCloseOk {});
        }
        let reason = CloseReason::Requested {
            acknowledged: is_confirmed,
        };
        assert_eq!(peer.advance(NANO), [Event::Closed(reason)]);
    }
}

#[test]
fn channels_that_close_early_leave_their_time_to_the_connection() {
    let mut peer = At::ClosingChannels.reach_with(config().close_timeout(seconds(6)), TUNE);
    peer.advance(seconds(1));
    peer.send(1, ChannelCloseOk {});
    assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
    assert_eq!(peer.advance(seconds(5) - NANO), []);
    let reason = CloseReason::Requested { acknowledged: false };
    assert_eq!(peer.advance(NANO), [Event::Closed(reason)]);
}

#[test]
fn a_channel_that_was_abandoned_gets_no_answer_behind_connection_close() {
    let mut peer = Peer::open();
    peer.connection.open_channel().unwrap();
    assert!(matches!(
        peer.advance(seconds(30))[..],
        [Event::ChannelClosed { .. }]
    ));
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    let sent = peer.sent();
    assert!(sent[1].starts_with("ch 0 connection.close"), "{sent:?}");
    peer.send(1, ChannelOpenOk {});
    peer.assert_quiet();
    peer.send(0, ConnectionCloseOk {});
    let reason = CloseReason::Requested { acknowledged: true };
    assert_eq!(peer.event(), Event::Closed(reason));
}

#[test]
fn the_deadline_of_a_close_starts_with_its_octets_or_when_the_socket_does_not_take_them() {
    for is_stalled in [false, true] {
        let mut peer = Peer::open();
        peer.is_stalled = is_stalled;
        if is_stalled {
            update(&mut peer);
            peer.transmit();
        }
        peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
        assert_eq!(peer.connection.poll_event(peer.now, &mut peer.input), None);
        assert_ne!(peer.connection.timeout_reason(), Some(TimeoutReason::Close));
        peer.now = peer.now + seconds(5);
        peer.transmit();
        assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Close));
        assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(10)));
        // It does not move when it is asked again.
        peer.now = peer.now + seconds(5);
        peer.transmit();
        assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(5)));
    }
}

#[test]
fn an_update_of_the_secret_is_answered_in_time_or_fails() {
    let mut peer = Peer::open();
    let request = update(&mut peer);
    assert_eq!(request.channel(), ChannelId::CONNECTION);
    assert_eq!(
        peer.connection.poll_timeout(),
        None,
        "nobody was told what to send"
    );
    peer.sent();
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Request));
    assert_eq!(peer.advance(seconds(30) - NANO), []);
    assert_eq!(peer.advance(NANO), [timed_out(request)]);
    assert_eq!(peer.connection.counters().timed_out, 1);
    assert_eq!(peer.connection.poll_timeout(), None);
    assert!(peer.connection.is_open());
    // A late answer belongs to the one that failed, the next one to the next.
    let second = update(&mut peer);
    peer.sent();
    peer.send(0, ConnectionUpdateSecretOk {});
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.counters().discarded_replies, 1);
    peer.send(0, ConnectionUpdateSecretOk {});
    let Event::Reply(reply) = peer.event() else {
        panic!("no reply");
    };
    assert_eq!(reply.request(), second);
    assert_eq!(reply.method(), Some(ConnectionUpdateSecretOk {}.into()));
    assert_eq!(peer.connection.counters().discarded_replies, 1);
}

#[test]
fn an_abandoned_update_is_answered_to_nobody() {
    let mut peer = Peer::open();
    let request = update(&mut peer);
    peer.sent();
    peer.connection.abandon(request);
    peer.connection.abandon(request);
    assert_eq!(peer.advance(seconds(60)), []);
    peer.send(0, ConnectionUpdateSecretOk {});
    assert_eq!(peer.events(), []);
    let counters = peer.connection.counters();
    assert_eq!((counters.discarded_replies, counters.timed_out), (1, 0));
}

#[test]
fn a_reply_that_lies_unread_beats_the_deadline_of_its_request() {
    let mut peer = Peer::open();
    update(&mut peer);
    peer.sent();
    peer.now = peer.now + seconds(100);
    peer.send(0, ConnectionUpdateSecretOk {});
    peer.connection.handle_timeout(peer.now);
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert_eq!(peer.connection.counters().timed_out, 0);
}

#[test]
fn the_deadline_of_a_request_starts_when_it_is_handed_over() {
    let mut peer = Peer::open();
    let request = update(&mut peer);
    peer.now = peer.now + seconds(1000);
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(30)));
    assert_eq!(peer.advance(seconds(30)), [timed_out(request)]);
}

#[test]
fn the_deadline_of_a_request_behind_a_stalled_socket_starts_when_somebody_looks() {
    let mut peer = Peer::open();
    peer.is_stalled = true;
    peer.connection.open_channel().unwrap();
    peer.transmit();
    peer.advance(seconds(5));
    let request = update(&mut peer);
    peer.transmit();
    peer.advance(seconds(10));
    peer.transmit();
    // Of the channel, which was handed over at once.
    assert_eq!(peer.advance(seconds(20) - NANO).len(), 1);
    assert_eq!(peer.advance(NANO), [timed_out(request)]);
}

#[test]
fn the_deadline_of_a_request_starts_again_when_the_socket_takes_it_at_last() {
    let mut peer = Peer::open();
    peer.is_stalled = true;
    let first = update(&mut peer);
    peer.transmit();
    let second = update(&mut peer);
    peer.transmit();
    peer.advance(seconds(20));
    peer.is_stalled = false;
    assert_eq!(peer.sent().len(), 2);
    assert_eq!(peer.advance(seconds(10)), [timed_out(first)]);
    assert_eq!(peer.advance(seconds(20) - NANO), []);
    assert_eq!(peer.advance(NANO), [timed_out(second)]);
}

#[test]
fn a_request_without_a_deadline_waits_for_ever() {
    let config = Config::default().request_timeout(Duration::MAX);
    let mut peer = Peer::open_with(config, TUNE);
    update(&mut peer);
    peer.sent();
    assert_eq!(peer.connection.poll_timeout(), None);
    assert_eq!(peer.advance(seconds(365 * 24 * 3600)), []);
}

#[test]
fn the_wake_up_is_for_the_earliest_deadline() {
    let config = config()
        .blocked_connection_timeout(Some(seconds(20)))
        .request_timeout(seconds(12));
    let mut peer = At::Open.reach_with(
        config,
        ConnectionTune {
            heartbeat: 20,
            ..TUNE
        },
    );
    let reason = |peer: &Peer| peer.connection.timeout_reason().unwrap();
    assert_eq!(reason(&peer), TimeoutReason::HeartbeatSend);
    update(&mut peer);
    peer.sent();
    peer.advance(seconds(11));
    assert_eq!(reason(&peer), TimeoutReason::Request);
    peer.send(0, crate::states::blocked("low on memory"));
    peer.events();
    peer.advance(seconds(19));
    assert_eq!(reason(&peer), TimeoutReason::Blocked);
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(1)));
}

#[test]
fn an_event_that_waits_wakes_at_once() {
    let mut peer = At::Start.reach();
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Event));
    assert!(peer.connection.poll_timeout().unwrap() <= peer.now);
    peer.event();
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn a_disconnect_wakes_at_once() {
    let mut peer = Peer::open();
    peer.connection.handle_disconnect(peer.now, None);
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Event));
    assert!(matches!(
        peer.event(),
        Event::Closed(CloseReason::Transport { .. })
    ));
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut peer = At::Open.reach_with(
        config(),
        ConnectionTune {
            heartbeat: 60,
            ..TUNE
        },
    );
    peer.advance(seconds(25));
    let before = peer.connection.poll_timeout();
    let now = std::mem::take(&mut peer.now);
    peer.send_frame(Frame::Heartbeat);
    peer.connection.handle_timeout(peer.now);
    peer.connection
        .channel(CHANNEL)
        .unwrap()
        .request(&BasicQos::default())
        .unwrap();
    assert_eq!(peer.events(), []);
    assert!(!peer.output.has_remaining());
    assert_eq!(peer.connection.state(), ConnectionState::Open);
    peer.now = now;
    peer.send(1, BasicQosOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert_eq!(
        peer.connection.timeout_reason(),
        Some(TimeoutReason::HeartbeatSend)
    );
    assert_eq!(peer.connection.poll_timeout(), before);
}

#[test]
fn a_late_wake_up_finds_the_request_that_was_not_answered() {
    let mut peer = Peer::open();
    let request = update(&mut peer);
    peer.sent();
    peer.now = peer.now + seconds(100);
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.events(), [timed_out(request)]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn a_close_that_has_nothing_to_say_yet_has_its_deadline() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    assert_eq!(peer.sent().len(), 1);
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    assert!(peer.sent().is_empty(), "the channel comes first");
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Close));
    assert_eq!(peer.connection.poll_timeout(), Some(peer.now + seconds(5)));
}
