//! Seeds, one after the other.

use std::env;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::case::Case;
use crate::ledger::Violation;
use crate::program::Tally;
use crate::shrink::shrink;
use crate::world::{Finding, run};

/// How many seeds are tried if nobody says.
const SEEDS: u64 = 50;

/// A panic is a finding like any other.
fn try_case(case: &Case, tells: bool) -> Result<Tally, Finding> {
    let result = catch_unwind(AssertUnwindSafe(|| run(case, tells)));
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let violation = Violation {
            rule: "nothing panics",
            detail: text.unwrap_or_default().to_owned(),
        };
        Err(Finding {
            violation,
            story: Vec::new(),
        })
    })
}

/// The smallest case that breaks the same rule, and how.
fn explain(case: &Case, finding: &Finding) -> String {
    let rule = finding.violation.rule;
    let fails = |case: &Case| try_case(case, false).is_err_and(|other| other.violation.rule == rule);
    let small = shrink(case, fails);
    let mut text = String::new();
    writeln!(text, "seed {} broke the rule: {rule}", case.seed).unwrap();
    writeln!(text, "  {}", finding.violation.detail).unwrap();
    writeln!(text, "repeat it with: cargo xtask sim --seed {}", case.seed).unwrap();
    writeln!(
        text,
        "\nof {} steps, {} are enough:\n{small}",
        case.steps.len(),
        small.steps.len()
    )
    .unwrap();
    if let Err(Finding { violation, story }) = try_case(&small, true) {
        writeln!(text, "the last of what happened:").unwrap();
        for line in story {
            writeln!(text, "  {line}").unwrap();
        }
        writeln!(text, "{}: {}", violation.rule, violation.detail).unwrap();
    }
    text
}

fn from_environment(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
    )
}

#[test]
fn seeds() {
    let first = from_environment("AMQP_SIM_SEED").unwrap_or(0);
    let count = from_environment("AMQP_SIM_SEEDS").unwrap_or(SEEDS);
    let (mut all, mut findings) = (Tally::default(), Vec::new());
    let start = Instant::now();
    for seed in first..first + count {
        let case = Case::new(seed);
        match try_case(&case, false) {
            Ok(tally) => all.add(tally),
            Err(finding) => {
                println!("{}", explain(&case, &finding));
                findings.push((seed, finding.violation.rule));
            }
        }
        // The first few say enough.
        if findings.len() >= 3 {
            break;
        }
    }
    println!(
        "{count} seeds from {first} in {:.1} s: {all}",
        start.elapsed().as_secs_f64()
    );
    assert!(findings.is_empty(), "{findings:?}");
}
