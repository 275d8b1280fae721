//! Connections that are lost and made again, with everything that was on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amqp_async::proto::{CloseReason, ConnectionParameters, Heartbeat};
use amqp_async::{Connection, ConnectionEvent, Events, ExchangeKind, Message, Qos, RecoveryReport};

use super::restoring::assert_works;
use super::{World, close};

pub(crate) async fn connect(world: &World) -> Connection {
    let parameters = ConnectionParameters::from_uri(&world.url).unwrap();
    crate::runtime::connect_recovering(parameters).await.unwrap()
}

/// Why it was lost, and what became of it.
pub(crate) async fn recovered(events: &mut Events) -> (CloseReason, RecoveryReport) {
    let reason = lost(events).await;
    (reason, there_again(events).await)
}

async fn lost(events: &mut Events) -> CloseReason {
    loop {
        if let ConnectionEvent::Lost { reason } = next(events).await {
            break reason;
        }
    }
}

async fn there_again(events: &mut Events) -> RecoveryReport {
    loop {
        if let ConnectionEvent::Recovered(report) = next(events).await {
            break (*report).clone();
        }
    }
}

async fn next(events: &mut Events) -> ConnectionEvent {
    match events.next().await.unwrap() {
        ConnectionEvent::GaveUp(reason) => panic!("{reason}"),
        event => event,
    }
}

pub(crate) async fn after_an_operator_closed_it_messages_flow_to_a_queue_of_another_name(world: World) {
    let connection = connect(&world).await;
    let channel = connection.channel().await.unwrap();
    channel.set_qos(Qos::prefetch(10)).await.unwrap();
    let exchange = channel
        .declare_exchange(world.name("news"), ExchangeKind::Topic)
        .auto_delete(true)
        .await
        .unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    queue.bind(&exchange, "a.#").await.unwrap();
    let gaps = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&gaps);
    let mut consumer = queue.consume().await.unwrap().on_interruption(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
    });
    let old_name = queue.name();
    exchange.publish("before", "a.b").await.unwrap();
    let unsettled = consumer.next().await.unwrap().unwrap();

    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let (reason, report) = recovered(&mut events).await;
    assert_eq!(&*reason.peer().unwrap().text, "CONNECTION_FORCED - come again");
    assert!(report.is_complete(), "{report:?}");
    assert_ne!(queue.name(), *old_name);
    assert!(unsettled.is_stale());
    unsettled.ack().await.unwrap_err();
    exchange.publish("after", "a.b").await.unwrap();
    channel
        .default_exchange()
        .publish("by name", queue.name())
        .await
        .unwrap();
    for body in ["after", "by name"] {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(&*delivery.body(), body.as_bytes());
        assert_eq!(gaps.load(Ordering::SeqCst), 1);
        assert!(!delivery.is_stale());
        delivery.ack().await.unwrap();
    }
    close(&connection).await;
}

pub(crate) async fn after_the_broker_was_killed_it_is_there_again_with_what_it_had_confirmed(world: World) {
    let connection = connect(&world).await;
    let channel = connection.channel().await.unwrap();
    let name = world.name("recovered");
    let queue = channel.declare_queue(&*name).durable(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let exchange = channel.default_exchange();
    exchange
        .publish(Message::new("kept").persistent(), &name)
        .await
        .unwrap();
    let unsettled = consumer.next().await.unwrap().unwrap();

    let mut events = connection.events();
    let restart = world.operator.kill();
    let (reason, report) = recovered(&mut events).await;
    assert!(matches!(reason, CloseReason::Transport { .. }), "{reason:?}");
    assert!(report.is_complete(), "{report:?}");
    restart.end();
    unsettled.ack().await.unwrap_err();
    let again = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*again.body(), b"kept");
    again.ack().await.unwrap();
    exchange.publish("new", &name).await.unwrap();
    let new = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*new.body(), b"new");
    new.ack().await.unwrap();
    queue.delete().await.unwrap();
    close(&connection).await;
}

pub(crate) async fn after_the_broker_was_shut_down_and_started_it_is_there_again(world: World) {
    let connection = connect(&world).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let mut events = connection.events();
    let pause = world.operator.shut_down();
    let reason = lost(&mut events).await;
    assert_eq!(
        &*reason.peer().unwrap().text,
        "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
    );
    // Nobody gets in meanwhile.
    crate::runtime::connect(&world.url).await.unwrap_err();
    assert!(connection.is_recovering().is_some());
    pause.end();
    let report = there_again(&mut events).await;
    assert!(report.is_complete(), "{report:?}");
    assert_works(&queue, &mut consumer).await;
    close(&connection).await;
}

pub(crate) async fn after_the_broker_fell_silent_what_was_not_settled_comes_again(world: World) {
    let parameters = world.parameters(|config| config.heartbeat(Heartbeat::Seconds(1)));
    // A silent broker does not answer attempts either.
    let parameters = parameters.stack_timeout(Duration::from_secs(1));
    let connection = crate::runtime::connect_recovering(parameters).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let name = world.name("silent");
    let queue = channel.declare_queue(&*name).durable(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("kept", &name).await.unwrap();
    let unsettled = consumer.next().await.unwrap().unwrap();

    let mut events = connection.events();
    let pause = world.operator.freeze();
    let reason = lost(&mut events).await;
    assert!(
        matches!(reason, CloseReason::HeartbeatMissed { .. }),
        "{reason:?}"
    );
    pause.end();
    let report = there_again(&mut events).await;
    assert!(report.is_complete(), "{report:?}");
    assert!(unsettled.is_stale());
    unsettled.ack().await.unwrap_err();
    let again = consumer.next().await.unwrap().unwrap();
    assert_eq!((&*again.body(), again.is_redelivered()), (&b"kept"[..], true));
    again.ack().await.unwrap();
    queue.delete().await.unwrap();
    close(&connection).await;
}
