//! What goes wrong says why, in the broker's own words.

use amqp_mio::proto::wire::{
    Arguments, BasicConsume, BasicPublish, BasicQos, FieldTable, Properties, QueueDeclare, QueueDelete,
    QueuePurge, ReplyCode, ShortStr,
};
use amqp_mio::proto::{ChannelCloseReason, CloseReason, ConfirmOutcome, SendError};

use super::World;
use super::client::{from, peer, short};

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
            queue: short(&name),
            durable: true,
            arguments: arguments.as_ref(),
            ..Default::default()
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
        let delete = QueueDelete {
            queue: short(&name),
            ..Default::default()
        };
        client.ask(other, &delete).unwrap();
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
