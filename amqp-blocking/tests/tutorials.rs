//! The examples, as programs: they are run as a reader would, and ended with Ctrl-C.

#![cfg(unix)]

#[macro_use]
#[path = "../../amqp-tokio/tests/tutorials/expected.rs"]
mod expected;
#[path = "../../amqp-tokio/tests/tutorials/program.rs"]
mod program;
#[path = "../../amqp-tokio/tests/tutorials/vendors.rs"]
mod vendors;

use amqp_testbroker::TestBroker;
use expected::{hello_world, publish_subscribe, remote_procedure_call, routing, topics, work_queues};
use program::{Program, run_in_vain};

mod adapter {
    use amqp_blocking::BlockingConnection;
    pub(crate) use amqp_blocking::proto::ConnectionParameters;

    pub(crate) const PREFIX: &str = "blocking_";

    pub(crate) const UNROUTED_CALL: &str = "no queue got the message";

    pub(crate) fn delete_if(url: &str, queue: &str, is_settled: bool) {
        let connection = BlockingConnection::connect(url).unwrap();
        let channel = connection.channel().unwrap();
        channel.queue_delete(queue, is_settled, is_settled).unwrap();
        connection.close().unwrap();
    }

    pub(crate) fn publish(url: &str, queue: &str, body: &'static str) {
        let connection = BlockingConnection::connect(url).unwrap();
        let channel = connection.channel().unwrap();
        channel.basic_publish("", queue, body).unwrap();
        connection.close().unwrap();
    }
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

/// Ctrl-C while a task is done: it is finished, acknowledged, and nothing is left.
#[test]
fn ctrl_c_waits_for_the_handler() {
    let broker = TestBroker::start().unwrap();
    let url = broker.uri();
    let worker = Program::start_receiver(&url, "blocking_worker", &[]);
    program::run(&url, "blocking_new_task", &["slow."]);
    worker.expect("received slow.");
    worker.press_ctrl_c();
    assert_eq!(worker.rest(), ["done slow.", "closed on request"]);
    expected::delete_settled(&url, "task_queue");
}

programs! {
    hello_world work_queues publish_subscribe routing topics remote_procedure_call
}
