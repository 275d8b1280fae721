//! RabbitMQ's tutorial 2, "Work Queues": does the tasks of the queue `task_queue`, a second for each dot, until Ctrl-C.
//! Several workers share the tasks. When one of them dies, another one does what it had not finished.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

use std::env;
use std::error::Error;
use std::thread;
use std::time::Duration;

use amqp_blocking::{BlockingConnection, ConsumeOptions, Qos, QueueOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = BlockingConnection::connect(&url)?;
    let channel = connection.channel()?;
    channel.queue_declare("task_queue", QueueOptions::default().durable(true))?;

    // One task at a time: the next one goes to a worker that is free.
    channel.basic_qos(Qos::prefetch(1))?;
    channel.basic_consume("task_queue", ConsumeOptions::default(), |_, delivery| {
        let task = String::from_utf8_lossy(&delivery.body()).into_owned();
        let again = if delivery.is_redelivered() { " again" } else { "" };
        println!("received {task}{again}");
        // However long this takes, the connection stays alive.
        let dots = task.matches('.').count();
        thread::sleep(Duration::from_secs(dots as u64));
        // Without this, the broker would give the task to somebody else when the connection ends.
        delivery.ack()?;
        println!("done {task}");
        Ok(())
    })?;

    let stop = channel.stop_handle();
    ctrlc::set_handler(move || stop.stop_consuming())?;
    println!("waiting for messages, until Ctrl-C");
    channel.start_consuming()?;

    println!("{}", connection.close()?.reason);
    Ok(())
}
