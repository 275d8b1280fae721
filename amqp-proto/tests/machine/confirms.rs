//! Publisher confirms: each publish has a number, and each number is resolved once.

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, Config, ConfirmLimits, ConfirmOutcome, ConfirmTag,
    ConfirmTags, Event, SendError,
};

use crate::peer::Peer;
use crate::stage::{close_406, deliver};

/// Channel 1 in confirm mode, with that many publishes of one octet each.
fn published(count: usize) -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.select_confirms(id);
    for number in (1..).take(count) {
        assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, number)));
    }
    peer.sent();
    (peer, id)
}

fn ack(delivery_tag: u64, multiple: bool) -> BasicAck {
    BasicAck {
        delivery_tag,
        multiple,
    }
}

fn nack(delivery_tag: u64, multiple: bool) -> BasicNack {
    BasicNack {
        delivery_tag,
        multiple,
        requeue: false,
    }
}

/// What confirms are told, as "1-3 acked"; nothing else is.
fn told(peer: &mut Peer) -> Vec<String> {
    peer.events()
        .into_iter()
        .map(|event| match event {
            Event::Confirmed { tags, outcome } => {
                let outcome = match outcome {
                    ConfirmOutcome::Acked => "acked",
                    ConfirmOutcome::Nacked => "nacked",
                    ConfirmOutcome::Returned => "returned",
                    ConfirmOutcome::Lost(_) => "lost",
                    other => panic!("{other:?}"),
                };
                assert_eq!(tags.channel().number(), 1);
                format!("{}-{} {outcome}", tags.first(), tags.last())
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn outside_of_confirm_mode_a_publish_has_no_number() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    assert!(!peer.channel(id).is_confirming());
    assert_eq!(peer.publish(id, "k", b"m"), None);
    let channel = peer.channel(id);
    assert_eq!((channel.unconfirmed(), channel.unconfirmed_octets()), (0, 0));
    assert_eq!(channel.oldest_unconfirmed(), None);
    assert_eq!(peer.connection.counters().published, 1);
}

#[test]
fn numbers_begin_behind_confirm_select_and_not_when_it_is_answered() {
    let mut peer = Peer::open();
    let id = peer.connection.open_channel().unwrap();
    assert_eq!(peer.publish(id, "k", b"before"), None);
    peer.channel(id).request(&ConfirmSelect::default()).unwrap();
    assert!(peer.channel(id).is_confirming());
    assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, 1)));
    assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, 2)));
    peer.send(1, ChannelOpenOk {});
    peer.send(1, ConfirmSelectOk {});
    assert_eq!(peer.events().len(), 2);
    peer.send(1, ack(2, true));
    assert_eq!(told(&mut peer), ["1-2 acked"]);
}

#[test]
fn numbers_begin_behind_a_confirm_select_that_is_not_answered_too() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.channel(id).send_nowait(&ConfirmSelect::default()).unwrap();
    assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, 1)));
    peer.send(1, ack(1, false));
    assert_eq!(told(&mut peer), ["1-1 acked"]);
}

#[test]
fn a_second_confirm_select_goes_on_counting() {
    let (mut peer, id) = published(2);
    peer.select_confirms(id);
    assert_eq!(peer.channel(id).unconfirmed(), 2);
    assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, 3)));
    peer.send(1, ack(3, true));
    assert_eq!(told(&mut peer), ["1-3 acked"]);
}

#[test]
fn each_channel_counts_for_itself() {
    let (mut peer, _) = published(2);
    let other = peer.open_channel();
    peer.select_confirms(other);
    assert_eq!(peer.publish(other, "k", b"m"), Some(ConfirmTag::new(other, 1)));
    peer.send(2, ack(1, false));
    let event = peer.event();
    assert!(
        matches!(event, Event::Confirmed { tags, .. } if tags.contains(ConfirmTag::new(other, 1))),
        "{event:?}"
    );
}

#[test]
fn acks_come_one_by_one_or_for_many_in_order_or_not() {
    let (mut peer, id) = published(9);
    peer.send(1, ack(1, false));
    assert_eq!(told(&mut peer), ["1-1 acked"]);
    peer.send(1, ack(3, true));
    assert_eq!(told(&mut peer), ["2-3 acked"]);
    peer.send(1, ack(6, false));
    assert_eq!(told(&mut peer), ["6-6 acked"]);
    assert_eq!(
        peer.channel(id).oldest_unconfirmed(),
        Some(ConfirmTag::new(id, 4))
    );
    assert!(!peer.channel(id).is_unconfirmed(ConfirmTag::new(id, 6)));
    assert!(peer.channel(id).is_unconfirmed(ConfirmTag::new(id, 7)));
    assert!(
        !peer
            .channel(id)
            .is_unconfirmed(ConfirmTag::new(ChannelId::new(2, 9), 7))
    );
    peer.send(1, nack(7, true));
    assert_eq!(told(&mut peer), ["4-5 nacked", "7-7 nacked"]);
    peer.send(1, nack(9, false));
    peer.send(1, ack(8, false));
    assert_eq!(told(&mut peer), ["9-9 nacked", "8-8 acked"]);
    assert_eq!(peer.channel(id).unconfirmed(), 0);
    let counters = peer.connection.counters();
    assert_eq!((counters.published, counters.acked, counters.nacked), (9, 5, 4));
}

#[test]
fn tag_0_with_multiple_is_everything() {
    let (mut peer, _) = published(3);
    peer.send(1, ack(0, true));
    assert_eq!(told(&mut peer), ["1-3 acked"]);
    peer.send(1, nack(0, true));
    assert_eq!(told(&mut peer), [""; 0]);
}

#[test]
fn a_second_confirm_of_the_same_publish_tells_nothing() {
    let (mut peer, _) = published(2);
    for _ in 0..2 {
        peer.send(1, ack(1, false));
    }
    peer.send(1, nack(1, true));
    assert_eq!(told(&mut peer), ["1-1 acked"]);
    assert_eq!(peer.connection.counters().acked, 1);
}

#[test]
fn a_confirm_of_what_was_never_published_is_502() {
    type Send = fn(&mut Peer);
    let cases: [(Send, u64); 5] = [
        (|peer| peer.send(1, ack(4, false)), 4),
        (|peer| peer.send(1, ack(4, true)), 4),
        (|peer| peer.send(1, nack(4, true)), 4),
        (|peer| peer.send(1, ack(0, false)), 0),
        (|peer| peer.send(1, nack(u64::MAX, false)), u64::MAX),
    ];
    for (send, tag) in cases {
        let (mut peer, _) = published(3);
        send(&mut peer);
        let expected = format!("502 confirm of publish {tag}, which was never made");
        assert_eq!(peer.violation(), expected);
    }
}

#[test]
fn a_confirm_on_a_channel_that_is_not_in_confirm_mode_is_502() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.publish(id, "k", b"m");
    peer.sent();
    peer.send(1, ack(1, false));
    assert_eq!(peer.violation(), "502 confirm of publish 1, which was never made");
}

#[test]
fn a_violation_loses_what_was_not_confirmed() {
    let (mut peer, _) = published(3);
    peer.send(1, ack(2, false));
    peer.send(1, ack(9, false));
    let events = peer.events();
    let outcomes: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Confirmed { tags, outcome } => Some((tags.first(), tags.last(), outcome)),
            _ => None,
        })
        .collect();
    assert!(
        matches!(
            outcomes[..],
            [
                (2, 2, ConfirmOutcome::Acked),
                (
                    1,
                    1,
                    ConfirmOutcome::Lost(ChannelCloseReason::Connection(CloseReason::Protocol(_)))
                ),
                (3, 3, ConfirmOutcome::Lost(_)),
            ]
        ),
        "{events:?}"
    );
    assert!(matches!(events.last(), Some(Event::Closed(_))));
}

#[test]
fn what_waits_when_the_peer_closes_the_channel_is_lost_with_its_words() {
    let (mut peer, id) = published(5);
    peer.send(1, ack(2, false));
    peer.send(1, nack(4, false));
    peer.events();
    let request = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.send(1, close_406());
    let events = peer.events();
    let lost = |event: &Event| match event {
        Event::Confirmed {
            tags,
            outcome: ConfirmOutcome::Lost(reason),
        } if reason.peer().map(|peer| peer.code.0) == Some(406) => (tags.first(), tags.last()),
        other => panic!("{other:?}"),
    };
    assert!(matches!(events[0], Event::RequestFailed { request: failed, .. } if failed == request));
    assert_eq!(
        events[1..4].iter().map(lost).collect::<Vec<_>>(),
        [(1, 1), (3, 3), (5, 5)]
    );
    assert!(matches!(events[4..], [Event::ChannelClosed { .. }]));
    assert_eq!(peer.connection.counters().lost, 3);
}

#[test]
fn what_waits_when_the_connection_ends_is_lost_before_that_is_told() {
    let (mut peer, id) = published(2);
    peer.connection.handle_disconnect(peer.now, None);
    let events = peer.events();
    let [
        Event::Confirmed {
            tags,
            outcome: ConfirmOutcome::Lost(ChannelCloseReason::Connection(CloseReason::Transport { .. })),
        },
        Event::ChannelClosed { channel, .. },
        Event::Closed(_),
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((tags.first(), tags.last(), *channel), (1, 2, id));
}

#[test]
fn a_closing_channel_still_hears_of_its_publishes() {
    let (mut peer, id) = published(3);
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.send(1, ack(2, true));
    assert_eq!(told(&mut peer), ["1-2 acked"]);
    peer.send(1, ChannelCloseOk {});
    let events = peer.events();
    assert!(
        matches!(
            events[..],
            [
                Event::Confirmed {
                    tags,
                    outcome: ConfirmOutcome::Lost(ChannelCloseReason::Requested)
                },
                Event::ChannelClosed { .. }
            ] if (tags.first(), tags.last()) == (3, 3)
        ),
        "{events:?}"
    );
}

#[test]
fn publishes_in_flight_are_limited_in_number() {
    let (mut peer, id) = published(0);
    peer.channel(id)
        .set_confirm_limits(ConfirmLimits::default().count(2));
    peer.publish(id, "k", b"m");
    peer.publish(id, "k", b"m");
    peer.sent();
    let publish = |peer: &mut Peer| {
        let properties = Properties::default();
        peer.channel(id)
            .publish(&BasicPublish::default(), &properties, b"m")
    };
    assert_eq!(publish(&mut peer), Err(SendError::InFlight));
    peer.assert_quiet();
    peer.send(1, ack(1, false));
    peer.events();
    assert_eq!(publish(&mut peer), Ok(Some(ConfirmTag::new(id, 3))));
    assert_eq!(publish(&mut peer), Err(SendError::InFlight));
    peer.channel(id).set_confirm_limits(ConfirmLimits::default());
    assert_eq!(publish(&mut peer), Ok(Some(ConfirmTag::new(id, 4))));
}

#[test]
fn publishes_in_flight_are_limited_in_octets_but_one_may_always_go() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    // Set before confirm mode, in force after it.
    peer.channel(id)
        .set_confirm_limits(ConfirmLimits::default().octets(10));
    peer.select_confirms(id);
    let publish = |peer: &mut Peer, size: usize| {
        let body = vec![0; size];
        let properties = Properties::default();
        peer.channel(id)
            .publish(&BasicPublish::default(), &properties, &body[..])
            .map(drop)
    };
    assert_eq!(publish(&mut peer, 99), Ok(()));
    assert_eq!(publish(&mut peer, 0), Err(SendError::InFlight));
    peer.send(1, ack(1, false));
    peer.events();
    assert_eq!(publish(&mut peer, 6), Ok(()));
    assert_eq!(publish(&mut peer, 5), Err(SendError::InFlight));
    assert_eq!(publish(&mut peer, 4), Ok(()));
    assert_eq!(peer.channel(id).unconfirmed_octets(), 10);
    assert_eq!(publish(&mut peer, 1), Err(SendError::InFlight));
}

#[test]
fn a_publish_that_is_refused_uses_up_no_number() {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 4096,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(Config::default().outbound_high_water(1000), tune);
    let id = peer.open_channel();
    peer.select_confirms(id);
    let table = FieldTable::new().with("x", "y".repeat(4096).as_str()).unwrap();
    let too_large = Properties {
        headers: Some(table.as_ref()),
        ..Properties::default()
    };
    let refused = peer
        .channel(id)
        .publish(&BasicPublish::default(), &too_large, b"m");
    assert!(matches!(refused, Err(SendError::Encode(_))), "{refused:?}");
    peer.assert_quiet();
    assert_eq!(peer.channel(id).unconfirmed(), 0);

    peer.is_stalled = true;
    assert_eq!(peer.publish(id, "k", &[0; 2000]), Some(ConfirmTag::new(id, 1)));
    let properties = Properties::default();
    let refused = peer
        .channel(id)
        .publish(&BasicPublish::default(), &properties, b"m");
    assert!(
        matches!(refused, Err(SendError::Full { limit: 1000, .. })),
        "{refused:?}"
    );
    peer.is_stalled = false;
    peer.transmit();
    assert_eq!(peer.publish(id, "k", b"m"), Some(ConfirmTag::new(id, 2)));
    assert_eq!(peer.connection.counters().published, 2);
}

#[test]
fn ten_thousand_publishes_confirmed_at_random_are_each_resolved_once() {
    let (mut peer, id) = published(0);
    let mut resolved = vec![0; 10_001];
    let mut random: u64 = 88_172_645_463_325_252;
    let mut sent = 0;
    while sent < 10_000 {
        for _ in 0..100 {
            peer.publish(id, "k", b"m");
            sent += 1;
        }
        peer.sent();
        for _ in 0..20 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (tag, multiple) = (sent - random % 150.min(sent), random.is_multiple_of(16));
            if random & 32 == 0 {
                peer.send(1, ack(tag, multiple));
            } else {
                peer.send(1, nack(tag, multiple));
            }
        }
        for event in peer.events() {
            let Event::Confirmed { tags, .. } = event else {
                panic!("{event:?}")
            };
            tags.iter()
                .for_each(|tag| resolved[usize::try_from(tag.value()).unwrap()] += 1);
        }
    }
    let once = resolved.iter().filter(|count| **count == 1).count();
    assert_eq!(once + peer.channel(id).unconfirmed(), 10_000);
    peer.send(1, close_406());
    for event in peer.events() {
        if let Event::Confirmed { tags, .. } = event {
            tags.iter()
                .for_each(|tag| resolved[usize::try_from(tag.value()).unwrap()] += 1);
        }
    }
    assert!(resolved[1..].iter().all(|count| *count == 1));
}

#[test]
fn a_confirm_between_the_frames_of_a_message_is_a_violation() {
    let (mut peer, id) = published(1);
    peer.consume(id, "c", false);
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 2, Properties::default());
    assert_eq!(peer.events(), []);
    peer.send(1, ack(1, false));
    assert_eq!(
        peer.violation(),
        "505 content of a message is missing before this frame"
    );
}

#[test]
fn each_confirm_counts_as_a_frame_and_its_octets() {
    let (mut peer, id) = published(3);
    let before = peer.connection.counters();
    for tag in 1..=3 {
        peer.send(1, ack(tag, false));
        let tags = ConfirmTags::new(id, tag, tag);
        let outcome = ConfirmOutcome::Acked;
        assert_eq!(peer.event(), Event::Confirmed { tags, outcome });
    }
    let counters = peer.connection.counters();
    assert_eq!(counters.frames_received, before.frames_received + 3);
    assert_eq!(counters.octets_received, before.octets_received + 3 * 21);
    assert_eq!(counters.acked, 3);
}
