//! RabbitMQ's six tutorials and javatpoint's, as every adapter has them: the same programs, and what they print.
//!
//! The test that takes this in brings `crate::adapter`: the `PREFIX` of its programs' names, what is said of an `UNROUTED_CALL`, and
//! `delete_if`. [`programs!`] makes tests of what it is given.

use crate::adapter::{PREFIX, UNROUTED_CALL, delete_if};
use crate::program::{self, Program};

/// Deletes a queue that the programs share, as it is.
pub(crate) fn delete(url: &str, queue: &'static str) {
    delete_if(url, queue, false);
}

/// Deletes a queue whose messages were all delivered and acknowledged, and that nobody consumes from any more; otherwise it fails.
pub(crate) fn delete_settled(url: &str, queue: &'static str) {
    delete_if(url, queue, true);
}

fn run(url: &str, name: &str, arguments: &[&str]) -> Vec<String> {
    program::run(url, &format!("{PREFIX}{name}"), arguments)
}

fn run_in_vain(url: &str, name: &str, arguments: &[&str]) -> String {
    program::run_in_vain(url, &format!("{PREFIX}{name}"), arguments)
}

fn start_receiver(url: &str, name: &str, arguments: &[&str]) -> Program {
    Program::start_receiver(url, &format!("{PREFIX}{name}"), arguments)
}

pub(crate) fn hello_world(url: &str) {
    delete(url, "hello");
    assert_eq!(run(url, "hello_send", &[]), ["sent Hello World!"]);
    let receiver = start_receiver(url, "hello_receive", &[]);
    receiver.expect("received Hello World!");
    run(url, "hello_send", &[]);
    receiver.expect("received Hello World!");
    receiver.interrupt();
    delete_settled(url, "hello");
    javatpoint(url);
}

/// Its programs use the same queue.
fn javatpoint(url: &str) {
    let printed = run(url, "javatpoint_publisher", &[]);
    let [dropped] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert!(
        dropped.starts_with("not sent: ") && dropped.contains("no queue got "),
        "{dropped}"
    );
    let consumer = start_receiver(url, "javatpoint_consumer", &[]);
    assert_eq!(run(url, "javatpoint_publisher", &[]), ["sent Hello World!"]);
    consumer.expect("received Hello World!");
    consumer.interrupt();
    delete_settled(url, "hello");
    delete_settled(url, "my_queue");
}

pub(crate) fn work_queues(url: &str) {
    delete(url, "task_queue");
    let workers = ["worker", "worker"].map(|name| start_receiver(url, name, &[]));
    assert_eq!(run(url, "new_task", &["first"]), ["sent first"]);
    assert_eq!(run(url, "new_task", &["second", "task"]), ["sent second task"]);
    // Each has one of them, and does it.
    let mut done = workers.each_ref().map(|worker| {
        let received = worker.line().unwrap();
        let task = received.strip_prefix("received ").unwrap().to_owned();
        worker.expect(&format!("done {task}"));
        task
    });
    done.sort();
    assert_eq!(done, ["first", "second task"]);

    workers.into_iter().for_each(Program::interrupt);
    delete_settled(url, "task_queue");

    // Who is busy gets no more, and what he has not finished when he dies another one gets.
    let busy = start_receiver(url, "worker", &[]);
    let takes_a_minute = ".".repeat(60);
    run(url, "new_task", &[&takes_a_minute]);
    busy.expect(&format!("received {takes_a_minute}"));
    let other = start_receiver(url, "worker", &[]);
    for task in ["third", "fourth", "fifth"] {
        run(url, "new_task", &[task]);
        other.expect(&format!("received {task}"));
        other.expect(&format!("done {task}"));
    }
    drop(busy);
    other.expect(&format!("received {takes_a_minute} again"));
    drop(other);
    delete(url, "task_queue");
}

pub(crate) fn publish_subscribe(url: &str) {
    let nobody_listens = run(url, "emit_log", &[]);
    assert_eq!(nobody_listens, ["sent info: Hello World!"]);
    let receivers = ["receive_logs", "receive_logs"].map(|name| start_receiver(url, name, &[]));
    run(url, "emit_log", &["warning:", "for", "all"]);
    for receiver in receivers {
        receiver.expect("received warning: for all");
        receiver.interrupt();
    }
}

pub(crate) fn routing(url: &str) {
    let usage = run_in_vain(url, "receive_logs_direct", &[]);
    let expected = format!("usage: {PREFIX}receive_logs_direct SEVERITY...");
    assert!(usage.contains(&expected), "{usage}");
    let errors = start_receiver(url, "receive_logs_direct", &["error"]);
    let most = start_receiver(url, "receive_logs_direct", &["info", "error"]);
    assert_eq!(
        run(url, "emit_log_direct", &["warning", "for nobody"]),
        ["sent warning: for nobody"]
    );
    run(url, "emit_log_direct", &[]);
    run(url, "emit_log_direct", &["error", "for", "both"]);
    errors.expect("received error: for both");
    most.expect("received info: Hello World!");
    most.expect("received error: for both");
    errors.interrupt();
    most.interrupt();
}

pub(crate) fn topics(url: &str) {
    let usage = run_in_vain(url, "receive_logs_topic", &[]);
    let expected = format!("usage: {PREFIX}receive_logs_topic PATTERN...");
    assert!(usage.contains(&expected), "{usage}");
    let patterns: [&[&str]; 3] = [&["#"], &["kern.*"], &["*.critical", "kern.*"]];
    let [all, kernel, critical] =
        patterns.map(|patterns| start_receiver(url, "receive_logs_topic", patterns));
    let sent = [
        ("kern.critical", "fits all"),
        ("kern.info", "fits all too"),
        ("cron.critical", "fits no kernel"),
        ("kern.net.critical", "has a word too many"),
    ];
    for (key, text) in sent {
        let printed = run(url, "emit_log_topic", &[key, text]);
        assert_eq!(printed, [format!("sent {key}: {text}")]);
    }
    let expect = |program: Program, received: &[usize]| {
        for (key, text) in received.iter().map(|&index| sent[index]) {
            program.expect(&format!("received {key}: {text}"));
        }
        program.interrupt();
    };
    expect(all, &[0, 1, 2, 3]);
    expect(kernel, &[0, 1]);
    expect(critical, &[0, 1, 2]);
}

pub(crate) fn remote_procedure_call(url: &str) {
    delete(url, "rpc_queue");
    let complaint = run_in_vain(url, "rpc_client", &[]);
    let unrouted = format!("fib(30): {UNROUTED_CALL}");
    assert!(complaint.contains(&unrouted), "{complaint}");
    let server = start_receiver(url, "rpc_server", &[]);
    for (number, result) in [("0", "0"), ("10", "55"), ("90", "2880067194370816120")] {
        let printed = run(url, "rpc_client", &[number]);
        assert_eq!(printed, [format!("fib({number}) = {result}")]);
        server.expect(&format!("answered fib({number})"));
    }
    assert_eq!(run(url, "rpc_client", &[]), ["fib(30) = 832040"]);
    server.expect("answered fib(30)");
    for (number, words) in [
        ("100", "that is too large"),
        ("x", "invalid digit found in string"),
    ] {
        let complaint = run_in_vain(url, "rpc_client", &[number]);
        let words = format!("fib({number}): the server failed: {words}");
        assert!(complaint.contains(&words), "{complaint}");
    }
    server.interrupt();
    delete_settled(url, "rpc_queue");
}

/// Makes tests of functions of the test's root.
macro_rules! programs {
    ($($name:ident)+) => {
        mod embedded {
            $(#[test]
            fn $name() {
                let broker = super::TestBroker::start().unwrap();
                // With a slash at the end, as the tutorials have it.
                super::$name(&format!("{}/", broker.uri()));
            })+
        }

        mod rabbitmq {
            $(#[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                let url = std::env::var("AMQP_TEST_URL")
                    .expect("AMQP_TEST_URL is not set: run `cargo xtask test`");
                super::$name(&url);
            })+
        }
    };
}
