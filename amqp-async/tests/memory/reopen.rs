//! Channels that the broker closes and that are opened again.

use std::time::Duration;

use amqp_async::{Channel, ChannelOptions, ConnectionEvent, ConsumerEnd, Error, PublishError, Qos, Reopen};
use amqp_proto::wire::{Method, ReplyCode, TxSelect};
use amqp_proto::{Backoff, ChannelCloseReason, ConfirmLimits};
use amqp_testbroker::MethodFault;

use crate::interruptions::Log;
use crate::recovery::{close, connect, recovered};
use crate::world::{World, config, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

fn code(error: &Error) -> Option<ReplyCode> {
    error.peer().map(|peer| peer.code)
}

async fn reopening(connection: &amqp_async::Connection) -> Channel {
    let options = ChannelOptions::default().reopen(Reopen::always());
    connection.channel_with(options).await.unwrap()
}

/// Has the broker close a channel with 406.
pub(crate) async fn be_refused(channel: &Channel) -> Error {
    let error = channel.declare_queue("q").auto_delete(true).await.unwrap_err();
    assert_eq!(code(&error), Some(ReplyCode::PRECONDITION_FAILED));
    error
}

#[test]
fn of_ten_channels_one_is_closed_and_opened_again_and_nine_are_undisturbed() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let mut channels = Vec::new();
        for _ in 0..10 {
            channels.push(reopening(&connection).await);
        }
        channels[0].declare_queue("q").await.unwrap();
        let numbers: Vec<u16> = channels.iter().map(Channel::number).collect();
        let mut consumers = Vec::new();
        for channel in &channels {
            let name = format!("q{}", channel.number());
            let queue = channel.declare_queue(name).await.unwrap();
            consumers.push(queue.consume().await.unwrap());
        }
        let mut events = connection.events();
        be_refused(&channels[4]).await;
        // It can be used at once, and confirms as before.
        let queue = channels[4].declare_queue("again").await.unwrap();
        channels[4]
            .default_exchange()
            .publish("x", "again")
            .await
            .unwrap();
        assert!(channels[4].is_open() && channels[4].unconfirmed() == 0);
        let delivery = queue.get().await.unwrap().unwrap();
        delivery.ack().await.unwrap();
        let (number, reason) = loop {
            if let ConnectionEvent::ChannelReopened { number, reason } = events.next().await.unwrap() {
                break (number, reason);
            }
        };
        assert_eq!(number, channels[4].number());
        assert_eq!(reason.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);

        for (place, channel) in channels.iter().enumerate().filter(|(place, _)| *place != 4) {
            assert_eq!(channel.number(), numbers[place]);
            let key = format!("q{}", channel.number());
            channel.default_exchange().publish("y", &key).await.unwrap();
            let delivery = consumers[place].next().await.unwrap().unwrap();
            delivery.ack().await.unwrap();
        }
        let end = consumers[4].next().await.unwrap().unwrap_err();
        assert!(
            matches!(end, ConsumerEnd::Channel(ChannelCloseReason::Peer(_))),
            "{end:?}"
        );
        assert!(consumers[4].next().await.is_none());
        assert_eq!(world.broker_channels(), 10);
        channels[4].close().await.unwrap();
        assert_eq!(channels[4].closed().await, ChannelCloseReason::Requested);
        assert_eq!(world.broker_channels(), 9);
        drop(consumers);
    });
}

#[test]
fn what_was_before_ends_with_the_reason_and_settles_to_nothing() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let channel = reopening(&connection).await;
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        for text in ["a", "b", "c"] {
            exchange.publish(text, "q").await.unwrap();
        }
        let mut consumer = queue.consume().await.unwrap();
        let first = consumer.next().await.unwrap().unwrap();
        let second = consumer.next().await.unwrap().unwrap();
        let (tag, _) = consumer.next().await.unwrap().unwrap().into_message();
        // The broker reads these in one go.
        let nowhere = channel.exchange("none");
        let lost = nowhere.publish_deferred("lost", "q").await.unwrap();
        let behind = exchange.publish_deferred("behind", "q").await.unwrap();
        let dropped = exchange.publish_deferred("dropped", "q").await.unwrap();
        drop(dropped);
        let report = channel.wait_for_confirms().await;
        assert_eq!(report.confirmed, 3);
        assert_eq!(report.lost.len(), 3);
        for confirm in [lost, behind] {
            let error = confirm.await.unwrap_err();
            assert!(matches!(error, PublishError::Lost(_)), "{error:?}");
            assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
        }
        // Numbers go on.
        let next = exchange.publish_deferred("next", "q").await.unwrap();
        assert_eq!(next.tag().unwrap().value(), 7);
        next.await.unwrap();
        assert_eq!(channel.wait_for_confirms().await.confirmed, 1);
        // What was delivered before is back in its queue, and cannot be settled any more: nobody is hurt by trying.
        for error in [
            first.ack().await.unwrap_err(),
            second.nack(false).await.unwrap_err(),
        ] {
            assert_eq!(code(&error), Some(ReplyCode::NOT_FOUND), "{error:?}");
        }
        let error = channel.basic_ack(tag, true).unwrap_err();
        assert_eq!(code(&error), Some(ReplyCode::NOT_FOUND));
        consumer.cancel().await.unwrap();
        assert_eq!(
            queue.declare().passive(true).await.unwrap().message_count(),
            Some(4)
        );
        assert!(channel.is_open());
        assert_eq!(connection.stats().unsettled_dropped, 0);
    });
}

#[test]
fn limits_are_as_they_were() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let limits = ConfirmLimits::default().count(2);
        let options = ChannelOptions::default().limits(limits).number(7);
        let options = options.reopen(Reopen::on([ReplyCode::PRECONDITION_FAILED]));
        let channel = connection.channel_with(options).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        channel.set_qos(Qos::prefetch(3)).await.unwrap();
        // It counts although nobody waits for its answer.
        let last = channel.set_qos(Qos::prefetch(2));
        assert!(world.poll_once(last).await.is_none());
        be_refused(&channel).await;
        let exchange = channel.default_exchange();
        for number in 0..5_u8 {
            exchange.publish(vec![number], "q").await.unwrap();
        }
        assert_eq!(channel.number(), 7);
        let mut consumer = queue.consume().await.unwrap();
        let first = consumer.next().await.unwrap().unwrap();
        let _second = consumer.next().await.unwrap().unwrap();
        assert!(world.poll_once(consumer.next()).await.is_none());
        world.idle().await;
        assert_eq!(world.queue_len("q"), 3);
        first.ack().await.unwrap();
        let _third = consumer.next().await.unwrap().unwrap();

        world.set_mute(true);
        let confirms = [
            exchange.publish_deferred("x", "q").await.unwrap(),
            exchange.publish_deferred("x", "q").await.unwrap(),
        ];
        assert!(
            world
                .poll_once(exchange.publish_deferred("x", "q"))
                .await
                .is_none()
        );
        world.set_mute(false);
        for confirm in confirms {
            confirm.await.unwrap();
        }
        // A code that it is not opened again for.
        channel.queue("none").purge().await.unwrap_err();
        assert_eq!(
            code(&channel.queue("q").purge().await.unwrap_err()),
            Some(ReplyCode::NOT_FOUND)
        );
        assert!(!channel.is_open());
    });
}

#[test]
fn by_default_and_with_transactions_it_stays_closed() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let plain = connection.channel().await.unwrap();
        plain.declare_queue("q").await.unwrap();
        let error = be_refused(&plain).await;
        assert_eq!(plain.queue("q").purge().await.unwrap_err(), error);
        assert!(matches!(plain.closed().await, ChannelCloseReason::Peer(_)));
        let options = ChannelOptions::default()
            .without_confirms()
            .reopen(Reopen::always());
        for is_raw in [false, true] {
            let channel = connection.channel_with(options.clone()).await.unwrap();
            match is_raw {
                true => drop(channel.request(&TxSelect::default()).await.unwrap()),
                false => channel.tx_select().await.unwrap(),
            }
            be_refused(&channel).await;
            assert_eq!(
                code(&channel.tx_commit().await.unwrap_err()),
                Some(ReplyCode::PRECONDITION_FAILED)
            );
        }
        // Without them it is opened again as it was: without confirms.
        let channel = connection.channel_with(options).await.unwrap();
        be_refused(&channel).await;
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        assert_eq!(confirm.tag(), None);
        confirm.await.unwrap();
    });
}

#[test]
fn a_channel_that_is_being_opened_again_can_be_closed_or_dropped() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let (closed, dropped) = (reopening(&connection).await, reopening(&connection).await);
        closed.declare_queue("q").await.unwrap();
        world.set_mute(true);
        for channel in [&closed, &dropped] {
            let calls = channel.declare_queue("q").auto_delete(true).into_future();
            assert!(world.poll_once(calls).await.is_none());
        }
        world.set_mute(false);
        drop(dropped);
        assert!(closed.close().await.is_ok() || !closed.is_open());
        world.idle().await;
        world.idle().await;
        assert_eq!(world.broker_channels(), 0);
    });
}

#[test]
fn what_there_is_no_room_for_is_restored_when_there_is() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let connection = world.connect_with(config().outbound_high_water(100_000)).await;
        let (channel, unwanted) = (reopening(&connection).await, reopening(&connection).await);
        let forgotten = reopening(&connection).await;
        let other = connection.channel().await.unwrap();
        channel.declare_queue("q").await.unwrap();
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        // The broker closes three channels, and says so when the client has no room to open others.
        world.set_mute(true);
        let refused = [&channel, &unwanted, &forgotten].map(|channel| {
            let channel = channel.clone();
            world.spawn_with_result(async move { be_refused(&channel).await })
        });
        world.idle().await;
        world.set_deaf(true);
        let filling = world.spawn_with_result(async move {
            let channel = other;
            for _ in 0..20 {
                let exchange = channel.default_exchange();
                exchange.publish_unconfirmed(vec![0; 500_000], "q").await.unwrap();
            }
            channel.wait_for_confirms().await
        });
        let publishing = channel.clone();
        world.idle().await;
        world.set_mute(false);
        world.idle().await;
        for error in refused {
            assert!(error.lock().unwrap().is_some());
        }
        assert!(!channel.is_open() && connection.queued_bytes() > 100_000);
        let published = world.spawn_with_result(async move {
            let exchange = publishing.default_exchange();
            let confirm = exchange.publish_deferred("x", "q").await.unwrap();
            let number = confirm.tag().unwrap().value();
            confirm.await.unwrap();
            number
        });
        // Who wants it closed has that at once.
        let error = unwanted.close().await.unwrap_err();
        assert_eq!(code(&error), Some(ReplyCode::PRECONDITION_FAILED));
        drop(forgotten);
        world.idle().await;
        assert!(published.lock().unwrap().is_none() && filling.lock().unwrap().is_none());

        world.set_deaf(false);
        let mut consumer = channel.queue("q").consume().await.unwrap();
        let _first = consumer.next().await.unwrap().unwrap();
        world.idle().await;
        assert_eq!(*published.lock().unwrap(), Some(1));
        assert!(filling.lock().unwrap().take().unwrap().is_complete());
        assert_eq!(world.queue_len("q"), 20);
        assert_eq!(world.broker_channels(), 1);
        drop(consumer);
    });
    world.wind_up();
}

#[test]
fn a_channel_that_was_to_be_opened_again_ends_with_its_connection() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let connection = world.connect_with(config().outbound_high_water(100_000)).await;
        let channel = reopening(&connection).await;
        channel.declare_queue("q").await.unwrap();
        world.set_mute(true);
        let refused = channel.clone();
        world.spawn(async move { drop(be_refused(&refused).await) });
        world.idle().await;
        world.set_deaf(true);
        let exchange = channel.default_exchange();
        while world
            .poll_once(exchange.publish_unconfirmed(vec![0; 500_000], "q"))
            .await
            .is_some()
        {}
        world.set_mute(false);
        world.idle().await;
        assert!(!channel.is_open());
        world.drop_driver(0);
        assert!(matches!(
            channel.closed().await,
            ChannelCloseReason::Connection(_)
        ));
        let error = channel.declare_queue("x").await.unwrap_err();
        assert!(matches!(error, Error::ConnectionClosed(_)), "{error:?}");
    });
    world.wind_up();
}

#[test]
fn a_publish_while_the_connection_is_closing_is_told_that_it_closes() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let exchange = channel.default_exchange();
        world.set_mute(true);
        let closing = connection.clone();
        let closed = world.spawn_with_result(async move { closing.close().await });
        world.idle().await;
        for error in [
            exchange.publish("x", "q").await.unwrap_err(),
            PublishError::NotSent(channel.declare_queue("x").await.unwrap_err()),
            PublishError::NotSent(connection.channel().await.unwrap_err()),
        ] {
            assert!(
                matches!(&error, PublishError::NotSent(Error::ConnectionClosed(_))),
                "{error:?}"
            );
        }
        world.set_mute(false);
        world.sleep(SECOND).await;
        assert!(closed.lock().unwrap().is_some());
    });
    world.wind_up();
}

#[test]
fn its_consumers_go_on_if_that_was_asked_for_and_nine_other_channels_are_undisturbed() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let (mut consumers, mut logs) = (Vec::new(), Vec::new());
        for number in 0..10 {
            let channel = connection.channel_with(options.clone()).await.unwrap();
            channel.set_qos(Qos::prefetch(2)).await.unwrap();
            let queue = channel.declare_queue(format!("q{number}")).await.unwrap();
            let log = Log::default();
            consumers.push(log.on(queue.consume().await.unwrap()));
            logs.push(log);
        }
        let publisher = connection.channel().await.unwrap();
        let publish = async |number: usize, body: &'static str| {
            let key = format!("q{number}");
            publisher.default_exchange().publish(body, &key).await.unwrap();
        };
        for number in 0..10 {
            publish(number, "first").await;
            publish(number, "second").await;
        }
        let mut held = Vec::new();
        for consumer in &mut consumers {
            held.push(consumer.next().await.unwrap().unwrap());
        }
        publisher.declare_queue("q").await.unwrap();
        let channel = consumers[4].channel().clone();
        be_refused(&channel).await;
        publish(4, "third").await;
        for body in ["first", "second", "third"] {
            let delivery = consumers[4].next().await.unwrap().unwrap();
            assert_eq!((&*delivery.body(), logs[4].gaps().len()), (body.as_bytes(), 1));
            assert_eq!(delivery.is_redelivered(), body != "third", "the limit is two");
            delivery.ack().await.unwrap();
        }
        let cause = logs[4].gaps().swap_remove(0).cause;
        assert!(
            matches!(cause, ConsumerEnd::Channel(ChannelCloseReason::Peer(_))),
            "{cause:?}"
        );
        for (number, delivery) in held.into_iter().enumerate() {
            assert_eq!(delivery.is_stale(), number == 4);
            assert_eq!(delivery.ack().await.is_ok(), number != 4);
        }
        for number in (0..10).filter(|number| *number != 4) {
            let delivery = consumers[number].next().await.unwrap().unwrap();
            assert_eq!(
                (&*delivery.body(), logs[number].gaps().len()),
                (&b"second"[..], 0)
            );
            assert!(!delivery.is_redelivered());
            delivery.ack().await.unwrap();
        }
        world.idle().await;
        for number in 0..10 {
            assert_eq!(
                (
                    world.queue_len(&format!("q{number}")),
                    world.consumer_count(&format!("q{number}"))
                ),
                (0, 1)
            );
        }
    });
}

#[test]
fn a_consumer_whose_queue_is_gone_ends_and_the_others_go_on_with_their_limits() {
    in_time(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let other = connection.channel().await.unwrap();
        let mut consumers = Vec::new();
        for (number, limit) in [(1, 1), (2, 3), (3, 3)] {
            channel.set_qos(Qos::prefetch(limit)).await.unwrap();
            let queue = other.declare_queue(format!("q{number}")).await.unwrap();
            for _ in 0..5 {
                let key = queue.name().to_string();
                other.default_exchange().publish("x", &key).await.unwrap();
            }
            consumers.push(channel.queue(queue.name()).consume().await.unwrap());
        }
        channel.set_qos(Qos::prefetch(4)).await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        channel.set_qos(Qos::prefetch(4)).await.unwrap();
        assert_eq!(world.consumer_count("q2"), 1);
        // The second time there is a delay, and nobody consumes.
        channel.queue("none").purge().await.unwrap_err();
        other.queue("q2").delete().await.unwrap();
        let end = consumers[1].next().await.unwrap().unwrap_err();
        let ConsumerEnd::Channel(ChannelCloseReason::Peer(peer)) = &end else {
            panic!("{end:?}");
        };
        assert_eq!(peer.code, ReplyCode::NOT_FOUND);
        channel.declare_queue("q1").passive(true).await.unwrap();
        world.idle().await;
        for (place, key, left) in [(0, "q1", 4), (2, "q3", 2)] {
            assert_eq!(world.queue_len(key), left);
            consumers[place]
                .next()
                .await
                .unwrap()
                .unwrap()
                .ack()
                .await
                .unwrap();
        }
        // And so is that for those to come.
        let queue = other.declare_queue("q4").await.unwrap();
        for _ in 0..5 {
            other.default_exchange().publish("x", "q4").await.unwrap();
        }
        let consumer = channel.queue("q4").consume().await.unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q4"), 1);
        drop((queue, consumer));
    });
}

#[test]
fn consumers_that_are_refused_do_not_cost_the_others_their_channel_whatever_it_is_opened_again_for() {
    for reopen in [Reopen::always(), Reopen::on([ReplyCode::PRECONDITION_FAILED])] {
        let world = World::new();
        world.run(async {
            let connection = world.connect().await;
            let options = ChannelOptions::default().reopen(reopen.with_consumers());
            let channel = connection.channel_with(options).await.unwrap();
            let other = connection.channel().await.unwrap();
            let mut consumers = Vec::new();
            for number in 0..10 {
                let name = format!("q{number}");
                let queue = other.declare_queue(name).await.unwrap();
                consumers.push(channel.queue(queue.name()).consume().await.unwrap());
            }
            // All but the last cannot be had again.
            world.broker(|broker, _| {
                broker.fail_methods(|method| match method {
                    Method::BasicConsume(consume) if consume.queue.to_str() != Ok("q9") => {
                        let text = "NOT_FOUND - no queue".to_owned();
                        Some(MethodFault::ClosesChannel(ReplyCode::NOT_FOUND, text))
                    }
                    _ => None,
                });
            });
            other.declare_queue("q").await.unwrap();
            be_refused(&channel).await;
            for consumer in &mut consumers[..9] {
                let end = consumer.next().await.unwrap().unwrap_err();
                let ConsumerEnd::Channel(ChannelCloseReason::Peer(peer)) = &end else {
                    panic!("{end:?}");
                };
                assert_eq!(peer.code, ReplyCode::NOT_FOUND);
            }
            other.default_exchange().publish("x", "q9").await.unwrap();
            let _ = consumers[9].next().await.unwrap().unwrap();
            assert_eq!(world.elapsed(), Duration::ZERO);
        });
        world.wind_up();
    }
}

#[test]
fn what_is_refused_again_and_again_stays_closed_after_so_many_attempts() {
    let world = World::new();
    world.run(async {
        let connection = world.connect().await;
        let backoff = Backoff::new(1).initial(SECOND).jitter(0.0).attempts(2);
        let options = ChannelOptions::default().reopen(Reopen::always().backoff(backoff));
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").await.unwrap();
        // At once, after one second, after two more.
        for elapsed in [0, 1, 3] {
            be_refused(&channel).await;
            channel.queue("q").purge().await.unwrap();
            assert_eq!(world.elapsed(), elapsed * SECOND);
        }
        // What lasts for a while begins anew.
        world.sleep(30 * SECOND).await;
        for elapsed in [33, 34, 36] {
            be_refused(&channel).await;
            channel.queue("q").purge().await.unwrap();
            assert_eq!(world.elapsed(), elapsed * SECOND);
        }
        let last = be_refused(&channel).await;
        assert!(matches!(channel.closed().await, ChannelCloseReason::Peer(_)));
        assert_eq!(channel.queue("q").purge().await.unwrap_err(), last);
        world.idle().await;
        assert_eq!((world.elapsed(), world.broker_channels()), (36 * SECOND, 0));
    });
    world.wind_up();
}

#[test]
fn one_that_waits_to_be_opened_again_can_be_closed_and_lost() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let backoff = Backoff::new(1).initial(60 * SECOND).jitter(0.0);
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers().backoff(backoff));
        let (closed, lost) = (
            connection.channel_with(options.clone()).await.unwrap(),
            connection.channel_with(options).await.unwrap(),
        );
        let queue = closed.declare_queue("q").await.unwrap();
        let mut consumer = lost.queue("q").consume().await.unwrap();
        for channel in [&closed, &lost] {
            be_refused(channel).await;
            channel.queue("q").purge().await.unwrap();
        }
        lost.default_exchange()
            .publish("settled in vain", "q")
            .await
            .unwrap();
        let held = consumer.next().await.unwrap().unwrap();
        for channel in [&closed, &lost] {
            be_refused(channel).await;
        }
        // What cannot be done is not waited for.
        let error = held.ack().await.unwrap_err();
        assert_eq!(code(&error), Some(ReplyCode::PRECONDITION_FAILED));
        world.idle().await;
        assert_eq!((world.broker_channels(), world.elapsed()), (0, Duration::ZERO));
        closed.close().await.unwrap_err();
        let mut events = connection.events();
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        // The recovery does not wait for it.
        assert!(world.elapsed() < 60 * SECOND && lost.is_open() && !closed.is_open());
        let again = consumer.next().await.unwrap().unwrap();
        assert!(again.is_redelivered() && *again.body() == *b"settled in vain");
        drop(queue);
    });
    world.wind_up();
}

#[test]
fn after_a_recovery_it_is_opened_again_as_it_is_now() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let old_name = queue.name();
        let mut events = connection.events();
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        assert_ne!(queue.name(), *old_name);
        channel.queue("none").purge().await.unwrap_err();
        channel
            .default_exchange()
            .publish("x", queue.name())
            .await
            .unwrap();
        assert_eq!(&*consumer.next().await.unwrap().unwrap().body(), b"x");
    });
    world.wind_up();
}

#[test]
fn a_recovery_brings_back_no_consumer_that_ended_with_its_channel() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = reopening(&connection).await;
        let queue = channel.declare_queue("q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        assert!(consumer.next().await.unwrap().is_err());
        assert!(channel.set_qos(Qos::prefetch(1)).await.is_ok());
        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        // The queue, the channel, its confirms and its limit.
        assert_eq!((report.restored, report.unrestored.len()), (4, 0));
    });
    world.wind_up();
}

#[test]
fn what_has_lasted_for_a_while_is_opened_again_at_once_though_nothing_happened_meanwhile() {
    let world = World::new();
    world.run(async {
        let connection = world.connect_with(config().request_timeout(SECOND)).await;
        let backoff = Backoff::new(1).attempts(0);
        let options = ChannelOptions::default().reopen(Reopen::always().backoff(backoff));
        let channel = connection.channel_with(options).await.unwrap();
        let key = world.key();
        for round in 0..3 {
            world.idle().await;
            let number = channel.number();
            world.broker(|broker, now| {
                let text = "INTERNAL_ERROR";
                broker.close_channel(key, now, number, ReplyCode::INTERNAL_ERROR, text);
            });
            world.idle().await;
            assert!(channel.is_open(), "round {round}");
            world.sleep(31 * SECOND).await;
        }
    });
    world.wind_up();
}

#[test]
fn a_recovery_brings_back_no_consumer_that_was_refused() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let key = world.key();
        let other = world.connect().await.channel().await.unwrap();
        let queue = other.declare_queue("q").await.unwrap();
        let mut consumer = channel.queue("q").consume().await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        channel.declare_queue("q").passive(true).await.unwrap();
        channel.queue("none").purge().await.unwrap_err();
        queue.delete().await.unwrap();
        assert!(consumer.next().await.unwrap().is_err());
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        let mut events = connection.events();
        world.broker(|broker, now| {
            broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "CONNECTION_FORCED - bye");
        });
        let report = recovered(&mut events).await;
        assert!(report.is_complete(), "{report:?}");
    });
    world.wind_up();
}
