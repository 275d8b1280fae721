//! RabbitMQ's tutorial 2, "Work Queues": does the tasks of the queue `task_queue`, a second for each dot, until Ctrl-C.
//! Several workers share the tasks. When one of them dies, another one does what it had not finished.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_worker`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use amqp_mio::proto::wire::{BasicConsume, BasicQos, QueueDeclare};
use amqp_mio::proto::{ConsumerId, Delivery, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{connector, run_until_ctrl_c, short};

fn main() -> Result<(), Box<dyn Error>> {
    run_until_ctrl_c(&mut SelectConnection::new(&connector()?, (), on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, ()>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

/// The broker does these one after the other: there is no need to wait for an answer before the next request.
fn on_channel_open(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    let queue = short("task_queue");
    let tasks = QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    };
    // One task at a time: the next one goes to a worker that is free.
    let one = BasicQos {
        prefetch_count: 1,
        ..Default::default()
    };
    let consume = BasicConsume {
        queue,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.send_nowait(&tasks).expect("it is open");
    channel.request(&one, |_, _, _| ()).expect("it is open");
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("nobody declares the queue otherwise");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, delivery: Delivery) {
    let task = String::from_utf8_lossy(&delivery.message.body()).into_owned();
    let again = if delivery.redelivered { " again" } else { "" };
    println!("received {task}{again}");
    let dots = task.matches('.').count();
    // Callbacks do not sleep: the loop has other work, heartbeats for one.
    ctx.call_later(Duration::from_secs(dots as u64), move |ctx| {
        let mut channel = ctx.channel(channel).expect("it is open");
        // Without this, the broker would give the task to somebody else when the connection ends.
        channel.ack(delivery.tag).expect("it is open");
        println!("done {task}");
    });
}
