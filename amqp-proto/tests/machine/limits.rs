//! Messages that are too large, alone or all together: the channel is closed over them, and nothing else.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{ChannelCloseReason, ChannelId, Config, Event};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, returned};

const REFUSED: &str = r#"channel.close reply_code=311 CONTENT_TOO_LARGE reply_text="message over the client's limit" class_id=0 method_id=0"#;

/// Channels 1, 2 and so on, each with a consumer "c".
fn consuming(config: Config, channels: usize) -> (Peer, Vec<ChannelId>) {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(config, tune);
    let ids: Vec<_> = (0..channels).map(|_| peer.open_channel()).collect();
    for id in &ids {
        peer.consume(*id, "c", false);
    }
    (peer, ids)
}

/// The consumer is cancelled, and the peer is told 311.
#[track_caller]
fn assert_refused(peer: &mut Peer, channel: u16) {
    assert_eq!(peer.events(), []);
    assert_eq!(
        peer.sent(),
        [
            format!(r#"ch {channel} basic.cancel consumer_tag="c""#),
            format!("ch {channel} {REFUSED}")
        ]
    );
}

/// The peer confirms that the channel is closed, and why is told.
#[track_caller]
fn assert_ends(peer: &mut Peer, channel: ChannelId, size: u64, limit: u64) {
    peer.send(channel.number(), ChannelCloseOk {});
    let reason = ChannelCloseReason::ContentTooLarge { size, limit };
    assert_eq!(peer.event(), Event::ChannelClosed { channel, reason });
}

#[test]
fn a_message_of_the_limit_is_told_and_one_above_closes_its_channel() {
    for at_once in [true, false] {
        let (mut peer, ids) = consuming(Config::default().max_message_size(5), 2);
        peer.send_content(1, deliver("c", 1), b"12345");
        assert_eq!(&*delivery(peer.event()).message.body(), b"12345");
        peer.send(1, deliver("c", 2));
        if !at_once {
            peer.events();
        }
        peer.send_header(1, 6, Properties::default());
        if !at_once {
            assert_refused(&mut peer, 1);
        }
        peer.send_body(1, b"123");
        peer.send_content(2, deliver("c", 1), b"alive");
        peer.send_body(1, b"456");
        peer.send_content(1, deliver("c", 3), b"more");
        assert_eq!(&*delivery(peer.event()).message.body(), b"alive");
        if at_once {
            assert_refused(&mut peer, 1);
        }
        assert_ends(&mut peer, ids[0], 6, 5);
        assert!(peer.channel(ids[1]).is_open());
    }
}

#[test]
fn a_second_message_that_is_too_large_is_swallowed_too() {
    let (mut peer, ids) = consuming(Config::default().max_message_size(5), 1);
    peer.send_content(1, deliver("c", 1), b"123456");
    peer.send_content(1, deliver("c", 2), b"1234567");
    assert_refused(&mut peer, 1);
    assert_ends(&mut peer, ids[0], 6, 5);
}

#[test]
fn the_peer_may_close_the_channel_itself_meanwhile() {
    let (mut peer, _) = consuming(Config::default().max_message_size(5), 1);
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 6, Properties::default());
    assert_refused(&mut peer, 1);
    peer.send(1, close_406());
    peer.send(1, ChannelCloseOk {});
    let event = peer.event();
    assert!(
        matches!(
            event,
            Event::ChannelClosed {
                reason: ChannelCloseReason::Peer(_),
                ..
            }
        ),
        "{event:?}"
    );
}

#[test]
fn a_size_that_no_memory_holds_costs_none() {
    let (mut peer, ids) = consuming(Config::default(), 1);
    peer.send(1, deliver("c", 1));
    peer.send_header(1, u64::MAX, Properties::default());
    assert_refused(&mut peer, 1);
    peer.send_body(1, b"the first octets");
    peer.assert_quiet();
    assert!(!peer.channel(ids[0]).is_open());
}

#[test]
fn a_return_that_is_too_large_closes_its_channel_too() {
    let (mut peer, ids) = consuming(Config::default().max_message_size(5), 1);
    peer.send_content(1, returned("k"), b"123456");
    assert_refused(&mut peer, 1);
    assert_ends(&mut peer, ids[0], 6, 5);
    assert_eq!(peer.connection.counters().returned, 0);
}

#[test]
fn a_streamed_body_has_no_limit() {
    let config = Config::default().max_message_size(5).max_partial_content(5);
    let (mut peer, ids) = consuming(config, 1);
    let consumer = amqp_proto::ConsumerId::new(ids[0], 0);
    peer.channel(ids[0]).stream_bodies(consumer, true).unwrap();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 1000, Properties::default());
    for _ in 0..10 {
        peer.send_body(1, &[0; 100]);
    }
    let events = peer.events();
    assert_eq!(events.len(), 12);
    assert!(matches!(events[11], Event::DeliveryEnded { .. }));
}

#[test]
fn a_message_for_nobody_has_no_limit_since_it_is_not_kept() {
    let config = Config::default().max_message_size(5).max_partial_content(5);
    let (mut peer, _) = consuming(config, 1);
    peer.send_content(1, deliver("nobody", 1), &[0; 100]);
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
}

/// Begins a message of 100 octets and sends the first ones of its body.
fn begin(peer: &mut Peer, channel: u16, size: usize) {
    peer.send(channel, deliver("c", 1));
    peer.send_header(channel, 100, Properties::default());
    peer.send_body(channel, &vec![0; size]);
}

#[test]
fn all_channels_together_hold_no_more_than_the_limit() {
    let (mut peer, ids) = consuming(Config::default().max_partial_content(50), 4);
    begin(&mut peer, 1, 30);
    begin(&mut peer, 2, 20);
    peer.assert_quiet();
    // The one that goes over it is the one that is given up.
    peer.send_body(2, b"1");
    assert_refused(&mut peer, 2);
    peer.send_body(2, &[0; 79]);
    // What it held is free again: to the last octet, and no more.
    begin(&mut peer, 3, 20);
    peer.assert_quiet();
    assert_ends(&mut peer, ids[1], 100, 50);
    // A channel that ends frees what it held.
    peer.send(1, close_406());
    peer.event();
    peer.sent();
    begin(&mut peer, 4, 30);
    peer.assert_quiet();
    peer.send_body(4, b"1");
    assert_refused(&mut peer, 4);
    peer.send_body(4, &[0; 69]);
    assert_ends(&mut peer, ids[3], 100, 50);
    assert!(peer.channel(ids[2]).is_open());
}

#[test]
fn a_message_that_is_complete_holds_nothing_any_more() {
    let (mut peer, _) = consuming(Config::default().max_partial_content(100), 1);
    for tag in 1..=5 {
        begin(&mut peer, 1, 60);
        peer.send_body(1, &[0; 40]);
        assert_eq!(delivery(peer.event()).message.body_len(), 100, "{tag}");
    }
}

#[test]
fn a_message_that_its_last_piece_completes_is_told_however_large_that_is() {
    let (mut peer, _) = consuming(Config::default().max_partial_content(99), 1);
    begin(&mut peer, 1, 60);
    peer.send_body(1, &[0; 40]);
    assert!(matches!(peer.event(), Event::Delivery(delivery) if delivery.message.body_len() == 100));
}

#[test]
fn a_message_that_comes_in_one_piece_is_not_partial() {
    let (mut peer, _) = consuming(Config::default().max_partial_content(3), 1);
    peer.send_content(1, deliver("c", 1), b"12345");
    assert_eq!(&*delivery(peer.event()).message.body(), b"12345");
}

#[test]
fn why_we_close_a_channel_is_told_whatever_ends_it() {
    let reason = ChannelCloseReason::ContentTooLarge { size: 6, limit: 5 };
    for is_closed_by_peer in [false, true] {
        let (mut peer, ids) = consuming(Config::default().max_message_size(5), 1);
        peer.send_content(1, deliver("c", 1), b"123456");
        assert_refused(&mut peer, 1);
        let events = if is_closed_by_peer {
            peer.send(0, ConnectionClose::default());
            peer.events()
        } else {
            peer.advance(Duration::from_secs(10))
        };
        let channel = ids[0];
        let reason = reason.clone();
        assert_eq!(events.first(), Some(&Event::ChannelClosed { channel, reason }));
    }
}
