//! The end of a recovery that does not come to its end, in each of its phases.

use std::future::Future;
use std::time::Duration;

use amqp_async::{Connection, ConnectionEvent, Consumer, Error, Events, Recovery};
use amqp_proto::wire::{Method, ReplyCode};
use amqp_proto::{Backoff, CloseReason, GiveUpReason, ReconnectPolicy};
use amqp_testbroker::MethodFault;

use crate::pipe::Stuck;
use crate::recovery::close;
use crate::world::{World, config};

const SECOND: Duration = Duration::from_secs(1);

/// Where it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Delay,
    Connecting,
    Handshake,
    Restoring,
}

const PHASES: [Phase; 4] = [
    Phase::Delay,
    Phase::Connecting,
    Phase::Handshake,
    Phase::Restoring,
];

impl Phase {
    /// The first attempt is made after a second, if it is not the delay that takes long.
    const fn delay(self) -> Duration {
        match self {
            Self::Delay => Duration::from_secs(3600),
            _ => SECOND,
        }
    }

    fn policy(self) -> ReconnectPolicy {
        ReconnectPolicy::new(
            Backoff::new(1)
                .initial(self.delay())
                .max(self.delay())
                .jitter(0.0),
        )
    }
}

/// A connection with a queue, which was lost and hangs there.
async fn stuck(world: &World, phase: Phase, policy: ReconnectPolicy) -> (Connection, Events, Consumer) {
    // Nothing but what is tested here ends it.
    let config = config()
        .handshake_timeout(Duration::MAX)
        .request_timeout(Duration::MAX);
    let connection = world.start_recovering(config, &Recovery::new(policy));
    connection.ready().await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("q").await.unwrap();
    let consumer = queue.consume().await.unwrap();
    match phase {
        Phase::Delay => {}
        Phase::Connecting => world.get_stuck(Stuck::Connecting),
        Phase::Handshake => world.get_stuck(Stuck::Handshake),
        Phase::Restoring => fail_declares(world, MethodFault::StallsChannel),
    }
    let mut events = connection.events();
    close(world);
    let lost = events.next().await;
    assert!(matches!(lost, Some(ConnectionEvent::Lost { .. })), "{lost:?}");
    let retrying = events.next().await;
    assert!(
        matches!(retrying, Some(ConnectionEvent::Retrying { .. })),
        "{retrying:?}"
    );
    if phase != Phase::Delay {
        world.sleeper()(SECOND).await;
        world.idle().await;
    }
    assert!(connection.is_recovering().is_some());
    (connection, events, consumer)
}

fn fail_declares(world: &World, fault: MethodFault) {
    world.broker(|broker, _| {
        broker.fail_methods(move |method| match method {
            Method::QueueDeclare(_) => Some(fault.clone()),
            _ => None,
        });
    });
}

#[test]
fn it_is_given_up_when_its_time_is_over() {
    for phase in PHASES {
        let world = World::new();
        world.run(async {
            let mut policy = phase.policy().give_up_after(60 * SECOND);
            if phase == Phase::Delay {
                // One that comes to its end in time, and another one that would not.
                policy.backoff = Backoff::new(1).initial(40 * SECOND).max(40 * SECOND).jitter(0.0);
            }
            let (connection, mut events, mut consumer) = stuck(&world, phase, policy).await;
            if phase == Phase::Delay {
                world.broker(|broker, _| broker.refuse_connections(2));
            }
            let waiting = connection.channel();
            let Err(Error::ConnectionClosed(reason)) = waiting.await else {
                panic!("{phase:?}");
            };
            let elapsed = match phase {
                Phase::Delay => 40,
                _ => 60,
            };
            assert_eq!(world.elapsed(), elapsed * SECOND, "{phase:?}");
            let mut last = None;
            loop {
                match events.next().await.unwrap() {
                    ConnectionEvent::GaveUp(why) => last = Some(why),
                    ConnectionEvent::Closed(closed) => break assert_eq!(closed, reason),
                    _ => {}
                }
            }
            assert_eq!(last, Some(GiveUpReason::TimedOut(reason.clone())), "{phase:?}");
            // Why it was lost, or how the last attempt ended: the broker hangs up who does not shake hands.
            let has_failed = matches!(phase, Phase::Delay | Phase::Handshake);
            assert_eq!(reason.peer().is_none(), has_failed, "{reason:?}");
            assert!(connection.is_closed());
            assert!(matches!(consumer.next().await, Some(Err(_))));
        });
        world.wind_up();
    }
}

#[test]
fn what_is_there_again_in_time_is_not_given_up() {
    let world = World::new();
    world.run(async {
        let policy = Phase::Connecting.policy().give_up_after(2 * SECOND);
        let connection = world.start_recovering(config(), &Recovery::new(policy));
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        for _ in 0..3 {
            close(&world);
            world.idle().await;
            channel.declare_queue("q").await.unwrap();
            world.sleeper()(10 * SECOND).await;
            assert!(connection.is_recovering().is_none() && !connection.is_closed());
        }
    });
    world.wind_up();
}

#[test]
fn the_cause_is_what_ended_the_last_attempt_even_while_it_was_restored() {
    let world = World::new();
    world.run(async {
        let mut policy = Phase::Restoring.policy();
        policy.backoff = policy.backoff.attempts(1);
        let connection = world.start_recovering(config(), &Recovery::new(policy));
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("q").await.unwrap();
        let fault = MethodFault::ClosesConnection(ReplyCode::INTERNAL_ERROR, "INTERNAL_ERROR".to_owned());
        fail_declares(&world, fault);
        let mut events = connection.events();
        close(&world);
        let reason = connection.closed().await;
        assert_eq!(reason.peer().unwrap().code, ReplyCode::INTERNAL_ERROR);
        let mut seen = Vec::new();
        while let Some(event) = events.next().await {
            seen.push(event);
        }
        let gave_up = ConnectionEvent::GaveUp(GiveUpReason::Exhausted(reason.clone()));
        assert_eq!(seen[seen.len() - 2..], [gave_up, ConnectionEvent::Closed(reason)]);
    });
    world.wind_up();
}

#[test]
fn whoever_leaves_is_gone_in_time_whatever_it_is_doing() {
    for phase in PHASES {
        for is_shutdown in [false, true] {
            let world = World::new();
            world.run(async {
                let (connection, mut events, _consumer) = stuck(&world, phase, phase.policy()).await;
                let waiting = world.spawn_with_result(channel_of(&connection));
                world.idle().await;
                let before = world.elapsed();
                // What it does cannot come to its end.
                let working = connection.working();
                let report = match is_shutdown {
                    true => connection.shutdown(30 * SECOND).await,
                    false => connection.close().await,
                };
                // While there is no connection there is nobody to say goodbye to; else it is said, at most until then.
                let said = matches!(phase, Phase::Restoring);
                let reason = CloseReason::Requested { acknowledged: said };
                assert_eq!(report.reason, reason, "{phase:?}");
                let left = (
                    report.handlers,
                    report.consumers,
                    report.unsettled,
                    report.unconfirmed,
                );
                assert_eq!(left, (1, 0, 0, 0), "{phase:?}");
                drop(working);
                assert!(world.elapsed() - before <= 10 * SECOND, "{phase:?}");
                world.idle().await;
                let waiting = waiting.lock().unwrap().take();
                assert_eq!(
                    waiting,
                    Some(Err(Error::ConnectionClosed(reason.clone()))),
                    "{phase:?}"
                );
                loop {
                    match events.next().await.unwrap() {
                        ConnectionEvent::Closed(closed) => break assert_eq!(closed, reason),
                        ConnectionEvent::GaveUp(why) => panic!("{why}"),
                        _ => {}
                    }
                }
                assert_eq!(world.broker_channels(), 0);
            });
            world.wind_up();
        }
    }
}

fn channel_of(connection: &Connection) -> impl Future<Output = Result<(), Error>> + Send + 'static {
    let connection = connection.clone();
    async move { connection.channel().await.map(drop) }
}
