//! `cargo xtask test`: every test, on a real broker.
//!
//! Tests that need a broker are ignored by a plain `cargo test`. They learn of it from the variables of
//! [`Endpoint::variables`], and say in their own path what else they need: see [`NEEDS`] and [`ALONE`].

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

use crate::broker::{Client, Endpoint, Lease, release};
use crate::parity;
use crate::process::{cargo, read, run};

/// Which broker to test with.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct TestOptions {
    /// Use this broker instead of the private RabbitMQ: amqp://...
    #[arg(long, value_name = "URI")]
    broker: Option<String>,
    /// Its address for TLS: amqps://...?cacertfile=PATH (and AMQP_TEST_CLIENT_CERT and _KEY, if set)
    #[arg(long, value_name = "URI", requires = "broker")]
    broker_tls: Option<String>,
    /// A command line that runs its rabbitmqctl, whose arguments are put at the end
    #[arg(long, value_name = "COMMAND", requires = "broker")]
    broker_ctl: Option<String>,
    /// A command line that kills it without warning and starts it again, as `cargo xtask broker restart` does
    #[arg(long, value_name = "COMMAND", requires = "broker")]
    broker_restart: Option<String>,
    /// Leave out what needs no broker: another run has it
    #[arg(long, requires = "broker", conflicts_with = "cargo_arguments")]
    only_on_broker: bool,
    /// Arguments for cargo test; only tests are run then, no examples
    #[arg(last = true)]
    cargo_arguments: Vec<String>,
}

/// What a test with this in its path needs, and how a broker of one's own gets it.
const NEEDS: [(&str, &str); 4] = [
    ("over_tls", "no --broker-tls"),
    (
        "with_client_certificate",
        "no AMQP_TEST_CLIENT_CERT and AMQP_TEST_CLIENT_KEY, or no --broker-tls",
    ),
    ("with_ctl", "no --broker-ctl"),
    ("with_restart", "no --broker-restart"),
];

/// A test in a module of this name disturbs all other users of the broker: it is run when nothing else is.
const ALONE: &str = "alone::";

/// Examples, by package, that run to their end on a broker.
const EXAMPLES: [(&str, &str); 8] = [
    ("amqp-proto", "session"),
    ("amqp-proto", "embed_std"),
    ("amqp-proto", "embed_poll"),
    ("amqp-proto", "embed_tick"),
    ("amqp-proto", "embed_shared"),
    ("amqp-tokio", "hello"),
    ("amqp-async-std", "hello_async_std"),
    ("amqp-mio", "mio_hello"),
];

/// Runs every test and example, and says at the end which failed and which could not be run.
pub(crate) fn main(options: &TestOptions) -> Result<()> {
    let broker = Broker::find(options)?;
    let is_whole = options.cargo_arguments.is_empty();
    let passed = broker.parity_report(options, is_whole)?;
    let cargo_test = CargoTest {
        passed: Some(&passed),
        ..CargoTest::new(&options.cargo_arguments)
    };
    let mut report = Report::default();

    if !options.only_on_broker {
        report.step(
            "tests that need no broker",
            run(&mut cargo_test.command(&[], &[])),
        );
        if is_whole {
            report.step("build without std", run(&mut cargo(BUILD_NO_STD_PROBE)));
        }
    }
    match broker.endpoint() {
        Ok(endpoint) => {
            report.step(
                "tests on the broker",
                run(&mut tests_on_broker(&cargo_test, endpoint)),
            );
            let alone = tests_alone(cargo_test.ignored()?, endpoint);
            if !alone.is_empty() {
                let mut command = tests_alone_on_broker(&cargo_test, endpoint, &alone);
                report.step("tests alone on the broker", run(&mut command));
            }
            report.not_run.extend(tests_skipped(&cargo_test, endpoint)?);
            if is_whole {
                run_examples(endpoint, &mut report);
            }
        }
        Err(reason) => report
            .not_run
            .extend(all_that_need_a_broker(&cargo_test, reason)?),
    }
    if let (false, Broker::Private(_)) = (report.failed.is_empty(), &broker) {
        eprintln!("\nthe end of the broker's log:\n{}", Lease::log_tail());
    }
    drop(broker);
    if is_whole && report.failed.is_empty() {
        report.step("docs/parity.md", parity::check(&passed));
    }
    report.finish()
}

const BUILD_NO_STD_PROBE: [&str; 4] = ["build", "--release", "--manifest-path", "no-std-probe/Cargo.toml"];

enum Broker {
    Given(Endpoint),
    Private(Lease),
    None { reason: String },
}

impl Broker {
    fn find(options: &TestOptions) -> Result<Self> {
        if let Some(url) = &options.broker {
            return Ok(Self::Given(Endpoint {
                url: url.clone(),
                tls_url: options.broker_tls.clone(),
                client: Client::from_environment(),
                control: options.broker_ctl.clone(),
                restart: options.broker_restart.clone(),
            }));
        }
        match Lease::take() {
            Ok(lease) => Ok(Self::Private(lease)),
            Err(error) if env::var_os("CI").is_some_and(|value| !value.is_empty()) => Err(error),
            Err(error) => Ok(Self::None {
                reason: format!("no broker: {error:#}"),
            }),
        }
    }

    fn parity_report(&self, options: &TestOptions, is_whole: bool) -> Result<parity::Report> {
        let endpoint = self.endpoint().ok();
        let release = endpoint
            .map(|endpoint| release(&endpoint.url))
            .transpose()?
            .flatten();
        let extent = parity::Extent {
            is_whole,
            has_embedded: !options.only_on_broker,
            has_rabbitmq: endpoint.is_some_and(|endpoint| lacks(endpoint).is_empty()),
        };
        parity::Report::new(release.as_deref(), extent)
    }

    fn endpoint(&self) -> Result<&Endpoint, &str> {
        match self {
            Self::Given(endpoint) => Ok(endpoint),
            Self::Private(lease) => Ok(&lease.endpoint),
            Self::None { reason } => Err(reason),
        }
    }
}

/// `cargo test` with the user's arguments, which have a `--` of their own between cargo's and the tests'.
struct CargoTest<'a> {
    cargo: &'a [String],
    harness: &'a [String],
    /// Where scenarios report that they passed.
    passed: Option<&'a parity::Report>,
}

impl<'a> CargoTest<'a> {
    fn new(arguments: &'a [String]) -> Self {
        let (cargo, harness) = match arguments.iter().position(|argument| argument == "--") {
            Some(at) => (&arguments[..at], &arguments[at + 1..]),
            None => (arguments, &[][..]),
        };
        Self {
            cargo,
            harness,
            passed: None,
        }
    }

    fn command(&self, cargo_arguments: &[&str], harness_arguments: &[&str]) -> Command {
        let mut command = cargo(["test", "--all-features", "--no-fail-fast"]);
        // `--workspace` outweighs a package the user asks for.
        let has_package = |argument: &String| argument.starts_with("-p") || argument.starts_with("--package");
        if !self.cargo.iter().any(has_package) {
            command.arg("--workspace");
        }
        command.args(cargo_arguments).args(self.cargo);
        command.arg("--").args(harness_arguments).args(self.harness);
        if let Some(passed) = self.passed {
            passed.set_variable(&mut command);
        }
        command
    }

    /// The paths of the ignored tests.
    fn ignored(&self) -> Result<Vec<String>> {
        let mut command = self.command(&["--tests"], &["--ignored", "--list"]);
        let listing = read(command.env("CARGO_TERM_QUIET", "true"))?;
        Ok(tests_in(&listing))
    }
}

fn tests_in(listing: &str) -> Vec<String> {
    listing
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(String::from)
        .collect()
}

/// The parts of a test's path that this broker is not good for, and why.
fn lacks(endpoint: &Endpoint) -> Vec<(&'static str, &'static str)> {
    let has = [
        endpoint.tls_url.is_some(),
        endpoint.tls_url.is_some() && endpoint.client.is_some(),
        endpoint.control.is_some(),
        endpoint.restart.is_some(),
    ];
    NEEDS
        .into_iter()
        .zip(has)
        .filter(|(_, has)| !has)
        .map(|(need, _)| need)
        .collect()
}

fn tests_on_broker(cargo_test: &CargoTest<'_>, endpoint: &Endpoint) -> Command {
    let mut harness_arguments = vec!["--ignored", "--skip", ALONE];
    for (part, _) in lacks(endpoint) {
        harness_arguments.extend(["--skip", part]);
    }
    let mut command = cargo_test.command(&["--tests"], &harness_arguments);
    set_variables(&mut command, endpoint);
    command
}

/// Those of the tests that must be alone and that this broker is good for.
fn tests_alone(mut tests: Vec<String>, endpoint: &Endpoint) -> Vec<String> {
    let lacks = lacks(endpoint);
    tests.retain(|test| test.contains(ALONE) && !lacks.iter().any(|(part, _)| test.contains(part)));
    tests
}

/// By their whole names: a filter of the user's and one of ours would let in what either does.
fn tests_alone_on_broker(cargo_test: &CargoTest<'_>, endpoint: &Endpoint, tests: &[String]) -> Command {
    let mut harness_arguments = vec!["--ignored", "--exact"];
    harness_arguments.extend(tests.iter().map(String::as_str));
    let mut command = cargo_test.command(&["--tests"], &harness_arguments);
    set_variables(&mut command, endpoint);
    command.env("RUST_TEST_THREADS", "1");
    command
}

fn set_variables(command: &mut Command, endpoint: &Endpoint) {
    for (name, value) in endpoint.variables() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn tests_skipped(cargo_test: &CargoTest<'_>, endpoint: &Endpoint) -> Result<Vec<NotRun>> {
    let lacks = lacks(endpoint);
    if lacks.is_empty() {
        return Ok(Vec::new());
    }
    let not_run = |what: String| {
        let (_, why) = lacks.iter().find(|(part, _)| what.contains(part))?;
        Some(NotRun {
            what,
            why: (*why).to_owned(),
        })
    };
    Ok(cargo_test.ignored()?.into_iter().filter_map(not_run).collect())
}

fn run_examples(endpoint: &Endpoint, report: &mut Report) {
    for (package, example) in EXAMPLES {
        let mut command = cargo(["run", "-q", "-p", package, "--example", example]);
        report.step(
            &format!("example {example} of {package}"),
            run(command.env("AMQP_URL", &endpoint.url)),
        );
    }
}

fn all_that_need_a_broker(cargo_test: &CargoTest<'_>, reason: &str) -> Result<Vec<NotRun>> {
    let examples = EXAMPLES.map(|(package, example)| format!("example {example} of {package}"));
    let all = cargo_test.ignored()?.into_iter().chain(examples);
    Ok(all
        .map(|what| NotRun {
            what,
            why: reason.to_owned(),
        })
        .collect())
}

struct NotRun {
    what: String,
    why: String,
}

#[derive(Default)]
struct Report {
    failed: Vec<String>,
    not_run: Vec<NotRun>,
}

impl Report {
    /// One failure does not keep the other steps from running.
    fn step(&mut self, name: &str, result: Result<()>) {
        if let Err(error) = result {
            eprintln!("FAILED: {name}: {error:#}");
            self.failed.push(name.to_owned());
        }
    }

    fn finish(self) -> Result<()> {
        for NotRun { what, why } in &self.not_run {
            eprintln!("NOT RUN: {what}: {why}");
        }
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        match self.not_run.len() {
            0 => eprintln!("all tests succeeded"),
            count => eprintln!("all that was run succeeded, BUT {count} COULD NOT BE RUN: see above"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::describe;

    #[test]
    fn the_user_s_arguments_go_to_cargo_and_to_the_tests() {
        let arguments = ["-pamqp-proto", "wire", "--", "--nocapture"].map(String::from);
        let command = CargoTest::new(&arguments).command(&["--tests"], &["--ignored"]);
        assert_eq!(
            describe(&command),
            "cargo test --all-features --no-fail-fast --tests -pamqp-proto wire -- --ignored --nocapture"
        );
        let command = CargoTest::new(&[]).command(&[], &[]);
        assert_eq!(
            describe(&command),
            "cargo test --all-features --no-fail-fast --workspace --"
        );
    }

    #[test]
    fn a_listing_is_read() {
        let listing = "a::over_tls::b: test\na::bench: benchmark\n\n1 test, 1 benchmark\n";
        assert_eq!(tests_in(listing), ["a::over_tls::b"]);
    }

    #[test]
    fn tests_that_must_be_alone_are_run_by_name_one_after_the_other() {
        let bare = Endpoint::default();
        let listed = ["a::left_alone", "a::alone::b", "a::alone::with_ctl::c"].map(String::from);
        let alone = tests_alone(listed.to_vec(), &bare);
        assert_eq!(alone, ["a::alone::b"]);
        let arguments = ["-pamqp-proto", "alone"].map(String::from);
        let command = tests_alone_on_broker(&CargoTest::new(&arguments), &bare, &alone);
        assert_eq!(
            describe(&command),
            "cargo test --all-features --no-fail-fast --tests -pamqp-proto alone -- --ignored --exact a::alone::b"
        );
        let threads = command.get_envs().find(|(name, _)| *name == "RUST_TEST_THREADS");
        assert_eq!(threads.and_then(|(_, value)| value), Some("1".as_ref()));
    }

    #[test]
    fn a_bare_broker_lacks_everything() {
        let bare = Endpoint {
            url: "amqp://broker".into(),
            ..Endpoint::default()
        };
        assert_eq!(lacks(&bare), NEEDS);
    }

    #[test]
    fn a_client_certificate_is_no_use_without_tls() {
        let client = Client {
            certificate: "client.pem".into(),
            key: "client.key".into(),
        };
        let plain = Endpoint {
            client: Some(client),
            control: Some("ctl".into()),
            restart: Some("restart".into()),
            ..Endpoint::default()
        };
        assert_eq!(lacks(&plain), NEEDS[..2]);
    }
}
