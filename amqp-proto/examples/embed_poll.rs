//! The core in a loop around poll(2): one thread, one socket that never blocks, 10 000 messages published with confirms and
//! consumed at the same time. On Unix.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost cargo run -p amqp-proto --example embed_poll
//! ```
//!
//! `common/mod.rs` has the reading and writing.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example of what the core does not do: a clock and a socket"
)]

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::{
    BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare, QueueDeclareOk, ReplyCode, ShortStr,
};
use amqp_proto::{ChannelId, CloseReason, Connection, Delivery, Event, RequestId, SendError};
use bytes::{Buf, Bytes};
use common::{DEADLINE, Epoch, Error, Wire, check};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

const MESSAGES: u64 = 10_000;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<(), Error> {
    let epoch = Epoch::new();
    let (mut wire, config) = Wire::connect()?;
    let mut connection = Connection::new(Arc::new(config), epoch.now(), 0);
    let mut job = Job::new();
    let outcome = drive(epoch, &mut wire, &mut connection, &mut job);
    wire.hang_up(|output| connection.poll_transmit(epoch.now(), output));
    outcome?;
    println!(
        "{} messages published, confirmed, received and acknowledged; {} times there was no room to publish",
        job.published, job.waited_for_room
    );
    Ok(())
}

/// The loop: events, then writing, then waiting for the socket or the next deadline.
fn drive(epoch: Epoch, wire: &mut Wire, connection: &mut Connection, job: &mut Job) -> Result<(), Error> {
    loop {
        while let Some(event) = connection.poll_event(epoch.now(), &mut wire.input) {
            match event {
                Event::Closed(CloseReason::Requested { acknowledged: true }) if job.is_done() => {
                    return Ok(());
                }
                Event::Closed(reason) => return Err(reason.into()),
                event => job.on_event(connection, event)?,
            }
        }
        while connection.poll_transmit(epoch.now(), &mut wire.output) && wire.write() {}
        let is_readable = wait(wire, epoch.until(connection.poll_timeout()))?;
        if epoch.now() >= DEADLINE {
            return Err(format!("out of time after {} messages, {connection:?}", job.received).into());
        }
        if connection.poll_timeout().is_some_and(|at| at <= epoch.now()) {
            connection.handle_timeout(epoch.now());
        }
        if is_readable && let Err(error) = wire.read() {
            connection.handle_disconnect(epoch.now(), Some(error));
        }
    }
}

/// Sleeps until the socket has octets or takes what is left to write, at most that long; says whether to read.
fn wait(wire: &Wire, timeout: Duration) -> Result<bool, Error> {
    let mut interest = PollFlags::IN;
    if wire.output.has_remaining() {
        // Only then: a socket can be written to nearly always, and would wake us for nothing.
        interest |= PollFlags::OUT;
    }
    let mut sockets = [PollFd::new(&wire.socket, interest)];
    match poll(&mut sockets, Some(&Timespec::try_from(timeout)?)) {
        Ok(_) | Err(Errno::INTR) => Ok(sockets[0]
            .revents()
            .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)),
        Err(error) => Err(error.into()),
    }
}

/// What is to be done, and how far it is.
struct Job {
    channel: Option<ChannelId>,
    declare: Option<RequestId<QueueDeclare<'static>>>,
    /// Whose name the broker chose.
    queue: String,
    /// What the bodies are cut from.
    octets: Bytes,
    published: u64,
    confirmed: u64,
    received: u64,
    waited_for_room: u32,
}

impl Job {
    fn new() -> Self {
        Self {
            channel: None,
            declare: None,
            queue: String::new(),
            octets: vec![b'.'; 8192].into(),
            published: 0,
            confirmed: 0,
            received: 0,
            waited_for_room: 0,
        }
    }

    const fn is_done(&self) -> bool {
        self.confirmed == MESSAGES && self.received == MESSAGES
    }

    fn on_event(&mut self, connection: &mut Connection, event: Event) -> Result<(), Error> {
        check(&event)?;
        match event {
            Event::Connected => self.declare(connection)?,
            Event::Reply(reply) => {
                if let Some(ok) = self.declare.and_then(|declare| reply.read(declare)) {
                    self.start(connection, ok)?;
                }
            }
            Event::Writable => self.publish(connection)?,
            Event::Delivery(delivery) => self.receive(connection, &delivery)?,
            Event::Confirmed { tags, .. } => self.confirmed += tags.count(),
            _ => {}
        }
        if self.is_done() {
            connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
        }
        Ok(())
    }

    /// A channel in confirm mode and a queue: nothing here waits for an answer before the next is sent.
    fn declare(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let id = connection.open_channel()?;
        let mut channel = connection.channel(id)?;
        channel.request(&ConfirmSelect::default())?;
        let declare = QueueDeclare {
            exclusive: true,
            ..Default::default()
        };
        self.declare = Some(channel.request(&declare)?);
        self.channel = Some(id);
        Ok(())
    }

    /// The queue is there.
    fn start(&mut self, connection: &mut Connection, ok: QueueDeclareOk<'_>) -> Result<(), Error> {
        self.queue = ok.queue.to_str()?.to_owned();
        let id = self.channel.ok_or(SendError::NotConnected)?;
        let mut channel = connection.channel(id)?;
        channel.consume(&BasicConsume {
            queue: ok.queue,
            ..Default::default()
        })?;
        self.publish(connection)
    }

    /// Publishes until there is no more room; [`Event::Writable`] tells when to go on.
    fn publish(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let id = self.channel.ok_or(SendError::NotConnected)?;
        let mut channel = connection.channel(id)?;
        let method = BasicPublish {
            routing_key: ShortStr::new(&self.queue)?,
            mandatory: true,
            ..Default::default()
        };
        while self.published < MESSAGES {
            // Shared octets: from 4096 on they are written from where they stand.
            let body = self.octets.slice(..body_len(self.published));
            match channel.publish(&method, &Properties::default(), body) {
                Ok(_) => self.published += 1,
                Err(SendError::Full { .. }) => {
                    self.waited_for_room += 1;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&mut self, connection: &mut Connection, delivery: &Delivery) -> Result<(), Error> {
        let (found, expected) = (delivery.message.body_len(), body_len(self.received));
        if found != expected {
            return Err(format!("message {} has {found} octets, not {expected}", self.received).into());
        }
        self.received += 1;
        let mut channel = connection.channel(delivery.tag.channel())?;
        Ok(channel.ack(delivery.tag)?)
    }
}

/// The messages have 0 to 5999 octets; the queue keeps their order, so this is what to expect of each.
fn body_len(message: u64) -> usize {
    usize::try_from(message * 37 % 6000).unwrap_or_default()
}
