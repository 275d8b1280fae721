//! Connections that are made again on a broker that does not do its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amqp_async::proto::topology::StepError;
use amqp_async::proto::wire::{Method, ReplyCode};
use amqp_async::proto::{Backoff, ConnectionParameters, ReconnectPolicy};
use amqp_async::{Connection, Recovery};
use amqp_testbroker::MethodFault;

use super::recovery::recovered;
use super::{World, close};

/// Tries again soon.
pub(crate) fn soon() -> Recovery {
    let backoff = Backoff::new(1)
        .initial(Duration::from_millis(1))
        .max(Duration::from_millis(10));
    Recovery::new(ReconnectPolicy::new(backoff))
}

pub(crate) async fn connect(world: &World, recovery: Recovery) -> Connection {
    let parameters = ConnectionParameters::from_uri(&world.url).unwrap();
    crate::runtime::connect_recovering_as(parameters, recovery, None)
        .await
        .unwrap()
}

/// Has methods fail once the program has done what it does on its first connection.
fn fail_later(
    world: &World,
    mut fault: impl FnMut(&Method<'_>) -> Option<MethodFault> + Send + 'static,
) -> Arc<AtomicBool> {
    let is_armed = Arc::new(AtomicBool::new(false));
    let is_on = Arc::clone(&is_armed);
    let fault = move |method: &Method<'_>| {
        let is_on = is_on.load(Ordering::SeqCst);
        if is_on { fault(method) } else { None }
    };
    world.operator.fail_methods(fault);
    is_armed
}

pub(crate) async fn what_ends_the_connection_each_time_is_left_out(world: World) {
    let connection = connect(&world, soon()).await;
    let channel = connection.channel().await.unwrap();
    let deadly = world.name("deadly");
    let good = channel.declare_queue(world.name("good")).await.unwrap();
    let bad = channel.declare_queue(&*deadly).await.unwrap();
    let mut consumer = good.consume().await.unwrap();
    let is_armed = fail_later(&world, move |method| {
        let is_deadly = matches!(method, Method::QueueDeclare(declare) if declare.queue == *deadly);
        is_deadly.then(|| MethodFault::ClosesConnection(ReplyCode::INTERNAL_ERROR, "INTERNAL_ERROR".into()))
    });
    is_armed.store(true, Ordering::SeqCst);
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let (_, report) = recovered(&mut events).await;
    let [unrestored] = &report.unrestored[..] else {
        panic!("{report:?}");
    };
    assert!(unrestored.what.contains(&*bad.name()), "{unrestored:?}");
    let Some(StepError::EndedConnection(reason)) = &unrestored.error else {
        panic!("{unrestored:?}");
    };
    assert_eq!(reason.peer().unwrap().code, ReplyCode::INTERNAL_ERROR);
    let exchange = channel.default_exchange();
    exchange.publish("still here", good.name()).await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    delivery.ack().await.unwrap();
    close(&connection).await;
}
