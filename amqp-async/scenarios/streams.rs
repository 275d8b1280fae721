//! Streams, and what they have not: a way back, and conditions for their end. The embedded broker has no streams.

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{Backoff, SendError};
use amqp_async::{Channel, ConsumeOptions, Consumer, Delivery, Error, ProcessOptions, Qos, Queue};

use super::operator::Disturbance;
use super::{World, close, recovery, table};

const REFUSED: Error = Error::Refused(SendError::StreamDelivery);

/// A stream with so many messages, on a channel with that prefetch limit.
async fn stream(world: &World, prefetch: u16, messages: u8) -> Queue {
    let channel = world.channel().await;
    channel.set_qos(Qos::prefetch(prefetch)).await.unwrap();
    let stream = declare(&channel, &world.name("stream"), "stream").await;
    for number in 0..messages {
        let exchange = channel.default_exchange();
        exchange.publish(vec![number], stream.name()).await.unwrap();
    }
    stream
}

async fn declare(channel: &Channel, name: &str, queue_type: &str) -> Queue {
    let declaration = channel.declare_queue(name).durable(true);
    let arguments = table(&[("x-queue-type", queue_type.into())]);
    declaration.arguments(arguments).await.unwrap()
}

fn from_the_first() -> ConsumeOptions {
    ConsumeOptions::default().arguments(table(&[("x-stream-offset", "first".into())]))
}

async fn next(consumer: &mut Consumer, number: u8) -> Delivery {
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(*delivery.body(), [number]);
    delivery
}

pub(crate) async fn what_a_stream_does_not_take_back_is_acknowledged(world: World) {
    // The next message comes when the one before it is settled, and not before.
    let stream = stream(&world, 1, 7).await;
    // A handle that knows nothing of the queue but the offset.
    let by_name = stream.channel().queue(stream.name());
    let mut consumer = by_name.consume_with(from_the_first()).await.unwrap();
    drop(next(&mut consumer, 0).await);
    assert_eq!(next(&mut consumer, 1).await.nack(true).await, Err(REFUSED));
    assert_eq!(next(&mut consumer, 2).await.reject(false).await, Err(REFUSED));
    let fail = async |_| Err::<(), _>(Error::Timeout);
    for (number, requeue) in [(3, true), (4, false)] {
        let options = ProcessOptions::default().requeue(requeue);
        let failed = next(&mut consumer, number).await.process(options, fail).await;
        assert_eq!(failed, Err(Error::Timeout));
    }
    let (tag, _) = next(&mut consumer, 5).await.into_message();
    assert_eq!(stream.channel().basic_nack(tag, true, true), Err(REFUSED));
    stream.channel().basic_ack(tag, false).unwrap();
    next(&mut consumer, 6).await.ack().await.unwrap();
    consumer.cancel().await.unwrap();
    stream.delete().await.unwrap();
    close(stream.channel().connection()).await;
}

pub(crate) async fn a_streams_consumer_may_end_at_any_time(world: World) {
    let stream = stream(&world, 50, 200).await;
    let channel = stream.channel();
    for round in 0..10 {
        let mut consumer = stream.consume_with(from_the_first()).await.unwrap();
        let first = next(&mut consumer, 0).await;
        match round % 3 {
            0 => drop(consumer.cancel().await.unwrap()),
            1 => drop(consumer),
            _ => {
                let fail = |_| async { Err("it always fails".into()) };
                let handling = consumer.handle(2, ProcessOptions::default(), fail);
                drop(first);
                handling.stop().await.unwrap();
                continue;
            }
        }
        drop(first);
    }
    // A stream that is known as one has the broker's default.
    let mut consumer = stream.consume().await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish(vec![201], stream.name()).await.unwrap();
    drop(next(&mut consumer, 201).await);
    drop(consumer);
    let counted = channel.declare_queue(stream.name()).passive(true).await.unwrap();
    assert_eq!(counted.consumer_count(), Some(0));
    stream.delete().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn an_ordinary_queue_beside_a_stream_gets_its_messages_back(world: World) {
    let stream = stream(&world, 1, 1).await;
    let channel = stream.channel();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish(vec![9], queue.name()).await.unwrap();
    let mut from_stream = stream.consume_with(from_the_first()).await.unwrap();
    let mut from_queue = queue.consume().await.unwrap();
    let held = next(&mut from_stream, 0).await;
    drop(next(&mut from_queue, 9).await);
    let again = next(&mut from_queue, 9).await;
    assert!(again.is_redelivered());
    assert_eq!(again.nack_multiple(true).await, Err(REFUSED));
    let again = next(&mut from_queue, 9).await;
    again.nack(false).await.unwrap();
    drop((held, from_stream, from_queue));
    stream.delete().await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn quorum_queues_and_streams_are_deleted_without_conditions(world: World) {
    let channel = world.channel().await;
    for queue_type in ["quorum", "stream"] {
        let queue = declare(&channel, &world.name(queue_type), queue_type).await;
        let exchange = channel.default_exchange();
        exchange.publish(vec![0], queue.name()).await.unwrap();
        for (if_unused, if_empty) in [(true, false), (false, true)] {
            let refused = queue.delete_if(if_unused, if_empty).await;
            assert_eq!(refused, Err(Error::DeleteCondition));
        }
        // What the refusal is good for: a handle that knows nothing of the queue asks the broker.
        let other = world.channel().await;
        let deleted = other.queue(queue.name()).delete_if(false, true).await;
        if queue_type == "quorum" {
            let error = deleted.unwrap_err();
            assert!(matches!(error, Error::ConnectionClosed(_)), "{error:?}");
            assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_IMPLEMENTED);
            assert_eq!(queue.delete().await, Ok(1));
        } else {
            deleted.unwrap();
            let is_there = channel.declare_queue(queue.name()).passive(true).await;
            let error = is_there.unwrap_err();
            assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND, "it is gone");
            close(other.connection()).await;
        }
    }
    close(channel.connection()).await;
}

/// What was settled does not come again, and all else does.
pub(crate) async fn after_an_operator_closed_it_a_stream_goes_on_without_gap_or_repeat(world: World) {
    let disturb = |world: &World| {
        world.operator.close_all_connections("come again");
        None
    };
    go_on_after(world, disturb, from_the_first()).await;
}

/// At first the broker knows nothing of its stream, so that it cannot be consumed from when all else is there again.
pub(crate) async fn after_the_broker_was_killed_a_stream_goes_on_without_gap_or_repeat(world: World) {
    let options = from_the_first().resubscribe(Backoff::new(1));
    go_on_after(world, |world| Some(world.operator.kill()), options).await;
}

async fn go_on_after(
    world: World,
    disturb: impl FnOnce(&World) -> Option<Disturbance>,
    options: ConsumeOptions,
) {
    let connection = recovery::connect(&world).await;
    let channel = connection.channel().await.unwrap();
    channel.set_qos(Qos::prefetch(10)).await.unwrap();
    let stream = declare(&channel, &world.name("stream"), "stream").await;
    let exchange = channel.default_exchange();
    for number in 0..30 {
        exchange.publish(vec![number], stream.name()).await.unwrap();
    }
    let mut consumer = stream.consume_with(options).await.unwrap();
    for number in 0..5 {
        next(&mut consumer, number).await.ack().await.unwrap();
    }
    // Settled behind a gap: it comes again, since a stream is read in order.
    let unsettled = next(&mut consumer, 5).await;
    next(&mut consumer, 6).await.ack().await.unwrap();

    let mut events = connection.events();
    let disturbance = disturb(&world);
    recovery::recovered(&mut events).await;
    disturbance.into_iter().for_each(Disturbance::end);
    unsettled.ack().await.unwrap_err();
    for number in 5..30 {
        next(&mut consumer, number).await.ack().await.unwrap();
    }
    exchange.publish(vec![30], stream.name()).await.unwrap();
    next(&mut consumer, 30).await.ack().await.unwrap();
    drop(consumer);
    stream.delete().await.unwrap();
    close(&connection).await;
}
