use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::Settled::{Acked, Nacked, Returned};
use super::model::{Pair, ROUTES, Route, each_of, tags_of};
use super::*;

const A: Route = ROUTES[0];
const B: Route = ROUTES[1];

/// That many publishes, the first one of one octet, the second one of two, and so on.
fn published(count: usize, route: Option<Route>) -> Pair {
    let mut pair = Pair::new(ConfirmLimits::default(), 1);
    for size in 1..=count {
        pair.publish(size, route);
    }
    pair
}

type Ranges = Vec<(u64, u64, Settled)>;

fn ack(pair: &mut Pair, tag: u64) -> Ranges {
    pair.confirm(tag, false, false).unwrap()
}

fn ack_all(pair: &mut Pair, tag: u64) -> Ranges {
    pair.confirm(tag, true, false).unwrap()
}

fn nack(pair: &mut Pair, tag: u64) -> Ranges {
    pair.confirm(tag, false, true).unwrap()
}

fn nack_all(pair: &mut Pair, tag: u64) -> Ranges {
    pair.confirm(tag, true, true).unwrap()
}

#[test]
fn tags_count_from_one() {
    let mut window = ConfirmWindow::new(ConfirmLimits::default(), 0);
    assert_eq!(
        (window.last_tag(), window.oldest(), window.outstanding()),
        (0, None, 0)
    );
    assert_eq!((window.push(5, None), window.push(7, None)), (1, 2));
    assert_eq!(
        (window.last_tag(), window.oldest(), window.outstanding()),
        (2, Some(1), 2)
    );
    assert_eq!(window.octets(), 12);
    assert!(!window.is_outstanding(0) && window.is_outstanding(1));
    assert!(window.is_outstanding(2) && !window.is_outstanding(3));
}

#[test]
fn a_slot_is_16_octets() {
    assert_eq!(size_of::<Slot>(), 16);
}

#[test]
fn acks_out_of_order() {
    let mut pair = published(3, None);
    assert_eq!(ack(&mut pair, 3), [(3, 3, Acked)]);
    assert_eq!((pair.window.outstanding(), pair.window.octets()), (2, 3));
    assert_eq!(ack(&mut pair, 1), [(1, 1, Acked)]);
    assert_eq!((pair.window.outstanding(), pair.window.octets()), (1, 2));
    assert_eq!(ack(&mut pair, 2), [(2, 2, Acked)]);
    assert_eq!((pair.window.outstanding(), pair.window.octets()), (0, 0));
    assert_eq!(pair.window.oldest(), None);
}

#[test]
fn a_nack_in_the_middle() {
    let mut pair = published(5, None);
    assert_eq!(nack(&mut pair, 3), [(3, 3, Nacked)]);
    assert_eq!(ack_all(&mut pair, 5), [(1, 2, Acked), (4, 5, Acked)]);
    assert_eq!((pair.window.outstanding(), pair.window.octets()), (0, 0));
}

#[test]
fn one_range_for_many_at_once() {
    let mut pair = published(100, None);
    assert_eq!(ack_all(&mut pair, 60), [(1, 60, Acked)]);
    assert_eq!((pair.window.outstanding(), pair.window.oldest()), (40, Some(61)));
    assert_eq!(pair.window.octets(), (61..=100).sum());
    assert_eq!(nack_all(&mut pair, 99), [(61, 99, Nacked)]);
    assert_eq!(pair.window.octets(), 100);
}

#[test]
fn tag_0_is_everything_so_far() {
    let mut pair = published(3, None);
    assert_eq!(ack_all(&mut pair, 0), [(1, 3, Acked)]);
    assert_eq!(ack_all(&mut pair, 0), []);
    assert_eq!(pair.publish(1, None), 4);
    assert_eq!(nack_all(&mut pair, 0), [(4, 4, Nacked)]);
    assert_eq!(ack_all(&mut Pair::new(ConfirmLimits::default(), 1), 0), []);
}

#[test]
fn a_tag_that_was_never_published_changes_nothing() {
    let mut pair = published(3, None);
    for (tag, multiple) in [
        (0, false),
        (4, false),
        (4, true),
        (u64::MAX, false),
        (u64::MAX, true),
    ] {
        let report = |_, _, _| panic!("{tag} was never published");
        let result = pair.window.confirm(tag, multiple, false, report);
        assert_eq!(result, Err(Problem::UnknownConfirm(tag)));
    }
    pair.check();
    let mut empty = ConfirmWindow::new(ConfirmLimits::default(), 0);
    assert!(empty.confirm(1, true, false, |_, _, _| ()).is_err());
}

#[test]
fn what_is_settled_is_not_reported_again() {
    let mut pair = published(5, None);
    assert_eq!(ack(&mut pair, 1), [(1, 1, Acked)]);
    assert_eq!(ack(&mut pair, 1), []); // gone
    assert_eq!(ack(&mut pair, 3), [(3, 3, Acked)]);
    assert_eq!(nack(&mut pair, 3), []); // behind one that waits
    assert_eq!(ack_all(&mut pair, 1), []);
    assert_eq!(ack_all(&mut pair, 3), [(2, 2, Acked)]);
    assert_eq!(ack_all(&mut pair, 5), [(4, 5, Acked)]);
}

#[test]
fn a_returned_message_counts_as_returned_when_its_ack_comes() {
    let mut pair = published(5, None);
    assert_eq!(pair.publish(6, Some(A)), 6);
    assert_eq!(pair.publish(7, None), 7);
    assert_eq!(pair.returned(A, None), Some(6));
    assert!(pair.window.is_outstanding(6));
    assert_eq!(pair.window.outstanding(), 7);
    assert_eq!(
        ack_all(&mut pair, 7),
        [(1, 5, Acked), (6, 6, Returned), (7, 7, Acked)]
    );
    // The same by itself, out of order and in order.
    let mut pair = published(3, Some(A));
    assert_eq!(pair.returned(A, Some(2)), Some(2));
    assert_eq!(pair.returned(A, Some(3)), Some(3));
    assert_eq!(ack(&mut pair, 3), [(3, 3, Returned)]);
    assert_eq!(ack(&mut pair, 1), [(1, 1, Acked)]);
    assert_eq!(ack(&mut pair, 2), [(2, 2, Returned)]);
}

#[test]
fn a_returned_message_that_is_nacked_is_nacked() {
    let mut pair = published(3, Some(A));
    assert_eq!(pair.returned(A, Some(2)), Some(2));
    assert_eq!(nack_all(&mut pair, 3), [(1, 3, Nacked)]);
}

#[test]
fn returns_of_one_route_go_to_its_publishes_in_order() {
    let mut pair = Pair::new(ConfirmLimits::default(), 1);
    for route in [Some(A), None, Some(B), Some(A), Some(B)] {
        pair.publish(1, route);
    }
    assert_eq!(pair.returned(A, None), Some(1));
    assert_eq!(pair.returned(B, None), Some(3));
    assert_eq!(pair.returned(A, None), Some(4));
    assert_eq!(pair.returned(A, None), None);
    assert_eq!(pair.returned(B, None), Some(5));
    assert_eq!(pair.returned(B, None), None);
}

#[test]
fn a_return_skips_what_was_routed_since_then_and_what_is_settled() {
    let mut pair = Pair::new(ConfirmLimits::default(), 1);
    for route in [None, Some(B), Some(A), Some(B), Some(B)] {
        pair.publish(1, route);
    }
    assert_eq!(pair.returned(A, None), Some(3));
    assert_eq!(ack(&mut pair, 4), [(4, 4, Acked)]);
    // Not 2, whose return would have come before that of 3; not 4, since no return comes after the confirm.
    assert_eq!(pair.returned(B, None), Some(5));
}

#[test]
fn a_return_that_matches_nothing_hides_nothing() {
    let mut pair = published(3, Some(A));
    assert_eq!(pair.returned(B, None), None);
    assert_eq!(pair.returned(("", ""), Some(9)), None);
    assert_eq!(pair.returned(A, None), Some(1));
    assert_eq!(Pair::new(ConfirmLimits::default(), 1).returned(A, None), None);
}

#[test]
fn returns_go_on_after_the_window_has_moved() {
    let mut pair = published(3, Some(A));
    assert_eq!(pair.returned(A, None), Some(1));
    assert_eq!(ack_all(&mut pair, 0), [(1, 1, Returned), (2, 3, Acked)]);
    assert_eq!(pair.publish(1, Some(A)), 4);
    assert_eq!(pair.returned(A, None), Some(4));
}

#[test]
fn a_sequence_is_exact() {
    let mut pair = published(4, Some(A));
    pair.publish(1, None);
    assert_eq!(pair.returned(A, Some(3)), Some(3));
    assert_eq!(pair.returned(A, Some(3)), None); // it can be returned once
    assert_eq!(pair.returned(A, Some(2)), Some(2)); // even out of order
    assert_eq!(pair.returned(A, None), Some(4)); // which moves nothing backwards
    assert_eq!(pair.returned(A, Some(5)), None); // not mandatory
    assert_eq!(pair.returned(A, Some(6)), None);
    assert_eq!(pair.returned(A, Some(0)), None);
    ack_all(&mut pair, 1);
    assert_eq!(pair.returned(A, Some(1)), None); // settled
}

/// The one case in which a return goes to the wrong publish, and what helps.
#[test]
fn a_route_that_ends_between_two_equal_publishes_needs_the_sequence() {
    let mut pair = published(2, Some(A)); // the queue is deleted after the first
    assert_eq!(pair.returned(A, None), Some(1)); // it is about 2
    let mut pair = published(2, Some(A));
    assert_eq!(pair.returned(A, Some(2)), Some(2));
}

#[test]
fn routes_differ_where_their_names_do() {
    let window = ConfirmWindow::new(ConfirmLimits::default(), 1);
    let long = [b'x'; 255];
    let mut zero_before = long;
    zero_before[0] = 0;
    let names: Vec<&[u8]> = vec![
        b"",
        b"\0",
        b"\0\0",
        b"a",
        b"ab",
        b"abc",
        b"bbc",
        b"bc",
        b"c",
        b"abcdefg",
        b"abcdefgh",
        b"abcdefghi",
        b"bbcdefgh",
        b"abcdefghabcdefgh",
        b"\0\0\0\0\0\0\0\0",
        b"\0\0\0\0\0\0\0\0\0",
        b"\x08",
        &long,
        &long[1..],
        &zero_before,
    ];
    let mut hashes = Vec::new();
    for exchange in &names {
        for routing_key in &names {
            let hash = window.route(exchange, routing_key);
            assert_eq!(hash, window.route(exchange, routing_key));
            assert!(!hashes.contains(&hash), "{exchange:?} {routing_key:?}");
            hashes.push(hash);
        }
    }
    let other = ConfirmWindow::new(ConfirmLimits::default(), 2);
    assert_ne!(window.route(b"a", b"b"), other.route(b"a", b"b"));
}

#[test]
fn limits() {
    let limits = ConfirmLimits::default().count(3).octets(10);
    assert_eq!((limits.count, limits.octets), (3, 10));
    let mut pair = Pair::new(limits, 0);
    assert!(pair.window.admits(1000)); // it could never go otherwise
    pair.publish(6, None);
    assert!(pair.window.admits(4) && !pair.window.admits(5) && !pair.window.admits(usize::MAX));
    pair.publish(1, None);
    pair.publish(1, None);
    assert!(!pair.window.admits(0)); // three are in flight
    pair.set_limits(limits.count(4));
    assert!(pair.window.admits(2) && !pair.window.admits(3));
    assert_eq!(ack(&mut pair, 2), [(2, 2, Acked)]); // out of order
    assert!(pair.window.admits(3) && !pair.window.admits(4));
    pair.set_limits(ConfirmLimits::default());
    assert!(pair.window.admits(usize::MAX));
    pair.set_limits(limits.count(0).octets(0));
    assert!(!pair.window.admits(0));
    assert_eq!(ack_all(&mut pair, 0), [(1, 1, Acked), (3, 3, Acked)]);
    assert!(pair.window.admits(1));
}

#[test]
fn a_channel_that_ends_loses_what_waits() {
    let mut pair = published(7, Some(A));
    ack(&mut pair, 1);
    ack(&mut pair, 4);
    pair.returned(A, Some(6));
    assert_eq!(pair.lose(), [(2, 3, ()), (5, 7, ())]);
    assert_eq!((pair.window.outstanding(), pair.window.octets()), (0, 0));
    assert_eq!((pair.window.last_tag(), pair.window.oldest()), (7, None));
    assert_eq!(pair.lose(), []);
    assert_eq!(pair.publish(1, None), 8);
    assert_eq!(ack_all(&mut pair, 0), [(8, 8, Acked)]);
}

#[test]
fn the_memory_of_a_burst_is_given_back() {
    let mut window = ConfirmWindow::new(ConfirmLimits::default(), 0);
    for is_lost in [false, true] {
        for _ in 0..5000 {
            window.push(1, None);
        }
        let last = window.last_tag();
        window.confirm(last - 1, true, false, |_, _, _| ()).unwrap();
        assert!(window.slots.capacity() >= 5000); // it is not over yet
        match is_lost {
            true => window.lose(|_, _| ()),
            false => window.confirm(0, true, false, |_, _, _| ()).unwrap(),
        }
        assert_eq!(window.slots.capacity(), KEPT_SLOTS);
    }
}

#[test]
fn a_steady_state_allocates_nothing() {
    let mut window = ConfirmWindow::new(ConfirmLimits::default(), 0);
    let mut publish_and_ack = |count: usize| {
        for _ in 0..count {
            let route = window.route(b"exchange", b"routing key");
            let tag = window.push(100, Some(route));
            window.returned(b"exchange", b"routing key", None);
            let _ = window.confirm(tag.saturating_sub(100), true, false, |_, _, _| ());
        }
    };
    publish_and_ack(1000);
    let counted = allocation_counter::measure(|| publish_and_ack(10_000));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn outcomes_are_what_was_settled() {
    assert_eq!(ConfirmOutcome::from(Acked), ConfirmOutcome::Acked);
    assert_eq!(ConfirmOutcome::from(Nacked), ConfirmOutcome::Nacked);
    assert_eq!(ConfirmOutcome::from(Returned), ConfirmOutcome::Returned);
}

#[derive(Debug, Clone)]
enum Op {
    Publish(usize, Option<Route>),
    /// Any tag that was published, or the one before or after all.
    Confirm(Index, bool, bool),
    Return(Route, Option<Index>),
    SetLimits(usize, usize),
    Lose,
}

fn op() -> impl Strategy<Value = Op> {
    let route = || select(&ROUTES[..2]);
    prop_oneof![
        20 => (0..50_usize, option::of(route())).prop_map(|(size, route)| Op::Publish(size, route)),
        12 => any::<(Index, bool, bool)>().prop_map(|(tag, multiple, nack)| Op::Confirm(tag, multiple, nack)),
        8 => (route(), option::of(any::<Index>())).prop_map(|(route, tag)| Op::Return(route, tag)),
        1 => (0..10_usize, 0..200_usize).prop_map(|(count, octets)| Op::SetLimits(count, octets)),
        1 => Just(Op::Lose),
    ]
}

/// What a broker does with a message.
#[derive(Debug, Clone, Copy)]
struct Fate {
    route: Option<Route>,
    is_routed: bool,
    is_nacked: bool,
    /// How many publishes later its confirm may come at the earliest.
    delay: usize,
    /// Whether the broker sends confirms now, for many at once where it can.
    confirms: Option<bool>,
    /// How much of what the broker sent the publisher reads before it publishes on.
    reads: usize,
}

/// What a broker sends, in this order.
#[derive(Debug)]
enum Sent {
    Return(Route, u64),
    Confirm(u64, bool, bool),
}

fn fate() -> impl Strategy<Value = Fate> {
    let route = option::weighted(0.7, select(&ROUTES[..3]));
    let confirms = option::weighted(0.4, any::<bool>());
    let is_nacked = prop::bool::weighted(0.1);
    (route, any::<bool>(), is_nacked, 0..8_usize, confirms, 0..4_usize).prop_map(
        |(route, is_routed, is_nacked, delay, confirms, reads)| Fate {
            route,
            is_routed,
            // A message that went to no queue has nobody to nack it.
            is_nacked: is_nacked && is_routed,
            delay,
            confirms,
            reads,
        },
    )
}

impl Fate {
    fn outcome(&self) -> Settled {
        match (self.route, self.is_routed, self.is_nacked) {
            (_, _, true) => Nacked,
            (Some(_), false, _) => Returned,
            _ => Acked,
        }
    }
}

/// A broker that takes every message at once, returns it if it has to, and confirms it later.
#[derive(Default)]
struct Broker {
    /// What is not confirmed: the tag, when it may be, and whether with a nack.
    pending: Vec<(u64, usize, bool)>,
    sent: VecDeque<Sent>,
}

impl Broker {
    fn take(&mut self, tag: u64, now: usize, fate: Fate) {
        if let (Some(route), false) = (fate.route, fate.is_routed) {
            self.sent.push_back(Sent::Return(route, tag));
        }
        self.pending.push((tag, now + fate.delay, fate.is_nacked));
        if let Some(multiple) = fate.confirms {
            self.confirm(now, multiple);
        }
    }

    /// Confirms what may be: for many at once what it can, if asked; the rest one by one and newest first.
    fn confirm(&mut self, now: usize, multiple: bool) {
        if multiple && let Some((_, _, nack)) = self.pending.first().copied() {
            let is_alike = |(_, due, each): &&(u64, usize, bool)| *due <= now && *each == nack;
            if let Some((last, _, _)) = self.pending.iter().take_while(is_alike).last().copied() {
                self.pending.retain(|(tag, _, _)| *tag > last);
                self.sent.push_back(Sent::Confirm(last, true, nack));
            }
        }
        let due: Vec<_> = self.pending.extract_if(.., |(_, due, _)| *due <= now).collect();
        for (tag, _, nack) in due.into_iter().rev() {
            self.sent.push_back(Sent::Confirm(tag, false, nack));
        }
    }
}

/// Publishes all of it, and says what became of each.
fn session(fates: &[Fate], has_sequence: bool) -> Vec<Settled> {
    let mut pair = Pair::new(ConfirmLimits::default(), 3);
    let mut broker = Broker::default();
    let mut outcomes = BTreeMap::new();
    for (now, fate) in fates.iter().enumerate() {
        let tag = pair.publish(1, fate.route);
        broker.take(tag, now, *fate);
        read(&mut pair, &mut broker, fate.reads, has_sequence, &mut outcomes);
    }
    broker.confirm(usize::MAX, true);
    read(&mut pair, &mut broker, usize::MAX, has_sequence, &mut outcomes);
    assert_eq!(pair.window.outstanding(), 0);
    outcomes.into_values().collect()
}

fn read(
    pair: &mut Pair,
    broker: &mut Broker,
    count: usize,
    has_sequence: bool,
    outcomes: &mut BTreeMap<u64, Settled>,
) {
    let count = count.min(broker.sent.len());
    for sent in broker.sent.drain(..count) {
        match sent {
            Sent::Return(route, tag) => {
                assert_eq!(pair.returned(route, has_sequence.then_some(tag)), Some(tag));
            }
            Sent::Confirm(tag, multiple, nack) => {
                outcomes.extend(each_of(&pair.confirm(tag, multiple, nack).unwrap()));
            }
        }
        pair.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done, a naive model says the same, and every publish is settled or lost once.
    #[test]
    fn agrees_with_a_naive_model(ops in vec_of(op(), 0..120), key in any::<u64>()) {
        let mut pair = Pair::new(ConfirmLimits::default(), key);
        let mut ended = Vec::new();
        for op in ops {
            let span = usize::try_from(pair.window.last_tag()).unwrap() + 2;
            match op {
                Op::Publish(size, route) => drop(pair.publish(size, route)),
                Op::Confirm(tag, multiple, nack) => {
                    let settled = pair.confirm(tag.index(span) as u64, multiple, nack).unwrap_or_default();
                    ended.extend(tags_of(&settled));
                }
                Op::Return(route, tag) => drop(pair.returned(route, tag.map(|tag| tag.index(span) as u64))),
                Op::SetLimits(count, octets) => {
                    pair.set_limits(ConfirmLimits::default().count(count).octets(octets));
                }
                Op::Lose => ended.extend(tags_of(&pair.lose())),
            }
            pair.check();
        }
        ended.extend(tags_of(&pair.lose()));
        ended.sort_unstable();
        prop_assert!(ended.into_iter().eq(1..=pair.window.last_tag()));
    }

    /// While a route leads where it led, every message ends as the broker meant it, equal ones included.
    #[test]
    fn every_message_ends_as_the_broker_meant_it(fates in vec_of(fate(), 0..60), routed in any::<[bool; 3]>()) {
        let mut fates = fates;
        for fate in &mut fates {
            if let Some(route) = fate.route {
                fate.is_routed = ROUTES.iter().zip(routed).any(|(each, routed)| *each == route && routed);
                fate.is_nacked &= fate.is_routed;
            }
        }
        let meant: Vec<Settled> = fates.iter().map(Fate::outcome).collect();
        prop_assert_eq!(session(&fates, false), meant);
    }

    /// With the sequence even while routes come and go.
    #[test]
    fn the_sequence_makes_it_exact(fates in vec_of(fate(), 0..60)) {
        let meant: Vec<Settled> = fates.iter().map(Fate::outcome).collect();
        prop_assert_eq!(session(&fates, true), meant);
    }
}
