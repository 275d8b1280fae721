//! Consumers that the broker has ended, and that are started again.

use std::time::Duration;

use amqp_async::{
    Channel, ChannelOptions, ConnectionEvent, ConsumeOptions, Consumer, ConsumerEnd, Error, Qos, Queue,
    Reopen,
};
use amqp_proto::Backoff;
use amqp_proto::wire::ReplyCode;

use crate::interruptions::Log;
use crate::recovery::{close, connect, recovered};
use crate::world::{World, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// After one second, then two, then four.
fn options() -> ConsumeOptions {
    let backoff = Backoff::new(1).initial(SECOND).jitter(0.0).attempts(3);
    ConsumeOptions::default().resubscribe(backoff)
}

async fn declared(channel: &Channel) -> Queue {
    channel.declare_queue("q").durable(true).await.unwrap()
}

async fn publish(channel: &Channel, body: &'static str) {
    channel.default_exchange().publish(body, "q").await.unwrap();
}

async fn expect(consumer: &mut Consumer, body: &str) {
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*delivery.body(), body.as_bytes());
    delivery.ack().await.unwrap();
}

#[test]
fn a_queue_that_is_deleted_and_declared_again_feeds_the_same_consumer() {
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let other = connection.channel().await.unwrap();
        let queue = declared(&other).await;
        channel.set_qos(Qos::prefetch(2)).await.unwrap();
        let log = Log::default();
        let consumer = channel.queue("q").consume_with(options()).await.unwrap();
        let mut consumer = log.on(consumer);
        let tag = consumer.tag().to_owned();
        for round in 0..2 {
            publish(&other, "old").await;
            world.idle().await;
            queue.delete().await.unwrap();
            // It is not there at the first attempt.
            world.sleep(2 * SECOND).await;
            assert!(channel.is_open());
            declared(&other).await;
            publish(&other, "new").await;
            assert_eq!(log.gaps().len(), round);
            // What had come from the old one is not lost.
            expect(&mut consumer, "old").await;
            assert_eq!(log.gaps().len(), round);
            expect(&mut consumer, "new").await;
            let gaps = log.gaps();
            assert_eq!(
                (gaps.len(), &gaps[round].cause),
                (round + 1, &ConsumerEnd::CancelledByBroker)
            );
            // Long enough for the count to begin anew.
            world.sleep(31 * SECOND).await;
        }
        assert_eq!((consumer.tag(), world.consumer_count("q")), (&*tag, 1));
        assert_eq!(world.broker_channels(), 2, "those that ask are closed");
        assert_eq!(consumer.cancel().await, Ok(0));
        assert_eq!(world.consumer_count("q"), 0);
    });
    assert_eq!(elapsed, 68 * SECOND);
}

#[test]
fn when_the_attempts_are_used_up_it_ends_with_the_reason() {
    let world = World::new();
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = declared(&channel).await;
        let mut consumer = queue.consume_with(options()).await.unwrap();
        queue.delete().await.unwrap();
        let end = consumer.next().await.unwrap().unwrap_err();
        assert_eq!(
            (end, world.elapsed()),
            (ConsumerEnd::CancelledByBroker, 7 * SECOND)
        );
        assert!(consumer.next().await.is_none() && channel.is_open());
        // One that did not ask for it ends at once.
        let queue = declared(&channel).await;
        let mut consumer = queue.consume().await.unwrap();
        queue.delete().await.unwrap();
        assert!(consumer.next().await.unwrap().is_err());
        assert_eq!(world.elapsed(), 7 * SECOND);
    });
    world.wind_up();
}

#[test]
fn one_that_comes_and_goes_at_once_uses_up_the_attempts() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let other = connection.channel().await.unwrap();
        let mut queue = declared(&other).await;
        let mut consumer = channel.queue("q").consume_with(options()).await.unwrap();
        for delay in [1, 2, 4] {
            queue.delete().await.unwrap();
            queue = declared(&other).await;
            world.sleep(delay * SECOND).await;
            world.idle().await;
            assert_eq!(world.consumer_count("q"), 1);
        }
        queue.delete().await.unwrap();
        let end = consumer.next().await.unwrap().unwrap_err();
        assert_eq!(
            (end, world.elapsed()),
            (ConsumerEnd::CancelledByBroker, 7 * SECOND)
        );
    });
    world.wind_up();
}

#[test]
fn one_that_nobody_wants_is_not_started_again_and_keeps_nothing_open() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = declared(&channel).await;
        let cancelled = queue.consume_with(options()).await.unwrap();
        let dropped = queue.consume_with(options()).await.unwrap();
        queue.delete().await.unwrap();
        world.idle().await;
        assert_eq!(cancelled.cancel().await, Ok(0));
        drop(dropped);
        let before = world.elapsed();
        drop((queue, channel));
        world.idle().await;
        assert_eq!((world.broker_channels(), world.elapsed()), (0, before));
        // And one that waits while everything is left.
        let channel = connection.channel().await.unwrap();
        let queue = declared(&channel).await;
        let mut consumer = queue.consume_with(options()).await.unwrap();
        queue.delete().await.unwrap();
        world.idle().await;
        connection.close().await;
        assert!(consumer.next().await.unwrap().is_err());
        assert_eq!(world.elapsed(), before);
    });
}

#[test]
fn it_follows_its_queue_to_another_name() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let key = world.key();
        let other = world.connect().await.channel().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("").await.unwrap();
        let mut consumer = queue.consume_with(options()).await.unwrap();
        let old_name = queue.name();
        other.queue(&*old_name).delete().await.unwrap();
        world.idle().await;
        let mut events = connection.events();
        world.broker(|broker, now| {
            broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "CONNECTION_FORCED - bye");
        });
        assert!(recovered(&mut events).await.is_complete());
        assert_ne!(queue.name(), *old_name);
        other.default_exchange().publish("x", queue.name()).await.unwrap();
        expect(&mut consumer, "x").await;
    });
    world.wind_up();
}

#[test]
fn a_consumer_of_a_channel_that_is_opened_again_without_it_is_started_again() {
    let world = World::new();
    world.run(async {
        let connection = world.connect().await;
        let options_of_channel = ChannelOptions::default().reopen(Reopen::always());
        let channel = connection.channel_with(options_of_channel).await.unwrap();
        let queue = declared(&channel).await;
        let mut kept = queue.consume_with(options()).await.unwrap();
        let mut other = queue.consume().await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        assert!(other.next().await.unwrap().is_err());
        publish(&channel, "x").await;
        expect(&mut kept, "x").await;
        assert_eq!(world.elapsed(), SECOND);
    });
    world.wind_up();
}

#[test]
fn a_channel_that_stays_closed_ends_it() {
    let world = World::new();
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = declared(&channel).await;
        let mut consumer = queue.consume_with(options()).await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        let end = consumer.next().await.unwrap().unwrap_err();
        assert!(matches!(end, ConsumerEnd::Channel(_)), "{end:?}");
        assert_eq!(world.elapsed(), Duration::ZERO);
    });
    world.wind_up();
}

#[test]
fn what_a_recovery_did_not_bring_back_is_started_again_when_it_can_be() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").exclusive(true).await.unwrap();
        let mut consumer = queue.consume_with(options()).await.unwrap();
        let other = world.connect().await.channel().await.unwrap();
        let key = world.broker(|broker, _| broker.connections()[0].key);
        let mut events = connection.events();
        world.broker(|broker, now| {
            broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "CONNECTION_FORCED - bye");
        });
        // Somebody else is quicker, and declares it otherwise.
        let taken = declared(&other).await;
        assert!(!recovered(&mut events).await.is_complete());
        publish(&other, "x").await;
        expect(&mut consumer, "x").await;
        drop(taken);
        assert!(channel.is_open());
    });
    world.wind_up();
}

#[test]
fn one_that_waits_while_the_connection_is_lost_goes_on_afterwards() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = declared(&channel).await;
        let mut consumer = queue.consume_with(options()).await.unwrap();
        let mut events = connection.events();
        queue.delete().await.unwrap();
        world.idle().await;
        close(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        let end = world.poll_once(consumer.next()).await;
        assert!(end.is_none(), "{end:?}");
        assert!(recovered(&mut events).await.is_complete());
        declared(&channel).await;
        publish(&channel, "x").await;
        expect(&mut consumer, "x").await;
        world.idle().await;
        // The next loss brings it back as any other.
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        publish(&channel, "y").await;
        expect(&mut consumer, "y").await;
        assert_eq!(world.consumer_count("q"), 1);
    });
    world.wind_up();
}

#[test]
fn a_refusal_is_the_consumer_s_and_not_the_channel_s() {
    let world = World::new();
    world.run(async {
        let connection = world.connect().await;
        let options_of_channel = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options_of_channel).await.unwrap();
        let other = connection.channel().await.unwrap();
        let queue = declared(&other).await;
        let kept = channel.declare_queue("kept").await.unwrap();
        let mut lasting = kept.consume().await.unwrap();
        let mut refused = channel.queue("q").consume_with(options()).await.unwrap();
        queue.delete().await.unwrap();
        declared(&other).await;
        let exclusive = ConsumeOptions::default().exclusive(true);
        let exclusive = other.queue("q").consume_with(exclusive).await.unwrap();
        // It is refused for as long as somebody has the queue for himself, and takes the channel along each time.
        world.sleep(2 * SECOND).await;
        channel.default_exchange().publish("kept", "kept").await.unwrap();
        expect(&mut lasting, "kept").await;
        exclusive.cancel().await.unwrap();
        publish(&other, "x").await;
        expect(&mut refused, "x").await;
        assert_eq!((world.consumer_count("q"), world.consumer_count("kept")), (1, 1));
        let error = channel.queue("none").purge().await.unwrap_err();
        assert!(matches!(error, Error::ChannelClosed(_)), "{error:?}");
    });
    world.wind_up();
}

/// As RabbitMQ 4.3 does for a quorum queue when a delivery is not settled in time, and any when the queue's leader moves.
#[test]
fn one_that_is_cancelled_though_its_queue_is_there_goes_on_and_its_channel_with_it() {
    let world = World::new();
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let queue = declared(&channel).await;
        let log = Log::default();
        let mut consumer = log.on(queue.consume_with(options()).await.unwrap());
        publish(&channel, "held").await;
        let held = consumer.next().await.unwrap().unwrap();
        let key = world.key();
        let is_cancelled =
            world.broker(|broker, now| broker.cancel_consumer(key, now, channel.number(), consumer.tag()));
        assert!(is_cancelled);
        publish(&channel, "next").await;
        expect(&mut consumer, "next").await;
        assert_eq!((log.gaps().len(), world.elapsed()), (1, SECOND));
        // The channel is the same one: it may still be settled.
        assert!(!held.is_stale() && !log.gaps()[0].is_stale(held.tag()));
        held.ack().await.unwrap();
        assert!(channel.is_open());
    });
    world.wind_up();
}

#[test]
fn a_loss_meanwhile_does_not_change_what_it_has_ended_for() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = declared(&channel).await;
        let log = Log::default();
        let mut consumer = log.on(queue.consume_with(options()).await.unwrap());
        let mut events = connection.events();
        for is_declared in [true, false] {
            queue.delete().await.unwrap();
            world.idle().await;
            close(&world);
            assert!(recovered(&mut events).await.is_complete());
            if is_declared {
                declared(&channel).await;
                world.sleep(2 * SECOND).await;
                publish(&channel, "x").await;
                expect(&mut consumer, "x").await;
                assert_eq!(log.gaps().pop().unwrap().cause, ConsumerEnd::CancelledByBroker);
            }
        }
        let end = consumer.next().await.unwrap().unwrap_err();
        assert_eq!(end, ConsumerEnd::CancelledByBroker);
    });
    world.wind_up();
}
