//! The broker, or whoever runs it, ends connections.

use std::time::{Duration, Instant};

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{ChannelCloseReason, CloseReason, Heartbeat};
use amqp_async::{ConnectionEvent, Consumer, ConsumerEnd, Error, Message, PublishError, Queue};

use super::connecting::with_virtual_host;
use super::operator::{Resource, TEMPORARY_USER, TEMPORARY_VIRTUAL_HOST};
use super::{World, close};

/// The connection ended for that reason, and so did all that was on it.
async fn assert_ended(queue: &Queue, consumer: &mut Consumer, reason: &CloseReason) {
    let channel = queue.channel();
    let of_channel = ChannelCloseReason::Connection(reason.clone());
    assert_eq!(channel.closed().await, of_channel);
    let end = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(end, ConsumerEnd::Channel(of_channel));
    assert!(consumer.next().await.is_none());
    let error = Error::ConnectionClosed(reason.clone());
    assert_eq!(queue.purge().await.unwrap_err(), error);
    let unsent = channel.default_exchange().publish("late", queue.name()).await;
    assert_eq!(unsent, Err(PublishError::NotSent(error)));
    let report = channel.connection().close().await;
    assert_eq!((&report.reason, report.unconfirmed), (reason, 0));
}

/// The broker's words, which are behind a code that says that it was not our fault.
fn forced(reason: &CloseReason) -> &str {
    let CloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::CONNECTION_FORCED);
    assert!(!reason.is_permanent());
    &peer.text
}

pub(crate) async fn an_operator_who_closes_all_connections_is_quoted(world: World) {
    let queue = world.queue().await;
    let connection = queue.channel().connection();
    let mut consumer = queue.consume().await.unwrap();
    let exchange = connection.channel().await.unwrap().default_exchange();
    let mut events = connection.events();
    // It is read no more, so that nothing is answered.
    let alarm = world.operator.alarm(Resource::Memory);
    let in_flight = exchange
        .publish_deferred("in flight", queue.name())
        .await
        .unwrap();
    let blocked = events.next().await;
    assert!(
        matches!(blocked, Some(ConnectionEvent::Blocked { .. })),
        "{blocked:?}"
    );
    let asking = crate::runtime::thread({
        let connection = connection.clone();
        async move { connection.channel().await }
    });

    world.operator.close_all_connections("back in a minute");
    let reason = connection.closed().await;
    assert_eq!(forced(&reason), "CONNECTION_FORCED - back in a minute");
    let error = Error::ConnectionClosed(reason.clone());
    assert_eq!(in_flight.await, Err(PublishError::Lost(error.clone())));
    assert_eq!(asking.await.unwrap_err(), error);
    assert_ended(&queue, &mut consumer, &reason).await;
    assert_eq!(events.next().await, Some(ConnectionEvent::Closed(reason)));
    alarm.end();
    close(&world.connect().await).await;
}

pub(crate) async fn a_broker_that_shuts_down_says_so(world: World) {
    let queue = world.queue().await;
    let mut consumer = queue.consume().await.unwrap();
    let pause = world.operator.shut_down();
    let reason = queue.channel().connection().closed().await;
    assert_eq!(
        forced(&reason),
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    assert_ended(&queue, &mut consumer, &reason).await;
    crate::runtime::connect(&world.url).await.unwrap_err();
    pause.end();
    close(&world.connect().await).await;
}

pub(crate) async fn a_broker_that_is_killed_loses_nothing_that_it_had_confirmed(world: World) {
    let connection = world.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel
        .declare_queue(world.name("kept"))
        .durable(true)
        .await
        .unwrap();
    let exchange = channel.default_exchange();
    exchange
        .publish(Message::new("kept").persistent(), queue.name())
        .await
        .unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    // It is read no more, so that nothing is confirmed.
    let alarm = world.operator.alarm(Resource::Memory);
    let in_flight = exchange
        .publish_deferred("in flight", queue.name())
        .await
        .unwrap();

    let restart = world.operator.kill();
    let reason = connection.closed().await;
    assert!(matches!(reason, CloseReason::Transport { .. }), "{reason:?}");
    assert!(!reason.is_permanent());
    let error = Error::ConnectionClosed(reason.clone());
    assert_eq!(in_flight.await, Err(PublishError::Lost(error.clone())));
    assert_eq!(delivery.ack().await, Err(error));
    assert_ended(&queue, &mut consumer, &reason).await;
    restart.end();
    alarm.end();

    let channel = world.channel().await;
    let queue = channel.declare_queue(queue.name()).durable(true).await.unwrap();
    assert_eq!(queue.message_count(), Some(1));
    let again = queue.get().await.unwrap().unwrap();
    assert_eq!(*again.body(), *b"kept");
    again.ack().await.unwrap();
    queue.delete_if(true, true).await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn a_broker_that_falls_silent_is_noticed_after_two_intervals(world: World) {
    let connection = world
        .connect_with(|config| config.heartbeat(Heartbeat::Seconds(1)))
        .await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let pause = world.operator.freeze();
    let begin = Instant::now();
    let other = connection.channel();
    let error = other.await.unwrap_err();
    let reason = connection.closed().await;
    let CloseReason::HeartbeatMissed { interval, silence } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(interval, Duration::from_secs(1));
    // The rest is for a machine that is busy.
    assert!((2.0..4.0).contains(&silence.as_secs_f64()), "{silence:?}");
    assert!(begin.elapsed() < Duration::from_secs(6));
    assert_eq!(error, Error::ConnectionClosed(reason.clone()));
    assert_ended(&queue, &mut consumer, &reason).await;
    pause.end();
    close(&world.connect().await).await;
}

pub(crate) async fn a_user_who_is_deleted_is_told(world: World) {
    let user = world.operator.add_user();
    let login = format!("{TEMPORARY_USER}:{TEMPORARY_USER}@");
    let url = world.url.replacen("guest:guest@", &login, 1);
    let connection = crate::runtime::connect(&url).await.unwrap();
    let bystander = world.connect().await;
    world.operator.delete_user();
    let reason = connection.closed().await;
    assert_eq!(
        forced(&reason),
        format!("CONNECTION_FORCED - user '{TEMPORARY_USER}' is deleted")
    );
    close(&bystander).await;
    user.end();
}

pub(crate) async fn a_virtual_host_that_is_deleted_takes_its_connections(world: World) {
    let host = world.operator.add_virtual_host();
    let url = with_virtual_host(&world.url, TEMPORARY_VIRTUAL_HOST);
    let connection = crate::runtime::connect(&url).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let bystander = world.connect().await;
    world.operator.delete_virtual_host();
    // RabbitMQ 3 deletes the queues first.
    let end = consumer.next().await.unwrap().unwrap_err();
    let reason = connection.closed().await;
    // RabbitMQ 3 says that it is down.
    let words = format!("CONNECTION_FORCED - vhost '{TEMPORARY_VIRTUAL_HOST}' is ");
    assert!(forced(&reason).starts_with(&words), "{reason}");
    let of_connection = ConsumerEnd::Channel(ChannelCloseReason::Connection(reason));
    assert!(
        end == of_connection || end == ConsumerEnd::CancelledByBroker,
        "{end:?}"
    );
    close(&bystander).await;
    host.end();
}
