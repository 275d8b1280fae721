//! One connection: its stream, and what lies between that and the broker.

use std::io::{self, ErrorKind, IoSlice};

use amqp_proto::{RecvBuf, SendBuf};
use bytes::Buf;

use super::Shared;
use super::stream::Stream;
use crate::broker::ConnectionKey;

/// How often one is read from before it is somebody else's turn.
const ROUNDS: usize = 16;

#[derive(Debug)]
pub(super) struct Peer {
    stream: Stream,
    input: RecvBuf,
    output: SendBuf,
    /// It did not say since the last event that nothing is there.
    pub(super) may_read: bool,
    /// It did not say since the last event that nothing more fits.
    pub(super) may_write: bool,
}

/// How serving went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing to do until something happens.
    Idle,
    /// There may be more.
    Busy,
    /// It ended, or was ended.
    Over,
}

impl Peer {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            may_read: true,
            may_write: true,
        }
    }

    /// Reads, lets the broker work and writes, until there is nothing more to do or it was enough for now.
    pub(super) fn serve(&mut self, shared: &Shared, key: ConnectionKey) -> Outcome {
        for _ in 0..ROUNDS {
            let read = self.read();
            let is_over = self.let_broker_work(shared, key);
            let Ok(has_written) = self.write() else {
                return Outcome::Over;
            };
            let Ok(has_read) = read else {
                return Outcome::Over;
            };
            if is_over && self.stream.is_flushed() && !self.output.has_remaining() {
                self.stream.hang_up();
                return Outcome::Over;
            }
            // The broker may have made room, and what is in the socket already wakes nobody again.
            if !has_read && !has_written && !self.can_read() {
                return Outcome::Idle;
            }
        }
        Outcome::Busy
    }

    /// Whether the stream is to be ended as soon as all is written.
    fn let_broker_work(&mut self, shared: &Shared, key: ConnectionKey) -> bool {
        let mut broker = shared.lock();
        let now = shared.now();
        broker.handle_input(key, now, &mut self.input);
        broker.poll_transmit(key, now, &mut self.output);
        broker.is_over(key)
    }

    const fn can_read(&self) -> bool {
        self.may_read && !self.input.is_full()
    }

    /// Reads once; whether something came. The error is the end of the stream, be it in order or not.
    fn read(&mut self) -> io::Result<bool> {
        // Reading into no room gives nothing too, and is not the end.
        while self.can_read() {
            match self.stream.read(self.input.spare_mut()) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.input.advance(count);
                    return Ok(true);
                }
                Err(error) => self.may_read = retries(error)?,
            }
        }
        Ok(false)
    }

    /// Writes as much as fits; whether something did.
    fn write(&mut self) -> io::Result<bool> {
        let mut has_written = false;
        while self.may_write && self.output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 64];
            let count = self.output.chunks_vectored(&mut slices);
            match self.stream.write(slices.get(..count).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.output.advance(count);
                    has_written = true;
                }
                Err(error) => self.may_write = retries(error)?,
            }
        }
        while self.may_write {
            match self.stream.flush() {
                Ok(()) => break,
                Err(error) => self.may_write = retries(error)?,
            }
        }
        Ok(has_written)
    }
}

/// Whether to try again now; not now if it would block. Any other error is one.
fn retries(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        ErrorKind::WouldBlock => Ok(false),
        ErrorKind::Interrupted => Ok(true),
        _ => Err(error),
    }
}
