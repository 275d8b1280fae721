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
    /// Compare whole clients instead, ours and others, against a broker that does next to nothing
    #[arg(long, conflicts_with = "check")]
    peers: bool,
    /// What to tell the comparison, such as --rounds 5; -- --help for all of it
    #[arg(last = true, requires = "peers")]
    arguments: Vec<String>,
}

/// Measures time with criterion, or counts instructions, or compares clients.
pub(crate) fn main(options: &BenchOptions) -> Result<()> {
    if options.check {
        instructions()
    } else if options.peers {
        peers(&options.arguments)
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

/// Compares whole clients.
fn peers(arguments: &[String]) -> Result<()> {
    // For where perf may not count; that is tried first.
    if !succeeds(Command::new("strace").arg("-V"))
        && let Err(error) = apt::install("strace")
    {
        eprintln!("the system calls may not be counted: {error:#}");
    }
    if !succeeds(Command::new("cc").args(["-fsyntax-only", "-include", "amqp.h", "-x", "c", "/dev/null"]))
        && let Err(error) = apt::install("librabbitmq-dev")
    {
        eprintln!("rabbitmq-c may be missing from the comparison: {error:#}");
    }
    let mut compare = cargo(["run", "--release", "--manifest-path", "bench/Cargo.toml"]);
    run(compare
        .args(["--features", "clients", "--bin", "compare", "--"])
        .args(arguments))
}
