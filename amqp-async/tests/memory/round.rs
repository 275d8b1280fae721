//! What a program does mostly, and how it learns that it cannot.

use std::time::Duration;

use amqp_async::{ChannelOptions, Error, ExchangeKind, Message, PublishError};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, CloseReason, Credentials, SendError};

use crate::world::{config, everywhere};

#[test]
fn a_message_goes_out_and_comes_back() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let exchange = channel
            .declare_exchange("orders", ExchangeKind::Topic)
            .await
            .unwrap();
        let queue = channel.declare_queue("new").await.unwrap();
        queue.bind(&exchange, "order.*").await.unwrap();
        let message = Message::new("one").content_type("text/plain").priority(3);
        exchange.publish(message, "order.new").await.unwrap();
        assert_eq!(world.queue_len("new"), 1);
        assert_eq!(channel.unconfirmed(), 0);

        let mut consumer = queue.consume().await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), *b"one");
        let properties = delivery.properties();
        assert_eq!(
            properties.content_type.map(|text| text.to_string()).as_deref(),
            Some("text/plain")
        );
        assert_eq!(properties.priority, Some(3));
        assert!(!delivery.is_redelivered());
        delivery.ack().await.unwrap();
        consumer.cancel().await.unwrap();
        assert_eq!(world.consumer_count("new"), 0);
        assert_eq!(queue.delete_if(true, true).await.unwrap(), 0);
        channel.close().await.unwrap();
        let report = connection.close().await;
        assert_eq!(report.unconfirmed, 0);
        assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    });
}

#[test]
fn a_queue_without_a_name_gets_the_brokers() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        assert!(queue.name().starts_with("amq.gen-"), "{queue:?}");
        assert_eq!(world.broker(|broker, _| broker.queues("/")), [queue.name()]);
        channel
            .default_exchange()
            .publish("x", queue.name())
            .await
            .unwrap();
        let again = channel.declare_queue(queue.name()).passive(true).await.unwrap();
        assert_eq!(
            (again.message_count(), again.consumer_count()),
            (Some(1), Some(0))
        );
    });
}

#[test]
fn get_takes_one_message_or_says_that_there_is_none() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        assert!(queue.get().await.unwrap().is_none());
        for text in ["a", "b"] {
            channel.default_exchange().publish(text, "q").await.unwrap();
        }
        let first = queue.get().await.unwrap().unwrap();
        assert_eq!(*first.body(), *b"a");
        let second = queue.get_with(true).await.unwrap().unwrap();
        assert_eq!(*second.body(), *b"b");
        assert!(queue.get().await.unwrap().is_none());
        first.nack(true).await.unwrap();
        drop(second); // It needs no acknowledgement, so it is gone.
        let back = queue.get().await.unwrap().unwrap();
        assert!(back.is_redelivered());
        back.ack().await.unwrap();
        assert_eq!(queue.delete_if(true, true).await.unwrap(), 0);
    });
}

#[test]
fn a_mandatory_message_that_no_queue_gets_comes_back() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let exchange = channel.default_exchange();
        let error = exchange.publish("lost", "nowhere").await.unwrap_err();
        let PublishError::Returned(returned) = error else {
            panic!("{error:?}");
        };
        assert_eq!(
            (returned.code, &*returned.text),
            (ReplyCode::NO_ROUTE, "NO_ROUTE")
        );
        assert_eq!(*returned.message.body(), *b"lost");
        exchange.publish_optional("lost", "nowhere").await.unwrap();
        assert_eq!(channel.unconfirmed(), 0);
    });
}

#[test]
fn a_message_that_the_broker_refuses_is_nacked() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        world.broker(|broker, _| broker.nack_publishes(1));
        let exchange = channel.default_exchange();
        assert_eq!(exchange.publish("a", "q").await, Err(PublishError::Nacked));
        assert_eq!(exchange.publish("b", "q").await, Ok(()));
        assert_eq!(world.queue_len("q"), 1);
    });
}

#[test]
fn a_publish_to_no_exchange_is_lost_and_other_channels_live_on() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let other = connection.channel().await.unwrap();
        let error = channel.exchange("nope").publish("x", "k").await.unwrap_err();
        let peer = error.peer().expect("the broker said why").clone();
        assert!(matches!(
            &error,
            PublishError::Lost(Error::ChannelClosed(ChannelCloseReason::Peer(_)))
        ));
        assert_eq!(peer.code, ReplyCode::NOT_FOUND);
        assert_eq!(&*peer.text, "NOT_FOUND - no exchange 'nope' in vhost '/'");
        assert!(!channel.is_open());
        let refused = channel.exchange("nope").publish("x", "k").await.unwrap_err();
        assert!(
            matches!(&refused, PublishError::NotSent(Error::ChannelClosed(_))),
            "{refused:?}"
        );
        assert_eq!(refused.peer(), Some(&peer));
        other.declare_queue("q").await.unwrap();
        other.default_exchange().publish("x", "q").await.unwrap();
        assert_eq!(channel.closed().await.peer(), Some(&peer));
        assert_eq!(world.queue_len("q"), 1);
    });
}

#[test]
fn a_refused_request_tells_the_brokers_words() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").durable(true).await.unwrap();
        let error = channel
            .declare_queue("q")
            .durable(true)
            .auto_delete(true)
            .await
            .unwrap_err();
        let peer = error.peer().expect("the broker said why");
        assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
        assert!(
            peer.text.starts_with("PRECONDITION_FAILED - inequivalent arg"),
            "{peer}"
        );
        assert_eq!(peer.method.map(|id| (id.class, id.method)), Some((50, 10)));
        assert!(matches!(error, Error::ChannelClosed(ChannelCloseReason::Peer(_))));
    });
}

#[test]
fn a_wrong_password_is_told_as_such() {
    everywhere(async |world| {
        let config = config().credentials(Credentials::plain("guest", "wrong"));
        let error = world.start(config).ready().await.unwrap_err();
        let CloseReason::AuthRefused { peer: Some(peer) } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
        assert!(!format!("{error:?}").contains("wrong"));
    });
}

#[test]
fn an_unknown_virtual_host_is_told_as_such() {
    everywhere(async |world| {
        let connection = world.start(config().virtual_host("mars"));
        let Err(reason) = connection.ready().await else {
            panic!("{connection:?}");
        };
        assert!(reason.is_permanent());
        let peer = reason.peer().unwrap();
        assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
        assert!(peer.text.contains("vhost mars not found"), "{peer}");
        assert_eq!(
            connection.channel().await.unwrap_err(),
            Error::ConnectionClosed(reason)
        );
    });
}

#[test]
fn a_channel_number_can_be_chosen_if_it_is_free() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let seven = connection
            .channel_with(ChannelOptions::default().number(7))
            .await
            .unwrap();
        assert_eq!((channel.number(), seven.number()), (1, 7));
        let again = connection
            .channel_with(ChannelOptions::default().number(7))
            .await
            .unwrap_err();
        assert_eq!(again, Error::Refused(SendError::ChannelInUse(7)));
        seven.close().await.unwrap();
        connection
            .channel_with(ChannelOptions::default().number(7))
            .await
            .unwrap();
    });
}

#[test]
fn a_channel_without_confirms_publishes_at_once_and_can_have_transactions() {
    everywhere(async |world| {
        let (connection, confirming) = world.channel().await;
        let channel = connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await
            .unwrap();
        confirming.declare_queue("q").await.unwrap();
        channel.tx_select().await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        channel.tx_rollback().await.unwrap();
        channel.default_exchange().publish("b", "q").await.unwrap();
        assert_eq!(world.queue_len("q"), 0);
        channel.tx_commit().await.unwrap();
        assert_eq!(world.queue_len("q"), 1);
        // A channel cannot have both.
        let error = confirming.tx_select().await.unwrap_err();
        assert_eq!(
            error.peer().map(|peer| peer.code),
            Some(ReplyCode::PRECONDITION_FAILED)
        );
    });
}

#[test]
fn a_deleted_queue_ends_its_consumer_behind_what_it_got() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        world.idle().await;
        queue.delete().await.unwrap();
        world.idle().await;
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), *b"a");
        assert_eq!(
            consumer.next().await.unwrap().unwrap_err(),
            amqp_async::ConsumerEnd::CancelledByBroker
        );
        assert!(consumer.next().await.is_none());
    });
}

#[test]
fn a_message_may_say_when_it_expires() {
    let elapsed = crate::world::in_time(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let message = Message::new("a").expiration(Duration::from_secs(5));
        channel.default_exchange().publish(message, "q").await.unwrap();
        world.sleep(Duration::from_secs(6)).await;
        assert!(queue.get().await.unwrap().is_none());
    });
    assert_eq!(elapsed, Duration::from_secs(6));
}

#[test]
fn a_lost_publish_is_not_taken_for_confirmed_when_the_channels_number_is_used_again() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let confirm = channel.exchange("nope").publish_deferred("x", "k").await.unwrap();
        channel.closed().await;
        let again = connection
            .channel_with(ChannelOptions::default().number(channel.number()))
            .await
            .unwrap();
        again.default_exchange().publish_optional("y", "k").await.unwrap();
        let error = confirm.await.unwrap_err();
        assert_eq!(error.peer().map(|peer| peer.code), Some(ReplyCode::NOT_FOUND));
        drop(channel);
        again.declare_queue("q").await.unwrap();
    });
}
