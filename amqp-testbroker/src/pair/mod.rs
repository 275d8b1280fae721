//! Clients and a server in one thread, on one virtual clock.

mod client;
mod clockwork;
mod stuck;

pub use client::Client;
pub use stuck::{Stuck, StuckReason};

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::{Config, Event, Instant};

use crate::link::LinkConfig;
use crate::server::Server;
use clockwork::{Clock, Clockwork};

/// How many steps [`Pair::drive`] does at most.
const DRIVE_LIMIT: usize = 1_000_000;

/// How many steps [`Pair::drive_for`] does at most without a move of the clock.
const MOMENT_LIMIT: usize = 100_000;

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Something was told, written, read, or due, at this moment; perhaps there is more.
    Worked,
    /// There was nothing to do at this moment: the clock went to the next one.
    Jumped,
    /// There is nothing to do, now and ever, until a command is given.
    Idle,
}

/// A client and a server with a link between, and their clock.
///
/// Commands go to `client`, which is a [`Connection`](amqp_proto::Connection) and what belongs to it; `step` and `drive…` do
/// what an event loop would. Events wait in [`Client::events`] until they are taken.
///
/// ```
/// use amqp_proto::{Config, Event};
/// use amqp_testbroker::{LinkConfig, Pair, Script, ScriptedPeer};
/// use std::time::Duration;
///
/// let server = ScriptedPeer::new(Script::new().handshake().expect("channel.open"));
/// let slow = LinkConfig::perfect().latency(Duration::from_millis(20)).segment(1);
/// let mut pair = Pair::new(Config::default(), server, slow);
/// let events = pair.drive(|event| *event == Event::Connected)?;
/// assert_eq!(events, [Event::Connected]);
/// assert_eq!(pair.elapsed(), Duration::from_millis(6 * 20)); // Three round trips, in no time.
///
/// pair.client.open_channel()?;
/// pair.drive_for(Duration::from_millis(20))?;
/// pair.server.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pair<S: Server> {
    /// The client's end, and the link.
    pub client: Client<S>,
    /// The server's end.
    pub server: S,
    clock: Clock,
}

impl<S: Server> Pair<S> {
    /// A client that has just reached the server, at [`Instant::EPOCH`].
    #[must_use]
    pub fn new(config: Config, mut server: S, link: LinkConfig) -> Self {
        let clock = Clock::default();
        Self {
            client: Client::connect(Arc::new(config), &mut server, link, clock.now, 0),
            server,
            clock,
        }
    }

    /// What the clock says.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.clock.now
    }

    /// How much time has passed since the beginning.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.clock.now.duration_since(Instant::EPOCH)
    }

    /// Does a round of what can be done now, or else goes to the next moment.
    pub fn step(&mut self) -> Step {
        self.clockwork().step(Instant::MAX)
    }

    /// Goes on to the first event of that kind, and takes all up to it.
    ///
    /// # Errors
    /// It does not come: there is nothing left to do, or there were a million steps.
    pub fn drive(&mut self, mut until: impl FnMut(&Event) -> bool) -> Result<Vec<Event>, Stuck> {
        let mut events = Vec::new();
        for steps in 0..DRIVE_LIMIT {
            while let Some(event) = self.client.events.pop_front() {
                let is_last = until(&event);
                events.push(event);
                if is_last {
                    return Ok(events);
                }
            }
            if self.step() == Step::Idle && self.client.events.is_empty() {
                return Err(self.clockwork().stuck(StuckReason::Idle, steps, events));
            }
        }
        Err(self.clockwork().stuck(StuckReason::Livelock, DRIVE_LIMIT, events))
    }

    /// Goes on to the end, and takes all events: the client is closed and the stream at its end, or there is nothing left to do.
    ///
    /// # Errors
    /// More than so many steps. A connection with heartbeats has no end: use [`drive_for`](Self::drive_for).
    pub fn drive_bounded(&mut self, steps: usize) -> Result<Vec<Event>, Stuck> {
        let end = self.clockwork().drive_bounded(steps);
        let events = self.client.take_events();
        match end {
            Ok(()) => Ok(events),
            Err(reason) => Err(self.clockwork().stuck(reason, steps, events)),
        }
    }

    /// Lets so much time pass, and takes all events.
    ///
    /// # Errors
    /// A hundred thousand steps without a move of the clock.
    pub fn drive_for(&mut self, duration: Duration) -> Result<Vec<Event>, Stuck> {
        let end = self.clockwork().drive_for(duration);
        let events = self.client.take_events();
        match end {
            Ok(()) => Ok(events),
            Err(reason) => Err(self.clockwork().stuck(reason, MOMENT_LIMIT, events)),
        }
    }

    const fn clockwork(&mut self) -> Clockwork<'_, S> {
        Clockwork {
            server: &mut self.server,
            clients: std::slice::from_mut(&mut self.client),
            clock: &mut self.clock,
        }
    }
}

/// Any number of clients on one server, each with its link, and their clock. As [`Pair`], which is the case of one.
#[derive(Debug)]
pub struct Simulation<S: Server> {
    /// The clients, in the order in which they connected. Those that are over can be removed.
    pub clients: Vec<Client<S>>,
    /// The server's end.
    pub server: S,
    clock: Clock,
}

impl<S: Server> Simulation<S> {
    /// A server and nobody else, at [`Instant::EPOCH`].
    #[must_use]
    pub fn new(server: S) -> Self {
        Self {
            clients: Vec::new(),
            server,
            clock: Clock::default(),
        }
    }

    /// One more client reaches the server; its place in [`clients`](Self#structfield.clients). `first_incarnation` as
    /// [`Connection::new`](amqp_proto::Connection::new) takes it.
    pub fn connect(&mut self, config: Arc<Config>, link: LinkConfig, first_incarnation: u32) -> usize {
        let now = self.clock.now;
        let client = Client::connect(config, &mut self.server, link, now, first_incarnation);
        self.clients.push(client);
        self.clients.len().saturating_sub(1)
    }

    /// What the clock says.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.clock.now
    }

    /// Does a round of what can be done now, or else goes to the next moment.
    pub fn step(&mut self) -> Step {
        self.clockwork().step(Instant::MAX)
    }

    /// Goes on to the end: all clients are closed and their streams at their end, or there is nothing left to do.
    ///
    /// # Errors
    /// More than so many steps.
    pub fn drive_bounded(&mut self, steps: usize) -> Result<(), Stuck> {
        let mut clockwork = self.clockwork();
        let end = clockwork.drive_bounded(steps);
        end.map_err(|reason| clockwork.stuck(reason, steps, Vec::new()))
    }

    /// Lets so much time pass.
    ///
    /// # Errors
    /// A hundred thousand steps without a move of the clock.
    pub fn drive_for(&mut self, duration: Duration) -> Result<(), Stuck> {
        let mut clockwork = self.clockwork();
        let end = clockwork.drive_for(duration);
        end.map_err(|reason| clockwork.stuck(reason, MOMENT_LIMIT, Vec::new()))
    }

    const fn clockwork(&mut self) -> Clockwork<'_, S> {
        Clockwork {
            server: &mut self.server,
            clients: self.clients.as_mut_slice(),
            clock: &mut self.clock,
        }
    }
}
