//! What the tests report while they run: one file for each broker, so that runs on several add up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Column, Plan, Scenario, Table};
use crate::process::root;

/// The variable that names the file.
const VARIABLE: &str = "AMQP_TEST_REPORT";

const FOLDER: &str = "target/parity";

/// The name of a run without RabbitMQ.
const EMBEDDED_ONLY: &str = "embedded";

/// Before the release, in the name of a run on RabbitMQ.
const RABBITMQ: &str = "rabbitmq-";

/// Parts of a test's path that say where it runs, not what it is.
const WHERE: [&str; 8] = [
    "scenarios",
    "embedded",
    "only_embedded",
    "rabbitmq",
    "over_tls",
    "not_embedded",
    "alone",
    "on_rabbitmq",
];

/// Where one test runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Embedded,
    RabbitMq { over_tls: bool },
}

impl Place {
    /// On RabbitMQ of this major version, if there was one.
    pub(super) fn column(self, major: Option<u32>) -> Option<Column> {
        match self {
            Self::Embedded => Some(Column::Embedded),
            Self::RabbitMq { over_tls } => major.map(|major| Column::RabbitMq { major, over_tls }),
        }
    }
}

/// Which scenario the test of that path is, and where: none if it is something else.
pub(super) fn scenario(path: &str) -> Option<(Scenario, Place)> {
    let parts: Vec<_> = path.split("::").collect();
    // What names no broker is a test of the tests.
    if !parts.iter().any(|part| WHERE.contains(part)) {
        return None;
    }
    // `with_ctl` and its like say what a test needs.
    let is_what = |part: &&str| !WHERE.contains(part) && !part.starts_with("with_");
    let what: Vec<_> = parts.iter().copied().filter(is_what).collect();
    let [module, name] = what[..] else {
        return None;
    };
    let place = if parts.contains(&"embedded") || parts.contains(&"only_embedded") {
        Place::Embedded
    } else {
        let over_tls = parts.contains(&"over_tls");
        Place::RabbitMq { over_tls }
    };
    Some(((module.to_owned(), name.to_owned()), place))
}

/// How much a run has.
#[derive(Debug)]
pub(crate) struct Extent {
    /// All of that, not some tests that the user has named.
    pub(crate) is_whole: bool,
    /// What needs no broker.
    pub(crate) has_embedded: bool,
    /// A RabbitMQ, and nothing that a test on it needs is missing.
    pub(crate) has_rabbitmq: bool,
}

/// What one run reports.
#[derive(Debug)]
pub(crate) struct Report {
    run: String,
    extent: Extent,
}

impl Report {
    /// Of a run on the RabbitMQ of that release, if it has one. A run of all tests replaces what another one on that release has
    /// reported.
    pub(crate) fn new(release: Option<&str>, extent: Extent) -> Result<Self> {
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || ".-+".contains(*c);
        let run = release.map_or_else(
            || EMBEDDED_ONLY.to_owned(),
            |release| {
                format!(
                    "{RABBITMQ}{}",
                    release.chars().filter(is_plain).collect::<String>()
                )
            },
        );
        let report = Self { run, extent };
        fs::create_dir_all(folder()).with_context(|| FOLDER.to_owned())?;
        if report.extent.is_whole {
            match fs::remove_file(report.file()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context(report.run),
                _ => {}
            }
        }
        Ok(report)
    }

    /// Tells the tests where to report.
    pub(crate) fn set_variable(&self, command: &mut Command) {
        command.env(VARIABLE, self.file());
    }

    /// What this run alone has reported.
    pub(super) fn reported(&self) -> Result<Reported> {
        let lines =
            fs::read_to_string(self.file()).with_context(|| format!("no scenario reported to {FOLDER}"))?;
        Ok(Reported(vec![(self.run.clone(), lines)]))
    }

    /// What this run can say something about. A broker that lacks what some tests need is not looked at.
    pub(super) fn columns(&self) -> BTreeSet<Column> {
        let mut places = Vec::new();
        if self.extent.has_embedded {
            places.push(Place::Embedded);
        }
        if self.extent.has_rabbitmq {
            places.extend([false, true].map(|over_tls| Place::RabbitMq { over_tls }));
        }
        let major = major(&self.run);
        places
            .into_iter()
            .filter_map(|place| place.column(major))
            .collect()
    }

    fn file(&self) -> PathBuf {
        folder().join(&self.run)
    }
}

/// What runs have reported: their names, and a line for each test that passed, with its package and its path.
#[derive(Debug)]
pub(super) struct Reported(pub(super) Vec<(String, String)>);

impl Reported {
    /// Of all runs so far.
    pub(super) fn read() -> Result<Self> {
        let none = || format!("no results in {FOLDER}: run `cargo xtask test` first");
        let mut runs = Vec::new();
        for entry in fs::read_dir(folder()).with_context(none)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            runs.push((name, fs::read_to_string(&path)?));
        }
        runs.sort();
        Ok(Self(runs))
    }

    /// Where the scenarios of the plan have passed. What is not in the plan any more counts for nothing.
    pub(super) fn table(&self, plan: &Plan) -> Table {
        let nowhere = |adapters: &BTreeMap<String, BTreeSet<Place>>| {
            adapters
                .keys()
                .map(|adapter| (adapter.clone(), BTreeSet::new()))
                .collect()
        };
        let rows = plan
            .iter()
            .map(|(scenario, adapters)| (scenario.clone(), nowhere(adapters)));
        let mut table: Table = rows.collect();
        for (run, lines) in &self.0 {
            let passed = lines.lines().filter_map(|line| line.split_once(' '));
            for (adapter, path) in passed {
                let Some((scenario, place)) = scenario(path) else {
                    continue;
                };
                let cell = table.get_mut(&scenario).and_then(|row| row.get_mut(adapter));
                if let (Some(cell), Some(column)) = (cell, place.column(major(run))) {
                    cell.insert(column);
                }
            }
        }
        table
    }

    /// The releases of RabbitMQ among the brokers.
    pub(super) fn releases(&self) -> Vec<(u32, String)> {
        let release =
            |(run, _): &(String, String)| Some((major(run)?, run.strip_prefix(RABBITMQ)?.to_owned()));
        self.0.iter().filter_map(release).collect()
    }

    pub(super) fn runs(&self) -> Vec<&str> {
        self.0.iter().map(|(run, _)| run.as_str()).collect()
    }
}

fn folder() -> PathBuf {
    root().join(Path::new(FOLDER))
}

/// Of RabbitMQ, by the name of a run.
fn major(run: &str) -> Option<u32> {
    let release = run.strip_prefix(RABBITMQ)?;
    release.split('.').next()?.parse().ok()
}
