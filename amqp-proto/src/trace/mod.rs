//! Every frame of a connection, tapped as it comes and goes, and kept in a form that can be read and replayed later.
//!
//! ```text
//! connection ─▶ FrameTap ◀─ TraceWriter ─▶ take ─▶ octets, in a file ─▶ TraceReader ─┬─▶ records, one readable line each
//!               or a closure                                                         └─▶ received ─▶ another connection
//! ```
//!
//! # Keeping a trace
//!
//! A tap is called while the connection works, so an adapter that keeps the connection behind a lock is inside of it then:
//! no place to write to a file. [`TraceWriter`] therefore writes to memory, within a limit, and somebody else empties it from
//! time to time. It belongs behind a small lock of its own, which is held for a copy of one frame or for moving a `Vec`:
//!
//! ```
//! use amqp_proto::trace::{Direction, FrameTap, TraceReader, TraceWriter};
//! use amqp_proto::wire::{HEARTBEAT, PROTOCOL_HEADER};
//! use amqp_proto::Instant;
//! use std::sync::{Arc, Mutex};
//!
//! let writer = Arc::new(Mutex::new(TraceWriter::new(1024 * 1024)));
//! let shared = Arc::clone(&writer);
//! // A connection's tap:
//! let mut tap = move |now: Instant, direction, channel, octets: &[u8]| {
//!     shared.lock().unwrap().frame(now, direction, channel, octets);
//! };
//! // What the connection does with it:
//! tap.frame(Instant::from_nanos(1_500_000), Direction::Sent, 0, &PROTOCOL_HEADER);
//! tap.frame(Instant::from_nanos(2_000_000), Direction::Received, 0, &HEARTBEAT);
//! // A thread or a task of its own, now and then and once at the end:
//! let taken = writer.lock().unwrap().take();
//! let mut file = Vec::new();
//! std::io::Write::write_all(&mut file, &taken)?;
//!
//! // Later:
//! let mut lines = Vec::new();
//! for record in TraceReader::new(&file)? {
//!     lines.push(record?.to_string());
//! }
//! assert_eq!(lines, ["0.001500000 -> protocol header", "0.002000000 <- ch 0 heartbeat"]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Secrets
//!
//! Passwords and tokens travel in `connection.start-ok`, `connection.secure-ok` and `connection.update-secret`. A trace has
//! zeros in their place, as many as there were octets, so that the frame remains one. Where such a method cannot be read,
//! everything after its number is zeros. [`TraceWriter::with_secrets`] keeps them. Bodies and headers of messages are kept
//! as they are: a trace is as confidential as the messages.
//!
//! # The format
//!
//! Eight octets, then records until the end. Numbers are big-endian and have no sign.
//!
//! ```text
//! trace:   89 'A' 'M' 'Q' 'T' 'R' 'C'   version, 1   record ...
//!
//! record:  0      1                     9         11        15             15+size
//!          +------+---------------------+---------+---------+--------------+
//!          | kind | nanoseconds         | channel | size    | octets       |
//!          +------+---------------------+---------+---------+--------------+
//! ```
//!
//! | kind | what | |
//! | --- | --- | --- |
//! | 1 | received | `size` octets follow: the whole frame, from its type to its end octet 0xCE, or the protocol header |
//! | 2 | sent | likewise |
//! | 3 | a gap | nothing follows: `size` is how many frames were left out for want of room, `channel` is 0 |
//!
//! Nanoseconds count from the epoch of whoever wrote the trace; for a gap they tell when the first frame was left out. Other
//! kinds need another version.
// A trace is a file, and files come from anywhere. (Tests may fail, so they are let off.)
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

mod reader;
mod writer;

pub use reader::{Received, TraceError, TraceProblem, TraceReader, TraceRecord};
pub use writer::TraceWriter;

use core::fmt;

use crate::Instant;
use crate::wire::FrameLimits;

/// What a trace begins with; the version follows.
pub const MAGIC: [u8; 7] = *b"\x89AMQTRC";

/// The version that is written, and the only one that is read.
pub const VERSION: u8 = 1;

/// What sees every frame that a connection receives and sends, in the order in which it does.
///
/// Closures of the same arguments are taps; where one is made, the type of its octets has to be written out.
pub trait FrameTap: Send {
    /// Called with a whole frame, from its type to its end octet, or with the eight octets of the protocol header, whose
    /// channel is 0. `now` is the time that the connection was told.
    ///
    /// It is called in the middle of the connection's work, once a frame: it should be quick, must not block, and sees
    /// passwords.
    fn frame(&mut self, now: Instant, direction: Direction, channel: u16, octets: &[u8]);
}

impl<F: FnMut(Instant, Direction, u16, &[u8]) + Send> FrameTap for F {
    fn frame(&mut self, now: Instant, direction: Direction, channel: u16, octets: &[u8]) {
        self(now, direction, channel, octets);
    }
}

/// Which way a frame went, seen from the connection that was tapped. `Display` gives an arrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Received => "<-",
            Self::Sent => "->",
        })
    }
}

/// The first octet of a record.
mod kind {
    pub(super) const RECEIVED: u8 = 1;
    pub(super) const SENT: u8 = 2;
    pub(super) const GAP: u8 = 3;
}

/// The octets before a record's frame.
const RECORD_HEADER: usize = 15;

/// The octets before the first record.
const START: usize = 8;

/// A frame of a trace was within the limits of its connection, whatever they were.
const ANY_SIZE: FrameLimits = FrameLimits {
    body: u32::MAX,
    other: u32::MAX,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::HEARTBEAT;
    use alloc::boxed::Box;
    use alloc::format;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_closure_is_a_tap() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let mut tap: Box<dyn FrameTap> = Box::new(|now: Instant, direction, channel: u16, octets: &[u8]| {
            assert_eq!((now, direction, channel), (Instant::MAX, Direction::Sent, 7));
            SEEN.fetch_add(octets.len(), Ordering::Relaxed);
        });
        tap.frame(Instant::MAX, Direction::Sent, 7, &HEARTBEAT);
        assert_eq!(SEEN.load(Ordering::Relaxed), HEARTBEAT.len());
    }

    #[test]
    fn directions_are_arrows() {
        let arrows: Vec<_> = [Direction::Sent, Direction::Received]
            .map(|direction| format!("{direction}"))
            .into();
        assert_eq!(arrows, ["->", "<-"]);
    }

    /// As the module's documentation draws it.
    #[test]
    fn the_beginning_and_a_record_s_header_have_their_sizes() {
        assert_eq!(START, MAGIC.len() + 1);
        assert_eq!(RECORD_HEADER, 1 + 8 + 2 + 4);
    }
}
