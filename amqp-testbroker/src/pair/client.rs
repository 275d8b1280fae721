//! One client: what is between its commands and the server.

use std::collections::VecDeque;
use std::ops::{AddAssign, Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::{Config, Connection, Event, Instant, RecvBuf, SendBuf, TransportError};
use bytes::Buf;

use crate::link::{Link, LinkConfig, ReadOutcome, Side};
use crate::server::{Server, StreamEnd};

/// How long a closed client waits for the end of the stream.
const LINGER: Duration = Duration::from_secs(2);

/// A client of a simulated server: its [`Connection`], which it dereferences to, the link, and the buffers of both ends.
#[derive(Debug)]
pub struct Client<S: Server> {
    /// The client's state machine. Commands go here.
    pub connection: Connection,
    /// What is between client and server: to be stalled, reset, looked at.
    pub link: Link,
    /// What has happened and nobody has taken.
    pub events: VecDeque<Event>,
    /// Which stream it is at the server.
    pub key: S::Key,
    input: RecvBuf,
    output: SendBuf,
    end: ClientEnd,
    server_input: RecvBuf,
    server_output: S::Output,
    server_end: ServerEnd,
}

/// How far the client's end of the stream is.
#[derive(Debug, Default)]
struct ClientEnd {
    /// The client has told its end.
    is_told: bool,
    /// The end of the stream was read.
    is_read: bool,
    /// Nothing more is written.
    is_shut: bool,
    /// When to wait no longer for the end of the stream.
    linger: Option<Instant>,
}

/// How far the server's end of the stream is.
#[derive(Debug, Default)]
struct ServerEnd {
    /// The end of the stream was read, or the server does not care for it any more.
    is_read: bool,
    /// The server was told so.
    is_told: bool,
    /// Nothing more is written.
    is_shut: bool,
    /// What comes is dropped.
    is_deaf: bool,
}

/// What was done in a round: octets written and read, other things counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) events: usize,
    pub(super) client_wrote: usize,
    pub(super) client_read: usize,
    pub(super) server_took: usize,
    pub(super) server_wrote: usize,
    pub(super) server_read: usize,
    pub(super) timeouts: usize,
    /// Ends of the stream that were read or made.
    pub(super) ends: usize,
}

impl AddAssign for Done {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.client_wrote += other.client_wrote;
        self.client_read += other.client_read;
        self.server_took += other.server_took;
        self.server_wrote += other.server_wrote;
        self.server_read += other.server_read;
        self.timeouts += other.timeouts;
        self.ends += other.ends;
    }
}

impl<S: Server> Client<S> {
    pub(super) fn connect(
        config: Arc<Config>,
        server: &mut S,
        link: LinkConfig,
        now: Instant,
        first_incarnation: u32,
    ) -> Self {
        Self {
            connection: Connection::new(config, now, first_incarnation),
            link: Link::new(link),
            events: VecDeque::new(),
            key: server.accept(now),
            input: RecvBuf::new(),
            output: SendBuf::new(),
            end: ClientEnd::default(),
            server_input: RecvBuf::new(),
            server_output: S::Output::default(),
            server_end: ServerEnd::default(),
        }
    }

    /// Takes all events that there are.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// Whether the client has told its end and both ends of the stream are done with it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.is_told && self.end.is_read && self.server_end.is_told
    }

    /// How many octets the client was handed and could not write, and how many it has read and not taken.
    pub(super) fn buffered(&self) -> (usize, usize) {
        (self.output.remaining(), self.input.unread().len())
    }

    /// Does what can be done now, at both ends, once.
    pub(super) fn turn(&mut self, server: &mut S, now: Instant) -> Done {
        let mut done = self.client_turn(now);
        if !self.server_end.is_told {
            done += self.server_turn(server, now);
        }
        done
    }

    /// When there is something to do; [`Instant::MAX`] for never.
    pub(super) fn next_deadline(&self, now: Instant) -> Instant {
        let linger = self.end.linger.filter(|_| !self.end.is_read);
        let all = [self.connection.poll_timeout(), self.link.next_event(now), linger];
        all.into_iter().flatten().min().unwrap_or(Instant::MAX)
    }

    /// What the contract of [`Connection`] asks for: events, then writing, then reading (the link leaves a full buffer alone), the
    /// deadline last.
    fn client_turn(&mut self, now: Instant) -> Done {
        let mut done = Done::default();
        while let Some(event) = self.connection.poll_event(now, &mut self.input) {
            self.end.is_told |= matches!(event, Event::Closed(_));
            self.events.push_back(event);
            done.events += 1;
        }
        while !self.end.is_shut && self.connection.poll_transmit(now, &mut self.output) {
            let count = self.link.write(Side::Client, now, self.output.chunk());
            if count == 0 {
                break;
            }
            self.output.advance(count);
            done.client_wrote += count;
        }
        if !self.end.is_read {
            let outcome = self.link.read(Side::Client, now, &mut self.input);
            let error = (outcome == ReadOutcome::Reset).then(|| TransportError::new("connection reset"));
            match outcome {
                ReadOutcome::Octets(count) => done.client_read = count,
                ReadOutcome::Nothing => {}
                ReadOutcome::Ended | ReadOutcome::Reset => {
                    self.end.is_read = true;
                    self.connection.handle_disconnect(now, error);
                    done.ends += 1;
                }
            }
        }
        if self.connection.close_reason().is_some() {
            done.ends += self.leave(now);
        }
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            self.connection.handle_timeout(now);
            done.timeouts += 1;
        }
        done
    }

    /// The client is closed: it shuts its direction down when all is written, then waits for the server to do the same.
    fn leave(&mut self, now: Instant) -> usize {
        let linger = *self.end.linger.get_or_insert(now + LINGER);
        if !self.end.is_shut && self.connection.is_drained() && !self.output.has_remaining() {
            self.end.is_shut = true;
            self.link.shutdown(Side::Client, now);
            return 1;
        }
        if !self.end.is_read && linger <= now {
            self.end.is_read = true;
            self.end.is_shut = true;
            self.link.reset(Side::Client, now);
            return 1;
        }
        0
    }

    fn server_turn(&mut self, server: &mut S, now: Instant) -> Done {
        let mut done = Done::default();
        if !self.server_end.is_read {
            match self.link.read(Side::Server, now, &mut self.server_input) {
                ReadOutcome::Octets(count) => done.server_read = count,
                ReadOutcome::Nothing => {}
                ReadOutcome::Ended | ReadOutcome::Reset => {
                    self.server_end.is_read = true;
                    done.ends += 1;
                }
            }
        }
        done.server_took = self.hand_in(server, now);
        if self.server_end.is_read {
            self.server_end.is_told = true;
            server.handle_disconnect(self.key, now);
            self.link.shutdown(Side::Server, now);
            return done;
        }
        while !self.server_end.is_shut {
            server.poll_transmit(self.key, now, &mut self.server_output);
            if !self.server_output.has_remaining() {
                break;
            }
            let count = self.link.write(Side::Server, now, self.server_output.chunk());
            if count == 0 {
                return done;
            }
            self.server_output.advance(count);
            done.server_wrote += count;
        }
        if let Some(end) = server.stream_end(self.key) {
            done.ends += self.end_stream(end, now);
        }
        done
    }

    /// Gives the server what it has read; says how much of it was taken.
    fn hand_in(&mut self, server: &mut S, now: Instant) -> usize {
        let before = self.server_input.unread().len();
        if self.server_end.is_deaf {
            self.server_input.consume(before);
        } else if before > 0 {
            server.handle_input(self.key, now, &mut self.server_input);
        }
        before.saturating_sub(self.server_input.unread().len())
    }

    /// The server has written all, and ends the stream.
    fn end_stream(&mut self, end: StreamEnd, now: Instant) -> usize {
        let was = (self.server_end.is_shut, self.server_end.is_deaf);
        self.server_end.is_shut = true;
        self.server_end.is_deaf |= end != StreamEnd::HalfClose;
        if was == (self.server_end.is_shut, self.server_end.is_deaf) {
            return 0;
        }
        match end {
            StreamEnd::Reset => {
                self.link.reset(Side::Server, now);
                self.server_end.is_read = true;
            }
            StreamEnd::HalfClose | StreamEnd::HangUp => self.link.shutdown(Side::Server, now),
        }
        1
    }
}

impl<S: Server> Deref for Client<S> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<S: Server> DerefMut for Client<S> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(count: usize) -> Done {
        Done {
            events: count,
            client_wrote: count + 1,
            client_read: count + 2,
            server_took: count + 3,
            server_wrote: count + 4,
            server_read: count + 5,
            timeouts: count + 6,
            ends: count + 7,
        }
    }

    #[test]
    fn all_that_is_done_adds_up() {
        let mut sum = done(10);
        sum += Done::default();
        assert_eq!(sum, done(10));
        sum = Done::default();
        sum += done(10);
        assert_eq!(sum, done(10));
    }
}
