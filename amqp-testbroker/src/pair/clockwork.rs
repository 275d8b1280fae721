//! What moves clients, server and clock, however many clients there are.

use std::collections::VecDeque;
use std::time::Duration;

use amqp_proto::{Event, Instant};

use super::client::{Client, Done};
use super::stuck::{Stuck, StuckReason};
use super::{MOMENT_LIMIT, Step};
use crate::server::Server;

/// How many steps are remembered, to be told of when there is no end.
const REMEMBERED: usize = 8;

/// The time, and what was done lately.
#[derive(Debug, Default)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) recent: VecDeque<(Instant, Done)>,
}

impl Clock {
    fn remember(&mut self, done: Done) {
        if self.recent.len() >= REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((self.now, done));
    }
}

/// All that a step needs, borrowed.
pub(super) struct Clockwork<'a, S: Server> {
    pub(super) server: &'a mut S,
    pub(super) clients: &'a mut [Client<S>],
    pub(super) clock: &'a mut Clock,
}

impl<S: Server> Clockwork<'_, S> {
    /// A round at this moment, or else on to the next moment, up to `limit` at most.
    pub(super) fn step(&mut self, limit: Instant) -> Step {
        let now = self.clock.now;
        let mut done = Done::default();
        for client in &mut *self.clients {
            done += client.turn(self.server, now);
        }
        if self.server.poll_timeout().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
            done.timeouts += 1;
        }
        if done != Done::default() {
            self.clock.remember(done);
            return Step::Worked;
        }
        let next = self.next_deadline();
        if next == Instant::MAX || next > limit {
            return Step::Idle;
        }
        if next <= now {
            // Due, and nothing came of it: if that goes on, it must count as a livelock.
            self.clock.remember(done);
            return Step::Worked;
        }
        self.clock.now = next;
        Step::Jumped
    }

    /// Later than now unless something is wrong, since what is due now was just done; [`Instant::MAX`] for never.
    fn next_deadline(&self) -> Instant {
        let clients = self
            .clients
            .iter()
            .map(|client| client.next_deadline(self.clock.now));
        let server = self.server.poll_timeout();
        clients.chain(server).min().unwrap_or(Instant::MAX)
    }

    pub(super) fn drive_bounded(&mut self, limit: usize) -> Result<(), StuckReason> {
        for _ in 0..limit {
            let is_over = !self.clients.is_empty() && self.clients.iter().all(Client::is_over);
            if is_over || self.step(Instant::MAX) == Step::Idle {
                return Ok(());
            }
        }
        Err(StuckReason::Livelock)
    }

    pub(super) fn drive_for(&mut self, duration: Duration) -> Result<(), StuckReason> {
        let end = self.clock.now + duration;
        let mut steps_of_this_moment: usize = 0;
        while steps_of_this_moment < MOMENT_LIMIT {
            match self.step(end) {
                Step::Worked => steps_of_this_moment += 1,
                Step::Jumped => steps_of_this_moment = 0,
                Step::Idle => {
                    self.clock.now = end;
                    return Ok(());
                }
            }
        }
        Err(StuckReason::Livelock)
    }

    /// An account of where everything is.
    pub(super) fn stuck(&self, reason: StuckReason, steps: usize, events: Vec<Event>) -> Stuck {
        let server = self.server.poll_timeout();
        Stuck::new(reason, steps, events, self.clients, server, self.clock)
    }
}
