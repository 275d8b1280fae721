//! What a user may not do, and who may not come in.

use amqp_async::proto::wire::{Arguments, ExchangeDeclare, MethodId, QueueDeclare, QueueDelete, ReplyCode};
use amqp_async::proto::{ChannelCloseReason, CloseReason};
use amqp_async::{Channel, Connection, Error, ExchangeKind, PublishError};

use super::connecting::only_failure;
use super::operator::MAX_MESSAGE_SIZE;
use super::{World, close};
use crate::runtime::{AttemptError, connect};

fn as_user(world: &World, name: &str) -> String {
    world.url.replacen("guest:guest@", &format!("{name}:{name}@"), 1)
}

async fn channel_of(connection: &Connection) -> Channel {
    connection.channel().await.unwrap()
}

/// It says which method, on what, and who.
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, method: MethodId, what: &str) {
    let error = result.unwrap_err();
    let Error::ChannelClosed(ChannelCloseReason::Peer(peer)) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert_eq!(peer.method, Some(method));
    assert!(peer.text.starts_with("ACCESS_REFUSED - "), "{peer}");
    let words = format!("access to {what} in vhost '/' refused for user 'limited'");
    assert!(peer.text.ends_with(&words), "{peer}");
}

pub(crate) async fn who_may_not_configure_is_told_what_was_refused_and_goes_on(world: World) {
    let owner = world.channel().await;
    let queue = owner
        .declare_queue(world.name("queue"))
        .durable(true)
        .await
        .unwrap();
    let limited = connect(&as_user(&world, "limited")).await.unwrap();
    let name = world.name("mine");

    let declared = channel_of(&limited)
        .await
        .declare_queue(&name)
        .durable(true)
        .await;
    assert_refused(declared, QueueDeclare::SPEC.id, &format!("queue '{name}'"));
    let declared = channel_of(&limited)
        .await
        .declare_exchange(&name, ExchangeKind::Fanout)
        .await;
    assert_refused(declared, ExchangeDeclare::SPEC.id, &format!("exchange '{name}'"));
    let deleted = channel_of(&limited).await.queue(queue.name()).delete().await;
    assert_refused(
        deleted,
        QueueDelete::SPEC.id,
        &format!("queue '{}'", queue.name()),
    );

    // What is there can be looked at and used.
    let channel = channel_of(&limited).await;
    let seen = channel.declare_queue(queue.name()).passive(true).await.unwrap();
    seen.bind("amq.direct", "key").await.unwrap();
    channel
        .exchange("amq.direct")
        .publish("hello", "key")
        .await
        .unwrap();
    let mut consumer = seen.consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(*delivery.body(), *b"hello");
    delivery.ack().await.unwrap();
    close(&limited).await;
    assert_eq!(queue.delete_if(false, true).await.unwrap(), 0);
    close(owner.connection()).await;
}

pub(crate) async fn who_may_do_nothing_is_refused_for_good(world: World) {
    let error = connect(&as_user(&world, "nobody")).await.unwrap_err();
    let AttemptError::Closed(reason @ CloseReason::Peer(peer)) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
    assert!(
        peer.text
            .contains("access to vhost '/' refused for user 'nobody'"),
        "{peer}"
    );
}

pub(crate) async fn a_message_over_the_broker_s_limit_is_refused_with_both_sizes(world: World) {
    let limit = world.operator.limit_messages();
    let queue = world.queue().await;
    let connection = queue.channel().connection();
    let channel = channel_of(connection).await;
    let exchange = channel.default_exchange();
    exchange
        .publish(vec![0; MAX_MESSAGE_SIZE], queue.name())
        .await
        .unwrap();
    let error = exchange
        .publish(vec![0; MAX_MESSAGE_SIZE + 1], queue.name())
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Lost(_)), "{error:?}");
    let peer = error.peer().unwrap();
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert!(
        peer.text.contains("16777217") && peer.text.contains("16777216"),
        "{peer}"
    );
    assert_eq!(queue.purge().await.unwrap(), 1);
    close(connection).await;
    limit.end();
}
