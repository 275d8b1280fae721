//! Sessions cut into pieces, mixed, and cut off.

use amqp_proto::wire::*;
use amqp_proto::{Config, Event};
use proptest::prelude::*;

use super::transcript::{Busy, Lane, deliveries, in_turn, lanes, method_frame};

/// Frames of all lanes: each lane keeps its order, and `picks` says which is next.
fn mixed(lanes: &[Lane], picks: &[prop::sample::Index]) -> Vec<u8> {
    let mut left: Vec<&[Vec<u8>]> = lanes.iter().map(|lane| &lane[..]).collect();
    let mut octets = Vec::new();
    for pick in picks {
        left.retain(|lane| !lane.is_empty());
        if left.is_empty() {
            break;
        }
        let lane = pick.index(left.len());
        octets.extend(&left[lane][0]);
        left[lane] = &left[lane][1..];
    }
    octets.extend(left.concat().concat());
    octets
}

/// What is told of these octets, arriving in pieces of these sizes by turns, and what is written then.
fn told(octets: &[u8], sizes: &[usize]) -> (Vec<Event>, Vec<String>) {
    let mut busy = Busy::new(Config::default());
    let mut events = Vec::new();
    let (mut rest, mut sizes) = (octets, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        busy.peer.send_octets(piece);
        events.extend(busy.peer.events());
        rest = later;
    }
    busy.waiting.take_all(&events);
    (events, busy.peer.sent())
}

fn indices() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_the_octets_are_cut_the_same_is_told_and_written(
        picks in indices(),
        sizes in prop::collection::vec(prop_oneof![1..20_usize, 1..5000_usize], 1..20),
    ) {
        let octets = mixed(&lanes(), &picks);
        prop_assert_eq!(told(&octets, &sizes), told(&octets, &[octets.len()]));
    }

    #[test]
    fn however_the_channels_are_mixed_everything_is_told_once(picks in indices()) {
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&mixed(&lanes(), &picks));
        let events = busy.peer.events();
        busy.waiting.take_all(&events);
        let tags: Vec<u64> = deliveries(&events).into_iter().map(|tag| tag.value()).collect();
        prop_assert_eq!(tags, [1, 2, 3, 4]);
        let chunks = |event: &Event| match event {
            Event::DeliveryChunk { chunk, .. } => chunk.len(),
            _ => 0,
        };
        prop_assert_eq!(events.iter().map(chunks).sum::<usize>(), 9000);
        busy.peer.connection.handle_disconnect(busy.peer.now, None);
        busy.waiting.take_all(&busy.peer.events());
        prop_assert!(busy.waiting.is_closed());
    }
}

#[test]
fn octet_by_octet_the_same_is_told_as_at_once() {
    let octets = in_turn(&lanes());
    assert_eq!(told(&octets, &[1]), told(&octets, &[octets.len()]));
}

/// Runs the session up to each place where it can be cut: every octet but inside of the long bodies, where each is like the next.
fn cut_everywhere(end: impl Fn(&mut Busy) -> Vec<Event>) {
    let octets = in_turn(&lanes());
    let is_long = |cut: usize| {
        octets[cut.saturating_sub(10)..octets.len().min(cut + 10)]
            .iter()
            .all(|&octet| octet == b'x')
    };
    for cut in (0..=octets.len()).filter(|cut| !is_long(*cut)) {
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&octets[..cut]);
        let mut events = busy.peer.events();
        events.extend(end(&mut busy));
        busy.waiting.take_all(&events);
        assert!(busy.waiting.is_closed(), "cut at {cut}");
        assert_eq!(busy.peer.events(), []);
        assert_eq!(busy.peer.connection.poll_timeout(), None);
    }
}

#[test]
fn cut_off_at_every_octet_each_thing_is_resolved_once() {
    cut_everywhere(|busy| {
        busy.peer.connection.handle_disconnect(busy.peer.now, None);
        busy.peer.events()
    });
}

#[test]
fn cut_off_unread_at_every_octet_each_thing_is_resolved_once() {
    let octets = in_turn(&lanes());
    let is_long = |cut: usize| {
        octets[cut..octets.len().min(cut + 10)]
            .iter()
            .all(|&octet| octet == b'x')
    };
    for cut in (0..=octets.len()).filter(|cut| *cut == octets.len() || !is_long(*cut)) {
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&octets[..cut]);
        busy.peer.connection.handle_disconnect(busy.peer.now, None);
        busy.waiting.take_all(&busy.peer.events());
        assert!(busy.waiting.is_closed(), "cut at {cut}");
    }
}

#[test]
fn closed_by_the_peer_behind_every_octet_each_thing_is_resolved_once() {
    let close = method_frame(0, ConnectionClose::default());
    cut_everywhere(|busy| {
        // Inside of a frame it is part of that frame, which then does not end as it should, or does not end.
        busy.peer.send_octets(&close);
        let mut events = busy.peer.events();
        busy.peer.connection.handle_disconnect(busy.peer.now, None);
        events.extend(busy.peer.events());
        events
    });
}

#[test]
fn closed_by_us_behind_every_frame_each_thing_is_resolved_once() {
    let frames = lanes().concat();
    for count in 0..=frames.len() {
        let mut busy = Busy::new(Config::default());
        busy.peer.send_octets(&frames[..count].concat());
        busy.peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
        let mut events = busy.peer.events();
        busy.peer.send_octets(&frames[count..].concat());
        events.extend(busy.peer.events());
        // Nobody answers the closes.
        events.extend(busy.peer.advance(std::time::Duration::from_secs(60)));
        busy.waiting.take_all(&events);
        assert!(busy.waiting.is_closed(), "closed behind {count} frames");
    }
}
