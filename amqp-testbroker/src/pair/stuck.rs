//! Why driving came to no end, for a person to read.

use std::fmt;

use amqp_proto::{Event, Instant};

use super::client::{Client, Done};
use super::clockwork::Clock;
use crate::link::Side;
use crate::server::Server;

/// How many of the last events are shown.
const SHOWN_EVENTS: usize = 8;

/// Driving came to no end. `Display` tells where everything was.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Stuck {
    /// Why.
    pub reason: StuckReason,
    /// When.
    pub now: Instant,
    /// After how many steps.
    pub steps: usize,
    /// The events that were taken before.
    pub events: Vec<Event>,
    /// Where clients, links and server were, and what was done last; lines.
    pub account: Vec<String>,
}

/// Why driving came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StuckReason {
    /// There was nothing left to do, and what was waited for had not happened.
    Idle,
    /// There was always something to do.
    Livelock,
}

impl Stuck {
    pub(super) fn new<S: Server>(
        reason: StuckReason,
        steps: usize,
        events: Vec<Event>,
        clients: &[Client<S>],
        server_deadline: Option<Instant>,
        clock: &Clock,
    ) -> Self {
        let mut account = Vec::new();
        for (number, client) in clients.iter().enumerate() {
            account.push(describe_client(number, client));
        }
        if let Some(at) = server_deadline {
            account.push(format!("server: next deadline {at:?}"));
        }
        let recent = clock.recent.iter();
        account.extend(recent.map(|(at, done)| format!("{at:?}: {done}")));
        Self {
            reason,
            now: clock.now,
            steps,
            events,
            account,
        }
    }
}

fn describe_client<S: Server>(number: usize, client: &Client<S>) -> String {
    let connection = &client.connection;
    let (unwritten, untaken) = client.buffered();
    let mut line = format!(
        "client {number}: {}, {} octets queued and {unwritten} unwritten, {untaken} untaken; under way {} to the server, {} to the client",
        connection.state(),
        connection.queued_bytes(),
        client.link.unread(Side::Client),
        client.link.unread(Side::Server),
    );
    if let (Some(at), Some(reason)) = (connection.poll_timeout(), connection.timeout_reason()) {
        line.push_str(&format!("; next deadline {at:?} for {reason:?}"));
    }
    if let Some(reason) = connection.close_reason() {
        line.push_str(&format!("; {reason}"));
    }
    line
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.events, "events"),
            (self.client_wrote, "octets written by clients"),
            (self.client_read, "read by clients"),
            (self.server_wrote, "written by the server"),
            (self.server_read, "read by the server"),
            (self.server_took, "taken by the server"),
            (self.timeouts, "deadlines"),
            (self.ends, "ends"),
        ];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
        f.write_str(&words.join(", "))
    }
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.reason {
            StuckReason::Idle => "nothing is left to do, and it did not come to what was waited for",
            StuckReason::Livelock => "it comes to no end",
        };
        write!(f, "{why}, at {:?} after {} steps", self.now, self.steps)?;
        for line in &self.account {
            write!(f, "\n  {line}")?;
        }
        let skipped = self.events.len().saturating_sub(SHOWN_EVENTS);
        for event in self.events.iter().skip(skipped) {
            write!(f, "\n  event: {event:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Stuck {}
