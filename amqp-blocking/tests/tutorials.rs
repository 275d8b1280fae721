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
    hello_world
}
