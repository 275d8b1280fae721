//! RabbitMQ's tutorial 3, "Publish/Subscribe": tells the text of the arguments to all that listen, which are the `receive_logs`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::ExchangeKind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut text = env::args().skip(1).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text = "info: Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let logs = channel.declare_exchange("logs", ExchangeKind::Fanout).await?;

    // Optional: if nobody listens, nobody needs it. A fanout exchange does not look at the routing key.
    logs.publish_optional(text.as_str(), "").await?;
    println!("sent {text}");

    connection.close().await;
    Ok(())
}
