//! What a user may not do, and who may not come in.

use std::fmt::Debug;

use amqp_mio::proto::wire::{
    Arguments, BasicPublish, ExchangeDeclare, MethodId, Properties, QueueBind, QueueDeclare, QueueDelete,
    ReplyCode,
};
use amqp_mio::proto::{ChannelCloseReason, CloseReason, ConfirmOutcome, RequestError};

use super::World;
use super::client::{Client, from, passive, peer, short, to};
use super::connecting::refusal;
use super::operator::MAX_MESSAGE_SIZE;

/// It says which method, on what, and who.
fn assert_refused<T: Debug>(result: Result<T, RequestError>, method: MethodId, what: &str) {
    let peer = peer(result);
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert_eq!(peer.method, Some(method));
    assert!(peer.text.starts_with("ACCESS_REFUSED - "), "{peer}");
    let words = format!("access to {what} in vhost '/' refused for user 'limited'");
    assert!(peer.text.ends_with(&words), "{peer}");
}

pub(crate) fn who_may_not_configure_is_told_what_was_refused_and_goes_on(world: World) {
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

pub(crate) fn who_may_do_nothing_is_refused_for_good(world: World) {
    let (reason, _) = refusal(&world.as_user("nobody"));
    let CloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
    let words = "access to vhost '/' refused for user 'nobody'";
    assert!(peer.text.contains(words), "{peer}");
}

pub(crate) fn a_message_over_the_broker_s_limit_is_refused_with_both_sizes(world: World) {
    let mut client = world.connect();
    let (_, queue) = client.queue();
    let operator = world.operator.clone();
    let limit = client.meanwhile(move || operator.limit_messages());
    let channel = client.channel();
    client.send(channel, &queue, vec![0; MAX_MESSAGE_SIZE]);
    let closed = client.on_channel_close(channel);
    let large = vec![0; MAX_MESSAGE_SIZE + 1];
    let outcome = client.publish(channel, &to(&queue), &Properties::default(), large);
    assert!(matches!(outcome, ConfirmOutcome::Lost(_)), "{outcome:?}");
    let reason = client.wait(&closed);
    let ChannelCloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert!(
        peer.text.contains("16777217") && peer.text.contains("16777216"),
        "{peer}"
    );
    let channel = client.channel();
    assert_eq!(client.purge(channel, &queue), 1);
    client.close();
    limit.end();
}
