//! Consumer for Tencent Cloud's TDMQ for RabbitMQ: prints what a direct exchange sends by some routing keys, one message at a time,
//! until Ctrl-C.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-tokio --example tencent_consumer -- info error
//! ```

mod broker;

use std::env;
use std::error::Error;

use amqp_tokio::{ExchangeKind, HandlerError, ProcessOptions, Qos, proto};
use tokio::signal;

/// What it returns without an error is acknowledged.
async fn print(message: proto::Message) -> Result<(), HandlerError> {
    println!("received {}", String::from_utf8_lossy(&message.body()));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let routing_keys: Vec<String> = env::args().skip(1).collect();
    if routing_keys.is_empty() {
        return Err("usage: tencent_consumer ROUTING_KEY...".into());
    }

    let connection = broker::connect().await?;
    let channel = connection.channel().await?;
    let declaration = channel.declare_exchange("direct_exchange", ExchangeKind::Direct);
    let exchange = declaration.durable(true).await?;

    // Exclusive wins over durable: the queue is gone when this connection is.
    let declaration = channel.declare_queue("route_queue1");
    let queue = declaration.exclusive(true).durable(true).await?;
    for routing_key in &routing_keys {
        queue.bind(&exchange, routing_key).await?;
    }

    // Set before the consumer is there, and valid for it.
    channel.set_qos(Qos::prefetch(1)).await?;
    let consumer = queue.consume().await?;
    let handling = consumer.handle(1, ProcessOptions::default(), print);
    println!("waiting for messages, until Ctrl-C");
    tokio::select! {
        _ = signal::ctrl_c() => handling.stop().await?,
        ended = handling.ended() => ended?,
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
