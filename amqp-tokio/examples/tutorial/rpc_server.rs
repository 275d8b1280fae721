//! RabbitMQ's tutorial 6, "Remote procedure call": answers the calls of `rpc_client`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::rpc::serve;
use amqp_tokio::{HandlerError, Message, proto};
use tokio::signal;

/// What the call's body asks for. A failure is told to the caller.
async fn answer(call: proto::Message) -> Result<Message, HandlerError> {
    let number = std::str::from_utf8(&call.body())?.parse()?;
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("rpc_queue").durable(true).await?;

    // Four calls at a time. A call is acknowledged when its answer is with the broker.
    let serving = serve(&queue, 4, answer).await?;
    println!("waiting for messages, until Ctrl-C");
    tokio::select! {
        _ = signal::ctrl_c() => serving.stop().await?,
        ended = serving.ended() => ended?,
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
