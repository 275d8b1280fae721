//! Callbacks and timers, on the embedded broker.

mod world;

use std::sync::mpsc::channel as mpsc;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use amqp_blocking::proto::CloseReason;
use amqp_blocking::{
    BlockedPolicy, BlockingChannel, BlockingConnection, CallbackId, ChannelOptions, ConsumeOptions,
    ConsumerEnd, Delivery, Error, PostError, PublishError, QueueOptions,
};
use amqp_testbroker::TestBroker;
use world::{LONG, World, until};

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
fn no_more_than_256_run_at_once_and_no_more_than_65_536_wait() {
    let world = World::new(0);
    let connection = &world.connection;
    for _ in 0..300 {
        connection.add_callback_threadsafe(|_| ()).unwrap();
    }
    let handle = || connection.process_data_events(Duration::ZERO).unwrap();
    assert_eq!((handle(), handle(), handle()), (256, 44, 0));

    for _ in 0..65_536 {
        connection.add_callback_threadsafe(|_| ()).unwrap();
    }
    assert_eq!(
        connection.handle().add_callback_threadsafe(|_| ()),
        Err(PostError::Full)
    );
    while handle() > 0 {}
    connection.add_callback_threadsafe(|_| ()).unwrap();
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

/// Another thread that waits meanwhile does not take the next event where nobody hears it.
#[test]
fn an_event_waits_for_the_callbacks_that_run() {
    let world = World::new(0);
    let connection = &world.connection;
    let (sender, entered) = mpsc();
    let (leave, left) = mpsc();
    let left = Mutex::new(left);
    connection.add_on_connection_blocked_callback(move |_, _| {
        sender.send(()).unwrap();
        left.lock().unwrap().recv_timeout(LONG).unwrap();
    });
    let (sender, unblocked) = mpsc();
    connection.add_on_connection_unblocked_callback(move |_| sender.send(()).unwrap());
    let other = connection.clone();
    let telling = thread::spawn(move || other.process_data_events(LONG).unwrap());

    world.broker.with(|broker| broker.block("low on disk"));
    // RabbitMQ blocks who publishes.
    let _confirm = world.channel.basic_publish_deferred("", "q", "").unwrap();
    entered.recv_timeout(LONG).unwrap();
    let now = world.broker.now();
    world.broker.with(|broker| broker.unblock(now));
    until(|| connection.blocked().is_none());
    assert_eq!(connection.process_data_events(Duration::ZERO).unwrap(), 0);
    leave.send(()).unwrap();
    let told = telling.join().unwrap();
    if told == 1 {
        assert_eq!(connection.process_data_events(LONG).unwrap(), 1);
    }
    assert_eq!(unblocked.try_iter().count(), 1);
    assert_eq!(world.left(), Some(1));
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
    let (sender, ends) = mpsc();
    world
        .connection
        .add_on_close_callback(move |_, _| sender.send(()).unwrap());
    let error = world.connection.sleep(LONG).unwrap_err();
    assert!(
        error.to_string().starts_with("a callback panicked: Warning"),
        "{error}"
    );
    assert!(!world.connection.is_open());
    // It is not called again, not even with the end, which the others are told of.
    assert_eq!(world.connection.process_data_events(LONG).unwrap(), 1);
    assert_eq!(ends.try_iter().count(), 1);
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
    assert_eq!(Arc::strong_count(&log), 1, "they are gone too");
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
