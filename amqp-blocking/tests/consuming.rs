//! Handlers and those who stop them, on the embedded broker.

mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel as mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use amqp_blocking::proto::wire::ReplyCode;
use amqp_blocking::proto::{CloseReason, ConnectionParameters};
use amqp_blocking::{
    BlockingChannel, BlockingConnection, Connector, ConsumeOptions, ConsumerEnd, Delivery, DispatchError,
    IoThread, PostError, Qos, QueueOptions, Recovery,
};
use amqp_testbroker::TestBroker;
use world::{LONG, World, until};

#[test]
fn a_handler_stops_after_ten() {
    let world = World::new(15);
    let mut count = 0;
    world.consume(move |channel, delivery| {
        assert_eq!(*delivery.body(), [count]);
        delivery.ack()?;
        count += 1;
        if count == 10 {
            channel.stop_consuming();
        }
        Ok(())
    });
    world.channel.start_consuming().unwrap();
    let sixth = world.channel.basic_get("q", false).unwrap().unwrap();
    assert_eq!(
        *sixth.delivery.body(),
        [10],
        "what was not handled is back, in its order"
    );
    drop(sixth);
    assert_eq!(world.left(), Some(5));
}

#[test]
fn another_thread_stops_it() {
    let world = World::new(1);
    let (sender, handled) = mpsc();
    world.consume(move |_, delivery| {
        delivery.ack()?;
        Ok(sender.send(())?)
    });
    let stop = world.channel.stop_handle();
    let stopping = thread::spawn(move || {
        handled.recv_timeout(LONG).unwrap();
        stop.stop_consuming();
    });
    world.channel.start_consuming().unwrap();
    stopping.join().unwrap();
    assert_eq!(world.left(), Some(0));
}

#[test]
fn a_stop_before_the_start_counts() {
    let world = World::new(3);
    world.consume(|_, _| panic!("nothing is to be handled"));
    world.channel.stop_consuming();
    world.channel.start_consuming().unwrap();
    assert_eq!(world.left(), Some(3));
}

#[test]
fn without_a_consumer_there_is_nothing_to_wait_for() {
    let world = World::new(0);
    world.channel.start_consuming().unwrap();
    let tag = world.consume(|_, _| panic!("nothing is to be handled"));
    world.publish("q", 0);
    assert!(world.channel.basic_cancel(&tag).unwrap() <= 1);
    assert_eq!(world.channel.basic_cancel(&tag), Ok(0));
    world.channel.start_consuming().unwrap();
    assert_eq!(world.left(), Some(1));
}

#[test]
fn a_handler_cancels_its_own_consumer() {
    let world = World::new(3);
    let tag = Arc::new(Mutex::new(String::new()));
    let own = Arc::clone(&tag);
    let name = world.consume(move |channel, delivery| {
        channel.basic_cancel(&own.lock().unwrap())?;
        Ok(delivery.ack()?)
    });
    *tag.lock().unwrap() = name;
    world.channel.start_consuming().unwrap();
    assert_eq!(world.left(), Some(2));
}

#[test]
fn a_handler_may_use_its_channel() {
    let world = World::new(1);
    world.consume(|channel, delivery| {
        channel.queue_declare("answers", QueueOptions::default())?;
        channel.basic_publish("", "answers", delivery.body().into_owned())?;
        channel.basic_ack(delivery, false)?;
        channel.close()?;
        Ok(())
    });
    world.channel.start_consuming().unwrap();
    assert!(!world.channel.is_open());
    assert_eq!(world.broker.queue_len("/", "answers"), Some(1));
    assert_eq!(world.left(), Some(0));
}

#[test]
fn a_handler_that_fails_is_reported_and_goes_on() {
    let world = World::new(2);
    world.consume(|channel, delivery| {
        if *delivery.body() == [0] {
            delivery.reject(false)?;
            return Err("no good".into());
        }
        channel.stop_consuming();
        Ok(delivery.ack()?)
    });
    let error = world.channel.start_consuming().unwrap_err();
    assert_eq!(error.to_string(), "a handler failed: no good");
    world.channel.start_consuming().unwrap();
    assert_eq!(world.left(), Some(0));
}

#[test]
fn a_handler_that_panics_is_reported_and_the_connection_closes_in_order() {
    let world = World::new(2);
    world.consume(|_, delivery| panic!("no {:?}", delivery.body()));
    let error = world.channel.start_consuming().unwrap_err();
    assert_eq!(error.to_string(), "a callback panicked: no [0]");
    assert!(!world.connection.is_open());
    let error = world.connection.process_data_events(LONG).unwrap_err();
    assert!(
        matches!(
            &error,
            DispatchError::Closed(CloseReason::Requested { acknowledged: true })
        ),
        "{error}"
    );
    assert_eq!(world.left(), Some(2));
}

#[test]
fn a_queue_that_is_deleted_ends_its_consumer() {
    let world = World::new(0);
    world.consume(|_, _| panic!("nothing is to be handled"));
    world.channel.queue_delete("q", false, false).unwrap();
    let error = world.channel.start_consuming().unwrap_err();
    let DispatchError::Consumer(ConsumerEnd::CancelledByBroker) = error else {
        panic!("{error:?}");
    };
    assert!(!error.is_requested());
}

#[test]
fn a_connection_that_ends_ends_it_with_the_broker_s_words() {
    let world = World::new(1);
    world.consume(|_, _| Ok(()));
    let now = world.broker.now();
    world.broker.with(|broker| {
        let key = broker.connections()[0].key;
        broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "CONNECTION_FORCED - test");
    });
    let error = world.channel.start_consuming().unwrap_err();
    assert!(error.to_string().contains("CONNECTION_FORCED - test"), "{error}");
    let error = world.connection.add_callback_threadsafe(|_| ()).unwrap_err();
    assert_eq!(error, PostError::Closed);
}

#[test]
fn threads_consume_from_channels_of_one_connection() {
    const EACH: usize = 200;
    let world = World::new(0);
    let handled = Arc::new(AtomicUsize::new(0));
    let consuming: Vec<_> = (0..3)
        .map(|number| {
            let channel = world.connection.channel().unwrap();
            let queue = format!("q{number}");
            channel.queue_declare(&queue, QueueOptions::default()).unwrap();
            channel.basic_qos(Qos::prefetch(10)).unwrap();
            let handled = Arc::clone(&handled);
            let mut count = 0;
            let handler = move |channel: &BlockingChannel, delivery: Delivery| {
                handled.fetch_add(1, Ordering::Relaxed);
                count += 1;
                if count == EACH {
                    channel.stop_consuming();
                }
                Ok(delivery.ack()?)
            };
            channel
                .basic_consume(&queue, ConsumeOptions::default(), handler)
                .unwrap();
            thread::spawn(move || channel.start_consuming())
        })
        .collect();
    for number in 0..EACH {
        for queue in ["q0", "q1", "q2"] {
            world.publish(queue, u8::try_from(number % 256).unwrap());
        }
    }
    for thread in consuming {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(handled.load(Ordering::Relaxed), 3 * EACH);
    assert_eq!(world.left(), Some(0));
}

/// A thread that gives up waiting must not take with it what would have woken another.
#[test]
fn one_that_waits_in_passing_takes_nothing_from_another() {
    let world = World::new(0);
    let (sender, handled) = mpsc();
    world.consume(move |channel, delivery| {
        delivery.ack()?;
        channel.stop_consuming();
        Ok(sender.send(())?)
    });
    let channel = world.channel.clone();
    let consuming = thread::spawn(move || channel.start_consuming());
    for _ in 0..20 {
        assert_eq!(
            world
                .connection
                .process_data_events(Duration::from_millis(1))
                .unwrap(),
            0
        );
    }
    world.publish("q", 0);
    handled.recv_timeout(LONG).unwrap();
    consuming.join().unwrap().unwrap();
    assert_eq!(world.left(), Some(0));
}

#[test]
fn an_iterator_lets_timers_run() {
    let world = World::new(0);
    let publisher = world.channel.clone();
    world.connection.call_later(Duration::from_millis(10), move |_| {
        publisher.basic_publish("", "q", "timely").unwrap();
    });
    let mut consumer = world.channel.consume("q", ConsumeOptions::default()).unwrap();
    let delivery = consumer.next_within(LONG).unwrap().unwrap();
    assert_eq!(&*delivery.body(), b"timely");
    delivery.ack().unwrap();
    assert!(consumer.next_within(Duration::from_millis(1)).unwrap().is_none());
    assert_eq!(world.left(), Some(0));
    assert!(consumer.next().is_none());
}

#[test]
fn the_last_handle_closes_the_connection() {
    let World {
        broker,
        connection,
        channel,
    } = World::new(0);
    let stop = channel.stop_handle();
    drop(connection);
    assert!(channel.is_open());
    drop(channel);
    until(|| broker.connections().is_empty());
    stop.stop_consuming();
}

/// The handler does not come back before another thread has had its answers.
#[test]
fn confirms_and_acknowledgements_go_on_while_a_handler_is_busy() {
    let world = World::new(1);
    let other = world.connection.channel().unwrap();
    other.queue_declare("other", QueueOptions::default()).unwrap();
    let (sender, done) = mpsc();
    world.consume(move |channel, delivery| {
        let (other, sender) = (other.clone(), sender.clone());
        let working = thread::spawn(move || {
            for _ in 0..100 {
                other.basic_publish("", "other", "meanwhile").unwrap();
                let got = other.basic_get("other", false).unwrap().unwrap();
                got.delivery.ack().unwrap();
            }
            sender.send(()).unwrap();
        });
        done.recv_timeout(LONG)?;
        working.join().unwrap();
        channel.stop_consuming();
        Ok(delivery.ack()?)
    });
    world.channel.start_consuming().unwrap();
    assert_eq!(world.broker.queue_len("/", "other"), Some(0));
    assert_eq!(world.left(), Some(0));
}

/// Sleeps in a handler. Without heartbeats meanwhile the broker would hang up.
fn sleep_in_a_handler(uri: &str, duration: Duration, most_wake_ups: u64) {
    let thread = IoThread::start().unwrap();
    let connector = Connector::from_uri(&format!("{uri}?heartbeat=1")).unwrap();
    let connection = connector.io_thread(&thread).connect().unwrap();
    let channel = connection.channel().unwrap();
    let queue = channel
        .queue_declare("", QueueOptions::default().exclusive(true))
        .unwrap()
        .name;
    channel.basic_publish("", &queue, "slow").unwrap();
    let waking = thread.clone();
    let handler = move |channel: &BlockingChannel, delivery: Delivery| {
        let before = waking.wake_ups();
        thread::sleep(duration);
        let wake_ups = waking.wake_ups() - before;
        assert!(
            (1..=most_wake_ups).contains(&wake_ups),
            "it woke {wake_ups} times"
        );
        channel.stop_consuming();
        Ok(delivery.ack()?)
    };
    channel
        .basic_consume(&queue, ConsumeOptions::default(), handler)
        .unwrap();
    channel.start_consuming().unwrap();
    assert_eq!(channel.queue_delete(&queue, true, true).unwrap(), 0);
    connection.close().unwrap();
}

/// The broker forgives three heartbeats.
#[test]
fn a_handler_that_sleeps_keeps_its_connection() {
    let broker = TestBroker::start().unwrap();
    sleep_in_a_handler(&broker.uri(), Duration::from_millis(3_300), 20);
}

#[test]
fn an_idle_thread_does_not_wake() {
    let broker = TestBroker::start().unwrap();
    let thread = IoThread::start().unwrap();
    let connector = Connector::from_uri(&format!("{}?heartbeat=0", broker.uri())).unwrap();
    let connection = connector.io_thread(&thread).connect().unwrap();
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    let mut consumer = channel.consume("q", ConsumeOptions::default()).unwrap();
    assert!(thread.wake_ups() > 0);
    let is_idle = |_| {
        let before = thread.wake_ups();
        assert!(
            consumer
                .next_within(Duration::from_millis(200))
                .unwrap()
                .is_none()
        );
        thread.wake_ups() == before
    };
    // At first something may still be under way.
    assert!((0..5).any(is_idle), "{} wake-ups", thread.wake_ups());
}

/// Publishes once more, so that the broker says that it is blocked.
#[test]
fn a_broker_that_is_blocked_for_too_long_is_given_up() {
    let broker = TestBroker::start().unwrap();
    let uri = format!("{}?blocked_connection_timeout=0.05", broker.uri());
    let connection = BlockingConnection::connect(&uri).unwrap();
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    channel
        .basic_consume("q", ConsumeOptions::default(), |_, _| Ok(()))
        .unwrap();
    broker.with(|broker| broker.block("low on disk"));
    channel.basic_publish_unconfirmed("", "nowhere", "").unwrap();
    let error = channel.start_consuming().unwrap_err();
    assert!(
        error.to_string().contains("blocked for too long: low on disk"),
        "{error}"
    );
    assert!(!error.is_requested() && !connection.is_open());
}

mod rabbitmq {
    use super::*;

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_handler_that_sleeps_ten_heartbeats_keeps_its_connection() {
        let uri = std::env::var("AMQP_TEST_URL").expect("AMQP_TEST_URL is not set: run `cargo xtask test`");
        sleep_in_a_handler(&uri, Duration::from_secs(10), 60);
    }
}

#[test]
fn an_iterator_is_told_of_a_gap_where_the_connection_can_be_used() {
    let broker = TestBroker::start().unwrap();
    let parameters = ConnectionParameters::from_uri(&broker.uri()).unwrap();
    let connector = Connector::new(parameters).recovery(Recovery::default());
    let connection = connector.connect().unwrap();
    let channel = connection.channel().unwrap();
    let queue = QueueOptions::default().durable(true);
    channel.queue_declare("q", queue).unwrap();
    let (sender, gaps) = mpsc();
    let other = channel.clone();
    let consumer = channel.consume("q", ConsumeOptions::default()).unwrap();
    let mut consumer = consumer.on_interruption(move |interruption| {
        other.basic_publish("", "q", "behind the gap").unwrap();
        sender.send(interruption.clone()).unwrap();
    });
    let key = broker.connections()[0].key;
    let now = broker.now();
    broker.with(|broker| {
        let words = "CONNECTION_FORCED - by the operator";
        broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, words);
    });
    let delivery = consumer.next_within(LONG).unwrap().unwrap();
    assert_eq!(&*delivery.body(), b"behind the gap");
    let gap = gaps.try_recv().unwrap();
    assert!(!delivery.is_stale());
    assert!(matches!(gap.cause, ConsumerEnd::Channel(_)) && !gap.is_stale(delivery.tag()));
    delivery.ack().unwrap();
    drop(consumer);
    connection.close().unwrap();
}
