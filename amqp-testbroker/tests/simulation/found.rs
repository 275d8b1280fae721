//! What the simulation has found, as small as it got.

use amqp_testbroker::LinkConfig;

use crate::case::{Act, Case, Mode, Op, Publish, Route, Settings, Step};
use crate::world::run;

#[track_caller]
fn check(links: Vec<LinkConfig>, ops: impl IntoIterator<Item = Op>) {
    let step = |op| Step {
        after: 0,
        act: Act::Do(op),
    };
    let case = Case {
        seed: 0,
        settings: Settings::PLAIN,
        links,
        steps: ops.into_iter().map(step).collect(),
    };
    if let Err(finding) = run(&case, true) {
        panic!("{:#?}", finding);
    }
}

fn open(slot: u8, mode: Mode) -> Op {
    Op::Open { slot, mode }
}

fn publish(slot: u8, route: Route) -> Op {
    Op::Publish(Publish {
        slot,
        route,
        mandatory: false,
        persistent: true,
        size: 100,
        count: 2,
    })
}

/// Seed 9895: what came behind the publish that was refused counted as held for ever.
#[test]
fn a_commit_that_fails_gives_its_memory_back() {
    let (slot, exchange) = (0, 1);
    check(
        Vec::new(),
        [
            open(slot, Mode::Transaction),
            Op::DeclareExchange { slot, exchange },
            publish(slot, Route::Exchange(exchange, 0)),
            Op::DeleteExchange { slot, exchange },
            Op::Commit { slot },
        ],
    );
}
