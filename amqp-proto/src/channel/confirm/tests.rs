use alloc::vec::Vec;

use super::Settled::Acked;
use super::model::{Pair, ROUTES, Route};
use super::*;

const A: Route = ROUTES[0];

fn pair() -> Pair {
    Pair::new(ConfirmLimits::default(), 1)
}

/// That many publishes of one octet, mandatory on one route or not.
fn published(count: usize, route: Option<Route>) -> Pair {
    let mut pair = pair();
    for _ in 0..count {
        pair.publish(1, route);
    }
    pair
}

fn ranges(window: &mut ConfirmWindow, tag: u64, multiple: bool, nack: bool) -> Vec<(u64, u64, Settled)> {
    let mut ranges = Vec::new();
    let report = |first, last, settled| ranges.push((first, last, settled));
    window.confirm(tag, multiple, nack, report).unwrap();
    ranges
}

#[test]
fn acks_out_of_order() {
    let mut window = published(3, None).window;
    assert_eq!(ranges(&mut window, 3, false, false), [(3, 3, Acked)]);
    assert_eq!(ranges(&mut window, 1, false, false), [(1, 1, Acked)]);
    assert_eq!(ranges(&mut window, 2, false, false), [(2, 2, Acked)]);
    assert_eq!(window.outstanding(), 0);
}

#[test]
fn a_returned_message_counts_as_returned_when_its_ack_comes() {
    let mut pair = published(5, Some(A));
    assert_eq!(pair.returned(A, Some(3)), Some(3));
    assert_eq!(
        ranges(&mut pair.window, 5, true, false),
        [(1, 2, Acked), (3, 3, Settled::Returned), (4, 5, Acked)]
    );
}
