//! RabbitMQ's tutorial 3, "Publish/Subscribe": prints what `mio_emit_log` tells, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_receive_logs`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, ExchangeDeclare, QueueBind, QueueDeclare};
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
    let exchange = short("logs");
    let logs = ExchangeDeclare {
        exchange,
        exchange_type: short("fanout"),
        ..Default::default()
    };
    // Each listener has a queue of its own, which the broker names, and which goes with the connection.
    let own = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    // A queue without a name is the one that was declared last.
    let binding = QueueBind {
        exchange,
        ..Default::default()
    };
    let consume = BasicConsume {
        no_ack: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.send_nowait(&logs).expect("it is open");
    channel.request(&own, |_, _, _| ()).expect("it is open");
    channel.send_nowait(&binding).expect("it is open");
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("nobody declares the exchange otherwise");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(_: &mut Ctx<'_, ()>, _: ChannelRef, delivery: Delivery) {
    println!("received {}", String::from_utf8_lossy(&delivery.message.body()));
}
