//! Connections that are made again on a broker that does not do its part.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use amqp_async::proto::topology::{Outcome, StepError};
use amqp_async::proto::wire::{Method, ReplyCode};
use amqp_async::proto::{Backoff, CloseReason, Config, GiveUpReason, ReconnectPolicy, RequestError};
use amqp_async::{Connection, ConnectionEvent, Consumer, ConsumerEnd, Queue, Recovery, StepDecision};
use amqp_testbroker::MethodFault;

use super::recovery::recovered;
use super::{World, close};

/// Longer than anything takes that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tries again soon.
fn soon() -> Recovery {
    let backoff = Backoff::new(1)
        .initial(Duration::from_millis(1))
        .max(Duration::from_millis(10));
    Recovery::new(ReconnectPolicy::new(backoff))
}

async fn connect(world: &World, configure: impl FnOnce(Config) -> Config) -> Connection {
    connect_by(world, configure, soon()).await
}

async fn connect_by(
    world: &World,
    configure: impl FnOnce(Config) -> Config,
    recovery: Recovery,
) -> Connection {
    let parameters = world.parameters(configure);
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
    let connection = connect(&world, |config| config).await;
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
    assert_works(&good, &mut consumer).await;
    close(&connection).await;
}

/// A message goes there and comes back.
pub(super) async fn assert_works(queue: &Queue, consumer: &mut Consumer) {
    let exchange = queue.channel().default_exchange();
    exchange.publish("still here", queue.name()).await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*delivery.body(), b"still here");
    delivery.ack().await.unwrap();
}

pub(crate) async fn a_consumer_that_is_not_answered_takes_no_other_with_it(world: World) {
    let connection = connect(&world, |config| {
        config.request_timeout(Duration::from_millis(300))
    })
    .await;
    let channel = connection.channel().await.unwrap();
    let names = ["first", "stuck", "last"].map(|name| world.name(name));
    let [first, stuck, last] = names.map(|name| channel.declare_queue(name));
    let (first, stuck, last) = (first.await.unwrap(), stuck.await.unwrap(), last.await.unwrap());
    let mut first_consumer = first.consume().await.unwrap();
    let mut stuck_consumer = stuck.consume().await.unwrap();
    let mut last_consumer = last.consume().await.unwrap();
    let name = stuck.name();
    let is_armed = fail_later(&world, move |method| {
        let is_stuck = matches!(method, Method::BasicConsume(consume) if consume.queue == *name);
        is_stuck.then_some(MethodFault::StallsChannel)
    });
    is_armed.store(true, Ordering::SeqCst);
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let (_, report) = recovered(&mut events).await;
    let [unrestored] = &report.unrestored[..] else {
        panic!("{report:?}");
    };
    assert_eq!(unrestored.error, Some(StepError::Request(RequestError::Timeout)));
    let end = stuck_consumer.next().await.unwrap().unwrap_err();
    assert_eq!(end, ConsumerEnd::NotRestored);
    assert_works(&first, &mut first_consumer).await;
    assert_works(&last, &mut last_consumer).await;
    close(&connection).await;
}

pub(crate) async fn a_program_with_all_channel_numbers_gets_them_again(world: World) {
    let connection = connect(&world, |config| config.channel_max(2)).await;
    let channels = [
        connection.channel().await.unwrap(),
        connection.channel().await.unwrap(),
    ];
    let mut working = Vec::new();
    for channel in &channels {
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        let consumer = queue.consume().await.unwrap();
        working.push((queue, consumer));
    }
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let (_, report) = recovered(&mut events).await;
    assert!(report.is_complete(), "{report:?}");
    for (queue, consumer) in &mut working {
        assert_works(queue, consumer).await;
    }
    close(&connection).await;
}

pub(crate) async fn a_consumer_that_is_dropped_while_it_is_started_again_is_cancelled_behind_that(
    world: World,
) {
    let connection = connect(&world, |config| config).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(world.name("tasks")).await.unwrap();
    let consumer = queue.consume().await.unwrap();
    // The broker stands still when it is asked for the consumer, until that was dropped.
    let (ask, asked) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    let is_armed = fail_later(&world, move |method| {
        if let Method::BasicConsume(_) = method {
            ask.send(()).unwrap();
            goes_on.recv_timeout(PATIENCE).unwrap();
        }
        None
    });
    is_armed.store(true, Ordering::SeqCst);
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let asked = crate::runtime::thread(async move { asked.recv_timeout(PATIENCE) });
    asked.await.unwrap();
    let before = connection.counters().frames_sent;
    drop(consumer);
    assert_eq!(connection.counters().frames_sent, before);
    go_on.send(()).unwrap();
    let (_, report) = recovered(&mut events).await;
    assert!(report.is_complete(), "{report:?}");
    // Behind its cancel.
    let now = channel.declare_queue(queue.name()).await.unwrap();
    assert_eq!(now.consumer_count(), Some(0));
    close(&connection).await;
}

pub(crate) async fn who_leaves_while_everything_is_made_again_says_goodbye(world: World) {
    for is_shutdown in [false, true] {
        let connection = connect(&world, |config| config).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let (ask, asked) = mpsc::channel();
        let is_armed = fail_later(&world, move |method| match method {
            Method::QueueDeclare(_) => {
                ask.send(()).unwrap();
                Some(MethodFault::StallsChannel)
            }
            _ => None,
        });
        is_armed.store(true, Ordering::SeqCst);
        world.operator.close_all_connections("come again");
        let asked = crate::runtime::thread(async move { asked.recv_timeout(PATIENCE) });
        asked.await.unwrap();
        let working = connection.working();
        let begin = Instant::now();
        let report = match is_shutdown {
            true => connection.shutdown(PATIENCE).await,
            false => connection.close().await,
        };
        drop(working);
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
        assert_eq!(report.handlers, 1);
        assert!(begin.elapsed() < PATIENCE / 2);
        assert!(consumer.next().await.unwrap().is_err());
        is_armed.store(false, Ordering::SeqCst);
    }
}

pub(crate) async fn a_broker_that_stays_away_is_given_up_in_time(world: World) {
    let limit = Duration::from_secs(2);
    let mut recovery = soon();
    recovery.reconnect = recovery.reconnect.give_up_after(limit);
    let connection = connect_by(&world, |config| config, recovery).await;
    let mut events = connection.events();
    let pause = world.operator.shut_down();
    let begin = Instant::now();
    let reason = connection.closed().await;
    assert!(begin.elapsed() < limit + Duration::from_secs(10), "{reason}");
    let mut given_up = None;
    while let Some(event) = events.next().await {
        if let ConnectionEvent::GaveUp(why) = event {
            given_up = Some(why);
        }
    }
    assert_eq!(given_up, Some(GiveUpReason::TimedOut(reason)));
    pause.end();
    close(&world.connect().await).await;
}

pub(crate) async fn what_somebody_else_has_locked_is_tried_again_if_the_program_says_so(world: World) {
    let (fail, failed) = mpsc::channel();
    // Time for somebody else.
    let backoff = Backoff::new(1).initial(Duration::from_secs(2)).jitter(0.0);
    let recovery = Recovery::new(ReconnectPolicy::new(backoff)).on_step(move |step, outcome| match outcome {
        Outcome::Failed(error) if step.declares_queue() => {
            // Nobody listens after the first time.
            drop(fail.send(error.to_string()));
            StepDecision::TryAgain(Duration::from_millis(500))
        }
        _ => StepDecision::LeaveOut,
    });
    let connection = connect_by(&world, |config| config, recovery).await;
    let channel = connection.channel().await.unwrap();
    let name = world.name("locked");
    let queue = channel.declare_queue(&*name).exclusive(true).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    let other = world.channel().await;
    other.declare_queue(&*name).exclusive(true).await.unwrap();
    let failed = crate::runtime::thread(async move { failed.recv_timeout(PATIENCE) });
    let words = failed.await.unwrap();
    assert!(words.contains("RESOURCE_LOCKED"), "{words}");
    assert!(connection.is_recovering().is_some());
    close(other.connection()).await;
    let (_, report) = recovered(&mut events).await;
    assert!(report.is_complete(), "{report:?}");
    assert_works(&queue, &mut consumer).await;
    close(&connection).await;
}
