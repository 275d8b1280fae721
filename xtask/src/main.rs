//! The project's own commands: `cargo xtask --help`.

mod apt;
mod bench;
mod broker;
mod ci;
mod demo;
mod drill;
mod features;
mod fuzz;
mod interop;
mod loom;
mod parity;
mod process;
mod scale;
mod sim;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Xtask {
    /// Manage a RabbitMQ of this checkout's own: nothing in it is shared with the system's
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Manage a cluster of three such RabbitMQs
    #[command(subcommand)]
    Cluster(broker::ClusterCommand),
    /// Run the example session, on AMQP_URL if it is set, else on the private RabbitMQ
    Demo,
    /// Run every test and example, on the private RabbitMQ or the broker named here
    Test(test::TestOptions),
    /// Run random programs with random faults on a simulated network
    Sim(sim::SimOptions),
    /// Try the orders in which threads can take the lock of amqp-async
    Loom(loom::LoomOptions),
    /// Do the RabbitMQ tutorials with pika and aio-pika, on the test broker or the one named here
    Interop(interop::InteropOptions),
    /// Fuzz each target for a short while
    FuzzSmoke(fuzz::FuzzOptions),
    /// Measure speed: wall clock, or with --check instruction counts
    Bench(bench::BenchOptions),
    /// Do things in large numbers, and see that nothing grows: messages, channels, connections
    Scale(scale::ScaleOptions),
    /// Kill nodes of a cluster while clients publish and consume, and see that no message is missing
    Drill(drill::DrillOptions),
    /// Write docs/parity.md from what the scenarios reported in the runs of `test` so far
    Parity,
    /// Do everything that must pass before a change is merged
    Ci,
}

fn main() -> ExitCode {
    let result = match Xtask::parse() {
        Xtask::Broker(command) => broker::main(command),
        Xtask::Cluster(command) => broker::cluster(command),
        Xtask::Demo => demo::main(),
        Xtask::Test(options) => test::main(&options),
        Xtask::Sim(options) => sim::main(&options),
        Xtask::Loom(options) => loom::main(&options),
        Xtask::Interop(options) => interop::main(&options),
        Xtask::FuzzSmoke(options) => fuzz::main(&options),
        Xtask::Bench(options) => bench::main(&options),
        Xtask::Scale(options) => scale::main(&options),
        Xtask::Drill(options) => drill::main(&options),
        Xtask::Parity => parity::main(),
        Xtask::Ci => ci::main(),
    };
    // Not returned from here: under RUST_BACKTRACE a page of our own functions would bury the message.
    result.map_or_else(
        |error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
