//! Publisher confirms: a thousand messages that are waited for together, then one that no queue gets.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::{Batch, PublishError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("").exclusive(true).await?;
    let exchange = channel.default_exchange();

    // Each is written without waiting for the one before.
    let mut batch = Batch::new();
    for number in 0..1000 {
        batch.push(
            exchange
                .publish_deferred(number.to_string(), queue.name())
                .await?,
        );
    }
    let report = batch.wait().await;
    println!(
        "{} confirmed, {} refused, {} returned, {} lost",
        report.confirmed,
        report.nacked.len(),
        report.returned.len(),
        report.lost.len(),
    );

    match exchange.publish("to nowhere", "no such queue").await {
        Err(PublishError::Returned(returned)) => {
            let body = returned.message.body();
            println!("returned: {} ({})", String::from_utf8_lossy(&body), returned.text);
        }
        result => result?,
    }

    let report = connection.close().await;
    println!("{}, {} unconfirmed", report.reason, report.unconfirmed);
    Ok(())
}
