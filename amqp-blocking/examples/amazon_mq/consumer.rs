//! Amazon MQ's consumer: connects over TLS and prints what comes to a queue, until Ctrl-C.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-blocking --example blocking_amazon_mq_consumer
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;

use std::error::Error;

use amqp_blocking::ConsumeOptions;
use broker::QUEUE;

fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect()?;
    let channel = broker::declare_queue(&connection)?;

    // What comes needs no acknowledgement (pika's `auto_ack`): the broker forgets it when it is sent.
    let options = ConsumeOptions::default().no_ack(true);
    channel.basic_consume(QUEUE, options, |_, delivery| {
        println!("received {}", String::from_utf8_lossy(&delivery.body()));
        Ok(())
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
