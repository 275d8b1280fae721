//! `cargo xtask scale`: messages, channels and connections in large numbers, and what they leave behind.

use anyhow::{Result, anyhow};

use crate::process::{cargo, run};

/// What to do in large numbers.
#[derive(Debug, clap::Args)]
pub(crate) struct ScaleOptions {
    /// What to tell the program, such as idle_tokio or --quick; -- --help for all of it
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs it on the embedded broker, unless it is told of another one.
pub(crate) fn main(options: &ScaleOptions) -> Result<()> {
    let mut scale = cargo(["run", "--release", "--manifest-path", "bench/Cargo.toml"]);
    scale
        .args(["--features", "scale", "--bin", "scale", "--"])
        .args(&options.arguments);
    run(&mut scale).map_err(|_| anyhow!("it takes more than it may: see above"))
}
