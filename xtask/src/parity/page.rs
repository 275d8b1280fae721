//! The page as text: written and read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::report::Place;
use super::{ADAPTERS, Column, Plan, Table};

/// The cell of an adapter that does not have the scenario.
const GAP: &str = "–";

const NOT_RUN: &str = "not run: ";

/// The major versions of RabbitMQ that the page is about, run or not.
const RABBITMQ: [u32; 2] = [3, 4];

const INTRODUCTION: &str = "\
# Parity

Which scenario passes on which adapter and on which broker. A scenario is a function of `amqp-async/scenarios/`, which is compiled into the
tests of `amqp-tokio`, `amqp-async-std` and `amqp-blocking`. In the last of these it runs on the handles below the blocking methods, driven
by the I/O thread over `amqp-mio`'s sockets; the blocking methods have tests of their own (`amqp-blocking/tests/`). `amqp-mio` has callbacks
where that source has `await`: its column is `amqp-mio/tests/scenarios/`, which does the same with callbacks, under the same names.
What amqp-async has a type or a policy for is done there as a program with callbacks does it.

Made by `cargo xtask parity` of what the tests reported while `cargo xtask test` ran them; do not edit it. That command fails if what it
did is not what stands here, or if an adapter lacks a scenario that another one has.
";

/// The whole page.
pub(super) fn render(plan: &Plan, table: &Table, releases: &[(u32, String)]) -> String {
    let mut page = INTRODUCTION.to_owned();
    page += "\n| in a cell | broker | release |\n|---|---|---|\n| E | embedded | this one |\n";
    let majors: BTreeSet<_> = RABBITMQ
        .into_iter()
        .chain(releases.iter().map(|(major, _)| *major))
        .collect();
    for major in &majors {
        let of_it = releases.iter().filter(|(other, _)| other == major);
        let of_it: Vec<_> = of_it.map(|(_, release)| release.as_str()).collect();
        let release = if of_it.is_empty() {
            "not run".to_owned()
        } else {
            of_it.join(", ")
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "| {major}, {major}s | RabbitMQ {major}, plain and over TLS | {release} |"
        );
    }
    let modules: BTreeSet<_> = plan.keys().map(|(module, _)| module).collect();
    for module in modules {
        page += &header(module);
        for ((_, name), row) in table.iter().filter(|((of, _), _)| of == module) {
            let cell = |adapter: &&str| {
                let planned = plan
                    .get(&(module.clone(), name.clone()))
                    .and_then(|row| row.get(*adapter));
                let Some(planned) = planned else {
                    return GAP.to_owned();
                };
                let passed = row.get(*adapter).cloned().unwrap_or_default();
                let not_run = &expected(planned, &majors) - &passed;
                let passed = names(&passed);
                match (passed.is_empty(), not_run.is_empty()) {
                    (_, true) => passed,
                    (true, false) => format!("{NOT_RUN}{}", names(&not_run)),
                    (false, false) => format!("{passed}; {NOT_RUN}{}", names(&not_run)),
                }
            };
            let cells: Vec<_> = ADAPTERS.iter().map(cell).collect();
            let _ = writeln!(page, "| `{name}` | {} |", cells.join(" | "));
        }
    }
    page
}

fn header(module: &str) -> String {
    let rule = "|---".repeat(ADAPTERS.len() + 1);
    format!(
        "\n## {module}\n\n| scenario | {} |\n{rule}|\n",
        ADAPTERS.join(" | ")
    )
}

fn expected(planned: &BTreeSet<Place>, majors: &BTreeSet<u32>) -> BTreeSet<Column> {
    let every = planned
        .iter()
        .flat_map(|place| majors.iter().map(move |major| (place, major)));
    every
        .filter_map(|(place, major)| place.column(Some(*major)))
        .collect()
}

/// As a cell has them.
pub(super) fn names(columns: &BTreeSet<Column>) -> String {
    let name = |column: &Column| match column {
        Column::Embedded => "E".to_owned(),
        Column::RabbitMq {
            major,
            over_tls: false,
        } => major.to_string(),
        Column::RabbitMq {
            major,
            over_tls: true,
        } => format!("{major}s"),
    };
    columns.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// The tables of a page. A gap is not there.
pub(super) fn parse(page: &str) -> Table {
    let mut table = Table::new();
    let mut module = "";
    for line in page.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            module = name;
        }
        let Some((name, cells)) = line.strip_prefix("| `").and_then(|row| row.split_once("` | ")) else {
            continue;
        };
        let cells = cells.trim_end_matches(" |").split(" | ");
        let there = ADAPTERS.iter().zip(cells).filter(|(_, cell)| *cell != GAP);
        let row: BTreeMap<_, _> = there
            .map(|(adapter, cell)| ((*adapter).to_owned(), columns(cell)))
            .collect();
        table.insert((module.to_owned(), name.to_owned()), row);
    }
    table
}

/// Where it has passed, by a cell.
fn columns(cell: &str) -> BTreeSet<Column> {
    let passed = cell.split(NOT_RUN).next().unwrap_or_default();
    let names = passed.split([' ', ';']).filter(|name| !name.is_empty());
    names.filter_map(column).collect()
}

fn column(name: &str) -> Option<Column> {
    if name == "E" {
        return Some(Column::Embedded);
    }
    let over_tls = name.ends_with('s');
    let major = name.trim_end_matches('s').parse().ok()?;
    Some(Column::RabbitMq { major, over_tls })
}
