//! Large numbers: messages whose handler awaits a confirmed publish, channels, connections, and connections that do nothing. Each
//! case is a process of its own, as is the broker (the embedded one, or the one that is named), and must keep within what it is
//! allowed of memory, tasks, threads and open files.

mod cases;
#[path = "../../../../amqp-async/scenarios/leaving.rs"]
mod leaving;
mod processes;
mod runtime;
mod usage;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use crate::cases::{CASES, Case};
use crate::processes::{Broker, run_case};

/// Do things in large numbers, and see that nothing grows.
#[derive(Debug, Parser)]
#[command(name = "scale", args_conflicts_with_subcommands = true)]
struct Options {
    /// Only these cases (all)
    cases: Vec<String>,
    /// Only a hundredth of each number, but for the connections that do nothing
    #[arg(long)]
    quick: bool,
    /// A broker to do it on instead of the embedded one: amqp://...
    #[arg(long, value_name = "URI")]
    broker: Option<String>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What this program is when it starts itself.
#[derive(Debug, Subcommand)]
enum Role {
    /// The embedded broker, until the standard input ends
    #[command(hide = true)]
    Broker,
    /// Who fills the queue
    #[command(hide = true)]
    Feed { count: u64, uri: String },
    /// A case
    #[command(hide = true)]
    Case { name: String, count: u64, uri: String },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.role {
        None => all(&options),
        Some(Role::Broker) => processes::serve(),
        Some(Role::Feed { count, uri }) => cases::feed(*count, uri),
        Some(Role::Case { name, count, uri }) => find(name).and_then(|case| case.measure(*count, uri)),
    };
    result.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn find(name: &str) -> Result<&'static Case> {
    let case = CASES.iter().find(|case| case.name == name);
    case.with_context(|| format!("there is no case {name}"))
}

/// Every case goes on when another has failed.
fn all(options: &Options) -> Result<()> {
    let mut cases: Vec<&Case> = options
        .cases
        .iter()
        .map(|name| find(name))
        .collect::<Result<_>>()?;
    if cases.is_empty() {
        cases.extend(CASES);
    }
    let mut failed = Vec::new();
    for case in cases {
        let broker = Broker::start(options.broker.as_deref())?;
        let count = match options.quick && case.is_repeated {
            true => case.count / 100,
            false => case.count,
        };
        if let Err(error) = run_case(case.name, count, &broker.uri) {
            eprintln!("FAILED: {}: {error:#}", case.name);
            failed.push(case.name);
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
