//! RabbitMQ's tutorial 5, "Topics": tells a text to those whose pattern fits its key, which is words
//! with dots between them: `emit_log_topic kern.critical "A critical kernel error"`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::ExchangeKind;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let key = arguments.next().unwrap_or_else(|| "anonymous.info".into());
    let mut text = arguments.collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text = "Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let logs = channel
        .declare_exchange("topic_logs", ExchangeKind::Topic)
        .await?;

    // Optional: if nobody wants it, it is dropped. `publish` would fail then.
    logs.publish_optional(text.as_str(), &key).await?;
    println!("sent {key}: {text}");

    connection.close().await;
    Ok(())
}
