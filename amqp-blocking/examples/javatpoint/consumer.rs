//! javatpoint's consumer: prints what comes to the queue `hello`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-blocking --example blocking_javatpoint_consumer`.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ConsumeOptions, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.queue_declare("hello", QueueOptions::default().durable(true))?;

    let options = ConsumeOptions::default().no_ack(true);
    channel.basic_consume("hello", options, |_, delivery| {
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
