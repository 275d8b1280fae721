//! A shutdown finishes what is under way, in time, and says what it could not finish.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::proto::{CloseReason, SendError};
use amqp_async::rpc::{RpcClient, serve};
use amqp_async::{
    Channel, ChannelOptions, CloseReport, Connection, ConsumeOptions, Consumer, Error, Handling,
    ProcessOptions, PublishError, Queue,
};

use crate::world::{World, config, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// What most of them have: of these, 5 s are kept for the close.
const TIMEOUT: Duration = Duration::from_secs(20);

const SAID_GOODBYE: CloseReason = CloseReason::Requested { acknowledged: true };
const LEFT_ALONE: CloseReason = CloseReason::Requested { acknowledged: false };

async fn queue_with(channel: &Channel, name: &str, count: usize) -> Queue {
    let queue = channel.declare_queue(name).await.unwrap();
    for _ in 0..count {
        channel.default_exchange().publish("x", name).await.unwrap();
    }
    queue
}

/// Two handlers at a time, each of which takes that long and then publishes its result to `out`.
fn handle(world: &World, consumer: Consumer, time: Duration) -> Handling {
    let sleep = world.sleeper();
    let out = consumer.channel().default_exchange();
    consumer.handle(2, ProcessOptions::default(), move |_| {
        let (pause, out) = (sleep(time), out.clone());
        async move {
            pause.await;
            out.publish("result", "out").await?;
            Ok(())
        }
    })
}

/// In the background, as from another task.
fn shut_down(world: &World, connection: &Connection, timeout: Duration) -> Arc<Mutex<Option<CloseReport>>> {
    let connection = connection.clone();
    world.spawn_with_result(async move { connection.shutdown(timeout).await })
}

fn counts(report: &CloseReport) -> [usize; 6] {
    [
        report.consumers,
        report.handlers,
        report.unsettled,
        report.given_back,
        report.untaken,
        report.unconfirmed,
    ]
}

#[test]
fn handlers_finish_and_publish_what_they_have_and_the_rest_goes_back() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 5).await;
        channel.declare_queue("out").await.unwrap();
        let handling = handle(world, queue.consume().await.unwrap(), 3 * SECOND);
        world.sleep(SECOND).await;
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!(world.elapsed(), 3 * SECOND);
        assert_eq!(report.reason, SAID_GOODBYE);
        assert_eq!(counts(&report), [0, 0, 0, 3, 0, 0]);
        assert!(report.is_complete());
        assert_eq!(handling.ended().await, Ok(()));
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.queue_len("out")), (3, 2));
    });
    assert_eq!(elapsed, 3 * SECOND);
}

#[test]
fn what_is_not_done_in_time_is_told_and_goes_back() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 3).await;
        let handling = handle(world, queue.consume().await.unwrap(), 60 * SECOND);
        world.idle().await;
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!(world.elapsed(), 15 * SECOND);
        assert_eq!(report.reason, SAID_GOODBYE);
        assert_eq!(counts(&report), [0, 2, 2, 1, 0, 0]);
        assert!(!report.is_complete());
        world.idle().await;
        assert_eq!(world.queue_len("q"), 3);
        handling.ended().await.unwrap();
    });
    assert_eq!(elapsed, 60 * SECOND);
}

#[test]
fn acknowledgements_that_wait_for_others_are_sent() {
    in_time(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().coalesce_acks(100, 60 * SECOND);
        let channel = connection.channel_with(options).await.unwrap();
        let queue = queue_with(&channel, "q", 4).await;
        let mut consumer = queue.consume().await.unwrap();
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(consumer.next().await.unwrap().unwrap());
        }
        let late = taken.remove(1);
        for delivery in taken {
            delivery.ack().await.unwrap();
        }
        world.sleep(SECOND).await;
        let sent = connection.counters().frames_sent;
        let report = shut_down(world, &connection, TIMEOUT);
        world.idle().await;
        // Three acknowledgements, as there is something unsettled between them, and the end of the consumer.
        assert_eq!(connection.counters().frames_sent, sent + 4);
        assert!(report.lock().unwrap().is_none(), "a delivery is held");
        world.sleep(SECOND).await;
        // That is not joined any more, and nothing is left to wait for.
        late.ack().await.unwrap();
        world.idle().await;
        let report = report.lock().unwrap().take().expect("it is over");
        assert_eq!(counts(&report), [0; 6]);
        assert_eq!((world.elapsed(), world.queue_len("q")), (2 * SECOND, 0));
    });
}

#[test]
fn meanwhile_all_works_but_new_consumers() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 2).await;
        let mut consumer = queue.consume().await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        world.sleep(SECOND).await;
        let report = shut_down(world, &connection, TIMEOUT);
        world.idle().await;
        assert!(report.lock().unwrap().is_none(), "a delivery is held");
        assert_eq!(world.consumer_count("q"), 0);
        let refused = queue.consume().await.unwrap_err();
        assert_eq!(refused, Error::Refused(SendError::ShuttingDown));
        let other = connection.channel().await.unwrap();
        let refused = other.queue("q").consume().await.unwrap_err();
        assert_eq!(refused, Error::Refused(SendError::ShuttingDown));
        let out = other.declare_queue("out").await.unwrap();
        other.default_exchange().publish("result", "out").await.unwrap();
        out.get().await.unwrap().unwrap().ack().await.unwrap();
        // It was cancelled here.
        assert!(consumer.next().await.is_none());
        delivery.ack().await.unwrap();
        world.idle().await;
        let report = report
            .lock()
            .unwrap()
            .take()
            .expect("nothing is left to wait for");
        assert_eq!(counts(&report), [0, 0, 0, 1, 0, 0]);
        assert_eq!((world.elapsed(), world.queue_len("q")), (SECOND, 1));
    });
}

#[test]
fn a_handler_may_still_make_a_call() {
    in_time(async |world| {
        let server = world.connect().await.channel().await.unwrap();
        let calls = server.declare_queue("calls").await.unwrap();
        let serving = serve(&calls, 1, async |_| Ok("42".into())).await.unwrap();
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 2).await;
        let sleep = world.sleeper();
        let consumer = queue.consume().await.unwrap();
        let client = RpcClient::new(&channel).await.unwrap();
        let handling = consumer.handle(1, ProcessOptions::default(), move |_| {
            let (pause, client, channel) = (sleep(SECOND), client.clone(), channel.clone());
            async move {
                pause.await;
                let answer = client.call("calls", "what is it?").await?;
                // One that is made only now can be used as well.
                let other = RpcClient::new(&channel.connection().channel().await?).await?;
                let again = other.call("calls", "again?").await?;
                assert_eq!((&*answer.body(), &*again.body()), (&b"42"[..], &b"42"[..]));
                Ok(())
            }
        });
        world.idle().await;
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!((counts(&report), world.elapsed()), ([0, 0, 0, 1, 0, 0], SECOND));
        handling.ended().await.unwrap();
        serving.stop().await.unwrap();
    });
}

#[test]
fn deliveries_are_waited_for_however_they_are_settled() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 6).await;
        let mut held = vec![queue.get().await.unwrap().unwrap()];
        let mut consumer = queue.consume().await.unwrap();
        for _ in 0..5 {
            held.push(consumer.next().await.unwrap().unwrap());
        }
        let report = shut_down(world, &connection, TIMEOUT);
        let is_over = async || {
            world.idle().await;
            report.lock().unwrap().is_some()
        };
        let mut held = held.into_iter();
        let mut next = || held.next().unwrap();
        assert!(!is_over().await);
        next().nack(true).await.unwrap();
        drop(next());
        let (_, _message) = next().into_message();
        let (tag, _message) = next().into_message();
        assert!(!is_over().await);
        channel.basic_ack(tag, true).unwrap();
        next().reject(false).await.unwrap();
        assert!(!is_over().await);
        next().ack().await.unwrap();
        assert!(is_over().await);
        assert_eq!(counts(report.lock().unwrap().as_ref().unwrap()), [0; 6]);
    });
}

/// Nobody takes them, so nobody will settle them.
#[test]
fn what_waits_in_an_idle_consumer_holds_up_nothing() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 9).await;
        let (mut idle, dropped) = (queue.consume().await.unwrap(), queue.consume().await.unwrap());
        world.idle().await;
        idle.next().await.unwrap().unwrap().ack().await.unwrap();
        let report = shut_down(world, &connection, TIMEOUT);
        drop(dropped);
        world.idle().await;
        let report = report.lock().unwrap().take().expect("nothing is waited for");
        assert!(report.is_complete());
        // Those that were given back before it began are not its business.
        assert!(report.given_back >= 3, "{report:?}");
        assert_eq!(world.queue_len("q"), 8);
        assert!(idle.next().await.is_none());
    });
}

#[test]
fn messages_that_the_broker_has_forgotten_are_handled_first() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 6).await;
        channel.declare_queue("out").await.unwrap();
        let options = ConsumeOptions::default().no_ack(true);
        let consumer = queue.consume_with(options).await.unwrap();
        let handling = handle(world, consumer, 2 * SECOND);
        world.sleep(SECOND).await;
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!((counts(&report), world.elapsed()), ([0; 6], 6 * SECOND));
        assert_eq!(handling.ended().await, Ok(()));
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.queue_len("out")), (0, 6));
    });
    assert_eq!(elapsed, 6 * SECOND);
}

#[test]
fn messages_that_the_broker_has_forgotten_and_nobody_takes_are_told_and_can_be_taken() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 4).await;
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        world.idle().await;
        drop(consumer.next().await.unwrap().unwrap());
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!(
            (counts(&report), world.elapsed()),
            ([0, 0, 0, 0, 3, 0], 15 * SECOND)
        );
        for _ in 0..3 {
            drop(consumer.next().await.unwrap().unwrap());
        }
        assert!(consumer.next().await.is_none());
    });
}

#[test]
fn a_broker_that_falls_silent_is_left_in_time() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 2).await;
        let mut consumer = queue.consume().await.unwrap();
        let first = consumer.next().await.unwrap().unwrap();
        world.set_mute(true);
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let report = shut_down(world, &connection, TIMEOUT);
        world.sleep(19 * SECOND).await;
        assert!(report.lock().unwrap().is_none());
        world.sleep(SECOND).await;
        world.idle().await;
        let report = report.lock().unwrap().take().expect("it is over");
        assert_eq!(report.reason, LEFT_ALONE);
        assert_eq!(counts(&report), [1, 0, 1, 1, 0, 1]);
        assert!(matches!(confirm.await, Err(PublishError::Lost(_))));
        first.ack().await.unwrap_err();
        assert_eq!(world.elapsed(), TIMEOUT);
    });
}

#[test]
fn what_is_given_back_while_the_channel_closes_is_told_once() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 4).await;
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        let report = shut_down(world, &connection, TIMEOUT);
        world.set_mute(true);
        world.sleep(17 * SECOND).await;
        assert!(consumer.next().await.is_none());
        world.sleep(3 * SECOND).await;
        world.idle().await;
        let report = report.lock().unwrap().take().expect("it is over");
        assert_eq!(counts(&report), [1, 0, 0, 3, 0, 0]);
    });
}

#[test]
fn whoever_asks_gets_the_same_report_and_who_is_in_a_hurry_counts() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 3).await;
        let handling = handle(world, queue.consume().await.unwrap(), 60 * SECOND);
        world.sleep(SECOND).await;
        let patient = shut_down(world, &connection, 100 * SECOND);
        world.idle().await;
        let other = shut_down(world, &connection, TIMEOUT);
        world.sleep(SECOND).await;
        let quick = connection.close().await;
        assert_eq!(world.elapsed(), 2 * SECOND);
        assert_eq!(counts(&quick), [0, 2, 2, 1, 0, 0]);
        world.idle().await;
        for report in [patient, other] {
            assert_eq!(report.lock().unwrap().as_ref(), Some(&quick));
        }
        assert_eq!(connection.shutdown(TIMEOUT).await, quick);
        assert_eq!(connection.close().await, quick);
        handling.ended().await.unwrap();
    });
}

#[test]
fn it_goes_on_if_nobody_waits_for_it() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 3).await;
        channel.declare_queue("out").await.unwrap();
        handle(world, queue.consume().await.unwrap(), 3 * SECOND).ended_later(world);
        world.idle().await;
        assert!(world.poll_once(connection.shutdown(TIMEOUT)).await.is_none());
        drop((queue, channel));
        assert_eq!(connection.closed().await, SAID_GOODBYE);
        assert_eq!((world.elapsed(), world.queue_len("out")), (3 * SECOND, 2));
    });
    assert_eq!(elapsed, 3 * SECOND);
}

#[test]
fn a_connection_that_ends_meanwhile_tells_what_was_under_way() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 3).await;
        let handling = handle(world, queue.consume().await.unwrap(), 60 * SECOND);
        world.idle().await;
        world.broker(|broker, _| broker.delay_confirms(SECOND));
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "other")
            .await
            .unwrap();
        let report = shut_down(world, &connection, TIMEOUT);
        world.idle().await;
        world.drop_driver(0);
        world.idle().await;
        let report = report.lock().unwrap().take().expect("it has ended");
        assert!(matches!(report.reason, CloseReason::Transport { .. }));
        assert_eq!(counts(&report), [0, 2, 2, 1, 0, 1]);
        confirm.await.unwrap_err();
        handling.ended().await.unwrap();
        // The broker has not noticed; the test's own looks need it to.
        let key = world.key();
        world.broker(|broker, now| broker.hang_up_after(key, now, 0));
    });
}

#[test]
fn of_a_connection_that_has_ended_nothing_is_left_to_tell() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let key = world.key();
        let code = amqp_proto::wire::ReplyCode::CONNECTION_FORCED;
        world.broker(|broker, now| broker.close_connection(key, now, code, "bye"));
        connection.closed().await;
        let report = connection.shutdown(TIMEOUT).await;
        assert!(matches!(&report.reason, CloseReason::Peer(peer) if &*peer.text == "bye"));
        assert_eq!(counts(&report), [0; 6]);
    });
    everywhere(async |world| {
        let connection = world.start_unkept(config());
        let report = connection.shutdown(TIMEOUT).await;
        assert_eq!(
            (report.reason, counts(&connection.close().await)),
            (LEFT_ALONE, [0; 6])
        );
    });
}

#[test]
fn a_close_does_not_wait_for_handlers_and_tells_how_many_there_were() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = queue_with(&channel, "q", 5).await;
        let handling = handle(world, queue.consume().await.unwrap(), 3 * SECOND);
        world.idle().await;
        let report = connection.close().await;
        assert_eq!(
            (counts(&report), world.elapsed()),
            ([0, 2, 2, 3, 0, 0], Duration::ZERO)
        );
        handling.ended().await.unwrap_err();
        assert_eq!(world.queue_len("q"), 5);
    });
}

trait EndedLater {
    fn ended_later(self, world: &World);
}

impl EndedLater for Handling {
    /// Kept until it has ended.
    fn ended_later(self, world: &World) {
        world.spawn(async move {
            self.ended().await.unwrap();
        });
    }
}
