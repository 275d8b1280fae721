//! A quorum queue with a delivery limit (RabbitMQ page "Quorum Queues"): a message that no consumer can deal with does not come for
//! ever, but ends in a dead letter queue.
//!
//! `cargo run -p amqp-tokio --example quorum_queue`, on the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::{FieldTable, Message, Qos};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;

    // Quorum queues are always durable, and never exclusive.
    let dead_letters = channel.declare_queue("orders.dead").durable(true).await?;
    let arguments = FieldTable::new()
        .with("x-queue-type", "quorum")?
        .with("x-delivery-limit", 2)?
        .with("x-dead-letter-exchange", "")?
        .with("x-dead-letter-routing-key", &dead_letters.name())?;
    let declaration = channel.declare_queue("orders").durable(true);
    let orders = declaration.arguments(arguments).await?;

    let exchange = channel.default_exchange();
    for order in ["a book", "poison"] {
        let message = Message::new(order).persistent();
        exchange.publish(message, orders.name()).await?;
    }

    channel.set_qos(Qos::prefetch(1)).await?;
    let mut consumer = orders.consume().await?;
    let mut dead = dead_letters.consume().await?;
    let letter = loop {
        tokio::select! {
            Some(delivery) = consumer.next() => {
                let delivery = delivery?;
                let order = String::from_utf8_lossy(&delivery.body()).into_owned();
                let fails = order == "poison";
                println!("{order}: {}", if fails { "failed" } else { "done" });
                // What failed is tried again, until the broker has had enough.
                if fails { delivery.reject(true).await? } else { delivery.ack().await? }
            }
            Some(letter) = dead.next() => break letter?,
        }
    };
    let headers = letter.properties().headers.unwrap_or_default();
    let reason = headers
        .get("x-first-death-reason")?
        .and_then(|value| value.as_str());
    let order = letter.body();
    println!(
        "{} is a dead letter: {}",
        String::from_utf8_lossy(&order),
        reason.ok_or("no reason")?
    );
    letter.ack().await?;

    // Quorum queues know no deletion "if unused" or "if empty".
    for queue in [orders, dead_letters] {
        queue.delete().await?;
    }
    println!("{}", connection.close().await.reason);
    Ok(())
}
