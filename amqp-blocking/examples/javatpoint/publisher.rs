//! javatpoint's publisher: declares the queue `my_queue` and sends a message to the queue `hello`, which is another one. A broker drops what
//! no queue gets, unless it is mandatory, as it is here.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-blocking --example blocking_javatpoint_publisher`.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.queue_declare("my_queue", QueueOptions::default().durable(true))?;
    match channel.basic_publish("", "hello", "Hello World!") {
        Ok(()) => println!("sent Hello World!"),
        Err(error) => println!("not sent: {error}"),
    }
    connection.close()?;
    Ok(())
}
