//! RabbitMQ's tutorial 1, "Hello World!": prints what comes to the queue `hello`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_hello_receive`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, QueueDeclare, QueueDeclareOk};
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

fn on_channel_open(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    let hello = QueueDeclare {
        queue: short("hello"),
        durable: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.request(&hello, on_declared).expect("it is open");
}

fn on_declared(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, answer: Result<QueueDeclareOk<'_>, RequestError>) {
    // The broker forgets a message when it has sent it. The second tutorial does better.
    let consume = BasicConsume {
        queue: answer.expect("nobody declares it otherwise").queue,
        no_ack: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("the queue is there");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(_: &mut Ctx<'_, ()>, _: ChannelRef, delivery: Delivery) {
    println!("received {}", String::from_utf8_lossy(&delivery.message.body()));
}
