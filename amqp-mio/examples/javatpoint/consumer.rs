//! javatpoint's consumer: prints what comes to the queue `hello`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_javatpoint_consumer`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, QueueDeclare};
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
    let queue = short("hello");
    let hello = QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    };
    let consume = BasicConsume {
        queue,
        no_ack: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.send_nowait(&hello).expect("it is open");
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("nobody declares the queue otherwise");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(_: &mut Ctx<'_, ()>, _: ChannelRef, delivery: Delivery) {
    println!("received {}", String::from_utf8_lossy(&delivery.message.body()));
}
