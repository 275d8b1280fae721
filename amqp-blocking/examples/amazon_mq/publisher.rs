//! Amazon MQ's publisher: connects over TLS, sends one message to a queue, takes it back and prints all that is known of it.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-blocking --example blocking_amazon_mq_publisher
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;

use std::error::Error;

use amqp_blocking::Message;
use broker::QUEUE;

fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect()?;
    let channel = broker::declare_queue(&connection)?;

    // Channels are cheap: one to publish, another for the rest.
    let publishing = connection.channel()?;
    publishing.basic_publish("", QUEUE, Message::new("Hello World!").persistent())?;
    println!("sent to {QUEUE}");

    // It is taken without a consumer, and acknowledged. `None` would mean that the queue is empty.
    let got = channel
        .basic_get(QUEUE, false)?
        .ok_or("somebody else was faster")?;
    println!("{:?}", got.delivery);
    println!("{}", String::from_utf8_lossy(&got.delivery.body()));
    got.delivery.ack()?;

    // The channels need not be closed one by one.
    println!("{}", connection.close()?.reason);
    Ok(())
}
