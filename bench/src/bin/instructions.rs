//! Counts the instructions of every case under valgrind's callgrind and compares ours with the budgets.
//!
//! The program runs itself again, under callgrind, for each case and codec: once for so many rounds, once for three times as
//! many. What the second took more, divided by the rounds it ran more, is a round's cost: start-up, preparation and
//! warm-up are the same in both and fall out.

use std::env;
use std::io::ErrorKind;
use std::process::{Command, ExitCode};

use amqp_bench::cases::{CASES, Case, Codec, Rounds};

const COLUMNS: [Codec; 3] = [Codec::Ours, Codec::AmqProtocol, Codec::AmqpSerde];

/// What tells the program that it is the one that runs under callgrind.
const CHILD: &str = "--run";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [CHILD, case, codec, prepared, rounds] => run_case(case, codec, prepared, rounds),
        [] => print_table(CASES.iter()),
        _ => match arguments
            .iter()
            .find(|name| CASES.iter().all(|case| case.name != **name))
        {
            Some(unknown) => Err(format!("there is no case {unknown}")),
            None => print_table(CASES.iter().filter(|case| arguments.contains(&case.name))),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether ours is within its budget everywhere.
fn print_table<'c>(cases: impl Iterator<Item = &'c Case>) -> Result<bool, String> {
    println!("instructions a round       ours  amq-protocol    amqp_serde        budget");
    let mut all_within = true;
    for case in cases {
        let mut counts = [None; COLUMNS.len()];
        for (count, codec) in counts.iter_mut().zip(COLUMNS) {
            if case.subjects.iter().any(|(subject, _)| *subject == codec) {
                *count = Some(instructions_of(case, codec)?);
            }
        }
        let [ours, ..] = counts;
        let is_within = ours <= case.budget || case.budget.is_none();
        all_within &= is_within;
        let [ours, amq_protocol, amqp_serde] = counts.map(shown);
        let budget = shown(case.budget);
        let verdict = if is_within { "ok" } else { "OVER" };
        println!(
            "{:<20} {ours:>10} {amq_protocol:>13} {amqp_serde:>13} {budget:>13}  {verdict}",
            case.name
        );
    }
    Ok(all_within)
}

fn shown(count: Option<u64>) -> String {
    count.map_or_else(|| "–".to_owned(), |count| count.to_string())
}

/// Instructions a round.
fn instructions_of(case: &Case, codec: Codec) -> Result<u64, String> {
    let (Rounds::Endless(few) | Rounds::Limited(few)) = case.rounds;
    let many = few * 3;
    let less = callgrind(case, codec, many, few)?;
    let more = callgrind(case, codec, many, many)?;
    let (cost, rounds) = (more.saturating_sub(less), (many - few) as u64);
    Ok(cost.div_ceil(rounds))
}

/// How many instructions the whole program executes that prepares a case and runs it.
fn callgrind(case: &Case, codec: Codec, prepared: usize, rounds: usize) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([CHILD, case.name, &format!("{codec:?}")])
        .args([prepared.to_string(), rounds.to_string()])
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                "valgrind is not installed (Debian and Ubuntu: apt install valgrind)".to_owned()
            }
            _ => format!("valgrind does not start: {error}"),
        })?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, count)| count.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!(
            "{} {codec:?} failed under valgrind:\n{report}",
            case.name
        )),
    }
}

/// What runs under callgrind.
fn run_case(case: &str, codec: &str, prepared: &str, rounds: &str) -> Result<bool, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|error| format!("{text}: {error}"));
    let prepare = CASES
        .iter()
        .filter(|candidate| candidate.name == case)
        .flat_map(|candidate| candidate.subjects)
        .find(|(subject, _)| format!("{subject:?}") == codec)
        .map(|(_, prepare)| prepare)
        .ok_or_else(|| format!("{codec} has no case {case}"))?;
    let mut run = prepare(number(prepared)?);
    run(number(rounds)?);
    Ok(true)
}
