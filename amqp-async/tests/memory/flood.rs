//! More messages than a program can take at once.

use std::time::Duration;

use amqp_async::{Channel, ChannelOptions, ConsumeOptions, Consumer, ConsumerEnd, Qos};
use amqp_proto::{ChannelCloseReason, CloseReason, ConfirmLimits};

use crate::world::{World, config};

/// Fills a queue, a thousand messages at a time.
async fn fill(channel: &Channel, queue: &str, count: usize, size: usize) {
    let exchange = channel.default_exchange();
    for start in (0..count).step_by(1000) {
        let mut confirms = Vec::new();
        for number in start..count.min(start + 1000) {
            let mut body = vec![b'x'; size.max(8)];
            body[..8].copy_from_slice(&(number as u64).to_be_bytes());
            confirms.push(exchange.publish_deferred(body, queue).await.unwrap());
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }
}

fn run(test: impl AsyncFn(&World)) {
    for seed in [0, 1] {
        let mut world = World::new();
        world.set_seed(seed);
        world.run(test(&world));
        world.wind_up();
        assert_eq!((world.elapsed(), world.panics()), (Duration::ZERO, 0));
    }
}

#[test]
fn a_consumer_that_takes_nothing_does_not_hold_up_another_one_with_a_prefetch_limit() {
    run(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.set_qos(Qos::prefetch(10)).await.unwrap();
        let (lazy, busy) = (
            channel.declare_queue("lazy").await.unwrap(),
            channel.declare_queue("busy").await.unwrap(),
        );
        fill(&channel, "lazy", 1000, 100).await;
        fill(&channel, "busy", 1000, 100).await;
        let _lazy = lazy.consume().await.unwrap();
        let mut busy = busy.consume().await.unwrap();
        for number in 0..1000_u64 {
            let delivery = busy.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
            let left = 1000 - usize::try_from(number).unwrap();
            assert!(world.queue_len("busy") + 10 >= left, "more than ten are here");
            delivery.ack().await.unwrap();
        }
        world.idle().await;
        assert_eq!((world.queue_len("lazy"), world.queue_len("busy")), (990, 0));
    });
}

#[test]
fn a_handler_that_awaits_a_confirm_gets_it_in_the_middle_of_a_flood() {
    run(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("in").await.unwrap();
        channel.declare_queue("out").await.unwrap();
        fill(&channel, "in", 20_000, 600).await;
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        let exchange = channel.default_exchange();
        for number in 0..20_000_u64 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
            exchange.publish(&delivery.body()[..8], "out").await.unwrap();
        }
        assert_eq!(connection.counters().delivered, 20_000);
        assert_eq!((world.queue_len("in"), world.queue_len("out")), (0, 20_000));
    });
}

#[test]
fn a_flood_without_acknowledgements_is_held_back_even_if_somebody_waits_for_an_answer() {
    run(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 90, 1 << 20).await;
        world.broker(|broker, _| broker.delay_confirms(Duration::from_secs(3600)));
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        world.idle().await;
        let delivered = connection.counters().delivered;
        assert!((64..70).contains(&delivered), "{delivered}");
        for number in 0..90_u64 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
        }
        // Who publishes what it consumes itself gets room for that.
        drop(confirm);
        fill_unconfirmed(&channel, 30).await;
        for _ in 0..31 {
            drop(consumer.next().await.unwrap().unwrap());
        }
        drop(consumer);
    });
}

/// So many messages of 1 MiB for a consumer without acknowledgements; another queue to publish to meanwhile.
async fn flood(channel: &Channel, count: usize) -> Consumer {
    let queue = channel.declare_queue("q").await.unwrap();
    channel.declare_queue("out").await.unwrap();
    fill(channel, "q", count, 1 << 20).await;
    let options = ConsumeOptions::default().no_ack(true);
    queue.consume_with(options).await.unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_stream_that_is_held_back_is_sipped_at_so_that_the_broker_sees_somebody_there() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let mut consumer = flood(&channel, 90).await;
        world.idle().await;
        let delivered = || connection.counters().delivered;
        let at_first = delivered();
        assert!((1..=2).contains(&at_first), "{at_first}");
        for sips in 1..=10 {
            world.sleep(5 * SECOND).await;
            world.idle().await;
            let more = delivered() - at_first;
            assert!(
                (sips - 1..=2 * sips).contains(&more),
                "{more} messages after {sips} sips"
            );
        }
        // Whoever takes what came has it read at once again.
        for _ in 0..delivered() {
            drop(consumer.next().await.unwrap().unwrap());
        }
        let before = delivered();
        drop(consumer.next().await.unwrap().unwrap());
        assert!(delivered() > before);
        // There is an end to it.
        world.sleep(3600 * SECOND).await;
        assert!(
            (64..80).contains(&(delivered() - before)),
            "{}",
            delivered() - before
        );
    });
    world.wind_up();
}

#[test]
fn a_consumer_without_acknowledgements_that_takes_nothing_ends_when_a_confirm_is_behind_the_flood() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let mut consumer = flood(&channel, 140).await;
        assert_eq!(consumer.next().await.unwrap().unwrap().body()[..8], [0; 8]);
        channel.default_exchange().publish("x", "out").await.unwrap();
        assert_eq!(world.elapsed(), 5 * SECOND);
        // All was read, and what there was no room for was dropped.
        world.idle().await;
        assert_eq!(connection.counters().delivered, 140);
        assert_eq!((world.consumer_count("q"), world.queue_len("out")), (0, 1));
        // What waits to be taken holds nobody else back, even if nothing is awaited.
        let mut other = channel.queue("out").consume().await.unwrap();
        other.next().await.unwrap().unwrap().ack().await.unwrap();
        world.idle().await;
        let exchange = channel.default_exchange();
        exchange.publish_unconfirmed("y", "out").await.unwrap();
        other.next().await.unwrap().unwrap().ack().await.unwrap();
        let mut taken = 1_u64;
        let end = loop {
            match consumer.next().await.unwrap() {
                Ok(delivery) => assert_eq!(delivery.body()[..8], taken.to_be_bytes()),
                Err(end) => break end,
            }
            taken += 1;
        };
        assert_eq!(end, ConsumerEnd::Overflow);
        assert!((64..72).contains(&taken), "{taken}");
        assert!(consumer.next().await.is_none());
        // The channel goes on.
        channel.default_exchange().publish("x", "q").await.unwrap();
        let mut next = channel.queue("q").consume().await.unwrap();
        next.next().await.unwrap().unwrap().ack().await.unwrap();
        assert_eq!(world.elapsed(), 5 * SECOND);
    });
    world.wind_up();
}

#[test]
fn a_consumer_without_acknowledgements_that_takes_slowly_is_not_ended() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let mut consumer = flood(&channel, 140).await;
        let exchange = channel.default_exchange();
        let confirm = exchange.publish_deferred("x", "out").await.unwrap();
        for number in 0..140_u64 {
            world.idle().await;
            let waiting = connection.counters().delivered - number;
            assert!(waiting < 132, "the inbox and what was taken from it: {waiting}");
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
            world.sleep(4 * SECOND).await;
        }
        confirm.await.unwrap();
        assert_eq!(world.elapsed(), 140 * 4 * SECOND);
        assert_eq!((world.consumer_count("q"), world.queue_len("out")), (1, 1));
    });
    world.wind_up();
}

#[test]
fn a_flood_is_held_back_without_end_if_nobody_waits_for_the_broker() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let mut consumer = flood(&channel, 90).await;
        let exchange = channel.default_exchange();
        let confirm = exchange.publish_deferred("x", "out").await.unwrap();
        world.sleep(4 * SECOND).await;
        drop(confirm);
        world.sleep(3600 * SECOND).await;
        let delivered = connection.counters().delivered;
        assert!((64..72).contains(&delivered), "{delivered}");
        assert_eq!(world.consumer_count("q"), 1);
        // Who waits later waits as long.
        exchange.publish("x", "out").await.unwrap();
        assert_eq!(world.elapsed(), 3609 * SECOND);
        for number in 0..delivered {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
        }
        assert_eq!(consumer.next().await.unwrap().unwrap_err(), ConsumerEnd::Overflow);
    });
    world.wind_up();
}

async fn fill_unconfirmed(channel: &Channel, count: usize) {
    for _ in 0..count {
        let body = vec![0; 1 << 20];
        channel
            .default_exchange()
            .publish_unconfirmed(body, "q")
            .await
            .unwrap();
    }
}

#[test]
fn a_consumer_that_takes_too_little_is_ended_and_loses_nothing() {
    run(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 80, 1 << 20).await;
        world.broker(|broker, _| broker.delay_confirms(Duration::from_secs(3600)));
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        assert_eq!(consumer.next().await.unwrap().unwrap_err(), ConsumerEnd::Overflow);
        assert!(consumer.next().await.is_none());
        assert_eq!((world.consumer_count("q"), world.queue_len("q")), (0, 81));
        let first = queue.get().await.unwrap().unwrap();
        assert_eq!(first.body()[..8], 0_u64.to_be_bytes());
        drop((first, confirm));
    });
}

#[test]
fn a_consumer_without_a_prefetch_limit_pauses_at_the_soft_limit_and_goes_on() {
    run(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 40, 1 << 20).await;
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        let delivered = connection.counters().delivered;
        assert!((1..4).contains(&delivered), "{delivered}");
        for number in 0..40_u64 {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(delivery.body()[..8], number.to_be_bytes());
            delivery.ack().await.unwrap();
        }
        // What is asked now is answered although it pauses.
        assert_eq!(queue.purge().await.unwrap(), 0);
    });
}

#[test]
fn whoever_waits_for_the_broker_is_not_forgotten_while_reading_is_paused() {
    run(async |world| {
        let (connection, channel) = world.channel().await;
        let other = connection.channel().await.unwrap();
        let limits = ChannelOptions::default().limits(ConfirmLimits::default().count(1));
        let limited = connection.channel_with(limits).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 60, 1 << 20).await;
        let options = ConsumeOptions::default().no_ack(true);
        let _consumer = queue.consume_with(options).await.unwrap();
        world.idle().await;
        let paused_at = connection.counters().delivered;
        // Each of them reads on as far as it must.
        let unconfirmed = ChannelOptions::default().without_confirms();
        let opened = connection.channel_with(unconfirmed).await.unwrap();
        other.close().await.unwrap();
        for _ in 0..3 {
            limited
                .default_exchange()
                .publish_unconfirmed("x", "nowhere")
                .await
                .unwrap();
        }
        opened.declare_queue("r").await.unwrap();
        drop(opened);
        assert!(connection.counters().delivered > paused_at);
        let report = connection.close().await;
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    });
}

#[test]
fn to_watch_for_the_end_is_no_reason_to_read_on() {
    run(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 30, 1 << 20).await;
        let (watched, watched_channel) = (connection.clone(), channel.clone());
        let end = world.spawn_with_result(async move { watched.closed().await });
        world.spawn(async move { drop(watched_channel.closed().await) });
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        assert!(connection.counters().delivered < 12);
        for _ in 0..30 {
            consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        }
        drop(consumer);
        connection.close().await;
        world.idle().await;
        assert_eq!(
            end.lock().unwrap().take(),
            Some(CloseReason::Requested { acknowledged: true })
        );
    });
}

#[test]
fn a_consumer_without_acknowledgements_dropped_in_a_flood_harms_nobody() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        fill(&channel, "q", 1000, 100).await;
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
        drop(consumer);
        // What was on its way is lost, as it was asked for; the channel goes on.
        channel.declare_queue("other").await.unwrap();
        world.idle().await;
        assert!(channel.is_open());
        assert_eq!(world.consumer_count("q"), 0);
    });
    world.wind_up();
}

/// More than may wait to be said on a channel.
const MANY: usize = 66_000;

/// A flood comes for a consumer that is gone, on the last connection, whose broker reads nothing.
async fn flood_a_dropped_consumer(world: &World, publisher: &Channel, consumer: Consumer) {
    drop(consumer);
    let exchange = publisher.default_exchange();
    for _ in 0..MANY {
        exchange.publish_unconfirmed("x", "q").await.unwrap();
    }
    assert!(publisher.wait_for_confirms().await.is_complete());
    world.idle().await;
}

#[test]
fn what_cannot_be_said_for_want_of_room_ends_the_channel_at_last() {
    let world = World::new();
    world.run(async {
        let (_other, publisher) = world.channel().await;
        publisher.declare_queue("q").await.unwrap();
        let config = config().outbound_high_water(100_000).outbound_limit(200_000);
        let connection = world.connect_with(config).await;
        let (channel, neighbour) = (
            connection.channel().await.unwrap(),
            connection.channel().await.unwrap(),
        );
        let consumer = channel.queue("q").consume().await.unwrap();
        world.set_deaf(true);
        let exchange = neighbour.default_exchange();
        let confirm = exchange.publish_deferred(vec![0; 1_000_000], "q").await.unwrap();
        flood_a_dropped_consumer(&world, &publisher, consumer).await;
        assert_eq!(world.queue_len("q"), 0);
        world.set_deaf(false);
        assert_eq!(channel.closed().await, ChannelCloseReason::Requested);
        confirm.await.unwrap();
        assert_eq!((world.queue_len("q"), world.consumer_count("q")), (MANY + 1, 0));
        assert!(neighbour.is_open());
        assert_eq!(world.elapsed(), Duration::ZERO);
    });
    world.wind_up();
}

#[test]
fn what_cannot_be_said_during_a_commit_ends_the_channel() {
    let world = World::new();
    world.run(async {
        let (_other, publisher) = world.channel().await;
        publisher.declare_queue("q").await.unwrap();
        let connection = world.connect().await;
        let options = ChannelOptions::default().without_confirms();
        let channel = connection.channel_with(options).await.unwrap();
        channel.tx_select().await.unwrap();
        let consumer = channel.queue("q").consume().await.unwrap();
        world.set_deaf(true);
        let committing = channel.clone();
        let committed = world.spawn_with_result(async move { committing.tx_commit().await });
        world.idle().await;
        flood_a_dropped_consumer(&world, &publisher, consumer).await;
        assert!(committed.lock().unwrap().is_none());
        world.set_deaf(false);
        assert_eq!(channel.closed().await, ChannelCloseReason::Requested);
        assert_eq!(*committed.lock().unwrap(), Some(Ok(())));
        assert_eq!((world.queue_len("q"), world.consumer_count("q")), (MANY, 0));
        assert_eq!(world.elapsed(), Duration::ZERO);
    });
    world.wind_up();
}

#[test]
fn a_publisher_that_wakes_the_driver_each_time_gives_way_after_sixteen() {
    let world = World::new();
    world.run(async {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        world.idle().await;
        let mut refused = Vec::new();
        for number in 1..=40 {
            if world
                .poll_once(exchange.publish_unconfirmed("x", "q"))
                .await
                .is_none()
            {
                refused.push(number);
            }
            world.idle().await;
        }
        assert_eq!(refused, [17, 34]);
        assert_eq!(world.queue_len("q"), 38);
        // Who waits for each confirm gives way by that.
        for _ in 0..40 {
            let confirm = exchange.publish_deferred("x", "q");
            let confirm = world.poll_once(confirm).await.expect("room").unwrap();
            confirm.await.unwrap();
        }
    });
    world.wind_up();
}
