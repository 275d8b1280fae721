//! The core on a blocking socket, and nothing else: connect, declare, publish with a confirm, consume, acknowledge, close.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost cargo run -p amqp-proto --example embed_std
//! ```
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example of what the core does not do: a clock and a socket"
)]

use std::error::Error;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use amqp_proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare, ReplyCode};
use amqp_proto::{
    Channel, ChannelCloseReason, ChannelId, CloseReason, ConfirmOutcome, Connection, ConnectionParameters,
    Event, Instant, RecvBuf, SendBuf, SendError,
};
use bytes::Buf;

/// How long everything may take.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost".into());
    let mut client = Client::connect(&ConnectionParameters::from_uri(&url)?)?;
    let outcome = converse(&mut client);
    // Whatever happens to the stream now, how it went is known.
    let _ = client.hang_up();
    outcome
}

fn converse(client: &mut Client) -> Result<(), Box<dyn Error>> {
    client.wait(|event| matches!(event, Event::Connected).then_some(()))?;
    println!("connected: {:?}", client.connection.negotiated());

    // All three go out in one write; the answers come in order.
    let id = client.connection.open_channel()?;
    let mut channel = client.channel(id)?;
    channel.request(&ConfirmSelect::default())?;
    let declare = channel.request(&QueueDeclare {
        exclusive: true,
        ..Default::default()
    })?;
    let queue = client.wait(|event| match event {
        Event::Reply(reply) => Some(reply.read(declare)?.queue.to_string()),
        _ => None,
    })?;

    let publish = BasicPublish {
        routing_key: queue.as_str().try_into()?,
        mandatory: true,
        ..Default::default()
    };
    let properties = Properties {
        content_type: Some("text/plain".try_into()?),
        ..Default::default()
    };
    let tag = client
        .channel(id)?
        .publish(&publish, &properties, "Hello World!")?;
    let tag = tag.ok_or("the channel is not in confirm mode")?;
    client.wait(|event| match event {
        Event::Confirmed {
            tags,
            outcome: ConfirmOutcome::Acked,
        } => tags.contains(tag).then_some(()),
        _ => None,
    })?;
    println!("published to {queue}, confirmed");

    let consume = BasicConsume {
        queue: queue.as_str().try_into()?,
        ..Default::default()
    };
    let (consumer, _) = client.channel(id)?.consume(&consume)?;
    let delivery = client.wait(|event| match event {
        Event::Delivery(delivery) if delivery.consumer == consumer => Some(delivery.clone()),
        _ => None,
    })?;
    println!("received {:?}", String::from_utf8_lossy(&delivery.message.body()));
    client.channel(id)?.ack(delivery.tag)?;

    client
        .connection
        .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    client.wait(|event| match event {
        Event::Closed(CloseReason::Requested { acknowledged: true }) => Some(()),
        _ => None,
    })?;
    println!("closed");
    Ok(())
}

/// A connection, its socket, and what lies between them.
struct Client {
    socket: TcpStream,
    connection: Connection,
    input: RecvBuf,
    output: SendBuf,
    epoch: Clock,
}

impl Client {
    fn connect(parameters: &ConnectionParameters) -> Result<Self, Box<dyn Error>> {
        if parameters.tls.is_some() {
            return Err("this example speaks plain TCP only: use amqp://".into());
        }
        let (host, port) = parameters.addresses().next().ok_or("the URL names no host")?;
        let socket =
            TcpStream::connect((host, port)).map_err(|error| format!("{host} port {port}: {error}"))?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let epoch = Clock::now();
        let connection = Connection::new(Arc::new(parameters.config.clone()), Instant::EPOCH, 0);
        let (input, output) = (RecvBuf::new(), SendBuf::new());
        Ok(Self {
            socket,
            connection,
            input,
            output,
            epoch,
        })
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    fn channel(&mut self, id: ChannelId) -> Result<Channel<'_>, SendError> {
        self.connection.channel(id)
    }

    /// Waits for what `wanted` recognises; what makes it futile is an error, in the broker's words.
    fn wait<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> Result<T, Box<dyn Error>> {
        loop {
            let event = self.next_event();
            if let Some(found) = wanted(&event) {
                return Ok(found);
            }
            match event {
                Event::Closed(reason) => return Err(reason.into()),
                Event::ChannelClosed { reason, .. } if reason != ChannelCloseReason::Requested => {
                    return Err(reason.into());
                }
                Event::RequestFailed { cause, .. } => return Err(cause.into()),
                Event::Confirmed { outcome, .. } => return Err(format!("the message was {outcome}").into()),
                _ => {}
            }
        }
    }

    /// The next event: what the core has to tell, else what follows from what arrives.
    fn next_event(&mut self) -> Event {
        loop {
            if let Some(event) = self.connection.poll_event(self.now(), &mut self.input) {
                return event;
            }
            if let Err(error) = self.write().and_then(|()| self.read()) {
                self.connection.handle_disconnect(self.now(), Some(error.into()));
            }
        }
    }

    /// Writes all there is to write.
    fn write(&mut self) -> io::Result<()> {
        while self.connection.poll_transmit(self.now(), &mut self.output) {
            self.socket.write_all(self.output.chunk())?;
            self.output.advance(self.output.chunk().len());
        }
        Ok(())
    }

    /// Waits for octets or for the next deadline.
    fn read(&mut self) -> io::Result<()> {
        let now = self.now();
        let end = Instant::since_epoch(DEADLINE);
        let wait = self
            .connection
            .poll_timeout()
            .unwrap_or(end)
            .min(end)
            .duration_since(now);
        if wait.is_zero() {
            self.connection.handle_timeout(now);
            return if now < end {
                Ok(())
            } else {
                Err(io::Error::new(TimedOut, "out of time"))
            };
        }
        self.socket.set_read_timeout(Some(wait))?;
        match self.socket.read(self.input.spare_mut()) {
            Ok(0) => self.connection.handle_disconnect(self.now(), None),
            Ok(count) => self.input.advance(count),
            // A deadline is looked at the next time.
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Ends the stream, our side first: a socket that is closed over unread octets is reset, and what we wrote last is lost.
    fn hang_up(&mut self) -> io::Result<()> {
        self.write()?;
        self.socket.shutdown(Shutdown::Write)?;
        self.socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        io::copy(&mut self.socket, &mut io::sink()).map(drop)
    }
}
