//! Whole clients beside one another: runs each in each case against the null broker and prints the table.
//!
//! Every measurement is a process of its own, and they take turns: whatever else the machine does meets all of them.

mod goals;
mod one_core;
mod processes;
mod system_calls;
mod table;

use amqp_bench::clients::{CASES, Case, PEERS, Placement, RABBITMQ_C};
use anyhow::{Result, ensure};
use clap::Parser;

use crate::one_core::OneCore;
use crate::processes::{Broker, Client};
use crate::system_calls::Counter;
use crate::table::{Row, Sample};

/// Measures whole clients against a broker that does next to nothing.
#[derive(Debug, Parser)]
struct Options {
    /// How often everything is measured; the table shows medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this case; may be repeated
    #[arg(long = "case", value_name = "NAME", value_parser = CASES.map(|case| case.name))]
    cases: Vec<String>,
    /// Only this client; may be repeated
    #[arg(long = "peer", value_name = "NAME", value_parser = PEERS)]
    peers: Vec<String>,
    /// Let the clients use all cores, but in `rpc_echo`: the goals are for one
    #[arg(long)]
    all_cores: bool,
    /// How many messages, in every case
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let has_rabbitmq_c = processes::build()?;
    let broker = Broker::start()?;
    let broker_on_one_core = {
        let _one_core = OneCore::enter()?;
        Broker::start()?
    };
    let counter = Counter::find();
    let mut rows = options.rows();
    rows.retain(|row| has_rabbitmq_c || row.peer != RABBITMQ_C);
    for round in 1..=options.rounds {
        for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
            eprintln!(
                "round {round} of {}: {} {}",
                options.rounds, row.case.name, row.peer
            );
            let messages = options.messages.unwrap_or(row.case.messages);
            let messages = messages.min(row.case.most_messages(row.peer));
            let (one_core, broker) = match row.case.placement() {
                Placement::Apart if options.all_cores => (None, &broker),
                Placement::Apart => (Some(OneCore::enter()?), &broker),
                Placement::Shared => (Some(OneCore::enter()?), &broker_on_one_core),
            };
            let sample = measure(row, messages, broker, counter);
            drop(one_core);
            match sample {
                Ok(sample) => row.samples.push(sample),
                Err(error) => {
                    eprintln!("{} {}: {error:#}", row.case.name, row.peer);
                    row.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    table::print(&rows);
    goals::print(&rows);
    if !has_rabbitmq_c && wants(&options.peers, RABBITMQ_C) {
        println!(
            "\nNOT RUN: rabbitmq-c. It takes librabbitmq with its headers (Debian: librabbitmq-dev) and cc."
        );
    }
    println!("\n{}", counter.map_or(system_calls::NO_COUNTER, Counter::note));
    say_failures(&rows)
}

impl Options {
    fn rows(&self) -> Vec<Row> {
        let cases = CASES.iter().filter(|case| wants(&self.cases, case.name));
        let row = |case: &'static Case, peer| Row {
            case,
            peer,
            samples: Vec::new(),
            failure: None,
        };
        let row = |case| {
            let peers = PEERS.iter().filter(|peer| wants(&self.peers, peer));
            peers.map(move |peer| row(case, *peer))
        };
        cases.flat_map(row).collect()
    }
}

/// What others fail at is to be seen, and no reason to measure nobody else. An error if ours failed.
fn say_failures(rows: &[Row]) -> Result<()> {
    let failures = || rows.iter().filter_map(|row| Some((row, row.failure.as_ref()?)));
    for (row, failure) in failures() {
        println!("\nFAILED: {} {}: {failure}", row.case.name, row.peer);
    }
    let ours = failures().filter(|(row, _)| row.peer.starts_with("ours")).count();
    ensure!(ours == 0, "ours failed in {ours} cases");
    Ok(())
}

/// Whether the user named it, or named nothing.
fn wants(named: &[String], name: &str) -> bool {
    named.is_empty() || named.iter().any(|wanted| wanted == name)
}

/// Three processes, since counting takes time: one for the time, one for the allocations, one for the system calls.
fn measure(row: &Row, messages: u64, broker: &Broker, counter: Option<Counter>) -> Result<Sample> {
    let client = Client {
        peer: row.peer,
        case: row.case.name,
        port: broker.port,
        messages,
    };
    let time = client.run("client")?;
    let allocations = client.run("client_counting")?.allocations;
    ensure!(!time.elapsed.is_zero(), "it took no time at all");
    let per_message = |number: f64| number / messages as f64;
    Ok(Sample {
        cpu: per_message(time.cpu.as_nanos() as f64),
        allocations: per_message(allocations as f64),
        system_calls: counter.map(|counter| counter.per_message(&client)).transpose()?,
        peak_rss: time.peak_rss as f64 / 1024.0,
        round_trip: (!time.round_trip.is_zero()).then(|| time.round_trip.as_nanos() as f64 / 1000.0),
        rate: messages as f64 / time.elapsed.as_secs_f64(),
    })
}
