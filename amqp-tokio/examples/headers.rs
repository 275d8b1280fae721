//! A headers exchange: what a queue gets depends on the messages' headers, and not on a routing key.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::{ExchangeKind, FieldTable, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let documents = channel
        .declare_exchange("documents", ExchangeKind::Headers)
        .auto_delete(true)
        .await?;

    // One queue gets what is a PDF and is urgent, the other one what is either.
    let both = channel.declare_queue("").exclusive(true).await?;
    let either = channel.declare_queue("").exclusive(true).await?;
    for (queue, how) in [(&both, "all"), (&either, "any")] {
        let arguments = FieldTable::new()
            .with("x-match", how)?
            .with("format", "pdf")?
            .with("urgent", true)?;
        queue.bind_with(&documents, "", &arguments).await?;
    }

    for (name, format, is_urgent) in [
        ("contract", "pdf", true),
        ("manual", "pdf", false),
        ("alarm", "text", true),
        ("diary", "text", false),
    ] {
        let message = Message::new(name)
            .header("format", format)
            .header("urgent", is_urgent);
        documents.publish_optional(message, "").await?;
    }

    for (queue, how) in [(&both, "all"), (&either, "any")] {
        while let Some(delivery) = queue.get().await? {
            println!("{how}: {}", String::from_utf8_lossy(&delivery.body()));
            delivery.ack().await?;
        }
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
