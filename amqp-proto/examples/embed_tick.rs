//! The core in a game: looked at once a frame, never waited for. Each frame sends where the player is and learns what came
//! back; it does a bounded amount of work, and sleeps only until the next frame is due.
//!
//! ```sh
//! AMQP_URL=amqp://guest:guest@localhost cargo run -p amqp-proto --example embed_tick
//! ```
//!
//! `common/mod.rs` has the reading and writing.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an example of what the core does not do: a clock, a socket, frames"
)]

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::{
    BasicConsume, BasicPublish, ConfirmSelect, Properties, QueueDeclare, ReplyCode, ShortStr,
};
use amqp_proto::{ChannelId, CloseReason, Connection, Event, Instant, RequestId, SendError};
use common::{DEADLINE, Epoch, Error, Wire, check};

const FRAME: Duration = Duration::from_millis(16);
/// How many moves are made, two a frame.
const MOVES: u32 = 250;
/// What one frame does at most, so that a flood of messages costs some frames' time and not the game.
const READS_A_FRAME: usize = 4;
const EVENTS_A_FRAME: usize = 64;

fn main() -> ExitCode {
    common::exit(run())
}

fn run() -> Result<(), Error> {
    let epoch = Epoch::new();
    // A real game does this on a thread: names are looked up, and the broker may be far away.
    let (wire, config) = Wire::connect()?;
    let mut game = Game::new(Connection::new(Arc::new(config), epoch.now(), 0), wire);
    let outcome = play(epoch, &mut game);
    let Game {
        wire, mut connection, ..
    } = game;
    wire.hang_up(|output| connection.poll_transmit(epoch.now(), output));
    let frames = outcome?;
    println!("{frames} frames, {MOVES} moves made, confirmed and received");
    Ok(())
}

/// A loop with a fixed time step; gives the number of frames.
fn play(epoch: Epoch, game: &mut Game) -> Result<u32, Error> {
    let mut next = epoch.now();
    for frame in 0.. {
        game.network(epoch.now())?;
        if let Some(reason) = &game.closed {
            return match reason {
                CloseReason::Requested { acknowledged: true } if game.is_won() => Ok(frame),
                reason => Err(reason.clone().into()),
            };
        }
        game.update()?;
        if epoch.now() >= DEADLINE {
            return Err(format!("out of time after {} moves, {:?}", game.received, game.connection).into());
        }
        next = next + FRAME;
        std::thread::sleep(epoch.until(Some(next))); // A game waits for the screen here.
    }
    unreachable!("the deadline comes first")
}

struct Game {
    connection: Connection,
    wire: Wire,
    channel: Option<ChannelId>,
    declare: Option<RequestId<QueueDeclare<'static>>>,
    /// Where moves go to and come from, once it is there.
    queue: Option<String>,
    made: u32,
    confirmed: u64,
    received: u32,
    closed: Option<CloseReason>,
}

impl Game {
    fn new(connection: Connection, wire: Wire) -> Self {
        Self {
            connection,
            wire,
            channel: None,
            declare: None,
            queue: None,
            made: 0,
            confirmed: 0,
            received: 0,
            closed: None,
        }
    }

    fn is_won(&self) -> bool {
        self.received == MOVES && self.confirmed == u64::from(MOVES)
    }

    /// The network's part of a frame. Nothing here waits.
    fn network(&mut self, now: Instant) -> Result<(), Error> {
        // What is left unread or untold is there in the next frame.
        for _ in 0..READS_A_FRAME {
            match self.wire.read() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.connection.handle_disconnect(now, Some(error));
                    break;
                }
            }
        }
        // Every frame may be one in which a deadline is reached; too often does no harm.
        self.connection.handle_timeout(now);
        for _ in 0..EVENTS_A_FRAME {
            let Some(event) = self.connection.poll_event(now, &mut self.wire.input) else {
                break;
            };
            self.on_event(event)?;
        }
        while self.connection.poll_transmit(now, &mut self.wire.output) && self.wire.write() {}
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Result<(), Error> {
        check(&event)?;
        match event {
            Event::Connected => self.enter()?,
            Event::Reply(reply) => {
                if let Some(ok) = self.declare.and_then(|declare| reply.read(declare)) {
                    self.queue = Some(ok.queue.to_str()?.to_owned());
                    let consume = BasicConsume {
                        queue: ok.queue,
                        ..Default::default()
                    };
                    self.connection
                        .channel(reply.request().channel())?
                        .consume(&consume)?;
                }
            }
            Event::Delivery(delivery) => {
                let expected = position(self.received);
                if delivery.message.body() != expected.as_bytes() {
                    return Err(format!("{:?} is not {expected}", delivery.message.body()).into());
                }
                self.received += 1;
                self.connection
                    .channel(delivery.tag.channel())?
                    .ack(delivery.tag)?;
            }
            Event::Confirmed { tags, .. } => self.confirmed += tags.count(),
            Event::Closed(reason) => self.closed = Some(reason),
            _ => {}
        }
        Ok(())
    }

    /// A channel in confirm mode and a queue.
    fn enter(&mut self) -> Result<(), Error> {
        let id = self.connection.open_channel()?;
        let mut channel = self.connection.channel(id)?;
        channel.request(&ConfirmSelect::default())?;
        let declare = QueueDeclare {
            exclusive: true,
            ..Default::default()
        };
        self.declare = Some(channel.request(&declare)?);
        self.channel = Some(id);
        Ok(())
    }

    /// The game's part of a frame: two moves, or the end.
    fn update(&mut self) -> Result<(), Error> {
        if self.is_won() && self.connection.is_open() {
            self.connection
                .close(ReplyCode::REPLY_SUCCESS, "The game is over");
        }
        let (Some(id), Some(queue)) = (self.channel, &self.queue) else {
            return Ok(());
        };
        let Ok(mut channel) = self.connection.channel(id) else {
            return Ok(());
        };
        let method = BasicPublish {
            routing_key: ShortStr::new(queue)?,
            mandatory: true,
            ..Default::default()
        };
        for _ in 0..2.min(MOVES - self.made) {
            match channel.publish(&method, &Properties::default(), &*position(self.made)) {
                Ok(_) => self.made += 1,
                Err(SendError::Full { .. }) => break, // The next frame tries again.
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Where the player is after so many moves.
fn position(moves: u32) -> String {
    format!("x={} y={}", moves % 40, moves / 40)
}
