//! Programs that decide about what could not be made again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::{Connection, ConnectionEvent, ConsumeOptions, Recovery, StepDecision};
use amqp_proto::topology::{Outcome, StepKind};
use amqp_proto::wire::{Method, ReplyCode};
use amqp_proto::{Backoff, GiveUpReason, ReconnectPolicy};
use amqp_testbroker::MethodFault;

use crate::pipe::lock;
use crate::recovery::{close, recovered};
use crate::world::{World, config};

const SECOND: Duration = Duration::from_secs(1);

/// A queue, which is locked as often as that when it is declared again, and a consumer of it.
async fn locked(world: &World, times: usize, recovery: &Recovery) -> Connection {
    let connection = world.start_recovering(config(), recovery);
    connection.ready().await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("q").exclusive(true).await.unwrap();
    let mut consumer = queue.consume_with(ConsumeOptions::default()).await.unwrap();
    world.spawn(async move { while consumer.next().await.is_some() {} });
    let mut left = times;
    world.broker(move |broker, _| {
        broker.fail_methods(move |method| {
            let is_locked = left > 0 && matches!(method, Method::QueueDeclare(_));
            left -= usize::from(is_locked);
            is_locked.then(|| {
                let text = "RESOURCE_LOCKED - cannot obtain exclusive access".to_owned();
                MethodFault::ClosesChannel(ReplyCode::RESOURCE_LOCKED, text)
            })
        });
    });
    connection
}

/// After one second each time.
fn recovery() -> Recovery {
    let backoff = Backoff::new(1).initial(SECOND).max(SECOND).jitter(0.0);
    Recovery::new(ReconnectPolicy::new(backoff))
}

#[test]
fn what_failed_is_tried_again_until_it_is_there() {
    let world = World::new();
    world.run(async {
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&seen);
        let recovery = recovery().on_step(move |step, outcome| {
            if let StepKind::Queue(_) | StepKind::Consumer(_) = step.kind() {
                let outcome = format!("{outcome:?}");
                lock(&log).push(outcome.split([' ', '(']).next().unwrap().to_owned());
            }
            match outcome {
                Outcome::Failed(_) => StepDecision::TryAgain(5 * SECOND),
                _ => StepDecision::LeaveOut,
            }
        });
        let connection = locked(&world, 2, &recovery).await;
        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(world.elapsed(), 11 * SECOND);
        assert_eq!(
            *lock(&seen),
            ["Failed", "Skipped", "Failed", "Skipped", "Succeeded", "Succeeded"]
        );
        assert_eq!(world.consumer_count("q"), 1);
    });
    world.wind_up();
}

#[test]
fn what_fails_for_ever_is_left_out_after_ten_times() {
    let world = World::new();
    world.run(async {
        let recovery = recovery().on_step(|_, _| StepDecision::TryAgain(SECOND));
        let connection = locked(&world, usize::MAX, &recovery).await;
        let mut events = connection.events();
        close(&world);
        let report = recovered(&mut events).await;
        assert_eq!(report.unrestored.len(), 2, "{report:?}");
        assert_eq!(world.elapsed(), 11 * SECOND);
    });
    world.wind_up();
}

#[test]
fn a_decision_to_give_up_is_asked_for_once_and_stands() {
    let world = World::new();
    world.run(async {
        let asked = Arc::<Mutex<usize>>::default();
        let count = Arc::clone(&asked);
        let recovery = recovery().on_step(move |step, _| {
            if !step.declares_queue() {
                return StepDecision::LeaveOut;
            }
            let mut asked = lock(&count);
            *asked += 1;
            match *asked {
                1 => StepDecision::GiveUp,
                _ => StepDecision::LeaveOut,
            }
        });
        let connection = locked(&world, 1, &recovery).await;
        let mut events = connection.events();
        close(&world);
        connection.closed().await;
        let mut has_given_up = false;
        while let Some(event) = events.next().await {
            has_given_up |= matches!(event, ConnectionEvent::GaveUp(GiveUpReason::Unrestored(_)));
        }
        assert_eq!((has_given_up, *lock(&asked)), (true, 1));
    });
    world.wind_up();
}

#[test]
fn what_there_is_no_going_on_without_ends_the_recovery() {
    let world = World::new();
    world.run(async {
        let recovery = recovery().on_step(|_, _| StepDecision::GiveUp);
        let connection = locked(&world, 1, &recovery).await;
        let mut events = connection.events();
        close(&world);
        let reason = connection.closed().await;
        let mut given_up = None;
        while let Some(event) = events.next().await {
            match event {
                ConnectionEvent::GaveUp(why) => given_up = Some(why),
                ConnectionEvent::Recovered(report) => panic!("{report:?}"),
                _ => {}
            }
        }
        let Some(GiveUpReason::Unrestored(what)) = given_up else {
            panic!("{given_up:?}");
        };
        let words = "queue.declare queue=\"q\" exclusive: ";
        assert!(
            what.starts_with(words) && what.contains("RESOURCE_LOCKED"),
            "{what}"
        );
        // It was lost for that.
        assert_eq!(reason.peer().unwrap().code, ReplyCode::CONNECTION_FORCED);
        world.idle().await;
        assert_eq!(world.broker_channels(), 0);
    });
    world.wind_up();
}

#[test]
fn a_queue_whose_node_is_down_is_waited_for_and_one_that_is_gone_is_not() {
    let down = "home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible";
    for (words, seconds) in [(down, 7), ("no queue 'q' in vhost '/'", 1)] {
        let world = World::new();
        world.run(async {
            let recovery = recovery().on_step(|_, outcome| match outcome {
                Outcome::Failed(error) if error.is_transient() => StepDecision::TryAgain(2 * SECOND),
                _ => StepDecision::LeaveOut,
            });
            let connection = world.start_recovering(config(), &recovery);
            connection.ready().await.unwrap();
            let channel = connection.channel().await.unwrap();
            let queue = channel.declare_queue("q").durable(true).await.unwrap();
            let mut consumer = queue.consume().await.unwrap();
            let mut left = 3;
            world.broker(move |broker, _| {
                broker.fail_methods(move |method| {
                    let is_meant = left > 0 && matches!(method, Method::BasicConsume(_));
                    left -= usize::from(is_meant);
                    let text = || format!("NOT_FOUND - {words}");
                    is_meant.then(|| MethodFault::ClosesChannel(ReplyCode::NOT_FOUND, text()))
                });
            });
            let mut events = connection.events();
            close(&world);
            let report = recovered(&mut events).await;
            let is_there = words == down;
            assert_eq!(
                (report.is_complete(), world.elapsed()),
                (is_there, seconds * SECOND)
            );
            assert_eq!(world.consumer_count("q"), usize::from(is_there));
            if !is_there {
                assert!(consumer.next().await.unwrap().is_err());
            }
        });
        world.wind_up();
    }
}
