//! What stands at the server's end of a link.

use std::fmt::Debug;

use amqp_proto::{Instant, RecvBuf, SendBuf};
use bytes::Buf;

use crate::broker::{Broker, ConnectionKey};

/// The server's end of any number of streams, without I/O and without a clock: a [`Broker`], a
/// [`ScriptedPeer`](crate::ScriptedPeer), or one of your own.
///
/// Whoever drives it looks at every stream and at the deadline after each call.
pub trait Server {
    /// Which stream.
    type Key: Copy + Debug;
    /// What it writes into, one for each stream.
    type Output: Buf + Default + Debug;

    /// A stream was opened.
    fn accept(&mut self, now: Instant) -> Self::Key;

    /// Octets came on that stream, or lie there still: it takes what it wants of them.
    fn handle_input(&mut self, key: Self::Key, now: Instant, input: &mut RecvBuf);

    /// That stream ended or failed, behind all that was given before. It is not asked about that stream again.
    fn handle_disconnect(&mut self, key: Self::Key, now: Instant);

    /// Puts what is to be written to that stream into `out`, if that is empty.
    fn poll_transmit(&mut self, key: Self::Key, now: Instant, out: &mut Self::Output);

    /// How that stream is to be ended, once all is written.
    fn stream_end(&self, key: Self::Key) -> Option<StreamEnd>;

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    fn poll_timeout(&self) -> Option<Instant>;

    /// It is that time.
    fn handle_timeout(&mut self, now: Instant);
}

/// How a server ends a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamEnd {
    /// It writes no more, and goes on reading.
    HalfClose,
    /// It writes no more, and drops what still comes.
    HangUp,
    /// By a reset.
    Reset,
}

impl Server for Broker {
    type Key = ConnectionKey;
    type Output = SendBuf;

    fn accept(&mut self, now: Instant) -> ConnectionKey {
        Self::accept(self, now)
    }

    fn handle_input(&mut self, key: ConnectionKey, now: Instant, input: &mut RecvBuf) {
        Self::handle_input(self, key, now, input);
    }

    fn handle_disconnect(&mut self, key: ConnectionKey, now: Instant) {
        Self::handle_disconnect(self, key, now);
    }

    fn poll_transmit(&mut self, key: ConnectionKey, now: Instant, out: &mut SendBuf) {
        Self::poll_transmit(self, key, now, out);
    }

    fn stream_end(&self, key: ConnectionKey) -> Option<StreamEnd> {
        self.is_over(key).then_some(StreamEnd::HangUp)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn handle_timeout(&mut self, now: Instant) {
        Self::handle_timeout(self, now);
    }
}
