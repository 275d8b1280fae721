//! Consumers whose deliveries are handled in the background.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::{Channel, ConsumerEnd, FieldTable, PoisonPolicy, ProcessOptions, Queue};

use crate::world::{World, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

async fn queue_with(channel: &Channel, texts: &[&'static str]) -> Queue {
    let queue = channel.declare_queue("q").await.unwrap();
    for text in texts {
        channel.default_exchange().publish(*text, "q").await.unwrap();
    }
    queue
}

fn is_acknowledged(world: &World) -> bool {
    // What is unsettled still counts as memory of the broker.
    world.broker(|broker, _| broker.memory()) == 0
}

#[test]
fn no_more_handlers_run_than_are_allowed() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["x"; 10]).await;
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (sleep, highest) = (world.sleeper(), Arc::clone(&most));
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(3, ProcessOptions::default(), move |message| {
            assert_eq!(*message.body(), *b"x");
            let (running, most, pause) = (Arc::clone(&running), Arc::clone(&most), sleep(SECOND));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                pause.await;
                running.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            }
        });
        world.idle().await;
        assert_eq!(highest.load(Ordering::Relaxed), 3);
        world.sleep(4 * SECOND).await;
        world.idle().await;
        assert_eq!(
            (highest.load(Ordering::Relaxed), is_acknowledged(world)),
            (3, true)
        );
        assert_eq!(handling.stop().await, Ok(()));
        world.idle().await;
        assert_eq!(world.consumer_count("q"), 0);
    });
    assert_eq!(elapsed, 4 * SECOND);
}

#[test]
fn what_fails_is_rejected_and_all_else_acknowledged() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["good", "bad", "good", "bad"]).await;
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(2, ProcessOptions::default(), move |message| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                match &*message.body() {
                    b"bad" => Err("it is bad".into()),
                    _ => Ok(()),
                }
            }
        });
        world.idle().await;
        assert_eq!((seen.load(Ordering::Relaxed), is_acknowledged(world)), (4, true));
        handling.stop().await.unwrap();
        assert_eq!(world.queue_len("q"), 0);
    });
}

#[test]
fn what_fails_comes_again_once_if_that_is_asked_for() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["bad"]).await;
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let options = ProcessOptions::default()
            .requeue(true)
            .reject_on_redelivered(true);
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(1, options, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            async { Err("never".into()) }
        });
        world.idle().await;
        assert_eq!((seen.load(Ordering::Relaxed), is_acknowledged(world)), (2, true));
        handling.stop().await.unwrap();
    });
}

#[test]
fn a_handler_that_panics_has_its_delivery_rejected_and_the_others_go_on() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["at once", "later", "good"]).await;
        let good = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&good);
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(1, ProcessOptions::default(), move |message| {
            let body = message.body().into_owned();
            assert_ne!(body, b"at once", "on purpose");
            let count = Arc::clone(&count);
            async move {
                assert_ne!(body, b"later", "on purpose");
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        });
        world.idle().await;
        assert_eq!((world.panics(), good.load(Ordering::Relaxed)), (2, 1));
        assert!(is_acknowledged(world));
        assert_eq!(handling.stop().await, Ok(()));
    });
}

#[test]
fn stop_waits_for_what_runs_and_gives_back_the_rest() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["x"; 5]).await;
        let sleep = world.sleeper();
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(2, ProcessOptions::default(), move |_| {
            let pause = sleep(3 * SECOND);
            async move {
                pause.await;
                Ok(())
            }
        });
        world.sleep(SECOND).await;
        assert_eq!(handling.stop().await, Ok(()));
        assert_eq!(world.elapsed(), 3 * SECOND);
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.consumer_count("q")), (3, 0));
        assert_eq!(queue.purge().await.unwrap(), 3);
        assert!(is_acknowledged(world));
    });
    assert_eq!(elapsed, 3 * SECOND);
}

#[test]
fn dropped_it_takes_nothing_more_and_what_runs_goes_on() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["x"; 3]).await;
        let (sleep, done) = (world.sleeper(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&done);
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(1, ProcessOptions::default(), move |_| {
            let (pause, count) = (sleep(SECOND), Arc::clone(&count));
            async move {
                pause.await;
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        });
        world.idle().await;
        drop(handling);
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.consumer_count("q")), (2, 0));
        world.sleep(2 * SECOND).await;
        assert_eq!((done.load(Ordering::Relaxed), world.queue_len("q")), (1, 2));
    });
    assert_eq!(elapsed, 2 * SECOND);
}

#[test]
fn the_end_of_the_consumer_is_told_behind_the_last_handler() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["x"]).await;
        let sleep = world.sleeper();
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(4, ProcessOptions::default(), move |_| {
            let pause = sleep(2 * SECOND);
            async move {
                pause.await;
                Ok(())
            }
        });
        world.idle().await;
        queue.delete().await.unwrap();
        assert_eq!(handling.ended().await, Err(ConsumerEnd::CancelledByBroker));
        assert_eq!(world.elapsed(), 2 * SECOND);
        assert_eq!(handling.stop().await, Err(ConsumerEnd::CancelledByBroker));
    });
    assert_eq!(elapsed, 2 * SECOND);
}

#[test]
fn the_end_of_the_connection_ends_it() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, &["x"]).await;
        let handled = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&handled);
        let consumer = queue.consume().await.unwrap();
        let handling = consumer.handle(1, ProcessOptions::default(), move |message| {
            list.lock().unwrap().push(message.body().into_owned());
            async { Ok(()) }
        });
        world.idle().await;
        connection.close().await;
        assert!(matches!(handling.ended().await, Err(ConsumerEnd::Channel(_))));
        assert_eq!(*handled.lock().unwrap(), [b"x"]);
    });
}

/// A message that its handler panics at, in a queue that counts; how often that was called, and what is left where.
async fn panic_at_poison(world: &World, policy: PoisonPolicy) -> (usize, usize, usize) {
    let (_connection, channel) = world.channel().await;
    let mut arguments = FieldTable::new();
    arguments.insert("x-queue-type", "quorum").unwrap();
    let declare = channel.declare_queue("work").durable(true).arguments(arguments);
    let queue = declare.await.unwrap();
    channel.declare_queue("parked").durable(true).await.unwrap();
    channel.default_exchange().publish("x", "work").await.unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let options = ProcessOptions::default().requeue(true).poison(policy);
    let consumer = queue.consume().await.unwrap();
    let handling = consumer.handle(1, options, move |message| {
        count.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(message.body_len(), 0, "on purpose");
            Ok(())
        }
    });
    world.idle().await;
    handling.stop().await.unwrap();
    (
        calls.load(Ordering::Relaxed),
        world.queue_len("work"),
        world.queue_len("parked"),
    )
}

#[test]
fn a_handler_that_always_panics_is_called_no_more_often_than_the_policy_says() {
    everywhere(async |world| {
        let rejected = panic_at_poison(world, PoisonPolicy::after(3)).await;
        assert_eq!(rejected, (3, 0, 0));
    });
    everywhere(async |world| {
        let policy = PoisonPolicy::after(3).parked_in("parked");
        assert_eq!(panic_at_poison(world, policy).await, (3, 0, 1));
    });
}
