//! RabbitMQ's tutorial 5, "Topics": prints what `blocking_emit_log_topic` tells of keys that fit, until Ctrl-C:
//! `blocking_receive_logs_topic "kern.*" "*.critical"`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ConsumeOptions, ExchangeKind, ExchangeOptions, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let patterns: Vec<String> = env::args().skip(1).collect();
    if patterns.is_empty() {
        return Err("usage: blocking_receive_logs_topic PATTERN...".into());
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.exchange_declare("topic_logs", ExchangeKind::Topic, ExchangeOptions::default())?;

    // One queue with a binding for each pattern.
    let queue = channel
        .queue_declare("", QueueOptions::default().exclusive(true))?
        .name;
    for pattern in &patterns {
        channel.queue_bind(&queue, "topic_logs", pattern)?;
    }
    let options = ConsumeOptions::default().no_ack(true);
    channel.basic_consume(&queue, options, |_, delivery| {
        let text = delivery.body();
        println!(
            "received {}: {}",
            delivery.routing_key(),
            String::from_utf8_lossy(&text)
        );
        Ok(())
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
