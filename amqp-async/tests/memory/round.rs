//! What a program does mostly, once.

use amqp_async::{ExchangeKind, Message};

use crate::world::everywhere;

#[test]
fn a_message_goes_out_and_comes_back() {
    everywhere(async |world| {
        let (connection, channel) = world.channel().await;
        let exchange = channel.declare_exchange("orders", ExchangeKind::Topic).await.unwrap();
        let queue = channel.declare_queue("new").await.unwrap();
        queue.bind(&exchange, "order.*").await.unwrap();
        let message = Message::new("one").content_type("text/plain");
        exchange.publish(message, "order.new").await.unwrap();
        assert_eq!(world.queue_len("new"), 1);

        let mut consumer = queue.consume().await.unwrap();
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(*delivery.body(), *b"one");
        assert!(!delivery.is_redelivered());
        delivery.ack().await.unwrap();
        consumer.cancel().await.unwrap();
        assert_eq!(world.consumer_count("new"), 0);
        assert_eq!(queue.delete().await.unwrap(), 0);
        channel.close().await.unwrap();
        let report = connection.close().await;
        assert_eq!(report.unconfirmed, 0);
        assert_eq!(report.reason.to_string(), "closed on request");
    });
}
