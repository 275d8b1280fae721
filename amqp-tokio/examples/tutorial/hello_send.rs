//! RabbitMQ's tutorial 1, "Hello World!": publishes one message to the queue `hello`, where `hello_receive` finds it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;

    // Both programs declare it, because nobody knows which is first. To do so again changes nothing.
    let queue = channel.declare_queue("hello").durable(true).await?;

    let exchange = channel.default_exchange();
    exchange.publish("Hello World!", queue.name()).await?;
    println!("sent Hello World!");

    connection.close().await;
    Ok(())
}
