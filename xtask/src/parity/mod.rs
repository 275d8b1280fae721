//! `docs/parity.md`: which scenario has passed on which adapter and on which broker.
//!
//! Which scenarios an adapter has, its test program says (`--list`). Which have passed, the tests themselves say while
//! `cargo xtask test` runs them ([`Report`]); what several runs say adds up, for no run has every broker.

mod page;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub(crate) use self::report::{Extent, Report};
use self::report::{Place, Reported};
use crate::process::{cargo, read, root};

/// The packages whose tests called `scenarios` are compared, in the order of the columns.
const ADAPTERS: [&str; 4] = ["amqp-tokio", "amqp-async-std", "amqp-blocking", "amqp-mio"];

const PAGE: &str = "docs/parity.md";

const HOW_TO_REGENERATE: &str = "run `cargo xtask test` (with each broker), then `cargo xtask parity`, and commit docs/parity.md if you agree with it";

/// A scenario's module and name.
type Scenario = (String, String);

/// What the adapters have, by scenario and adapter: the places where it is to run.
type Plan = BTreeMap<Scenario, BTreeMap<String, BTreeSet<Place>>>;

/// Where scenarios have passed, by scenario and adapter.
type Table = BTreeMap<Scenario, BTreeMap<String, BTreeSet<Column>>>;

/// A broker and the way to it, as a cell names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Column {
    /// The embedded broker.
    Embedded,
    /// RabbitMQ of this major version.
    RabbitMq { major: u32, over_tls: bool },
}

/// `cargo xtask parity`: writes the page from what the runs so far have reported.
pub(crate) fn main() -> Result<()> {
    let reported = Reported::read()?;
    let plan = plan()?;
    let table = reported.table(&plan);
    let gaps = gaps(&plan);
    if !gaps.is_empty() {
        bail!("{}", gaps.join("\n"));
    }
    fs::write(
        root().join(PAGE),
        page::render(&plan, &table, &reported.releases()),
    )?;
    eprintln!("{PAGE} is written, from runs on: {}", reported.runs().join(", "));
    Ok(())
}

/// Compares the page with what one whole run has reported, on the brokers that this run had.
pub(crate) fn check(report: &Report) -> Result<()> {
    let plan = plan()?;
    let produced = report.reported()?.table(&plan);
    let page =
        fs::read_to_string(root().join(PAGE)).with_context(|| format!("{PAGE}: {HOW_TO_REGENERATE}"))?;
    let mut problems = gaps(&plan);
    problems.extend(differences(&page, &plan, &produced, &report.columns()));
    if problems.is_empty() {
        return Ok(());
    }
    bail!("{}\n{HOW_TO_REGENERATE}", problems.join("\n"))
}

/// Asks each adapter's test program what it has.
fn plan() -> Result<Plan> {
    let arguments = [
        "test",
        "--workspace",
        "--all-features",
        "--test",
        "scenarios",
        "--no-run",
        "--message-format=json",
    ];
    let mut plan = Plan::new();
    for (package, program) in programs(&read(&mut cargo(arguments))?) {
        let listing = read(Command::new(program).arg("--list"))?;
        let tests = listing.lines().filter_map(|line| line.strip_suffix(": test"));
        for (scenario, place) in tests.filter_map(report::scenario) {
            let adapters = plan.entry(scenario).or_default();
            adapters.entry(package.clone()).or_default().insert(place);
        }
    }
    Ok(plan)
}

/// Package and path of each test program that cargo says it has made.
fn programs(messages: &str) -> Vec<(String, String)> {
    let value = |line: &str, key: &str| {
        let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
        rest.split('"').next().map(String::from)
    };
    let program = |line: &str| {
        // path+file:///checkout/amqp-tokio#0.1.0
        let id = value(line, "package_id")?;
        let package = id.split('#').next()?.rsplit('/').next()?;
        ADAPTERS.contains(&package).then_some(())?;
        Some((package.to_owned(), value(line, "executable")?))
    };
    messages.lines().filter_map(program).collect()
}

/// What an adapter lacks that another one has.
fn gaps(plan: &Plan) -> Vec<String> {
    let mut gaps = Vec::new();
    for ((module, name), adapters) in plan {
        let lacks = |adapter: &&&str| !adapters.contains_key(**adapter);
        let gap = |adapter: &&str| format!("{adapter} has no scenario {module}::{name}");
        gaps.extend(ADAPTERS.iter().filter(lacks).map(gap));
    }
    gaps
}

/// Where the page says something else than this run, which had these brokers.
fn differences(page: &str, plan: &Plan, produced: &Table, brokers: &BTreeSet<Column>) -> Vec<String> {
    let mut told = page::parse(page);
    let mut differences = Vec::new();
    for (scenario, adapters) in plan {
        let mut told = told.remove(scenario).unwrap_or_default();
        for adapter in ADAPTERS {
            let passed = produced.get(scenario).and_then(|passed| passed.get(adapter));
            let passed = passed.filter(|_| adapters.contains_key(adapter));
            differences.extend(difference(
                scenario,
                adapter,
                told.remove(adapter),
                passed,
                brokers,
            ));
        }
    }
    for (module, name) in told.keys() {
        differences.push(format!("{PAGE} has {module}::{name}, which no adapter has"));
    }
    differences
}

/// In one cell. What is not there at all is a gap.
fn difference(
    (module, name): &Scenario,
    adapter: &str,
    told: Option<BTreeSet<Column>>,
    passed: Option<&BTreeSet<Column>>,
    brokers: &BTreeSet<Column>,
) -> Option<String> {
    let on_these = |columns: &BTreeSet<Column>| columns & brokers;
    let told = told.as_ref().map(on_these);
    let passed = passed.map(on_these);
    let text = |columns: &Option<BTreeSet<Column>>| match columns {
        None => "a gap".to_owned(),
        Some(columns) if columns.is_empty() => "nothing".to_owned(),
        Some(columns) => page::names(columns),
    };
    (told != passed).then(|| {
        format!(
            "{module}::{name} on {adapter}: {PAGE} says {}, this run says {}",
            text(&told),
            text(&passed)
        )
    })
}
