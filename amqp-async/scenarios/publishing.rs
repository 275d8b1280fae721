//! Publishing, and learning what became of it.

use std::time::{Duration, SystemTime};

use amqp_async::proto::ConfirmLimits;
use amqp_async::proto::wire::ReplyCode;
use amqp_async::{ChannelOptions, Confirm, ConsumeOptions, FieldTable, Message, PublishError};

use super::{World, close};

pub(crate) async fn a_message_is_confirmed_delivered_and_acknowledged(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    exchange.publish("Hello", queue.name()).await.unwrap();
    assert_eq!(channel.unconfirmed(), 0);

    let mut consumer = queue.consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*delivery.body(), b"Hello");
    assert_eq!(delivery.routing_key().as_bytes(), queue.name().as_bytes());
    assert!(delivery.exchange().is_empty());
    assert!(!delivery.is_redelivered());
    delivery.ack().await.unwrap();
    consumer.cancel().await.unwrap();
    assert!(queue.get().await.unwrap().is_none());
    close(channel.connection()).await;
}

pub(crate) async fn a_mandatory_message_that_no_queue_gets_comes_back(world: World) {
    let channel = world.channel().await;
    let exchange = channel.default_exchange();
    let error = exchange
        .publish("nobody", &world.name("nowhere"))
        .await
        .unwrap_err();
    let PublishError::Returned(returned) = error else {
        panic!("{error:?}");
    };
    assert_eq!(returned.code, ReplyCode::NO_ROUTE);
    assert_eq!(returned.text, "NO_ROUTE");
    assert_eq!(&*returned.message.body(), b"nobody");
    // And the channel goes on.
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    exchange.publish("somebody", queue.name()).await.unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn an_optional_message_that_no_queue_gets_is_confirmed(world: World) {
    let channel = world.channel().await;
    let exchange = channel.default_exchange();
    exchange
        .publish_optional("nobody", &world.name("nowhere"))
        .await
        .unwrap();
    close(channel.connection()).await;
}

pub(crate) async fn every_property_arrives(world: World) {
    let queue = world.queue().await;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let message = Message::new("body")
        .content_type("text/plain")
        .content_encoding("identity")
        .header("text", "value")
        .header("number", 7_i64)
        .persistent()
        .priority(3)
        .correlation_id("correlation")
        .reply_to("reply")
        .expiration(Duration::from_secs(3600))
        .message_id("id")
        .timestamp(now)
        .message_type("kind")
        .user_id("guest")
        .app_id("app");
    let exchange = queue.channel().default_exchange();
    exchange.publish(message, queue.name()).await.unwrap();
    let delivery = queue.get().await.unwrap().unwrap();
    let properties = delivery.properties();
    let text = |text: Option<amqp_async::proto::wire::ShortStr<'_>>| text.unwrap().to_string();
    assert_eq!(text(properties.content_type), "text/plain");
    assert_eq!(text(properties.content_encoding), "identity");
    assert_eq!(properties.delivery_mode, Some(2));
    assert_eq!(properties.priority, Some(3));
    assert_eq!(text(properties.correlation_id), "correlation");
    assert_eq!(text(properties.reply_to), "reply");
    assert_eq!(text(properties.expiration), "3600000");
    assert_eq!(text(properties.message_id), "id");
    assert_eq!(properties.timestamp, Some(1_700_000_000));
    assert_eq!(text(properties.message_type), "kind");
    assert_eq!(text(properties.user_id), "guest");
    assert_eq!(text(properties.app_id), "app");
    let headers = properties.headers.unwrap();
    assert_eq!(headers.get("text").unwrap().unwrap().as_str(), Some("value"));
    assert_eq!(headers.get("number").unwrap().unwrap().as_i64(), Some(7));
    delivery.ack().await.unwrap();
    close(queue.channel().connection()).await;
}

pub(crate) async fn bodies_of_any_size_arrive(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let frame = usize::try_from(queue.channel().connection().negotiated().frame_max).unwrap();
    for size in [0, 1, 4095, 4096, frame - 8, frame - 7, 1_000_000] {
        let octet = |place: usize| u8::try_from(place % 251).unwrap();
        let body: Vec<u8> = (0..size).map(octet).collect();
        exchange.publish(body.clone(), queue.name()).await.unwrap();
        let delivery = queue.get_with(true).await.unwrap().unwrap();
        assert!(*delivery.body() == *body, "{size} octets");
    }
    close(queue.channel().connection()).await;
}

/// Every fifth goes nowhere and comes back.
pub(crate) async fn of_4000_pipelined_publishes_each_learns_its_own_outcome(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let nowhere = world.name("nowhere");
    let mut confirms: Vec<(u32, Confirm)> = Vec::new();
    for number in 0..4000_u32 {
        let routing_key = if number % 5 == 4 {
            &*nowhere
        } else {
            &*queue.name()
        };
        let message = number.to_be_bytes().to_vec();
        let confirm = exchange.publish_deferred(message, routing_key).await.unwrap();
        confirms.push((number, confirm));
    }
    let mut returned = 0;
    for (number, confirm) in confirms {
        match confirm.await {
            Ok(()) => assert_ne!(number % 5, 4),
            Err(PublishError::Returned(message)) => {
                assert_eq!(number % 5, 4);
                assert_eq!(*message.message.body(), number.to_be_bytes());
                returned += 1;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(returned, 800);
    assert_eq!(queue.purge().await.unwrap(), 3200);
    close(queue.channel().connection()).await;
}

/// One thread's messages fit its queue, the other one's queue is full and refuses them.
pub(crate) async fn two_threads_on_one_channel_never_mix_up_their_confirms(world: World) {
    const COUNT: u32 = 20_000;
    let channel = world.channel().await;
    let taken = channel.declare_queue("").exclusive(true).await.unwrap();
    let full = FieldTable::new()
        .with("x-max-length", 1_i64)
        .and_then(|table| table.with("x-overflow", "reject-publish"))
        .unwrap();
    let full = channel
        .declare_queue("")
        .exclusive(true)
        .arguments(full)
        .await
        .unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("the only one", full.name()).await.unwrap();

    let publish_all = |routing_key: String, is_taken: bool| {
        let exchange = exchange.clone();
        async move {
            let mut confirms = std::collections::VecDeque::new();
            let mut mismatches = 0;
            for number in 0..COUNT {
                let message = number.to_be_bytes().to_vec();
                confirms.push_back(exchange.publish_deferred(message, &routing_key).await.unwrap());
                if confirms.len() == 500 {
                    let outcome = confirms.pop_front().unwrap().await;
                    mismatches += u32::from((outcome == Ok(())) != is_taken);
                }
            }
            for confirm in confirms {
                mismatches += u32::from((confirm.await == Ok(())) != is_taken);
            }
            mismatches
        }
    };
    let acked = crate::runtime::thread(publish_all(taken.name().into(), true));
    let nacked = crate::runtime::thread(publish_all(full.name().into(), false));
    assert_eq!(acked.await, 0);
    assert_eq!(nacked.await, 0);
    assert_eq!(taken.purge().await.unwrap(), COUNT);
    close(channel.connection()).await;
}

pub(crate) async fn a_publish_without_confirms_is_done_when_it_is_written(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().without_confirms();
    let channel = connection.channel_with(options).await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    for _ in 0..1000 {
        exchange.publish("quick", queue.name()).await.unwrap();
    }
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await.unwrap();
    for _ in 0..1000 {
        drop(consumer.next().await.unwrap().unwrap());
    }
    close(&connection).await;
}

pub(crate) async fn a_transaction_counts_when_it_is_committed(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().without_confirms();
    let channel = connection.channel_with(options).await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    channel.tx_select().await.unwrap();
    exchange.publish("taken back", queue.name()).await.unwrap();
    channel.tx_rollback().await.unwrap();
    exchange.publish("counts", queue.name()).await.unwrap();
    assert!(queue.get().await.unwrap().is_none());
    channel.tx_commit().await.unwrap();
    let delivery = queue.get().await.unwrap().unwrap();
    assert_eq!(&*delivery.body(), b"counts");
    delivery.ack().await.unwrap();
    channel.tx_commit().await.unwrap();
    close(&connection).await;
}

pub(crate) async fn the_limit_of_unconfirmed_publishes_makes_others_wait(world: World) {
    let connection = world.connect().await;
    let limits = ConfirmLimits::default().count(10);
    let channel = connection
        .channel_with(ChannelOptions::default().limits(limits))
        .await
        .unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    let mut confirms = Vec::new();
    for _ in 0..1000 {
        confirms.push(
            exchange
                .publish_deferred("one of many", queue.name())
                .await
                .unwrap(),
        );
        assert!(channel.unconfirmed() <= 10);
    }
    for confirm in confirms {
        confirm.await.unwrap();
    }
    close(&connection).await;
}

pub(crate) async fn all_publishes_of_a_channel_are_waited_for(world: World) {
    let queue = world.queue().await;
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    for number in 0..100_u8 {
        match number % 10 {
            7 => drop(
                exchange
                    .publish_deferred(vec![number], &world.name("nowhere"))
                    .await
                    .unwrap(),
            ),
            _ => exchange
                .publish_unconfirmed(vec![number], queue.name())
                .await
                .unwrap(),
        }
    }
    let report = channel.wait_for_confirms().await;
    let returned = report
        .returned
        .iter()
        .map(|(tag, message)| (tag.value(), message.message.body().to_vec()));
    let expected = (0..10_u8).map(|ten| (u64::from(ten) * 10 + 8, vec![ten * 10 + 7]));
    assert_eq!(returned.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert_eq!((report.confirmed, report.unlisted, report.unsettled), (90, 0, 0));
    assert_eq!(
        queue.declare().passive(true).await.unwrap().message_count(),
        Some(90)
    );
    close(channel.connection()).await;
}

pub(crate) async fn what_comes_back_is_told_to_those_who_listen(world: World) {
    let connection = world.connect().await;
    let options = ChannelOptions::default().without_confirms();
    let channel = connection.channel_with(options).await.unwrap();
    let mut returns = channel.returns();
    let nowhere = world.name("nowhere");
    let message = Message::new("nobody").message_id("id");
    channel
        .default_exchange()
        .publish(message, &nowhere)
        .await
        .unwrap();
    let returned = returns.next().await.unwrap();
    assert_eq!(
        (returned.code, &*returned.text),
        (ReplyCode::NO_ROUTE, "NO_ROUTE")
    );
    assert_eq!(returned.message.routing_key().to_string(), nowhere);
    assert_eq!(&*returned.message.body(), b"nobody");
    let id = returned.message.properties().message_id.unwrap().to_string();
    assert_eq!((id.as_str(), returns.missed()), ("id", 0));
    close(&connection).await;
    assert!(returns.next().await.is_none());
}

pub(crate) async fn a_message_expires_at_its_moment(world: World) {
    let queue = world.queue().await;
    let exchange = queue.channel().default_exchange();
    let late = SystemTime::now() + Duration::from_secs(1000);
    for at in [SystemTime::UNIX_EPOCH, late] {
        let message = Message::new("x").expiration(at).timestamp(7);
        exchange.publish(message, queue.name()).await.unwrap();
    }
    // The first one had no time left.
    let delivery = queue.get().await.unwrap().unwrap();
    let expiration = delivery.properties().expiration.unwrap().to_string();
    let left: u64 = expiration.parse().unwrap();
    assert!((900_000..=1_000_000).contains(&left), "{left}");
    assert_eq!(delivery.properties().timestamp, Some(7));
    delivery.ack().await.unwrap();
    assert!(queue.get().await.unwrap().is_none());
    close(queue.channel().connection()).await;
}
