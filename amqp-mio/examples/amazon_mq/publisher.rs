//! Amazon MQ's publisher: connects over TLS, sends one message to a queue, takes it back and prints all that is known of it.
//!
//! ```sh
//! export AMQP_URL=amqps://USER:PASSWORD@BROKER.mq.REGION.amazonaws.com:5671
//! cargo run -p amqp-mio --example mio_amazon_mq_publisher
//! ```
//!
//! Any broker with TLS will do whose certificate the system trusts, or the file in `SSL_CERT_FILE`.

mod broker;
#[path = "../common/mod.rs"]
mod common;

use std::error::Error;

use amqp_mio::proto::wire::{BasicGet, BasicPublish, ConfirmSelect, Properties};
use amqp_mio::proto::{ConfirmOutcome, Got, RequestError};
use amqp_mio::{ChannelRef, Ctx, SelectConnection};
use broker::{QUEUE, declare_queue};
use common::{close, run, short};

fn main() -> Result<(), Box<dyn Error>> {
    let on_open = |ctx: &mut Ctx<'_, ()>, connection| declare_queue(ctx, connection, on_declared);
    run(&mut SelectConnection::new(&broker::connector()?, (), on_open)?)?;
    println!("closed on request");
    Ok(())
}

/// Channels are cheap: one to publish, another for the rest.
fn on_declared(ctx: &mut Ctx<'_, ()>, getting: ChannelRef) {
    let mut connection = ctx.connection(getting.connection()).expect("it is open");
    let on_channel_open = move |ctx: &mut Ctx<'_, ()>, channel| publish(ctx, channel, getting);
    connection.open_channel(on_channel_open).expect("it is open");
}

fn publish(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, getting: ChannelRef) {
    let to_queue = BasicPublish {
        routing_key: short(QUEUE),
        mandatory: true,
        ..Default::default()
    };
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    let mut view = ctx.channel(channel).expect("it is open");
    view.send_nowait(&ConfirmSelect::default()).expect("it is open");
    let sent = view.publish_confirmed(&to_queue, &persistent, "Hello World!", move |ctx, _, outcome| {
        assert_eq!(outcome, ConfirmOutcome::Acked);
        println!("sent to {QUEUE}");
        // It is taken without a consumer. `None` would mean that the queue is empty.
        let get = BasicGet {
            queue: short(QUEUE),
            no_ack: false,
        };
        let mut view = ctx.channel(getting).expect("it is open");
        view.get(&get, on_got).expect("it is open");
    });
    sent.expect("it is open");
}

fn on_got(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, got: Result<Option<Got>, RequestError>) {
    let got = got.expect("the queue is there").expect("nobody else was faster");
    println!("{:?}", got.message);
    println!("{}", String::from_utf8_lossy(&got.message.body()));
    let mut view = ctx.channel(channel).expect("it is open");
    view.ack(got.tag).expect("it is open");
    // The channels need not be closed one by one.
    close(ctx, channel.connection());
}
