//! One stream, the core's connection on it, and their buffers.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use amqp_net::{AttemptError, Stage};
use amqp_proto::{
    CloseReport, Config, Connection, Event, Instant, RecvBuf, SendBuf, Shutdown, TransportError,
};
use bytes::Buf;

use crate::leaving::Leaving;
use crate::stream::Stream;

/// How many octets are read at most before the caller's other sockets get their turn.
const MOST_READ: usize = 256 * 1024;

/// The same for writing.
const MOST_WRITTEN: usize = 1024 * 1024;

/// How many pieces of memory are written at once.
const MOST_SLICES: usize = 16;

/// How long what the peer had to say is waited for when nothing can be written any more.
const LINGER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) stream: Stream,
    pub(crate) core: Connection,
    input: RecvBuf,
    output: SendBuf,
    /// The socket may have something. Edge-triggered: it is asked until it has not.
    is_readable: bool,
    /// The socket may take something.
    is_writable: bool,
    /// There may be something to write.
    is_dirty: bool,
    /// There may be more events.
    has_more: bool,
    is_paused: bool,
    /// Its end was read, or it failed.
    is_read: bool,
    /// Writing has failed: the peer's words may still be readable, up to a moment.
    broken: Option<Instant>,
    /// Why the stream failed in the TLS handshake.
    pub(crate) tls_error: Option<AttemptError>,
    /// It is to be closed in order.
    leaving: Option<Leaving>,
    /// What came of that.
    pub(crate) report: Option<CloseReport>,
}

impl Session {
    pub(crate) fn new(stream: Stream, config: Arc<Config>, now: Instant, first_incarnation: u32) -> Self {
        Self {
            stream,
            core: Connection::new(config, now, first_incarnation),
            input: RecvBuf::new(),
            output: SendBuf::new(),
            is_readable: true,
            is_writable: true,
            is_dirty: true,
            has_more: true,
            is_paused: false,
            is_read: false,
            broken: None,
            tls_error: None,
            leaving: None,
            report: None,
        }
    }

    pub(crate) fn on_ready(&mut self, is_readable: bool, is_writable: bool) {
        self.is_readable |= is_readable;
        self.is_writable |= is_writable;
    }

    /// The core may have been told to say something.
    pub(crate) fn commands(&mut self) -> &mut Connection {
        self.is_dirty = true;
        self.has_more = true;
        &mut self.core
    }

    /// It is to be closed in that order.
    pub(crate) fn shut_down(&mut self, plan: Shutdown) {
        match &mut self.leaving {
            Some(leaving) => leaving.hasten(&plan),
            None => self.leaving = Some(Leaving::new(plan, &self.core)),
        }
        self.has_more = true;
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(crate) fn pause(&mut self) {
        self.is_paused = true;
        self.core.handle_pause();
    }

    pub(crate) fn resume(&mut self, now: Instant) {
        self.is_paused = false;
        self.core.handle_resume(now);
    }

    /// The next event. When there is none, all is written that can be.
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<Event> {
        let mut budget = MOST_READ;
        self.has_more = true;
        loop {
            if let Some(event) = self.core.poll_event(now, &mut self.input) {
                if let Event::Closed(reason) = &event {
                    self.leave(now);
                    let counters = self.core.counters();
                    let leaving = self.leaving.as_ref();
                    self.report = leaving.map(|leaving| leaving.report(reason.clone(), &counters));
                }
                return Some(event);
            }
            if budget > 0 && self.can_read() {
                budget = budget.saturating_sub(self.read(now));
                continue;
            }
            self.flush(now);
            let leaving = self.leaving.as_mut();
            if !leaving.is_some_and(|leaving| leaving.step(&mut self.core, now)) {
                break;
            }
        }
        self.has_more = self.can_read();
        None
    }

    fn can_read(&self) -> bool {
        self.is_readable && !self.is_paused && !self.is_read && !self.input.is_full()
    }

    /// Reads once; says how much it was.
    fn read(&mut self, now: Instant) -> usize {
        let read = self.stream.read(self.input.spare_mut());
        self.is_dirty |= self.stream.wants_write();
        let error = match read {
            Ok(0) => None,
            Ok(count) => {
                self.input.advance(count);
                return count;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => return 0,
                io::ErrorKind::WouldBlock => {
                    self.is_readable = false;
                    return 0;
                }
                _ => Some(error),
            },
        };
        self.disconnect(now, error);
        0
    }

    /// The stream has ended, or is not worth going on with.
    pub(crate) fn disconnect(&mut self, now: Instant, error: Option<io::Error>) {
        (self.is_read, self.has_more) = (true, true);
        if self.stream.is_handshaking() {
            let end = io::Error::from(io::ErrorKind::UnexpectedEof);
            self.tls_error = Some(AttemptError::io(Stage::Tls, error.as_ref().unwrap_or(&end)));
        }
        self.core.handle_disconnect(now, error.map(TransportError::from));
    }

    /// Writes what there is, until the socket takes no more.
    pub(crate) fn flush(&mut self, now: Instant) {
        let mut budget = MOST_WRITTEN;
        while self.is_writable && self.core.poll_transmit(now, &mut self.output) {
            if self.broken.is_some() {
                self.output.advance(self.output.remaining());
                continue;
            }
            if budget == 0 {
                return;
            }
            budget = budget.saturating_sub(self.write(now));
        }
        // However much is left now, the core is to know.
        self.core.poll_transmit(now, &mut self.output);
        if !self.is_writable {
            return;
        }
        match self.stream.flush() {
            Ok(()) => self.is_dirty = false,
            Err(error) => self.on_write_error(now, &error),
        }
    }

    /// Writes once; says how much it was.
    fn write(&mut self, now: Instant) -> usize {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let count = self.output.chunks_vectored(&mut slices);
        match self
            .stream
            .write_vectored(slices.get(..count).unwrap_or_default())
        {
            Ok(0) => self.on_write_error(now, &io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                self.output.advance(count);
                return count;
            }
            Err(error) => self.on_write_error(now, &error),
        }
        0
    }

    fn on_write_error(&mut self, now: Instant, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => self.is_writable = false,
            _ => {
                self.broken.get_or_insert(now + LINGER);
            }
        }
    }

    /// It is closed: what is left is written as far as the socket takes it now, and that is the end.
    fn leave(&mut self, now: Instant) {
        self.flush(now);
        self.stream.shut();
        self.is_read = true;
    }

    /// Whether there is something to do without anything having happened.
    pub(crate) fn has_work(&self) -> bool {
        self.has_more || self.can_read() || (self.is_dirty && self.is_writable)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let linger = self.broken.filter(|_| !self.is_read);
        [self.core.poll_timeout(), linger, self.leave_by()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the shutdown goes on at the latest.
    fn leave_by(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().filter(|_| self.report.is_none());
        leaving.and_then(Leaving::deadline)
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) {
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
            self.has_more = true;
            self.is_dirty = true;
        }
        self.has_more |= self.leave_by().is_some_and(|at| at <= now);
        if !self.is_read && self.broken.is_some_and(|at| at <= now) {
            self.disconnect(now, Some(io::Error::other("the stream takes no more octets")));
        }
    }
}
