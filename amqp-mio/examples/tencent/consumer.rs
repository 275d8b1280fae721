//! Consumer for Tencent Cloud's TDMQ for RabbitMQ: prints what a direct exchange sends by some routing keys, one message at a time,
//! until Ctrl-C.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-mio --example mio_tencent_consumer -- info error
//! ```

mod broker;
#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicConsume, BasicQos, QueueBind, QueueDeclare, QueueDeclareOk};
use amqp_mio::proto::{ConsumerId, Delivery, RequestError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use broker::EXCHANGE;
use common::{run_until_ctrl_c, short};

/// The application's state.
type RoutingKeys = Vec<String>;

fn main() -> Result<(), Box<dyn Error>> {
    let routing_keys: RoutingKeys = std::env::args().skip(1).collect();
    if routing_keys.is_empty() {
        return Err("usage: mio_tencent_consumer ROUTING_KEY...".into());
    }
    run_until_ctrl_c(&mut SelectConnection::new(
        &broker::connector()?,
        routing_keys,
        on_open,
    )?)
}

fn on_open(ctx: &mut Ctx<'_, RoutingKeys>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, RoutingKeys>, channel: ChannelRef) {
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.send_nowait(&broker::exchange()).expect("it is open");
    // Exclusive wins over durable: the queue is gone when this connection is.
    let queue = QueueDeclare {
        queue: short("route_queue1"),
        exclusive: true,
        durable: true,
        ..Default::default()
    };
    channel.request(&queue, on_declared).expect("it is open");
}

fn on_declared(
    ctx: &mut Ctx<'_, RoutingKeys>,
    channel: ChannelRef,
    answer: Result<QueueDeclareOk<'_>, RequestError>,
) {
    let queue = answer.unwrap_or_else(|error| panic!("{error}")).queue;
    let routing_keys = ctx.state().clone();
    let mut channel = ctx.channel(channel).expect("it is open");
    for routing_key in &routing_keys {
        let binding = QueueBind {
            queue,
            exchange: short(EXCHANGE),
            routing_key: short(routing_key),
            ..Default::default()
        };
        channel.send_nowait(&binding).expect("it is open");
    }
    // Set before the consumer is there, and valid for it.
    let one = BasicQos {
        prefetch_count: 1,
        ..Default::default()
    };
    channel.request(&one, |_, _, _| ()).expect("it is open");
    let consume = BasicConsume {
        queue,
        ..Default::default()
    };
    channel
        .consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, RoutingKeys>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("the queue is there");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(ctx: &mut Ctx<'_, RoutingKeys>, channel: ChannelRef, delivery: Delivery) {
    println!("received {}", String::from_utf8_lossy(&delivery.message.body()));
    let mut channel = ctx.channel(channel).expect("it is open");
    channel.ack(delivery.tag).expect("it is open");
}
