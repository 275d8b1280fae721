//! The end: by us, by the peer, by the stream. Whatever waited is resolved before the one `Closed`.

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, CloseReason, ConfirmOutcome, ConnectionState, DeliveryTag, Event, PeerClose,
    RequestError, Secret, SendError, TransportError,
};
use bytes::Buf;

use crate::peer::Peer;
use crate::states::{At, CHANNEL, STATES, assert_closed_for_good, blocked, close};

const CONFIRMED: CloseReason = CloseReason::Requested { acknowledged: true };
const UNCONFIRMED: CloseReason = CloseReason::Requested { acknowledged: false };
const CLOSE: &str =
    r#"connection.close reply_code=200 REPLY_SUCCESS reply_text="bye" class_id=0 method_id=0"#;

fn say_bye(peer: &mut Peer) {
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
}

/// The names of what was written.
fn names(peer: &mut Peer) -> Vec<String> {
    let name = |line: String| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    peer.sent().into_iter().map(name).collect()
}

fn channel_closed(reason: ChannelCloseReason) -> Event {
    let channel = CHANNEL;
    Event::ChannelClosed { channel, reason }
}

#[test]
fn without_channels_close_is_said_at_once_and_confirmed() {
    let mut peer = Peer::open();
    say_bye(&mut peer);
    assert_eq!(peer.sent(), [format!("ch 0 {CLOSE}")]);
    peer.send(0, ConnectionCloseOk {});
    assert_eq!(peer.event(), Event::Closed(CONFIRMED));
    assert!(!CONFIRMED.is_permanent());
    assert_eq!(peer.connection.close_reason(), Some(&CONFIRMED));
    assert_closed_for_good(&mut peer);
}

#[test]
fn consumers_are_cancelled_then_channels_closed_and_the_connection_last() {
    let mut peer = Peer::open();
    let first = peer.open_channel();
    let second = peer.open_channel();
    peer.connection
        .channel(first)
        .unwrap()
        .consume_nowait(&BasicConsume::default())
        .unwrap();
    peer.sent();
    say_bye(&mut peer);
    assert_eq!(
        names(&mut peer),
        ["ch 1 basic.cancel", "ch 1 channel.close", "ch 2 channel.close"]
    );
    let consumer_tag = ShortStr::new("ctag0.0").unwrap();
    peer.send(1, BasicCancelOk { consumer_tag });
    peer.send(1, ChannelCloseOk {});
    let closed = |channel| Event::ChannelClosed {
        channel,
        reason: ChannelCloseReason::Requested,
    };
    assert_eq!(peer.event(), closed(first));
    assert!(peer.sent().is_empty(), "the second channel is still there");
    peer.send(2, ChannelCloseOk {});
    assert_eq!(peer.event(), closed(second));
    assert_eq!(peer.sent(), [format!("ch 0 {CLOSE}")]);
    peer.send(0, ConnectionCloseOk {});
    assert_eq!(peer.event(), Event::Closed(CONFIRMED));
}

#[test]
fn a_long_text_is_cut_where_a_character_ends() {
    let mut peer = At::Open.reach();
    peer.connection
        .close(ReplyCode::CONNECTION_FORCED, &"ä".repeat(200));
    let text = format!("reply_text=\"{}\"", "ä".repeat(127));
    assert!(peer.sent()[0].contains(&text));
    peer.send(1, ChannelCloseOk {});
    peer.events();
    let sent = peer.sent();
    assert!(
        sent[0].contains("ch 0 connection.close reply_code=320 CONNECTION_FORCED"),
        "{sent:?}"
    );
    assert!(sent[0].contains(&text), "{sent:?}");
}

#[test]
fn what_was_written_before_the_close_is_sent_before_it() {
    let mut peer = Peer::open();
    peer.connection.update_secret(&Secret::from("x"), "").unwrap();
    say_bye(&mut peer);
    assert_eq!(
        names(&mut peer),
        ["ch 0 connection.update-secret", "ch 0 connection.close"]
    );
    // And its answer is still told.
    peer.send(0, ConnectionUpdateSecretOk {});
    peer.send(0, ConnectionCloseOk {});
    let events = peer.events();
    assert!(
        matches!(&events[..], [Event::Reply(_), Event::Closed(CONFIRMED)]),
        "{events:?}"
    );
}

#[test]
fn a_request_that_the_close_overtakes_fails_with_it() {
    let mut peer = Peer::open();
    let request = peer
        .connection
        .update_secret(&Secret::from("x"), "")
        .unwrap()
        .untyped();
    say_bye(&mut peer);
    peer.send(0, ConnectionCloseOk {});
    let cause = RequestError::ChannelClosed(ChannelCloseReason::Connection(CONFIRMED));
    let failed = Event::RequestFailed { request, cause };
    assert_eq!(peer.events(), [failed, Event::Closed(CONFIRMED)]);
}

#[test]
fn closing_twice_is_closing_once() {
    let mut peer = At::Open.reach();
    say_bye(&mut peer);
    peer.connection.close(ReplyCode::INTERNAL_ERROR, "again");
    assert_eq!(names(&mut peer), ["ch 1 channel.close"]);
    peer.connection.close(ReplyCode::INTERNAL_ERROR, "again");
    peer.send(1, ChannelCloseOk {});
    assert_eq!(peer.event(), channel_closed(ChannelCloseReason::Requested));
    assert_eq!(peer.sent(), [format!("ch 0 {CLOSE}")]);
}

#[test]
fn a_channel_that_is_closing_already_is_not_closed_again() {
    let mut peer = At::Open.reach();
    peer.connection
        .channel(CHANNEL)
        .unwrap()
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    say_bye(&mut peer);
    assert_eq!(names(&mut peer), ["ch 1 channel.close"]);
}

#[test]
fn a_channel_that_does_not_answer_its_close_does_not_keep_the_connection_from_closing() {
    let mut peer = At::Open.reach();
    peer.connection
        .channel(CHANNEL)
        .unwrap()
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    peer.sent();
    peer.advance(std::time::Duration::from_secs(4));
    say_bye(&mut peer);
    peer.transmit();
    let reason = ChannelCloseReason::Timeout(ChannelClose::SPEC.id);
    let events = peer.advance(std::time::Duration::from_secs(6));
    assert_eq!(events, [channel_closed(reason)]);
    assert_eq!(peer.sent(), [format!("ch 0 {CLOSE}")]);
}

#[test]
fn during_the_handshake_close_ends_at_once_and_says_nothing() {
    for at in [At::Start, At::Tune, At::OpenOk] {
        let mut peer = at.reach();
        say_bye(&mut peer);
        assert!(peer.connection.is_drained());
        assert_eq!(peer.event(), Event::Closed(UNCONFIRMED));
        assert_closed_for_good(&mut peer);
    }
    let mut peer = Peer::new(crate::states::config());
    say_bye(&mut peer);
    assert!(peer.sent().is_empty(), "not even the protocol header");
}

#[test]
fn a_stream_that_ends_instead_of_close_ok_has_closed_unconfirmed() {
    for error in [None, Some(TransportError::new("reset"))] {
        let mut peer = At::CloseSaid.reach();
        peer.connection.handle_disconnect(peer.now, error);
        assert_eq!(peer.event(), Event::Closed(UNCONFIRMED));
        assert_closed_for_good(&mut peer);
    }
    let words = UNCONFIRMED.to_string();
    assert_eq!(words, "closed on request, and the peer did not confirm that");
    assert_eq!(CONFIRMED.to_string(), "closed on request");
}

#[test]
fn closes_that_cross_end_with_the_words_of_the_peer() {
    for at in [At::ClosingChannels, At::CloseSaid] {
        let mut peer = at.reach();
        peer.send(0, close(320, "shutdown"));
        // Its answer to ours may follow, and what it is nobody asks.
        peer.send(0, ConnectionCloseOk {});
        let peers = PeerClose::new(ReplyCode::CONNECTION_FORCED, "shutdown", None);
        assert_eq!(
            peer.events().last(),
            Some(&Event::Closed(CloseReason::Peer(peers)))
        );
        assert_eq!(peer.sent(), ["ch 0 connection.close-ok"]);
        assert_closed_for_good(&mut peer);
    }
}

/// A connection with one of everything that can wait, all of it unanswered, and something not handed over.
fn busy() -> (Peer, impl Fn(&CloseReason) -> Vec<Event>) {
    let mut peer = At::Open.reach();
    let secret = peer
        .connection
        .update_secret(&Secret::from("x"), "")
        .unwrap()
        .untyped();
    let mut channel = peer.connection.channel(CHANNEL).unwrap();
    let select = channel.request(&ConfirmSelect::default()).unwrap().untyped();
    let tag = channel
        .publish(&BasicPublish::default(), &Properties::default(), b"body")
        .unwrap()
        .unwrap();
    let get = channel.get(&BasicGet::default()).unwrap().untyped();
    let opening = peer.connection.open_channel().unwrap();
    let resolved = move |reason: &CloseReason| {
        let ended = ChannelCloseReason::Connection(reason.clone());
        let failed = |request| Event::RequestFailed {
            request,
            cause: RequestError::ChannelClosed(ended.clone()),
        };
        vec![
            failed(select),
            failed(get),
            Event::Confirmed {
                tags: amqp_proto::ConfirmTags::new(CHANNEL, tag.value(), tag.value()),
                outcome: ConfirmOutcome::Lost(ended.clone()),
            },
            channel_closed(ended.clone()),
            Event::ChannelClosed {
                channel: opening,
                reason: ended.clone(),
            },
            failed(secret),
            Event::Closed(reason.clone()),
        ]
    };
    (peer, resolved)
}

#[test]
fn the_peers_close_drops_what_is_queued_and_fails_what_waits() {
    let (mut peer, resolved) = busy();
    peer.send(
        0,
        ConnectionClose {
            class_id: 60,
            method_id: 40,
            ..close(541, "INTERNAL_ERROR")
        },
    );
    let method = Some(BasicPublish::SPEC.id);
    let peers = PeerClose::new(ReplyCode::INTERNAL_ERROR, "INTERNAL_ERROR", method);
    let reason = CloseReason::Peer(peers.clone());
    assert_eq!(reason.peer(), Some(&peers));
    assert_eq!(
        reason.to_string(),
        r#"closed by the peer: 541 INTERNAL_ERROR "INTERNAL_ERROR" (caused by basic.publish)"#
    );
    assert_eq!(peer.events(), resolved(&reason));
    assert_eq!(peer.sent(), ["ch 0 connection.close-ok"]);
    assert_eq!(peer.connection.counters().lost, 1);
    assert_closed_for_good(&mut peer);
}

#[test]
fn the_end_of_the_stream_drops_what_is_queued_and_fails_what_waits() {
    let (mut peer, resolved) = busy();
    peer.connection
        .handle_disconnect(peer.now, Some(TransportError::new("connection reset")));
    let reason = CloseReason::Transport {
        state: ConnectionState::Open,
        error: TransportError::new("connection reset"),
    };
    assert_eq!(reason.to_string(), "connection lost while open: connection reset");
    assert_eq!(peer.events(), resolved(&reason));
    assert!(peer.sent().is_empty());
    assert_closed_for_good(&mut peer);
}

#[test]
fn a_protocol_error_drops_what_is_queued_and_fails_what_waits() {
    let (mut peer, resolved) = busy();
    peer.send(0, ConnectionOpenOk {});
    let events = peer.events();
    let Some(Event::Closed(reason @ CloseReason::Protocol(_))) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(events, resolved(reason));
    assert_eq!(names(&mut peer), ["ch 0 connection.close"]);
    assert_closed_for_good(&mut peer);
}

#[test]
fn the_peers_close_ends_every_state_with_its_words_once() {
    for at in STATES.into_iter().filter(|at| *at != At::Closed) {
        let mut peer = at.reach();
        peer.send(0, close(320, "first"));
        peer.send(0, close(541, "second"));
        let events = peer.events();
        let reason = CloseReason::Peer(PeerClose::new(ReplyCode(320), "first", None));
        assert_eq!(events.last(), Some(&Event::Closed(reason.clone())), "{at:?}");
        assert!(!reason.is_permanent());
        peer.send(0, close(541, "third"));
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), ["ch 0 connection.close-ok"], "{at:?}");
        assert_closed_for_good(&mut peer);
    }
}

#[test]
fn a_close_in_the_buffer_beats_the_reset_behind_it() {
    for at in STATES.into_iter().filter(|at| *at != At::Closed) {
        let mut peer = at.reach();
        peer.send(0, close(320, "CONNECTION_FORCED - shutdown"));
        peer.connection
            .handle_disconnect(peer.now, Some(TransportError::new("reset")));
        let events = peer.events();
        let Some(Event::Closed(CloseReason::Peer(said))) = events.last() else {
            panic!("{at:?}: {events:?}");
        };
        assert_eq!(&*said.text, "CONNECTION_FORCED - shutdown");
    }
}

#[test]
fn frames_in_the_buffer_are_told_before_the_end_of_the_stream_and_half_a_frame_is_not() {
    let mut peer = Peer::open();
    peer.send(0, blocked("low on memory"));
    peer.send_octets(&HEARTBEAT[..5]);
    peer.connection.handle_disconnect(peer.now, None);
    peer.connection
        .handle_disconnect(peer.now, Some(TransportError::new("a second word")));
    let lost = CloseReason::Transport {
        state: ConnectionState::Blocked,
        error: TransportError::end_of_stream(),
    };
    assert!(!lost.is_permanent());
    let reason = "low on memory".into();
    assert_eq!(peer.events(), [Event::Blocked { reason }, Event::Closed(lost)]);
}

#[test]
fn a_close_behind_more_than_may_be_queued_beats_the_reset_behind_it() {
    let config = amqp_proto::Config::default()
        .outbound_high_water(1000)
        .outbound_limit(1000)
        .backpressure_multiplier(0);
    let mut peer = At::Open.reach_with(
        config.credentials(crate::states::config().credentials),
        crate::states::TUNE,
    );
    peer.is_stalled = true;
    peer.send(
        CHANNEL.number(),
        BasicDeliver {
            delivery_tag: 1,
            ..BasicDeliver::default()
        },
    );
    peer.send_header(CHANNEL.number(), 0, Properties::default());
    assert_eq!(peer.events(), []);
    let mut channel = peer.connection.channel(CHANNEL).unwrap();
    while channel.ack(DeliveryTag::new(CHANNEL, 1)).is_ok() {}
    peer.send(0, close(320, "shutdown"));
    assert_eq!(peer.events(), [], "nothing is read while so much waits");
    peer.connection
        .handle_disconnect(peer.now, Some(TransportError::new("reset")));
    let reason = CloseReason::Peer(PeerClose::new(ReplyCode(320), "shutdown", None));
    assert_eq!(peer.events().last(), Some(&Event::Closed(reason)));
}

#[test]
fn an_answer_to_the_peers_close_is_handed_over_behind_a_stalled_socket() {
    let mut peer = Peer::open();
    peer.is_stalled = true;
    peer.connection.update_secret(&Secret::from("x"), "").unwrap();
    peer.transmit();
    peer.send(0, close(320, ""));
    assert_eq!(peer.events().len(), 2);
    assert!(!peer.connection.is_drained());
    assert!(peer.output.has_remaining());
    assert_eq!(peer.connection.poll_timeout(), None);
    peer.is_stalled = false;
    assert_eq!(
        names(&mut peer),
        ["ch 0 connection.update-secret", "ch 0 connection.close-ok"]
    );
    assert!(peer.connection.is_drained());
    assert_closed_for_good(&mut peer);
}

#[test]
fn nothing_is_told_of_a_full_buffer_once_it_is_closed() {
    let config = amqp_proto::Config::default().outbound_high_water(10);
    let mut peer = Peer::open_with(config, crate::states::TUNE);
    peer.connection.open_channel().unwrap();
    assert!(matches!(
        peer.connection.open_channel(),
        Err(SendError::Full { .. })
    ));
    peer.connection.handle_disconnect(peer.now, None);
    let events = peer.events();
    assert!(
        matches!(events[..], [Event::ChannelClosed { .. }, Event::Closed(_)]),
        "{events:?}"
    );
    assert_eq!(peer.events(), []);
}
