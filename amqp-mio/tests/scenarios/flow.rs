//! Many things at once.

use amqp_mio::proto::wire::{BasicQos, Properties, QueueDeclare, ReplyCode};
use amqp_mio::proto::{ChannelCloseReason, Delivery};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{Told, from, to};

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
        let seven = BasicQos {
            prefetch_count: 7,
            ..Default::default()
        };
        client.ask(channel, &seven).unwrap();
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
