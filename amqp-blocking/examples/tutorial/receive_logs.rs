//! RabbitMQ's tutorial 3, "Publish/Subscribe": prints what `blocking_emit_log` tells, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ConsumeOptions, ExchangeKind, ExchangeOptions, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.exchange_declare("logs", ExchangeKind::Fanout, ExchangeOptions::default())?;

    // Each listener has a queue of its own, which the broker names, and which goes with the connection.
    let queue = channel
        .queue_declare("", QueueOptions::default().exclusive(true))?
        .name;
    channel.queue_bind(&queue, "logs", "")?;
    let options = ConsumeOptions::default().no_ack(true);
    channel.basic_consume(&queue, options, |_, delivery| {
        println!("received {}", String::from_utf8_lossy(&delivery.body()));
        Ok(())
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
