//! What a user may not do, and who may not come in.

use std::fmt::Debug;

use amqp_mio::proto::wire::{
    Arguments, BasicPublish, ExchangeDeclare, MethodId, Properties, QueueBind, QueueDeclare, QueueDelete,
    ReplyCode,
};
use amqp_mio::proto::{CloseReason, ConfirmOutcome, RequestError};

use crate::client::{Client, from, passive, peer, short};
use crate::connecting::refusal;
use crate::world::World;

/// It says which method, on what, and who.
fn assert_refused<T: Debug>(result: Result<T, RequestError>, method: MethodId, what: &str) {
    let peer = peer(result);
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert_eq!(peer.method, Some(method));
    assert!(peer.text.starts_with("ACCESS_REFUSED - "), "{peer}");
    let words = format!("access to {what} in vhost '/' refused for user 'limited'");
    assert!(peer.text.ends_with(&words), "{peer}");
}

pub(crate) fn who_may_not_configure_is_told_what_was_refused_and_goes_on(world: &World) {
    let mut owner = world.connect();
    let owned = owner.channel();
    let queue = world.name("queue");
    let durable = |queue| QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    };
    owner.declare(owned, &durable(short(&queue))).unwrap();
    let mut limited = Client::connect_uri(&world.as_user("limited")).unwrap();
    let name = world.name("mine");

    let channel = limited.channel();
    let declared = limited.declare(channel, &durable(short(&name)));
    assert_refused(declared, QueueDeclare::SPEC.id, &format!("queue '{name}'"));
    let channel = limited.channel();
    let exchange = ExchangeDeclare {
        exchange: short(&name),
        ..Default::default()
    };
    let declared = limited.ask(channel, &exchange);
    assert_refused(declared, ExchangeDeclare::SPEC.id, &format!("exchange '{name}'"));
    let channel = limited.channel();
    let mut delete = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    let deleted = limited.ask(channel, &delete);
    assert_refused(deleted, QueueDelete::SPEC.id, &format!("queue '{queue}'"));

    // What is there can be looked at and used.
    let channel = limited.channel();
    limited.declare(channel, &passive(&queue)).unwrap();
    let bind = QueueBind {
        queue: short(&queue),
        exchange: short("amq.direct"),
        routing_key: short(&name),
        ..Default::default()
    };
    limited.ask(channel, &bind).unwrap();
    let publish = BasicPublish {
        exchange: short("amq.direct"),
        routing_key: short(&name),
        ..Default::default()
    };
    let outcome = limited.publish(channel, &publish, &Properties::default(), "hello");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    let consumer = limited.consume(channel, &from(&queue)).unwrap();
    let delivery = limited.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"hello");
    limited.on(channel, |view| view.ack(delivery.tag)).unwrap();
    limited.close();
    delete.if_empty = true;
    let left = owner.ask_for(owned, &delete, |ok| ok.message_count);
    assert_eq!(left.unwrap(), 0);
    owner.close();
}

pub(crate) fn who_may_do_nothing_is_refused_for_good(world: &World) {
    let (reason, _) = refusal(&world.as_user("nobody"));
    let CloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
    let words = "access to vhost '/' refused for user 'nobody'";
    assert!(peer.text.contains(words), "{peer}");
}
