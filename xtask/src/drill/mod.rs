//! `cargo xtask drill`: harm is done to a cluster while clients publish and consume, and not a message may be missing.

mod figures;
mod harm;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use self::figures::{Figures, Limits};
use self::harm::{Broker, Harm};
use crate::process::{cargo, run};

/// Who says nothing for so long will not say anything any more.
const SILENCE: Duration = Duration::from_secs(30);

/// What is done to the broker, and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct DrillOptions {
    /// Whose part it is
    #[arg(long, value_enum, default_value_t = Adapter::All)]
    adapter: Adapter,
    /// How many messages
    #[arg(long, default_value_t = 100_000)]
    messages: usize,
    /// How many of them a second
    #[arg(long, default_value_t = 1000)]
    rate: usize,
    /// How often the node that leads the queue is killed (or what else is done) while they flow
    #[arg(long, default_value_t = 3)]
    kills: usize,
    /// Instead of killing the node, stop its process for so many seconds (20)
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "20")]
    #[arg(conflicts_with_all = ["operator", "cluster"])]
    pause: Option<u64>,
    /// Instead of killing the node, close all connections as an operator would
    #[arg(long, conflicts_with = "cluster")]
    operator: bool,
    /// Somebody else's brokers: amqp://one,two,three
    #[arg(long, value_name = "URI", requires = "command")]
    cluster: Option<String>,
    /// The shell command that does harm to them
    #[arg(long, requires = "cluster")]
    command: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Adapter {
    Tokio,
    Blocking,
    Mio,
    All,
}

/// Each adapter in a program of its own, one after the other.
pub(crate) fn main(options: &DrillOptions) -> Result<()> {
    let adapters = match options.adapter {
        Adapter::Tokio => &["tokio"][..],
        Adapter::Blocking => &["blocking"],
        Adapter::Mio => &["mio"],
        Adapter::All => &["tokio", "blocking", "mio"],
    };
    run(&mut program("build"))?;
    let broker = match (&options.cluster, &options.command) {
        (Some(uri), Some(command)) => Broker::foreign(uri, command),
        _ => Broker::private(options.harm())?,
    };
    let mut faults = Vec::new();
    println!("{}", figures::HEAD);
    for adapter in adapters {
        match drill(adapter, options, &broker) {
            Ok((figures, limits)) => {
                println!("{}", figures.row(adapter, &limits));
                let found = figures.faults(options.messages, &limits);
                faults.extend(found.into_iter().map(|fault| format!("{adapter}: {fault}")));
            }
            Err(error) => faults.push(format!("{adapter}: {error:#}")),
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

impl DrillOptions {
    const fn harm(&self) -> Harm {
        if let Some(seconds) = self.pause {
            Harm::Pause(Duration::from_secs(seconds))
        } else if self.operator {
            Harm::Operator
        } else {
            Harm::Kill
        }
    }

    /// How many messages are confirmed when harm is done: the times are spread over all of them.
    fn moments(&self) -> impl Iterator<Item = usize> {
        (1..=self.kills).map(|index| self.messages * index / (self.kills + 1))
    }
}

fn program(how: &str) -> Command {
    let mut command = cargo([how, "--quiet", "--release", "--manifest-path", "bench/Cargo.toml"]);
    command.args(["--features", "drill", "--bin", "drill"]);
    command
}

/// Runs one program, and does harm to the broker when it is so far.
fn drill(adapter: &str, options: &DrillOptions, broker: &Broker) -> Result<(Figures, Limits)> {
    eprintln!("drill: {adapter}");
    let queue = format!("drill.{adapter}");
    let (_program, lines) = Program::start(adapter, &queue, options, broker)?;
    let mut moments = options.moments().peekable();
    let mut figures = Figures::default();
    let mut limits = broker.limits();
    while let Some(line) = next(&lines)? {
        figures.add(&line)?;
        let confirmed = figures.get("confirmed");
        if moments.next_if(|moment| *moment <= confirmed).is_some() {
            limits.outage(broker.harm(&queue)?);
        }
    }
    let left = moments.count();
    ensure!(
        left == 0,
        "all messages were confirmed before the last {left} times; try more messages"
    );
    figures.finish()?;
    Ok((figures, limits))
}

/// What it says next; nothing if it has ended.
fn next(lines: &Receiver<String>) -> Result<Option<String>> {
    use std::sync::mpsc::RecvTimeoutError;
    match lines.recv_timeout(SILENCE) {
        Ok(line) => Ok(Some(line)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => bail!("the program has said nothing for {SILENCE:?}"),
    }
}

/// The program, which ends no later than this does.
struct Program(Child);

impl Program {
    fn start(
        adapter: &str,
        queue: &str,
        options: &DrillOptions,
        broker: &Broker,
    ) -> Result<(Self, Receiver<String>)> {
        let mut command = program("run");
        command.args(["--", adapter, &broker.uri(), "--queue", queue]);
        command.args(["--messages", &options.messages.to_string()]);
        command.args(["--rate", &options.rate.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().context("its standard output")?;
        let (line, lines) = channel();
        // It is read all the time, for it must not wait for us while harm is done.
        thread::spawn(move || {
            for text in BufReader::new(output).lines().map_while(Result::ok) {
                if line.send(text).is_err() {
                    break;
                }
            }
        });
        Ok((Self(child), lines))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If it has ended, this fails. Cargo's end is not the program's, but it cannot write to us any more and ends as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
