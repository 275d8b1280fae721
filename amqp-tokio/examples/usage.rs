//! A bit of everything, in the order of aio-pika's first long example: an exchange, a queue and a binding that clean up after themselves,
//! a message with headers, taken by `basic.get`.
//!
//! `cargo run -p amqp-tokio --example usage`, on the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::time::Duration;

use amqp_tokio::{ExchangeKind, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;

    // No call on this handle of the channel waits for longer than five seconds.
    let channel = connection.channel().await?.with_timeout(Duration::from_secs(5));
    let declaration = channel.declare_exchange("usage.direct", ExchangeKind::Direct);
    let exchange = declaration.auto_delete(true).await?;
    let queue = channel
        .declare_queue("")
        .exclusive(true)
        .auto_delete(true)
        .await?;
    queue.bind(&exchange, "info").await?;

    let message = Message::new("Hello")
        .content_type("text/plain")
        .header("foo", "bar");
    exchange.publish(message, "info").await?;

    // An empty queue is no error.
    if let Some(delivery) = queue.get().await? {
        println!("{delivery:?}");
        println!("{}", String::from_utf8_lossy(&delivery.body()));
        delivery.ack().await?;
    }
    println!("then: {:?}", queue.get().await?);

    queue.unbind(&exchange, "info").await?;
    println!("{} messages deleted with the queue", queue.delete().await?);
    println!("{}", connection.close().await.reason);
    Ok(())
}
