//! RabbitMQ's tutorial 1, "Hello World!": publishes one message to the queue `hello`, where `mio_hello_receive` finds it.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_hello_send`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, Properties, QueueDeclare, QueueDeclareOk};
use amqp_mio::proto::{ConfirmOutcome, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{close, connector, run, short};

fn main() -> Result<(), Box<dyn Error>> {
    run(&mut SelectConnection::new(&connector()?, (), on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, ()>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    let mut channel = ctx.channel(channel).expect("it is open");
    // The broker is to confirm what is published.
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    // Both programs declare the queue, because nobody knows which is first. To do so again changes nothing.
    let hello = QueueDeclare {
        queue: short("hello"),
        durable: true,
        ..Default::default()
    };
    channel.request(&hello, on_declared).expect("it is open");
}

fn on_declared(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, answer: Result<QueueDeclareOk<'_>, RequestError>) {
    let queue = answer.expect("nobody declares it otherwise").queue;
    let to_queue = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .publish_confirmed(&to_queue, &Properties::default(), "Hello World!", on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    println!("sent Hello World!");
    close(ctx, channel.connection());
}
