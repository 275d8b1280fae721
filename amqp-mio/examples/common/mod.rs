//! What the examples have in common: which broker, and how they end.
#![allow(dead_code, reason = "no example needs all of it")]

use std::env;
use std::error::Error;

use amqp_mio::proto::CloseReason;
use amqp_mio::proto::wire::{ReplyCode, ShortStr};
use amqp_mio::{ConnectError, ConnectionId, Connector, Ctx, SelectConnection};

/// The broker of `AMQP_URL`, or else this machine's.
pub(crate) fn connector() -> Result<Connector, ConnectError> {
    let url = env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    Connector::from_uri(&url)
}

/// Runs until a callback has closed the connection.
pub(crate) fn run<S: 'static>(connection: &mut SelectConnection<S>) -> Result<(), Box<dyn Error>> {
    connection.ioloop().run()?;
    match connection.outcome() {
        Some(Ok(CloseReason::Requested { .. })) => Ok(()),
        Some(Ok(reason)) => Err(reason.into()),
        Some(Err(error)) => Err(error.into()),
        None => Err("the loop was stopped".into()),
    }
}

/// Runs until Ctrl-C, and closes as pika's documentation has it: close, then run the loop again until it ends by itself.
pub(crate) fn run_until_ctrl_c<S: 'static>(
    connection: &mut SelectConnection<S>,
) -> Result<(), Box<dyn Error>> {
    let handle = connection.ioloop().handle();
    ctrlc::set_handler(move || {
        // On a thread of its own; the loop may be gone by then.
        let _ = handle.call_soon(|ctx| ctx.stop());
    })?;
    connection.ioloop().run()?;
    connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    run(connection)?;
    println!("closed on request");
    Ok(())
}

/// Closes the connection; the loop ends when that is done.
pub(crate) fn close<S>(ctx: &mut Ctx<'_, S>, connection: ConnectionId) {
    let mut connection = ctx.connection(connection).expect("it is open");
    connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
}

/// A name or a routing key.
pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).expect("at most 255 octets")
}

/// The arguments from that one on, or else a greeting.
pub(crate) fn text_from(first: usize) -> String {
    let text = env::args().skip(first).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        "Hello World!".into()
    } else {
        text
    }
}
