//! `cargo xtask bench`: the measurements of `bench/`.

use std::process::Command;

use anyhow::Result;

use crate::apt;
use crate::process::{cargo, root, run, succeeds};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchOptions {
    /// Count instructions with valgrind instead: the same on every run, so a change can be held against it
    #[arg(long)]
    check: bool,
}

/// Measures time with criterion, or counts instructions.
pub(crate) fn main(options: &BenchOptions) -> Result<()> {
    if options.check {
        instructions()
    } else {
        run(cargo(["bench"]).current_dir(root().join("bench")))
    }
}

/// Counts instructions.
pub(crate) fn instructions() -> Result<()> {
    if !succeeds(Command::new("valgrind").arg("--version")) {
        apt::install("valgrind")?;
    }
    run(&mut cargo([
        "run",
        "--release",
        "--manifest-path",
        "bench/Cargo.toml",
        "--bin",
        "instructions",
    ]))
}
