//! What is dropped leaves nothing behind at the broker, and who waits learns of the end.

use std::time::Duration;

use amqp_async::{ChannelOptions, ConsumerEnd, Error, Message, PublishError, QueueArguments};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, CloseReason};

use crate::world::{World, config, everywhere, in_time};

#[test]
fn a_dropped_consumer_is_cancelled_and_gives_back_what_it_did_not_take() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        for text in ["a", "b", "c"] {
            channel.default_exchange().publish(text, "q").await.unwrap();
        }
        let mut consumer = queue.consume().await.unwrap();
        let taken = consumer.next().await.unwrap().unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q"), 0);
        drop(consumer);
        world.idle().await;
        assert_eq!((world.consumer_count("q"), world.queue_len("q")), (0, 2));
        taken.ack().await.unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q"), 2);
    });
}

#[test]
fn a_dropped_delivery_goes_back_to_its_queue() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        drop(queue.get().await.unwrap().unwrap());
        world.idle().await;
        assert_eq!(world.queue_len("q"), 1);
        let again = queue.get().await.unwrap().unwrap();
        assert!(again.is_redelivered());
        let (tag, message) = again.into_message();
        assert_eq!(*message.body(), *b"a");
        world.idle().await;
        assert_eq!(world.queue_len("q"), 0);
        channel.basic_nack(tag, false, true).unwrap();
        world.idle().await;
        assert_eq!(world.queue_len("q"), 1);
    });
}

#[test]
fn a_dropped_delivery_is_dead_lettered_if_the_channel_s_options_say_so() {
    everywhere(async |world| {
        let connection = world.connect().await;
        let options = ChannelOptions::default().requeue_dropped(false);
        let channel = connection.channel_with(options).await.unwrap();
        let dead = channel.declare_queue("dead").await.unwrap();
        let arguments = QueueArguments::new()
            .dead_letter_exchange("")
            .dead_letter_routing_key("dead");
        let queue = channel.declare_queue("q").arguments(arguments).await.unwrap();
        for text in ["a", "b", "c"] {
            channel.default_exchange().publish(text, "q").await.unwrap();
        }
        drop(queue.get().await.unwrap().unwrap());
        let mut consumer = queue.consume().await.unwrap();
        drop(consumer.next().await.unwrap().unwrap());
        // What was never taken goes back all the same.
        consumer.cancel().await.unwrap();
        world.idle().await;
        assert_eq!((world.queue_len("q"), world.queue_len("dead")), (1, 2));
        assert_eq!(*dead.get().await.unwrap().unwrap().body(), *b"a");
    });
}

#[test]
fn the_last_handle_of_a_channel_closes_it() {
    everywhere(async |world| {
        let (connection, first) = world.channel().await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        channel.default_exchange().publish("a", "q").await.unwrap();
        let delivery = queue.get().await.unwrap().unwrap();
        drop(channel);
        drop(queue);
        world.idle().await;
        assert_eq!(world.broker_channels(), 2);
        drop(delivery);
        world.idle().await;
        assert_eq!((world.broker_channels(), world.queue_len("q")), (1, 1));
        assert!(first.is_open());
    });
}

#[test]
fn the_last_handle_of_a_connection_closes_it_in_order() {
    everywhere(async |world| {
        let connection = world.start_unkept(config());
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        drop((connection, channel));
        world.idle().await;
        assert_eq!(world.driver_end(0), None);
        drop(queue);
        world.idle().await;
        assert_eq!(
            world.driver_end(0),
            Some(CloseReason::Requested { acknowledged: true })
        );
    });
}

#[test]
fn the_last_handle_of_a_connection_closes_it_in_time_if_nobody_answers() {
    let elapsed = in_time(async |world| {
        let connection = world.start_unkept(config());
        connection.ready().await.unwrap();
        let channel = connection.channel().await.unwrap();
        world.set_mute(true);
        drop((connection, channel));
        world.sleep(config().close_timeout).await;
        world.idle().await;
        world.sleep(Duration::from_secs(2)).await;
        world.idle().await;
        assert_eq!(
            world.driver_end(0),
            Some(CloseReason::Requested { acknowledged: false })
        );
    });
    assert_eq!(elapsed, config().close_timeout + Duration::from_secs(2));
}

#[test]
fn a_detached_connection_goes_on_without_handles() {
    everywhere(async |world| {
        let connection = world.start_unkept(config());
        connection.ready().await.unwrap();
        connection.detach();
        drop(connection);
        world.idle().await;
        assert_eq!(
            (
                world.driver_end(0),
                world.broker(|broker, _| broker.connections().len())
            ),
            (None, 1)
        );
        let key = world.key();
        world.broker(|broker, now| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "bye"));
        world.idle().await;
        let Some(CloseReason::Peer(peer)) = world.driver_end(0) else {
            panic!("{:?}", world.driver_end(0));
        };
        assert_eq!(&*peer.text, "bye");
    });
}

/// Somebody waits for everything that can be waited for; then the connection ends in some way. All must learn it.
fn all_who_wait_learn(end: impl Fn(&World), is_why: impl Fn(&CloseReason) -> bool) {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        world.set_deaf(true);
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "q")
            .await
            .unwrap();
        let (ends, opens, asks) = (connection.clone(), connection.clone(), channel.clone());
        let (watches, gets) = (channel.clone(), queue.clone());
        let end_told = world.spawn_with_result(async move { ends.closed().await });
        let consumed = world.spawn_with_result(async move { consumer.next().await });
        let opened = world.spawn_with_result(async move { opens.channel().await.map(drop) });
        let limited = channel.with_timeout(Duration::from_secs(60));
        let asked = world.spawn_with_result(async move { asks.declare_queue("r").await.map(drop) });
        let asked_in_time =
            world.spawn_with_result(async move { limited.declare_queue("r").await.map(drop) });
        let got = world.spawn_with_result(async move { gets.get().await.map(drop) });
        let watched = world.spawn_with_result(async move { watches.closed().await });
        let confirmed = world.spawn_with_result(confirm);
        world.idle().await;
        end(world);
        world.idle().await;
        let reason = end_told.lock().unwrap().take().expect("closed() was told");
        assert!(is_why(&reason), "{reason:?}");
        for result in [opened, asked, asked_in_time, got] {
            let result = result.lock().unwrap().take().expect("the call was told");
            assert_eq!(result, Err(Error::ConnectionClosed(reason.clone())));
        }
        let told = confirmed.lock().unwrap().take().expect("the publisher was told");
        assert_eq!(
            told,
            Err(PublishError::Lost(Error::ConnectionClosed(reason.clone())))
        );
        let why = ChannelCloseReason::Connection(reason.clone());
        assert_eq!(watched.lock().unwrap().take(), Some(why.clone()));
        let last = consumed.lock().unwrap().take().expect("the consumer was told");
        assert_eq!(last.unwrap().unwrap_err(), ConsumerEnd::Channel(why));
        assert!(connection.is_closed());
        assert_eq!(queue.get().await.unwrap_err(), Error::ConnectionClosed(reason));
    });
}

#[test]
fn all_who_wait_learn_that_the_driver_was_dropped() {
    all_who_wait_learn(
        |world| world.drop_driver(0),
        |reason| reason.to_string().contains("was dropped"),
    );
}

#[test]
fn all_who_wait_learn_that_the_broker_hung_up() {
    all_who_wait_learn(
        |world| world.broker(|broker, now| broker.restart(now)),
        |reason| matches!(reason, CloseReason::Transport { .. }),
    );
}

#[test]
fn all_who_wait_learn_why_the_broker_closed_the_connection() {
    all_who_wait_learn(
        |world| {
            let key = world.key();
            world
                .broker(|broker, now| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "bye"));
            // Its end is only there when the client's answer is read.
            world.set_deaf(false);
        },
        |reason| reason.peer().is_some_and(|peer| &*peer.text == "bye"),
    );
}

#[test]
fn a_connection_that_is_closed_tells_all_who_wait() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let mut consumer = queue.consume().await.unwrap();
        let consumed = world.spawn_with_result(async move { consumer.next().await });
        let confirm = channel
            .default_exchange()
            .publish_deferred("x", "nowhere")
            .await
            .unwrap();
        let report = connection.close().await;
        assert_eq!(
            (report.unconfirmed, report.reason.clone()),
            (0, CloseReason::Requested { acknowledged: true })
        );
        assert!(matches!(confirm.await, Err(PublishError::Returned(_))));
        world.idle().await;
        let last = consumed
            .lock()
            .unwrap()
            .take()
            .expect("the consumer was told")
            .unwrap()
            .unwrap_err();
        assert!(matches!(last, ConsumerEnd::Channel(_)), "{last:?}");
        // Again is no harm.
        assert_eq!(connection.close().await.reason, report.reason);
        assert_eq!(channel.close().await, Ok(()));
    });
}

#[test]
fn a_connection_without_a_handshake_ends_when_it_is_dropped() {
    everywhere(async |world| {
        let connection = world.start_unkept(config());
        drop(connection);
        world.idle().await;
        assert_eq!(
            world.driver_end(0),
            Some(CloseReason::Requested { acknowledged: false })
        );
    });
}

#[test]
fn a_message_for_a_dead_channel_is_not_lost() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let queue = channel.declare_queue("q").await.unwrap();
        let message = Message::new("a").persistent();
        channel.default_exchange().publish(message, "q").await.unwrap();
        let delivery = queue.get().await.unwrap().unwrap();
        channel.declare_queue("nope").passive(true).await.unwrap_err();
        let error = delivery.ack().await.unwrap_err();
        assert_eq!(error.peer().map(|peer| peer.code), Some(ReplyCode::NOT_FOUND));
        let other = connection.channel().await.unwrap();
        let again = other.queue("q").get().await.unwrap().unwrap();
        assert!(again.is_redelivered());
        again.ack().await.unwrap();
    });
}
