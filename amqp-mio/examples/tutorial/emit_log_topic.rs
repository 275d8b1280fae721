//! RabbitMQ's tutorial 5, "Topics": tells a text to those whose pattern fits its key, which is words with dots between them:
//! `cargo run -p amqp-mio --example mio_emit_log_topic -- kern.critical "A critical kernel error"`.
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
    key: String,
    text: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let log = Log {
        key: std::env::args().nth(1).unwrap_or_else(|| "anonymous.info".into()),
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
        exchange: short("topic_logs"),
        exchange_type: short("topic"),
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
    let Log { key, text } = ctx.state();
    let (key, text) = (key.clone(), text.clone());
    // Not mandatory: what nobody wants is dropped.
    let to_logs = BasicPublish {
        exchange: short("topic_logs"),
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
    let Log { key, text } = ctx.state();
    println!("sent {key}: {text}");
    close(ctx, channel.connection());
}
