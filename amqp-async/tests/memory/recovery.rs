//! Connections that are lost and made again.

use std::time::Duration;

use amqp_async::rpc::{RpcClient, RpcClientOptions, serve};
use amqp_async::{
    Channel, ChannelOptions, Connection, ConnectionEvent, ConsumeOptions, ConsumerEnd, Error, Events,
    ExchangeKind, Message, Qos, Recovery, RecoveryReport,
};
use amqp_proto::topology::StepKind;
use amqp_proto::wire::ReplyCode;
use amqp_proto::{Backoff, ChannelCloseReason, CloseReason, GiveUpReason, ReconnectPolicy, Verdict};

use crate::world::{World, config};

const SECOND: Duration = Duration::from_secs(1);

/// After one second, then two and so on.
fn patient() -> Recovery {
    let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
    Recovery::new(ReconnectPolicy::new(backoff))
}

pub(crate) async fn connect(world: &World) -> Connection {
    let connection = world.start_recovering(config(), &patient());
    connection.ready().await.unwrap();
    connection
}

/// The broker ends the connection.
pub(crate) fn close(world: &World) {
    let key = world.key();
    world.broker(|broker, now| {
        broker.close_connection(
            key,
            now,
            ReplyCode::CONNECTION_FORCED,
            "CONNECTION_FORCED - by the operator",
        );
    });
}

pub(crate) async fn recovered(events: &mut Events) -> RecoveryReport {
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::Recovered(report) => break (*report).clone(),
            ConnectionEvent::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

#[test]
fn everything_is_there_again() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        channel.set_qos(Qos::prefetch(3)).await.unwrap();
        let exchange = channel
            .declare_exchange("news", ExchangeKind::Topic)
            .await
            .unwrap();
        let kept = channel.declare_queue("kept").durable(true).await.unwrap();
        let given = channel.declare_queue("").exclusive(true).await.unwrap();
        given.bind(&exchange, "a.#").await.unwrap();
        let old_name = given.name();
        let mut from_kept = kept.consume().await.unwrap();
        let no_ack = ConsumeOptions::default().no_ack(true);
        let mut from_given = given.consume_with(no_ack).await.unwrap();
        for number in 0..4 {
            channel
                .default_exchange()
                .publish(number.to_string(), "kept")
                .await
                .unwrap();
        }
        let unsettled = from_kept.next().await.unwrap().unwrap();
        world.idle().await;

        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(world.elapsed(), SECOND);
        assert!(connection.is_recovering().is_none() && channel.is_open());

        // What was not settled comes again, what was not handed out not twice.
        let error = unsettled.ack().await.unwrap_err();
        assert!(
            matches!(error, Error::ConnectionClosed(CloseReason::Peer(_))),
            "{error:?}"
        );
        for number in 0..4 {
            let delivery = from_kept.next().await.unwrap().unwrap();
            assert_eq!(&*delivery.body(), number.to_string().as_bytes());
            assert_eq!(
                delivery.is_redelivered(),
                number < 3,
                "the prefetch limit was three"
            );
            delivery.ack().await.unwrap();
        }
        // The broker's name is another one, and everything has followed it.
        assert_ne!(given.name(), *old_name);
        assert_eq!(world.broker(|broker, _| broker.queues("/")).len(), 2);
        exchange.publish("x", "a.b").await.unwrap();
        channel
            .default_exchange()
            .publish("y", given.name())
            .await
            .unwrap();
        for body in ["x", "y"] {
            assert_eq!(
                &*from_given.next().await.unwrap().unwrap().body(),
                body.as_bytes()
            );
        }
        // It can be lost again.
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        exchange.publish("z", "a.b").await.unwrap();
        assert_eq!(&*from_given.next().await.unwrap().unwrap().body(), b"z");
        assert_eq!(from_kept.cancel().await.unwrap(), 0);
    });
    world.wind_up();
}

#[test]
fn what_is_asked_meanwhile_waits_and_what_waited_fails() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("q").durable(true).await.unwrap();
        world.set_mute(true);
        let waiting = channel
            .default_exchange()
            .publish_deferred("lost", "q")
            .await
            .unwrap();
        let asked = world.spawn_with_result({
            let channel = channel.clone();
            async move { channel.declare_queue("other").await.map(drop) }
        });
        world.idle().await;
        let mut events = connection.events();
        world.broker(amqp_testbroker::Broker::restart);
        let lost = events.next().await.unwrap();
        assert!(matches!(lost, ConnectionEvent::Lost { .. }), "{lost:?}");
        assert!(connection.is_recovering().is_some() && !connection.is_closed());
        let error = waiting.await.unwrap_err();
        assert!(matches!(error, amqp_async::PublishError::Lost(_)), "{error:?}");
        let asked = asked.lock().unwrap().take();
        assert!(
            matches!(asked, Some(Err(Error::ConnectionClosed(_)))),
            "{asked:?}"
        );

        let hasty = channel.with_timeout(SECOND / 2);
        assert_eq!(hasty.declare_queue("hasty").await.unwrap_err(), Error::Timeout);
        assert_eq!(world.elapsed(), SECOND / 2);
        channel.default_exchange().publish("kept", "q").await.unwrap();
        assert_eq!(world.elapsed(), SECOND);
        let other = connection.channel().await.unwrap();
        other.declare_queue("other").await.unwrap();
        let mut queues = world.broker(|broker, _| broker.queues("/"));
        queues.sort();
        assert_eq!(queues, ["other", "q"]);
    });
    world.wind_up();
}

#[test]
fn it_can_be_closed_and_dropped_while_it_is_lost() {
    let world = World::new();
    world.run(async {
        for is_dropped in [false, true] {
            let connection = connect(&world).await;
            let channel = connection.channel().await.unwrap();
            let mut consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
            let mut events = connection.events();
            close(&world);
            assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
            let waiting = world.spawn_with_result({
                let channel = channel.clone();
                async move { channel.declare_queue("other").await.map(drop) }
            });
            world.idle().await;
            if is_dropped {
                // A consumer that goes while there is no connection is not made again.
                drop(consumer);
                channel.close().await.unwrap();
                assert!(recovered(&mut events).await.is_complete());
                assert_eq!((world.consumer_count("q"), world.broker_channels()), (0, 0));
                connection.close().await;
            } else {
                let report = connection.close().await;
                world.idle().await;
                assert_eq!(report.reason, CloseReason::Requested { acknowledged: false });
                assert!(consumer.next().await.unwrap().is_err());
                let waiting = waiting.lock().unwrap().take();
                assert!(
                    matches!(waiting, Some(Err(Error::ConnectionClosed(_)))),
                    "{waiting:?}"
                );
                assert_eq!(
                    channel.closed().await,
                    ChannelCloseReason::Connection(report.reason)
                );
            }
            world.idle().await;
            let left = world.broker(|broker, _| broker.connections());
            assert!(left.is_empty(), "{left:?}");
        }
    });
}

#[test]
fn whoever_wants_to_leave_is_not_kept_by_a_loss() {
    let world = World::new();
    world.run(async {
        // Lost before the shutdown, and during it.
        for is_lost_first in [true, false] {
            let connection = connect(&world).await;
            let channel = connection.channel().await.unwrap();
            let mut consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
            channel.default_exchange().publish("x", "q").await.unwrap();
            let unsettled = consumer.next().await.unwrap().unwrap();
            let before = world.elapsed();
            if is_lost_first {
                close(&world);
                world.idle().await;
                assert!(connection.is_recovering().is_some());
            }
            let report = world.spawn_with_result({
                let connection = connection.clone();
                async move { connection.shutdown(60 * SECOND).await }
            });
            world.idle().await;
            if !is_lost_first {
                assert!(
                    report.lock().unwrap().is_none(),
                    "there is a delivery to wait for"
                );
                close(&world);
                world.idle().await;
            }
            let report = report.lock().unwrap().take().unwrap();
            assert_eq!(report.unsettled, usize::from(!is_lost_first));
            assert!(connection.is_closed() && connection.is_recovering().is_none());
            assert_eq!(world.elapsed(), before);
            assert!(unsettled.ack().await.is_err() && world.broker_channels() == 0);
        }
    });
    world.wind_up();
}

#[test]
fn what_comes_before_everything_is_there_can_be_settled() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").durable(true).await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let outcomes = world.spawn_with_result(async move {
            let mut outcomes = Vec::new();
            while outcomes.len() < 3 {
                let delivery = consumer.next().await.unwrap().unwrap();
                outcomes.push((delivery.is_redelivered(), delivery.ack().await.is_ok()));
            }
            outcomes
        });
        let exchange = channel.default_exchange();
        exchange.publish("first", "q").await.unwrap();
        world.idle().await;
        let mut events = connection.events();
        close(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        let other = world.connect().await.channel().await.unwrap();
        other
            .default_exchange()
            .publish("while it is away", "q")
            .await
            .unwrap();
        assert!(recovered(&mut events).await.is_complete());
        exchange.publish("last", "q").await.unwrap();
        world.idle().await;
        let outcomes = outcomes.lock().unwrap().take().unwrap();
        assert_eq!(outcomes, [(false, true); 3]);
        assert_eq!(world.queue_len("q"), 0);
    });
    world.wind_up();
}

#[test]
fn a_call_that_waits_knows_the_queue_by_its_new_name() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        let mut events = connection.events();
        close(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        queue.bind("amq.fanout", "").await.unwrap();
        assert!(recovered(&mut events).await.is_complete() && channel.is_open());
        let exchange = channel.exchange("amq.fanout");
        exchange.publish("x", "").await.unwrap();
        assert_eq!(&*queue.get().await.unwrap().unwrap().body(), b"x");
        // An answer that nobody waits for is written down all the same.
        assert!(world.poll_once(queue.bind("amq.direct", "key")).await.is_none());
        world.idle().await;
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        channel.exchange("amq.direct").publish("y", "key").await.unwrap();
    });
    world.wind_up();
}

#[test]
fn a_call_that_is_made_meanwhile_is_answered_to_the_new_name() {
    let world = World::new();
    world.run(async {
        let server = world.connect().await.channel().await.unwrap();
        let queue = server.declare_queue("double").await.unwrap();
        let echo = |message: amqp_proto::Message| async move { Ok(Message::new(message.body().to_vec())) };
        let _serving = serve(&queue, 1, echo).await.unwrap();
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let options = RpcClientOptions::default().exclusive_queue(true);
        let client = RpcClient::with_options(&channel, options).await.unwrap();
        let mut events = connection.events();
        for _ in 0..2 {
            close(&world);
            assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
            let answer = client.call("double", "x").await.unwrap();
            assert_eq!(&*answer.body(), b"x");
            assert!(recovered(&mut events).await.is_complete());
        }
    });
    world.wind_up();
}

#[test]
fn a_channel_that_a_filter_leaves_out_ends() {
    let world = World::new();
    world.run(async {
        let recovery = patient().filter(|step| *step.kind() != StepKind::Channel);
        let connection = world.start_recovering(config(), &recovery);
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let mut consumer = channel.declare_queue("q").await.unwrap().consume().await.unwrap();
        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        let what: Vec<_> = report.unrestored.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(what, ["channel.open"]);
        assert!(matches!(
            channel.closed().await,
            ChannelCloseReason::Connection(_)
        ));
        assert!(consumer.next().await.unwrap().is_err());
        connection
            .channel()
            .await
            .unwrap()
            .declare_queue("other")
            .await
            .unwrap();
    });
    world.wind_up();
}

#[test]
fn what_a_filter_leaves_out_is_not_made_again() {
    let world = World::new();
    world.run(async {
        let recovery = patient().filter(|step| !matches!(step.kind(), StepKind::Queue(_)));
        let connection = world.start_recovering(config(), &recovery);
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let kept = channel.declare_queue("kept").durable(true).await.unwrap();
        let gone = channel.declare_queue("gone").exclusive(true).await.unwrap();
        let (mut lasting, mut ending) = (kept.consume().await.unwrap(), gone.consume().await.unwrap());
        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        let what: Vec<_> = report.unrestored.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(what, [r#"basic.consume queue="gone" consumer_tag="ctag0.1""#]);
        assert_eq!(world.broker(|broker, _| broker.queues("/")), ["kept"]);
        // The broker's words.
        let end = ending.next().await.unwrap().unwrap_err();
        let ConsumerEnd::Channel(reason) = &end else {
            panic!("{end:?}");
        };
        assert_eq!(reason.peer().unwrap().code, ReplyCode::NOT_FOUND);
        channel.default_exchange().publish("x", "kept").await.unwrap();
        assert_eq!(&*lasting.next().await.unwrap().unwrap().body(), b"x");
    });
    world.wind_up();
}

#[test]
fn it_is_given_up_when_the_attempts_are_used_up() {
    let world = World::new();
    world.run(async {
        let backoff = Backoff::new(1).initial(SECOND).jitter(0.0).attempts(3);
        let recovery = Recovery::new(ReconnectPolicy::new(backoff));
        let connection = world.start_recovering(config(), &recovery);
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let mut events = connection.events();
        world.broker(|broker, _| broker.refuse_connections(u32::MAX));
        close(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        let error = channel.declare_queue("q").await.unwrap_err();
        let Error::ConnectionClosed(reason) = &error else {
            panic!("{error:?}");
        };
        // One second, two, four.
        assert_eq!(world.elapsed(), 7 * SECOND);
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(event);
        }
        assert_eq!(seen.len(), 6, "{seen:?}");
        let last = [
            ConnectionEvent::GaveUp(GiveUpReason::Exhausted(reason.clone())),
            ConnectionEvent::Closed(reason.clone()),
        ];
        assert_eq!(seen[4..], last);
        assert!(connection.is_closed() && connection.is_recovering().is_none());
        assert_eq!(
            channel.closed().await,
            ChannelCloseReason::Connection(reason.clone())
        );
    });
    world.wind_up();
}

#[test]
fn it_is_given_up_for_a_reason_that_will_not_go_away() {
    let world = World::new();
    world.run(async {
        let never = ReconnectPolicy::new(Backoff::new(1)).classifier(|_| Some(Verdict::Permanent));
        let connection = world.start_recovering(config(), &Recovery::new(never));
        connection.ready().await.unwrap();
        let mut events = connection.events();
        close(&world);
        let reason = connection.closed().await;
        assert!(matches!(reason, CloseReason::Peer(_)), "{reason:?}");
        let seen = [events.next().await, events.next().await, events.next().await];
        let gave_up = ConnectionEvent::GaveUp(GiveUpReason::Permanent(reason.clone()));
        assert_eq!(seen[1..], [Some(gave_up), Some(ConnectionEvent::Closed(reason))]);
        assert_eq!(world.elapsed(), Duration::ZERO);
    });
    world.wind_up();
}

#[test]
fn what_cannot_be_had_again_is_told_and_the_rest_is_there() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let other = world.connect().await.channel().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let spoiled = connection.channel_with(ChannelOptions::default()).await.unwrap();
        let queue = channel.declare_queue("here").await.unwrap();
        let gone = spoiled.declare_queue("gone").exclusive(true).await.unwrap();
        let mut lasting = queue.consume().await.unwrap();
        let mut ending = gone.consume().await.unwrap();
        let mut events = connection.events();
        let first = world.broker(|broker, _| broker.connections()[0].key);
        world.broker(|broker, now| {
            broker.close_connection(
                first,
                now,
                ReplyCode::CONNECTION_FORCED,
                "CONNECTION_FORCED - bye",
            );
        });
        // Somebody is quicker, and declares it otherwise.
        other.declare_queue("gone").await.unwrap();
        let report = recovered(&mut events).await;
        let what: Vec<_> = report
            .unrestored
            .iter()
            .map(|one| (one.what.as_str(), one.error.is_some()))
            .collect();
        assert_eq!(
            what,
            [
                (r#"queue.declare queue="gone" exclusive"#, true),
                (r#"basic.consume queue="gone" consumer_tag="ctag1.0""#, false),
            ]
        );
        channel.default_exchange().publish("x", "here").await.unwrap();
        assert_eq!(&*lasting.next().await.unwrap().unwrap().body(), b"x");
        let end = ending.next().await.unwrap().unwrap_err();
        assert_eq!(end, ConsumerEnd::NotRestored);
    });
    world.wind_up();
}

async fn busy(channel: &Channel) {
    let queue = channel.declare_queue("q").await.unwrap();
    drop(queue);
}

#[test]
fn it_is_lost_again_and_again_and_nothing_grows() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        busy(&channel).await;
        let given = channel.declare_queue("").exclusive(true).await.unwrap();
        let mut consumer = given.consume().await.unwrap();
        let mut events = connection.events();
        for round in 0..1000 {
            close(&world);
            assert!(recovered(&mut events).await.is_complete());
            channel
                .default_exchange()
                .publish(round.to_string(), given.name())
                .await
                .unwrap();
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(&*delivery.body(), round.to_string().as_bytes());
            delivery.ack().await.unwrap();
            assert_eq!(world.broker_channels(), 1);
        }
        let stats = connection.stats();
        let counted = (
            stats.recoveries,
            stats.counters.published,
            stats.counters.delivered,
        );
        assert_eq!(counted, (1000, 1000, 1000));
        assert_eq!(connection.counters(), stats.counters);
        // It counts what is kept.
        let state = format!("{connection:?}");
        assert!(state.contains("publishes: 0, calls: 0, alarms: 0"), "{state}");
    });
    world.wind_up();
}

/// The second connection breaks after so many octets, the third does not. Says whether the second one sufficed.
fn recover_with_cut(read: usize, written: usize) -> bool {
    let world = World::new();
    let is_enough = world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        channel.set_qos(Qos::prefetch(10)).await.unwrap();
        let exchange = channel
            .declare_exchange("news", ExchangeKind::Fanout)
            .await
            .unwrap();
        let kept = channel.declare_queue("kept").durable(true).await.unwrap();
        let given = channel.declare_queue("").exclusive(true).await.unwrap();
        given.bind(&exchange, "").await.unwrap();
        let mut from_kept = kept.consume().await.unwrap();
        let mut from_given = given.consume().await.unwrap();
        channel.default_exchange().publish("again", "kept").await.unwrap();
        let unsettled = from_kept.next().await.unwrap().unwrap();
        let mut events = connection.events();
        world.cut_next(read, written);
        close(&world);
        let report = recovered(&mut events).await;
        assert!(report.is_complete(), "{report:?}");
        let is_enough = world.elapsed() == SECOND;
        assert!(unsettled.ack().await.is_err());
        let outcome = exchange.publish("new", "").await;
        if is_enough && outcome.is_err() {
            // The cut came behind the recovery.
            recovered(&mut events).await;
        } else {
            outcome.unwrap();
            assert_eq!(&*from_given.next().await.unwrap().unwrap().body(), b"new");
        }
        loop {
            let delivery = from_kept.next().await.unwrap().unwrap();
            assert!(&*delivery.body() == b"again" && delivery.is_redelivered());
            // The stream may break just before.
            if delivery.ack().await.is_ok() {
                world.idle().await;
                if world.queue_len("kept") == 0 {
                    break;
                }
            }
        }
        assert_eq!((world.broker_channels(), world.consumer_count("kept")), (1, 1));
        assert_eq!(world.consumer_count(&given.name()), 1);
        is_enough
    });
    world.wind_up();
    is_enough
}

#[test]
fn wherever_it_breaks_while_it_is_made_again_everything_is_there_at_last() {
    let never = usize::MAX;
    let cuts: [&dyn Fn(usize) -> (usize, usize); 2] = [&|octets| (octets, never), &|octets| (never, octets)];
    for cut in cuts {
        let mut octets = 1;
        // On some way behind the point where it is enough.
        let mut enough = 0;
        while enough < 40 {
            let (read, written) = cut(octets);
            enough += usize::from(recover_with_cut(read, written));
            octets += 1;
        }
        assert!(octets > 500, "{octets}");
    }
}
