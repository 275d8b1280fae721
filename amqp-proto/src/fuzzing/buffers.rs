//! Operations on both buffers.

use std::io::IoSlice;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Buf, Bytes};

use super::check::{one_line_debug, operations, pattern};
use super::naive::encoded_frame;
use crate::wire::{BasicPublish, ChannelFlow, PROTOCOL_HEADER, Properties};
use crate::{Payload, RecvBuf, SendBuf};

/// What an idle buffer reads into.
const IDLE: usize = 4 * 1024;

/// What a busy buffer reads into.
const BUSY: usize = 64 * 1024;

/// A busy buffer becomes an idle one after that many arrivals with never more than half of its space unread.
const QUIET: usize = 16;

#[derive(Debug, Arbitrary)]
enum Op {
    Recv(RecvOp),
    Send(SendOp),
}

#[derive(Debug, Arbitrary)]
enum RecvOp {
    /// As a socket: fills that much of the spare room.
    Fill(u16),
    /// Fills all of the spare room, and says that it was more.
    Overfill(u8),
    Extend(u16),
    Consume(u16),
    Take(u16),
    TakeAll,
    /// Lets go of a piece that was taken.
    Forget(u8),
    Shrink,
    RaiseLimit(u32),
    /// A quiet time: some arrivals of that much, each consumed.
    Trickle(u8),
}

#[derive(Debug, Arbitrary)]
enum SendOp {
    ProtocolHeader,
    Heartbeat,
    Method(u16, bool),
    Content {
        size: u16,
        is_shared: bool,
        frame_max: u32,
    },
    Read(u16),
    ReadVectored(u8, u16),
    ReadAll {
        excess: u8,
    },
}

/// Everything that can be done to a [`RecvBuf`] and a [`SendBuf`], against plain vectors.
///
/// What comes out is what went in; the limit holds and is used; pieces that were taken never change; memory stays within what
/// the limit and the arrivals account for.
pub fn buffers(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(limit) = u.int_in_range(0..=300_000) else {
        return;
    };
    let mut recv = Recv::new(limit);
    let mut send = Send::default();
    for op in operations(&mut u) {
        match op {
            Op::Recv(op) => recv.apply(op),
            Op::Send(op) => send.apply(op),
        }
    }
    for (piece, expected) in &recv.taken {
        assert!(piece == expected);
    }
    one_line_debug(&recv.buffer);
    one_line_debug(&send.buffer);
    send.read(usize::MAX);
    assert!(!send.buffer.has_remaining());
}

struct Recv {
    buffer: RecvBuf,
    limit: usize,
    unread: Vec<u8>,
    /// What was taken, and what it was then.
    taken: Vec<(Bytes, Vec<u8>)>,
    /// The most that was ever unread since the buffer was small.
    most: usize,
    /// Whether an arrival has filled all the room there was since then.
    is_busy: bool,
    quiet_arrivals: usize,
    arrivals: u8,
}

impl Recv {
    fn new(limit: usize) -> Self {
        Self {
            buffer: RecvBuf::with_limit(limit),
            limit: limit.max(4096),
            unread: Vec::new(),
            taken: Vec::new(),
            most: 0,
            is_busy: false,
            quiet_arrivals: 0,
            arrivals: 0,
        }
    }

    fn apply(&mut self, op: RecvOp) {
        match op {
            RecvOp::Fill(count) => self.fill(count.into(), 0),
            RecvOp::Overfill(excess) => self.fill(usize::MAX, excess.into()),
            RecvOp::Extend(count) => {
                let octets = self.arrival(count.into());
                let fits = octets.len().min(self.limit - self.unread.len());
                assert_eq!(self.buffer.extend(&octets), fits);
                self.unread.extend(&octets[..fits]);
            }
            RecvOp::Consume(count) => self.consume(count.into()),
            RecvOp::Trickle(count) => {
                for _ in 0..=QUIET {
                    self.fill(count.into(), 0);
                    self.consume(count.into());
                    self.check();
                }
            }
            RecvOp::Take(count) => self.take(count.into()),
            RecvOp::TakeAll => self.take(usize::MAX),
            RecvOp::Forget(which) => {
                if !self.taken.is_empty() {
                    let (piece, expected) = self.taken.swap_remove(usize::from(which) % self.taken.len());
                    assert!(piece == expected);
                }
            }
            RecvOp::Shrink => {
                self.buffer.shrink();
                self.is_small();
                assert_eq!(self.buffer.capacity(), self.unread.len());
            }
            RecvOp::RaiseLimit(limit) => {
                let limit = limit as usize % 1_000_000;
                self.buffer.raise_limit(limit);
                self.limit = self.limit.max(limit);
            }
        }
        self.check();
    }

    /// Octets that no arrival before had.
    fn arrival(&mut self, size: usize) -> Vec<u8> {
        if size >= self.buffer.spare_mut().len() {
            self.is_busy = true;
            self.quiet_arrivals = 0;
        } else if size > 0 {
            self.quiet_arrivals += 1;
        }
        self.arrivals = self.arrivals.wrapping_add(1);
        pattern(size, self.arrivals)
    }

    fn fill(&mut self, count: usize, excess: usize) {
        let count = count.min(self.buffer.spare_mut().len());
        let octets = self.arrival(count);
        self.buffer.spare_mut()[..count].copy_from_slice(&octets);
        self.buffer.advance(count + excess);
        self.unread.extend(octets);
    }

    fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
        self.unread.drain(..self.unread.len().min(count));
    }

    fn take(&mut self, count: usize) {
        let rest = self.unread.split_off(self.unread.len().min(count));
        let expected = core::mem::replace(&mut self.unread, rest);
        let piece = match count % 2 {
            0 => self.buffer.take(count),
            _ => self.buffer.take_small(count),
        };
        self.taken.push((piece, expected));
    }

    fn is_small(&mut self) {
        self.most = self.unread.len();
        self.is_busy = false;
        self.quiet_arrivals = 0;
    }

    fn check(&mut self) {
        assert!(self.buffer.unread() == self.unread);
        assert_eq!(self.buffer.is_full(), self.unread.len() == self.limit);
        assert!(self.unread.len() <= self.limit);
        // The first may get back room that was consumed, and so find only then that it is too large.
        self.buffer.spare_mut();
        let spare = self.buffer.spare_mut().len();
        self.most = self.most.max(self.unread.len());
        if self.unread.len() > IDLE / 2 {
            self.quiet_arrivals = 0;
        }
        if self.unread.is_empty() && self.quiet_arrivals >= QUIET {
            self.is_small();
        }
        let accounted = if self.is_busy { BUSY } else { IDLE }.max(2 * self.most);
        assert!(
            self.buffer.capacity() <= accounted,
            "{:?}, not {accounted}",
            self.buffer
        );
        assert_eq!(spare == 0, self.unread.len() == self.limit);
        assert!(spare <= self.limit - self.unread.len());
    }
}

#[derive(Default)]
struct Send {
    buffer: SendBuf,
    unread: Vec<u8>,
}

impl Send {
    fn apply(&mut self, op: SendOp) {
        match op {
            SendOp::ProtocolHeader => {
                self.buffer.protocol_header();
                self.unread.extend(PROTOCOL_HEADER);
            }
            SendOp::Heartbeat => {
                self.buffer.heartbeat();
                self.unread.extend(encoded_frame(8, 0, &[]));
            }
            SendOp::Method(channel, active) => {
                self.buffer
                    .method(channel, &ChannelFlow { active }, 13)
                    .expect("it is that large");
                self.unread
                    .extend(encoded_frame(1, channel, &[0, 20, 0, 20, active.into()]));
            }
            SendOp::Content {
                size,
                is_shared,
                frame_max,
            } => self.content(size.into(), is_shared, frame_max),
            SendOp::Read(count) => self.read(count.into()),
            SendOp::ReadVectored(slices, count) => self.read_vectored(slices.into(), count.into()),
            SendOp::ReadAll { excess } => {
                self.buffer.advance(self.unread.len() + usize::from(excess));
                self.unread.clear();
            }
        }
        assert_eq!(self.buffer.remaining(), self.unread.len());
        assert_eq!(self.buffer.chunk().is_empty(), self.unread.is_empty());
        assert!(self.unread.starts_with(self.buffer.chunk()));
    }

    /// A publish, in frames of at least 64 octets.
    fn content(&mut self, size: usize, is_shared: bool, frame_max: u32) {
        let frame_max = 64 + frame_max % 140_000;
        let body = pattern(size, 0);
        self.unread
            .extend(encoded_frame(1, 1, &[0, 60, 0, 40, 0, 0, 0, 0, 0]));
        let body_size = (size as u64).to_be_bytes();
        self.unread.extend(encoded_frame(
            2,
            1,
            &[&[0, 60, 0, 0], &body_size[..], &[0, 0]].concat(),
        ));
        for piece in body.chunks(frame_max as usize - 8) {
            self.unread.extend(encoded_frame(3, 1, piece));
        }
        let payload = match is_shared {
            true => Payload::Shared(body.into()),
            false => Payload::Borrowed(&body),
        };
        one_line_debug(&payload);
        assert_eq!((payload.len(), payload.is_empty()), (size, size == 0));
        let (publish, properties) = (BasicPublish::default(), Properties::default());
        self.buffer
            .content(1, &publish, &properties, payload, frame_max)
            .expect("it fits into 64 octets");
    }

    fn read(&mut self, count: usize) {
        let mut octets = vec![0; count.min(self.unread.len())];
        self.buffer.copy_to_slice(&mut octets);
        assert!(self.unread.drain(..octets.len()).eq(octets));
    }

    /// As a vectored write that takes `count` octets.
    fn read_vectored(&mut self, slices: usize, count: usize) {
        let mut all = vec![IoSlice::new(&[]); slices];
        let filled = self.buffer.chunks_vectored(&mut all);
        assert!(all[..filled].iter().all(|slice| !slice.is_empty()));
        let octets = all[..filled]
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect::<Vec<u8>>();
        assert!(self.unread.starts_with(&octets));
        assert!(filled == slices || octets.len() == self.unread.len());
        let count = count.min(octets.len());
        self.buffer.advance(count);
        self.unread.drain(..count);
    }
}
