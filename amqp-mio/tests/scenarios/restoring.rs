//! Connections that are made again on a broker that does not do its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amqp_mio::proto::topology::StepError;
use amqp_mio::proto::wire::{Method, QueueDeclare};
use amqp_mio::proto::{Backoff, Config, ReconnectPolicy, RequestError};
use amqp_mio::{ChannelRef, Connector, Recovery, RecoveryReport};
use amqp_testbroker::MethodFault;

use super::World;
use super::client::{Client, Consumer, Told, from, short};
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
fn assert_works(client: &mut Client, channel: ChannelRef, queue: &str, consumer: &Consumer) {
    client.send(channel, queue, "still here");
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"still here");
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
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
        let declare = QueueDeclare {
            queue: short(&name),
            exclusive: true,
            ..Default::default()
        };
        client.declare(channel, &declare).unwrap();
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
