//! The examples, as programs: they are run as a reader would, and ended with Ctrl-C.

#![cfg(unix)]

#[path = "../../amqp-tokio/tests/tutorials/program.rs"]
mod program;

use amqp_blocking::BlockingConnection;
use amqp_testbroker::TestBroker;
use program::{Program, run, run_in_vain};

/// Deletes a queue that the programs share.
fn delete(url: &str, queue: &str) {
    delete_if(url, queue, false);
}

/// Deletes a queue whose messages were all delivered and acknowledged, and that nobody consumes from any more; otherwise it fails.
fn delete_settled(url: &str, queue: &str) {
    delete_if(url, queue, true);
}

fn delete_if(url: &str, queue: &str, is_settled: bool) {
    let connection = BlockingConnection::connect(url).unwrap();
    let channel = connection.channel().unwrap();
    channel.queue_delete(queue, is_settled, is_settled).unwrap();
    connection.close().unwrap();
}

fn hello_world(url: &str) {
    delete(url, "hello");
    assert_eq!(run(url, "blocking_hello_send", &[]), ["sent Hello World!"]);
    let receiver = Program::start_receiver(url, "blocking_hello_receive", &[]);
    receiver.expect("received Hello World!");
    run(url, "blocking_hello_send", &[]);
    receiver.expect("received Hello World!");
    receiver.interrupt();
    delete_settled(url, "hello");
}

fn work_queues(url: &str) {
    delete(url, "task_queue");
    let workers = ["blocking_worker", "blocking_worker"].map(|name| Program::start_receiver(url, name, &[]));
    assert_eq!(run(url, "blocking_new_task", &["first"]), ["sent first"]);
    assert_eq!(
        run(url, "blocking_new_task", &["second", "task"]),
        ["sent second task"]
    );
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
    let busy = Program::start_receiver(url, "blocking_worker", &[]);
    let takes_a_minute = ".".repeat(60);
    run(url, "blocking_new_task", &[&takes_a_minute]);
    busy.expect(&format!("received {takes_a_minute}"));
    let other = Program::start_receiver(url, "blocking_worker", &[]);
    for task in ["third", "fourth", "fifth"] {
        run(url, "blocking_new_task", &[task]);
        other.expect(&format!("received {task}"));
        other.expect(&format!("done {task}"));
    }
    drop(busy);
    other.expect(&format!("received {takes_a_minute} again"));
    drop(other);
    delete(url, "task_queue");
}

fn publish_subscribe(url: &str) {
    let nobody_listens = run(url, "blocking_emit_log", &[]);
    assert_eq!(nobody_listens, ["sent info: Hello World!"]);
    let receivers = ["blocking_receive_logs", "blocking_receive_logs"]
        .map(|name| Program::start_receiver(url, name, &[]));
    run(url, "blocking_emit_log", &["warning:", "for", "all"]);
    for receiver in receivers {
        receiver.expect("received warning: for all");
        receiver.interrupt();
    }
}

fn routing(url: &str) {
    assert!(
        run_in_vain(url, "blocking_receive_logs_direct", &[])
            .contains("usage: blocking_receive_logs_direct SEVERITY...")
    );
    let errors = Program::start_receiver(url, "blocking_receive_logs_direct", &["error"]);
    let most = Program::start_receiver(url, "blocking_receive_logs_direct", &["info", "error"]);
    assert_eq!(
        run(url, "blocking_emit_log_direct", &["warning", "for nobody"]),
        ["sent warning: for nobody"]
    );
    run(url, "blocking_emit_log_direct", &[]);
    run(url, "blocking_emit_log_direct", &["error", "for", "both"]);
    errors.expect("received error: for both");
    most.expect("received info: Hello World!");
    most.expect("received error: for both");
    errors.interrupt();
    most.interrupt();
}

fn topics(url: &str) {
    assert!(
        run_in_vain(url, "blocking_receive_logs_topic", &[])
            .contains("usage: blocking_receive_logs_topic PATTERN...")
    );
    let patterns: [&[&str]; 3] = [&["#"], &["kern.*"], &["*.critical", "kern.*"]];
    let [all, kernel, critical] =
        patterns.map(|patterns| Program::start_receiver(url, "blocking_receive_logs_topic", patterns));
    let sent = [
        ("kern.critical", "fits all"),
        ("kern.info", "fits all too"),
        ("cron.critical", "fits no kernel"),
        ("kern.net.critical", "has a word too many"),
    ];
    for (key, text) in sent {
        let printed = run(url, "blocking_emit_log_topic", &[key, text]);
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
    let complaint = run_in_vain(url, "blocking_rpc_client", &[]);
    assert!(
        complaint.contains("fib(30): no queue got the message"),
        "{complaint}"
    );
    let server = Program::start_receiver(url, "blocking_rpc_server", &[]);
    for (number, result) in [("0", "0"), ("10", "55"), ("90", "2880067194370816120")] {
        let printed = run(url, "blocking_rpc_client", &[number]);
        assert_eq!(printed, [format!("fib({number}) = {result}")]);
        server.expect(&format!("answered fib({number})"));
    }
    assert_eq!(run(url, "blocking_rpc_client", &[]), ["fib(30) = 832040"]);
    server.expect("answered fib(30)");
    for (number, words) in [
        ("100", "that is too large"),
        ("x", "invalid digit found in string"),
    ] {
        let complaint = run_in_vain(url, "blocking_rpc_client", &[number]);
        let words = format!("fib({number}): the server failed: {words}");
        assert!(complaint.contains(&words), "{complaint}");
    }
    server.interrupt();
    delete_settled(url, "rpc_queue");
}

/// A program without a broker fails, and says why.
#[test]
fn without_a_broker_the_reason_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let complaint = run_in_vain(&format!("amqp://{address}"), "blocking_hello_send", &[]);
    assert!(complaint.contains("ConnectionRefused"), "{complaint}");
}

macro_rules! tutorials {
    ($($name:ident)+) => {
        mod embedded {
            $(#[test]
            fn $name() {
                let broker = super::TestBroker::start().unwrap();
                super::$name(&broker.uri());
            })+
        }

        mod rabbitmq {
            $(#[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                let url = std::env::var("AMQP_TEST_URL").expect("AMQP_TEST_URL is not set: run `cargo xtask test`");
                super::$name(&url);
            })+
        }
    };
}

tutorials! {
    hello_world work_queues publish_subscribe routing topics remote_procedure_call
}
