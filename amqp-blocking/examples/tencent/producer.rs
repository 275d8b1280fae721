//! Producer for Tencent Cloud's TDMQ for RabbitMQ: sends persistent messages to a direct exchange, and closes at once.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-blocking --example blocking_tencent_producer
//! ```
//!
//! What it sends reaches the `blocking_tencent_consumer`s that run: a direct exchange keeps nothing.

mod broker;

use std::error::Error;

use amqp_blocking::{ExchangeKind, ExchangeOptions, Message};
use broker::EXCHANGE;

fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect()?;
    let channel = connection.channel()?;
    let durable = ExchangeOptions::default().durable(true);
    channel.exchange_declare(EXCHANGE, ExchangeKind::Direct, durable)?;

    let routing_keys = ["info", "warning", "error"];
    for (number, routing_key) in (1..=9).zip(routing_keys.iter().cycle()) {
        let message = Message::new(format!("{routing_key} {number}")).persistent();
        // The confirm is not waited for here.
        let _confirm = channel.basic_publish_deferred(EXCHANGE, routing_key, message)?;
    }

    // All that was published is written first, and its confirms are waited for.
    let report = connection.close()?;
    println!("{}, {} unconfirmed", report.reason, report.unconfirmed);
    Ok(())
}
