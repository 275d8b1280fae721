//! RabbitMQ's tutorial 2, "Work Queues": puts a task, which is the text of the arguments, into the queue `task_queue`.
//! A `mio_worker` takes a second for each dot in it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_new_task -- TASK...`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, Properties, QueueDeclare, QueueDeclareOk};
use amqp_mio::proto::{ConfirmOutcome, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{close, connector, run, short, text_from};

/// The application's state is the task.
type Task = String;

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut SelectConnection::new(&connector()?, text_from(1), on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, Task>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, Task>, channel: ChannelRef) {
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    let tasks = QueueDeclare {
        queue: short("task_queue"),
        durable: true,
        ..Default::default()
    };
    channel.request(&tasks, on_declared).expect("it is open");
}

fn on_declared(
    ctx: &mut Ctx<'_, Task>,
    channel: ChannelRef,
    answer: Result<QueueDeclareOk<'_>, RequestError>,
) {
    let to_queue = BasicPublish {
        routing_key: answer.expect("nobody declares it otherwise").queue,
        mandatory: true,
        ..Default::default()
    };
    // A persistent message in a durable queue survives a restart of the broker, which has it on disk when it confirms it.
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    let task = ctx.state().clone();
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .publish_confirmed(&to_queue, &persistent, task.as_str(), on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, Task>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    println!("sent {}", ctx.state());
    close(ctx, channel.connection());
}
