//! javatpoint's consumer: prints what comes to the queue `hello`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-tokio --example javatpoint_consumer`.

use std::env;
use std::error::Error;
use std::pin::pin;

use amqp_tokio::ConsumeOptions;
use tokio::signal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("hello").durable(true).await?;

    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    println!("waiting for messages, until Ctrl-C");
    loop {
        tokio::select! {
            biased;
            _ = &mut ctrl_c => break,
            Some(delivery) = consumer.next() => {
                println!("received {}", String::from_utf8_lossy(&delivery?.body()));
            }
        }
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
