//! The core on a blocking socket, and nothing else: connect, declare, publish with a confirm, consume, acknowledge, close.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost cargo run -p amqp-proto --example embed_std
//! ```
#![expect(
    clippy::disallowed_types,
    reason = "an example of what the core does not do: a clock and a socket"
)]
#![expect(clippy::disallowed_methods, reason = "likewise")]

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use amqp_proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare, ReplyCode};
use amqp_proto::{ChannelCloseReason, Connection, ConnectionParameters, Event, Instant, RecvBuf, SendBuf};
use bytes::Buf;

/// A connection, its socket, and what lies between them.
struct Client {
    socket: TcpStream,
    connection: Connection,
    input: RecvBuf,
    output: SendBuf,
    epoch: Clock,
}

impl Client {
    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// Waits for the next event: writes what there is to write, reads when there is nothing to tell.
    fn next_event(&mut self) -> Result<Event, Box<dyn Error>> {
        loop {
            if let Some(event) = self.connection.poll_event(self.now(), &mut self.input) {
                return Ok(event);
            }
            while self.connection.poll_transmit(self.now(), &mut self.output) {
                let written = self.socket.write(self.output.chunk())?;
                self.output.advance(written);
            }
            let wait = match self.connection.poll_timeout() {
                Some(at) if at <= self.now() => {
                    self.connection.handle_timeout(self.now());
                    continue;
                }
                at => at.map(|at| at.duration_since(self.now()).max(Duration::from_millis(1))),
            };
            self.socket.set_read_timeout(wait)?;
            match self.socket.read(self.input.spare_mut()) {
                Ok(0) => self.connection.handle_disconnect(self.now(), None),
                Ok(count) => self.input.advance(count),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.connection.handle_timeout(self.now());
                }
                Err(error) => self.connection.handle_disconnect(self.now(), Some(error.into())),
            }
        }
    }

    /// Waits for what `wanted` recognises; the end of a channel or of the connection is an error.
    fn wait<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T, Box<dyn Error>> {
        loop {
            let event = self.next_event()?;
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            match event {
                Event::Closed(reason) => return Err(reason.into()),
                Event::ChannelClosed { reason, .. } if reason != ChannelCloseReason::Requested => {
                    return Err(reason.into());
                }
                event => println!("({event:?})"),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost".into());
    let parameters = ConnectionParameters::from_uri(&url)?;
    let (host, port) = parameters.addresses().next().ok_or("no host")?;
    let socket = TcpStream::connect((host, port))?;
    socket.set_nodelay(true)?;
    let connection = Connection::new(Arc::new(parameters.config.clone()), Instant::EPOCH, 0);
    let (input, output, epoch) = (RecvBuf::new(), SendBuf::new(), Clock::now());
    let mut client = Client {
        socket,
        connection,
        input,
        output,
        epoch,
    };
    client.wait(|event| matches!(event, Event::Connected).then_some(()))?;
    println!("connected: {:?}", client.connection.negotiated());

    // Everything up to the publish goes out at once; the answers come in order.
    let id = client.connection.open_channel()?;
    let mut channel = client.connection.channel(id).ok_or("no channel")?;
    channel.request(&ConfirmSelect::default())?;
    let declare = channel.request(&QueueDeclare {
        exclusive: true,
        ..Default::default()
    })?;
    let queue = client.wait(|event| match event {
        Event::Reply(reply) => Some(reply.read(declare)?.queue.to_str().ok()?.to_owned()),
        _ => None,
    })?;
    let mut channel = client.connection.channel(id).ok_or("no channel")?;
    let publish = BasicPublish {
        routing_key: queue.as_str().try_into()?,
        mandatory: true,
        ..Default::default()
    };
    let properties = Properties {
        content_type: Some("text/plain".try_into()?),
        ..Default::default()
    };
    let tag = channel
        .publish(&publish, &properties, "Hello World!")?
        .ok_or("not confirming")?;
    let outcome = client.wait(|event| match event {
        Event::Confirmed { tags, outcome } if tags.contains(tag) => Some(outcome.clone()),
        _ => None,
    })?;
    println!("published to {queue}: {outcome:?}");

    let mut channel = client.connection.channel(id).ok_or("no channel")?;
    let (consumer, _) = channel.consume(&BasicConsume {
        queue: queue.as_str().try_into()?,
        ..Default::default()
    })?;
    let delivery = client.wait(|event| match event {
        Event::Delivery(delivery) if delivery.consumer == consumer => Some(delivery.clone()),
        _ => None,
    })?;
    println!(
        "received: {:?}",
        String::from_utf8_lossy(&delivery.message.body())
    );
    client
        .connection
        .channel(id)
        .ok_or("no channel")?
        .ack(delivery.tag)?;

    client
        .connection
        .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    let reason = client.wait(|event| match event {
        Event::Closed(reason) => Some(reason.clone()),
        _ => None,
    })?;
    println!("{reason}");
    Ok(())
}
