//! Channels that are opened again while something else is under way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::{
    ChannelOptions, ConnectionEvent, ConsumeOptions, ConsumerEnd, Qos, Recovery, Reopen, StepDecision,
};
use amqp_proto::wire::{Method, ReplyCode};
use amqp_proto::{Backoff, ChannelCloseReason, CloseReason, ReconnectPolicy};
use amqp_testbroker::MethodFault;

use crate::pipe::lock;
use crate::recovery::{close, connect, recovered};
use crate::reopen::be_refused;
use crate::world::{World, config, in_time};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn many_consumers_that_there_is_no_room_for_go_on_without_the_one_that_is_refused() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let connection = world.connect_with(config().outbound_high_water(8192)).await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let other = connection.channel().await.unwrap();
        other.declare_queue("q").await.unwrap();
        let gone = other.declare_queue("gone").await.unwrap();
        let mut consumers = vec![channel.queue("gone").consume().await.unwrap()];
        for _ in 0..500 {
            consumers.push(channel.queue("q").consume().await.unwrap());
        }
        // The broker says that the second time, in the middle of what is asked again.
        world.broker(|broker, _| {
            broker.fail_methods(|method| match method {
                Method::BasicConsume(consume) if consume.queue.to_str() == Ok("gone") => {
                    let text = "NOT_FOUND - no queue".to_owned();
                    Some(MethodFault::ClosesChannel(ReplyCode::NOT_FOUND, text))
                }
                _ => None,
            });
        });
        be_refused(&channel).await;
        assert!(consumers[0].next().await.unwrap().is_err());
        channel.declare_queue("q").passive(true).await.unwrap();
        assert_eq!(world.consumer_count("q"), 500);
        drop(gone);
    });
    world.wind_up();
}

#[test]
fn one_that_is_closed_before_everything_else_is_there_again_is_opened_again_too() {
    let world = World::new();
    world.run(async {
        let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
        let recovery =
            Recovery::new(ReconnectPolicy::new(backoff)).on_step(|_, _| StepDecision::TryAgain(5 * SECOND));
        let connection = world.start_recovering(config(), &recovery);
        connection.ready().await.unwrap();
        let mut channels = Vec::new();
        for reopen in [
            Reopen::always().with_consumers(),
            Reopen::always(),
            Reopen::never(),
        ] {
            let options = ChannelOptions::default().reopen(reopen);
            channels.push(connection.channel_with(options).await.unwrap());
        }
        let mut consumers = Vec::new();
        for (number, channel) in channels.iter().enumerate() {
            let queue = channel.declare_queue(format!("q{number}")).await.unwrap();
            consumers.push(queue.consume().await.unwrap());
        }
        channels[0].declare_queue("late").await.unwrap();
        let mut is_late = true;
        world.broker(move |broker, _| {
            broker.fail_methods(move |method| {
                let is_meant = matches!(method, Method::QueueDeclare(declare) if declare.queue == *"late");
                let text = || "not yet".to_owned();
                (is_meant && std::mem::take(&mut is_late))
                    .then(|| MethodFault::ClosesChannel(ReplyCode::RESOURCE_LOCKED, text()))
            });
        });
        let mut events = connection.events();
        close(&world);
        world.sleep(3 * SECOND).await;
        for channel in &channels {
            let (key, number) = (world.key(), channel.number());
            let code = ReplyCode::PRECONDITION_FAILED;
            assert!(world.broker(|broker, now| broker.close_channel(key, now, number, code, "enough")));
        }
        let report = recovered(&mut events).await;
        assert_eq!((report.unrestored.len(), world.elapsed()), (1, 6 * SECOND));
        for (number, channel) in channels.iter().enumerate().take(2) {
            let key = format!("q{number}");
            channel.default_exchange().publish("x", &key).await.unwrap();
        }
        consumers[0].next().await.unwrap().unwrap().ack().await.unwrap();
        for consumer in &mut consumers[1..] {
            let end = consumer.next().await.unwrap().unwrap_err();
            let ConsumerEnd::Channel(ChannelCloseReason::Peer(peer)) = &end else {
                panic!("{end:?}");
            };
            assert_eq!(&*peer.text, "enough");
        }
        assert!(matches!(channels[2].closed().await, ChannelCloseReason::Peer(_)));
        assert_eq!(world.elapsed(), 6 * SECOND);
        // And the next recovery brings back what is there.
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        assert_eq!(
            [0, 1, 2].map(|number| world.consumer_count(&format!("q{number}"))),
            [1, 0, 0]
        );
    });
    world.wind_up();
}

#[test]
fn one_that_is_closed_while_another_is_waited_for_is_opened_again_when_that_is_there() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let other = connection.channel().await.unwrap();
        let mut consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
        let stuck = other.declare_queue("stuck").await.unwrap().consume().await;
        let mut is_stuck = true;
        world.broker(move |broker, _| {
            broker.fail_methods(move |method| {
                let is_meant = matches!(method, Method::BasicConsume(consume) if consume.queue == *"stuck");
                (is_meant && std::mem::take(&mut is_stuck)).then_some(MethodFault::StallsChannel)
            });
        });
        let mut events = connection.events();
        close(&world);
        world.sleep(2 * SECOND).await;
        let (key, number, code) = (world.key(), channel.number(), ReplyCode::PRECONDITION_FAILED);
        assert!(world.broker(|broker, now| broker.close_channel(key, now, number, code, "enough")));
        assert!(recovered(&mut events).await.is_complete());
        let then = world.elapsed();
        assert_eq!(
            then,
            SECOND + config().request_timeout,
            "what was stuck was tried once more"
        );
        world.idle().await;
        assert_eq!((world.consumer_count("q"), world.consumer_count("stuck")), (1, 1));
        other.default_exchange().publish("x", "q").await.unwrap();
        consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        assert_eq!(world.elapsed(), then);
        drop(stuck);
    });
    world.wind_up();
}

#[test]
fn a_consumer_that_was_refused_at_first_is_not_asked_for_again() {
    in_time(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
        let channel = connection.channel_with(options).await.unwrap();
        let mut consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
        // The first of these is refused, and those that were asked for behind it go with it.
        let consuming = ["none", "q", "q"].map(|name| channel.queue(name));
        let consuming = consuming
            .map(|queue| world.spawn_with_result(async move { queue.consume().await.map(drop).err() }));
        let mut events = connection.events();
        world.idle().await;
        let [none, ..] = consuming.map(|result| result.lock().unwrap().take().unwrap());
        assert_eq!(none.unwrap().peer().unwrap().code, ReplyCode::NOT_FOUND);
        assert_eq!(world.consumer_count("q"), 1);
        channel.default_exchange().publish("x", "q").await.unwrap();
        consumer.next().await.unwrap().unwrap().ack().await.unwrap();
        connection.close().await;
        let mut reopened = 0;
        while let Some(event) = events.next().await {
            reopened += usize::from(matches!(event, ConnectionEvent::ChannelReopened { .. }));
        }
        assert_eq!(reopened, 1);
    });
}

#[test]
fn who_leaves_starts_no_consumer_again() {
    let world = World::new();
    world.run(async {
        let connection = world.connect().await;
        let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
        let reopen = Reopen::always().with_consumers().backoff(backoff);
        let options = ChannelOptions::default().reopen(reopen);
        let channel = connection.channel_with(options).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        let mut settling = queue.consume().await.unwrap();
        let mut trusting = queue
            .consume_with(ConsumeOptions::default().no_ack(true))
            .await
            .unwrap();
        // At once, and after a second.
        be_refused(&channel).await;
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        assert_eq!(world.consumer_count("q"), 2);
        be_refused(&channel).await;
        let working = connection.working();
        let leaving = world.spawn_with_result({
            let connection = connection.clone();
            async move { connection.shutdown(9 * SECOND).await }
        });
        world.sleep(3 * SECOND).await;
        assert!(channel.is_open());
        assert_eq!(world.consumer_count("q"), 0);
        drop(working);
        assert_eq!(
            connection.closed().await,
            CloseReason::Requested { acknowledged: true }
        );
        world.idle().await;
        let report = leaving.lock().unwrap().take().unwrap();
        assert_eq!((report.handlers, world.elapsed()), (0, 3 * SECOND));
        for consumer in [&mut settling, &mut trusting] {
            let end = consumer.next().await;
            assert!(end.is_none(), "{end:?}");
        }
    });
    world.wind_up();
}

#[test]
fn a_cancel_that_waits_for_another_life_ends_the_consumer_there() {
    for is_connection_lost in [false, true] {
        let world = World::new();
        world.run(async {
            let connection = connect(&world).await;
            let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
            let reopen = Reopen::always().with_consumers().backoff(backoff);
            let options = ChannelOptions::default().reopen(reopen);
            let channel = connection.channel_with(options).await.unwrap();
            let queue = channel.declare_queue("q").durable(true).await.unwrap();
            let consumer = queue.consume().await.unwrap();
            let other = queue.consume().await.unwrap();
            if is_connection_lost {
                close(&world);
            } else {
                be_refused(&channel).await;
                channel.set_qos(Qos::prefetch(1)).await.unwrap();
                be_refused(&channel).await;
            }
            world.idle().await;
            assert_eq!(world.consumer_count("q"), 0);
            assert_eq!(consumer.cancel().await, Ok(0), "{is_connection_lost}");
            world.idle().await;
            assert_eq!(world.elapsed(), SECOND);
            assert_eq!(world.consumer_count("q"), 1);
            drop(other);
        });
        world.wind_up();
    }
}

#[test]
fn a_consumer_that_is_being_started_again_is_cancelled_when_it_is_there() {
    for is_dropped in [false, true] {
        let world = World::new();
        world.run(async {
            let connection = world.connect().await;
            let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
            let reopen = Reopen::always().with_consumers().backoff(backoff);
            let options = ChannelOptions::default().reopen(reopen);
            let channel = connection.channel_with(options).await.unwrap();
            let consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
            be_refused(&channel).await;
            channel.set_qos(Qos::prefetch(1)).await.unwrap();
            be_refused(&channel).await;
            let asked = Arc::<Mutex<Vec<bool>>>::default();
            let log = Arc::clone(&asked);
            world.broker(move |broker, _| {
                broker.fail_methods(move |method| {
                    match method {
                        Method::BasicConsume(_) => lock(&log).push(true),
                        Method::BasicCancel(_) => lock(&log).push(false),
                        _ => {}
                    }
                    None
                });
            });
            // It is opened again, and says nothing.
            world.set_mute(true);
            world.sleep(SECOND).await;
            world.idle().await;
            match is_dropped {
                true => drop(consumer),
                false => assert_eq!(consumer.cancel().await, Ok(0)),
            }
            world.idle().await;
            assert_eq!(*lock(&asked), [true]);
            world.set_mute(false);
            world.idle().await;
            assert_eq!(*lock(&asked), [true, false]);
            assert_eq!(world.consumer_count("q"), 0);
        });
        world.wind_up();
    }
}
