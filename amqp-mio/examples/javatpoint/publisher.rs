//! javatpoint's publisher: declares the queue `my_queue` and sends a message to the queue `hello`, which is another one. A broker drops what
//! no queue gets, unless it is mandatory.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_javatpoint_publisher`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::ConfirmOutcome;
use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, Properties, QueueDeclare};
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
    let queue = QueueDeclare {
        queue: short("my_queue"),
        durable: true,
        ..Default::default()
    };
    let publish = BasicPublish {
        routing_key: short("hello"),
        mandatory: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.send_nowait(&queue).expect("it is open");
    channel
        .publish_confirmed(&publish, &Properties::default(), "Hello World!", on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, outcome: ConfirmOutcome) {
    match outcome {
        ConfirmOutcome::Acked => println!("sent Hello World!"),
        other => println!("not sent: {other}"),
    }
    close(ctx, channel.connection());
}
