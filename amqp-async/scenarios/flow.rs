//! Many things at once, and holding back.

use amqp_async::{ConsumeOptions, Qos};

use super::{World, close};

/// The handler waits for a confirm on the connection that the messages come on: nothing may be held back then.
pub(crate) async fn a_consumer_without_acks_may_wait_for_confirms(world: World) {
    const COUNT: u32 = 20_000;
    let queue = world.queue().await;
    let channel = queue.channel();
    let exchange = channel.default_exchange();
    let replies = channel.declare_queue("").exclusive(true).await.unwrap();
    let publisher = world.channel().await;
    let source = queue.name().to_owned();
    // An exclusive queue can be published to by anybody.
    let feeding = crate::runtime::thread(async move {
        let exchange = publisher.default_exchange();
        let mut confirms = Vec::new();
        for number in 0..COUNT {
            let body = number.to_be_bytes().to_vec();
            confirms.push(exchange.publish_deferred(body, &source).await.unwrap());
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
        close(publisher.connection()).await;
    });
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await.unwrap();
    for number in 0..COUNT {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), number.to_be_bytes());
        exchange
            .publish(delivery.body().into_owned(), replies.name())
            .await
            .unwrap();
    }
    feeding.await;
    assert_eq!(replies.purge().await.unwrap(), COUNT);
    close(channel.connection()).await;
}

pub(crate) async fn a_thousand_channels_are_opened_and_closed(world: World) {
    let connection = world.connect().await;
    for _ in 0..1000 {
        let channel = connection.channel().await.unwrap();
        channel
            .declare_queue("")
            .exclusive(true)
            .auto_delete(true)
            .await
            .unwrap();
        channel.close().await.unwrap();
    }
    close(&connection).await;
}

pub(crate) async fn many_channels_work_at_the_same_time(world: World) {
    let connection = world.connect().await;
    let mut tasks = Vec::new();
    for number in 0..50_u32 {
        let connection = connection.clone();
        tasks.push(crate::runtime::thread(async move {
            let channel = connection.channel().await.unwrap();
            channel.set_qos(Qos::prefetch(7)).await.unwrap();
            let queue = channel.declare_queue("").exclusive(true).await.unwrap();
            let mut consumer = queue.consume().await.unwrap();
            for round in 0..100_u32 {
                let body = (number * 1000 + round).to_be_bytes().to_vec();
                channel
                    .default_exchange()
                    .publish(body.clone(), queue.name())
                    .await
                    .unwrap();
                let delivery = consumer.next().await.unwrap().unwrap();
                assert_eq!(*delivery.body(), *body);
                delivery.ack().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await;
    }
    close(&connection).await;
}
