//! What goes wrong says why, in the broker's own words.

use std::rc::Rc;

use amqp_mio::proto::wire::{
    Arguments, BasicConsume, BasicPublish, BasicQos, ConfirmSelect, FieldTable, Properties, QueueDeclare,
    QueuePurge, ReplyCode, ShortStr,
};
use amqp_mio::proto::{
    ChannelCloseReason, CloseReason, ConfirmOutcome, ConsumerId, Delivery, RequestError, SendError,
};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{
    Told, durable, exclusive, from, own_queue, passive, peer, prefetch, short, until_declared,
};

fn purge(queue: &str) -> QueuePurge<'_> {
    QueuePurge {
        queue: short(queue),
        ..Default::default()
    }
}

fn to_no_exchange(name: &str) -> BasicPublish<'_> {
    BasicPublish {
        exchange: short(name),
        ..Default::default()
    }
}

pub(crate) fn declaring_otherwise_closes_the_channel_with_the_reason(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let name = world.name("queue");
    let mut declare = QueueDeclare {
        queue: short(&name),
        exclusive: true,
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
    let other = client.channel();
    let arguments = FieldTable::new().with("x-max-length", 5_i64).unwrap();
    declare.arguments = arguments.as_ref();
    let peer = peer(client.declare(other, &declare));
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    let found = peer.inequivalent_argument().unwrap();
    assert_eq!(
        (found.entity, found.name, found.argument),
        ("queue", &*name, "x-max-length")
    );
    assert_eq!((found.received, found.current), (Some("5"), None));
    assert_eq!(peer.method, Some(QueueDeclare::SPEC.id));
    // Nothing can be said on it any more, and the other channel goes on.
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.channel(other).map(drop), Err(SendError::Stale));
    client.ask(channel, &purge(&name)).unwrap();
    client.close();
}

pub(crate) fn a_publish_to_no_exchange_loses_what_is_under_way(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let closed = client.on_channel_close(channel);
    let nowhere = world.name("nowhere");
    let outcome = client.publish(channel, &to_no_exchange(&nowhere), &Properties::default(), "lost");
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    let reason = client.wait(&closed);
    let ChannelCloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_FOUND);
    assert!(peer.text.starts_with("NOT_FOUND - no exchange"), "{peer}");
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.channel(channel).map(drop), Err(SendError::Stale));
    client.close();
}

pub(crate) fn a_queue_that_is_not_there_is_not_consumed_from(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let started = client.consume(channel, &from(&world.name("nowhere")));
    assert_eq!(
        peer(started.map(|consumer| consumer.id)).code,
        ReplyCode::NOT_FOUND
    );
    client.close();
}

pub(crate) fn an_offset_in_what_is_no_stream_is_refused(world: World) {
    for queue_type in ["classic", "quorum"] {
        let mut client = world.connect();
        let channel = client.channel();
        let name = world.name(queue_type);
        let arguments = FieldTable::new().with("x-queue-type", queue_type).unwrap();
        let declare = QueueDeclare {
            arguments: arguments.as_ref(),
            ..durable(&name)
        };
        client.declare(channel, &declare).unwrap();
        let from_the_first = FieldTable::new().with("x-stream-offset", "first").unwrap();
        let consume = BasicConsume {
            arguments: from_the_first.as_ref(),
            ..from(&name)
        };
        let started = client.consume(channel, &consume).map(|consumer| consumer.id);
        assert_eq!(peer(started).code, ReplyCode::PRECONDITION_FAILED);
        let other = client.channel();
        client.delete(other, &name);
        client.close();
    }
}

pub(crate) fn a_consumer_learns_why_its_channel_ended(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let closed = client.on_channel_close(channel);
    let nowhere = world.name("nowhere");
    client
        .on(channel, |view| {
            view.publish(&to_no_exchange(&nowhere), &Properties::default(), &b""[..])
        })
        .unwrap();
    let reason = client.wait(&closed);
    let ChannelCloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_FOUND);
    assert_eq!(consumer.deliveries.len(), 0);
    client.close();
}

pub(crate) fn an_exclusive_queue_is_its_connection_s_only(world: World) {
    let mut owner = world.connect();
    let (_, queue) = owner.queue();
    let mut stranger = world.connect();
    let channel = stranger.channel();
    let refused = peer(stranger.ask(channel, &purge(&queue)));
    assert_eq!(refused.code, ReplyCode::RESOURCE_LOCKED);
    stranger.close();
    owner.close();
}

/// Such a name cannot even be made.
pub(crate) fn names_over_255_octets_are_refused_before_anything_is_sent(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    assert!(ShortStr::new(&"n".repeat(256)).is_err());
    let longest = "n".repeat(255);
    let declare = QueueDeclare {
        queue: short(&longest),
        exclusive: true,
        ..Default::default()
    };
    assert_eq!(client.declare(channel, &declare).unwrap().name, longest);
    client.close();
}

pub(crate) fn what_breaks_the_protocol_ends_the_connection(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    // RabbitMQ does not count octets.
    let qos = BasicQos {
        prefetch_size: 1,
        ..Default::default()
    };
    client.ask(channel, &qos).unwrap_err();
    let reason = client.closed();
    assert!(matches!(&reason, CloseReason::Peer(peer) if peer.code == ReplyCode::NOT_IMPLEMENTED));
    let id = client.id();
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.connection(id).map(drop), Err(SendError::Closed));
}

pub(crate) fn a_closed_channel_takes_no_calls(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let closed = client.on_channel_close(channel);
    client
        .on(channel, |view| view.close(ReplyCode::REPLY_SUCCESS, ""))
        .unwrap();
    assert_eq!(client.wait(&closed), ChannelCloseReason::Requested);
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.channel(channel).map(drop), Err(SendError::Stale));
    client.close();
}

/// One of ten; the others do not notice.
pub(crate) fn a_channel_is_opened_again_as_it_was(world: World) {
    let mut client = world.connect();
    let mut all = Vec::new();
    for _ in 0..10 {
        let channels = client.channel_and_successors(|ctx, channel| {
            let mut view = ctx.channel(channel).unwrap();
            view.send_nowait(&ConfirmSelect::default()).unwrap();
            view.request(&prefetch(1), |_, _, answer| assert!(answer.is_ok()))
                .unwrap();
        });
        let channel = client.wait(&channels);
        let queue = client.declare(channel, &own_queue()).unwrap().name;
        all.push((channels, channel, queue));
    }
    let (channels, first_channel, queue) = all.pop().unwrap();
    let closed = client.on_channel_close(first_channel);
    client.send(first_channel, &queue, "first");
    let consumer = client.consume(first_channel, &from(&queue)).unwrap();
    let stale = client.wait(&consumer.deliveries);
    let (nowhere, mut channel) = (world.name("nowhere"), first_channel);
    for _ in 0..2 {
        let outcome = client.publish(channel, &to_no_exchange(&nowhere), &Properties::default(), "lost");
        let ConfirmOutcome::Lost(ChannelCloseReason::Peer(peer)) = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(peer.code, ReplyCode::NOT_FOUND);
        // It confirms as before, and what was not settled is back.
        channel = client.wait(&channels);
        client.send(channel, &queue, "next");
    }
    let reason = client.wait(&closed);
    assert!(matches!(reason, ChannelCloseReason::Peer(_)), "{reason:?}");
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.channel(first_channel).map(drop), Err(SendError::Stale));
    let refused = client.on(channel, |view| view.ack(stale.tag));
    assert_eq!(refused, Err(SendError::Stale));

    let again = client.consume(channel, &from(&queue)).unwrap();
    let first = client.wait(&again.deliveries);
    assert!(first.redelivered && first.message.body().to_vec() == b"first");
    // The limit is as it was: the others wait.
    let counted = client.declare(channel, &passive(&queue)).unwrap();
    assert_eq!((counted.message_count, again.deliveries.len()), (2, 0));
    client.on(channel, |view| view.ack(first.tag)).unwrap();
    let next = client.wait(&again.deliveries);
    assert_eq!(next.message.body().to_vec(), b"next");
    client.on(channel, |view| view.ack(next.tag)).unwrap();
    assert_eq!((consumer.deliveries.len(), channels.len()), (0, 0));
    for (channels, channel, queue) in all {
        assert_eq!((client.purge(channel, &queue), channels.len()), (0, 0));
    }
    client.close();
}

/// One of ten, which is refused something twice; nothing is missing on any of them.
pub(crate) fn the_consumers_of_a_channel_that_is_opened_again_go_on(world: World) {
    let mut client = world.connect();
    let publisher = client.channel();
    let mut all = Vec::new();
    for _ in 0..10 {
        let queue = client.declare(publisher, &own_queue()).unwrap().name;
        let (deliveries, source) = (Told::new(), queue.clone());
        let told = deliveries.clone();
        let channels = client.channel_and_successors(move |ctx, channel| {
            // What came on the channel before was not settled: it comes again.
            while told.pop().is_some() {}
            let told = told.clone();
            let mut view = ctx.channel(channel).unwrap();
            view.request(&prefetch(2), |_, _, answer| assert!(answer.is_ok()))
                .unwrap();
            view.consume(&from(&source), move |ctx, channel, delivery| {
                told.tell(ctx, (channel, delivery));
            })
            .unwrap();
        });
        all.push((client.wait(&channels), channels, queue, deliveries));
    }
    let nowhere = world.name("nowhere");
    for round in 0..3_u8 {
        for (_, _, queue, _) in &all {
            client.send(publisher, queue, [round]);
        }
        let (channel, channels, _, _) = &mut all[4];
        let asked = match round {
            0 => Ok(()),
            // That is not asked for again.
            1 => client.consume(*channel, &from(&nowhere)).map(drop),
            _ => client.ask(*channel, &purge(&nowhere)),
        };
        if round > 0 {
            assert_eq!(peer(asked).code, ReplyCode::NOT_FOUND);
            *channel = client.wait(channels);
        }
        for (channel, _, _, deliveries) in &all {
            let (on, delivery) = client.wait(deliveries);
            assert_eq!((on, delivery.message.body().to_vec()), (*channel, vec![round]));
            client.on(on, |view| view.ack(delivery.tag)).unwrap();
            // It is known to the broker before the channel is refused anything.
            client.ask(on, &prefetch(2)).unwrap();
        }
    }
    for (_, channels, _, deliveries) in &all {
        assert_eq!((channels.len(), deliveries.len()), (0, 0));
    }
    client.close();
}

/// What a program consumes from, again when it is there again.
#[derive(Clone)]
struct Source {
    channel: ChannelRef,
    queue: Rc<str>,
    started: Told<Result<ConsumerId, RequestError>>,
    deliveries: Told<Delivery>,
    /// Somebody has looked for the queue in vain.
    missed: Told<ReplyCode>,
}

impl Source {
    fn consume(&self, ctx: &mut Ctx<'_, ()>) {
        let (started, deliveries) = (self.started.clone(), self.deliveries.clone());
        let mut view = ctx.channel(self.channel).unwrap();
        view.consume_then(
            &from(&self.queue),
            move |ctx, _, delivery| deliveries.tell(ctx, delivery),
            move |ctx, _, result| started.tell(ctx, result),
        )
        .unwrap();
    }

    /// When the queue is there.
    fn go_on(self, ctx: &mut Ctx<'_, ()>) {
        let (missed, queue) = (self.missed.clone(), self.queue.to_string());
        let refused = move |ctx: &mut Ctx<'_, ()>, error| missed.tell(ctx, peer(Err::<(), _>(error)).code);
        let connection = self.channel.connection();
        until_declared(ctx, connection, passive, queue, refused, move |ctx| {
            self.consume(ctx)
        });
    }
}

/// What ends the consumer does not end its channel.
pub(crate) fn a_queue_that_is_deleted_and_declared_again_feeds_the_same_consumer(world: World) {
    let mut client = world.connect();
    let (channel, other) = (client.channel(), client.channel());
    let closed = client.on_channel_close(channel);
    let name = world.name("again");
    client.declare(other, &exclusive(&name)).unwrap();
    let source = Source {
        channel,
        queue: Rc::from(&*name),
        started: Told::new(),
        deliveries: Told::new(),
        missed: Told::new(),
    };
    let again = source.clone();
    client.on(channel, |view| {
        view.on_cancel(move |ctx, _, _| again.clone().go_on(ctx)).unwrap();
    });
    source.consume(&mut client.event_loop().context());
    client.wait(&source.started).unwrap();
    for _ in 0..3 {
        client.delete(other, &name);
        // While it is not there, its absence is asked for and harms nobody.
        assert_eq!(client.wait(&source.missed), ReplyCode::NOT_FOUND);
        client.ask(channel, &prefetch(1)).unwrap();
        client.declare(other, &exclusive(&name)).unwrap();
        client.send(other, &name, "new");
        let delivery = client.wait(&source.deliveries);
        assert_eq!(delivery.message.body().to_vec(), b"new");
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
        client.wait(&source.started).unwrap();
        while source.missed.pop().is_some() {}
    }
    assert_eq!((closed.len(), source.deliveries.len()), (0, 0));
    client.close();
}
