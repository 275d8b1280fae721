//! What a publish does while the broker takes none, what a connection tells its watchers, and batches.

use std::time::Duration;

use amqp_async::{Batch, BlockedPolicy, ChannelOptions, ConnectionEvent, Error, PublishError};
use amqp_proto::CloseReason;

use crate::world::{World, everywhere, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// The broker takes nothing more, and has said so; it does that when a client publishes.
async fn block(world: &World, connection: &amqp_async::Connection) {
    world.broker(|broker, _| broker.block("low on memory"));
    let channel = connection.channel().await.unwrap();
    channel
        .default_exchange()
        .publish_unconfirmed("the last straw", "q")
        .await
        .unwrap();
    world.idle().await;
    assert_eq!(connection.blocked().as_deref(), Some("low on memory"));
}

fn is_blocked(error: &PublishError) -> bool {
    matches!(error, PublishError::NotSent(Error::Blocked { reason }) if &**reason == "low on memory")
}

#[test]
fn a_blocked_publish_fails_at_once_or_after_a_while_or_waits_as_it_was_told() {
    let elapsed = in_time(async |world| {
        let connection = world.connect().await;
        let channel_with = async |policy| {
            let options = ChannelOptions::default().blocked(policy);
            connection.channel_with(options).await.unwrap().default_exchange()
        };
        let fails = channel_with(BlockedPolicy::Fail).await;
        let hesitates = channel_with(BlockedPolicy::Timeout(3 * SECOND)).await;
        let waits = channel_with(BlockedPolicy::Wait).await;
        fails.channel().declare_queue("q").await.unwrap();
        block(world, &connection).await;

        assert!(is_blocked(&fails.publish("x", "q").await.unwrap_err()));
        assert_eq!(world.elapsed(), Duration::ZERO);
        assert!(is_blocked(&hesitates.publish("x", "q").await.unwrap_err()));
        assert_eq!(world.elapsed(), 3 * SECOND);
        let waiting = world.spawn_with_result(async move { waits.publish("x", "q").await });
        world.sleep(SECOND).await;
        world.broker(|broker, now| broker.unblock(now));
        world.idle().await;
        assert_eq!(*waiting.lock().unwrap(), Some(Ok(())));
        fails.publish("x", "q").await.unwrap();
        hesitates.publish("x", "q").await.unwrap();
        assert_eq!(world.queue_len("q"), 4);
    });
    assert_eq!(elapsed, 4 * SECOND);
}

#[test]
fn watchers_are_told_what_happens_to_a_connection_up_to_its_end() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let mut events = connection.events();
        block(world, &connection).await;
        world.broker(|broker, now| broker.unblock(now));
        let reason = "low on memory".into();
        assert_eq!(events.next().await, Some(ConnectionEvent::Blocked { reason }));
        assert_eq!(events.next().await, Some(ConnectionEvent::Unblocked));
        connection.close().await;
        let closed = ConnectionEvent::Closed(CloseReason::Requested { acknowledged: true });
        assert_eq!(events.next().await, Some(closed.clone()));
        assert_eq!(events.next().await, None);
        // Who comes too late learns that it has ended.
        let mut late = connection.events();
        assert_eq!(late.next().await, Some(closed));
        assert_eq!(late.next().await, None);
    });
}

#[test]
fn a_batch_tells_of_each_of_its_publishes_and_of_no_other() {
    everywhere(async |world| {
        let (_connection, channel) = world.channel().await;
        channel.declare_queue("q").await.unwrap();
        let exchange = channel.default_exchange();
        let mut batch = Batch::new();
        let mut other = Batch::new();
        assert!(batch.is_empty());
        world.broker(|broker, _| broker.nack_publishes(2));
        for number in 0..10_u8 {
            let routing_key = if number % 5 == 4 { "nowhere" } else { "q" };
            let body = vec![number];
            batch.push(exchange.publish_deferred(body, routing_key).await.unwrap());
            other.extend([exchange.publish_deferred("other", "q").await.unwrap()]);
        }
        assert_eq!(batch.len(), 10);
        let (report, others) = (batch.wait().await, other.wait().await);
        let values = |tags: &[amqp_proto::ConfirmTag]| tags.iter().map(|tag| tag.value()).collect::<Vec<_>>();
        assert_eq!(
            (values(&report.nacked), values(&others.nacked)),
            (vec![1], vec![2])
        );
        let returned = report
            .returned
            .iter()
            .map(|(tag, message)| (tag.value(), message.message.body().into_owned()));
        assert_eq!(returned.collect::<Vec<_>>(), [(9, vec![4]), (19, vec![9])]);
        assert_eq!((report.confirmed, others.confirmed), (7, 9));
        assert!(report.lost.is_empty() && !report.is_complete());

        let lost: Batch = [channel
            .exchange("none")
            .publish_deferred("lost", "q")
            .await
            .unwrap()]
        .into_iter()
        .collect();
        let report = lost.wait().await;
        let [(tag, Error::ChannelClosed(_))] = &report.lost[..] else {
            panic!("{report:?}");
        };
        assert_eq!(tag.value(), 21);
        assert!(Batch::new().wait().await.is_complete());
    });
}
