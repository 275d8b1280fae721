//! Runs what fuzzing has found, and some thousand changes to it, through the fuzz targets again: no libFuzzer needed.

#[path = "../../fuzz/replay.rs"]
mod replay;

use amqp_testbroker::fuzzing::TARGETS;

#[test]
fn every_target_has_a_corpus_and_every_folder_a_target() {
    let all = amqp_proto::fuzzing::TARGETS.iter().chain(TARGETS);
    replay::every_target_has_a_corpus_and_every_folder_a_target(all.map(|(name, _)| *name));
}

#[test]
fn corpora_and_regressions_pass() {
    replay::corpora_and_regressions_pass(TARGETS);
}

#[test]
fn changed_inputs_pass() {
    replay::changed_inputs_pass(TARGETS);
}
