//! Consuming and settling.

use amqp_mio::proto::wire::{BasicConsume, BasicQos, QueueDelete};

use super::World;
use super::client::{Told, from, passive, short};

pub(crate) fn no_more_than_the_prefetch_comes_before_it_is_settled(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..3_u8 {
        client.send(channel, &queue, [number]);
    }
    let one = BasicQos {
        prefetch_count: 1,
        ..Default::default()
    };
    client.ask(channel, &one).unwrap();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    for number in 0..3_u8 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), [number]);
        let counted = client.declare(channel, &passive(&queue)).unwrap();
        assert_eq!(counted.message_count, 2 - u32::from(number));
        assert_eq!(consumer.deliveries.len(), 0);
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    client.close();
}

pub(crate) fn what_is_given_back_comes_again_and_says_so(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    client.send(channel, &queue, "again");
    let first = client.get(channel, &queue).unwrap();
    assert!(!first.redelivered);
    client.on(channel, |view| view.nack(first.tag, true)).unwrap();
    let second = client.get(channel, &queue).unwrap();
    assert!(second.redelivered);
    client
        .on(channel, |view| view.core()?.reject(second.tag, true))
        .unwrap();
    let third = client.get(channel, &queue).unwrap();
    assert!(third.redelivered);
    client
        .on(channel, |view| view.core()?.reject(third.tag, false))
        .unwrap();
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

pub(crate) fn one_ack_can_be_for_many(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..10_u8 {
        client.send(channel, &queue, [number]);
    }
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    for _ in 0..9 {
        client.wait(&consumer.deliveries);
    }
    let last = client.wait(&consumer.deliveries);
    client
        .on(channel, |view| view.core()?.ack_multiple(last.tag))
        .unwrap();
    client.cancel(channel, &consumer);
    let delete = QueueDelete {
        queue: short(&queue),
        if_empty: true,
        ..Default::default()
    };
    let left = client.ask_for(channel, &delete, |ok| ok.message_count);
    assert_eq!(left.unwrap(), 0);
    client.close();
}

pub(crate) fn a_consumer_learns_that_its_queue_was_deleted(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let cancelled = Told::new();
    let told = cancelled.clone();
    client.on(channel, |view| {
        view.on_cancel(move |ctx, _, consumer| told.tell(ctx, consumer))
            .unwrap();
    });
    let delete = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    assert_eq!(client.wait(&cancelled), consumer.id);
    client.close();
    assert_eq!((cancelled.len(), consumer.deliveries.len()), (0, 0));
}

pub(crate) fn several_consumers_take_turns(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consume = BasicConsume {
        no_ack: true,
        ..from(&queue)
    };
    let one = client.consume(channel, &consume).unwrap();
    let other = client.consume(channel, &consume).unwrap();
    assert_ne!(one.id, other.id);
    for number in 0..10_u8 {
        client.send(channel, &queue, [number]);
    }
    for _ in 0..5 {
        client.wait(&one.deliveries);
        client.wait(&other.deliveries);
    }
    assert_eq!((one.deliveries.len(), other.deliveries.len()), (0, 0));
    client.close();
}
