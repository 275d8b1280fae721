//! The other end of the comparison of clients: a broker that does next to nothing, so that it is not what is measured.
//!
//! It swallows what is published, confirms it once a read with `multiple`, and gives each consumer the messages that its
//! queue's name asks for, encoded beforehand (see `amqp_bench::QueueName`), or as many as are published (`amqp_bench::ECHO_QUEUE`). There are no queues behind that.
//!
//! It listens on a free port of 127.0.0.1, which is all it prints, and ends with its standard input.

mod input;
mod session;
mod source;

use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Error, Result};

use crate::session::Session;

/// How long a session waits for a client that does nothing.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on 127.0.0.1")?;
    println!("{}", listener.local_addr()?.port());
    thread::spawn(move || accept(&listener));
    io::stdin()
        .read_to_end(&mut Vec::new())
        .context("standard input")?;
    Ok(())
}

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        thread::spawn(move || {
            if let Err(error) = stream.map_err(Into::into).and_then(serve)
                && !has_gone(&error)
            {
                eprintln!("null_broker: {error:#}");
            }
        });
    }
}

/// Whether it says that the client ended without a word.
fn has_gone(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref()
        .is_some_and(|error: &io::Error| {
            matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
        })
}

fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Session::new(stream).run()
}
