//! `cargo xtask sim`: random programs with random faults on a simulated network, and what must be true of each.

use anyhow::{Result, anyhow};

use crate::process::{cargo, run};

/// Which seeds to try.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SimOptions {
    /// How many seeds to try (500, or 1 with --seed)
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of them: to repeat what one has found
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the simulation as it is in the tests of amqp-testbroker, with optimisation and as many seeds as asked for.
pub(crate) fn main(options: &SimOptions) -> Result<()> {
    let usual = if options.seed.is_some() { 1 } else { 500 };
    let arguments = [
        "test",
        "--quiet",
        "--release",
        "-p",
        "amqp-testbroker",
        "--no-default-features",
        "--test",
        "simulation",
        "--",
        "--exact",
        "--nocapture",
        "seeds::seeds",
    ];
    let mut command = cargo(arguments);
    command
        .env("AMQP_SIM_SEEDS", options.seeds.unwrap_or(usual).to_string())
        .env("AMQP_SIM_SEED", options.seed.unwrap_or(0).to_string());
    run(&mut command).map_err(|_| anyhow!("the simulation has found something: see above"))
}
