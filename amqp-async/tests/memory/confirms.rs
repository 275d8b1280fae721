//! Each publish gets its own outcome, whatever comes back in whatever order.

use std::time::Duration;

use amqp_async::PublishError;
use amqp_testbroker::BrokerConfig;

use crate::world::World;

const BATCH: usize = 500;

/// What is to become of a publish of a batch.
fn expected(place: usize, nacked: usize) -> &'static str {
    match place {
        place if place < nacked => "nacked",
        place if goes_nowhere(place, nacked) => "returned",
        _ => "acked",
    }
}

/// RabbitMQ nacks for a queue: what goes to none is not nacked.
const fn goes_nowhere(place: usize, nacked: usize) -> bool {
    place >= nacked && place.is_multiple_of(7)
}

/// 5000 publishes; of each batch the first ones are nacked, and every seventh goes nowhere.
async fn publish_and_look(world: &World, delay: Duration, is_backwards: bool) {
    let (connection, channel) = world.channel().await;
    channel.declare_queue("q").await.unwrap();
    world.broker(|broker, _| broker.delay_confirms(delay));
    let exchange = channel.default_exchange();
    let mut confirms = Vec::new();
    let mut acked = 0;
    for batch in 0..10 {
        let nacked = batch * 3;
        world.idle().await;
        world.broker(|broker, _| broker.nack_publishes(u32::try_from(nacked).unwrap()));
        for place in 0..BATCH {
            let wanted = expected(place, nacked);
            acked += usize::from(wanted == "acked");
            let routing_key = if goes_nowhere(place, nacked) {
                "nowhere"
            } else {
                "q"
            };
            let body = format!("{batch}.{place}");
            let confirm = exchange
                .publish_deferred(body.clone(), routing_key)
                .await
                .unwrap();
            confirms.push((body, wanted, confirm));
        }
    }
    if is_backwards {
        confirms.reverse();
    }
    for (body, wanted, confirm) in confirms {
        let found = match confirm.await {
            Ok(()) => "acked",
            Err(PublishError::Nacked) => "nacked",
            Err(PublishError::Returned(returned)) => {
                assert_eq!(*returned.message.body(), *body.as_bytes());
                "returned"
            }
            Err(error) => panic!("{body}: {error}"),
        };
        assert_eq!(found, wanted, "{body}");
    }
    assert_eq!((channel.unconfirmed(), world.queue_len("q")), (0, acked));
    let counters = connection.counters();
    assert_eq!(
        counters.acked + counters.nacked + counters.returned,
        5000,
        "{counters:?}"
    );
}

#[test]
fn each_of_many_publishes_gets_its_own_outcome() {
    for joins_confirms in [false, true] {
        for reverses in [false, true] {
            for (seed, delay) in [(0, 0), (1, 0), (0, 2), (3, 2)] {
                let mut config = BrokerConfig::default();
                config.joins_confirms = joins_confirms;
                let mut world = World::with_broker(config);
                world.set_seed(seed);
                world.broker(|broker, _| broker.reverse_confirms(reverses));
                let delay = Duration::from_secs(delay);
                world.run(publish_and_look(&world, delay, reverses));
                world.wind_up();
                assert!(world.elapsed() <= delay);
            }
        }
    }
}

#[test]
fn confirms_that_nobody_waits_for_leave_nothing_behind() {
    let world = World::new();
    world.run(async {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        world.set_mute(true);
        let kept = exchange.publish_deferred("kept", "q").await.unwrap();
        for number in 0..100 {
            let confirm = exchange.publish_deferred("x", "nowhere").await.unwrap();
            assert_eq!(confirm.tag().map(|tag| tag.value()), Some(2 * number + 2));
            exchange.publish_unconfirmed("x", "q").await.unwrap();
            drop(confirm);
        }
        let last = exchange.publish_deferred("last", "nowhere").await.unwrap();
        world.set_mute(false);
        assert!(matches!(last.await, Err(PublishError::Returned(returned)) if *returned.message.body() == *b"last"));
        assert_eq!(kept.await, Ok(()));
        assert!(format!("{connection:?}").contains("publishes: 0"), "{connection:?}");
        assert_eq!((channel.unconfirmed(), world.queue_len("q")), (0, 101));
    });
    world.wind_up();
}
