//! Consuming and settling.

use std::time::Duration;

use amqp_mio::proto::wire::{BasicConsume, BasicQos, QueueDelete, ReplyCode};
use amqp_mio::{ChannelOptions, ChannelRef};

use super::World;
use super::client::{Client, Told, from, passive, short};

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

/// A channel whose acknowledgements are joined, with that prefetch.
fn joining(client: &mut Client, count: u16, delay: Duration, prefetch_count: u16) -> ChannelRef {
    let opened = Told::new();
    let open = opened.clone();
    let options = ChannelOptions::default().coalesce_acks(count, delay);
    client.connection(|view| {
        view.open_channel_with(&options, move |ctx, channel| open.tell(ctx, channel))
            .unwrap();
    });
    let channel = client.wait(&opened);
    let qos = BasicQos {
        prefetch_count,
        ..Default::default()
    };
    client.ask(channel, &qos).unwrap();
    channel
}

/// How many were in the queue that must be empty.
fn delete_empty(client: &mut Client, channel: ChannelRef, queue: &str) -> u32 {
    let delete = QueueDelete {
        queue: short(queue),
        if_empty: true,
        ..Default::default()
    };
    client.ask_for(channel, &delete, |ok| ok.message_count).unwrap()
}

pub(crate) fn joined_acks_are_for_what_was_settled_and_for_nothing_else(world: World) {
    const COUNT: usize = 300;
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..COUNT {
        client.send(channel, &queue, number.to_string());
    }
    // If the broker ever waited for what was not said, this would take minutes.
    let joining = joining(&mut client, 1000, Duration::from_secs(600), 100);
    let frames_sent =
        |client: &mut Client| client.connection(|view| view.core().unwrap().counters().frames_sent);
    let before = frames_sent(&mut client);
    let consumer = client.consume(joining, &from(&queue)).unwrap();
    let (mut waiting, mut kept) = (Vec::new(), Vec::new());
    for number in 0..COUNT {
        let delivery = client.wait(&consumer.deliveries);
        match number {
            280..285 => kept.push(delivery),
            _ => waiting.push(delivery.tag),
        }
        if waiting.len() == 5 {
            // The last one first.
            for tag in waiting.drain(..).rev() {
                client.on(joining, |view| view.ack(tag)).unwrap();
            }
        }
    }
    assert!(waiting.is_empty());
    let bodies: Vec<_> = kept
        .iter()
        .map(|delivery| delivery.message.body().to_vec())
        .collect();
    for delivery in kept.drain(1..) {
        client.on(joining, |view| view.nack(delivery.tag, true)).unwrap();
    }
    for _ in 1..5 {
        let delivery = client.wait(&consumer.deliveries);
        assert!(delivery.redelivered && bodies.contains(&delivery.message.body().to_vec()));
        client.on(joining, |view| view.ack(delivery.tag)).unwrap();
    }
    let frames = frames_sent(&mut client) - before;
    assert!(frames < 60, "{frames} frames for {COUNT} deliveries");
    // What is kept goes back, and nothing else.
    let closed = client.on_channel_close(joining);
    client
        .on(joining, |view| view.close(ReplyCode::REPLY_SUCCESS, "enough"))
        .unwrap();
    client.wait(&closed);
    let again = client.get(channel, &queue).unwrap();
    assert_eq!(
        (again.message.body().to_vec(), again.redelivered),
        (bodies[0].clone(), true)
    );
    client.on(channel, |view| view.ack(again.tag)).unwrap();
    assert_eq!(delete_empty(&mut client, channel, &queue), 0);
    client.close();
}

pub(crate) fn a_joined_ack_is_said_when_its_time_has_come(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    for number in 0..14_u8 {
        client.send(channel, &queue, [number]);
    }
    let joining = joining(&mut client, 1000, Duration::from_millis(50), 10);
    let consumer = client.consume(joining, &from(&queue)).unwrap();
    let mut taken: Vec<_> = (0..10).map(|_| client.wait(&consumer.deliveries).tag).collect();
    for tag in taken.drain(..4) {
        client.on(joining, |view| view.ack(tag)).unwrap();
    }
    // These come only when the broker knows of those.
    for number in 10..14_u8 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), [number]);
        taken.push(delivery.tag);
    }
    for tag in taken {
        client.on(joining, |view| view.ack(tag)).unwrap();
    }
    client.cancel(joining, &consumer);
    assert_eq!(delete_empty(&mut client, channel, &queue), 0);
    client.close();
}
