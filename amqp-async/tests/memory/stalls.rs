//! Whoever waits for room goes on as soon as there is some, and nothing that must be said is left out for want of it.

use std::time::Duration;

use amqp_async::{ChannelOptions, ConsumeOptions, Error, PublishError, Qos};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, CloseReason, ConfirmLimits};

use crate::world::{World, config, everywhere, in_time};

/// Fills a queue without waiting for each confirm.
async fn fill(channel: &amqp_async::Channel, queue: &str, count: usize, size: usize) {
    let exchange = channel.default_exchange();
    let mut confirms = Vec::new();
    for _ in 0..count {
        confirms.push(exchange.publish_deferred(vec![b'x'; size], queue).await.unwrap());
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
}

#[test]
fn reading_goes_on_when_a_full_inbox_is_emptied() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 14, 1 << 20).await;
        let mut consumer = queue
            .consume_with(ConsumeOptions::default().no_ack(true))
            .await
            .unwrap();
        world.idle().await;
        let paused_at = connection.counters().octets_received;
        assert!(paused_at < 10 << 20, "it has read on: {paused_at}");
        for _ in 0..14 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body().len(), 1 << 20);
        }
        assert!(connection.counters().octets_received > 14 << 20);
    });
    world.wind_up();
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn small_messages_that_fill_the_buffer_are_all_read() {
    let mut world = World::new();
    world.set_window(4 << 20);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 20_000, 10).await;
        let mut consumer = queue
            .consume_with(ConsumeOptions::default().no_ack(true))
            .await
            .unwrap();
        for _ in 0..20_000 {
            drop(consumer.next().await.unwrap().unwrap());
        }
    });
    world.wind_up();
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn what_comes_while_a_transaction_is_committed_waits_for_its_end() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let channel = connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await
            .unwrap();
        channel.declare_queue("q").await.unwrap();
        channel.tx_select().await.unwrap();
        for round in 0..2 {
            let committing = channel.clone();
            world.spawn(async move { committing.tx_commit().await.unwrap() });
            let publishing = channel.clone();
            world.spawn(async move {
                publishing.default_exchange().publish("x", "q").await.unwrap();
            });
            channel.declare_queue("q").passive(true).await.unwrap();
            world.idle().await;
            channel.tx_commit().await.unwrap();
            assert_eq!(world.queue_len("q"), round + 1);
        }
    });
}

#[test]
fn what_waits_for_a_commit_goes_on_when_nobody_waits_for_the_commit_any_more() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let channel = connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await
            .unwrap();
        channel.tx_select().await.unwrap();
        world.set_deaf(true);
        assert_eq!(world.poll_once(channel.tx_commit()).await, None);
        let asking = channel.clone();
        world.spawn(async move { drop(asking.declare_queue("q").await.unwrap()) });
        world.idle().await;
        assert_eq!(world.broker(|broker, _| broker.queues("/").len()), 0);
        world.set_deaf(false);
        world.idle().await;
        assert_eq!(world.broker(|broker, _| broker.queues("/")), ["q"]);
    });
}

#[test]
fn a_delivery_dropped_during_a_commit_goes_back_all_the_same() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let channel = connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await
            .unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        channel.default_exchange().publish("b", "q").await.unwrap();
        channel.tx_select().await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let taken = consumer.next().await.unwrap().unwrap();
        world.set_deaf(true);
        let committing = channel.clone();
        world.spawn(async move { committing.tx_commit().await.unwrap() });
        world.idle().await;
        drop(taken);
        drop(consumer);
        world.set_deaf(false);
        world.idle().await;
        assert_eq!(world.consumer_count("q"), 0);
        channel.tx_commit().await.unwrap();
        assert_eq!(world.queue_len("q"), 2);
    });
}

#[test]
fn an_acknowledgement_waits_for_the_end_of_a_commit() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let channel = connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await
            .unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        channel.tx_select().await.unwrap();
        let delivery = queue.get().await.unwrap().unwrap();
        let committing = channel.clone();
        world.set_deaf(true);
        world.spawn(async move { committing.tx_commit().await.unwrap() });
        world.idle().await;
        world.set_deaf(false);
        delivery.ack().await.unwrap();
        channel.tx_commit().await.unwrap();
        channel.close().await.unwrap();
        assert_eq!(world.queue_len("q"), 0);
    });
}

#[test]
fn a_consumer_dropped_while_nothing_can_be_written_is_cancelled_later() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("kept", "q").await.unwrap();
        let consumer = queue.consume().await.unwrap();
        world.idle().await;
        world.set_deaf(true);
        let exchange = channel.default_exchange();
        let flood = vec![0; 2 << 20];
        let confirm = exchange.publish_deferred(flood, "q").await.unwrap();
        drop(consumer);
        world.set_deaf(false);
        confirm.await.unwrap();
        world.idle().await;
        assert_eq!((world.consumer_count("q"), world.queue_len("q")), (0, 2));
    });
    world.wind_up();
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn publishers_wait_for_room_and_all_get_it() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        for _ in 0..50 {
            let channel = channel.clone();
            world.spawn(async move {
                let body = vec![1; 200_000];
                channel.default_exchange().publish(body, "q").await.unwrap();
            });
        }
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.panics()), (50, 0));
        assert_eq!(connection.queued_bytes(), 0);
    });
    world.wind_up();
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[test]
fn publishers_keep_to_the_limit_of_unconfirmed_ones() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let limits = ConfirmLimits::default().count(3);
        let channel = connection
            .channel_with(ChannelOptions::default().limits(limits))
            .await
            .unwrap();
        channel.declare_queue("q").await.unwrap();
        world.set_mute(true);
        for _ in 0..20 {
            let channel = channel.clone();
            world.spawn(async move { channel.default_exchange().publish("x", "q").await.unwrap() });
        }
        world.idle().await;
        assert_eq!((channel.unconfirmed(), world.queue_len("q")), (3, 3));
        world.set_mute(false);
        world.idle().await;
        assert_eq!(
            (channel.unconfirmed(), world.queue_len("q"), world.panics()),
            (0, 20, 0)
        );
    });
}

#[test]
fn publishes_wait_while_the_broker_is_blocked() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.broker(|broker, _| broker.block("low on memory"));
        let exchange = channel.default_exchange();
        let first = exchange.publish_deferred("a", "q").await.unwrap();
        world.idle().await;
        assert_eq!(connection.blocked().as_deref(), Some("low on memory"));
        for _ in 0..3 {
            let exchange = exchange.clone();
            world.spawn(async move { exchange.publish("b", "q").await.unwrap() });
        }
        world.idle().await;
        assert_eq!(channel.unconfirmed(), 1);
        world.broker(|broker, now| broker.unblock(now));
        first.await.unwrap();
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.panics()), (4, 0));
        assert_eq!(connection.blocked(), None);
    });
}

#[test]
fn a_publish_that_waits_for_a_blocked_broker_learns_that_its_channel_ended() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.broker(|broker, _| broker.block("low on disk"));
        let first = channel
            .default_exchange()
            .publish_deferred("a", "q")
            .await
            .unwrap();
        world.idle().await;
        let exchange = channel.default_exchange();
        let waiting = world.spawn_with_result(async move { exchange.publish("b", "q").await });
        world.idle().await;
        assert!(waiting.lock().unwrap().is_none());
        let key = world.key();
        world.broker(|broker, now| {
            assert!(broker.close_channel(key, now, 1, ReplyCode::PRECONDITION_FAILED, "enough"));
        });
        world.idle().await;
        let error = waiting.lock().unwrap().take().expect("it was told").unwrap_err();
        assert_eq!(error.peer().map(|peer| &*peer.text), Some("enough"));
        assert!(matches!(
            error,
            PublishError::NotSent(Error::ChannelClosed(ChannelCloseReason::Peer(_)))
        ));
        first.await.unwrap_err();
        world.broker(|broker, now| broker.unblock(now));
    });
}

#[test]
fn a_connection_to_a_blocked_broker_closes_in_time() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.broker(|broker, _| broker.block("low on memory"));
        let first = channel
            .default_exchange()
            .publish_deferred("a", "q")
            .await
            .unwrap();
        world.idle().await;
        let exchange = channel.default_exchange();
        let waiting = world.spawn_with_result(async move { exchange.publish("b", "q").await });
        world.idle().await;
        let report = connection.close().await;
        assert_eq!(report.unconfirmed, 1);
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: false });
        assert!(matches!(first.await, Err(PublishError::Lost(_))));
        world.idle().await;
        let told = waiting.lock().unwrap().take();
        assert!(matches!(told, Some(Err(PublishError::NotSent(_)))), "{told:?}");
    });
    assert!(
        elapsed <= config().close_timeout + Duration::from_secs(2),
        "{elapsed:?}"
    );
}

#[test]
fn the_driver_leaves_a_peer_that_reads_nothing() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (connection, channel) = world.channel().await;
        world.set_deaf(true);
        let flood = vec![0; 1 << 20];
        channel
            .default_exchange()
            .publish_unconfirmed(flood, "q")
            .await
            .unwrap();
        world.idle().await;
        let report = connection.close().await;
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: false });
        world.sleep(Duration::from_secs(3)).await;
        assert!(world.driver_end(0).is_some(), "it hangs");
    });
    assert!(world.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_prefetch_limit_is_kept_and_needs_no_pause() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 20, 10).await;
        channel.set_qos(Qos::prefetch(7)).await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q"), 13);
        let mut taken = Vec::new();
        for _ in 0..7 {
            taken.push(consumer.next().await.unwrap().unwrap());
        }
        world.idle().await;
        assert_eq!(world.queue_len("q"), 13);
        taken.remove(3).ack().await.unwrap();
        taken.pop().unwrap().reject(false).await.unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q"), 11);
    });
}
