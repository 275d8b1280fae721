//! Producer for Tencent Cloud's TDMQ for RabbitMQ: sends persistent messages to a direct exchange, and closes at once.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-tokio --example tencent_producer
//! ```
//!
//! What it sends reaches the `tencent_consumer`s that run: a direct exchange keeps nothing.

mod broker;

use std::error::Error;

use amqp_tokio::{ExchangeKind, Message};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect().await?;
    let channel = connection.channel().await?;
    let declaration = channel.declare_exchange("direct_exchange", ExchangeKind::Direct);
    let exchange = declaration.durable(true).await?;

    let routing_keys = ["info", "warning", "error"];
    for (number, routing_key) in (1..=9).zip(routing_keys.iter().cycle()) {
        let message = Message::new(format!("{routing_key} {number}")).persistent();
        // The confirm is not waited for here.
        let _confirm = exchange.publish_deferred(message, routing_key).await?;
    }

    // All that was published is written first, and its confirms are waited for.
    let report = connection.close().await;
    println!("{}, {} unconfirmed", report.reason, report.unconfirmed);
    Ok(())
}
