//! Nothing is waited for without an end, and ends come when they should.

use std::time::Duration;

use amqp_async::{Error, PublishError};
use amqp_proto::wire::ConnectionTune;
use amqp_proto::{CloseReason, Config, Heartbeat};
use amqp_testbroker::Script;

use crate::world::{World, config, in_time};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_call_with_a_timeout_ends_just_then_and_the_channel_works_afterwards() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.sleep(SECOND).await;
        world.set_mute(true);
        let hasty = channel.with_timeout(Duration::from_millis(1500));
        assert_eq!(hasty.declare_queue("late").await.unwrap_err(), Error::Timeout);
        assert_eq!(world.elapsed(), Duration::from_millis(2500));
        assert_eq!(hasty.queue("q").get().await.unwrap_err(), Error::Timeout);
        assert_eq!(hasty.queue("q").consume().await.unwrap_err(), Error::Timeout);
        assert_eq!(world.elapsed(), Duration::from_millis(5500));
        // What is answered at last is not taken for the answer to what is asked now.
        world.set_mute(false);
        assert_eq!(channel.declare_queue("other").await.unwrap().name(), "other");
        assert_eq!(hasty.declare_queue("another").await.unwrap().name(), "another");
        world.idle().await;
        assert_eq!(world.consumer_count("q"), 0);
        assert!(world.broker(|broker, _| broker.queues("/").contains(&"late".to_owned())));
    });
    assert_eq!(elapsed, Duration::from_millis(5500));
}

#[test]
fn a_call_without_a_timeout_waits_as_long_as_the_configuration_says() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        world.set_mute(true);
        assert_eq!(channel.declare_queue("late").await.unwrap_err(), Error::Timeout);
        assert_eq!(world.elapsed(), config().request_timeout);
        world.set_mute(false);
        assert_eq!(channel.declare_queue("other").await.unwrap().name(), "other");
    });
    assert_eq!(elapsed, config().request_timeout);
}

#[test]
fn a_publish_that_finds_no_room_ends_in_time() {
    let mut world = World::new();
    world.set_window(4096);
    world.run(async {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.set_deaf(true);
        let exchange = channel.with_timeout(SECOND).default_exchange();
        let confirm = exchange.publish_deferred(vec![0; 2 << 20], "q").await.unwrap();
        let error = exchange.publish("no room", "q").await.unwrap_err();
        assert_eq!(
            (error, world.elapsed()),
            (PublishError::NotSent(Error::Timeout), SECOND)
        );
        world.set_deaf(false);
        confirm.await.unwrap();
        assert_eq!(world.queue_len("q"), 1);
        drop(exchange);
    });
    world.wind_up();
    assert_eq!(world.elapsed(), SECOND);
}

#[test]
fn a_publish_to_a_blocked_broker_ends_in_time_if_it_has_a_timeout() {
    let elapsed = in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        world.broker(|broker, _| broker.block("low on memory"));
        channel
            .default_exchange()
            .publish_unconfirmed("x", "q")
            .await
            .unwrap();
        world.idle().await;
        let exchange = channel.with_timeout(2 * SECOND).default_exchange();
        let error = exchange.publish("x", "q").await.unwrap_err();
        assert_eq!(
            (error, world.elapsed()),
            (PublishError::NotSent(Error::Timeout), 2 * SECOND)
        );
        world.broker(|broker, now| broker.unblock(now));
        channel.declare_queue("q").await.unwrap();
    });
    assert_eq!(elapsed, 2 * SECOND);
}

#[test]
fn a_broker_that_falls_silent_is_missed() {
    let elapsed = in_time(async |world| {
        let connection = world
            .connect_with(Config::default().heartbeat(Heartbeat::Seconds(10)))
            .await;
        world.set_mute(true);
        let reason = connection.closed().await;
        let CloseReason::HeartbeatMissed { interval, silence } = reason else {
            panic!("{reason:?}");
        };
        assert_eq!((interval, silence), (10 * SECOND, 20 * SECOND));
        assert_eq!(world.elapsed(), 20 * SECOND);
    });
    assert!(elapsed <= 30 * SECOND, "{elapsed:?}");
}

#[test]
fn an_idle_connection_stays_open_for_a_day() {
    let elapsed = in_time(async |world| {
        let connection = world.connect_with(Config::default()).await;
        let channel = connection.channel().await.unwrap();
        world.sleep(Duration::from_secs(24 * 3600)).await;
        assert!(!connection.is_closed());
        channel.declare_queue("q").await.unwrap();
        let counters = connection.counters();
        assert!(counters.heartbeats_sent >= 24 * 60 && counters.heartbeats_received >= 24 * 60);
    });
    assert_eq!(elapsed, Duration::from_secs(24 * 3600));
}

#[test]
fn a_close_ends_in_time_when_the_broker_reads_nothing() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.set_deaf(true);
        let report = connection.close().await;
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: false });
        assert_eq!((report.unconfirmed, world.elapsed()), (0, config().close_timeout));
    });
}

#[test]
fn a_close_waits_for_confirms_and_tells_how_many_did_not_come_in_time() {
    in_time(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.set_deaf(true);
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let report = connection.close().await;
        assert_eq!((report.unconfirmed, world.elapsed()), (1, config().close_timeout));
        assert!(matches!(confirm.await, Err(PublishError::Lost(_))));
    });
    let elapsed = in_time(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.broker(|broker, _| broker.delay_confirms(3 * SECOND));
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let report = connection.close().await;
        assert_eq!((report.unconfirmed, world.elapsed()), (0, 3 * SECOND));
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
        assert_eq!(confirm.await, Ok(()));
    });
    assert_eq!(elapsed, 3 * SECOND);
}

#[test]
fn a_handshake_that_nobody_answers_ends_in_time() {
    let world = World::scripted(Script::new());
    let connection = world.start(config());
    let error = world.run(connection.ready()).unwrap_err();
    assert!(matches!(error, CloseReason::HandshakeTimeout { .. }), "{error:?}");
    assert_eq!(world.elapsed(), config().handshake_timeout);
    world.wind_up();
}

#[test]
fn a_broker_that_does_not_open_a_channel_is_not_waited_for_for_ever() {
    let tune = ConnectionTune {
        channel_max: 3,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let world = World::scripted(Script::new().handshake_with(tune).expect("channel.open"));
    let connection = world.start(config());
    world.run(async {
        connection.ready().await.unwrap();
        assert_eq!(connection.negotiated().channel_max, 3);
        connection.channel().await.unwrap_err();
        assert_eq!(world.elapsed(), config().request_timeout);
    });
    world.finish_script();
    drop(connection);
    world.wind_up();
}
