//! What handles say of themselves, and what they do besides: attributes, where a delivery came from, idle consumers.

use std::time::Duration;

use amqp_async::{
    ConsumeOptions, ConsumerEnd, Delivery, DeliveryMode, DeliverySource, ExchangeKind, FieldTable, Message,
    Next,
};

use crate::world::{everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_queue_knows_how_it_was_declared_and_can_be_declared_again() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let arguments = FieldTable::new().with("x-max-length", 5_i64).unwrap();
        let declare = channel.declare_queue("q").durable(true).auto_delete(true);
        let queue = declare.arguments(arguments.clone()).await.unwrap();
        assert!(queue.is_durable() && queue.is_auto_delete() && !queue.is_exclusive());
        assert_eq!(queue.arguments(), arguments.as_ref());
        channel.default_exchange().publish("x", "q").await.unwrap();
        assert_eq!(queue.message_count(), Some(0));
        assert_eq!(queue.declare().await.unwrap().message_count(), Some(1));
        queue.delete_if(false, false).await.unwrap();
        let again = queue.declare().await.unwrap();
        assert_eq!(
            (again.message_count(), again.consumer_count()),
            (Some(0), Some(0))
        );
        // It is the same one as before: with other arguments the broker would refuse.
        let counted = channel.declare_queue("q").passive(true).await.unwrap();
        assert_eq!(counted.name(), "q");
        assert!(channel.queue("q").arguments().is_empty());
        assert_eq!(channel.queue("q").message_count(), None);
    });
}

#[test]
fn an_exchange_knows_how_it_was_declared() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let declare = channel.declare_exchange("e", ExchangeKind::Topic).durable(true);
        let arguments = FieldTable::new().with("alternate-exchange", "other").unwrap();
        let exchange = declare.arguments(arguments.clone()).await.unwrap();
        assert_eq!(exchange.kind(), Some(&ExchangeKind::Topic));
        assert!(exchange.is_durable() && !exchange.is_auto_delete());
        assert_eq!(exchange.arguments(), arguments.as_ref());
        assert_eq!(channel.default_exchange().kind(), None);
    });
}

#[test]
fn a_delivery_knows_how_it_came() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        for message in [Message::new("a").persistent(), "b".into(), "c".into()] {
            exchange.publish(message, "q").await.unwrap();
        }
        let got = queue.get().await.unwrap().unwrap();
        assert_eq!(got.source(), DeliverySource::Get { message_count: 2 });
        assert_eq!(got.delivery_mode(), DeliveryMode::Persistent);
        got.ack().await.unwrap();
        let options = ConsumeOptions::default().tag("mine");
        let mut consumer = queue.consume_with(options).await.unwrap();
        let first = consumer.next().await.unwrap().unwrap();
        assert_eq!(first.source(), DeliverySource::Consume { tag: "mine" });
        assert_eq!(first.delivery_mode(), DeliveryMode::Transient);
        let second = consumer.next().await.unwrap().unwrap();
        // Both go back, and come again.
        first.into_message();
        second.nack_multiple(true).await.unwrap();
        let mut again: Vec<Delivery> = Vec::new();
        for _ in 0..2 {
            again.push(consumer.next().await.unwrap().unwrap());
        }
        assert!(again.iter().all(Delivery::is_redelivered));
        let last = again.pop().unwrap();
        again.pop().unwrap().into_message();
        last.ack_multiple().await.unwrap();
        consumer.cancel().await.unwrap();
        assert_eq!(world.queue_len("q"), 0);
    });
}

#[test]
fn a_message_stays_as_it_was_when_it_is_published() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let message = Message::new("same").header("number", 1_i64).timestamp(7);
        for _ in 0..2 {
            let exchange = channel.default_exchange();
            exchange.publish(message.clone(), "q").await.unwrap();
        }
        let first = queue.get_with(true).await.unwrap().unwrap();
        let second = queue.get_with(true).await.unwrap().unwrap();
        assert_eq!(first.message(), second.message());
        assert_eq!(first.properties().timestamp, Some(7));
    });
}

fn body(next: Next) -> Vec<u8> {
    match next {
        Next::Delivery(delivery) => delivery.into_message().1.body().into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_consumer_that_waits_for_so_long_says_that_nothing_came() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        exchange.publish("one", "q").await.unwrap();
        assert_eq!(body(consumer.next_within(SECOND).await), b"one");
        assert_eq!(world.elapsed(), Duration::ZERO);
        assert!(matches!(consumer.next_within(SECOND).await, Next::Idle));
        assert_eq!(world.elapsed(), SECOND);
        // And goes on.
        let sleep = world.sleeper();
        let late = exchange.clone();
        world.spawn(async move {
            sleep(SECOND / 2).await;
            late.publish("two", "q").await.unwrap();
        });
        assert_eq!(body(consumer.next_within(SECOND).await), b"two");
        assert_eq!(world.elapsed(), SECOND * 3 / 2);
        queue.delete_if(false, false).await.unwrap();
        let end = consumer.next_within(SECOND).await;
        assert!(
            matches!(end, Next::Ended(ConsumerEnd::CancelledByBroker)),
            "{end:?}"
        );
        let end = consumer.next_within(SECOND).await;
        assert!(matches!(end, Next::Ended(ConsumerEnd::Requested)), "{end:?}");
    });
    assert_eq!(elapsed, SECOND * 3 / 2);
}

#[test]
fn a_consumer_is_taken_from_until_nothing_comes() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        for text in ["one", "two"] {
            exchange.publish(text, "q").await.unwrap();
        }
        let mut stream = queue.consume().await.unwrap().until_idle(SECOND);
        let mut count = 0;
        while let Some(delivery) = stream.next().await {
            delivery.unwrap().ack().await.unwrap();
            count += 1;
        }
        assert_eq!((count, stream.is_idle()), (2, true));
        assert_eq!(world.elapsed(), SECOND);
        assert!(stream.next().await.is_none());
        // The consumer was not cancelled, and a wait that is given up leaves nothing behind.
        let mut again = stream.into_consumer().until_idle(SECOND);
        assert!(world.poll_once(again.next()).await.is_none());
        exchange.publish("three", "q").await.unwrap();
        let delivery = again.next().await.unwrap().unwrap();
        assert!(!again.is_idle());
        delivery.ack().await.unwrap();
        assert!(world.poll_once(again.next()).await.is_none());
        drop(again);
        let counted = queue.declare().passive(true).await.unwrap();
        assert_eq!(counted.consumer_count(), Some(0));
    });
    assert_eq!(elapsed, SECOND);
}
