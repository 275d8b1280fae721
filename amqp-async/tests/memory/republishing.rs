//! Publishes that were under way when their channel was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amqp_async::{
    BlockedPolicy, Channel, ChannelOptions, Connection, ConnectionEvent, Error, Events, Message,
    PublishError, Qos, Recovery, Reopen, Republish,
};
use amqp_proto::topology::Step;
use amqp_proto::wire::ReplyCode;
use amqp_proto::{
    Backoff, ChannelCloseReason, ConfirmLimits, ConfirmTag, ConfirmTags, ReconnectPolicy, SendError,
};

use crate::world::{World, config, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// After one second, then two and so on.
fn patient() -> Recovery {
    let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
    Recovery::new(ReconnectPolicy::new(backoff))
}

async fn connect(world: &World) -> Connection {
    let connection = world.start_recovering(config(), &patient());
    connection.ready().await.unwrap();
    connection
}

/// The broker ends the connection, and confirms at once on the next one.
fn close(world: &World) {
    let key = world.key();
    let code = ReplyCode::CONNECTION_FORCED;
    world.broker(|broker, now| {
        broker.delay_confirms(Duration::ZERO);
        broker.close_connection(key, now, code, "by the operator");
    });
}

async fn recovered(events: &mut Events) {
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::Recovered(report) => break assert!(report.is_complete(), "{report:?}"),
            ConnectionEvent::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

#[test]
fn what_was_not_confirmed_is_told_as_lost_with_its_cause_however_late_somebody_asks() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("q").durable(true).await.unwrap();
        let exchange = channel.default_exchange();
        let mut events = connection.events();
        for number in 1..=4 {
            exchange.publish(number.to_string(), "q").await.unwrap();
        }
        for loss in 0..2 {
            world.broker(|broker, _| broker.delay_confirms(99 * SECOND));
            for number in 0..3 {
                exchange
                    .publish_unconfirmed(number.to_string(), "q")
                    .await
                    .unwrap();
            }
            let deferred = exchange.publish_deferred("deferred", "q").await.unwrap();
            assert_eq!(deferred.tag().unwrap().value(), 8 + 5 * loss);
            world.idle().await;
            close(&world);
            recovered(&mut events).await;
            assert!(matches!(deferred.await, Err(PublishError::Lost(_))));
            exchange.publish_unconfirmed("after", "q").await.unwrap();
            world.idle().await;
        }
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.unsettled, report.unlisted), (6, 0, 0));
        let lost: Vec<u64> = report.lost.iter().map(|(tag, _)| tag.value()).collect();
        assert_eq!(lost, [5, 6, 7, 8, 10, 11, 12, 13]);
        for (_, error) in &report.lost {
            assert_eq!(error.peer().unwrap().code, ReplyCode::CONNECTION_FORCED);
            assert!(matches!(error, Error::ConnectionClosed(_)), "{error:?}");
        }
        assert!(channel.wait_for_confirms().await.is_complete());
        // The same for some of them.
        let id = report.lost[0].0.channel();
        let some = channel.wait_for_confirms_of(ConfirmTags::new(id, 3, 6)).await;
        assert_eq!((some.confirmed, some.lost.len()), (2, 2));
    });
    world.wind_up();
}

const HEADER: &str = "x-deduplication-header";

async fn republishing(connection: &Connection, how: Republish) -> Channel {
    // A publish that the broker does not take closes the channel twice: once among others, once alone.
    let at_once = Backoff::new(0).initial(Duration::ZERO).max(Duration::ZERO);
    let reopen = Reopen::always().backoff(at_once);
    let options = ChannelOptions::default().republish(how).reopen(reopen);
    let channel = connection.channel_with(options).await.unwrap();
    channel.declare_queue("q").durable(true).await.unwrap();
    channel
}

/// Nothing is confirmed before the connection is lost.
fn confirm_late(world: &World) {
    world.broker(|broker, _| broker.delay_confirms(99 * SECOND));
}

/// The body and the id of each message, in the order in which they are in the queue.
fn arrived(world: &World) -> Vec<(String, String)> {
    let messages = world.broker(|broker, _| broker.messages("/", "q")).unwrap();
    let read = |message: &amqp_proto::Message| {
        let headers = message.properties().headers.unwrap();
        let id = headers.get(HEADER).unwrap().unwrap().as_str().unwrap().to_owned();
        (String::from_utf8(message.body().to_vec()).unwrap(), id)
    };
    messages.iter().map(read).collect()
}

/// Each body came with one id, and each id with one body. Gives the bodies.
fn check_ids(arrived: &[(String, String)]) -> BTreeSet<&str> {
    let by_body: BTreeMap<_, _> = arrived.iter().map(|(body, id)| (&**body, id)).collect();
    let by_id: BTreeMap<_, _> = arrived.iter().map(|(body, id)| (id, body)).collect();
    for (body, id) in arrived {
        assert_eq!((by_body[&**body], by_id[id]), (id, body));
    }
    by_body.into_keys().collect()
}

#[test]
fn after_several_losses_each_publish_has_the_outcome_of_its_last_time() {
    in_time(async |world| {
        let connection = connect(world).await;
        let channel = republishing(&connection, Republish::default()).await;
        let exchange = channel.default_exchange();
        let mut events = connection.events();
        confirm_late(world);
        let mut confirms = Vec::new();
        for loss in 0..3_u8 {
            for number in 0..10_u8 {
                let body = (10 * loss + number).to_string();
                // One key each: that of a return says which one it is for.
                let nowhere = format!("nowhere {body}");
                let key = if number == 3 { &*nowhere } else { "q" };
                match number {
                    0..5 => confirms.push(exchange.publish_deferred(body, key).await.unwrap()),
                    _ => exchange.publish_unconfirmed(body, key).await.unwrap(),
                }
            }
            world.idle().await;
            assert_eq!(channel.unconfirmed(), 10 * usize::from(loss + 1));
            close(world);
            match loss {
                // The first of those that are published again are refused, of which one was returned before.
                2 => world.broker(|broker, _| broker.nack_publishes(5)),
                _ => confirm_late(world),
            }
            recovered(&mut events).await;
        }
        exchange.publish("new", "q").await.unwrap();
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.unlisted, report.unsettled), (24, 0, 0));
        let values = |tags: &[ConfirmTag]| tags.iter().map(|tag| tag.value()).collect::<Vec<_>>();
        assert_eq!(values(&report.nacked), [1, 2, 3, 4, 5]);
        let (tags, messages): (Vec<_>, Vec<_>) = report.returned.into_iter().unzip();
        assert_eq!(values(&tags), [14, 24]);
        for (tag, message) in tags.iter().zip(messages) {
            let number = tag.value() - 1;
            assert_eq!(&*message.message.body(), number.to_string().as_bytes());
            assert_eq!(message.tag, Some(*tag));
        }
        assert!(report.lost.is_empty());
        for (index, confirm) in confirms.into_iter().enumerate() {
            let tag = confirm.tag().unwrap().value();
            assert_eq!(usize::try_from(tag), Ok(10 * (index / 5) + index % 5 + 1));
            match (confirm.await, index) {
                (Err(PublishError::Nacked), 0..5) | (Err(PublishError::Returned(_)), 8 | 13) => {}
                (Ok(()), 5..) if index % 5 != 3 => {}
                (outcome, _) => panic!("{index}: {outcome:?}"),
            }
        }
        let arrived = arrived(world);
        let bodies = check_ids(&arrived);
        assert_eq!(bodies.len(), 27 + 1);
        let (id, number) = arrived[0].1.rsplit_once('-').unwrap();
        assert_eq!((id.len(), number), (32, "1"));
        // What was published again last is in order, and before what is new.
        let last: Vec<&str> = arrived.iter().rev().take(23).map(|(body, _)| &**body).collect();
        let expected = (5..30)
            .filter(|number| number % 10 != 3)
            .map(|number| number.to_string());
        let mut expected: Vec<String> = expected.chain(["new".to_owned()]).collect();
        expected.reverse();
        assert_eq!(
            last,
            expected.iter().map(|body| &**body).take(23).collect::<Vec<_>>()
        );
        assert_eq!(channel.unconfirmed(), 0);
    });
}

#[test]
fn one_that_the_broker_does_not_take_is_lost_and_the_others_go_on() {
    everywhere(async |world| {
        let (connection, _) = world.channel().await;
        let channel = republishing(&connection, Republish::default()).await;
        let exchange = channel.default_exchange();
        confirm_late(world);
        let before = exchange.publish_deferred("before", "q").await.unwrap();
        let refused = channel
            .exchange("none")
            .publish_deferred("refused", "q")
            .await
            .unwrap();
        let mut behind = Vec::new();
        for number in 0..3 {
            behind.push(exchange.publish_deferred(number.to_string(), "q").await.unwrap());
        }
        // The broker closes the channel before it has read this, and takes it on the next one.
        world.broker(|broker, _| broker.delay_confirms(Duration::ZERO));
        before.await.unwrap();
        let error = refused.await.unwrap_err();
        assert!(
            matches!(error, PublishError::Lost(Error::ChannelClosed(_))),
            "{error:?}"
        );
        assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
        for confirm in behind {
            confirm.await.unwrap();
        }
        exchange.publish("new", "q").await.unwrap();
        let arrived = arrived(world);
        assert_eq!(check_ids(&arrived), ["0", "1", "2", "before", "new"].into());
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.lost.len()), (5, 1));
    });
}

#[test]
fn a_channel_that_was_closed_for_another_reason_publishes_again() {
    everywhere(async |world| {
        let (connection, _) = world.channel().await;
        let channel = republishing(&connection, Republish::default()).await;
        confirm_late(world);
        let exchange = channel.default_exchange();
        let kept = exchange.publish_deferred("kept", "q").await.unwrap();
        world.idle().await;
        world.broker(|broker, _| broker.delay_confirms(Duration::ZERO));
        channel.declare_queue("q").durable(false).await.unwrap_err();
        exchange.publish("new", "q").await.unwrap();
        kept.await.unwrap();
        let bodies: Vec<String> = arrived(world).into_iter().map(|(body, _)| body).collect();
        assert_eq!(bodies, ["kept", "kept", "new"]);
    });
}

#[test]
fn when_it_is_given_up_all_are_lost_with_the_cause() {
    let world = World::new();
    world.run(async {
        let backoff = Backoff::new(1).initial(SECOND).attempts(1);
        let recovery = Recovery::new(ReconnectPolicy::new(backoff));
        let connection = world.start_recovering(config(), &recovery);
        connection.ready().await.unwrap();
        let channel = republishing(&connection, Republish::default()).await;
        confirm_late(&world);
        let exchange = channel.default_exchange();
        let awaited = exchange.publish_deferred("awaited", "q").await.unwrap();
        exchange.publish_unconfirmed("unconfirmed", "q").await.unwrap();
        let waiting = world.spawn_with_result({
            let channel = channel.clone();
            async move { channel.wait_for_confirms().await }
        });
        let unsent = world.spawn_with_result({
            let (channel, exchange) = (channel.clone(), exchange.clone());
            async move {
                channel.connection().events().next().await;
                exchange.publish("unsent", "q").await
            }
        });
        world.idle().await;
        world.cut_next(0, 0);
        close(&world);
        let reason = connection.closed().await;
        let error = Error::ConnectionClosed(reason.clone());
        assert_eq!(awaited.await, Err(PublishError::Lost(error.clone())));
        world.idle().await;
        let report = waiting.lock().unwrap().take().unwrap();
        let lost: Vec<_> = report
            .lost
            .iter()
            .map(|(tag, error)| (tag.value(), error))
            .collect();
        assert_eq!(lost, [(1, &error), (2, &error)]);
        let unsent = unsent.lock().unwrap().take().unwrap();
        assert_eq!(unsent, Err(PublishError::NotSent(error)));
        assert_eq!(channel.unconfirmed(), 0);
    });
    world.wind_up();
}

#[test]
fn so_much_is_kept_and_no_more() {
    let limits = [
        ConfirmLimits::default().count(3),
        // Names, the header with the id and the body.
        ConfirmLimits::default().octets(3 * 1100),
    ];
    for limits in limits {
        in_time(async |world| {
            let connection = connect(world).await;
            let how = Republish::default().limits(limits).header("id");
            let channel = republishing(&connection, how).await;
            let exchange = channel.default_exchange();
            let mut events = connection.events();
            confirm_late(world);
            for _ in 0..3 {
                exchange.publish_unconfirmed(vec![0; 1000], "q").await.unwrap();
            }
            let beyond = {
                let exchange = exchange.clone();
                world.spawn_with_result(async move { exchange.publish(vec![0; 1000], "q").await })
            };
            let hasty = channel.with_timeout(SECOND).default_exchange();
            let refused = hasty.publish_unconfirmed(vec![0; 1000], "q").await;
            assert_eq!(refused, Err(Error::Timeout));
            assert_eq!((channel.unconfirmed(), world.queue_len("q")), (3, 3));
            close(world);
            recovered(&mut events).await;
            // When the three are confirmed there is room.
            assert!(channel.wait_for_confirms().await.is_complete());
            world.idle().await;
            assert_eq!(beyond.lock().unwrap().take(), Some(Ok(())));
            assert_eq!((channel.unconfirmed(), world.queue_len("q")), (0, 7));
        });
    }
}

#[test]
fn what_is_new_goes_when_all_is_published_again_and_need_not_be_confirmed() {
    let mut world = World::new();
    // It takes a while to publish all of it again.
    world.set_window(61);
    world.run(async {
        let config = config().outbound_high_water(2000);
        let connection = world.start_recovering(config, &patient());
        connection.ready().await.unwrap();
        let channel = republishing(&connection, Republish::default()).await;
        let exchange = channel.default_exchange();
        confirm_late(&world);
        for _ in 0..50 {
            exchange.publish_unconfirmed(vec![b'x'; 200], "q").await.unwrap();
        }
        world.idle().await;
        let mut events = connection.events();
        close(&world);
        confirm_late(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        exchange.publish_unconfirmed("new", "q").await.unwrap();
        world.idle().await;
        assert_eq!((world.elapsed(), channel.unconfirmed()), (SECOND, 51));
        let arrived = arrived(&world);
        assert_eq!(arrived.len(), 101);
        assert_eq!(arrived[100].0, "new");
    });
    world.wind_up();
}

#[test]
fn an_id_of_the_message_s_own_stays() {
    in_time(async |world| {
        let connection = connect(world).await;
        let channel = republishing(&connection, Republish::default()).await;
        let other = republishing(&connection, Republish::default()).await;
        let own = Message::new("own").header(HEADER, "mine").header("a", 1);
        channel.default_exchange().publish(own, "q").await.unwrap();
        channel.default_exchange().publish("one", "q").await.unwrap();
        other.default_exchange().publish("another", "q").await.unwrap();
        let arrived = arrived(world);
        assert_eq!(arrived[0].1, "mine");
        assert!(
            arrived[1].1.ends_with("-2") && arrived[2].1.ends_with("-1"),
            "{arrived:?}"
        );
        let prefix = |index: usize| arrived[index].1.split('-').next();
        assert_ne!(prefix(1), prefix(2));
        let unfit = republishing(&connection, Republish::default().header(&"x".repeat(256))).await;
        let refused = unfit.default_exchange().publish("x", "q").await.unwrap_err();
        let is_for_headers = |error: &PublishError| {
            matches!(
                error,
                PublishError::NotSent(Error::Refused(SendError::Headers(_)))
            )
        };
        assert!(is_for_headers(&refused), "{refused:?}");
    });
}

#[test]
fn a_channel_that_comes_back_without_confirms_loses_what_it_had_kept() {
    let world = World::new();
    world.run(async {
        let filter = |step: &Step| !step.to_string().starts_with("confirm.select");
        let connection = world.start_recovering(config(), &patient().filter(filter));
        connection.ready().await.unwrap();
        let channel = republishing(&connection, Republish::default()).await;
        confirm_late(&world);
        let exchange = channel.default_exchange();
        let lost = exchange.publish_deferred("lost", "q").await.unwrap();
        world.idle().await;
        close(&world);
        let error = lost.await.unwrap_err();
        assert!(matches!(error, PublishError::Lost(_)), "{error:?}");
        exchange.publish("new", "q").await.unwrap();
        assert_eq!(channel.unconfirmed(), 0);
    });
    world.wind_up();
}

#[test]
fn who_closes_it_meanwhile_is_told_what_is_lost() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = republishing(&connection, Republish::default()).await;
        let other = republishing(&connection, Republish::default()).await;
        confirm_late(&world);
        let mut confirms = Vec::new();
        for channel in [&channel, &other] {
            let exchange = channel.default_exchange();
            confirms.push(exchange.publish_deferred("lost", "q").await.unwrap());
        }
        let mut events = connection.events();
        let waiting = world.spawn_with_result({
            let channel = channel.clone();
            async move { channel.wait_for_confirms().await.lost.len() }
        });
        world.idle().await;
        close(&world);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Lost { .. })));
        world.idle().await;
        assert_eq!(waiting.lock().unwrap().take(), None);
        channel.close().await.unwrap();
        world.idle().await;
        assert_eq!(waiting.lock().unwrap().take(), Some(1));
        let closed = confirms.remove(0).await;
        let requested = Error::ChannelClosed(ChannelCloseReason::Requested);
        assert_eq!(closed, Err(PublishError::Lost(requested)));
        let report = connection.close().await;
        assert_eq!(report.unconfirmed, 1);
        assert!(matches!(confirms.remove(0).await, Err(PublishError::Lost(_))));
    });
    world.wind_up();
}

#[test]
fn a_close_waits_until_all_is_published_again_and_confirmed() {
    let elapsed = in_time(async |world| {
        let connection = world.connect().await;
        let channel = republishing(&connection, Republish::default()).await;
        let exchange = channel.default_exchange();
        world.broker(|broker, _| broker.delay_confirms(SECOND));
        let mut confirms = vec![exchange.publish_deferred("0", "q").await.unwrap()];
        let refused = channel.exchange("none").publish_deferred("1", "q").await.unwrap();
        for number in 2..5 {
            confirms.push(exchange.publish_deferred(number.to_string(), "q").await.unwrap());
        }
        // They are published one by one now.
        while world.elapsed() < SECOND / 2 {
            world.sleep(SECOND / 4).await;
        }
        assert_eq!(channel.unconfirmed(), 5);
        let report = connection.close().await;
        // The one that was refused in the meantime.
        assert_eq!(report.unconfirmed, 1);
        assert!(matches!(refused.await, Err(PublishError::Lost(_))));
        for confirm in confirms {
            confirm.await.unwrap();
        }
    });
    assert!((2 * SECOND..5 * SECOND).contains(&elapsed), "{elapsed:?}");
}

#[test]
fn whoever_waits_for_confirms_learns_of_the_end_at_once() {
    everywhere(async |world| {
        let (connection, _) = world.channel().await;
        let channel = republishing(&connection, Republish::default()).await;
        confirm_late(world);
        let exchange = channel.default_exchange();
        exchange.publish_unconfirmed("lost", "q").await.unwrap();
        let waiting = world.spawn_with_result({
            let channel = channel.clone();
            async move { channel.wait_for_confirms().await }
        });
        world.idle().await;
        channel.close().await.unwrap();
        world.idle().await;
        let report = waiting.lock().unwrap().take().unwrap();
        let requested = Error::ChannelClosed(ChannelCloseReason::Requested);
        assert_eq!(report.lost[0].1, requested);
    });
}

#[test]
fn what_is_published_while_there_is_no_connection_does_as_its_channel_says() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let with = async |policy| {
            let options = ChannelOptions::default().while_lost(policy);
            connection.channel_with(options).await.unwrap()
        };
        let waits = with(BlockedPolicy::Wait).await;
        let fails = with(BlockedPolicy::Fail).await;
        let hesitates = with(BlockedPolicy::Timeout(SECOND / 4)).await;
        waits.declare_queue("q").durable(true).await.unwrap();
        let mut events = connection.events();
        close(&world);
        let Some(ConnectionEvent::Lost { reason }) = events.next().await else {
            panic!("it is not lost");
        };
        let error = Err(PublishError::NotSent(Error::ConnectionClosed(reason)));
        assert_eq!(fails.default_exchange().publish("x", "q").await, error);
        assert_eq!(world.elapsed(), Duration::ZERO);
        assert_eq!(hesitates.default_exchange().publish("x", "q").await, error);
        assert_eq!(world.elapsed(), SECOND / 4);
        waits.default_exchange().publish("x", "q").await.unwrap();
        assert_eq!(world.elapsed(), SECOND);
        for channel in [fails, hesitates] {
            channel.default_exchange().publish("x", "q").await.unwrap();
        }
        assert_eq!(world.queue_len("q"), 3);
    });
    world.wind_up();
}

#[test]
fn calls_that_can_be_made_twice_are_made_again_if_that_is_asked_for() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let plain = connection.channel().await.unwrap();
        let options = ChannelOptions::default().repeat_calls();
        let channel = connection.channel_with(options).await.unwrap();
        channel.declare_queue("q").durable(true).await.unwrap();
        let queue = channel.declare_queue("q").passive(true).await.unwrap();
        world.set_mute(true);
        macro_rules! ask {
            ($call:expr) => {
                world.spawn_with_result(async move { $call.await.map(drop) })
            };
        }
        let (a, b, c, d) = (channel.clone(), channel.clone(), channel.clone(), queue.clone());
        let repeated = [
            ask!(a.declare_queue("again").durable(true)),
            ask!(b.set_qos(Qos::prefetch(3))),
            ask!(d.bind("amq.direct", "key")),
        ];
        let (d, e) = (queue.clone(), plain.clone());
        let lost = [
            ask!(c.declare_queue("").exclusive(true)),
            ask!(d.purge()),
            ask!(e.declare_queue("never")),
        ];
        world.idle().await;
        let mut events = connection.events();
        world.broker(amqp_testbroker::Broker::restart);
        recovered(&mut events).await;
        world.idle().await;
        for call in repeated {
            assert_eq!(call.lock().unwrap().take(), Some(Ok(())));
        }
        for call in lost {
            let result = call.lock().unwrap().take();
            assert!(
                matches!(result, Some(Err(Error::ConnectionClosed(_)))),
                "{result:?}"
            );
        }
        let mut queues = world.broker(|broker, _| broker.queues("/"));
        queues.sort();
        assert_eq!(queues, ["again", "q"]);
        channel.exchange("amq.direct").publish("x", "key").await.unwrap();
        // What was asked for in vain is not there after the next loss, what was not is.
        close(&world);
        recovered(&mut events).await;
        channel.exchange("amq.direct").publish("x", "key").await.unwrap();
        assert_eq!(world.queue_len("q"), 2);
    });
    world.wind_up();
}

#[test]
fn a_call_that_is_made_again_ends_with_the_connection_and_in_its_time() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let options = ChannelOptions::default().repeat_calls();
        let channel = connection.channel_with(options).await.unwrap();
        world.set_mute(true);
        let hasty = channel.with_timeout(SECOND / 2);
        let late = world.spawn_with_result(async move { hasty.set_qos(Qos::prefetch(1)).await });
        let ends = channel.clone();
        let ends = world.spawn_with_result(async move { ends.set_qos(Qos::prefetch(1)).await });
        world.idle().await;
        world.broker(amqp_testbroker::Broker::restart);
        world.sleep(SECOND * 3 / 4).await;
        assert_eq!(late.lock().unwrap().take(), Some(Err(Error::Timeout)));
        assert_eq!(ends.lock().unwrap().take(), None);
        let reason = connection.close().await.reason;
        world.idle().await;
        let error = Error::ConnectionClosed(reason);
        assert_eq!(ends.lock().unwrap().take(), Some(Err(error)));
    });
    world.wind_up();
}

/// So many connections break after so many octets, the next one does not. Says whether the first one sufficed for all.
fn publish_with_cuts(connections: usize, read: usize, written: usize) -> bool {
    let world = World::new();
    let is_enough = world.run(async {
        for _ in 0..connections {
            world.cut_next(read, written);
        }
        let connection = world.start_recovering(config(), &patient());
        let is_there = connection.ready().await.is_ok();
        if !is_there {
            return false;
        }
        let options = ChannelOptions::default().republish(Republish::default());
        let Ok(channel) = connection.channel_with(options).await else {
            return false;
        };
        if channel.declare_queue("q").durable(true).await.is_err() {
            return false;
        }
        let exchange = channel.default_exchange();
        let mut confirms = Vec::new();
        for number in 0..8 {
            // The broker may say something in between.
            if number % 3 == 0 {
                world.idle().await;
            }
            confirms.push(exchange.publish_deferred(number.to_string(), "q").await.unwrap());
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
        let arrived = arrived(&world);
        let expected: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        assert!(check_ids(&arrived).into_iter().eq(&expected), "{arrived:?}");
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.is_complete()), (8, true));
        world.elapsed() == Duration::ZERO
    });
    world.wind_up();
    is_enough
}

#[test]
fn wherever_a_burst_breaks_each_publish_arrives_once_or_more_often_with_its_id() {
    let never = usize::MAX;
    let cuts: [&dyn Fn(usize) -> (usize, usize); 2] = [&|octets| (octets, never), &|octets| (never, octets)];
    for (cut, connections) in [(cuts[0], 1), (cuts[0], 2), (cuts[1], 1), (cuts[1], 2)] {
        let mut octets = 1;
        loop {
            let (read, written) = cut(octets);
            if publish_with_cuts(connections, read, written) {
                break;
            }
            octets += 1;
        }
        assert!(octets > 300, "{octets}");
    }
}
