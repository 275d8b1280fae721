//! RabbitMQ's tutorial 5, "Topics": prints what `mio_emit_log_topic` tells with keys that fit a pattern, until Ctrl-C:
//! `cargo run -p amqp-mio --example mio_receive_logs_topic -- "kern.*" "*.critical"`. A `*` is one word, a `#` any number of them.
//!
//! On the broker of `AMQP_URL`, or else on this machine's.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, ExchangeDeclare, QueueBind, QueueDeclare};
use amqp_mio::proto::{ConsumerId, Delivery, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{connector, run_until_ctrl_c, short};

fn main() -> Result<(), Box<dyn Error>> {
    let patterns: Vec<String> = std::env::args().skip(1).collect();
    if patterns.is_empty() {
        return Err("usage: mio_receive_logs_topic PATTERN...".into());
    }
    run_until_ctrl_c(&mut SelectConnection::new(&connector()?, patterns, on_open)?)
}

fn on_open(ctx: &mut Ctx<'_, Vec<String>>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, Vec<String>>, channel: ChannelRef) {
    let patterns = ctx.state().clone();
    let exchange = short("topic_logs");
    let logs = ExchangeDeclare {
        exchange,
        exchange_type: short("topic"),
        ..Default::default()
    };
    let own = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let consume = BasicConsume {
        no_ack: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.send_nowait(&logs).expect("it is open");
    channel.request(&own, |_, _, _| ()).expect("it is open");
    // What fits several of its bindings comes once all the same.
    for pattern in &patterns {
        let binding = QueueBind {
            exchange,
            routing_key: short(pattern),
            ..Default::default()
        };
        channel.send_nowait(&binding).expect("it is open");
    }
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, Vec<String>>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("nobody declares the exchange otherwise");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(_: &mut Ctx<'_, Vec<String>>, _: ChannelRef, delivery: Delivery) {
    let message = &delivery.message;
    let text = message.body();
    println!(
        "received {}: {}",
        message.routing_key(),
        String::from_utf8_lossy(&text)
    );
}
