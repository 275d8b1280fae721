//! RabbitMQ's tutorial 3, "Publish/Subscribe": tells a text to every `mio_receive_logs` that runs.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_emit_log -- TEXT...`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, ExchangeDeclare, ExchangeDeclareOk, Properties};
use amqp_mio::proto::{ConfirmOutcome, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{close, connector, run, short, text_from};

fn main() -> Result<(), Box<dyn Error>> {
    let mut text = text_from(1);
    if std::env::args().len() == 1 {
        text = format!("info: {text}");
    }
    run(&mut SelectConnection::new(&connector()?, text, on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, String>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, String>, channel: ChannelRef) {
    let logs = ExchangeDeclare {
        exchange: short("logs"),
        exchange_type: short("fanout"),
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.request(&logs, on_declared).expect("it is open");
}

fn on_declared(
    ctx: &mut Ctx<'_, String>,
    channel: ChannelRef,
    answer: Result<ExchangeDeclareOk, RequestError>,
) {
    answer.expect("nobody declares it otherwise");
    // Not mandatory: if nobody listens, the broker drops it, and confirms it all the same.
    let to_logs = BasicPublish {
        exchange: short("logs"),
        ..Default::default()
    };
    let text = ctx.state().clone();
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .publish_confirmed(&to_logs, &Properties::default(), text.as_str(), on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, String>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    println!("sent {}", ctx.state());
    close(ctx, channel.connection());
}
