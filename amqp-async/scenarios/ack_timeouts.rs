//! Deliveries that are not settled in time.

use std::time::Duration;

use amqp_async::proto::Backoff;
use amqp_async::{ChannelOptions, ConsumeOptions, QueueArguments, Reopen};

use super::{World, close};

/// RabbitMQ 3 closes the channel over it, RabbitMQ 4.3 ends the consumer; here it goes on in both cases.
pub(crate) async fn what_is_not_settled_in_time_comes_again_in_the_same_consumer(world: World) {
    let timeout = world.operator.time_out_deliveries();
    let connection = world.connect().await;
    let bystander = connection.channel().await.unwrap();
    let soon = Backoff::new(1).initial(Duration::from_millis(10));
    let reopen = Reopen::on_ack_timeout().with_consumers().backoff(soon.clone());
    let options = ChannelOptions::default().reopen(reopen);
    let channel = connection.channel_with(options).await.unwrap();
    let queue = channel
        .declare_queue(world.name("slow"))
        .durable(true)
        .arguments(QueueArguments::quorum())
        .await
        .unwrap();
    let consume = ConsumeOptions::default().resubscribe(soon);
    let mut consumer = queue.consume_with(consume).await.unwrap();
    let exchange = bystander.default_exchange();
    exchange.publish("slow", queue.name()).await.unwrap();
    let late = consumer.next().await.unwrap().unwrap();

    let again = consumer.next().await.unwrap().unwrap();
    assert_eq!((&*again.body(), again.is_redelivered()), (&b"slow"[..], true));
    again.ack().await.unwrap();
    // Whether the broker still knows of it depends on what it did.
    let _ = late.ack().await;
    timeout.end();

    exchange.publish("new", queue.name()).await.unwrap();
    let new = consumer.next().await.unwrap().unwrap();
    assert_eq!(&*new.body(), b"new");
    new.ack().await.unwrap();
    queue.delete().await.unwrap();
    close(&connection).await;
}
