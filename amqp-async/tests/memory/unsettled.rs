//! Deliveries that are not settled in time: RabbitMQ 3 closes their channel (`consumer_timeout`), and the handles say so.

use std::time::Duration;

use amqp_async::{ChannelOptions, ConsumerEnd, Error, Reopen};
use amqp_proto::ChannelCloseReason;
use amqp_proto::wire::ReplyCode;
use amqp_testbroker::{BrokerConfig, Release};

use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// A broker that waits a minute.
fn impatient() -> World {
    let mut config = BrokerConfig::of(Release::V3_10);
    config.consumer_timeout = Some(MINUTE);
    World::with_broker(config)
}

#[track_caller]
fn assert_timed_out(reason: &ChannelCloseReason) {
    let ChannelCloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert!(
        peer.text.contains("delivery acknowledgement on channel"),
        "{peer:?}"
    );
}

#[test]
fn the_broker_s_reason_reaches_whoever_kept_a_delivery_and_the_message_comes_again() {
    let world = impatient();
    world.run(async {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("slow", "q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let other = connection.channel().await.unwrap();
        let kept = consumer.next().await.unwrap().unwrap();
        assert_eq!(world.elapsed(), Duration::ZERO);
        let Some(Err(ConsumerEnd::Channel(reason))) = consumer.next().await else {
            panic!("it goes on");
        };
        assert_eq!(world.elapsed(), MINUTE);
        assert_timed_out(&reason);
        assert_timed_out(&channel.closed().await);
        let error = kept.ack().await.unwrap_err();
        assert_eq!(error, Error::ChannelClosed(reason));
        // The connection and its other channels go on.
        let again = other.queue("q").get().await.unwrap().unwrap();
        assert!(again.is_redelivered());
        again.ack().await.unwrap();
    });
    world.wind_up();
}

#[test]
fn a_channel_that_is_opened_again_gets_the_message_again() {
    let world = impatient();
    world.run(async {
        let connection = world.connect().await;
        let options = ChannelOptions::default().reopen(Reopen::on([ReplyCode::PRECONDITION_FAILED]));
        let channel = connection.channel_with(options).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("slow", "q").await.unwrap();
        let kept = queue.get().await.unwrap().unwrap();
        world.sleep(MINUTE).await;
        world.idle().await;
        let again = queue.get().await.unwrap().unwrap();
        assert!(again.is_redelivered());
        assert!(matches!(kept.ack().await, Err(Error::ChannelClosed(_))));
        again.ack().await.unwrap();
        world.idle().await;
        world.sleep(2 * MINUTE).await;
        assert!(channel.is_open());
        assert_eq!(world.queue_len("q"), 0);
    });
    world.wind_up();
}

#[test]
fn an_ack_that_waits_for_others_is_said_in_time() {
    let world = impatient();
    world.run(async {
        let connection = world.connect().await;
        let options = ChannelOptions::default().coalesce_acks(1000, MINUTE / 2);
        let channel = connection.channel_with(options).await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        for _ in 0..4 {
            channel.default_exchange().publish("x", "q").await.unwrap();
            let delivery = queue.get().await.unwrap().unwrap();
            world.sleep(MINUTE / 3).await;
            delivery.ack().await.unwrap();
        }
        world.sleep(2 * MINUTE).await;
        assert!(channel.is_open());
    });
    world.wind_up();
}
