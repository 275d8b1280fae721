//! RabbitMQ's tutorial 4, "Routing": tells a text to those that listen for its severity: `blocking_emit_log_direct warning "Low on disk"`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, ExchangeKind, ExchangeOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let severity = arguments.next().unwrap_or_else(|| "info".into());
    let mut text = arguments.collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        text = "Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.exchange_declare("direct_logs", ExchangeKind::Direct, ExchangeOptions::default())?;

    // Optional: if nobody wants it, it is dropped. `basic_publish` would fail then.
    channel.basic_publish_optional("direct_logs", &severity, text.as_str())?;
    println!("sent {severity}: {text}");

    connection.close()?;
    Ok(())
}
