//! RabbitMQ's tutorial 1, "Hello World!": publishes one message to the queue `hello`, where `blocking_hello_receive` finds it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;

    // Both programs declare it, because nobody knows which is first. To do so again changes nothing.
    channel.queue_declare("hello", QueueOptions::default().durable(true))?;

    channel.basic_publish("", "hello", "Hello World!")?;
    println!("sent Hello World!");

    connection.close()?;
    Ok(())
}
