//! RabbitMQ's tutorial 2, "Work Queues": does the tasks of the queue `task_queue`, a second for each dot, until Ctrl-C.
//! Several workers share the tasks. When one of them dies, another one does what it had not finished.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use amqp_tokio::Qos;
use tokio::{signal, time};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("task_queue").durable(true).await?;

    // One task at a time: the next one goes to a worker that is free.
    channel.set_qos(Qos::prefetch(1)).await?;
    let mut consumer = queue.consume().await?;

    let mut ctrl_c = pin!(signal::ctrl_c());
    println!("waiting for messages, until Ctrl-C");
    loop {
        tokio::select! {
            biased;
            _ = &mut ctrl_c => break,
            Some(delivery) = consumer.next() => {
                let delivery = delivery?;
                let task = String::from_utf8_lossy(&delivery.body()).into_owned();
                let again = if delivery.is_redelivered() { " again" } else { "" };
                println!("received {task}{again}");
                let dots = task.matches('.').count();
                time::sleep(Duration::from_secs(dots as u64)).await;
                // Without this, the broker would give the task to somebody else when the connection ends.
                delivery.ack().await?;
                println!("done {task}");
            }
        }
    }

    println!("{}", connection.close().await.reason);
    Ok(())
}
