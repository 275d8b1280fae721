//! The examples, as programs: they are run as a reader would, given what they need, and asked for what they printed.
//!
//! A receiver prints that it is waiting when it is ready, and is ended with SIGINT, which is Ctrl-C.

#![cfg(unix)]

#[path = "tutorials/program.rs"]
mod program;

use amqp_testbroker::TestBroker;
use program::{Program, run, run_in_vain};
use tokio::runtime::Runtime;

/// Deletes a queue that the programs share, as it is.
fn delete(url: &str, queue: &str) {
    delete_if(url, queue, false);
}

/// Deletes a queue whose messages were all delivered and acknowledged, and that nobody consumes from any more; otherwise it fails.
fn delete_settled(url: &str, queue: &str) {
    delete_if(url, queue, true);
}

fn delete_if(url: &str, queue: &str, is_settled: bool) {
    let deleting = async {
        let connection = amqp_tokio::connect(url).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let queue = channel.queue(queue);
        queue.delete_if(is_settled, is_settled).await.unwrap();
        connection.close().await;
    };
    Runtime::new().unwrap().block_on(deleting);
}

fn hello_world(url: &str) {
    delete(url, "hello");
    assert_eq!(run(url, "hello_send", &[]), ["sent Hello World!"]);
    let receiver = Program::start_receiver(url, "hello_receive", &[]);
    receiver.expect("received Hello World!");
    run(url, "hello_send", &[]);
    receiver.expect("received Hello World!");
    receiver.interrupt();
    delete_settled(url, "hello");
}

fn work_queues(url: &str) {
    delete(url, "task_queue");
    let workers = ["worker", "worker"].map(|name| Program::start_receiver(url, name, &[]));
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
    let busy = Program::start_receiver(url, "worker", &[]);
    let takes_a_minute = ".".repeat(60);
    run(url, "new_task", &[&takes_a_minute]);
    busy.expect(&format!("received {takes_a_minute}"));
    let other = Program::start_receiver(url, "worker", &[]);
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

fn publish_subscribe(url: &str) {
    let nobody_listens = run(url, "emit_log", &[]);
    assert_eq!(nobody_listens, ["sent info: Hello World!"]);
    let receivers = ["receive_logs", "receive_logs"].map(|name| Program::start_receiver(url, name, &[]));
    run(url, "emit_log", &["warning:", "for", "all"]);
    for receiver in receivers {
        receiver.expect("received warning: for all");
        receiver.interrupt();
    }
}

fn routing(url: &str) {
    assert!(run_in_vain(url, "receive_logs_direct", &[]).contains("usage: receive_logs_direct SEVERITY..."));
    let errors = Program::start_receiver(url, "receive_logs_direct", &["error"]);
    let most = Program::start_receiver(url, "receive_logs_direct", &["info", "error"]);
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

fn topics(url: &str) {
    assert!(run_in_vain(url, "receive_logs_topic", &[]).contains("usage: receive_logs_topic PATTERN..."));
    let patterns: [&[&str]; 3] = [&["#"], &["kern.*"], &["*.critical", "kern.*"]];
    let [all, kernel, critical] =
        patterns.map(|patterns| Program::start_receiver(url, "receive_logs_topic", patterns));
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

fn remote_procedure_call(url: &str) {
    delete(url, "rpc_queue");
    let complaint = run_in_vain(url, "rpc_client", &[]);
    assert!(
        complaint.contains("fib(30): no queue takes the call"),
        "{complaint}"
    );
    let server = Program::start_receiver(url, "rpc_server", &[]);
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

fn confirms(url: &str) {
    let expected = [
        "1000 confirmed, 0 refused, 0 returned, 0 lost",
        "returned: to nowhere (NO_ROUTE)",
        "closed on request, 0 unconfirmed",
    ];
    assert_eq!(run(url, "confirms", &[]), expected);
}

fn headers(url: &str) {
    let expected = [
        "all: contract",
        "any: contract",
        "any: manual",
        "any: alarm",
        "closed on request",
    ];
    assert_eq!(run(url, "headers", &[]), expected);
}

/// Makes tests of them.
macro_rules! tutorials {
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

tutorials! {
    hello_world work_queues publish_subscribe routing topics remote_procedure_call confirms headers
}
