//! Runs what fuzzing has found, and some thousand changes to it, through the fuzz targets again: no libFuzzer needed.
#![expect(clippy::disallowed_methods, reason = "the corpora are files")]

#[path = "../../fuzz/replay.rs"]
mod replay;

use amqp_proto::fuzzing::TARGETS;

#[test]
fn corpora_and_regressions_pass() {
    replay::corpora_and_regressions_pass(TARGETS);
}

#[test]
fn changed_inputs_pass() {
    replay::changed_inputs_pass(TARGETS);
}
