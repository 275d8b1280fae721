//! What goes wrong says why, in the broker's own words.

use std::time::Duration;

use amqp_async::proto::wire::{BasicQos, MethodId, ReplyCode};
use amqp_async::proto::{Backoff, ChannelCloseReason, CloseReason, SendError};
use amqp_async::{ChannelOptions, ConsumeOptions, ConsumerEnd, Error, FieldTable, PublishError, Qos, Reopen};

use super::{World, close, table};

pub(crate) async fn declaring_otherwise_closes_the_channel_with_the_reason(world: World) {
    let channel = world.channel().await;
    let queue = channel
        .declare_queue(world.name("queue"))
        .exclusive(true)
        .await
        .unwrap();
    let other = channel.connection().channel().await.unwrap();
    let arguments = FieldTable::new().with("x-max-length", 5_i64).unwrap();
    let error = other
        .declare_queue(queue.name())
        .exclusive(true)
        .arguments(arguments)
        .await
        .unwrap_err();
    let peer = error.peer().unwrap();
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    let found = peer.inequivalent_argument().unwrap();
    assert_eq!(
        (found.entity, found.name, found.argument),
        ("queue", &*queue.name(), "x-max-length")
    );
    assert_eq!((found.received, found.current), (Some("5"), None));
    assert_eq!(
        peer.method,
        Some(MethodId {
            class: 50,
            method: 10
        })
    );
    // The next call on it says the same, and the other channel goes on.
    assert_eq!(other.declare_queue("").exclusive(true).await.unwrap_err(), error);
    assert!(!other.is_open());
    assert!(channel.is_open());
    queue.purge().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn a_publish_to_no_exchange_loses_what_is_under_way(world: World) {
    let channel = world.channel().await;
    let exchange = channel.exchange(world.name("nowhere"));
    let error = exchange.publish("lost", "").await.unwrap_err();
    assert!(matches!(error, PublishError::Lost(_)), "{error:?}");
    let peer = error.peer().unwrap();
    assert_eq!(peer.code, ReplyCode::NOT_FOUND);
    assert!(peer.text.starts_with("NOT_FOUND - no exchange"), "{peer}");
    let error = exchange.publish("not sent", "").await.unwrap_err();
    assert!(matches!(error, PublishError::NotSent(_)), "{error:?}");
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    close(channel.connection()).await;
}

pub(crate) async fn a_queue_that_is_not_there_is_not_consumed_from(world: World) {
    let channel = world.channel().await;
    let queue = channel.queue(world.name("nowhere"));
    let error = queue.consume().await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    close(channel.connection()).await;
}

pub(crate) async fn a_consumer_learns_why_its_channel_ended(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let mut consumer = queue.consume().await.unwrap();
    channel
        .exchange(world.name("nowhere"))
        .publish("", "")
        .await
        .unwrap_err();
    let end = consumer.next().await.unwrap().unwrap_err();
    let ConsumerEnd::Channel(ChannelCloseReason::Peer(peer)) = end else {
        panic!("{end:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_FOUND);
    close(channel.connection()).await;
}

pub(crate) async fn an_exclusive_queue_is_its_connection_s_only(world: World) {
    let queue = world.queue().await;
    let stranger = world.channel().await;
    let error = stranger.queue(queue.name()).purge().await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::RESOURCE_LOCKED);
    close(stranger.connection()).await;
    close(queue.channel().connection()).await;
}

pub(crate) async fn names_over_255_octets_are_refused_before_anything_is_sent(world: World) {
    let channel = world.channel().await;
    let long = "n".repeat(256);
    let is_refused = |error: &Error| matches!(error, Error::Refused(SendError::TooLong(_)));
    assert!(is_refused(&channel.declare_queue(&long).await.unwrap_err()));
    assert!(is_refused(&channel.queue(&long).purge().await.unwrap_err()));
    let error = channel.default_exchange().publish("", &long).await.unwrap_err();
    assert!(matches!(error, PublishError::NotSent(error) if is_refused(&error)));
    assert!(channel.is_open());
    close(channel.connection()).await;
}

pub(crate) async fn what_breaks_the_protocol_ends_the_connection(world: World) {
    let channel = world.channel().await;
    let connection = channel.connection().clone();
    // RabbitMQ does not count octets.
    let qos = BasicQos {
        prefetch_size: 1,
        ..BasicQos::default()
    };
    let error = channel.request(&qos).await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_IMPLEMENTED);
    let reason = connection.closed().await;
    assert!(matches!(&reason, CloseReason::Peer(peer) if peer.code == ReplyCode::NOT_IMPLEMENTED));
    assert_eq!(
        connection.channel().await.unwrap_err(),
        Error::ConnectionClosed(reason)
    );
}

pub(crate) async fn a_closed_channel_takes_no_calls(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    channel.close().await.unwrap();
    let expected = Error::ChannelClosed(ChannelCloseReason::Requested);
    assert_eq!(queue.purge().await.unwrap_err(), expected);
    let error = channel.default_exchange().publish("", "").await.unwrap_err();
    assert_eq!(error, PublishError::NotSent(expected));
    close(channel.connection()).await;
}

/// One of ten; the others do not notice.
pub(crate) async fn a_channel_is_opened_again_as_it_was(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().reopen(Reopen::always());
    let mut queues = Vec::new();
    for _ in 0..10 {
        let channel = connection.channel_with(options.clone()).await.unwrap();
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        queues.push(channel.declare_queue("").exclusive(true).await.unwrap());
    }
    let queue = queues.pop().unwrap();
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    exchange.publish("first", queue.name()).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    let stale = consumer.next().await.unwrap().unwrap();
    for _ in 0..2 {
        let lost = channel.exchange(world.name("nowhere")).publish("lost", "").await;
        let error = lost.unwrap_err();
        assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
        // It confirms as before, and what was not settled is back.
        exchange.publish("next", queue.name()).await.unwrap();
    }
    let end = consumer.next().await.unwrap().unwrap_err();
    assert!(
        matches!(end, ConsumerEnd::Channel(ChannelCloseReason::Peer(_))),
        "{end:?}"
    );
    let error = stale.ack().await.unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    assert!(channel.is_open());

    let mut consumer = queue.consume().await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    assert!(first.is_redelivered() && *first.body() == *b"first");
    // The limit is as it was: the others wait.
    assert_eq!(
        queue.declare().passive(true).await.unwrap().message_count(),
        Some(2)
    );
    first.ack().await.unwrap();
    consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    for other in queues {
        assert!(other.channel().is_open());
        other.purge().await.unwrap();
    }
    close(&connection).await;
}

/// One of ten, which is refused something twice; nothing is missing on any of them.
pub(crate) async fn the_consumers_of_a_channel_that_is_opened_again_go_on(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().reopen(Reopen::always().with_consumers());
    let publisher = connection.channel().await.unwrap();
    let (mut queues, mut consumers) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let channel = connection.channel_with(options.clone()).await.unwrap();
        channel.set_qos(Qos::prefetch(2)).await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        consumers.push(queue.consume().await.unwrap());
        queues.push(queue);
    }
    for round in 0..3_u8 {
        for queue in &queues {
            let exchange = publisher.default_exchange();
            exchange.publish(vec![round], queue.name()).await.unwrap();
        }
        let channel = queues[4].channel();
        let nowhere = channel.queue(world.name("nowhere"));
        let refused = match round {
            0 => None,
            // That is not asked for again.
            1 => nowhere.consume().await.err(),
            _ => nowhere.purge().await.err(),
        };
        if round > 0 {
            assert_eq!(refused.unwrap().peer().unwrap().code, ReplyCode::NOT_FOUND);
            channel.set_qos(Qos::prefetch(2)).await.unwrap();
        }
        for consumer in &mut consumers {
            let delivery = consumer.next().await.unwrap().unwrap();
            assert_eq!(*delivery.body(), [round]);
            delivery.ack().await.unwrap();
            // It is known to the broker before the channel is refused anything.
            consumer.channel().set_qos(Qos::prefetch(2)).await.unwrap();
        }
    }
    close(&connection).await;
}

/// What ends the consumer ends neither its handle nor its channel.
pub(crate) async fn a_queue_that_is_deleted_and_declared_again_feeds_the_same_consumer(world: World) {
    let connection = world.connect().await;
    let (channel, other) = (
        connection.channel().await.unwrap(),
        connection.channel().await.unwrap(),
    );
    let queue = other
        .declare_queue(world.name("again"))
        .exclusive(true)
        .await
        .unwrap();
    let backoff = Backoff::new(1).initial(Duration::from_millis(50));
    let options = ConsumeOptions::default().resubscribe(backoff);
    let queue_here = channel.queue(queue.name());
    let mut consumer = queue_here.consume_with(options).await.unwrap();
    for _ in 0..3 {
        queue.delete().await.unwrap();
        // While it is not there, its absence is asked for and harms nobody.
        channel.set_qos(Qos::prefetch(1)).await.unwrap();
        queue.declare().await.unwrap();
        let exchange = other.default_exchange();
        exchange.publish("new", queue.name()).await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(&*delivery.body(), b"new");
        delivery.ack().await.unwrap();
    }
    assert!(channel.is_open());
    close(&connection).await;
}

/// By the offset the client knows a stream, and acknowledges what it would give back to a queue.
pub(crate) async fn an_offset_in_what_is_no_stream_is_refused(world: World) {
    for queue_type in ["classic", "quorum"] {
        let channel = world.channel().await;
        let declaration = channel.declare_queue(world.name(queue_type)).durable(true);
        let arguments = table(&[("x-queue-type", queue_type.into())]);
        let queue = declaration.arguments(arguments).await.unwrap();
        let from_the_first = table(&[("x-stream-offset", "first".into())]);
        let options = ConsumeOptions::default().arguments(from_the_first);
        let error = queue.consume_with(options).await.unwrap_err();
        assert_eq!(error.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);
        let other = channel.connection().channel().await.unwrap();
        other.queue(queue.name()).delete().await.unwrap();
        close(channel.connection()).await;
    }
}
