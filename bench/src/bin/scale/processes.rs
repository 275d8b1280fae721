//! This program, started again: the broker, and each case.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use amqp_testbroker::TestBroker;
use anyhow::{Context, Result, bail};

/// A broker, for as long as this value lives.
pub(crate) struct Broker {
    /// None if it is somebody else's.
    child: Option<Child>,
    pub(crate) uri: String,
}

impl Broker {
    pub(crate) fn start(given: Option<&str>) -> Result<Self> {
        if let Some(uri) = given {
            let uri = uri.to_owned();
            return Ok(Self { child: None, uri });
        }
        let mut child = Command::new(env::current_exe()?)
            .arg("broker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the broker does not start")?;
        let output = child.stdout.take().context("the broker's output")?;
        let mut uri = String::new();
        BufReader::new(output).read_line(&mut uri)?;
        Ok(Self {
            child: Some(child),
            uri: uri.trim().to_owned(),
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It ends with its standard input.
            drop(child.stdin.take());
            if let Err(error) = child.wait() {
                eprintln!("the broker does not end: {error}");
            }
        }
    }
}

/// The embedded broker, until the standard input ends.
pub(crate) fn serve() -> Result<()> {
    let broker = TestBroker::start()?;
    println!("{}", broker.uri());
    io::stdout().flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(broker.shutdown()?)
}

/// A case in a process of its own.
pub(crate) fn run_case(name: &str, count: u64, uri: &str) -> Result<()> {
    run_self(&["case", name, &count.to_string(), uri])
}

/// Has another process fill the queue.
pub(crate) fn feed(count: u64, uri: &str) -> Result<()> {
    run_self(&["feed", &count.to_string(), uri])
}

/// Left to itself, glibc keeps twice as much of its heap as the largest piece had that was ever given back (`mallopt(3)`), and what is
/// measured would be that: so these are as they are at first, for good.
const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
];

fn run_self(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(env::current_exe()?);
    let status = command.args(arguments).envs(ALLOCATOR).status()?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}
