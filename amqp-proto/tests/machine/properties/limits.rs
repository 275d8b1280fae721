//! Memory, and the two rules of lazy parsing.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, Event, RequestError, SendError, TransportError};
use bytes::Bytes;
use proptest::prelude::*;

use super::transcript::{Busy, Lane, content, deliver, deliveries, in_turn, lanes, method_frame};
use crate::peer::Peer;

#[test]
fn a_gigabyte_published_to_a_peer_that_reads_nothing_is_refused_above_the_mark() {
    const MESSAGE: usize = 256 * 1024;
    let mut peer = Peer::open();
    let channel = peer.open_channel();
    let high_water = peer.connection.config().outbound_high_water;
    peer.connection.set_backpressure_multiplier(0);
    peer.is_stalled = true;
    let body = Bytes::from(vec![0; MESSAGE]);
    let mut taken = 0;
    for _ in 0..4096 {
        let mut view = peer.connection.channel(channel).unwrap();
        match view.publish(&BasicPublish::default(), &Properties::default(), body.clone()) {
            Ok(_) => taken += 1,
            Err(error) => assert!(matches!(error, SendError::Full { .. }), "{error}"),
        }
        peer.transmit();
        assert!(peer.connection.queued_bytes() <= high_water + MESSAGE + 1000);
    }
    assert_eq!(taken, high_water / MESSAGE);
    assert_eq!(peer.events(), []);
    peer.is_stalled = false;
    assert_eq!(peer.event(), Event::Writable);
}

#[test]
fn a_flood_of_deliveries_that_nobody_asks_for_stays_in_the_buffer() {
    let mut busy = Busy::new(Config::default());
    let message = content(2, deliver("a", 1), &[b'x'; 4000]).concat();
    busy.peer.send_octets(&in_turn(&[lanes()[2][..2].to_vec()]));
    let flood = message.repeat(250);
    let mut taken = busy.peer.input.extend(&flood);
    assert!(taken < flood.len() && busy.peer.input.is_full());
    assert!(busy.peer.input.capacity() <= 512 * 1024, "{:?}", busy.peer.input);
    // It is there when it is asked for, one message at a time.
    let mut told = 0;
    while let Some(event) = busy
        .peer
        .connection
        .poll_event(busy.peer.now, &mut busy.peer.input)
    {
        told += deliveries(&[event]).len();
        taken += busy.peer.input.extend(&flood[taken..]);
        assert!(busy.peer.input.capacity() <= 512 * 1024, "{:?}", busy.peer.input);
    }
    assert_eq!(told, 250);
}

#[test]
fn a_peer_that_reads_nothing_is_not_answered_without_end() {
    let mut busy = Busy::new(Config::default().outbound_high_water(1000).outbound_limit(2000));
    busy.peer.is_stalled = true;
    // Each is answered with a nack.
    let message = content(2, deliver("nobody", 1), b"x").concat();
    busy.peer.send_octets(&message.repeat(1000));
    assert_eq!(busy.peer.events(), []);
    assert!(busy.peer.connection.queued_bytes() <= 2000 + 100);
    assert!(!busy.peer.input.unread().is_empty());
    busy.peer.is_stalled = false;
    let mut nacks = 0;
    while !busy.peer.input.unread().is_empty() {
        busy.peer.events();
        nacks += busy.peer.sent().len();
    }
    assert_eq!(nacks, 1000);
}

/// Some of the lanes' frames, channel after channel.
fn some(lanes: &[Lane], counts: &[prop::sample::Index]) -> Vec<u8> {
    let cut = |(lane, count): (&Lane, &prop::sample::Index)| lane[..count.index(lane.len() + 1)].to_vec();
    in_turn(&lanes.iter().zip(counts).map(cut).collect::<Vec<_>>())
}

fn counts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 5)
}

const HOUR: Duration = Duration::from_secs(3600);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_deadline_fires_while_whole_frames_lie_unread(counts in counts()) {
        let octets = some(&lanes(), &counts);
        let told_in_time = {
            let mut busy = Busy::new(Config::default());
            busy.peer.send_octets(&octets);
            busy.peer.events()
        };
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&octets);
        busy.peer.now = busy.peer.now + HOUR;
        busy.peer.connection.handle_timeout(busy.peer.now);
        let told_late = busy.peer.events();
        // All that arrived comes first, as if in time; what then fails was not answered.
        prop_assert!(told_late.starts_with(&told_in_time));
        for event in &told_late[told_in_time.len()..] {
            let is_timeout = matches!(
                event,
                Event::RequestFailed { cause: RequestError::Timeout, .. } | Event::ChannelClosed { .. }
            ) || matches!(event, Event::RequestFailed { request, .. } if request.channel() == busy.channels[3]);
            prop_assert!(is_timeout, "{:?}", event);
        }
        busy.waiting.take_all(&told_late);
    }

    #[test]
    fn what_arrived_is_told_before_the_end_of_the_stream(counts in counts(), is_closed_by_peer in any::<bool>()) {
        let mut octets = some(&lanes(), &counts);
        let told_alive = {
            let mut busy = Busy::new(Config::default());
            busy.peer.send_octets(&octets);
            busy.peer.events()
        };
        if is_closed_by_peer {
            octets.extend(method_frame(0, ConnectionClose::default()));
        }
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&octets);
        let error = TransportError::new("reset by peer");
        busy.peer.connection.handle_disconnect(busy.peer.now, Some(error));
        let mut told = busy.peer.events();
        busy.waiting.take_all(&told);
        let Some(Event::Closed(reason)) = told.pop() else { panic!("{told:?}") };
        prop_assert_eq!(matches!(reason, CloseReason::Peer(_)), is_closed_by_peer, "{}", reason);
        prop_assert!(told.starts_with(&told_alive));
    }
}

#[test]
fn what_is_unread_because_too_much_waits_to_be_written_is_told_when_the_stream_ends() {
    let mut busy = Busy::new(Config::default().outbound_high_water(1000).outbound_limit(2000));
    busy.peer.is_stalled = true;
    busy.peer
        .send_octets(&content(2, deliver("nobody", 1), b"x").concat().repeat(100));
    busy.peer
        .send_octets(&method_frame(0, ConnectionClose::default()));
    assert_eq!(busy.peer.events(), []);
    busy.peer.connection.handle_disconnect(busy.peer.now, None);
    let last = busy.peer.events().pop();
    assert!(
        matches!(last, Some(Event::Closed(CloseReason::Peer(_)))),
        "{last:?}"
    );
}
