//! Amazon MQ's publisher: connects over TLS, sends one message to a queue, takes it back and prints all that is known of it.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-tokio --example amazon_mq_publisher
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;

use std::error::Error;

use amqp_tokio::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect().await?;
    let queue = broker::declare_queue(&connection, "hello world queue").await?;

    // Channels are cheap: one to publish, others for the rest.
    let publishing = connection.channel().await?;
    let exchange = publishing.default_exchange();
    exchange
        .publish(Message::new("Hello World!").persistent(), queue.name())
        .await?;
    println!("sent to {}", queue.name());

    // It is taken without a consumer, and acknowledged. `None` would mean that the queue is empty.
    let delivery = queue.get().await?.ok_or("somebody else was faster")?;
    println!("{delivery:?}");
    println!("{}", String::from_utf8_lossy(&delivery.body()));
    delivery.ack().await?;

    // The channels need not be closed one by one.
    println!("{}", connection.close().await.reason);
    Ok(())
}
