//! Consuming and settling.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amqp_async::{
    ChannelOptions, ConsumeOptions, ConsumerEnd, DeliverySource, Error, Next, ProcessOptions, Qos, Queue,
};

use super::{World, close};

pub(crate) async fn no_more_than_the_prefetch_comes_before_it_is_settled(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    for number in 0..3_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    channel.set_qos(Qos::prefetch(1)).await.unwrap();
    let mut consumer = queue.consume().await.unwrap();
    for number in 0..3_u8 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), [number]);
        let counted = channel.declare_queue(queue.name()).passive(true).await.unwrap();
        assert_eq!(counted.message_count(), Some(2 - u32::from(number)));
        delivery.ack().await.unwrap();
    }
    close(channel.connection()).await;
}

pub(crate) async fn what_is_given_back_comes_again_and_says_so(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    exchange.publish("again", queue.name()).await.unwrap();
    let first = queue.get().await.unwrap().unwrap();
    assert!(!first.is_redelivered());
    first.nack(true).await.unwrap();
    let second = queue.get().await.unwrap().unwrap();
    assert!(second.is_redelivered());
    drop(second);
    let third = queue.get().await.unwrap().unwrap();
    assert!(third.is_redelivered());
    third.reject(false).await.unwrap();
    assert!(queue.get().await.unwrap().is_none());
    close(queue.channel().connection()).await;
}

pub(crate) async fn one_ack_can_be_for_many(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    for number in 0..10_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    let mut consumer = queue.consume().await.unwrap();
    let mut deliveries = Vec::new();
    for _ in 0..10 {
        deliveries.push(consumer.next().await.unwrap().unwrap());
    }
    let last = deliveries.pop().unwrap();
    // They are settled by the one behind them.
    let tags: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| delivery.into_message().0)
        .collect();
    assert_eq!(tags.len(), 9);
    last.ack_multiple().await.unwrap();
    consumer.cancel().await.unwrap();
    assert_eq!(queue.delete_if(false, true).await.unwrap(), 0);
    close(queue.channel().connection()).await;
}

pub(crate) async fn a_cancelled_consumer_gives_back_what_it_has_not_taken(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    for number in 0..100_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    let mut consumer = queue.consume().await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    consumer.cancel().await.unwrap();
    first.ack().await.unwrap();
    for number in 1..100_u8 {
        let delivery = queue.get_with(true).await.unwrap().unwrap();
        assert_eq!(*delivery.body(), [number], "they are in their order again");
    }
    assert!(queue.get().await.unwrap().is_none());
    close(queue.channel().connection()).await;
}

pub(crate) async fn a_consumer_learns_that_its_queue_was_deleted(world: World) {
    let queue = world.queue().await;
    let mut consumer = queue.consume().await.unwrap();
    queue.delete().await.unwrap();
    assert_eq!(
        consumer.next().await.unwrap().unwrap_err(),
        ConsumerEnd::CancelledByBroker
    );
    assert!(consumer.next().await.is_none());
    close(queue.channel().connection()).await;
}

pub(crate) async fn several_consumers_take_turns(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let options = || ConsumeOptions::default().no_ack(true);
    let mut one = queue.consume_with(options()).await.unwrap();
    let mut other = queue.consume_with(options()).await.unwrap();
    assert_ne!(one.tag(), other.tag());
    for number in 0..10_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    for _ in 0..5 {
        drop(one.next().await.unwrap().unwrap());
        drop(other.next().await.unwrap().unwrap());
    }
    close(queue.channel().connection()).await;
}

pub(crate) async fn a_handler_settles_by_its_outcome(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    for text in ["good", "bad", "good"] {
        exchange.publish(text, queue.name()).await.unwrap();
    }
    let mut consumer = queue.consume().await.unwrap();
    let mut failures = 0;
    for _ in 0..4 {
        let delivery = consumer.next().await.unwrap().unwrap();
        let options = ProcessOptions::default()
            .requeue(true)
            .reject_on_redelivered(true);
        let result = delivery
            .process(options, async |message| match &*message.body() {
                b"good" => Ok(()),
                _ => Err(Error::Timeout),
            })
            .await;
        failures += u32::from(result.is_err());
    }
    // The bad one came twice, and no more.
    assert_eq!(failures, 2);
    consumer.cancel().await.unwrap();
    assert!(queue.get().await.unwrap().is_none());
    close(queue.channel().connection()).await;
}

pub(crate) async fn handlers_run_in_the_background_a_few_at_a_time(world: World) {
    const COUNT: usize = 200;
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let (done, running, most) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let counters = (Arc::clone(&done), Arc::clone(&running), Arc::clone(&most));
    let answers = exchange.clone();
    let replies = queue.channel().declare_queue("").exclusive(true).await.unwrap();
    let reply_to = replies.name().to_owned();
    let consumer = queue.consume().await.unwrap();
    let handling = consumer.handle(4, ProcessOptions::default(), move |message| {
        let (done, running, most) = counters.clone();
        let (answers, reply_to) = (answers.clone(), reply_to.clone());
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // A handler may wait for the broker on the channel that it was called from.
            answers.publish(message.body().to_vec(), &reply_to).await?;
            running.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    });
    for number in 0..COUNT {
        exchange.publish(number.to_string(), queue.name()).await.unwrap();
    }
    let mut answered = replies
        .consume_with(ConsumeOptions::default().no_ack(true))
        .await
        .unwrap();
    for _ in 0..COUNT {
        drop(answered.next().await.unwrap().unwrap());
    }
    handling.stop().await.unwrap();
    assert_eq!(done.load(Ordering::SeqCst), COUNT);
    assert!(most.load(Ordering::SeqCst) <= 4);
    assert!(queue.get().await.unwrap().is_none(), "all were acknowledged");
    close(queue.channel().connection()).await;
}

pub(crate) async fn a_consumer_without_acks_can_be_dropped_in_a_flood(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    for number in 0..5000_u32 {
        let body = number.to_be_bytes().to_vec();
        exchange.publish_unconfirmed(body, queue.name()).await.unwrap();
    }
    for _ in 0..3 {
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = queue.consume_with(options).await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
        drop(consumer);
        for _ in 0..5000 {
            exchange.publish_unconfirmed("more", queue.name()).await.unwrap();
        }
    }
    // The channel goes on, and nobody consumes.
    let counted = channel.declare_queue(queue.name()).passive(true).await.unwrap();
    assert_eq!(counted.consumer_count(), Some(0));
    close(channel.connection()).await;
}

pub(crate) async fn a_consumer_is_taken_from_until_nothing_comes(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    for number in 0..3_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    let options = ConsumeOptions::default().tag("mine");
    let mut consumer = queue.consume_with(options).await.unwrap();
    let Next::Delivery(first) = consumer.next_within(Duration::from_secs(60)).await else {
        panic!("there is a message");
    };
    assert_eq!(first.source(), DeliverySource::Consume { tag: "mine" });
    first.ack().await.unwrap();
    let mut rest = consumer.until_idle(Duration::from_millis(300));
    let mut count = 0;
    while let Some(delivery) = rest.next().await {
        delivery.unwrap().ack().await.unwrap();
        count += 1;
    }
    assert_eq!((count, rest.is_idle()), (2, true));
    let mut consumer = rest.into_consumer();
    exchange.publish("late", queue.name()).await.unwrap();
    consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    consumer.cancel().await.unwrap();
    close(queue.channel().connection()).await;
}

/// On a channel of its own, which joins so many acknowledgements for so long.
async fn joining(queue: &Queue, count: u16, delay: Duration) -> Queue {
    let options = ChannelOptions::default().coalesce_acks(count, delay);
    let channel = queue.channel().connection().channel_with(options).await.unwrap();
    channel.queue(queue.name())
}

pub(crate) async fn joined_acks_are_for_what_was_settled_and_for_nothing_else(world: World) {
    const COUNT: usize = 300;
    let queue = world.queue().await;
    let connection = queue.channel().connection();
    let exchange = queue.channel().default_exchange();
    for number in 0..COUNT {
        let body = number.to_string();
        exchange.publish_unconfirmed(body, queue.name()).await.unwrap();
    }
    // If the broker ever waited for what was not said, this would take minutes.
    let joining = joining(&queue, 1000, Duration::from_secs(600)).await;
    joining.channel().set_qos(Qos::prefetch(100)).await.unwrap();
    let mut consumer = joining.consume().await.unwrap();
    let before = connection.counters().frames_sent;
    let (mut waiting, mut kept) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let delivery = consumer.next().await.unwrap().unwrap();
        match number {
            280..285 => kept.push(delivery),
            _ => waiting.push(delivery),
        }
        if waiting.len() == 5 {
            // The last one first.
            for delivery in waiting.drain(..).rev() {
                delivery.ack().await.unwrap();
            }
        }
    }
    assert!(waiting.is_empty());
    let tags: Vec<_> = kept.iter().map(|delivery| delivery.body().into_owned()).collect();
    for delivery in kept.drain(1..) {
        delivery.reject(true).await.unwrap();
    }
    for _ in 1..5 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert!(delivery.is_redelivered() && tags.contains(&delivery.body().into_owned()));
        delivery.ack().await.unwrap();
    }
    let frames = connection.counters().frames_sent - before;
    assert!(frames < 60, "{frames} frames for {COUNT} deliveries");
    // What is kept goes back, and nothing else.
    joining.channel().close().await.unwrap();
    // The queue may learn of that later than we do.
    let mut consumer = queue.consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!((&*delivery.body(), delivery.is_redelivered()), (&*tags[0], true));
    delivery.ack().await.unwrap();
    consumer.cancel().await.unwrap();
    assert_eq!(queue.delete_if(false, true).await.unwrap(), 0);
    close(connection).await;
}

pub(crate) async fn a_joined_ack_is_said_when_its_time_has_come(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    for number in 0..14_u8 {
        exchange.publish(vec![number], queue.name()).await.unwrap();
    }
    let joining = joining(&queue, 1000, Duration::from_millis(50)).await;
    joining.channel().set_qos(Qos::prefetch(10)).await.unwrap();
    let mut consumer = joining.consume().await.unwrap();
    let mut taken = Vec::new();
    for _ in 0..10 {
        taken.push(consumer.next().await.unwrap().unwrap());
    }
    for delivery in taken.drain(..4) {
        delivery.ack().await.unwrap();
    }
    // These come only when the broker knows of those.
    for number in 10..14_u8 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), [number]);
        taken.push(delivery);
    }
    for delivery in taken {
        delivery.ack().await.unwrap();
    }
    consumer.cancel().await.unwrap();
    assert_eq!(queue.delete_if(false, true).await.unwrap(), 0);
    close(queue.channel().connection()).await;
}
