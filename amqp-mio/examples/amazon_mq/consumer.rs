//! Amazon MQ's consumer: connects over TLS and prints what comes to a queue, until Ctrl-C.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-mio --example mio_amazon_mq_consumer
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;
#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::BasicConsume;
use amqp_mio::proto::{ConsumerId, Delivery, RequestError};
use amqp_mio::{ChannelRef, Ctx, SelectConnection};
use broker::{QUEUE, declare_queue};
use common::{run_until_ctrl_c, short};

fn main() -> Result<(), Box<dyn Error>> {
    let on_open = |ctx: &mut Ctx<'_, ()>, connection| declare_queue(ctx, connection, on_declared);
    run_until_ctrl_c(&mut SelectConnection::new(&broker::connector()?, (), on_open)?)
}

fn on_declared(ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
    // What comes needs no acknowledgement (pika's `auto_ack`): the broker forgets it when it is sent.
    let consume = BasicConsume {
        queue: short(QUEUE),
        no_ack: true,
        ..Default::default()
    };
    let mut view = ctx.channel(channel).expect("it is open");
    view.consume_then(&consume, on_message, on_started)
        .expect("it is open");
}

fn on_started(_: &mut Ctx<'_, ()>, _: ChannelRef, started: Result<ConsumerId, RequestError>) {
    started.expect("the queue is there");
    println!("waiting for messages, until Ctrl-C");
}

fn on_message(_: &mut Ctx<'_, ()>, _: ChannelRef, delivery: Delivery) {
    println!("received {}", String::from_utf8_lossy(&delivery.message.body()));
}
