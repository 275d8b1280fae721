//! RabbitMQ's tutorial 2, "Work Queues": puts a task, which is the text of the arguments, into the queue `task_queue`.
//! A `worker` takes a second for each dot in it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_tokio::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut task = env::args().skip(1).collect::<Vec<_>>().join(" ");
    if task.is_empty() {
        task = "Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = amqp_tokio::connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("task_queue").durable(true).await?;

    // A persistent message in a durable queue survives a restart of the broker, which has it on disk when this returns.
    let message = Message::new(task.as_str()).persistent();
    channel.default_exchange().publish(message, queue.name()).await?;
    println!("sent {task}");

    connection.close().await;
    Ok(())
}
