//! RabbitMQ's tutorial 5, "Topics": prints what `emit_log_topic` tells with keys that fit a pattern, until Ctrl-C:
//! `receive_logs_topic "kern.*" "*.critical"`. A `*` is one word, a `#` any number of them.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::pin::pin;

use amqp_tokio::{ConsumeOptions, ExchangeKind};
use tokio::signal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let patterns: Vec<String> = env::args().skip(1).collect();
    if patterns.is_empty() {
        return Err("usage: receive_logs_topic PATTERN...".into());
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let logs = channel
        .declare_exchange("topic_logs", ExchangeKind::Topic)
        .await?;

    // What fits several of its bindings comes once all the same.
    let queue = channel.declare_queue("").exclusive(true).await?;
    for pattern in &patterns {
        queue.bind(&logs, pattern).await?;
    }
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    println!("waiting for messages, until Ctrl-C");
    loop {
        tokio::select! {
            biased;
            _ = &mut ctrl_c => break,
            Some(delivery) = consumer.next() => {
                let delivery = delivery?;
                let text = delivery.body();
                println!("received {}: {}", delivery.routing_key(), String::from_utf8_lossy(&text));
            }
        }
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
