//! Connections that are made again on a broker that does not do its part.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use amqp_mio::proto::topology::{StepError, Unrestored};
use amqp_mio::proto::wire::{Method, QueueDeclare, ReplyCode};
use amqp_mio::proto::{
    Backoff, ChannelCloseReason, CloseReason, Config, GiveUpReason, ReconnectPolicy, RequestError, SendError,
};
use amqp_mio::{ChannelRef, Connector, Ctx, Recovery, RecoveryReport};
use amqp_testbroker::MethodFault;

use super::World;
use super::client::{Client, Consumer, PATIENCE, Told, exclusive, from, passive, short, until_declared};
use super::recovery::Survivor;

/// Tries again soon.
fn soon() -> Recovery {
    let backoff = Backoff::new(1)
        .initial(Duration::from_millis(1))
        .max(Duration::from_millis(10));
    Recovery::new(ReconnectPolicy::new(backoff))
}

fn connect(world: &World, configure: impl FnOnce(Config) -> Config) -> Survivor {
    Survivor::connect(&Connector::new(world.parameters(configure)), soon())
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

/// An operator closes it; what could be had again.
fn interrupt(survivor: &mut Survivor, world: &World) -> RecoveryReport {
    let operator = world.operator.clone();
    let client = &mut survivor.client;
    client.meanwhile(move || operator.close_all_connections("come again"));
    client.wait(&survivor.recovered)
}

fn declare(client: &mut Client, channel: ChannelRef, name: &str) {
    let declare = QueueDeclare {
        queue: short(name),
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
}

/// A message goes there and comes back.
pub(super) fn assert_works(client: &mut Client, channel: ChannelRef, queue: &str, consumer: &Consumer) {
    client.send(channel, queue, "still here");
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"still here");
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
}

pub(crate) fn what_ends_the_connection_each_time_is_left_out(world: World) {
    let mut survivor = connect(&world, |config| config);
    let client = &mut survivor.client;
    let channel = client.channel();
    let (good, deadly) = (world.name("good"), world.name("deadly"));
    declare(client, channel, &good);
    declare(client, channel, &deadly);
    let consumer = client.consume(channel, &from(&good)).unwrap();
    let name = deadly.clone();
    let is_armed = fail_later(&world, move |method| {
        let is_deadly = matches!(method, Method::QueueDeclare(declare) if declare.queue == *name);
        is_deadly.then(|| MethodFault::ClosesConnection(ReplyCode::INTERNAL_ERROR, "INTERNAL_ERROR".into()))
    });
    is_armed.store(true, Ordering::SeqCst);
    let report = interrupt(&mut survivor, &world);
    let [unrestored] = &report.unrestored[..] else {
        panic!("{report:?}");
    };
    assert!(unrestored.what.contains(&deadly), "{unrestored:?}");
    let Some(StepError::EndedConnection(reason)) = &unrestored.error else {
        panic!("{unrestored:?}");
    };
    assert_eq!(reason.peer().unwrap().code, ReplyCode::INTERNAL_ERROR);
    assert_works(&mut survivor.client, channel, &good, &consumer);
    survivor.client.close();
}

pub(crate) fn a_consumer_that_is_not_answered_takes_no_other_with_it(world: World) {
    let mut survivor = connect(&world, |config| {
        config.request_timeout(Duration::from_millis(300))
    });
    let client = &mut survivor.client;
    let channel = client.channel();
    let names = ["first", "stuck", "last"].map(|name| world.name(name));
    let [first, stuck, last] = names.each_ref().map(|name| {
        declare(client, channel, name);
        client.consume(channel, &from(name)).unwrap()
    });
    let cancelled = Told::new();
    let cancel = cancelled.clone();
    client.on(channel, |view| {
        view.on_cancel(move |ctx, _, consumer| cancel.tell(ctx, consumer));
    });
    let name = names[1].clone();
    let is_armed = fail_later(&world, move |method| {
        let is_stuck = matches!(method, Method::BasicConsume(consume) if consume.queue == *name);
        is_stuck.then_some(MethodFault::StallsChannel)
    });
    is_armed.store(true, Ordering::SeqCst);
    let report = interrupt(&mut survivor, &world);
    let [unrestored] = &report.unrestored[..] else {
        panic!("{report:?}");
    };
    assert_eq!(unrestored.error, Some(StepError::Request(RequestError::Timeout)));
    assert_eq!((cancelled.pop(), cancelled.pop()), (Some(stuck.id), None));
    let client = &mut survivor.client;
    assert_works(client, channel, &names[0], &first);
    assert_works(client, channel, &names[2], &last);
    client.close();
}

pub(crate) fn a_program_with_all_channel_numbers_gets_them_again(world: World) {
    let mut survivor = connect(&world, |config| config.channel_max(2));
    let client = &mut survivor.client;
    let working = ["one", "other"].map(|name| {
        let (channel, name) = (client.channel(), world.name(name));
        client.declare(channel, &exclusive(&name)).unwrap();
        let consumer = client.consume(channel, &from(&name)).unwrap();
        (channel, name, consumer)
    });
    let report = interrupt(&mut survivor, &world);
    assert!(report.is_complete(), "{report:?}");
    for (channel, name, consumer) in &working {
        assert_works(&mut survivor.client, *channel, name, consumer);
    }
    survivor.client.close();
}

/// Its cancel is refused meanwhile; the program says it again when everything is there.
pub(crate) fn a_consumer_that_is_dropped_while_it_is_started_again_is_cancelled_behind_that(world: World) {
    let mut survivor = connect(&world, |config| config);
    let client = &mut survivor.client;
    let (channel, name) = (client.channel(), world.name("tasks"));
    declare(client, channel, &name);
    let consumer = client.consume(channel, &from(&name)).unwrap();
    // The broker stands still when it is asked for the consumer, until nobody wants that any more.
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
    let operator = world.operator.clone();
    client.meanwhile(move || {
        operator.close_all_connections("come again");
        asked.recv_timeout(PATIENCE).unwrap();
    });
    let refused = client.on(channel, |view| view.cancel(consumer.id, |_, _, _| {}));
    assert_eq!(refused, Err(SendError::NotConnected));
    go_on.send(()).unwrap();
    let report = client.wait(&survivor.recovered);
    assert!(report.is_complete(), "{report:?}");
    let client = &mut survivor.client;
    client.cancel(channel, consumer.id);
    let now = client.declare(channel, &passive(&name)).unwrap();
    assert_eq!(now.consumer_count, 0);
    client.close();
}

pub(crate) fn who_leaves_while_everything_is_made_again_says_goodbye(world: World) {
    for is_shutdown in [false, true] {
        let mut survivor = connect(&world, |config| config);
        let client = &mut survivor.client;
        client.queue();
        let (ask, asked) = mpsc::channel();
        let is_armed = fail_later(&world, move |method| match method {
            Method::QueueDeclare(_) => {
                ask.send(()).unwrap();
                Some(MethodFault::StallsChannel)
            }
            _ => None,
        });
        is_armed.store(true, Ordering::SeqCst);
        let operator = world.operator.clone();
        client.meanwhile(move || {
            operator.close_all_connections("come again");
            asked.recv_timeout(PATIENCE).unwrap();
        });
        let begin = Instant::now();
        let requested = CloseReason::Requested { acknowledged: true };
        match is_shutdown {
            false => client.close(),
            true => {
                assert_eq!(client.shut_down(PATIENCE).reason, requested);
                assert_eq!(client.closed(), requested);
            }
        }
        assert!(begin.elapsed() < PATIENCE / 2);
        is_armed.store(false, Ordering::SeqCst);
    }
}

pub(crate) fn a_broker_that_stays_away_is_given_up_in_time(world: World) {
    let limit = Duration::from_secs(2);
    let mut recovery = soon();
    recovery.reconnect = recovery.reconnect.give_up_after(limit);
    let mut survivor = Survivor::connect(&Connector::new(world.parameters(|config| config)), recovery);
    let client = &mut survivor.client;
    let given_up = Told::new();
    let give_up = given_up.clone();
    client.connection(|view| {
        view.on_give_up(move |ctx, _, why| give_up.tell(ctx, why.clone()));
    });
    let operator = world.operator.clone();
    let (pause, begin) = client.meanwhile(move || (operator.shut_down(), Instant::now()));
    let reason = client.closed();
    assert!(begin.elapsed() < limit + Duration::from_secs(10), "{reason}");
    assert_eq!(given_up.pop(), Some(GiveUpReason::TimedOut(reason)));
    pause.end();
    world.connect().close();
}

/// Declares that queue for itself and consumes from it, once nobody else has it; each refusal is told.
fn take_over(
    ctx: &mut Ctx<'_, ()>,
    channel: ChannelRef,
    name: String,
    refused: Told<RequestError>,
    taken: Told<Consumer>,
) {
    let queue = name.clone();
    let consume = move |ctx: &mut Ctx<'_, ()>| {
        let deliveries = Told::new();
        let delivery = deliveries.clone();
        let on_message = move |ctx: &mut Ctx<'_, ()>, _, told| delivery.tell(ctx, told);
        let mut view = ctx.channel(channel).unwrap();
        let id = view.consume(&from(&queue), on_message).unwrap();
        taken.tell(ctx, Consumer { id, deliveries });
    };
    let refused = move |ctx: &mut Ctx<'_, ()>, error| refused.tell(ctx, error);
    until_declared(ctx, channel.connection(), exclusive, name, refused, consume);
}

/// Whether somebody else has the queue.
fn is_locked(error: &RequestError) -> bool {
    matches!(error, RequestError::ChannelClosed(ChannelCloseReason::Peer(peer)) if peer.code == ReplyCode::RESOURCE_LOCKED)
}

/// Declares that queue for itself, as soon as the connection that had it is gone.
fn lock(client: &mut Client, name: &str) {
    let begin = Instant::now();
    loop {
        let channel = client.channel();
        match client.declare(channel, &exclusive(name)) {
            Ok(_) => return,
            Err(error) => assert!(is_locked(&error) && begin.elapsed() < PATIENCE, "{error}"),
        }
    }
}

pub(crate) fn what_somebody_else_has_locked_is_tried_again_if_the_program_says_so(world: World) {
    let mut survivor = connect(&world, |config| config);
    let client = &mut survivor.client;
    let (channel, name) = (client.channel(), world.name("locked"));
    client.declare(channel, &exclusive(&name)).unwrap();
    let lost_consumer = client.consume(channel, &from(&name)).unwrap();
    let (lost, cancelled, refused, taken) = (Told::new(), Told::new(), Told::new(), Told::new());
    let (loss, cancel) = (lost.clone(), cancelled.clone());
    let (locked, refusal, start) = (name.clone(), refused.clone(), taken.clone());
    client.on(channel, |view| {
        view.on_cancel(move |ctx, _, consumer| cancel.tell(ctx, consumer))
    });
    client.connection(|view| {
        view.on_lost(move |ctx, _, reason| loss.tell(ctx, reason.clone()));
        view.on_recovered(move |ctx, _, report| {
            let is_locked = |step: &Unrestored| matches!(&step.error, Some(StepError::Request(error)) if is_locked(error));
            if report.unrestored.iter().any(is_locked) {
                take_over(ctx, channel, locked.clone(), refusal.clone(), start.clone());
            }
        });
    });

    let operator = world.operator.clone();
    let closing = thread::spawn(move || operator.close_all_connections("come again"));
    client.wait(&lost);
    closing.join().unwrap();
    // Time for somebody else: this loop does not run meanwhile.
    let mut other = world.connect();
    lock(&mut other, &name);
    let report = client.wait(&survivor.recovered);
    let [queue, consumer] = &report.unrestored[..] else {
        panic!("{report:?}");
    };
    let words = queue.error.as_ref().unwrap().to_string();
    assert!(
        queue.what.contains(&name) && words.contains("RESOURCE_LOCKED"),
        "{queue:?}"
    );
    assert!(
        consumer.what.contains(&name) && consumer.error.is_none(),
        "{consumer:?}"
    );
    assert_eq!((cancelled.pop(), cancelled.pop()), (Some(lost_consumer.id), None));
    let error = client.wait(&refused);
    assert!(is_locked(&error), "{error}");
    assert_eq!(taken.len(), 0);
    other.close();
    let consumer = client.wait(&taken);
    assert_works(client, channel, &name, &consumer);
    client.close();
}
