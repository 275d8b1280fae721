//! RabbitMQ's tutorial 4, "Routing": prints what `blocking_emit_log_direct` tells of some severities, until Ctrl-C:
//! `blocking_receive_logs_direct warning error`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ConsumeOptions, ExchangeKind, ExchangeOptions, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let severities: Vec<String> = env::args().skip(1).collect();
    if severities.is_empty() {
        return Err("usage: blocking_receive_logs_direct SEVERITY...".into());
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.exchange_declare("direct_logs", ExchangeKind::Direct, ExchangeOptions::default())?;

    // One queue with a binding for each severity.
    let queue = channel
        .queue_declare("", QueueOptions::default().exclusive(true))?
        .name;
    for severity in &severities {
        channel.queue_bind(&queue, "direct_logs", severity)?;
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
