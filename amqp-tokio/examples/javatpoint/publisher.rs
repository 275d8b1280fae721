//! javatpoint's publisher: declares the queue `my_queue` and sends a message to the queue `hello`, which is another one. A broker drops what
//! no queue gets, unless it is mandatory, as it is here.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-tokio --example javatpoint_publisher`.

use std::env;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    channel.declare_queue("my_queue").durable(true).await?;
    match channel.default_exchange().publish("Hello World!", "hello").await {
        Ok(()) => println!("sent Hello World!"),
        Err(error) => println!("not sent: {error}"),
    }
    connection.close().await;
    Ok(())
}
