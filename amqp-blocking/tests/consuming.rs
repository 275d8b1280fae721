//! Handlers, callbacks and those who stop them, on the embedded broker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel as mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use amqp_blocking::proto::CloseReason;
use amqp_blocking::proto::wire::ReplyCode;
use amqp_blocking::{
    BlockedPolicy, BlockingChannel, BlockingConnection, CallbackId, ChannelOptions, Connector,
    ConsumeOptions, ConsumerEnd, Delivery, DispatchError, Error, HandlerError, IoThread, PostError,
    PublishError, Qos, QueueOptions,
};
use amqp_testbroker::TestBroker;

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);

struct World {
    broker: TestBroker,
    connection: BlockingConnection,
    channel: BlockingChannel,
}

impl World {
    /// With a queue `q`, and so many messages in it, each with its number.
    fn new(messages: u8) -> Self {
        let broker = TestBroker::start().unwrap();
        let connection = BlockingConnection::connect(&broker.uri()).unwrap();
        let channel = connection.channel().unwrap();
        channel.queue_declare("q", QueueOptions::default()).unwrap();
        let world = Self {
            broker,
            connection,
            channel,
        };
        (0..messages).for_each(|number| world.publish("q", number));
        world
    }

    fn publish(&self, queue: &str, number: u8) {
        self.channel.basic_publish("", queue, vec![number]).unwrap();
    }

    fn consume(
        &self,
        handler: impl FnMut(&BlockingChannel, Delivery) -> Result<(), HandlerError> + Send + 'static,
    ) -> String {
        let options = ConsumeOptions::default();
        self.channel.basic_consume("q", options, handler).unwrap()
    }

    /// How many messages are left when all is over.
    fn left(&self) -> Option<usize> {
        let report = self.connection.close().unwrap();
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
        self.broker.queue_len("/", "q")
    }
}

/// Waits for what another thread does.
fn until(is_done: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_done() {
        assert!(Instant::now() < deadline, "it takes too long");
        thread::yield_now();
    }
}

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
fn a_timer_that_panics_is_reported_too() {
    let world = World::new(0);
    world
        .connection
        .call_later(Duration::ZERO, |_| panic!("too late"));
    let error = world.connection.sleep(LONG).unwrap_err();
    assert_eq!(error.to_string(), "a callback panicked: too late");
    assert!(!world.connection.is_open());
}

#[test]
fn what_panics_about_a_return_is_reported_too() {
    let world = World::new(0);
    world
        .channel
        .add_on_return_callback(|_, returned| panic!("{}", returned.text));
    world
        .channel
        .basic_publish_unconfirmed("", "nowhere", "")
        .unwrap();
    let error = world.connection.sleep(LONG).unwrap_err();
    assert_eq!(error.to_string(), "a callback panicked: NO_ROUTE");
    assert!(!world.connection.is_open());
}

#[test]
fn what_panics_about_an_event_is_reported_too() {
    let world = World::new(0);
    world
        .connection
        .add_on_event_callback(|_, event| panic!("{event:?}"));
    let error = world.connection.sleep(LONG).unwrap_err();
    assert!(
        error.to_string().starts_with("a callback panicked: Warning"),
        "{error}"
    );
    assert!(!world.connection.is_open());
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
fn a_consumer_that_ends_is_told_of() {
    let world = World::new(0);
    let log = Arc::new(Mutex::new(Vec::new()));
    let ends = Arc::clone(&log);
    world.channel.add_on_cancel_callback(move |channel, tag, end| {
        assert!(channel.is_open());
        ends.lock().unwrap().push((tag.to_owned(), end.clone()));
    });
    let other = world.connection.channel().unwrap();
    other.add_on_cancel_callback(|_, tag, _| panic!("{tag} is another channel's"));
    let consume = |queue: &str| {
        let handler = |_: &BlockingChannel, _: Delivery| Ok(());
        world
            .channel
            .queue_declare(queue, QueueOptions::default())
            .unwrap();
        let options = ConsumeOptions::default();
        world.channel.basic_consume(queue, options, handler).unwrap()
    };
    let [first, second, third] = ["first", "second", "third"].map(consume);
    world.channel.queue_delete("first", false, false).unwrap();
    assert_eq!(world.connection.process_data_events(LONG).unwrap(), 1);
    // One that is cancelled from here is not told of.
    world.channel.basic_cancel(&second).unwrap();
    assert_eq!(world.connection.process_data_events(Duration::ZERO).unwrap(), 0);
    world.channel.queue_delete("third", false, false).unwrap();
    world.channel.start_consuming().unwrap_err();
    let expected = [first, third].map(|tag| (tag, ConsumerEnd::CancelledByBroker));
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(world.left(), Some(0));
}

#[test]
fn who_is_told_of_consumers_keeps_no_channel_open() {
    let world = World::new(0);
    let channels = || world.broker.connections()[0].channels;
    let before = channels();
    let channel = world.connection.channel().unwrap();
    let held = Arc::new(());
    let own = Arc::clone(&held);
    channel.add_on_cancel_callback(move |_, _, _| assert_eq!(Arc::strong_count(&own), 2));
    channel
        .basic_consume("q", ConsumeOptions::default(), |_, _| Ok(()))
        .unwrap();
    drop(channel);
    // Its consumer is the last to need it, and ends.
    world.channel.queue_delete("q", false, false).unwrap();
    assert_eq!(world.connection.process_data_events(LONG).unwrap(), 1);
    until(|| channels() == before);
    assert_eq!(Arc::strong_count(&held), 1, "the callback is gone");
}

/// Those that wait, one that runs, and one that comes after the one that removes it.
#[test]
fn callbacks_are_removed() {
    let world = World::new(0);
    let connection = &world.connection;
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let log = Arc::clone(&log);
        move || log.lock().unwrap().push(what)
    };
    let held = Arc::new(());
    let own = Arc::clone(&held);
    let waiting = connection.add_on_event_callback(move |_, _| panic!("{own:?}"));
    assert!(connection.remove_callback(&waiting));
    assert!(!connection.remove_callback(&waiting));
    assert_eq!(Arc::strong_count(&held), 1, "it is gone");

    let ids = Arc::new(Mutex::new(Vec::new()));
    let remove_all = || {
        let ids = Arc::clone(&ids);
        move |connection: &BlockingConnection| {
            let ids: Vec<CallbackId> = std::mem::take(&mut *ids.lock().unwrap());
            assert!(ids.iter().all(|id| connection.remove_callback(id)));
        }
    };
    let add = |id| ids.lock().unwrap().push(id);
    let (event, remove) = (note("event"), remove_all());
    add(connection.add_on_event_callback(move |connection, _| {
        event();
        remove(connection);
    }));
    add(connection.add_on_event_callback(|_, _| panic!("it was removed")));
    // The release's word on transient queues is an event.
    world
        .channel
        .queue_declare("another", QueueOptions::default())
        .unwrap();
    connection.process_data_events(LONG).unwrap();

    let (returned, remove) = (note("returned"), remove_all());
    add(world.channel.add_on_return_callback(move |channel, _| {
        returned();
        remove(channel.connection());
    }));
    for _ in 0..2 {
        world
            .channel
            .basic_publish_unconfirmed("", "nowhere", "")
            .unwrap();
    }
    assert_eq!(connection.process_data_events(LONG).unwrap(), 1);

    let (cancelled, remove) = (note("cancelled"), remove_all());
    add(world.channel.add_on_cancel_callback(move |channel, _, _| {
        cancelled();
        remove(channel.connection());
    }));
    add(world
        .channel
        .add_on_cancel_callback(|_, _, _| panic!("it was removed")));
    for _ in 0..2 {
        world.consume(|_, _| Ok(()));
    }
    world.channel.queue_delete("q", false, false).unwrap();
    assert_eq!(connection.process_data_events(LONG).unwrap(), 1);
    assert_eq!(*log.lock().unwrap(), ["event", "returned", "cancelled"]);
}

#[test]
fn the_end_of_a_connection_is_told_once() {
    let world = World::new(0);
    let (sender, told) = mpsc();
    let connection = &world.connection;
    connection.add_on_close_callback(move |connection, reason| {
        assert!(!connection.is_open());
        sender.send(reason.clone()).unwrap();
    });
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 0);
    connection.close().unwrap();
    assert_eq!(connection.process_data_events(LONG).unwrap(), 1);
    connection.process_data_events(LONG).unwrap_err();
    let reasons: Vec<_> = told.try_iter().collect();
    assert_eq!(reasons, [CloseReason::Requested { acknowledged: true }]);
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
fn timers_and_callbacks_run_on_the_thread_that_waits() {
    let world = World::new(0);
    let log = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str| {
        let (log, waiting) = (Arc::clone(&log), thread::current().id());
        move |_: &BlockingConnection| {
            assert_eq!(thread::current().id(), waiting);
            log.lock().unwrap().push(what);
        }
    };
    let begin = Instant::now();
    world
        .connection
        .call_later(Duration::from_millis(40), note("late"));
    let removed = world
        .connection
        .call_later(Duration::from_millis(1), note("removed"));
    world
        .connection
        .call_later(Duration::from_millis(20), note("soon"));
    assert!(world.connection.remove_timeout(removed));
    assert!(!world.connection.remove_timeout(removed));
    let handle = world.connection.handle();
    let posted = note("posted");
    thread::spawn(move || handle.add_callback_threadsafe(posted).unwrap())
        .join()
        .unwrap();
    while log.lock().unwrap().len() < 3 {
        assert!(world.connection.process_data_events(LONG).unwrap() > 0);
    }
    assert!(begin.elapsed() >= Duration::from_millis(40));
    assert_eq!(*log.lock().unwrap(), ["posted", "soon", "late"]);
    assert_eq!(world.left(), Some(0));
}

#[test]
fn a_callback_wakes_the_one_that_waits() {
    let world = World::new(0);
    let (handle, meeting) = (world.connection.handle(), Arc::new(Barrier::new(2)));
    let met = Arc::clone(&meeting);
    let posting = thread::spawn(move || {
        met.wait();
        handle.add_callback_threadsafe(|_| ()).unwrap();
        // A timer that comes before what is waited for counts too.
        handle
            .add_callback_threadsafe(|connection| {
                connection.call_later(Duration::ZERO, |_| ());
            })
            .unwrap();
    });
    meeting.wait();
    let mut count = 0;
    while count < 3 {
        count += world.connection.process_data_events(LONG).unwrap();
    }
    posting.join().unwrap();
    let handle = world.connection.handle();
    assert_eq!(world.left(), Some(0));
    drop(world);
    assert_eq!(handle.add_callback_threadsafe(|_| ()), Err(PostError::Closed));
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
fn a_broker_that_takes_no_publishes_is_told() {
    let world = World::new(0);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (on_blocked, on_unblocked) = (Arc::clone(&log), Arc::clone(&log));
    let connection = &world.connection;
    connection.add_on_connection_blocked_callback(move |connection, reason| {
        assert_eq!(connection.blocked().as_deref(), Some(reason));
        on_blocked.lock().unwrap().push(reason.to_owned());
    });
    connection
        .add_on_connection_unblocked_callback(move |_| on_unblocked.lock().unwrap().push("over".into()));
    let policy = BlockedPolicy::Fail;
    let channel = connection
        .channel_with(ChannelOptions::default().blocked(policy))
        .unwrap();
    let hasty = world.channel.with_timeout(Duration::from_millis(20));

    // RabbitMQ blocks who publishes.
    world.broker.with(|broker| broker.block("low on memory"));
    let _ = hasty.basic_publish("", "q", "first");
    connection.process_data_events(LONG).unwrap();
    let is_blocked = |published: Result<(), PublishError>| matches!(published, Err(PublishError::NotSent(Error::Blocked { reason })) if &*reason == "low on memory");
    assert!(is_blocked(channel.basic_publish("", "q", "second")));
    assert!(is_blocked(hasty.basic_publish("", "q", "third")));
    let now = world.broker.now();
    world.broker.with(|broker| broker.unblock(now));
    connection.process_data_events(LONG).unwrap();
    assert_eq!(*log.lock().unwrap(), ["low on memory", "over"]);
    channel.basic_publish("", "q", "fourth").unwrap();
    assert_eq!(world.left(), Some(2));
}

/// The release's word on transient queues is an event, and so are the broker's on its memory.
#[test]
fn what_no_callback_is_for_does_not_count() {
    let world = World::new(0);
    let connection = &world.connection;
    let hasty = world.channel.with_timeout(Duration::from_millis(20));
    let block = || {
        world.broker.with(|broker| broker.block("low on disk"));
        let _ = hasty.basic_publish("", "q", "whatever");
        until(|| connection.blocked().is_some());
    };
    let unblock = || {
        let now = world.broker.now();
        world.broker.with(|broker| broker.unblock(now));
        until(|| connection.blocked().is_none());
    };
    block();
    unblock();
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 0);

    connection.add_on_connection_unblocked_callback(|_| ());
    block();
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 0);
    unblock();
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 1);

    connection.add_on_event_callback(|_, _| ());
    block();
    unblock();
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 2);
    assert_eq!(world.left(), Some(3));
}

#[test]
fn what_comes_back_is_told_to_who_listens_for_it() {
    let world = World::new(0);
    let log = Arc::new(Mutex::new(Vec::new()));
    let listen = |channel: &BlockingChannel, name: &'static str| {
        let log = Arc::clone(&log);
        channel.add_on_return_callback(move |channel, returned| {
            assert!(channel.is_open());
            let key = returned.message.routing_key().to_string();
            let body = returned.message.body().into_owned();
            log.lock().unwrap().push((name, key, body, returned.text));
        });
    };
    let options = ChannelOptions::default().without_confirms();
    let unconfirmed = world.connection.channel_with(options).unwrap();
    listen(&world.channel, "confirming");
    listen(&unconfirmed, "unconfirmed");
    let come_back = |count| {
        let come_back = || log.lock().unwrap().len();
        let mut told = come_back();
        while come_back() < count {
            told += world.connection.process_data_events(LONG).unwrap();
        }
        assert_eq!((told, come_back()), (count, count));
    };

    // It is told to the one who waits for the confirm.
    let published = world.channel.basic_publish("", "nowhere", "waited for");
    assert!(
        matches!(published, Err(PublishError::Returned(_))),
        "{published:?}"
    );
    unconfirmed.basic_publish("", "nowhere", "0").unwrap();
    come_back(1);
    world.channel.basic_publish_unconfirmed("", "gone", "1").unwrap();
    come_back(2);
    unconfirmed.basic_publish("", "q", "routed").unwrap();
    unconfirmed
        .basic_publish_optional("", "nowhere", "optional")
        .unwrap();
    unconfirmed.basic_publish("", "nowhere", "2").unwrap();
    come_back(3);
    let told = |name, key: &str, body: &[u8]| (name, key.to_owned(), body.to_owned(), "NO_ROUTE".to_owned());
    let expected = [
        told("unconfirmed", "nowhere", b"0"),
        told("confirming", "gone", b"1"),
        told("unconfirmed", "nowhere", b"2"),
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(world.left(), Some(1));
}

/// Neither while it waits nor within itself.
#[test]
fn who_listens_keeps_no_channel_open() {
    let world = World::new(0);
    let channels = || world.broker.connections()[0].channels;
    let before = channels();
    let channel = world.connection.channel().unwrap();
    channel.add_on_return_callback(|_, _| panic!("nothing comes back"));
    assert_eq!(channels(), before + 1);
    drop(channel);
    until(|| channels() == before);

    let channel = world.connection.channel().unwrap();
    let last = Mutex::new(Some(channel.clone()));
    channel.add_on_return_callback(move |_, _| drop(last.lock().unwrap().take()));
    channel.basic_publish_unconfirmed("", "nowhere", "").unwrap();
    drop(channel);
    assert_eq!(world.connection.process_data_events(LONG).unwrap(), 1);
    until(|| channels() == before);
    assert_eq!(world.left(), Some(0));
}

#[test]
fn what_waits_to_be_written_is_told() {
    let broker = TestBroker::start().unwrap();
    let connection = BlockingConnection::connect(&broker.uri()).unwrap();
    let channel = connection.channel().unwrap();
    let now = broker.now();
    broker.with(|broker| {
        let key = broker.connections()[0].key;
        broker.set_deaf(key, now, true);
    });
    let (sender, told) = mpsc();
    connection.add_backpressure_callback(move |_, queued, limit| sender.send((queued, limit)).unwrap());
    let hasty = channel.with_timeout(Duration::from_millis(100));
    while hasty.basic_publish_unconfirmed("", "q", vec![0; 100_000]).is_ok() {}
    connection.process_data_events(LONG).unwrap();
    let (queued, limit) = told.try_recv().unwrap();
    assert!(queued > limit, "{queued} {limit}");
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
