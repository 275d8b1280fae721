//! What publisher and consumer have in common.

use std::env;
use std::error::Error;

use amqp_mio::proto::RequestError;
use amqp_mio::proto::wire::{QueueDeclare, ReplyCode};
use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, TlsConfig};

use crate::common::short;

pub(crate) const QUEUE: &str = "hello world queue";

/// The broker of `AMQP_URL`, with the versions and cipher suites of TLS that Amazon MQ asks for.
///
/// Without a path the virtual host is `/`. Characters of a password that mean something in a URI are written as `%40` and the like.
pub(crate) fn connector() -> Result<Connector, Box<dyn Error>> {
    let url =
        env::var("AMQP_URL").map_err(|_| "AMQP_URL is not set, as in amqps://user:password@host:5671")?;
    Ok(Connector::from_uri(&url)?.tls(TlsConfig::amazon_mq()))
}

/// Opens a channel, declares the queue, and calls `ready`.
pub(crate) fn declare_queue(
    ctx: &mut Ctx<'_, ()>,
    connection: ConnectionId,
    ready: fn(&mut Ctx<'_, ()>, ChannelRef),
) {
    declare(ctx, connection, false, ready);
}

/// Who may not configure queues, but write and read (permissions `""`, `".*"`, `".*"`), needs one that is there: a passive declaration only
/// looks.
fn declare(
    ctx: &mut Ctx<'_, ()>,
    connection: ConnectionId,
    passive: bool,
    ready: fn(&mut Ctx<'_, ()>, ChannelRef),
) {
    let on_channel_open = move |ctx: &mut Ctx<'_, ()>, channel| {
        let queue = QueueDeclare {
            queue: short(QUEUE),
            durable: true,
            passive,
            ..Default::default()
        };
        let mut view = ctx.channel(channel).expect("it is open");
        let asked = view.request(&queue, move |ctx, channel, answer| match answer {
            Ok(_) => ready(ctx, channel),
            Err(error) if !passive && is_refused(&error) => {
                println!("{error}");
                // The refusal has closed the channel.
                declare(ctx, connection, true, ready);
            }
            Err(error) => panic!("{error}"),
        });
        asked.expect("it is open");
    };
    let mut connection = ctx.connection(connection).expect("it is open");
    connection.open_channel(on_channel_open).expect("it is open");
}

fn is_refused(error: &RequestError) -> bool {
    let RequestError::ChannelClosed(reason) = error else {
        return false;
    };
    reason
        .peer()
        .is_some_and(|peer| peer.code == ReplyCode::ACCESS_REFUSED)
}
