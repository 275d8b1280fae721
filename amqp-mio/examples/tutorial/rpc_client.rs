//! RabbitMQ's tutorial 6, "Remote procedure call": asks `mio_rpc_server` for a Fibonacci number, the 30th or that of the argument.
//!
//! On the broker of `AMQP_URL`, or else on this machine's: `cargo run -p amqp-mio --example mio_rpc_client -- 42`.

#[path = "../common/mod.rs"]
mod common;

use std::error::Error;
use std::time::Duration;

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, Properties};
use amqp_mio::proto::{ConfirmOutcome, Delivery};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection, TimerId};
use common::{close, connector, run, short};

/// What is asked, until when, and what came of it.
struct Call {
    number: String,
    deadline: Option<TimerId>,
    answer: Result<String, String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let call = Call {
        number: std::env::args().nth(1).unwrap_or_else(|| "30".into()),
        deadline: None,
        answer: Err("not asked".into()),
    };
    let mut connection = SelectConnection::new(&connector()?, call, on_open)?;
    run(&mut connection)?;
    let Call { number, answer, .. } = connection.ioloop().state();
    let answer = answer
        .as_ref()
        .map_err(|error| format!("fib({number}): {error}"))?;
    println!("fib({number}) = {answer}");
    Ok(())
}

fn on_open(ctx: &mut Ctx<'_, Call>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, Call>, channel: ChannelRef) {
    let number = ctx.state().number.clone();
    // RabbitMQ's direct reply-to: the answer comes to this channel without a queue.
    let answers = BasicConsume {
        queue: short("amq.rabbitmq.reply-to"),
        no_ack: true,
        ..Default::default()
    };
    let to_server = BasicPublish {
        routing_key: short("rpc_queue"),
        mandatory: true,
        ..Default::default()
    };
    let properties = Properties {
        reply_to: Some(short("amq.rabbitmq.reply-to")),
        correlation_id: Some(short("1")),
        ..Default::default()
    };
    let mut view = ctx.channel(channel).expect("it is open");
    view.send_nowait(&ConfirmSelect::default()).expect("it is open");
    view.consume(&answers, on_answer).expect("it is open");
    view.publish_confirmed(&to_server, &properties, number.as_str(), on_confirmed)
        .expect("it is open");
    let late = move |ctx: &mut Ctx<'_, Call>| end(ctx, channel, Err("no answer in 30 seconds".into()));
    ctx.state().deadline = ctx.call_later(Duration::from_secs(30), late);
}

fn on_confirmed(ctx: &mut Ctx<'_, Call>, channel: ChannelRef, outcome: ConfirmOutcome) {
    match outcome {
        ConfirmOutcome::Acked => {}
        ConfirmOutcome::Returned => end(ctx, channel, Err("no queue takes the call".into())),
        other => end(ctx, channel, Err(other.to_string())),
    }
}

fn on_answer(ctx: &mut Ctx<'_, Call>, channel: ChannelRef, delivery: Delivery) {
    let text = String::from_utf8_lossy(&delivery.message.body()).into_owned();
    let is_error = delivery.message.properties().message_type == Some(short("error"));
    let answer = match is_error {
        true => Err(format!("the server failed: {text}")),
        false => Ok(text),
    };
    end(ctx, channel, answer);
}

fn end(ctx: &mut Ctx<'_, Call>, channel: ChannelRef, answer: Result<String, String>) {
    ctx.state().answer = answer;
    if let Some(deadline) = ctx.state().deadline.take() {
        ctx.remove_timeout(deadline);
        close(ctx, channel.connection());
    }
}
