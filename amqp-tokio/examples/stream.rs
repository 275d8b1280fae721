//! A stream (RabbitMQ page "Streams"): a log that can be read again and again, from any place in it.
//!
//! `cargo run -p amqp-tokio --example stream`, on the broker of `AMQP_URL`, or else on this machine's. It has to be a RabbitMQ: the embedded
//! broker has no streams.

use std::env;
use std::error::Error;

use amqp_tokio::{ConsumeOptions, FieldTable, FieldValue, Message, Qos, Queue};

/// Reads so many messages from that place on, and says at which offset one would go on.
async fn read(stream: &Queue, from: FieldValue<'_>, count: usize) -> Result<i64, Box<dyn Error>> {
    println!("from {from}:");
    let arguments = FieldTable::new().with("x-stream-offset", from)?;
    let options = ConsumeOptions::default().arguments(arguments);
    let mut consumer = stream.consume_with(options).await?;
    let mut next = 0;
    for _ in 0..count {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        let headers = delivery.properties().headers.unwrap_or_default();
        let offset = headers.get("x-stream-offset")?.and_then(|value| value.as_i64());
        let offset = offset.ok_or("no offset")?;
        println!("{offset}: {}", String::from_utf8_lossy(&delivery.body()));
        // It stays in the stream: to acknowledge it is to ask for more.
        delivery.ack().await?;
        next = offset + 1;
    }
    consumer.cancel().await?;
    Ok(next)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    // Streams want a prefetch limit, and acknowledgements.
    channel.set_qos(Qos::prefetch(10)).await?;
    let arguments = FieldTable::new()
        .with("x-queue-type", "stream")?
        .with("x-max-length-bytes", 1_000_000_000)?;
    let declaration = channel.declare_queue("measurements").durable(true);
    let stream = declaration.arguments(arguments).await?;

    for temperature in ["19.5", "19.7", "20.1", "20.6", "21.0"] {
        let message = Message::new(temperature);
        channel.default_exchange().publish(message, stream.name()).await?;
    }

    let next = read(&stream, "first".into(), 3).await?;
    // A program that stores `next` goes on where it stopped, after a restart too.
    read(&stream, next.into(), 2).await?;

    stream.delete().await?;
    println!("{}", connection.close().await.reason);
    Ok(())
}
