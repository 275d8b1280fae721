//! What handles say of themselves, and what they do besides: attributes, where a delivery came from, idle consumers.

use std::sync::mpsc;
use std::time::Duration;

use amqp_async::{
    ConnectionEvent, ConsumeOptions, ConsumerEnd, Delivery, DeliveryMode, DeliverySource, Error,
    ExchangeKind, FieldTable, Message, Next, Qos, QueueArguments,
};
use amqp_proto::{CloseReason, ConnectionState, Lint};
use amqp_testbroker::{BrokerConfig, Release};

use crate::world::{World, config, everywhere, in_time};

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
        queue.delete().await.unwrap();
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
        queue.delete().await.unwrap();
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

#[test]
fn a_connection_says_what_it_is_doing_and_calls_when_it_ends() {
    everywhere(async |world| {
        let connection = world.start(config());
        assert_eq!(connection.state(), ConnectionState::WaitingForStart);
        connection.ready().await.unwrap();
        assert_eq!(connection.state(), ConnectionState::Open);
        let (sender, receiver) = mpsc::channel();
        for number in 0..2 {
            let sender = sender.clone();
            connection.on_close(move |reason| sender.send((number, reason)).unwrap());
        }
        world.idle().await;
        assert!(receiver.try_recv().is_err());
        let reason = connection.close().await.reason;
        assert_eq!(reason, CloseReason::Requested { acknowledged: true });
        assert_eq!(connection.state(), ConnectionState::Closed);
        // Whoever asks again, or late, learns the same.
        assert_eq!(connection.closed().await, reason);
        assert_eq!(connection.closed().await, reason);
        connection.on_close(move |reason| sender.send((2, reason)).unwrap());
        world.idle().await;
        let mut calls: Vec<_> = receiver.iter().collect();
        calls.sort_by_key(|(number, _)| *number);
        assert_eq!(calls, [(0, reason.clone()), (1, reason.clone()), (2, reason)]);
    });
}

#[test]
fn a_connection_counts_what_there_is() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let other = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        let consumer = queue.consume().await.unwrap();
        let exchange = channel.default_exchange();
        exchange.publish("x", "q").await.unwrap();
        world.idle().await;
        let stats = connection.stats();
        assert_eq!((stats.channels, stats.consumers, stats.unconfirmed), (2, 1, 0));
        assert_eq!((stats.counters.published, stats.counters.acked), (1, 1));
        assert_eq!((stats.waiting_bytes, stats.queued_bytes), (257, 0));
        world.set_mute(true);
        let confirm = exchange.publish_deferred("y", "q").await.unwrap();
        assert_eq!(connection.stats().unconfirmed, 1);
        world.set_mute(false);
        confirm.await.unwrap();
        consumer.cancel().await.unwrap();
        other.close().await.unwrap();
        let stats = connection.stats();
        assert_eq!((stats.channels, stats.consumers, stats.unconfirmed), (1, 0, 0));
        assert_eq!(stats.unsettled_dropped, 0);
    });
}

#[test]
fn forgotten_deliveries_are_counted_and_told_ever_more_seldom() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("x", "q").await.unwrap();
        let mut events = connection.events();
        for _ in 0..5 {
            drop(queue.get().await.unwrap().unwrap());
        }
        let kept = queue.get().await.unwrap().unwrap();
        assert_eq!(connection.stats().unsettled_dropped, 5);
        // What is settled, needs no settling, or cannot be settled any more, is not forgotten.
        kept.nack(true).await.unwrap();
        drop(queue.get().await.unwrap().unwrap().into_message());
        channel.recover().await.unwrap();
        let late = queue.get().await.unwrap().unwrap();
        channel.close().await.unwrap();
        drop(late);
        let other = connection.channel().await.unwrap();
        drop(other.queue("q").get_with(true).await.unwrap().unwrap());
        assert_eq!(connection.stats().unsettled_dropped, 5);
        connection.close().await;
        let mut counts = Vec::new();
        while let Some(event) = events.next().await {
            if let ConnectionEvent::DeliveryDropped {
                channel: number,
                count,
            } = event
            {
                assert_eq!(number, 1);
                counts.push(count);
            }
        }
        assert_eq!(counts, [1, 2, 4]);
    });
}

#[test]
fn flush_waits_until_all_is_written_and_no_longer() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        connection.flush().await.unwrap();
        world.set_deaf(true);
        let exchange = channel.default_exchange();
        let confirm = exchange.publish_deferred(vec![0; 1 << 20], "q").await.unwrap();
        assert!(world.poll_once(connection.flush()).await.is_none());
        let flushing = connection.clone();
        let flushed = world.spawn_with_result(async move { flushing.flush().await });
        world.idle().await;
        assert!(flushed.lock().unwrap().is_none() && connection.stats().queued_bytes > 500_000);
        world.set_deaf(false);
        connection.flush().await.unwrap();
        assert_eq!(connection.stats().queued_bytes, 0);
        confirm.await.unwrap();
        assert_eq!(*flushed.lock().unwrap(), Some(Ok(())));
        assert_eq!(world.elapsed(), Duration::ZERO);

        // Nothing is written for ever, and an end is an end.
        world.set_deaf(true);
        let confirm = exchange.publish_deferred(vec![0; 1 << 20], "q").await.unwrap();
        assert_eq!(connection.flush().await, Err(Error::Timeout));
        assert_eq!(world.elapsed(), config().request_timeout);
        let flushing = connection.clone();
        let flushed = world.spawn_with_result(async move { flushing.flush().await });
        world.idle().await;
        world.drop_driver(0);
        confirm.await.unwrap_err();
        world.idle().await;
        let error = connection.closed().await;
        assert_eq!(
            *flushed.lock().unwrap(),
            Some(Err(Error::ConnectionClosed(error.clone())))
        );
        assert_eq!(connection.flush().await, Err(Error::ConnectionClosed(error)));
    });
    world.wind_up();
}

#[test]
fn what_the_release_does_not_like_is_told_and_done() {
    for (release, version) in [(Release::V3_10, "3.10"), (Release::V4, "4.3")] {
        let world = World::with_broker(BrokerConfig::of(release));
        world.run(async {
            let (connection, channel) = world.channel().await;
            assert_eq!(connection.server_version().unwrap().to_string(), version);
            let mut events = connection.events();
            channel.set_qos(Qos::prefetch(1)).await.unwrap();
            channel.set_qos(Qos::prefetch(1).global()).await.unwrap();
            let arguments = QueueArguments::classic().max_length(5);
            let declare = channel.declare_queue("q").durable(true);
            let queue = declare.arguments(arguments).await.unwrap();
            assert_eq!(
                queue.arguments().get("x-max-length").unwrap().unwrap().as_i64(),
                Some(5)
            );
            let refused = channel.declare_queue("transient").await.is_err();
            connection.close().await;
            let mut warnings = Vec::new();
            while let Some(event) = events.next().await {
                if let ConnectionEvent::Warning(lint) = event {
                    warnings.push(lint);
                }
            }
            match release {
                Release::V3_10 => assert_eq!((warnings, refused), (vec![], false)),
                _ => assert_eq!(warnings, [Lint::GlobalQos, Lint::TransientQueue]),
            }
        });
        world.wind_up();
    }
}
