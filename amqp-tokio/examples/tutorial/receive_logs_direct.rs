//! RabbitMQ's tutorial 4, "Routing": prints what `emit_log_direct` tells of some severities, until Ctrl-C:
//! `receive_logs_direct warning error`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::pin::pin;

use amqp_tokio::{ConsumeOptions, ExchangeKind};
use tokio::signal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let severities: Vec<String> = env::args().skip(1).collect();
    if severities.is_empty() {
        return Err("usage: receive_logs_direct SEVERITY...".into());
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let logs = channel
        .declare_exchange("direct_logs", ExchangeKind::Direct)
        .await?;

    // One queue with a binding for each severity.
    let queue = channel.declare_queue("").exclusive(true).await?;
    for severity in &severities {
        queue.bind(&logs, severity).await?;
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
