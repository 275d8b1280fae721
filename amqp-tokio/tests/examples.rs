//! The examples that are no tutorial's, as programs: see `tutorials.rs`.

#![cfg(unix)]

#[path = "tutorials/program.rs"]
mod program;

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use amqp_testbroker::TestBroker;
use amqp_tokio::Channel;
use amqp_tokio::proto::ConnectionParameters;
use program::{Program, run, run_in_vain};
use tokio::runtime::Runtime;

/// Does something on a channel of its own.
fn with_channel<F: Future>(url: &str, action: impl FnOnce(Channel) -> F) -> F::Output {
    let acting = async {
        let connection = amqp_tokio::connect(url).await.unwrap();
        let result = action(connection.channel().await.unwrap()).await;
        connection.close().await;
        result
    };
    Runtime::new().unwrap().block_on(acting)
}

/// Deletes what a run before may have left.
fn delete(url: &str, queues: &[&str]) {
    with_channel(url, async |channel| {
        for queue in queues {
            channel.queue(*queue).delete().await.unwrap();
        }
    });
}

fn priority_queue(url: &str) {
    let expected = [
        "priority 10: alarm",
        "priority 255: end of the world",
        "priority 3: invoice",
        "priority 3: second invoice",
        "priority 0: newsletter",
        "closed on request",
    ];
    assert_eq!(run(url, "priority_queue", &[]), expected);
}

fn quorum_queue(url: &str) {
    delete(url, &["orders", "orders.dead"]);
    let expected = [
        "a book: done",
        // The first time, and as often again as the limit says.
        "poison: failed",
        "poison: failed",
        "poison: failed",
        "poison is a dead letter: delivery_limit",
        "closed on request",
    ];
    assert_eq!(run(url, "quorum_queue", &[]), expected);
}

fn stream(url: &str) {
    delete(url, &["measurements"]);
    let expected = [
        "from \"first\":",
        "0: 19.5",
        "1: 19.7",
        "2: 20.1",
        "from 3:",
        "3: 20.6",
        "4: 21.0",
        "closed on request",
    ];
    assert_eq!(run(url, "stream", &[]), expected);
}

fn graceful_shutdown(url: &str) {
    delete(url, &["task_queue"]);
    let service = Program::start_receiver(url, "graceful_shutdown", &[]);
    run(url, "new_task", &["first"]);
    service.expect("started first");
    service.expect("done first");
    run(url, "new_task", &["slow.."]);
    service.expect("started slow..");
    service.press_ctrl_c();
    let expected = [
        "stopping",
        "done slow..",
        "closed on request, 0 not done: another worker gets them",
    ];
    assert_eq!(service.rest(), expected);
    // Both were acknowledged, and nobody consumes any more.
    let delete_settled = async |channel: Channel| channel.queue("task_queue").delete_if(true, true).await;
    with_channel(url, delete_settled).unwrap();

    // Without the time to finish, the task is not lost.
    let hasty = Program::start_receiver(url, "graceful_shutdown", &["1"]);
    let takes_a_minute = ".".repeat(60);
    run(url, "new_task", &[&takes_a_minute]);
    hasty.expect(&format!("started {takes_a_minute}"));
    hasty.press_ctrl_c();
    let expected = [
        "stopping",
        "closed on request, 1 not done: another worker gets them",
    ];
    assert_eq!(hasty.rest(), expected);
    let take_it = async |channel: Channel| {
        let mut consumer = channel.queue("task_queue").consume().await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.body(), takes_a_minute.as_bytes());
        delivery.ack().await.unwrap();
    };
    with_channel(url, take_it);
    delete(url, &["task_queue"]);
}

fn usage(url: &str) {
    let printed = run(url, "usage", &[]);
    let [delivery, rest @ ..] = &printed[..] else {
        panic!("it prints nothing");
    };
    // All of a message but its body, which may be large or nobody's business.
    assert_eq!(
        delivery,
        "Delivery { tag: DeliveryTag(1 of 1#0), redelivered: false, source: Get { message_count: 0 }, message: Message { exchange: \
         \"usage.direct\", routing_key: \"info\", properties: Properties { content_type: \"text/plain\", headers: {\"foo\": \
         \"bar\"} }, body_len: 5, .. }, .. }"
    );
    let expected = [
        "Hello",
        "then: None",
        "0 messages deleted with the queue",
        "closed on request",
    ];
    assert_eq!(rest, expected);
}

/// Posts a message, and gives the status and the body of the answer.
fn post(address: &str, message: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let length = message.len();
    let request = format!(
        "POST /messages HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{message}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// The service, and where it listens.
fn start_axum_service(url: &str) -> (Program, String) {
    let service = Program::start(url, "axum_service", &["127.0.0.1:0"]);
    let line = service.line().unwrap();
    let address = line.strip_prefix("listening on ").unwrap().to_owned();
    (service, address)
}

fn axum_service(url: &str) {
    delete(url, &["messages"]);
    let (service, address) = start_axum_service(url);
    service.expect("connected");
    assert_eq!(post(&address, "Hello"), (202, String::new()));
    let get = async |channel: Channel| channel.queue("messages").get_with(true).await.unwrap();
    assert_eq!(with_channel(url, get).unwrap().body(), &b"Hello"[..]);

    delete(url, &["messages"]);
    let why = "no queue got the message: 312 NO_ROUTE NO_ROUTE".to_owned();
    assert_eq!(post(&address, "to nobody"), (503, why));
    service.interrupt();
}

/// Makes tests of them.
macro_rules! examples {
    ($($name:ident)+) => {
        mod embedded {
            $(#[test]
            fn $name() {
                super::$name(&super::TestBroker::start().unwrap().uri());
            })+
        }

        mod rabbitmq {
            use super::variable;

            $(#[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                super::$name(&variable("AMQP_TEST_URL"));
            })+
        }
    };
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

examples! { priority_queue quorum_queue graceful_shutdown usage axum_service }

#[test]
fn the_axum_service_serves_while_there_is_no_broker() {
    let broker = TestBroker::start().unwrap();
    broker.with(|broker| broker.refuse_connections(u32::MAX));
    let (service, address) = start_axum_service(&broker.uri());
    let state = service.line().unwrap();
    let why = state.strip_prefix("not connected: ").unwrap();
    assert_eq!(post(&address, "too early"), (503, why.to_owned()));

    let until_connected = || while service.line().unwrap() != "connected" {};
    broker.with(|broker| broker.refuse_connections(0));
    until_connected();
    assert_eq!(post(&address, "in time"), (202, String::new()));
    let now = broker.now();
    broker.with(|broker| broker.restart(now));
    until_connected();
    assert_eq!(post(&address, "after the restart"), (202, String::new()));
    assert_eq!(broker.queue_len("/", "messages"), Some(2));
    service.interrupt();
}

/// What the embedded broker does not have.
mod not_embedded {
    use super::*;

    #[test]
    fn streams_are_refused_by_the_embedded_broker() {
        let broker = TestBroker::start().unwrap();
        let complaint = run_in_vain(&broker.uri(), "stream", &[]);
        assert!(complaint.contains("x-queue-type"), "{complaint}");
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn stream() {
        super::stream(&variable("AMQP_TEST_URL"));
    }
}

mod rabbitmq_over_tls {
    use super::*;

    /// The embedded broker asks for no client certificates.
    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn with_client_certificate_tls_client_certificate() {
        let parameters = ConnectionParameters::from_uri(&variable("AMQP_TEST_TLS_URL")).unwrap();
        let (host, port) = parameters.addresses().next().unwrap();
        let url = format!("amqps://{host}:{port}");
        let ca_file = parameters.tls.as_ref().unwrap().ca_certificate.clone().unwrap();
        let (certificate, key) = (
            variable("AMQP_TEST_CLIENT_CERT"),
            variable("AMQP_TEST_CLIENT_KEY"),
        );
        let mut variables = [
            ("AMQP_URL", &*url),
            ("AMQP_CA", &ca_file),
            ("AMQP_CERTIFICATE", &certificate),
            ("AMQP_KEY", &key),
        ];
        let expected = [
            "logged in without a password",
            "received Hello",
            "closed on request",
        ];
        let start = |variables: &[_]| Program::start_with(variables, "tls_client_certificate", &[]);
        assert_eq!(start(&variables).rest(), expected);

        // The key must be that of the certificate.
        variables[2].1 = &ca_file;
        let complaint = start(&variables).rest_in_vain();
        assert!(complaint.contains(&ca_file), "{complaint}");
    }
}
