//! `cargo xtask fuzz-smoke`: a short run of each fuzz target.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};

use crate::process::{cargo, nightly_cargo, read, root, run, succeeds};

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct FuzzOptions {
    /// How long to fuzz each target
    #[arg(long, default_value_t = Self::default().seconds)]
    seconds: u32,
    /// The targets (all if none is named)
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

impl Default for FuzzOptions {
    fn default() -> Self {
        Self {
            seconds: 6,
            targets: Vec::new(),
        }
    }
}

/// Builds all targets, then runs each until its time is up or it finds something.
pub(crate) fn main(options: &FuzzOptions) -> Result<()> {
    ensure_tools()?;
    let known = read(&mut nightly_cargo(["fuzz", "list"]))?;
    let known: Vec<_> = known.lines().map(String::from).collect();
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("no fuzz target {unknown}; there are: {}", known.join(", "));
    }
    run(&mut nightly_cargo(["fuzz", "build"]))?;
    let targets = if options.targets.is_empty() {
        &known
    } else {
        &options.targets
    };
    for target in targets {
        eprintln!("fuzzing {target} for {} s", options.seconds);
        fuzz(target, options.seconds)?;
    }
    Ok(())
}

/// Whether the toolchain that fuzzing needs is there.
pub(crate) fn has_nightly() -> bool {
    succeeds(Command::new("rustup").args(["run", "nightly", "rustc", "-V"]))
}

fn ensure_tools() -> Result<()> {
    if !has_nightly() {
        bail!("fuzzing needs a nightly compiler; type: rustup toolchain install nightly");
    }
    if !succeeds(&mut cargo(["fuzz", "--version"])) {
        eprintln!("installing cargo-fuzz");
        run(&mut cargo(["install", "--locked", "cargo-fuzz"]))?;
    }
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    // libFuzzer writes what it discovers into the first folder and only reads the others.
    let discovered = root().join("target/fuzz-corpus").join(target);
    fs::create_dir_all(&discovered)?;
    let mut command = nightly_cargo(["fuzz", "run", target]);
    command.arg(discovered);
    command.args(existing(root().join("fuzz/corpus").join(target)));
    // Not a line for every new input. A finding is told all the same.
    command.args([
        "--",
        "-verbosity=0",
        "-rss_limit_mb=512",
        "-timeout=5",
        "-print_final_stats=1",
    ]);
    command.arg(format!("-max_total_time={seconds}"));
    if let Some(dictionary) = existing(root().join(format!("fuzz/dictionaries/{target}.dict"))) {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    run(&mut command).map_err(
        |error| match newest_file(&root().join("fuzz/artifacts").join(target)) {
            Some(artifact) => anyhow!("{target} found something: {}\n{error}", artifact.display()),
            None => error,
        },
    )
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.exists().then_some(path)
}

fn newest_file(folder: &Path) -> Option<PathBuf> {
    let files = folder.read_dir().ok()?.flatten();
    let modified = |file: &fs::DirEntry| {
        file.metadata()
            .and_then(|data| data.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    files.max_by_key(modified).map(|file| file.path())
}
