//! `cargo xtask loom`: whether a wake-up can be lost in amqp-async, in whatever order threads take its lock.

use std::env;

use anyhow::{Result, anyhow};

use crate::process::{cargo, run};

/// How far to look.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct LoomOptions {
    /// How many times a thread that could go on is stopped, instead of what each model says: each one more takes five times as long
    #[arg(long)]
    preemptions: Option<usize>,
    /// Only the models with this in their path
    model: Option<String>,
}

/// Runs the models, built apart: the flag is for every crate, and would have all of them built anew each time.
pub(crate) fn main(options: &LoomOptions) -> Result<()> {
    let mut command = cargo(["test", "--quiet", "-p", "amqp-async", "--test", "loom"]);
    command.args(["--target-dir", "target/loom", "--"]);
    // A model that fails mostly ends the process, and with it what the test would have said.
    command.arg("--nocapture").args(&options.model);
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    command.env("RUSTFLAGS", format!("{flags} --cfg loom"));
    if let Some(preemptions) = options.preemptions {
        command.env("LOOM_MAX_PREEMPTIONS", preemptions.to_string());
    }
    run(&mut command).map_err(|_| anyhow!("a model has failed: the first message above says which"))
}
