//! The broker is short of something, and takes nothing from publishers.

use std::time::{Duration, Instant};

use amqp_async::proto::wire::{Arguments, ChannelClose};
use amqp_async::proto::{ChannelCloseReason, CloseReason, Heartbeat};
use amqp_async::{
    BlockedPolicy, ChannelOptions, Confirm, Connection, ConnectionEvent, Error, Events, Exchange,
    PublishError,
};

use super::operator::Resource;
use super::{World, close};

/// Far more than anything takes that need not wait, far less than the defaults of what has a limit.
const SOON: Duration = Duration::from_secs(3);

async fn exchange_with(connection: &Connection, policy: BlockedPolicy) -> Exchange {
    let options = ChannelOptions::default().blocked(policy);
    connection.channel_with(options).await.unwrap().default_exchange()
}

/// RabbitMQ tells who publishes, and reads nothing more of them, that publish included.
async fn last_straw(connection: &Connection, resource: Resource) -> Confirm {
    let exchange = exchange_with(connection, BlockedPolicy::Wait).await;
    let mut events = connection.events();
    let confirm = exchange
        .publish_deferred("the last straw", "nowhere")
        .await
        .unwrap();
    let reason = resource.words().into();
    assert_eq!(next(&mut events).await, ConnectionEvent::Blocked { reason });
    assert_eq!(connection.blocked().as_deref(), Some(resource.words()));
    confirm
}

/// The next event that is not about how much waits to be written.
async fn next(events: &mut Events) -> ConnectionEvent {
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::BackpressureOn { .. } | ConnectionEvent::BackpressureOff { .. } => {}
            event => return event,
        }
    }
}

fn is_blocked(error: &PublishError) -> bool {
    matches!(error, PublishError::NotSent(Error::Blocked { reason }) if &**reason == "low on memory")
}

pub(crate) async fn a_blocked_publish_fails_gives_up_or_waits_as_it_was_told(world: World) {
    const PATIENCE: Duration = Duration::from_millis(3500);
    let consumer = world.queue().await;
    let connection = world
        .connect_with(|config| config.heartbeat(Heartbeat::Seconds(1)))
        .await;
    let mut events = connection.events();
    let queue = connection
        .channel()
        .await
        .unwrap()
        .declare_queue("")
        .exclusive(true)
        .await
        .unwrap();
    let name = queue.name().to_owned();
    let fails = exchange_with(&connection, BlockedPolicy::Fail).await;
    let gives_up = exchange_with(&connection, BlockedPolicy::Timeout(PATIENCE)).await;
    let waits = exchange_with(&connection, BlockedPolicy::Wait).await;

    let alarm = world.operator.alarm(Resource::Memory);
    let held_back = last_straw(&connection, Resource::Memory).await;
    assert!(is_blocked(&fails.publish("x", &name).await.unwrap_err()));
    let waiting = crate::runtime::thread({
        let name = name.clone();
        async move { waits.publish("it waited", &name).await }
    });
    let (begin, before) = (Instant::now(), connection.counters());
    assert!(is_blocked(&gives_up.publish("x", &name).await.unwrap_err()));
    assert!(begin.elapsed() >= PATIENCE);
    // Longer than either side would wait without heartbeats.
    let after = connection.counters();
    assert!(after.heartbeats_sent >= before.heartbeats_sent + 3);
    assert!(after.heartbeats_received >= before.heartbeats_received + 3);
    assert!(!connection.is_closed());
    // Who does not publish is not held up.
    assert_eq!(consumer.purge().await.unwrap(), 0);

    alarm.end();
    next(&mut events).await; // That it is blocked, as was seen.
    assert_eq!(next(&mut events).await, ConnectionEvent::Unblocked);
    assert!(matches!(held_back.await, Err(PublishError::Returned(_))));
    waiting.await.unwrap();
    assert_eq!(connection.blocked(), None);
    fails.publish("it tried again", &name).await.unwrap();
    // And nothing came of those that failed.
    assert_eq!(queue.purge().await.unwrap(), 2);
    close(&connection).await;
    close(consumer.channel().connection()).await;
}

pub(crate) async fn a_close_takes_no_longer_than_it_may_although_nothing_is_read(world: World) {
    let timeout = Duration::from_secs(1);
    let connection = world.connect_with(|config| config.close_timeout(timeout)).await;
    let channel = connection.channel().await.unwrap();
    let alarm = world.operator.alarm(Resource::Disk);
    let held_back = last_straw(&connection, Resource::Disk).await;
    let asking = crate::runtime::thread({
        let channel = channel.clone();
        async move { channel.declare_queue("").exclusive(true).await }
    });

    let begin = Instant::now();
    let report = connection.close().await;
    assert!(begin.elapsed() < timeout + SOON);
    assert_eq!(report.unconfirmed, 1);
    let reason = CloseReason::Requested { acknowledged: false };
    assert_eq!(report.reason, reason);
    // Channels are closed first; their time is over at the same moment.
    let is_told = |error: &Error| match error {
        Error::ChannelClosed(reason) => *reason == ChannelCloseReason::Timeout(ChannelClose::SPEC.id),
        error => *error == Error::ConnectionClosed(reason.clone()),
    };
    let lost = held_back.await.unwrap_err();
    assert!(
        matches!(&lost, PublishError::Lost(error) if is_told(error)),
        "{lost:?}"
    );
    let unanswered = asking.await.unwrap_err();
    assert!(is_told(&unanswered), "{unanswered:?}");
    alarm.end();
    close(&world.connect().await).await;
}

pub(crate) async fn a_connection_that_stays_blocked_is_given_up(world: World) {
    let timeout = Duration::from_millis(500);
    let connection = world
        .connect_with(|config| config.blocked_connection_timeout(Some(timeout)))
        .await;
    let waits = exchange_with(&connection, BlockedPolicy::Wait).await;
    let alarm = world.operator.alarm(Resource::Memory);
    let held_back = last_straw(&connection, Resource::Memory).await;

    let reason = CloseReason::BlockedTimeout {
        reason: Resource::Memory.words().into(),
    };
    let error = Error::ConnectionClosed(reason.clone());
    let waited = waits.publish("x", "nowhere").await.unwrap_err();
    assert_eq!(waited, PublishError::NotSent(error.clone()));
    assert_eq!(held_back.await, Err(PublishError::Lost(error)));
    assert_eq!(connection.closed().await, reason);
    alarm.end();
}
