//! RabbitMQ's tutorial 3, "Publish/Subscribe": tells the text of the arguments to all that listen, which are the
//! `blocking_receive_logs`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ExchangeKind, ExchangeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = env::args().skip(1).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text = "info: Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.exchange_declare("logs", ExchangeKind::Fanout, ExchangeOptions::default())?;

    // Optional: if nobody listens, nobody needs it. A fanout exchange does not look at the routing key.
    channel.basic_publish_optional("logs", "", text.as_str())?;
    println!("sent {text}");

    connection.close()?;
    Ok(())
}
