//! `cargo xtask ci`: all that must pass before a change is merged, quickest first.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::fuzz::FuzzOptions;
use crate::interop::InteropOptions;
use crate::loom::LoomOptions;
use crate::process::{cargo, root, run};
use crate::sim::SimOptions;
use crate::test::TestOptions;
use crate::{bench, fuzz, interop, loom, sim, test};

/// Runs each step, and stops at the first that fails.
pub(crate) fn main() -> Result<()> {
    step("format", format)?;
    step("clippy", clippy)?;
    step("documentation", documentation)?;
    step("test", || test::main(&TestOptions::default()))?;
    step("sim", || sim::main(&SimOptions::default()))?;
    step("loom", || loom::main(&LoomOptions::default()))?;
    step("interop", || interop::main(&InteropOptions::default()))?;
    step("fuzz-smoke", || fuzz::main(&FuzzOptions::default()))?;
    step("bench --check", bench::instructions)
}

fn step(name: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("\n===== {name}");
    let start = Instant::now();
    let result = body();
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!(
        "===== {name}: {outcome} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result.with_context(|| format!("step {name}"))
}

fn format() -> Result<()> {
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    // Workspaces of their own, which cargo does not visit from the root.
    for folder in ["fuzz", "bench", "no-std-probe"] {
        run(cargo(["fmt", "--check"]).current_dir(root().join(folder)))?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    let deny = ["--", "-D", "warnings"];
    let run_in = |folder: &str, arguments: &[&str]| {
        run(cargo(["clippy"])
            .args(arguments)
            .args(deny)
            .current_dir(root().join(folder)))
    };
    run_in(".", &["--workspace", "--all-targets", "--all-features"])?;
    run_in("fuzz", &["--all-targets"])?;
    // The comparison of whole clients, which no other step compiles, is a feature there.
    run_in("bench", &["--all-targets", "--all-features"])?;
    // It brings its own panic handler, which a test build of it would have twice.
    run_in("no-std-probe", &["--release"])
}

fn documentation() -> Result<()> {
    let arguments = [
        "doc",
        "--workspace",
        "--no-deps",
        "--all-features",
        "--document-private-items",
    ];
    run(cargo(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}
