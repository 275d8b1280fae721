//! Acknowledgements that wait for others: none is lost, none is too many, and nobody waits for them.

use std::time::Duration;

use amqp_async::{Channel, ChannelOptions, Connection, Delivery, Error, Qos, Queue, Reopen};
use amqp_proto::wire::ReplyCode;

use crate::world::{config, everywhere, in_time};

const DELAY: Duration = Duration::from_millis(100);

/// A channel that joins so many, and a queue that holds so many messages.
async fn joining(connection: &Connection, count: u16, messages: usize) -> (Channel, Queue) {
    let options = ChannelOptions::default().coalesce_acks(count, DELAY);
    let channel = connection.channel_with(options).await.unwrap();
    let queue = channel.declare_queue("q").await.unwrap();
    for number in 0..messages {
        let exchange = channel.default_exchange();
        exchange.publish(number.to_string(), "q").await.unwrap();
    }
    (channel, queue)
}

fn sent(connection: &Connection) -> u64 {
    connection.counters().frames_sent
}

async fn take(queue: &Queue, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(queue.get().await.unwrap().unwrap());
    }
    taken
}

#[test]
fn a_consumer_never_waits_for_what_was_not_said() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let (channel, queue) = joining(&connection, 1000, 200).await;
        channel.set_qos(Qos::prefetch(40)).await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let before = sent(&connection);
        for _ in 0..100 {
            // Out of their order, and no time passes.
            let first = consumer.next().await.unwrap().unwrap();
            let second = consumer.next().await.unwrap().unwrap();
            second.ack().await.unwrap();
            first.ack().await.unwrap();
        }
        assert_eq!(
            sent(&connection) - before,
            10,
            "one for each half of the prefetch limit"
        );
        drop(consumer);
        connection.close().await;
        assert_eq!(world.queue_len("q"), 0);
    });
}

#[test]
fn an_idle_channel_says_in_time_what_was_acknowledged_and_sleeps_on() {
    in_time(async |world| {
        let connection = world.connect().await;
        let (_channel, queue) = joining(&connection, 1000, 3).await;
        let mut taken = take(&queue, 3).await.into_iter();
        // What the requests have left in the clock is over.
        world.sleep(2 * config().request_timeout).await;
        assert_eq!(world.next_deadline(), None);
        let before = sent(&connection);
        taken.next().unwrap().ack().await.unwrap();
        taken.next().unwrap().ack().await.unwrap();
        world.sleep(DELAY - Duration::from_nanos(1)).await;
        assert_eq!(sent(&connection), before);
        world.sleep(Duration::from_nanos(1)).await;
        world.idle().await;
        assert_eq!(sent(&connection), before + 1);
        assert_eq!(world.next_deadline(), None, "nothing is left to wake up for");
        taken.next().unwrap().ack().await.unwrap();
        world.idle().await;
        assert_eq!(world.next_deadline(), Some(world.elapsed() + DELAY));
        world.sleep(DELAY).await;
        world.idle().await;
        assert_eq!((sent(&connection), world.next_deadline()), (before + 2, None));
        // The broker knows, whatever happens now.
        let key = world.key();
        world.broker(|broker, now| broker.close_connection(key, now, ReplyCode::INTERNAL_ERROR, "x"));
        connection.closed().await;
        assert_eq!(world.queue_len("q"), 0);
    });
}

#[test]
fn what_the_broker_does_not_know_when_the_connection_is_lost_comes_again() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let (_channel, queue) = joining(&connection, 2, 3).await;
        for delivery in take(&queue, 3).await {
            delivery.ack().await.unwrap();
        }
        world.idle().await;
        let key = world.key();
        world.broker(|broker, now| broker.close_connection(key, now, ReplyCode::INTERNAL_ERROR, "x"));
        connection.closed().await;
        assert_eq!(world.queue_len("q"), 1);
    });
}

#[test]
fn what_others_have_not_settled_goes_back() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let (channel, queue) = joining(&connection, 1000, 9).await;
        let others = channel.declare_queue("others").await.unwrap();
        let mut one = queue.consume().await.unwrap();
        let mut other = others.consume().await.unwrap();
        for _ in 0..4 {
            one.next().await.unwrap().unwrap().ack().await.unwrap();
        }
        channel.default_exchange().publish("x", "others").await.unwrap();
        let kept = other.next().await.unwrap().unwrap();
        for _ in 4..9 {
            one.next().await.unwrap().unwrap().ack().await.unwrap();
        }
        channel.default_exchange().publish("x", "q").await.unwrap();
        one.next().await.unwrap().unwrap().ack().await.unwrap();
        let before = sent(&connection);
        one.cancel().await.unwrap();
        // One for nine, one for what is behind the unsettled one, and the cancel itself.
        assert_eq!(sent(&connection) - before, 3);
        drop(kept);
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.queue_len("others")), (0, 0));
        assert!(other.next().await.unwrap().unwrap().is_redelivered());
    });
}

#[test]
fn an_orderly_end_and_a_flush_say_all() {
    for way in 0..5 {
        everywhere(async |world| {
            let connection = world.start_unkept(config());
            connection.ready().await.unwrap();
            let (channel, queue) = joining(&connection, 1000, 3).await;
            for delivery in take(&queue, 3).await {
                delivery.ack().await.unwrap();
            }
            drop(queue);
            match way {
                0 => channel.close().await.unwrap(),
                1 => drop(connection.close().await),
                2 => drop(channel),
                3 => connection.flush().await.unwrap(),
                _ => drop((channel, connection)),
            }
            world.idle().await;
            let key = world.key();
            world.broker(|broker, now| broker.close_connection(key, now, ReplyCode::INTERNAL_ERROR, "x"));
            world.idle().await;
            assert_eq!(world.queue_len("q"), 0, "{way}");
        });
    }
}

#[test]
fn a_channel_that_is_opened_again_joins_again_and_only_its_own() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::always());
        let channel = connection
            .channel_with(options.coalesce_acks(2, DELAY))
            .await
            .unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        for _ in 0..5 {
            channel.default_exchange().publish("x", "q").await.unwrap();
        }
        let mut taken = take(&queue, 4).await.into_iter();
        // Two are said, one waits, one is unsettled when the channel ends.
        for delivery in taken.by_ref().take(3) {
            delivery.ack().await.unwrap();
        }
        world.idle().await;
        let (key, number) = (world.key(), channel.number());
        let code = ReplyCode::PRECONDITION_FAILED;
        world.broker(|broker, now| broker.close_channel(key, now, number, code, "x"));
        world.idle().await;
        assert_eq!(world.queue_len("q"), 3);
        let error = taken.next().unwrap().ack().await.unwrap_err();
        assert!(matches!(error, Error::ChannelClosed(_)), "{error:?}");
        let before = sent(&connection);
        let taken = take(&queue, 3).await;
        for delivery in taken {
            delivery.ack().await.unwrap();
        }
        channel.close().await.unwrap();
        // Three gets, one ack for two and one for one, one close.
        assert_eq!((sent(&connection) - before, world.queue_len("q")), (6, 0));
    });
}

#[test]
fn a_transaction_that_is_rolled_back_gives_back_what_was_acknowledged_in_it() {
    everywhere(async |world| {
        let connection = world.connect().await;
        joining(&connection, 1000, 5).await;
        let options = ChannelOptions::default().without_confirms();
        let channel = connection
            .channel_with(options.coalesce_acks(1000, DELAY))
            .await
            .unwrap();
        let mut taken = take(&channel.queue("q"), 5).await.into_iter();
        taken.next().unwrap().ack().await.unwrap();
        channel.tx_select().await.unwrap();
        for delivery in taken.by_ref().take(2) {
            delivery.ack().await.unwrap();
        }
        channel.tx_rollback().await.unwrap();
        for delivery in taken {
            delivery.ack().await.unwrap();
        }
        channel.tx_commit().await.unwrap();
        channel.close().await.unwrap();
        assert_eq!(world.queue_len("q"), 2);
    });
}
