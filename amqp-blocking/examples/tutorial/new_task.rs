//! RabbitMQ's tutorial 2, "Work Queues": puts a task, which is the text of the arguments, into the queue `task_queue`.
//! A `blocking_worker` takes a second for each dot in it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;

use amqp_blocking::{BlockingConnection, Message, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut task = env::args().skip(1).collect::<Vec<_>>().join(" ");
    if task.is_empty() {
        task = "Hello World!".into();
    }

    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.queue_declare("task_queue", QueueOptions::default().durable(true))?;

    // A persistent message in a durable queue survives a restart of the broker, which has it on disk when this returns.
    let message = Message::new(task.as_str()).persistent();
    channel.basic_publish("", "task_queue", message)?;
    println!("sent {task}");

    connection.close()?;
    Ok(())
}
