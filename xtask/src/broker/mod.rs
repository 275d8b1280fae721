//! A RabbitMQ of this checkout's own, in `target/broker`: its data, log, cookie, certificates, ports and epmd
//! are private, so it meets neither the system's broker nor that of another checkout. Three of them in `target/cluster` are a
//! cluster.

mod cluster;
mod config;
mod endpoint;
mod install;
mod lease;
mod node;
mod ports;
mod release;
mod tls;

use std::io::{self, Read, Write};
use std::process;

use anyhow::{Context, Result};

pub(crate) use self::cluster::{Cluster, ClusterCommand, Member, main as cluster};
pub(crate) use self::endpoint::{Client, Endpoint};
pub(crate) use self::lease::{ClusterLease, Lease};
use self::node::{Node, Site};
pub(crate) use self::release::release;

/// What to do with the private RabbitMQ.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BrokerCommand {
    /// Start it (installing RabbitMQ if need be), and print its addresses as shell variables
    Start,
    /// End it and delete all it had
    Stop {
        /// Wait for the end of the standard input first: whoever holds the other end may die any way it likes
        #[arg(long, hide = true)]
        at_end_of_input: bool,
    },
    /// Kill it without warning, and start it again with its data and on its ports
    Restart,
    /// Say whether it runs, and print its addresses
    Status,
    /// Run rabbitmqctl on it
    Ctl {
        /// The arguments of rabbitmqctl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

const NOT_RUNNING: &str = "the private RabbitMQ is not running; type: cargo xtask broker start";

/// `cargo xtask broker`.
pub(crate) fn main(command: BrokerCommand) -> Result<()> {
    match command {
        BrokerCommand::Start => start(),
        BrokerCommand::Stop {
            at_end_of_input: false,
        } => stop(),
        BrokerCommand::Stop {
            at_end_of_input: true,
        } => stop_at_end_of_input(),
        BrokerCommand::Restart => restart(),
        BrokerCommand::Status => status(),
        BrokerCommand::Ctl { arguments } => ctl(&arguments),
    }
}

fn start() -> Result<()> {
    let node = if let Some(node) = Site::broker().running() {
        eprintln!("the private RabbitMQ is running already");
        node
    } else {
        Site::broker().start()?
    };
    print_endpoint(&node)
}

fn stop() -> Result<()> {
    let outcome = if Site::broker().clear()? {
        "has stopped"
    } else {
        "was not running"
    };
    eprintln!("the private RabbitMQ {outcome}");
    Ok(())
}

fn stop_at_end_of_input() -> Result<()> {
    io::stdin().read_to_end(&mut Vec::new())?;
    Site::broker().clear().map(drop)
}

fn restart() -> Result<()> {
    Site::broker().alive().context(NOT_RUNNING)?.restart()
}

fn status() -> Result<()> {
    let node = Site::broker().running().context(NOT_RUNNING)?;
    eprintln!(
        "the private RabbitMQ is running (its log: {})",
        node.site.log_file().display()
    );
    print_endpoint(&node)
}

/// Written at once, so that `| head -1` is not an error.
fn print_endpoint(node: &Node) -> Result<()> {
    Ok(io::stdout().write_all(node.endpoint()?.to_string().as_bytes())?)
}

fn ctl(arguments: &[String]) -> Result<()> {
    let node = Site::broker().alive().context(NOT_RUNNING)?;
    let status = node.control(arguments).status()?;
    // Scripts tell rabbitmqctl's failures apart by its exit code.
    process::exit(status.code().unwrap_or(1));
}
