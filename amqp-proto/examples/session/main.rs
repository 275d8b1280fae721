//! The main job with nothing but a `TcpStream` and this crate's codec, frame by readable frame: handshake, declare, publish
//! with confirm, get it back, ack, close.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost:5672/ cargo run -p amqp-proto --example session
//! ```
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example has a socket"
)]

mod client;

use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use amqp_proto::ConnectionParameters;
use amqp_proto::wire::{Method, Properties, QueueDeclare};
use client::{Client, Direction, Error};

fn main() -> ExitCode {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/".to_owned());
    match run(&url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("session: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str) -> Result<(), Error> {
    let parameters = ConnectionParameters::from_uri(url)?;
    if parameters.tls.is_some() {
        return Err("this example speaks plain TCP only: use amqp://".into());
    }
    let (host, port) = parameters.addresses().next().ok_or("the URL names no host")?;
    println!(
        "connecting to {host} port {port}, virtual host {:?}",
        parameters.config.virtual_host
    );
    let stream = TcpStream::connect((host, port)).map_err(|error| format!("{host} port {port}: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut client = Client::connect(stream, &parameters.config, |direction, frame| match direction {
        Direction::Sent => println!("-> {frame}"),
        Direction::Received => println!("<- {frame}"),
    })?;

    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let queue = client.request(&declare, "queue.declare-ok", |method| match method {
        Method::QueueDeclareOk(ok) => Some(ok.queue.to_string()),
        _ => None,
    })?;
    let properties = Properties {
        content_type: Some("text/plain".try_into()?),
        ..Default::default()
    };
    client.publish(&queue, &properties, b"Hello World!")?;
    let message = client.get(&queue)?.ok_or("the message is not there")?;
    client.ack(&message)?;
    client.close()?;
    println!(
        "done: {:?} went to {queue} and came back",
        String::from_utf8_lossy(&message.body)
    );
    Ok(())
}
