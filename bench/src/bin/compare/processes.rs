//! The other programs of this package: the null broker, and the clients.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use amqp_bench::clients::{Report, build_rabbitmq_c};
use anyhow::{Context, Result, bail};

/// Has cargo build them, as `cargo run --bin compare` does not; says whether there is rabbitmq-c among them.
pub(crate) fn build() -> Result<bool> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--bins",
            "--features",
            "clients",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo build failed: {status}");
    }
    let folder = env::current_exe()?;
    build_rabbitmq_c(folder.parent().context("where this program is")?)
}

/// Where the program is: beside this one.
fn program(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!(
            "{} is not there: was this program built with --release?",
            path.display()
        );
    }
    Ok(path)
}

/// The null broker, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
    pub(crate) port: u16,
}

impl Broker {
    pub(crate) fn start() -> Result<Self> {
        let mut child = Command::new(program("null_broker")?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("null_broker does not start")?;
        let output = child.stdout.take().context("null_broker's output")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port)?;
        let port = port.trim().parse().context("null_broker names no port")?;
        Ok(Self { child, port })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It ends with its standard input.
        drop(self.child.stdin.take());
        if let Err(error) = self.child.wait() {
            eprintln!("null_broker does not end: {error}");
        }
    }
}

/// One client in one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) peer: &'static str,
    pub(crate) case: &'static str,
    pub(crate) port: u16,
    pub(crate) messages: u64,
}

impl Client {
    /// Warms up and measures itself.
    pub(crate) fn run(&self, name: &str) -> Result<Report> {
        let warm_up = self.messages.div_ceil(10);
        let mut command = Command::new(program(name)?);
        let output = output(command.args(self.arguments(warm_up, self.messages)))?;
        output.trim().parse()
    }

    /// What it prints when it is run by another program, without warming up.
    pub(crate) fn run_under(&self, wrapper: &[&str], messages: u64) -> Result<String> {
        let [wrapper, arguments @ ..] = wrapper else {
            bail!("no program to run it under");
        };
        let mut command = Command::new(wrapper);
        command.args(arguments).arg(program("client")?);
        output(command.args(self.arguments(0, messages)))
    }

    fn arguments(&self, warm_up: u64, messages: u64) -> [String; 5] {
        [
            self.peer.to_owned(),
            self.case.to_owned(),
            warm_up.to_string(),
            messages.to_string(),
            self.port.to_string(),
        ]
    }
}

/// What the command prints; it must succeed. (A client gives up by itself if it takes too long.)
fn output(command: &mut Command) -> Result<String> {
    let name = OsStr::to_string_lossy(command.get_program()).into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of {name}"))
}
