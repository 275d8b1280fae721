//! RabbitMQ's tutorial 6, "Remote procedure call": asks `blocking_rpc_server` for a Fibonacci number, the 30th or that of the argument.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::time::Duration;

use amqp_blocking::{BlockingConnection, ConsumeOptions, Message, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let number = env::args().nth(1).unwrap_or_else(|| "30".into());

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;

    // Answers come to a queue of our own.
    let answers = channel
        .queue_declare("", QueueOptions::default().exclusive(true))?
        .name;
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = channel.consume(&answers, options)?;

    // With one call, one name for it is enough.
    let call = Message::new(number.as_str())
        .reply_to(answers.as_str())
        .correlation_id("1");
    channel
        .basic_publish("", "rpc_queue", call)
        .map_err(|error| format!("fib({number}): {error}"))?;
    let answer = consumer
        .next_within(Duration::from_secs(30))?
        .ok_or("the server does not answer")?;
    let text = String::from_utf8_lossy(&answer.body()).into_owned();
    let has_failed = answer.properties().message_type.is_some();
    connection.close()?;

    if has_failed {
        return Err(format!("fib({number}): the server failed: {text}").into());
    }
    println!("fib({number}) = {text}");
    Ok(())
}
