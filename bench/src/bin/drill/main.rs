//! One adapter's part of the drill: a publisher whose messages are confirmed and two consumers that acknowledge, a connection each,
//! while somebody else does harm to the broker. It tells how far it is, and at the end what became of every message. `cargo xtask
//! drill` starts it, does the harm and judges.

mod pace;
mod record;
mod with_blocking;
mod with_mio;
mod with_tokio;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use amqp_proto::ConnectionParameters;
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::pace::Pace;
use crate::record::Record;

/// How often it says how far it is.
const TELL: Duration = Duration::from_millis(100);
/// How many publishes may be unconfirmed.
const WINDOW: usize = 500;
/// How many deliveries a consumer may hold.
const PREFETCH: u16 = 100;
/// Of a message, in octets.
const BODY: usize = 100;

/// Publish and consume while somebody does harm to the broker.
#[derive(Debug, Parser)]
#[command(name = "drill")]
struct Options {
    adapter: Adapter,
    /// The brokers: amqp://one,two,three
    uri: String,
    /// The queue's name
    #[arg(long)]
    queue: String,
    /// How many messages
    #[arg(long)]
    messages: usize,
    /// How many of them a second
    #[arg(long)]
    rate: u32,
    /// Seconds without a confirm or a delivery after which nothing more is waited for
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Adapter {
    Tokio,
    Blocking,
    Mio,
}

/// What every part of it needs.
#[derive(Debug, Clone)]
struct Drill {
    parameters: ConnectionParameters,
    queue: String,
    pace: Pace,
    record: Arc<Record>,
}

impl Drill {
    /// Each connection begins with another host, so that every broker of three has one.
    fn parameters(&self, connection: usize) -> ConnectionParameters {
        let mut parameters = self.parameters.clone();
        let hosts = parameters.hosts.len();
        parameters.hosts.rotate_left(connection % hosts);
        parameters
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let drill = Drill {
        parameters: ConnectionParameters::from_uri(&options.uri)?,
        queue: options.queue.clone(),
        pace: Pace::new(options.rate),
        record: Arc::new(Record::new(options.messages)),
    };
    let record = Arc::clone(&drill.record);
    let work = match options.adapter {
        Adapter::Tokio => with_tokio::run,
        Adapter::Blocking => with_blocking::run,
        Adapter::Mio => with_mio::run,
    };
    let (over, end) = channel();
    let worker = thread::spawn(move || {
        let _over = over;
        work(&drill)
    });
    if supervise(&record, Duration::from_secs(options.patience), &end) {
        match worker.join() {
            Ok(outcome) => outcome?,
            Err(_) => record.fail("the program panicked".into()),
        }
    }
    print!("{}", record.figures());
    println!("peak {}", peak()?);
    Ok(())
}

/// Tells how far it is until the other end of that channel is dropped: true; or nothing has moved for too long: false.
fn supervise(record: &Record, patience: Duration, end: &Receiver<()>) -> bool {
    let (mut before, mut since) = (record.progress(), Instant::now());
    while end.recv_timeout(TELL) == Err(RecvTimeoutError::Timeout) {
        let now = record.progress();
        println!("confirmed {}", now.confirmed);
        if now != before {
            (before, since) = (now, Instant::now());
        } else if since.elapsed() > patience {
            record.fail(format!("nothing has moved for {patience:?}: {now:?}"));
            return false;
        }
    }
    true
}

/// The most memory that this process ever had, in KiB.
fn peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.context("no VmHWM in /proc/self/status")?;
    Ok(peak.trim().trim_end_matches(" kB").parse()?)
}
