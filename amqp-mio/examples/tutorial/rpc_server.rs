//! RabbitMQ's tutorial 6, "Remote procedure call": answers the calls of `mio_rpc_client`, until Ctrl-C.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_rpc_server`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, BasicQos, ConfirmSelect, Properties, QueueDeclare};
use amqp_mio::proto::{ConsumerId, Delivery, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use common::{connector, run_until_ctrl_c, short};

fn main() -> Result<(), Box<dyn Error>> {
    run_until_ctrl_c(&mut SelectConnection::new(&connector()?, (), on_open)?)
}

/// What the call's body asks for, or what is wrong with it.
fn answer(call: &str) -> Result<String, String> {
    let number: u32 = call
        .parse()
        .map_err(|error: std::num::ParseIntError| error.to_string())?;
    fibonacci(number)
        .map(|result| result.to_string())
        .ok_or_else(|| "that is too large".into())
}

fn fibonacci(number: u32) -> Option<u64> {
    let (mut this, mut next) = (0_u64, 1_u64);
    for _ in 0..number {
        (this, next) = (next, this.checked_add(next)?);
    }
    Some(this)
}

fn on_open(ctx: &mut Ctx<'_, ()>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    let queue = short("rpc_queue");
    let calls = QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    };
    let four = BasicQos {
        prefetch_count: 4,
        ..Default::default()
    };
    let consume = BasicConsume {
        queue,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.send_nowait(&calls).expect("it is open");
    channel.request(&four, |_, _, _| ()).expect("it is open");
    channel
        .consume_then(&consume, on_call, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("nobody declares the queue otherwise");
    println!("waiting for messages, until Ctrl-C");
}

fn on_call(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, call: Delivery) {
    let number = String::from_utf8_lossy(&call.message.body()).into_owned();
    let (text, is_error) = match answer(&number) {
        Ok(result) => (result, false),
        Err(error) => (error, true),
    };
    let asked = call.message.properties();
    let to_caller = BasicPublish {
        routing_key: asked.reply_to.unwrap_or_default(),
        ..Default::default()
    };
    let properties = Properties {
        correlation_id: asked.correlation_id,
        message_type: is_error.then(|| short("error")),
        ..Default::default()
    };
    let mut view = ctx.channel(channel).expect("it is open");
    let tag = call.tag;
    // The call is done when its answer is with the broker.
    let sent = view.publish_confirmed(&to_caller, &properties, text.as_str(), move |ctx, channel, _| {
        // If the connection is lost, another server gets the call.
        if let Ok(mut view) = ctx.channel(channel) {
            view.ack(tag).expect("it is open");
            if !is_error {
                println!("answered fib({number})");
            }
        }
    });
    sent.expect("it is open");
}
