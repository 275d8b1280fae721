//! Producer for Tencent Cloud's TDMQ for RabbitMQ: sends persistent messages to a direct exchange, and closes.
//!
//! ```sh
//! export TDMQ_HOST=amqp-xxx.rabbitmq.ap-sh.public.tencenttdmq.com 'TDMQ_VHOST=amqp-xxx|NAME' TDMQ_ROLE=ROLE TDMQ_TOKEN=TOKEN
//! cargo run -p amqp-mio --example mio_tencent_producer
//! ```
//!
//! What it sends reaches the `mio_tencent_consumer`s that run: a direct exchange keeps nothing.

mod broker;
#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::ConfirmOutcome;
use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, Properties};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, SelectConnection};
use broker::EXCHANGE;
use common::{close, run, short};

const MESSAGES: u32 = 9;

fn main() -> Result<(), Box<dyn Error>> {
    // The state is how many messages are confirmed.
    let mut connection = SelectConnection::new(&broker::connector()?, 0_u32, on_open)?;
    run(&mut connection)?;
    let unconfirmed = MESSAGES - *connection.ioloop().state();
    println!("closed on request, {unconfirmed} unconfirmed");
    Ok(())
}

fn on_open(ctx: &mut Ctx<'_, u32>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection
        .open_channel(on_channel_open)
        .expect("it is the first channel");
}

fn on_channel_open(ctx: &mut Ctx<'_, u32>, channel: ChannelRef) {
    let mut channel = ctx.channel(channel).expect("it is open");
    channel
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    channel.send_nowait(&broker::exchange()).expect("it is open");
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    let routing_keys = ["info", "warning", "error"];
    for (number, routing_key) in (1..=MESSAGES).zip(routing_keys.iter().cycle()) {
        let message = format!("{routing_key} {number}");
        let publish = BasicPublish {
            exchange: short(EXCHANGE),
            routing_key: short(routing_key),
            ..Default::default()
        };
        channel
            .publish_confirmed(&publish, &persistent, message.as_str(), on_confirmed)
            .expect("so few are not too many");
    }
}

fn on_confirmed(ctx: &mut Ctx<'_, u32>, channel: ChannelRef, outcome: ConfirmOutcome) {
    assert_eq!(outcome, ConfirmOutcome::Acked);
    *ctx.state() += 1;
    if *ctx.state() == MESSAGES {
        close(ctx, channel.connection());
    }
}
