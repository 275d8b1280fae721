//! What comes for a consumer, and who takes it.

use std::future::IntoFuture;

use amqp_async::{ConnectionEvent, Consumer, ConsumerEnd, Queue};
use amqp_proto::Instant;

use crate::world::{World, block_on, join, model, now, poll_once, spawn};

fn consumer(world: &mut World) -> (Queue, Consumer) {
    let channel = world.channel();
    let queue = world
        .run(channel.declare_queue("q").into_future())
        .expect("it is declared");
    let consumer = world.run(queue.consume()).expect("it consumes");
    (queue, consumer)
}

fn publish(queue: &Queue, body: &'static str) {
    let exchange = queue.channel().default_exchange();
    now(exchange.publish_unconfirmed(body, "q")).expect("there is room");
}

#[test]
fn a_delivery_wakes_its_consumer() {
    model(3, |mut world| {
        let (queue, mut consumer) = consumer(&mut world);
        let driver = world.drive();
        publish(&queue, "a");
        drop(queue);
        let delivery = block_on(consumer.next()).expect("it goes on").expect("it comes");
        assert_eq!(*delivery.body(), *b"a");
        now(delivery.ack()).expect("it is open");
        drop(consumer);
        join(driver);
    });
}

#[test]
fn what_a_dropped_consumer_has_not_taken_goes_back() {
    model(3, |mut world| {
        let (queue, mut consumer) = consumer(&mut world);
        let peer = world.peer.clone();
        let driver = world.drive();
        publish(&queue, "a");
        publish(&queue, "b");
        let _ = poll_once(consumer.next());
        drop(consumer);
        // The connection is still there: it is not its end that gives them back.
        block_on(peer.filled("q", 2));
        drop(queue);
        join(driver);
    });
}

#[test]
fn a_delivery_that_is_dropped_wakes_who_watches_and_goes_back() {
    model(2, |mut world| {
        let (queue, mut consumer) = consumer(&mut world);
        publish(&queue, "a");
        let delivery = world.run(consumer.next()).expect("it goes on").expect("it comes");
        let mut events = world.connection.events();
        let driver = world.drive();
        let watcher = spawn(move || block_on(events.next()));
        drop((queue, delivery));
        let again = block_on(consumer.next()).expect("it goes on").expect("it comes");
        assert!(again.is_redelivered());
        now(again.ack()).expect("it is open");
        let event = join(watcher);
        assert!(
            matches!(event, Some(ConnectionEvent::DeliveryDropped { count: 1, .. })),
            "{event:?}"
        );
        drop(consumer);
        join(driver);
    });
}

#[test]
fn the_broker_s_cancel_wakes_the_consumer() {
    model(3, |mut world| {
        let (queue, mut consumer) = consumer(&mut world);
        let peer = world.peer.clone();
        let driver = world.drive();
        drop(queue);
        let (channel, tag) = (consumer.channel().number(), consumer.tag().to_owned());
        peer.broker(|broker, key| assert!(broker.cancel_consumer(key, Instant::EPOCH, channel, &tag)));
        let next = block_on(consumer.next());
        assert!(
            matches!(next, Some(Err(ConsumerEnd::CancelledByBroker))),
            "{next:?}"
        );
        drop(consumer);
        join(driver);
    });
}

#[test]
fn the_end_of_the_stream_wakes_the_consumer() {
    model(3, |mut world| {
        let (queue, mut consumer) = consumer(&mut world);
        world.peer.end_at_next_write();
        let driver = world.drive();
        publish(&queue, "a");
        drop(queue);
        let next = block_on(consumer.next());
        assert!(matches!(next, Some(Err(ConsumerEnd::Channel(_)))), "{next:?}");
        drop(consumer);
        join(driver);
    });
}
