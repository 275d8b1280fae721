//! What holds a publisher back: the marks on what waits to be written, pika's rule, and the broker's flow.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, CloseReason, Config, DeliveryTag, Event, SendError};
use bytes::{Buf, Bytes};

use crate::peer::Peer;
use crate::stage::deliver;

/// Channel 1 with a delivery, on a connection with these marks, whose socket takes nothing any more.
fn stalled(config: Config) -> (Peer, ChannelId, DeliveryTag) {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(config, tune);
    let id = peer.open_channel();
    peer.consume(id, "c", false);
    peer.send_content(1, deliver("c", 1), b"m");
    peer.events();
    peer.sent();
    peer.is_stalled = true;
    (peer, id, DeliveryTag::new(id, 1))
}

fn marks(high_water: usize, limit: usize) -> Config {
    Config::default()
        .outbound_high_water(high_water)
        .outbound_limit(limit)
        .backpressure_multiplier(0)
}

fn publish(peer: &mut Peer, id: ChannelId, size: usize) -> Result<(), SendError> {
    let body = vec![0; size];
    let properties = Properties::default();
    peer.channel(id)
        .publish(&BasicPublish::default(), &properties, &body[..])
        .map(drop)
}

#[track_caller]
fn assert_full<T>(result: Result<T, SendError>, queued: usize, limit: usize) {
    assert_eq!(result.map(drop), Err(SendError::Full { queued, limit }));
}

#[test]
fn above_the_high_water_mark_what_may_wait_is_refused_and_acknowledgements_pass() {
    let (mut peer, id, tag) = stalled(marks(1000, 10_000));
    publish(&mut peer, id, 1000).unwrap();
    peer.transmit();
    let queued = peer.connection.queued_bytes();
    assert!(queued > 1000);
    assert_full(publish(&mut peer, id, 0), queued, 1000);
    let mut channel = peer.channel(id);
    assert_full(channel.request(&QueuePurge::default()), queued, 1000);
    assert_full(channel.send_nowait(&QueuePurge::default()), queued, 1000);
    assert_full(channel.consume(&BasicConsume::default()), queued, 1000);
    assert_full(channel.consume_nowait(&BasicConsume::default()), queued, 1000);
    assert_full(channel.get(&BasicGet::default()), queued, 1000);
    assert_full(channel.recover_async(&BasicRecoverAsync::default()), queued, 1000);
    assert_full(peer.connection.open_channel(), queued, 1000);
    assert_eq!(peer.connection.queued_bytes(), queued, "nothing was written");
    let mut channel = peer.channel(id);
    assert_eq!(channel.ack(tag), Ok(()));
    assert_eq!(channel.nack(tag, true), Ok(()));
    assert_eq!(channel.reject(tag, true), Ok(()));
    assert_eq!(channel.close(ReplyCode::REPLY_SUCCESS, ""), Ok(()));
    assert!(peer.connection.queued_bytes() > queued);
}

#[test]
fn at_the_mark_itself_there_is_still_room() {
    let (mut peer, id, _) = stalled(marks(1000, 10_000));
    publish(&mut peer, id, 500).unwrap();
    let overhead = peer.connection.queued_bytes() - 500;
    publish(&mut peer, id, 500 - 2 * overhead).unwrap();
    assert_eq!(peer.connection.queued_bytes(), 1000);
    assert_eq!(publish(&mut peer, id, 0), Ok(()));
    assert!(publish(&mut peer, id, 0).is_err());
}

#[test]
fn above_the_limit_acknowledgements_are_refused_and_nothing_is_read() {
    let (mut peer, id, tag) = stalled(marks(1500, 2000));
    publish(&mut peer, id, 5000).unwrap();
    let content = peer.connection.queued_bytes();
    // What a message takes does not count, so as not to be deaf behind a large one.
    while peer.connection.queued_bytes() <= content + 2000 {
        assert_eq!(peer.channel(id).ack(tag), Ok(()));
    }
    let queued = peer.connection.queued_bytes();
    assert_full(peer.channel(id).ack(tag), queued, 2000);
    assert_full(peer.channel(id).nack_multiple(tag, true), queued, 2000);
    assert_full(peer.channel(id).reject(tag, true), queued, 2000);
    peer.send_content(1, deliver("c", 2), b"unread");
    let unread = peer.input.unread().len();
    assert_eq!(peer.events(), []);
    assert_eq!(peer.input.unread().len(), unread);
    peer.transmit();
    assert_eq!(peer.connection.poll_timeout(), None, "nothing can be done");
    peer.is_stalled = false;
    peer.transmit();
    assert!(
        peer.connection.poll_timeout().is_some_and(|at| at <= peer.now),
        "nobody sleeps over it"
    );
    let events = peer.events();
    assert!(
        events.iter().any(|event| matches!(event, Event::Delivery(_))),
        "{events:?}"
    );
    assert_eq!(peer.channel(id).ack(tag), Ok(()));
}

#[test]
fn a_message_over_the_limit_does_not_make_us_deaf() {
    let (mut peer, id, _) = stalled(marks(1500, 2000));
    publish(&mut peer, id, 50_000).unwrap();
    let reason = ShortStr::new("low on memory").unwrap();
    peer.send(0, ConnectionBlocked { reason });
    let reason = "low on memory".into();
    assert_eq!(peer.events(), [Event::Blocked { reason }]);
}

#[test]
fn what_lies_unread_is_told_when_the_stream_ends_however_much_waits_to_be_written() {
    let (mut peer, id, tag) = stalled(marks(1500, 2000));
    publish(&mut peer, id, 1900).unwrap();
    while peer.channel(id).ack(tag).is_ok() {}
    let close = ConnectionClose {
        reply_code: ReplyCode::CONNECTION_FORCED,
        ..ConnectionClose::default()
    };
    peer.send(0, close);
    assert_eq!(peer.events(), []);
    peer.connection.handle_disconnect(peer.now, None);
    let events = peer.events();
    assert!(
        matches!(events.last(), Some(Event::Closed(CloseReason::Peer(_)))),
        "{events:?}"
    );
}

#[test]
fn a_flood_for_nobody_does_not_make_us_write_without_end() {
    let (mut peer, ..) = stalled(marks(1000, 2000));
    for tag in 2..=400 {
        peer.send_content(1, deliver("nobody", tag), b"");
    }
    assert_eq!(peer.events(), []);
    let queued = peer.connection.queued_bytes();
    assert!((2001..2100).contains(&queued), "{queued}");
    assert!(!peer.input.unread().is_empty());
    peer.is_stalled = false;
    while !peer.input.unread().is_empty() {
        peer.events();
    }
    assert_eq!(peer.connection.counters().undeliverable, 399);
}

#[test]
fn room_is_told_once_and_only_to_who_was_refused() {
    let (mut peer, id, _) = stalled(marks(1000, 10_000));
    publish(&mut peer, id, 600).unwrap();
    publish(&mut peer, id, 600).unwrap();
    peer.transmit();
    for _ in 0..3 {
        assert!(publish(&mut peer, id, 0).is_err());
    }
    assert_eq!(peer.events(), []);
    let queued = peer.connection.queued_bytes();
    peer.output.advance(queued - 501);
    assert_eq!(peer.events(), [], "more than half of the mark waits");
    peer.output.advance(1);
    assert_eq!(peer.events(), [Event::Writable]);
    peer.output.advance(500);
    assert_eq!(peer.events(), []);

    publish(&mut peer, id, 1200).unwrap();
    peer.transmit();
    let queued = peer.connection.queued_bytes();
    peer.output.advance(queued);
    assert_eq!(peer.events(), [], "nobody was refused");
}

#[test]
fn room_that_a_write_made_is_not_slept_over() {
    let (mut peer, id, _) = stalled(marks(100, 10_000));
    publish(&mut peer, id, 200).unwrap();
    assert!(publish(&mut peer, id, 0).is_err());
    peer.is_stalled = false;
    peer.transmit();
    assert!(peer.connection.poll_timeout().is_some_and(|at| at <= peer.now));
    assert_eq!(peer.events(), [Event::Writable]);
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn what_the_caller_has_not_written_counts_and_so_does_a_shared_body() {
    let (mut peer, id, _) = stalled(marks(1 << 20, 1 << 24));
    let body = Bytes::from(vec![0; 2 << 20]);
    let properties = Properties::default();
    peer.channel(id)
        .publish(&BasicPublish::default(), &properties, body)
        .unwrap();
    let queued = peer.connection.queued_bytes();
    assert!(queued > 2 << 20);
    assert!(publish(&mut peer, id, 0).is_err());
    peer.transmit();
    assert_eq!(peer.connection.queued_bytes(), queued);
    assert_eq!(peer.output.remaining(), queued);
    assert!(publish(&mut peer, id, 0).is_err());
    peer.output.advance(1 << 20);
    peer.transmit();
    assert_eq!(peer.connection.queued_bytes(), queued - (1 << 20));
}

/// Enough messages of one size, written, so that the mean size of a frame is theirs; then the socket stalls.
fn with_mean(multiplier: u32) -> (Peer, ChannelId) {
    let config = Config::default().backpressure_multiplier(multiplier);
    let (mut peer, id, _) = stalled(config);
    peer.is_stalled = false;
    for _ in 0..1000 {
        publish(&mut peer, id, 1000).unwrap();
        peer.transmit();
    }
    peer.sent();
    assert_eq!(peer.events(), []);
    peer.is_stalled = true;
    (peer, id)
}

/// Publishes one by one until it is told that too much waits; how many messages that took.
fn publish_until_on(peer: &mut Peer, id: ChannelId) -> (usize, usize, usize) {
    for count in 1..100 {
        publish(peer, id, 1000).unwrap();
        match peer.events()[..] {
            [] => {}
            [Event::BackpressureOn { queued, limit }] => return (count, queued, limit),
            ref other => panic!("{other:?}"),
        }
    }
    panic!("it was never told");
}

#[test]
fn pikas_rule_tells_when_more_waits_than_frames_of_mean_size() {
    let (mut peer, id) = with_mean(10);
    let (count, queued, limit) = publish_until_on(&mut peer, id);
    // A message is three frames: ten of them are more than three messages.
    assert_eq!(count, 4);
    assert_eq!(queued, peer.connection.queued_bytes());
    let counters = peer.connection.counters();
    let own = queued - peer.output.remaining();
    let octets = usize::try_from(counters.octets_sent).unwrap() + own;
    assert_eq!(
        limit,
        octets / usize::try_from(counters.frames_sent).unwrap() * 10
    );
    publish(&mut peer, id, 1000).unwrap();
    assert_eq!(peer.events(), [], "it is told once");

    peer.is_stalled = false;
    let event = peer.event();
    assert!(matches!(event, Event::BackpressureOff { queued: 0 }), "{event:?}");
    peer.sent();
    peer.is_stalled = true;
    assert_eq!(publish_until_on(&mut peer, id).0, 4, "and again the next time");
}

#[test]
fn it_is_over_when_half_of_the_limit_is_left() {
    let (mut peer, id) = with_mean(30);
    publish(&mut peer, id, 1000).unwrap();
    peer.transmit();
    for _ in 0..20 {
        publish(&mut peer, id, 1000).unwrap();
    }
    let event = peer.event();
    let Event::BackpressureOn { limit, .. } = event else {
        panic!("{event:?}");
    };
    // What was handed over first is written; the rest is handed over then.
    peer.output.advance(peer.output.remaining());
    assert_eq!(peer.events(), []);
    peer.output.advance(peer.output.remaining() - limit * 3 / 4);
    assert_eq!(peer.events(), []);
    peer.output.advance(peer.output.remaining() - limit / 4);
    let event = peer.event();
    assert_eq!(event, Event::BackpressureOff { queued: limit / 4 });
}

#[test]
fn a_socket_that_keeps_up_is_not_behind_however_much_is_published_at_once() {
    let (mut peer, id) = with_mean(10);
    peer.is_stalled = false;
    for _ in 0..100 {
        publish(&mut peer, id, 1000).unwrap();
    }
    assert_eq!(peer.events(), []);
}

#[test]
fn a_multiplier_of_0_is_never_and_can_be_changed_at_any_time() {
    let (mut peer, id) = with_mean(0);
    for _ in 0..50 {
        publish(&mut peer, id, 1000).unwrap();
        assert_eq!(peer.events(), []);
    }
    peer.connection.set_backpressure_multiplier(10);
    assert!(matches!(peer.event(), Event::BackpressureOn { .. }));
    peer.connection.set_backpressure_multiplier(0);
    assert!(matches!(peer.event(), Event::BackpressureOff { .. }));
}

#[test]
fn a_larger_multiplier_lets_more_wait() {
    for (multiplier, messages) in [(1, 2), (10, 4), (30, 10), (60, 20)] {
        let (mut peer, id) = with_mean(multiplier);
        assert_eq!(publish_until_on(&mut peer, id).0, messages, "{multiplier}");
    }
}

#[test]
fn the_broker_can_stop_and_resume_publishes_and_nothing_else() {
    let (mut peer, id, tag) = stalled(Config::default());
    let other = {
        peer.is_stalled = false;
        peer.open_channel()
    };
    peer.send(1, ChannelFlow { active: false });
    assert_eq!(
        peer.event(),
        Event::Flow {
            channel: id,
            active: false
        }
    );
    assert_eq!(peer.sent(), ["ch 1 channel.flow-ok"]);
    assert_eq!(publish(&mut peer, id, 1), Err(SendError::FlowStopped));
    peer.assert_quiet();
    assert_eq!(peer.connection.counters().published, 0);
    let mut channel = peer.channel(id);
    assert_eq!(channel.ack(tag), Ok(()));
    assert!(channel.request(&QueuePurge::default()).is_ok());
    assert_eq!(publish(&mut peer, other, 1), Ok(()));
    peer.sent();
    peer.send(1, ChannelFlow { active: true });
    assert_eq!(
        peer.event(),
        Event::Flow {
            channel: id,
            active: true
        }
    );
    assert_eq!(peer.sent(), ["ch 1 channel.flow-ok active"]);
    assert_eq!(publish(&mut peer, id, 1), Ok(()));
}

#[test]
fn at_the_limit_itself_there_is_still_room() {
    const ACK: usize = 21;
    let (mut peer, id, tag) = stalled(marks(100, 10 * ACK));
    for _ in 0..=10 {
        assert_eq!(peer.channel(id).ack(tag), Ok(()));
    }
    assert_full(peer.channel(id).ack(tag), 11 * ACK, 10 * ACK);
}

#[test]
fn the_rule_of_the_mean_frame_is_about_more_not_as_much() {
    let (mut peer, id, tag) = stalled(marks(100_000, 100_000));
    peer.channel(id).ack(tag).unwrap();
    peer.transmit();
    let multiplier = loop {
        peer.channel(id).ack(tag).unwrap();
        let queued = peer.connection.queued_bytes();
        let counters = peer.connection.counters();
        let waiting = (queued - peer.output.remaining()) as u64;
        let mean = (counters.octets_sent + waiting) / counters.frames_sent;
        if (queued as u64).is_multiple_of(mean) {
            break u32::try_from(queued as u64 / mean).unwrap();
        }
    };
    peer.connection.set_backpressure_multiplier(multiplier);
    assert_eq!(peer.events(), []);
    peer.connection.set_backpressure_multiplier(multiplier - 1);
    assert!(matches!(peer.event(), Event::BackpressureOn { .. }));
}
