//! A queue with priorities (RabbitMQ page "Priority Queue Support"): what is urgent overtakes what waits.
//!
//! `cargo run -p amqp-tokio --example priority_queue`, on the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::{FieldTable, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;

    // The broker keeps a queue for each priority, so ten of them are plenty.
    let queue = channel
        .declare_queue("")
        .exclusive(true)
        .arguments(FieldTable::new().with("x-max-priority", 10)?)
        .await?;

    // Without a priority is priority 0; what is above the maximum counts as the maximum.
    for (text, priority) in [
        ("newsletter", None),
        ("invoice", Some(3)),
        ("alarm", Some(10)),
        ("second invoice", Some(3)),
        ("end of the world", Some(255)),
    ] {
        let message = Message::new(text);
        let message = match priority {
            Some(priority) => message.priority(priority),
            None => message,
        };
        channel.default_exchange().publish(message, queue.name()).await?;
    }

    // Taken one by one. A consumer sees the same order as long as its prefetch limit keeps messages waiting in the queue.
    while let Some(delivery) = queue.get().await? {
        let text = delivery.body();
        let priority = delivery.properties().priority.unwrap_or_default();
        println!("priority {priority}: {}", String::from_utf8_lossy(&text));
        delivery.ack().await?;
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
