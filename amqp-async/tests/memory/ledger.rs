//! What became of all publishes of a channel, and what came back to it.

use std::time::Duration;

use amqp_async::{BatchReport, ChannelOptions, Error};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ConfirmTag, ConfirmTags};
use amqp_testbroker::BrokerConfig;

use crate::world::{World, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

fn values(tags: &[ConfirmTag]) -> Vec<u64> {
    tags.iter().map(|tag| tag.value()).collect()
}

/// The publishes that came back, each with its message.
fn returned(report: &BatchReport) -> Vec<(u64, Vec<u8>)> {
    let shown = |(tag, message): &(ConfirmTag, Box<amqp_proto::Returned>)| {
        (tag.value(), message.message.body().into_owned())
    };
    report.returned.iter().map(shown).collect()
}

#[test]
fn all_publishes_are_waited_for_whether_anybody_cares_or_not() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        assert_eq!(channel.wait_for_confirms().await, BatchReport::default());
        let exchange = channel.default_exchange();
        world.broker(|broker, _| broker.nack_publishes(2));
        exchange.publish_unconfirmed("nacked", "q").await.unwrap();
        let held = exchange.publish_deferred("nacked", "q").await.unwrap();
        drop(exchange.publish_deferred("comes back", "nowhere").await.unwrap());
        exchange.publish_unconfirmed("dropped", "nowhere").await.unwrap();
        let other = exchange.publish_deferred("comes back", "nowhere").await.unwrap();
        exchange.publish_unconfirmed("arrives", "q").await.unwrap();
        let report = channel.wait_for_confirms().await;
        assert_eq!(channel.unconfirmed(), 0);
        assert_eq!(values(&report.nacked), [1, 2]);
        let back = b"comes back".to_vec();
        assert_eq!(returned(&report), [(3, back.clone()), (5, back)]);
        assert_eq!((report.confirmed, report.unlisted, report.unsettled), (2, 0, 0));
        assert!(!report.is_complete() && report.lost.is_empty());
        // Who waits for one of them is told too.
        held.await.unwrap_err();
        other.await.unwrap_err();
        // It is told once, and what comes next is another matter.
        assert_eq!(channel.wait_for_confirms().await, BatchReport::default());
        exchange.publish("arrives", "q").await.unwrap();
        let report = channel.wait_for_confirms().await;
        assert!(report.is_complete());
        assert_eq!(report.confirmed, 1);
        assert_eq!(world.queue_len("q"), 2);
    });
}

#[test]
fn what_failed_before_anybody_asked_is_told() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        world.broker(|broker, _| broker.nack_publishes(1));
        exchange.publish_unconfirmed("nacked", "q").await.unwrap();
        exchange.publish("arrives", "q").await.unwrap();
        assert_eq!(channel.unconfirmed(), 0);
        let report = channel.wait_for_confirms().await;
        assert_eq!((values(&report.nacked), report.confirmed), (vec![1], 1));
    });
}

#[test]
fn who_waits_at_the_same_time_is_told_of_what_he_asked_about() {
    for joins_confirms in [false, true] {
        let mut config = BrokerConfig::default();
        config.joins_confirms = joins_confirms;
        let world = World::with_broker(config);
        world.broker(|broker, _| broker.reverse_confirms(true));
        world.run(async {
            let (_connection, channel) = world.channel().await;
            channel.declare_queue("q").await.unwrap();
            let exchange = channel.default_exchange();
            world.broker(|broker, _| broker.delay_confirms(SECOND));
            let mut tags = Vec::new();
            for number in 0..20_u8 {
                let routing_key = if number % 10 == 3 { "nowhere" } else { "q" };
                let confirm = exchange
                    .publish_deferred(vec![number], routing_key)
                    .await
                    .unwrap();
                tags.extend(confirm.tag());
            }
            let id = tags.first().unwrap().channel();
            let ask = |first, last| {
                let channel = channel.clone();
                let tags = ConfirmTags::new(id, first, last);
                world.spawn_with_result(async move { channel.wait_for_confirms_of(tags).await })
            };
            // The last one asks for more than there is.
            let asked = [ask(1, 10), ask(11, 14), ask(5, 6), ask(14, 100)];
            let all = channel.wait_for_confirms().await;
            assert_eq!(world.elapsed(), SECOND);
            assert_eq!(returned(&all), [(4, vec![3]), (14, vec![13])]);
            assert_eq!(all.confirmed, 18);
            world.idle().await;
            let found = asked.map(|report| {
                let report = report.lock().unwrap().take().unwrap();
                (report.confirmed, returned(&report), report.unlisted)
            });
            let (early, late) = ((4, vec![3]), (14, vec![13]));
            assert_eq!(
                found,
                [
                    (9, vec![early], 0),
                    (3, vec![late.clone()], 0),
                    (2, vec![], 0),
                    (6, vec![late], 0)
                ]
            );
            // Who asks about the same again is told the same; of another channel nothing is known.
            let again = channel.wait_for_confirms_of(ConfirmTags::new(id, 11, 14)).await;
            assert_eq!((again.confirmed, again.returned.len()), (3, 1));
            let other = channel.connection().channel().await.unwrap();
            let strange = other.wait_for_confirms_of(ConfirmTags::new(id, 11, 14)).await;
            assert_eq!((strange.unlisted, strange.is_complete()), (4, false));
            drop(exchange);
        });
        world.wind_up();
        assert_eq!(world.elapsed(), SECOND);
    }
}

#[test]
fn the_timeout_of_the_channel_is_that_of_the_wait() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        world.broker(|broker, _| broker.nack_publishes(1));
        exchange.publish_unconfirmed("nacked", "q").await.unwrap();
        world.idle().await;
        world.set_mute(true);
        for _ in 0..3 {
            exchange.publish_unconfirmed("x", "q").await.unwrap();
        }
        let hasty = channel.with_timeout(SECOND);
        let report = hasty.wait_for_confirms().await;
        assert_eq!(
            (values(&report.nacked), report.unsettled, report.confirmed),
            (vec![1], 3, 0)
        );
        assert!(!report.is_complete());
        assert_eq!(world.elapsed(), SECOND);
        // A wait that is given up leaves nothing behind.
        assert!(world.poll_once(channel.wait_for_confirms()).await.is_none());
        // What was not settled then is told now.
        world.set_mute(false);
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.is_complete()), (3, true));
    });
    assert_eq!(elapsed, SECOND);
}

#[test]
fn what_is_lost_with_the_channel_says_why() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let exchange = channel.exchange("none");
        for _ in 0..2 {
            exchange.publish_unconfirmed("x", "q").await.unwrap();
        }
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.lost.len(), report.confirmed), (2, 0));
        for (_, error) in &report.lost {
            assert!(matches!(error, Error::ChannelClosed(_)), "{error:?}");
            assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
        }
    });
}

#[test]
fn a_channel_remembers_only_so_many_failures() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let exchange = channel.default_exchange();
        for number in 0..3000_u32 {
            let body = number.to_be_bytes();
            drop(exchange.publish_deferred(&body, "nowhere").await.unwrap());
            world.idle().await;
        }
        assert_eq!(connection.stats().counters.returned, 3000);
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.returned.len(), report.unlisted), (1024, 3000 - 1024));
        let expected = (1976..3000_u32).map(|number| (u64::from(number) + 1, number.to_be_bytes().to_vec()));
        assert_eq!(returned(&report), expected.collect::<Vec<_>>());
        // Of large messages fewer are kept.
        for _ in 0..3 {
            let large = vec![7; 500_000];
            drop(exchange.publish_deferred(large, "nowhere").await.unwrap());
            world.idle().await;
        }
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.returned.len(), report.unlisted), (2, 1));
        drop(exchange);
    });
    world.wind_up();
}

#[test]
fn what_comes_back_is_told_to_those_who_listen() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_exchange("e", "direct").await.unwrap();
        let exchange = channel.exchange("e");
        exchange.publish_unconfirmed("nobody listens", "x").await.unwrap();
        let mut returns = channel.returns();
        exchange.publish_unconfirmed("one", "key").await.unwrap();
        let confirm = exchange.publish_deferred("waited for", "key").await.unwrap();
        drop(exchange.publish_deferred("two", "other").await.unwrap());
        confirm.await.unwrap_err();
        for (text, key) in [("one", "key"), ("two", "other")] {
            let found = returns.next().await.unwrap();
            assert_eq!((found.code, &*found.text), (ReplyCode::NO_ROUTE, "NO_ROUTE"));
            assert_eq!(*found.message.body(), *text.as_bytes());
            assert_eq!(found.message.exchange().to_string(), "e");
            assert_eq!(found.message.routing_key().to_string(), key);
            assert!(found.tag.is_some());
        }
        assert!(world.poll_once(returns.next()).await.is_none());
        channel.close().await.unwrap();
        assert!(returns.next().await.is_none());

        let options = ChannelOptions::default().without_confirms();
        let plain = connection.channel_with(options).await.unwrap();
        let mut returns = plain.returns();
        plain.exchange("e").publish("three", "key").await.unwrap();
        let found = returns.next().await.unwrap();
        assert_eq!((found.tag, &*found.message.body()), (None, &b"three"[..]));
        assert_eq!(returns.missed(), 0);
    });
}

#[test]
fn who_does_not_listen_for_long_misses_the_oldest() {
    let world = World::new();
    world.run(async {
        let (_connection, channel) = world.channel().await;
        let exchange = channel.default_exchange();
        let mut returns = channel.returns();
        for number in 0..300_u32 {
            let body = number.to_string();
            exchange.publish_unconfirmed(body, "nowhere").await.unwrap();
        }
        channel.wait_for_confirms().await;
        assert_eq!(returns.missed(), 44);
        assert_eq!(*returns.next().await.unwrap().message.body(), *b"44");
        for _ in 0..4 {
            let large = vec![7; 400_000];
            exchange.publish_unconfirmed(large, "nowhere").await.unwrap();
        }
        channel.wait_for_confirms().await;
        // Two of them are left of all.
        assert_eq!(returns.missed(), 300 - 1 + 4 - 2);
        for _ in 0..2 {
            assert_eq!(returns.next().await.unwrap().message.body_len(), 400_000);
        }
        assert!(world.poll_once(returns.next()).await.is_none());
        drop((exchange, returns));
    });
    world.wind_up();
}
