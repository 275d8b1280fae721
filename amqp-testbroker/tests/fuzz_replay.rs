//! Runs what fuzzing has found, and some thousand changes to it, through the fuzz targets again: no libFuzzer needed.

#[path = "../../fuzz/replay.rs"]
mod replay;

use std::collections::BTreeSet;
use std::fs;

use amqp_testbroker::fuzzing::TARGETS;

/// Of all crates.
#[test]
fn every_target_has_a_corpus_and_every_folder_a_target() {
    let all = amqp_proto::fuzzing::TARGETS.iter().chain(TARGETS);
    let targets: BTreeSet<String> = all.map(|(name, _)| (*name).into()).collect();
    let sources = names("fuzz_targets");
    let sources: BTreeSet<String> = sources.iter().map(|name| name.replace(".rs", "")).collect();
    assert_eq!(sources, targets);
    assert_eq!(names("corpus"), targets);
    assert!(names("regressions").is_subset(&targets));
}

#[test]
fn corpora_and_regressions_pass() {
    replay::corpora_and_regressions_pass(TARGETS);
}

#[test]
fn changed_inputs_pass() {
    replay::changed_inputs_pass(TARGETS);
}

/// What stands in a folder, files such as a README left out.
fn names(folder: &str) -> BTreeSet<String> {
    let folder = replay::folder(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".md")).collect()
}
