//! Opening channels: which numbers they get, when these are free again, and what if the peer does not answer.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{ChannelCloseReason, ChannelId, Config, Event, RequestError, SendError, TimeoutReason};

use crate::peer::Peer;
use crate::stage::close_406;

const SECOND: Duration = Duration::from_secs(1);

fn with_channel_max(channel_max: u16) -> Peer {
    Peer::open_with(
        Config::default().request_timeout(10 * SECOND),
        ConnectionTune {
            channel_max,
            frame_max: 131_072,
            heartbeat: 0,
        },
    )
}

/// Closes a channel to its end.
fn close(peer: &mut Peer, id: ChannelId) {
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.send(id.number(), ChannelCloseOk {});
    peer.events();
    peer.sent();
}

#[test]
fn free_numbers_go_round_so_that_a_number_rests_before_it_is_used_again() {
    let mut peer = with_channel_max(3);
    let one = peer.open_channel();
    close(&mut peer, one);
    let two = peer.open_channel();
    let three = peer.open_channel();
    let one_again = peer.open_channel();
    let numbers = [one, two, three, one_again].map(ChannelId::number);
    assert_eq!(numbers, [1, 2, 3, 1]);
    let incarnations = [one, two, three, one_again].map(ChannelId::incarnation);
    assert_eq!(incarnations, [0, 1, 2, 3]);
    assert_eq!(peer.connection.next_incarnation(), 4);
}

#[test]
fn a_number_in_use_is_passed_over_and_without_a_free_one_there_is_an_error() {
    let mut peer = with_channel_max(3);
    let open: Vec<_> = (0..3).map(|_| peer.open_channel()).collect();
    assert_eq!(
        peer.connection.open_channel(),
        Err(SendError::NoFreeChannel { channel_max: 3 })
    );
    peer.assert_quiet();
    close(&mut peer, open[1]);
    assert_eq!(peer.open_channel().number(), 2);
    assert_eq!(peer.connection.channel_count(), 3);
}

#[test]
fn the_only_free_number_is_found_wherever_it_is() {
    for free in 1..=3 {
        for last in 1..=3 {
            let mut peer = with_channel_max(3);
            let open: Vec<_> = (1..=3)
                .map(|number| peer.connection.open_channel_with_number(number).unwrap())
                .collect();
            for id in &open {
                peer.send(id.number(), ChannelOpenOk {});
            }
            peer.events();
            // The search begins behind the one that was opened last.
            close(&mut peer, open[usize::from(last) - 1]);
            let reopened = peer.connection.open_channel_with_number(last).unwrap();
            let freed = if free == last {
                reopened
            } else {
                open[usize::from(free) - 1]
            };
            close(&mut peer, freed);
            assert_eq!(
                peer.connection.open_channel().unwrap().number(),
                free,
                "after {last}"
            );
        }
    }
}

#[test]
fn the_highest_number_can_be_used_and_after_it_comes_the_lowest() {
    let mut peer = with_channel_max(0);
    assert_eq!(
        peer.connection
            .open_channel_with_number(u16::MAX)
            .unwrap()
            .number(),
        u16::MAX
    );
    assert_eq!(peer.connection.open_channel().unwrap().number(), 1);
}

#[test]
fn a_number_is_not_free_before_the_close_was_answered() {
    let mut peer = with_channel_max(1);
    let one = peer.open_channel();
    peer.channel(one).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    assert_eq!(
        peer.connection.open_channel(),
        Err(SendError::NoFreeChannel { channel_max: 1 })
    );
    assert_eq!(
        peer.connection.open_channel_with_number(1),
        Err(SendError::ChannelInUse(1))
    );
    peer.send(1, ChannelCloseOk {});
    peer.events();
    assert_eq!(peer.connection.open_channel_with_number(1).unwrap().number(), 1);
}

#[test]
fn a_chosen_number_must_be_free_and_within_the_negotiated_limit() {
    let mut peer = with_channel_max(7);
    for number in [0, 8, u16::MAX] {
        assert_eq!(
            peer.connection.open_channel_with_number(number),
            Err(SendError::ChannelNumber {
                number,
                channel_max: 7
            })
        );
    }
    let seven = peer.connection.open_channel_with_number(7).unwrap();
    assert_eq!(seven.number(), 7);
    assert_eq!(
        peer.connection.open_channel_with_number(7),
        Err(SendError::ChannelInUse(7))
    );
    assert_eq!(peer.sent(), ["ch 7 channel.open"]);
}

#[test]
fn a_channel_is_open_when_the_peer_says_so_and_can_be_used_before() {
    let mut peer = Peer::open();
    let id = peer.connection.open_channel().unwrap();
    assert!(!peer.channel(id).is_open());
    let declare = peer.channel(id).request(&QueueDeclare::default()).unwrap();
    let properties = Properties::default();
    peer.channel(id)
        .publish(&BasicPublish::default(), &properties, b"early")
        .unwrap();
    assert_eq!(
        peer.sent(),
        [
            "ch 1 channel.open",
            r#"ch 1 queue.declare queue="""#,
            r#"ch 1 basic.publish exchange="" routing_key="""#,
            "ch 1 header body_size=5",
            r#"ch 1 body 5 octets "early""#,
        ]
    );
    peer.send(1, ChannelOpenOk {});
    peer.send(1, QueueDeclareOk::default());
    let events = peer.events();
    assert_eq!(events[0], Event::ChannelOpened { channel: id });
    assert!(
        matches!(&events[1..], [Event::Reply(reply)] if reply.read(declare).is_some()),
        "{events:?}"
    );
    assert!(peer.channel(id).is_open());
    assert_eq!(peer.channel(id).id(), id);
}

#[test]
fn open_without_an_answer_in_time_ends_the_channel_and_all_that_was_asked_of_it() {
    let mut peer = with_channel_max(1);
    let id = peer.connection.open_channel().unwrap();
    let declare = peer.channel(id).request(&QueueDeclare::default()).unwrap();
    peer.transmit();
    assert_eq!(peer.connection.timeout_reason(), Some(TimeoutReason::Request));
    assert_eq!(peer.advance(9 * SECOND), []);
    let reason = ChannelCloseReason::Timeout(ChannelOpen::SPEC.id);
    assert_eq!(
        peer.advance(SECOND),
        [
            Event::RequestFailed {
                request: declare.untyped(),
                cause: RequestError::Timeout
            },
            Event::ChannelClosed { channel: id, reason },
        ]
    );
    assert!(peer.connection.channel(id).is_err(), "it has ended");
    assert_eq!(peer.connection.poll_timeout(), None);
    assert_eq!(
        peer.connection.open_channel(),
        Err(SendError::NoFreeChannel { channel_max: 1 })
    );
}

#[test]
fn a_late_open_ok_is_answered_with_close_and_then_the_number_is_free() {
    let mut peer = with_channel_max(1);
    peer.connection.open_channel().unwrap();
    peer.advance(20 * SECOND);
    peer.sent();
    peer.send(1, ChannelOpenOk {});
    assert_eq!(peer.events(), []);
    assert_eq!(
        peer.sent(),
        [r#"ch 1 channel.close reply_code=200 REPLY_SUCCESS reply_text="" class_id=0 method_id=0"#]
    );
    peer.send_content(1, BasicDeliver::default(), b"late");
    peer.send(1, QueueDeclareOk::default());
    peer.assert_quiet();
    assert!(peer.connection.open_channel().is_err());
    peer.send(1, ChannelCloseOk {});
    peer.assert_quiet();
    assert_eq!(peer.connection.channel_count(), 0);
    assert_eq!(peer.open_channel(), ChannelId::new(1, 1));
}

#[test]
fn a_late_refusal_frees_the_number_too() {
    let mut peer = with_channel_max(1);
    peer.connection.open_channel().unwrap();
    peer.advance(20 * SECOND);
    peer.sent();
    peer.send(1, close_406());
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    assert_eq!(peer.open_channel(), ChannelId::new(1, 1));
}

#[test]
fn close_that_crosses_the_peers_close_is_waited_for_even_when_both_are_late() {
    let mut peer = with_channel_max(1);
    let id = peer.open_channel();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.advance(20 * SECOND);
    peer.sent();
    peer.send(1, close_406());
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
    assert!(
        peer.connection.open_channel().is_err(),
        "our close is not answered"
    );
    peer.send(1, close_406());
    peer.assert_quiet();
    peer.send(1, ChannelCloseOk {});
    peer.assert_quiet();
    assert_eq!(peer.open_channel(), ChannelId::new(1, 1));
}

#[test]
fn a_channel_refused_by_the_peer_ends_with_its_words() {
    let mut peer = Peer::open();
    let id = peer.connection.open_channel().unwrap();
    peer.sent();
    peer.send(1, close_406());
    let event = peer.event();
    let Event::ChannelClosed { channel, reason } = event else {
        panic!("{event:?}");
    };
    assert_eq!(channel, id);
    assert_eq!(reason.peer().map(|peer| peer.code.0), Some(406));
    assert_eq!(peer.sent(), ["ch 1 channel.close-ok"]);
}

#[test]
fn a_channel_shows_what_it_is() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.select_confirms(id);
    peer.publish(id, "k", b"x");
    assert_eq!(
        format!("{:?}", peer.channel(id)),
        "Channel { id: ChannelId(1#0), phase: Open, unconfirmed: 1, .. }"
    );
}

#[test]
fn a_connection_shows_what_it_is() {
    let mut peer = Peer::open();
    peer.open_channel();
    let shown = format!("{:?}", peer.connection);
    for part in [
        "Connection { state: Open",
        "frame_max: 131072",
        "channels: 1",
        "queued_bytes: 0",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}
