//! Every client does every case of the comparison against the null broker.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use amqp_bench::clients::{CASES, PEERS, RABBITMQ_C, Report, Work, build_rabbitmq_c};

/// More than the prefetch, so that the broker must hear of acks, and no multiple of 100.
const MESSAGES: &str = "2510";

struct Broker {
    child: Child,
    port: String,
}

impl Broker {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_null_broker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut port = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut port)
            .expect("it prints its port");
        let port = port.trim().to_owned();
        Self { child, port }
    }

    fn measure(&self, program: &str, peer: &str, case: &str, messages: &str) -> Report {
        let output = Command::new(program)
            .args([peer, case, "3", messages, &self.port])
            .stderr(Stdio::inherit())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{peer} {case}: {}", output.status);
        let line = String::from_utf8(output.stdout).expect("a line");
        line.trim().parse().expect("a report")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends with its standard input");
    }
}

/// Where the programs are.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_client"))
        .parent()
        .expect("it is in a folder")
}

#[test]
fn every_client_does_every_case() {
    let broker = Broker::start();
    let has_rabbitmq_c = build_rabbitmq_c(folder()).expect("it can be compiled");
    for case in &CASES {
        let messages = match case.name {
            "publish_1m" | "connect" => "7",
            // amiquip takes 40 ms for each.
            "rpc_echo" => "20",
            _ => MESSAGES,
        };
        for peer in PEERS {
            if peer == RABBITMQ_C && !has_rabbitmq_c {
                eprintln!(
                    "NOT RUN: rabbitmq-c does {}: the library is not installed",
                    case.name
                );
                continue;
            }
            let report = broker.measure(env!("CARGO_BIN_EXE_client"), peer, case.name, messages);
            assert!(!report.cpu.is_zero(), "{peer} {}: {report}", case.name);
            assert!(!report.elapsed.is_zero(), "{peer} {}: {report}", case.name);
            assert_eq!(report.allocations, 0, "it does not count");
            assert!(report.peak_rss > 1024, "{peer} {}: {report}", case.name);
            let has_round_trips = case.work == Work::Echo;
            assert_eq!(
                !report.round_trip.is_zero(),
                has_round_trips,
                "{peer} {}",
                case.name
            );
        }
    }
}

#[test]
fn allocations_are_counted() {
    let broker = Broker::start();
    let program = env!("CARGO_BIN_EXE_client_counting");
    let lapin = broker.measure(program, "lapin", "consume_no_ack", MESSAGES);
    assert!(lapin.allocations > 2510, "at least a body each: {lapin}");
    let floor = broker.measure(program, "floor", "consume_no_ack", MESSAGES);
    assert!(floor.allocations < 100, "nothing for each: {floor}");
}
