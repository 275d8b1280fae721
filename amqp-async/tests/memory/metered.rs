//! What the feature `metrics` counts.

use std::collections::BTreeMap;

use amqp_async::{Message, PublishError};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::world::{World, config};

/// All that was told so far: names with the labels other than `connection`, and numbers; a histogram counts.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, f64>);

impl Told {
    /// Everything is told by its difference to the last time.
    fn update(&mut self, snapshotter: &Snapshotter) {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let labels: Vec<_> = key
                .key()
                .labels()
                .map(|label| (label.key(), label.value()))
                .collect();
            assert!(labels.contains(&("connection", "tested")), "{key:?}");
            let outcome = labels.iter().find(|(key, _)| *key == "outcome");
            let mut name = key.key().name().to_owned();
            name.extend(outcome.into_iter().flat_map(|(_, outcome)| [".", *outcome]));
            let sum = self.0.entry(name).or_default();
            match value {
                DebugValue::Counter(more) => *sum += f64::from(u32::try_from(more).unwrap()),
                DebugValue::Gauge(more) => *sum += more.into_inner(),
                DebugValue::Histogram(times) => {
                    assert!(times.iter().all(|time| time.into_inner() >= 0.0));
                    *sum += f64::from(u32::try_from(times.len()).unwrap());
                }
            }
        }
    }

    fn get<const N: usize>(&self, names: [&str; N]) -> [f64; N] {
        names.map(|name| self.0[name])
    }
}

#[test]
fn messages_are_counted_on_their_way_and_nothing_is_left_at_the_end() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let mut told = Told::default();
    metrics::with_local_recorder(&recorder, || {
        let world = World::new();
        world.run(session(&world, &snapshotter, &mut told));
        world.wind_up();
    });
    told.update(&snapshotter);
    let held = told.get(["amqp_unconfirmed", "amqp_unsettled", "amqp_queued_octets"]);
    assert_eq!(held, [0.0; 3]);
}

async fn session(world: &World, snapshotter: &Snapshotter, told: &mut Told) {
    let connection = world.connect_with(config().connection_name("tested")).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("q").await.unwrap();
    let exchange = channel.default_exchange();
    for _ in 0..3 {
        exchange.publish(Message::new("x"), "q").await.unwrap();
    }
    let returned = exchange.publish(Message::new("x"), "nowhere").await;
    assert!(matches!(returned, Err(PublishError::Returned(_))));
    world.broker(|broker, _| broker.nack_publishes(1));
    assert_eq!(exchange.publish("x", "q").await, Err(PublishError::Nacked));
    world.set_deaf(true);
    let pending = exchange.publish_deferred("x", "q").await.unwrap();
    world.idle().await;
    told.update(snapshotter);
    let counted = told.get(["amqp_published", "amqp_confirmed", "amqp_returned", "amqp_nacked"]);
    assert_eq!(counted, [6.0, 3.0, 1.0, 1.0]);
    assert_eq!(told.get(["amqp_unconfirmed", "amqp_confirm_seconds"]), [1.0, 5.0]);
    world.set_deaf(false);
    pending.await.unwrap();

    let mut consumer = queue.consume().await.unwrap();
    let mut deliveries = Vec::new();
    for _ in 0..4 {
        deliveries.push(consumer.next().await.unwrap().unwrap());
    }
    told.update(snapshotter);
    assert_eq!(told.get(["amqp_delivered", "amqp_unsettled"]), [4.0, 4.0]);
    for (number, delivery) in deliveries.into_iter().enumerate() {
        match number {
            0 => delivery.ack().await.unwrap(),
            1 => delivery.nack(false).await.unwrap(),
            2 => delivery.reject(false).await.unwrap(),
            _ => drop(delivery), // And it comes again.
        }
    }
    let delivery = consumer.next().await.unwrap().unwrap();
    told.update(snapshotter);
    let settled = told.get(["amqp_settled.ack", "amqp_settled.nack", "amqp_settled.reject"]);
    assert_eq!(settled, [1.0, 2.0, 1.0]);
    assert_eq!(told.get(["amqp_unsettled"]), [1.0]);
    let [sent, received] = told.get(["amqp_sent_octets", "amqp_received_octets"]);
    let counters = connection.counters();
    assert!(sent > 100.0 && received > 100.0, "{counters:?}");
    delivery.ack().await.unwrap();

    // What the broker will never confirm is lost, and not waited for any more.
    world.set_deaf(true);
    let lost = exchange.publish_deferred("x", "q").await.unwrap();
    world.idle().await;
    world.drop_driver(0);
    assert!(matches!(lost.await, Err(PublishError::Lost(_))));
    told.update(snapshotter);
    assert_eq!(
        told.get(["amqp_lost", "amqp_unconfirmed", "amqp_queued_octets"]),
        [1.0, 0.0, 0.0]
    );
}
