//! Consumer for Tencent Cloud's TDMQ for RabbitMQ: prints what a direct exchange sends by some routing keys, one message at a time,
//! until Ctrl-C.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-blocking --example blocking_tencent_consumer -- info error
//! ```

mod broker;

use std::env;
use std::error::Error;

use amqp_blocking::{ConsumeOptions, ExchangeKind, ExchangeOptions, Qos, QueueOptions};
use broker::EXCHANGE;

fn main() -> Result<(), Box<dyn Error>> {
    let routing_keys: Vec<String> = env::args().skip(1).collect();
    if routing_keys.is_empty() {
        return Err("usage: blocking_tencent_consumer ROUTING_KEY...".into());
    }

    let connection = broker::connect()?;
    let channel = connection.channel()?;
    let durable = ExchangeOptions::default().durable(true);
    channel.exchange_declare(EXCHANGE, ExchangeKind::Direct, durable)?;

    // Exclusive wins over durable: the queue is gone when this connection is.
    let options = QueueOptions::default().exclusive(true).durable(true);
    let queue = channel.queue_declare("route_queue1", options)?.name;
    for routing_key in &routing_keys {
        channel.queue_bind(&queue, EXCHANGE, routing_key)?;
    }

    // Set before the consumer is there, and valid for it.
    channel.basic_qos(Qos::prefetch(1))?;
    channel.basic_consume(&queue, ConsumeOptions::default(), |channel, delivery| {
        println!("received {}", String::from_utf8_lossy(&delivery.body()));
        Ok(channel.basic_ack(delivery, false)?)
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
