//! What a program gets wrong: it is told at the call, nothing is written, and all else goes on.

use std::time::Duration;

use amqp_async::proto::wire::{QueueDeclare, ReplyCode};
use amqp_async::proto::{ChannelCloseReason, CloseReason, DeliveryTag, Secret, SendError};
use amqp_async::{
    Channel, ChannelOptions, ConnectionEvent, ConsumeOptions, ConsumerEnd, Error, ExchangeKind, Message,
    PublishError, Qos,
};

use super::{World, close};

/// A message of its own, which was not settled; none but it are in the queue.
async fn unsettled(channel: &Channel) -> DeliveryTag {
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    channel
        .default_exchange()
        .publish("x", queue.name())
        .await
        .unwrap();
    let delivery = queue.get().await.unwrap().unwrap();
    delivery.into_message().0
}

fn is_refused<T>(result: &Result<T, Error>, expected: &SendError) -> bool {
    matches!(result, Err(Error::Refused(error)) if error == expected)
}

pub(crate) async fn a_closed_connection_takes_no_calls(world: World) {
    let connection = world.connect().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("x", queue.name()).await.unwrap();
    let delivery = queue.get().await.unwrap().unwrap();
    let tag = delivery.tag();
    let mut consumer = queue.consume().await.unwrap();
    close(&connection).await;
    let sent = connection.counters().octets_sent;

    let reason = CloseReason::Requested { acknowledged: true };
    let error = Error::ConnectionClosed(reason.clone());
    assert_eq!(connection.channel().await.unwrap_err(), error);
    assert_eq!(channel.declare_queue("").await.unwrap_err(), error);
    let direct = ExchangeKind::Direct;
    assert_eq!(channel.declare_exchange("x", direct).await.unwrap_err(), error);
    assert_eq!(
        channel.request(&QueueDeclare::default()).await.unwrap_err(),
        error
    );
    assert_eq!(channel.set_qos(Qos::prefetch(1)).await.unwrap_err(), error);
    assert_eq!(channel.tx_select().await.unwrap_err(), error);
    assert_eq!(channel.basic_ack(tag, true).unwrap_err(), error);
    assert_eq!(queue.consume().await.unwrap_err(), error);
    assert_eq!(queue.get().await.unwrap_err(), error);
    assert_eq!(delivery.ack().await.unwrap_err(), error);
    let secret = Secret::from("secret");
    assert_eq!(
        connection.update_secret(&secret, "it is old").await.unwrap_err(),
        error
    );
    let not_sent = exchange.publish("x", queue.name()).await.unwrap_err();
    assert_eq!(not_sent, PublishError::NotSent(error.clone()));
    // It was closed before the connection was, as if that had been asked for.
    channel.close().await.unwrap();

    let end = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(end, ConsumerEnd::Channel(ChannelCloseReason::Requested));
    assert_eq!(consumer.cancel().await.unwrap_err(), error);
    assert_eq!(
        connection.events().next().await,
        Some(ConnectionEvent::Closed(reason))
    );
    close(&connection).await; // It says again how it ended.
    assert_eq!(connection.counters().octets_sent, sent);
}

pub(crate) async fn a_message_that_fits_no_frame_is_refused_at_the_call(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let connection = queue.channel().connection();
    let long = "n".repeat(256);
    let too_much = "v".repeat(usize::try_from(connection.negotiated().frame_max).unwrap());
    let sent = connection.counters().octets_sent;
    let messages = [
        Message::new("x").header(&long, "value"),
        Message::new("x").header("name", too_much.as_str()),
        Message::new("x").correlation_id(&long),
        Message::new("x").reply_to(long),
    ];
    for message in messages {
        let error = exchange.publish(message, queue.name()).await.unwrap_err();
        assert!(
            matches!(error, PublishError::NotSent(Error::Refused(_))),
            "{error:?}"
        );
    }
    assert_eq!(connection.counters().octets_sent, sent);
    exchange.publish("it goes on", queue.name()).await.unwrap();
    assert_eq!(queue.purge().await.unwrap(), 1);
    close(connection).await;
}

pub(crate) async fn numbers_and_tags_that_are_in_use_are_refused_at_the_call(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let connection = channel.connection();
    let options = ConsumeOptions::default().tag("taken");
    let consumer = queue.consume_with(options.clone()).await.unwrap();
    let sent = connection.counters().octets_sent;
    let again = queue.consume_with(options).await;
    assert!(is_refused(&again, &SendError::ConsumerTagInUse), "{again:?}");
    let channel_max = connection.negotiated().channel_max;
    let wrong = |number| SendError::ChannelNumber { number, channel_max };
    let numbers = [
        (channel.number(), SendError::ChannelInUse(channel.number())),
        (0, wrong(0)),
        (channel_max + 1, wrong(channel_max + 1)),
    ];
    for (number, expected) in numbers {
        let refused = connection
            .channel_with(ChannelOptions::default().number(number))
            .await;
        assert!(is_refused(&refused, &expected), "{refused:?}");
    }
    assert_eq!(connection.counters().octets_sent, sent);
    consumer.cancel().await.unwrap();
    close(connection).await;
}

pub(crate) async fn tags_of_no_delivery_of_the_channel_are_refused_at_the_call(world: World) {
    let channel = world.channel().await;
    let connection = channel.connection();
    let other = connection.channel().await.unwrap();
    let tag = unsettled(&channel).await;
    let sent = connection.counters().octets_sent;
    for number in [0, 2, u64::MAX] {
        let unknown = DeliveryTag::new(tag.channel(), number);
        let refused = channel.basic_ack(unknown, false);
        assert!(
            is_refused(&refused, &SendError::UnknownDelivery(number)),
            "{refused:?}"
        );
    }
    let refused = other.basic_nack(tag, true, true);
    assert!(is_refused(&refused, &SendError::Stale), "{refused:?}");
    assert_eq!(connection.counters().octets_sent, sent);
    channel.basic_ack(tag, false).unwrap();
    close(connection).await;
}

/// Handles settle once; this takes tags.
pub(crate) async fn what_is_settled_twice_ends_its_channel_which_is_told_the_tag(world: World) {
    let channel = world.channel().await;
    let connection = channel.connection();
    let other = connection.channel().await.unwrap();
    let tag = unsettled(&channel).await;
    channel.basic_ack(tag, false).unwrap();
    channel.basic_reject(tag, true).unwrap();
    let reason = channel.closed().await;
    let ChannelCloseReason::Peer(peer) = &reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert_eq!(&*peer.text, "PRECONDITION_FAILED - unknown delivery tag 1");
    assert_eq!(
        channel.basic_ack(tag, false).unwrap_err(),
        Error::ChannelClosed(reason)
    );
    other.declare_queue("").exclusive(true).await.unwrap();
    close(connection).await;
}

/// Whether the answer or the deadline is seen first is up to chance.
pub(crate) async fn calls_that_may_take_no_time_leave_nothing_behind(world: World) {
    const COUNT: u32 = 20;
    let queue = world.queue().await;
    let channel = queue.channel();
    for number in 0..COUNT {
        let body = number.to_be_bytes().to_vec();
        channel
            .default_exchange()
            .publish(body, queue.name())
            .await
            .unwrap();
    }
    let hasty = channel.with_timeout(Duration::ZERO);
    for _ in 0..COUNT {
        match hasty.queue(queue.name()).get().await {
            // They may all be on their way back.
            Ok(None) => {}
            Ok(Some(delivery)) => delivery.nack(true).await.unwrap(),
            Err(error) => assert_eq!(error, Error::Timeout),
        }
        if let Err(error) = hasty.queue(queue.name()).consume().await {
            assert_eq!(error, Error::Timeout);
        }
    }
    // Each call gets its own answer, and each message is there again.
    let mut consumer = queue.consume().await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..COUNT {
        let delivery = consumer.next().await.unwrap().unwrap();
        numbers.push(u32::from_be_bytes((*delivery.body()).try_into().unwrap()));
        delivery.ack().await.unwrap();
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(queue.purge().await.unwrap(), 0);
    close(channel.connection()).await;
}

pub(crate) async fn a_time_without_end_is_one(world: World) {
    let endless = Duration::MAX;
    let connection = world
        .connect_with(|config| {
            let config = config.request_timeout(endless).close_timeout(endless);
            config
                .handshake_timeout(endless)
                .blocked_connection_timeout(Some(endless))
        })
        .await;
    let channel = connection.channel().await.unwrap().with_timeout(endless);
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    channel
        .default_exchange()
        .publish("x", queue.name())
        .await
        .unwrap();
    assert_eq!(queue.purge().await.unwrap(), 1);
    close(&connection).await;
}

pub(crate) async fn a_close_that_may_take_no_time_waits_for_nothing(world: World) {
    let connection = world
        .connect_with(|config| config.close_timeout(Duration::ZERO))
        .await;
    let channel = connection.channel().await.unwrap();
    let report = connection.close().await;
    assert!(
        matches!(report.reason, CloseReason::Requested { .. }),
        "{report:?}"
    );
    assert_eq!(
        channel.set_qos(Qos::prefetch(1)).await.unwrap_err(),
        Error::ConnectionClosed(report.reason)
    );
}

pub(crate) async fn a_message_over_our_limit_ends_its_channel_and_no_other(world: World) {
    let connection = world.connect_with(|config| config.max_message_size(1000)).await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    for size in [1000, 1001] {
        channel
            .default_exchange()
            .publish(vec![0; size], queue.name())
            .await
            .unwrap();
    }
    let other = connection.channel().await.unwrap();
    // One after the other: what waits when a channel ends is not handed out any more.
    other.set_qos(Qos::prefetch(1)).await.unwrap();
    let mut consumer = other.queue(queue.name()).consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(delivery.body().len(), 1000);
    delivery.ack().await.unwrap();
    let end = consumer.next().await.unwrap().unwrap_err();
    let ConsumerEnd::Channel(ChannelCloseReason::ContentTooLarge { size, limit }) = end else {
        panic!("{end:?}");
    };
    assert_eq!((size, limit), (1001, 1000));
    other.closed().await;
    channel.set_qos(Qos::prefetch(1)).await.unwrap();
    close(&connection).await;
}
