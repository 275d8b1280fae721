//! Operations on the window of publishes that wait for their confirm.

use arbitrary::{Arbitrary, Unstructured};

use super::check::operations;
use crate::ConfirmLimits;
use crate::channel::confirm::model::{Pair, ROUTES, Route, tags_of};

#[derive(Debug, Arbitrary)]
enum Op {
    Publish {
        count: u8,
        size: u16,
        route: Option<u8>,
    },
    /// Of a publish near the oldest one that waits.
    Confirm {
        tag: i8,
        multiple: bool,
        nack: bool,
    },
    ConfirmAny {
        tag: u64,
        multiple: bool,
        nack: bool,
    },
    ConfirmAll {
        nack: bool,
    },
    Return {
        route: u8,
    },
    /// As the others, but with the tag of a publish near the oldest one that waits.
    ReturnExact {
        route: u8,
        tag: i8,
    },
    SetLimits {
        count: u8,
        octets: u16,
    },
    Lose,
}

/// Whatever a publisher and a broker do to a window, it says what a naive model says, and each publish is settled or lost once.
pub fn confirm_window(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(key) = u64::arbitrary(&mut u) else {
        return;
    };
    let mut pair = Pair::new(ConfirmLimits::default(), key);
    let mut ended = Vec::new();
    for op in operations(&mut u) {
        apply(&mut pair, op, &mut ended);
        pair.check();
    }
    ended.extend(tags_of(&pair.lose()));
    ended.sort_unstable();
    assert!(ended.into_iter().eq(1..=pair.window.last_tag()));
}

fn apply(pair: &mut Pair, op: Op, ended: &mut Vec<u64>) {
    let oldest = pair.window.oldest().unwrap_or_else(|| pair.window.last_tag());
    let near = |tag: i8| oldest.saturating_add_signed(tag.into());
    let (tag, multiple, nack) = match op {
        Op::Publish { count, size, route } => {
            for _ in 0..count {
                pair.publish(size.into(), route.map(chosen));
            }
            return;
        }
        Op::Return { route } => {
            pair.returned(chosen(route), None);
            return;
        }
        Op::ReturnExact { route, tag } => {
            pair.returned(chosen(route), Some(near(tag)));
            return;
        }
        Op::SetLimits { count, octets } => {
            pair.set_limits(ConfirmLimits::default().count(count.into()).octets(octets.into()));
            return;
        }
        Op::Lose => return ended.extend(tags_of(&pair.lose())),
        Op::Confirm { tag, multiple, nack } => (near(tag), multiple, nack),
        Op::ConfirmAny { tag, multiple, nack } => (tag, multiple, nack),
        Op::ConfirmAll { nack } => (0, true, nack),
    };
    if let Ok(settled) = pair.confirm(tag, multiple, nack) {
        ended.extend(tags_of(&settled));
    }
}

fn chosen(route: u8) -> Route {
    let [a, b, c, d] = ROUTES;
    match route % 4 {
        0 => a,
        1 => b,
        2 => c,
        _ => d,
    }
}
