//! RabbitMQ's tutorial 6, "Remote procedure call": answers the calls of `blocking_rpc_client`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ConsumeOptions, HandlerError, Message, Qos, QueueOptions};

/// What the call's body asks for.
fn answer(call: &[u8]) -> Result<Message, HandlerError> {
    let number = std::str::from_utf8(call)?.parse()?;
    let result = fibonacci(number).ok_or("that is too large")?;
    println!("answered fib({number})");
    Ok(Message::new(result.to_string()))
}

fn fibonacci(number: u32) -> Option<u64> {
    let (mut this, mut next) = (0_u64, 1_u64);
    for _ in 0..number {
        (this, next) = (next, this.checked_add(next)?);
    }
    Some(this)
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.queue_declare("rpc_queue", QueueOptions::default().durable(true))?;

    channel.basic_qos(Qos::prefetch(1))?;
    channel.basic_consume("rpc_queue", ConsumeOptions::default(), |channel, delivery| {
        // A failure is told to the caller.
        let answer = answer(&delivery.body())
            .unwrap_or_else(|error| Message::new(error.to_string()).message_type("error"));
        let properties = delivery.properties();
        let (reply_to, name) = (properties.reply_to, properties.correlation_id);
        if let (Some(reply_to), Some(name)) = (reply_to, name) {
            // Optional: the caller may have gone.
            let answer = answer.correlation_id(name.to_string());
            channel.basic_publish_optional("", &reply_to.to_string(), answer)?;
        }
        // Only now: a call whose server dies another one answers.
        Ok(delivery.ack()?)
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
