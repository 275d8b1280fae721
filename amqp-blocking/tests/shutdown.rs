//! A connection that is shut down while other threads handle what comes, on the embedded broker.

use std::sync::mpsc::channel as mpsc;
use std::thread;
use std::time::{Duration, Instant};

use amqp_blocking::proto::{CloseReason, SendError};
use amqp_blocking::{BlockingConnection, ConsumeOptions, DispatchError, Error, QueueOptions};
use amqp_testbroker::TestBroker;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);

/// With a queue `q`, and so many messages in it.
fn start(messages: usize) -> (TestBroker, BlockingConnection) {
    let broker = TestBroker::start().unwrap();
    let connection = BlockingConnection::connect(&broker.uri()).unwrap();
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    (0..messages).for_each(|_| channel.basic_publish("", "q", "x").unwrap());
    (broker, connection)
}

#[test]
fn a_handler_on_another_thread_is_waited_for_although_its_delivery_is_settled() {
    let (broker, connection) = start(3);
    let channel = connection.channel().unwrap();
    channel.queue_declare("out", QueueOptions::default()).unwrap();
    let ((started, has_started), (go, may_go)) = (mpsc(), mpsc());
    let handler = move |channel: &amqp_blocking::BlockingChannel, delivery: amqp_blocking::Delivery| {
        delivery.ack()?;
        started.send(())?;
        may_go.recv()?;
        channel.basic_publish("", "out", "result")?;
        Ok(())
    };
    channel
        .basic_consume("q", ConsumeOptions::default(), handler)
        .unwrap();
    let consuming = thread::spawn({
        let channel = channel.clone();
        move || channel.start_consuming()
    });
    has_started.recv_timeout(LONG).unwrap();
    let shutting_down = thread::spawn({
        let connection = connection.clone();
        move || connection.shutdown(LONG)
    });
    let deadline = Instant::now() + LONG;
    while broker.with(|broker| broker.consumer_count("/", "q")) != Some(0) {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::yield_now();
    }
    let again = channel.basic_consume("q", ConsumeOptions::default(), |_, _| Ok(()));
    assert_eq!(again.unwrap_err(), Error::Refused(SendError::ShuttingDown));
    assert!(!shutting_down.is_finished() && connection.is_open());
    go.send(()).unwrap();
    let report = shutting_down.join().unwrap().unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    assert_eq!(report.given_back, 2);
    match consuming.join().unwrap() {
        Ok(()) | Err(DispatchError::Closed(CloseReason::Requested { .. })) => {}
        ended => panic!("{ended:?}"),
    }
    assert_eq!(
        (broker.queue_len("/", "q"), broker.queue_len("/", "out")),
        (Some(2), Some(1))
    );
}

#[test]
fn what_is_held_for_too_long_is_told() {
    let (broker, connection) = start(2);
    let channel = connection.channel().unwrap();
    let held = channel.basic_get("q", false).unwrap().unwrap();
    let (timeout, begin) = (Duration::from_millis(200), Instant::now());
    let report = connection.shutdown(timeout).unwrap();
    assert!(begin.elapsed() >= timeout / 2);
    assert_eq!((report.unsettled, report.is_complete()), (1, false));
    held.delivery.ack().unwrap_err();
    assert_eq!(connection.close().unwrap(), report);
    assert_eq!(broker.queue_len("/", "q"), Some(2));
}

#[test]
fn a_handler_may_close_the_connection() {
    let (_broker, connection) = start(1);
    let channel = connection.channel().unwrap();
    let (done, is_done) = mpsc();
    let handler = move |channel: &amqp_blocking::BlockingChannel, delivery: amqp_blocking::Delivery| {
        delivery.ack()?;
        done.send(channel.connection().close()?)?;
        Ok(())
    };
    channel
        .basic_consume("q", ConsumeOptions::default(), handler)
        .unwrap();
    channel.start_consuming().unwrap();
    let report = is_done.recv_timeout(LONG).unwrap();
    assert_eq!((report.handlers, report.unsettled), (1, 0));
}
