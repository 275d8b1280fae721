//! Amazon MQ's consumer: connects over TLS and prints what comes to a queue, until Ctrl-C.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-tokio --example amazon_mq_consumer
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;

use std::error::Error;
use std::pin::pin;

use amqp_tokio::ConsumeOptions;
use tokio::signal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = broker::connect().await?;
    let queue = broker::declare_queue(&connection, "hello world queue").await?;

    // What comes needs no acknowledgement (pika's `auto_ack`): the broker forgets it when it is sent.
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    println!("waiting for messages, until Ctrl-C");
    loop {
        tokio::select! {
            biased;
            _ = &mut ctrl_c => break,
            Some(delivery) = consumer.next() => {
                println!("received {}", String::from_utf8_lossy(&delivery?.body()));
            }
        }
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
