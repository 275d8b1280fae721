//! A service that ends well: at Ctrl-C it takes no more messages, finishes those that it has, and closes; all within a deadline.
//!
//! `cargo run -p amqp-tokio --example graceful_shutdown -- [SECONDS]`, on the broker of `AMQP_URL`, or else on this machine's. It
//! does what the tutorials' `new_task` publishes, a second for each dot.

use std::env;
use std::error::Error;
use std::time::Duration;

use amqp_tokio::{Connector, HandlerError, ProcessOptions, Qos, proto};
use tokio::{signal, time};

async fn handle(message: proto::Message) -> Result<(), HandlerError> {
    let task = std::str::from_utf8(&message.body())?.to_owned();
    println!("started {task}");
    let dots = task.matches('.').count();
    time::sleep(Duration::from_secs(dots as u64)).await;
    println!("done {task}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // How long the end may take, unfinished work included.
    let grace = env::args().nth(1).map_or(Ok(20), |seconds| seconds.parse())?;
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let mut parameters = proto::ConnectionParameters::from_uri(&url)?;
    // Half of that is kept for the broker's goodbye.
    parameters.config.close_timeout = Duration::from_secs(5);
    let connection = Connector::new(parameters).connect().await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("task_queue").durable(true).await?;

    // Two at a time. A message is acknowledged when its handler has succeeded.
    channel.set_qos(Qos::prefetch(2)).await?;
    let consumer = queue.consume().await?;
    let handling = consumer.handle(2, ProcessOptions::default(), handle);
    println!("waiting for messages, until Ctrl-C");
    tokio::select! {
        _ = signal::ctrl_c() => println!("stopping"),
        // The broker may end it too.
        ended = handling.ended() => ended?,
    }

    let shutdown = connection.shutdown(Duration::from_secs(grace));
    let report = tokio::select! {
        report = shutdown => report,
        // Again: that is enough. What is not acknowledged when the connection ends goes back to its queue.
        _ = signal::ctrl_c() => connection.close().await,
    };
    // Tasks that had come and were not started went back at once: `report.given_back` of them.
    println!(
        "{}, {} not done: another worker gets them",
        report.reason, report.unsettled
    );
    Ok(())
}
