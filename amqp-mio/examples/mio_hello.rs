//! The main job: declare a queue, publish a message and hear that the broker has it, consume it, acknowledge it.
//!
//! On the broker of `AMQP_URL`, or else on the embedded one, which lives in this process: `cargo run -p amqp-mio --example mio_hello`.

mod common;

use std::env;
use std::error::Error;

use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare, QueueDeclareOk,
};
use amqp_mio::proto::{ConfirmOutcome, Delivery, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, SelectConnection};
use amqp_testbroker::TestBroker;

fn main() -> Result<(), Box<dyn Error>> {
    let embedded = match env::var_os("AMQP_URL") {
        Some(_) => None,
        None => Some(TestBroker::start()?),
    };
    let connector = match &embedded {
        Some(broker) => Connector::from_uri(&broker.uri())?,
        None => common::connector()?,
    };
    common::run(&mut SelectConnection::new(&connector, (), on_open)?)?;
    println!("closed on request");
    Ok(())
}

fn on_open(ctx: &mut Ctx<'_, ()>, connection: ConnectionId) {
    println!("connected");
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    let queue = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.request(&queue, on_declared).expect("it is open");
}

fn on_declared(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, answer: Result<QueueDeclareOk<'_>, RequestError>) {
    let queue = answer.expect("it has no name yet").queue;
    println!("declared the queue {queue}");
    let to_queue = BasicPublish {
        routing_key: queue,
        mandatory: true,
        ..Default::default()
    };
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .publish_confirmed(&to_queue, &Properties::default(), "Hello, world!", on_confirmed)
        .expect("it is open");
}

fn on_confirmed(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    println!("published, and the broker has confirmed it");
    // A queue without a name is the one that was declared last on this channel.
    let consume = BasicConsume::default();
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.consume(&consume, on_message).expect("it is open");
}

fn on_message(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, delivery: Delivery) {
    println!("received: {}", String::from_utf8_lossy(&delivery.message.body()));
    let mut view = ctx.channel(channel).expect("it is open");
    view.ack(delivery.tag).expect("it is open");
    println!("acknowledged");
    common::close(ctx, channel.connection());
}
