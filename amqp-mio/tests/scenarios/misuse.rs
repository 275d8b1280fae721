//! What a program gets wrong: it is told at the call, nothing is written, and all else goes on.

use std::time::Duration;

use amqp_mio::proto::wire::{
    BasicConsume, BasicGet, ConfirmSelect, FieldTable, Properties, QueueDelete, ReplyCode,
};
use amqp_mio::proto::{ChannelCloseReason, CloseReason, Delivery, DeliveryTag, RequestError, SendError};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{Client, Told, durable, from, own_queue, short, to};

/// A message of its own, which was not settled; none but it are in the queue.
fn unsettled(client: &mut Client, channel: ChannelRef) -> DeliveryTag {
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    client.send(channel, &queue, "x");
    client.get(channel, &queue).unwrap().tag
}

pub(crate) fn a_closed_connection_takes_no_calls(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let ended = client.on_channel_close(channel);
    client.close();
    // It was closed before the connection was, as if that had been asked for.
    assert_eq!(ended.pop(), Some(ChannelCloseReason::Requested));
    assert_eq!(consumer.deliveries.len(), 0);
    let id = client.id();
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.connection(id).map(drop), Err(SendError::Closed));
    assert_eq!(ctx.channel(channel).map(drop), Err(SendError::Closed));
}

pub(crate) fn a_message_that_fits_no_frame_is_refused_at_the_call(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let frame = client.connection(|view| view.core().unwrap().negotiated().frame_max);
    let too_much = "v".repeat(usize::try_from(frame).unwrap());
    assert!(FieldTable::new().with(&"n".repeat(256), "value").is_err());
    let headers = FieldTable::new().with("name", too_much.as_str()).unwrap();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let sent = client.octets_sent();
    let result = client.on(channel, |view| view.publish(&to(&queue), &properties, "x"));
    assert!(result.is_err());
    assert_eq!(client.octets_sent(), sent);
    client.send(channel, &queue, "it goes on");
    assert_eq!(client.purge(channel, &queue), 1);
    client.close();
}

pub(crate) fn numbers_and_tags_that_are_in_use_are_refused_at_the_call(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let consume = BasicConsume {
        consumer_tag: short("taken"),
        ..from(&queue)
    };
    let consumer = client.consume(channel, &consume).unwrap();
    let sent = client.octets_sent();
    let again = client.on(channel, |view| view.consume(&consume, |_, _, _| {}));
    assert_eq!(again.unwrap_err(), SendError::ConsumerTagInUse);
    let channel_max = client.connection(|view| view.core().unwrap().negotiated().channel_max);
    let wrong = |number| SendError::ChannelNumber { number, channel_max };
    let used = channel.id().number();
    let numbers = [
        (used, SendError::ChannelInUse(used)),
        (0, wrong(0)),
        (channel_max + 1, wrong(channel_max + 1)),
    ];
    for (number, expected) in numbers {
        let refused = client.connection(|view| view.open_channel_with_number(number, |_, _| {}));
        assert_eq!(refused, Err(expected));
    }
    assert_eq!(client.octets_sent(), sent);
    client.cancel(channel, consumer.id);
    client.close();
}

pub(crate) fn tags_of_no_delivery_of_the_channel_are_refused_at_the_call(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let other = client.channel();
    let tag = unsettled(&mut client, channel);
    let sent = client.octets_sent();
    for number in [0, 2, u64::MAX] {
        let unknown = DeliveryTag::new(tag.channel(), number);
        let refused = client.on(channel, |view| view.ack(unknown));
        assert_eq!(refused, Err(SendError::UnknownDelivery(number)));
    }
    let refused = client.on(other, |view| view.nack(tag, true));
    assert_eq!(refused, Err(SendError::Stale));
    assert_eq!(client.octets_sent(), sent);
    client.on(channel, |view| view.ack(tag)).unwrap();
    client.close();
}

pub(crate) fn what_is_settled_twice_ends_its_channel_which_is_told_the_tag(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let other = client.channel();
    let tag = unsettled(&mut client, channel);
    let closed = client.on_channel_close(channel);
    client.on(channel, |view| view.ack(tag)).unwrap();
    client.on(channel, |view| view.core()?.reject(tag, true)).unwrap();
    let reason = client.wait(&closed);
    let ChannelCloseReason::Peer(peer) = &reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert_eq!(&*peer.text, "PRECONDITION_FAILED - unknown delivery tag 1");
    unsettled(&mut client, other);
    client.close();
}

/// With a channel, and with hardly more time for each request than that took.
fn hasty(world: &World) -> (Client, ChannelRef) {
    let mut timeout = Duration::from_micros(10);
    loop {
        timeout *= 2;
        let mut client = world.connect_with(|config| config.request_timeout(timeout));
        let opened = Told::new();
        let (open, too_late) = (opened.clone(), opened.clone());
        let channel = client
            .connection(|view| view.open_channel(move |ctx, _| open.tell(ctx, true)))
            .unwrap();
        client.on(channel, |view| {
            view.on_close(move |ctx, _, _| too_late.tell(ctx, false));
        });
        if client.wait(&opened) {
            return (client, channel);
        }
        client.close();
    }
}

/// Whether the answer or the deadline is seen first is up to chance.
pub(crate) fn calls_that_may_take_no_time_leave_nothing_behind(world: World) {
    const COUNT: u32 = 20;
    let mut client = world.connect();
    let (channel, name) = (client.channel(), world.name("queue"));
    client.declare(channel, &durable(&name)).unwrap();
    for number in 0..COUNT {
        client.send(channel, &name, number.to_be_bytes());
    }
    let (mut hasty, theirs) = hasty(&world);
    // Without an answer, which could be late.
    hasty
        .on(theirs, |view| view.send_nowait(&ConfirmSelect::default()))
        .unwrap();
    let get = BasicGet {
        queue: short(&name),
        ..Default::default()
    };
    let over = Told::new();
    for _ in 0..COUNT {
        hasty.on(theirs, |view| {
            let got = over.clone();
            view.get(&get, move |ctx, channel, result| {
                // They may all be on their way back.
                if let Ok(Some(got)) = &result {
                    ctx.channel(channel).unwrap().nack(got.tag, true).unwrap();
                }
                got.tell(ctx, result.map(drop));
            })
            .unwrap();
            let started = over.clone();
            let give_back = |ctx: &mut Ctx<'_, ()>, channel, delivery: Delivery| {
                ctx.channel(channel).unwrap().nack(delivery.tag, true).unwrap();
            };
            view.consume_then(&from(&name), give_back, move |ctx, channel, result| {
                if let Ok(consumer) = result {
                    let mut view = ctx.channel(channel).unwrap();
                    view.cancel(consumer, |_, _, _| {}).unwrap();
                }
                started.tell(ctx, result.map(drop));
            })
            .unwrap();
        });
        for _ in 0..2 {
            if let Err(error) = hasty.wait(&over) {
                assert_eq!(error, RequestError::Timeout);
            }
        }
    }
    // Behind the first all answers have come, and what they began is cancelled; behind the second it has ended.
    for number in COUNT..COUNT + 2 {
        hasty.send(theirs, &name, number.to_be_bytes());
    }
    let consumer = client.consume(channel, &from(&name)).unwrap();
    let mut numbers = Vec::new();
    for _ in 0..COUNT + 2 {
        let delivery = client.wait(&consumer.deliveries);
        let body = delivery.message.body().to_vec();
        numbers.push(u32::from_be_bytes(body.try_into().unwrap()));
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT + 2).collect::<Vec<_>>());
    client.cancel(channel, consumer.id);
    let delete = QueueDelete {
        queue: short(&name),
        if_unused: true,
        if_empty: true,
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    hasty.close();
    client.close();
}

pub(crate) fn a_time_without_end_is_one(world: World) {
    let endless = Duration::MAX;
    let mut client = world.connect_with(|config| {
        let config = config.request_timeout(endless).close_timeout(endless);
        config
            .handshake_timeout(endless)
            .blocked_connection_timeout(Some(endless))
    });
    let (channel, queue) = client.queue();
    client.send(channel, &queue, "x");
    assert_eq!(client.purge(channel, &queue), 1);
    client.close();
}

pub(crate) fn a_close_that_may_take_no_time_waits_for_nothing(world: World) {
    let mut client = world.connect_with(|config| config.close_timeout(Duration::ZERO));
    let channel = client.channel();
    client.connection(|view| view.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"));
    let reason = client.closed();
    assert!(matches!(reason, CloseReason::Requested { .. }), "{reason:?}");
    let mut ctx = client.event_loop().context();
    assert_eq!(ctx.channel(channel).map(drop), Err(SendError::Closed));
}

pub(crate) fn a_message_over_our_limit_ends_its_channel_and_no_other(world: World) {
    let mut client = world.connect_with(|config| config.max_message_size(1000));
    let (channel, queue) = client.queue();
    for size in [1000, 1001] {
        client.send(channel, &queue, vec![0; size]);
    }
    let other = client.channel();
    let closed = client.on_channel_close(other);
    let consumer = client.consume(other, &from(&queue)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec().len(), 1000);
    let reason = client.wait(&closed);
    let ChannelCloseReason::ContentTooLarge { size, limit } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!((size, limit), (1001, 1000));
    unsettled(&mut client, channel);
    client.close();
}
