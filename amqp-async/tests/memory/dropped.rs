//! Every call can be dropped at every point: nothing is left behind, and the next one gets its own answer.

use std::pin::pin;
use std::time::Duration;

use amqp_async::{Channel, ChannelOptions, Connection, ConsumeOptions, Exchange, Message, Qos, Queue};
use amqp_proto::Secret;

use crate::world::World;

/// What there is before the call.
struct Setting {
    connection: Connection,
    channel: Channel,
    /// With transactions.
    tx: Channel,
    /// Has two messages, and is bound to `exchange`.
    queue: Queue,
    exchange: Exchange,
}

impl Setting {
    async fn new(world: &World) -> Self {
        let (connection, channel) = world.channel().await;
        let options = ChannelOptions::default().without_confirms();
        let tx = connection.channel_with(options).await.unwrap();
        tx.tx_select().await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        let exchange = channel.declare_exchange("e", "direct").await.unwrap();
        queue.bind(&exchange, "q").await.unwrap();
        for text in ["one", "two"] {
            exchange.publish(text, "q").await.unwrap();
        }
        Self {
            connection,
            channel,
            tx,
            queue,
            exchange,
        }
    }

    /// Calls on both channels get what is theirs.
    async fn is_sound(&self) {
        for channel in [&self.channel, &self.tx] {
            let (next, again) = (channel.declare_queue("next"), channel.declare_queue("again"));
            assert_eq!(next.await.unwrap().name(), "next");
            assert_eq!(again.await.unwrap().name(), "again");
            assert_eq!(channel.queue("next").purge().await.unwrap(), 0);
        }
        let exchange = self.channel.default_exchange();
        exchange.publish("x", "next").await.unwrap();
        let got = self.channel.queue("next").get_with(true).await.unwrap().unwrap();
        assert_eq!(*got.body(), *b"x");
    }
}

/// Drops a call after every number of steps, and looks what there is then, at once and when all is quiet.
fn dropped_everywhere(call: impl AsyncFn(&Setting), check: impl Fn(&World)) {
    for (seed, window) in [(0, 64 * 1024), (0, 300), (1, 64 * 1024), (2, 64 * 1024), (3, 300)] {
        for steps in 0.. {
            let mut world = World::new();
            world.set_window(window);
            world.set_seed(seed);
            let setting = world.run(Setting::new(&world));
            let is_done = {
                let call = pin!(call(&setting));
                world.run_steps(call, steps).is_some()
            };
            world.run(async {
                setting.is_sound().await;
                world.idle().await;
                check(&world);
                drop(setting);
            });
            world.wind_up();
            assert_eq!(world.elapsed(), Duration::ZERO, "something waited for a deadline");
            if is_done {
                // Otherwise the call was never dropped on its way.
                assert!(steps > 3, "it took {steps} steps");
                break;
            }
        }
    }
}

/// The queue is as it was.
fn nothing_is_taken(world: &World) {
    assert_eq!((world.queue_len("q"), world.consumer_count("q")), (2, 0));
    assert_eq!(world.broker_channels(), 2);
}

#[test]
fn declaring_and_deleting_exchanges() {
    dropped_everywhere(
        async |setting| {
            let exchange = setting.channel.declare_exchange("x", "fanout").await.unwrap();
            exchange.bind(&setting.exchange, "k").await.unwrap();
            exchange.unbind(&setting.exchange, "k").await.unwrap();
            exchange.delete().await.unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn declaring_and_deleting_queues() {
    dropped_everywhere(
        async |setting| {
            let queue = setting.channel.declare_queue("mine").await.unwrap();
            assert_eq!(queue.name(), "mine");
            queue.bind(&setting.exchange, "k").await.unwrap();
            queue.unbind(&setting.exchange, "k").await.unwrap();
            assert_eq!(queue.purge().await.unwrap(), 0);
            assert_eq!(queue.delete().await.unwrap(), 0);
        },
        nothing_is_taken,
    );
}

#[test]
fn qos_flow_and_recover() {
    dropped_everywhere(
        async |setting| {
            setting.channel.set_qos(Qos::prefetch(5)).await.unwrap();
            assert!(setting.channel.flow(true).await.unwrap());
            setting.channel.recover().await.unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn consuming() {
    dropped_everywhere(
        async |setting| drop(setting.queue.consume().await.unwrap()),
        nothing_is_taken,
    );
}

#[test]
fn consuming_and_taking_and_cancelling() {
    dropped_everywhere(
        async |setting| {
            let mut consumer = setting.queue.consume().await.unwrap();
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(*delivery.body(), *b"one");
            consumer.cancel().await.unwrap();
            delivery.nack(true).await.unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn consuming_without_acknowledgements() {
    dropped_everywhere(
        async |setting| {
            let options = ConsumeOptions::default().no_ack(true);
            drop(setting.queue.consume_with(options).await.unwrap());
        },
        |world| assert_eq!(world.consumer_count("q"), 0),
    );
}

#[test]
fn getting() {
    dropped_everywhere(
        async |setting| {
            let first = setting.queue.get().await.unwrap().unwrap();
            let second = setting.queue.get().await.unwrap().unwrap();
            assert!(setting.queue.get().await.unwrap().is_none());
            drop((first, second));
        },
        nothing_is_taken,
    );
}

#[test]
fn transactions() {
    dropped_everywhere(
        async |setting| {
            setting.tx.tx_commit().await.unwrap();
            setting.tx.tx_rollback().await.unwrap();
            setting.tx.tx_select().await.unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn opening_a_channel() {
    dropped_everywhere(
        async |setting| drop(setting.connection.channel().await.unwrap()),
        nothing_is_taken,
    );
    dropped_everywhere(
        async |setting| {
            let options = ChannelOptions::default().without_confirms();
            drop(setting.connection.channel_with(options).await.unwrap());
        },
        nothing_is_taken,
    );
}

#[test]
fn opening_and_closing_a_channel() {
    dropped_everywhere(
        async |setting| {
            let channel = setting.connection.channel().await.unwrap();
            channel.close().await.unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn renewing_a_secret() {
    dropped_everywhere(
        async |setting| {
            let secret = Secret::from("guest");
            setting
                .connection
                .update_secret(&secret, "expired")
                .await
                .unwrap();
        },
        nothing_is_taken,
    );
}

#[test]
fn publishing() {
    dropped_everywhere(
        async |setting| {
            setting.exchange.publish(vec![7; 9000], "q").await.unwrap();
            setting.exchange.publish("lost", "nowhere").await.unwrap_err();
            setting
                .tx
                .default_exchange()
                .publish(Message::new("not committed"), "q")
                .await
                .unwrap();
        },
        |world| assert!((2..=3).contains(&world.queue_len("q"))),
    );
}

#[test]
fn waiting_for_the_handshake_and_for_the_end() {
    dropped_everywhere(
        async |setting| {
            setting.connection.ready().await.unwrap();
            let channel = setting.connection.channel().await.unwrap();
            let closing = channel.clone();
            closing.close().await.unwrap();
            channel.closed().await;
        },
        nothing_is_taken,
    );
}
