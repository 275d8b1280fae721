//! RabbitMQ's tutorial 4, "Routing": tells a text to those who listen for its severity:
//! `cargo run -p amqp-mio --example mio_emit_log_direct -- warning "Low on disk"`.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, ExchangeDeclare, ExchangeDeclareOk, Properties};
use amqp_mio::proto::{ConfirmOutcome, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{close, connector, run, short, text_from};

/// What is sent.
struct Log {
    severity: String,
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = Log {
        severity: std::env::args().nth(1).unwrap_or_else(|| "info".into()),
        text: text_from(2),
    };
    run(&mut SelectConnection::new(&connector()?, log, on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, Log>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, Log>, channel: ChannelRef) {
    let logs = ExchangeDeclare {
        exchange: short("direct_logs"),
        exchange_type: short("direct"),
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.request(&logs, on_declared).expect("it is open");
}

fn on_declared(ctx: &mut Ctx<'_, Log>, channel: ChannelRef, answer: Result<ExchangeDeclareOk, RequestError>) {
    answer.expect("nobody declares it otherwise");
    let Log { severity, text } = ctx.state();
    let (key, text) = (severity.clone(), text.clone());
    // Not mandatory: what nobody wants is dropped.
    let to_logs = BasicPublish {
        exchange: short("direct_logs"),
        routing_key: short(&key),
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .publish_confirmed(&to_logs, &Properties::default(), text.as_str(), on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, Log>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    let Log { severity, text } = ctx.state();
    println!("sent {severity}: {text}");
    close(ctx, channel.connection());
}
