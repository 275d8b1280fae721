//! Publishes that were under way when their channel was lost.

use std::time::Duration;

use amqp_async::{Connection, ConnectionEvent, Error, Events, PublishError, Recovery};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{Backoff, ConfirmTags, ReconnectPolicy};

use crate::world::{World, config};

const SECOND: Duration = Duration::from_secs(1);

/// After one second, then two and so on.
fn patient() -> Recovery {
    let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
    Recovery::new(ReconnectPolicy::new(backoff))
}

async fn connect(world: &World) -> Connection {
    let connection = world.start_recovering(config(), &patient());
    connection.ready().await.unwrap();
    connection
}

/// The broker ends the connection, and confirms at once on the next one.
fn close(world: &World) {
    let key = world.key();
    let code = ReplyCode::CONNECTION_FORCED;
    world.broker(|broker, now| {
        broker.delay_confirms(Duration::ZERO);
        broker.close_connection(key, now, code, "by the operator");
    });
}

async fn recovered(events: &mut Events) {
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::Recovered(report) => break assert!(report.is_complete(), "{report:?}"),
            ConnectionEvent::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
}

#[test]
fn what_was_not_confirmed_is_told_as_lost_with_its_cause_however_late_somebody_asks() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("q").durable(true).await.unwrap();
        let exchange = channel.default_exchange();
        let mut events = connection.events();
        for number in 1..=4 {
            exchange.publish(number.to_string(), "q").await.unwrap();
        }
        for loss in 0..2 {
            world.broker(|broker, _| broker.delay_confirms(99 * SECOND));
            for number in 0..3 {
                exchange
                    .publish_unconfirmed(number.to_string(), "q")
                    .await
                    .unwrap();
            }
            let deferred = exchange.publish_deferred("deferred", "q").await.unwrap();
            assert_eq!(deferred.tag().unwrap().value(), 8 + 5 * loss);
            world.idle().await;
            close(&world);
            recovered(&mut events).await;
            assert!(matches!(deferred.await, Err(PublishError::Lost(_))));
            exchange.publish_unconfirmed("after", "q").await.unwrap();
            world.idle().await;
        }
        let report = channel.wait_for_confirms().await;
        assert_eq!((report.confirmed, report.unsettled, report.unlisted), (6, 0, 0));
        let lost: Vec<u64> = report.lost.iter().map(|(tag, _)| tag.value()).collect();
        assert_eq!(lost, [5, 6, 7, 8, 10, 11, 12, 13]);
        for (_, error) in &report.lost {
            assert_eq!(error.peer().unwrap().code, ReplyCode::CONNECTION_FORCED);
            assert!(matches!(error, Error::ConnectionClosed(_)), "{error:?}");
        }
        assert!(channel.wait_for_confirms().await.is_complete());
        // The same for some of them.
        let id = report.lost[0].0.channel();
        let some = channel.wait_for_confirms_of(ConfirmTags::new(id, 3, 6)).await;
        assert_eq!((some.confirmed, some.lost.len()), (2, 2));
    });
    world.wind_up();
}
