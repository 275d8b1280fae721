//! Many things at once.

use std::thread;

use amqp_mio::proto::wire::{BasicConsume, Properties, QueueDeclare, ReplyCode};
use amqp_mio::proto::{ChannelCloseReason, ConfirmOutcome, Delivery};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{Client, Told, from, own_queue, prefetch, to};

/// Publishes the numbers to that queue, so many at a time.
fn feed(url: &str, queue: &str, numbers: &[u32], step: usize) {
    let mut client = Client::connect_uri(url).unwrap();
    let channel = client.channel();
    let outcomes = Told::new();
    for numbers in numbers.chunks(step) {
        client.on(channel, |view| {
            for number in numbers {
                let (body, outcome) = (number.to_be_bytes(), outcomes.clone());
                view.publish_confirmed(
                    &to(queue),
                    &Properties::default(),
                    &body[..],
                    move |ctx, _, told| {
                        outcome.tell(ctx, told);
                    },
                )
                .unwrap();
            }
        });
        for _ in numbers {
            assert_eq!(client.wait(&outcomes), ConfirmOutcome::Acked);
        }
    }
    client.close();
}

/// The program waits for a confirm on the connection that the messages come on: nothing may be held back then.
pub(crate) fn a_consumer_without_acks_may_wait_for_confirms(world: World) {
    const COUNT: u32 = 20_000;
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let replies = client.declare(channel, &own_queue()).unwrap().name;
    let consume = BasicConsume {
        no_ack: true,
        ..from(&queue)
    };
    let consumer = client.consume(channel, &consume).unwrap();
    // An exclusive queue can be published to by anybody.
    let numbers: Vec<u32> = (0..COUNT).collect();
    let feeding = thread::spawn(move || feed(&world.url, &queue, &numbers, 2000));
    for number in 0..COUNT {
        let delivery = client.wait(&consumer.deliveries);
        let body = delivery.message.body().to_vec();
        assert_eq!(body, number.to_be_bytes());
        client.send(channel, &replies, body);
    }
    feeding.join().unwrap();
    assert_eq!(client.purge(channel, &replies), COUNT);
    client.close();
}

pub(crate) fn a_thousand_channels_are_opened_and_closed(world: World) {
    let mut client = world.connect();
    let declare = QueueDeclare {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    for _ in 0..1000 {
        let channel = client.channel();
        let closed = client.on_channel_close(channel);
        client.declare(channel, &declare).unwrap();
        client
            .on(channel, |view| view.close(ReplyCode::REPLY_SUCCESS, ""))
            .unwrap();
        assert_eq!(client.wait(&closed), ChannelCloseReason::Requested);
    }
    client.close();
}

/// Publishes the next message to a queue when the one before has come.
fn keep_going(
    number: u32,
    queue: String,
    done: Told<u32>,
) -> impl FnMut(&mut Ctx<'_, ()>, ChannelRef, Delivery) {
    let mut round = 0_u32;
    move |ctx, channel, delivery| {
        let expected = (number * 1000 + round).to_be_bytes();
        assert_eq!(delivery.message.body().to_vec(), expected);
        round += 1;
        let mut view = ctx.channel(channel).unwrap();
        view.ack(delivery.tag).unwrap();
        if round == 100 {
            done.tell(ctx, number);
            return;
        }
        let next = (number * 1000 + round).to_be_bytes();
        view.publish(&to(&queue), &Properties::default(), &next[..])
            .unwrap();
    }
}

pub(crate) fn many_channels_work_at_the_same_time(world: World) {
    const COUNT: u32 = 50;
    let mut client = world.connect();
    let done = Told::new();
    for number in 0..COUNT {
        let (channel, queue) = client.queue();
        client.ask(channel, &prefetch(7)).unwrap();
        let first = (number * 1000).to_be_bytes();
        let on_message = keep_going(number, queue.clone(), done.clone());
        client.on(channel, |view| {
            view.consume(&from(&queue), on_message).unwrap();
            view.publish(&to(&queue), &Properties::default(), &first[..])
                .unwrap();
        });
    }
    let mut numbers: Vec<u32> = (0..COUNT).map(|_| client.wait(&done)).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    client.close();
}
