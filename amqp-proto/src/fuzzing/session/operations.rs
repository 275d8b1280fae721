//! Operations of both sides of a connection, of the clock and of the socket.

use arbitrary::{Arbitrary, Unstructured};

use super::client::{Client, ClientOp};
use super::machine::method_frame;
use super::server::Server;
use crate::fuzzing::check::{one_line_debug, operations as all};
use crate::wire::*;
use crate::{Config, ConfirmOutcome, Event, Heartbeat, TransportError};

const DAY: u64 = 24 * 3600 * 1_000_000_000;

#[derive(Debug, Arbitrary)]
enum Op {
    Client(ClientOp),
    Server(ServerOp),
    Link(LinkOp),
}

/// What an honest server does at any time, and what another one does.
#[derive(Debug, Arbitrary)]
enum ServerOp {
    /// Answers the oldest request of a channel; a `basic.get` as it pleases.
    Answer(u8, bool),
    /// Answers the oldest requests of all channels.
    AnswerAll,
    Deliver {
        channel: u8,
        consumer: u8,
        size: u16,
        piece: u16,
    },
    Confirm {
        channel: u8,
        which: u8,
        multiple: bool,
        nack: bool,
    },
    Return(u8, u8),
    Flow(u8, bool),
    Cancel(u8, u8, bool),
    CloseChannel(u8),
    CloseConnection,
    Blocked,
    Unblocked,
    Heartbeat,
    /// Anything; it is not answered for from then on.
    Method(u8, u8),
    Octets(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum LinkOp {
    /// What the server sends stays on the way, or no longer.
    Hold(bool),
    /// Some octets of it arrive.
    Arrive(u8),
    Stall(bool),
    Write(u16),
    Sleep(u16),
    /// Until the next deadline.
    Wait,
    Disconnect,
    Pause,
    Resume,
}

/// Calls, what an honest server answers to them, what it sends by itself, what no honest server sends; time, a slow socket, the
/// end of the stream: in any order.
///
/// Each request, publish and channel is resolved exactly once, and nothing comes of a channel or connection after its end. A
/// confirm tells what the server said of that very publish, and bodies are those that it sent. What is refused writes nothing;
/// what is written is read by a server that takes no frame over the limit, and nothing on a channel that is not open. A day of
/// silence resolves every request.
pub fn operations(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut u) else {
        return;
    };
    let mut session = Session::new(&setup);
    for op in all(&mut u) {
        session.apply(op);
        session.look();
        if session.client.machine.ledger.is_closed() {
            break;
        }
    }
    session.finish(setup.ends_by_silence);
}

#[derive(Debug, Arbitrary)]
struct Setup {
    small_limits: bool,
    heartbeat: u8,
    large_frames: bool,
    small_messages: bool,
    ends_by_silence: bool,
}

struct Session {
    client: Client,
    server: Server,
    /// What the server sent and has not arrived.
    wire: Vec<u8>,
    is_held: bool,
    /// The server keeps to the protocol.
    is_honest: bool,
}

impl Session {
    fn new(setup: &Setup) -> Self {
        let mut config = Config::default().heartbeat(Heartbeat::Seconds((setup.heartbeat % 16).into()));
        if setup.small_limits {
            config = config.outbound_high_water(2000).outbound_limit(4000);
        }
        if setup.small_messages {
            config = config.max_message_size(20_000).max_partial_content(30_000);
        }
        let tune = ConnectionTune {
            channel_max: 4,
            frame_max: if setup.large_frames { 131_072 } else { 4096 },
            heartbeat: 60,
        };
        let mut session = Self {
            client: Client::new(config, tune),
            server: Server::new(tune.frame_max),
            wire: Vec::new(),
            is_held: false,
            is_honest: true,
        };
        session.look();
        session
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Client(op) => self.client.apply(op),
            Op::Server(op) => self.serve(op),
            Op::Link(op) => self.link(op),
        }
    }

    fn serve(&mut self, op: ServerOp) {
        let octets = match op {
            ServerOp::Method(..) | ServerOp::Octets(_) => {
                self.is_honest = false;
                dishonest(op)
            }
            _ if !self.is_honest => return,
            ServerOp::Answer(channel, is_found) => self.server.answer(number(channel), is_found),
            ServerOp::AnswerAll => (0..=4)
                .flat_map(|channel| self.server.answer(channel, true))
                .collect(),
            ServerOp::Deliver {
                channel,
                consumer,
                size,
                piece,
            } => self.server.deliver(number(channel), consumer, size, piece),
            ServerOp::Confirm {
                channel,
                which,
                multiple,
                nack,
            } => self.server.confirm(number(channel), which, multiple, nack),
            ServerOp::Return(channel, which) => self.server.return_up_to(number(channel), which),
            ServerOp::Flow(channel, active) => self.server.flow(number(channel), active),
            ServerOp::Cancel(channel, which, no_wait) => self.server.cancel(number(channel), which, no_wait),
            ServerOp::CloseChannel(channel) => self.server.close_channel(number(channel)),
            ServerOp::CloseConnection => method_frame(0, ConnectionClose::default()),
            ServerOp::Blocked => method_frame(0, ConnectionBlocked::default()),
            ServerOp::Unblocked => method_frame(0, ConnectionUnblocked {}),
            ServerOp::Heartbeat => HEARTBEAT.to_vec(),
        };
        self.wire.extend(octets);
    }

    fn link(&mut self, op: LinkOp) {
        let machine = &mut self.client.machine;
        match op {
            LinkOp::Hold(is_held) => self.is_held = is_held,
            LinkOp::Arrive(count) => self.arrive(count.into()),
            LinkOp::Stall(is_stalled) => machine.is_stalled = is_stalled,
            LinkOp::Write(count) => machine.write(count.into()),
            LinkOp::Sleep(millis) => machine.sleep(u64::from(millis) * 1_000_000),
            LinkOp::Wait => {
                if let Some(at) = machine.connection.poll_timeout() {
                    machine.sleep(
                        at.duration_since(machine.now)
                            .as_nanos()
                            .try_into()
                            .expect("584 years"),
                    );
                }
            }
            LinkOp::Disconnect => {
                let error = TransportError::new("reset");
                machine.connection.handle_disconnect(machine.now, Some(error));
            }
            LinkOp::Pause => machine.connection.handle_pause(),
            LinkOp::Resume => machine.connection.handle_resume(machine.now),
        }
    }

    fn arrive(&mut self, count: usize) {
        let count = count.min(self.wire.len());
        let taken = self.client.machine.feed(&self.wire[..count]);
        self.wire.drain(..taken);
    }

    /// Whatever arrives arrives, and is looked at.
    fn look(&mut self) {
        loop {
            if !self.is_held {
                self.arrive(usize::MAX);
            }
            self.client.machine.settle();
            let written = core::mem::take(&mut self.client.machine.written);
            if self.is_honest {
                self.server.read(&written);
                self.wire.append(&mut self.server.answers);
            }
            let events = core::mem::take(&mut self.client.machine.events);
            for event in &events {
                one_line_debug(event);
                if self.is_honest {
                    self.is_true(event);
                }
            }
            self.client.note(&events);
            let is_more = !self.is_held && !self.wire.is_empty();
            if self.client.machine.ledger.is_closed() || !is_more || events.is_empty() {
                return;
            }
        }
    }

    /// The server said so.
    fn is_true(&mut self, event: &Event) {
        match event {
            Event::Confirmed {
                outcome: ConfirmOutcome::Lost(_),
                ..
            } => {}
            Event::Confirmed { tags, outcome } => {
                for tag in tags.iter() {
                    let publish = self.server.publish(tags.channel().number(), tag.value());
                    let said = publish.and_then(|publish| publish.outcome());
                    assert_eq!(said.as_ref(), Some(outcome), "{tag:?}");
                }
            }
            Event::Returned(returned) => {
                let tag = returned.tag.map(|tag| tag.value());
                let number = returned.channel.number();
                let is_it = |tag| {
                    self.server
                        .publish(number, tag)
                        .is_some_and(|publish| publish.is_returned())
                };
                assert!(tag.is_none_or(is_it));
                // What was published before confirm.select has no tag; its keys begin so.
                let is_numbered = !returned.message.routing_key().as_bytes().starts_with(b"~");
                assert_eq!(tag.is_some(), is_numbered);
            }
            Event::Delivery(delivery) => {
                let tag = delivery.tag;
                let sent = self.server.delivered(tag.channel().number(), tag.value());
                assert!(sent == *delivery.message.body());
            }
            Event::Got(got) => {
                let sent = self.server.delivered(got.tag.channel().number(), got.tag.value());
                assert!(sent == *got.message.body());
            }
            Event::Closed(crate::CloseReason::Protocol(error)) => panic!("an honest server: {error}"),
            _ => {}
        }
    }

    fn finish(mut self, by_silence: bool) {
        self.is_held = false;
        self.look();
        let machine = &self.client.machine;
        if self.is_honest && machine.connection.is_open() && !machine.is_stalled && self.wire.is_empty() {
            for tag in machine.ledger.tags() {
                let publish = self.server.publish(tag.channel().number(), tag.value());
                assert_eq!(
                    publish.and_then(|publish| publish.outcome()),
                    None,
                    "{tag:?} was confirmed"
                );
            }
        }
        if by_silence {
            let machine = &mut self.client.machine;
            let is_closing = !machine.connection.is_open();
            machine.sleep(DAY);
            assert_eq!(machine.ledger.waiting(), 0);
            assert!(machine.ledger.is_closed() || !is_closing);
            self.look();
        }
        self.client.machine.disconnect();
        one_line_debug(&self.client.machine.connection);
    }
}

/// Few channels, so that their numbers are used again.
fn number(channel: u8) -> u16 {
    u16::from(channel % 5)
}

fn dishonest(op: ServerOp) -> Vec<u8> {
    match op {
        ServerOp::Octets(octets) => octets,
        ServerOp::Method(channel, which) => {
            let spec = &METHODS[usize::from(which) % METHODS.len()];
            let payload = [
                &spec.id.class.to_be_bytes()[..],
                &spec.id.method.to_be_bytes(),
                &[0; 32],
            ]
            .concat();
            let smallest = (4..payload.len()).find(|end| Method::decode(&payload[..*end]).is_ok());
            let payload = &payload[..smallest.unwrap_or(4)];
            crate::fuzzing::naive::encoded_frame(1, number(channel), payload)
        }
        _ => Vec::new(),
    }
}
