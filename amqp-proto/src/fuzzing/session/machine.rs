//! A connection, its buffers and a clock, driven as a loop around a socket would, and watched.

use std::sync::Arc;

use bytes::Buf;

use super::ledger::Ledger;
use crate::wire::*;
use crate::{Config, Connection, Event, Instant, RecvBuf, SendBuf, SendError};

/// How often a moment may be due without time passing.
const ROUNDS: usize = 8;

pub(super) struct Machine {
    pub(super) connection: Connection,
    pub(super) ledger: Ledger,
    pub(super) now: Instant,
    /// The socket takes nothing.
    pub(super) is_stalled: bool,
    /// What was told, until somebody takes it.
    pub(super) events: Vec<Event>,
    /// What the socket took.
    pub(super) written: Vec<u8>,
    input: RecvBuf,
    output: SendBuf,
    received: usize,
    told: usize,
    transmits: usize,
}

impl Machine {
    pub(super) fn new(config: Config) -> Self {
        Self {
            connection: Connection::new(Arc::new(config), Instant::EPOCH, 0),
            ledger: Ledger::default(),
            now: Instant::EPOCH,
            is_stalled: false,
            events: Vec::new(),
            written: Vec::new(),
            input: RecvBuf::new(),
            output: SendBuf::new(),
            received: 0,
            told: 0,
            transmits: 0,
        }
    }

    /// With the handshake done as far as it goes: `start`, `tune` and `open-ok` came, or only the first of them.
    pub(super) fn shaken(config: Config, tune: ConnectionTune, steps: usize) -> Self {
        let mut machine = Self::new(config);
        machine.settle();
        let steps_there = [
            Method::from(ConnectionStart::default()),
            tune.into(),
            ConnectionOpenOk {}.into(),
        ];
        for method in steps_there.iter().take(steps) {
            machine.feed(&method_frame(0, *method));
            machine.settle();
        }
        machine
    }

    /// Octets arrive, as many as there is room for.
    pub(super) fn feed(&mut self, octets: &[u8]) -> usize {
        let count = self.input.extend(octets);
        self.received += count;
        count
    }

    pub(super) fn has_unread(&self) -> bool {
        !self.input.unread().is_empty()
    }

    /// All events that there are.
    pub(super) fn drain(&mut self) {
        while let Some(event) = self.connection.poll_event(self.now, &mut self.input) {
            let mut row = Vec::new();
            if let Event::Delivery(delivery) = &event {
                let most = self.told % 4;
                self.connection
                    .poll_deliveries(delivery.consumer, &mut self.input, most, &mut row);
            }
            let row = row.into_iter().map(Event::Delivery);
            for event in core::iter::once(event).chain(row) {
                self.ledger.take(&event);
                self.events.push(event);
                self.told += 1;
            }
            // No frame makes more than two, but those that resolve what waited.
            let most = self.received / 4 + 2 * (self.ledger.issued() + self.transmits) + 8;
            assert!(self.told <= most, "{} events", self.told);
        }
    }

    /// Hands over, and writes unless the socket is stalled.
    pub(super) fn transmit(&mut self) {
        loop {
            self.transmits += 1;
            if !self.connection.poll_transmit(self.now, &mut self.output) || self.is_stalled {
                return;
            }
            self.write(usize::MAX);
        }
    }

    /// The socket takes that much.
    pub(super) fn write(&mut self, count: usize) {
        let mut left = count.min(self.output.remaining());
        while left > 0 {
            let chunk = self.output.chunk();
            let taken = chunk.len().min(left);
            self.written.extend_from_slice(&chunk[..taken]);
            self.output.advance(taken);
            left -= taken;
        }
    }

    /// Reads and writes, until nothing more is written: that made room, which unread frames may have waited for.
    fn exchange(&mut self) {
        loop {
            let before = self.written.len();
            self.drain();
            self.transmit();
            if self.written.len() == before {
                return;
            }
        }
    }

    /// Does what there is to do now. What is due again and again would keep a processor busy.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS {
            self.exchange();
            let next = self.connection.poll_timeout();
            if next.is_none_or(|at| at > self.now) {
                return self.check();
            }
            self.connection.handle_timeout(self.now);
        }
        panic!("due for ever: {:?}", self.connection.timeout_reason());
    }

    /// Time goes on to a deadline, or by a day at most.
    pub(super) fn sleep(&mut self, nanos: u64) {
        let until = Instant::from_nanos(self.now.as_nanos() + nanos);
        for _ in 0..1000 {
            match self.connection.poll_timeout().filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.connection.handle_timeout(self.now);
            self.settle();
            if self.ledger.is_closed() {
                break;
            }
        }
        self.now = until;
        self.connection.handle_timeout(until);
        self.settle();
    }

    /// The stream ends; so must everything.
    pub(super) fn disconnect(&mut self) {
        self.connection.handle_disconnect(self.now, None);
        self.settle();
        assert!(self.ledger.is_closed(), "{:?}", self.connection);
        self.check();
        self.output = SendBuf::new();
        self.is_stalled = false;
        self.feed(&HEARTBEAT);
        self.connection.handle_timeout(Instant::MAX);
        self.connection.handle_disconnect(self.now, None);
        self.settle();
        assert!(self.connection.is_drained());
        assert_eq!(self.connection.open_channel(), Err(SendError::Closed));
        assert!(self.connection.close_reason().is_some());
    }

    fn check(&mut self) {
        let limit = self.connection.config().outbound_limit;
        let queued = self.connection.queued_bytes();
        // Closing and cancelling is never refused; one message may go when only a little room is left.
        let most = limit + 100_000 + 600 * self.ledger.issued();
        assert!(queued <= most, "{queued} octets wait");
        assert!(self.input.capacity() <= 1024 * 1024, "{:?}", self.input);
        assert_eq!(self.connection.poll_event(self.now, &mut self.input), None);
        if self.ledger.is_closed() {
            assert_eq!(self.connection.poll_timeout(), None);
            assert!(!self.has_unread());
        }
    }
}

/// A method frame as a peer sends it.
pub(super) fn method_frame<'m>(channel: u16, method: impl Into<Method<'m>>) -> Vec<u8> {
    let mut octets = Vec::new();
    let encoded = method.into().encode(&mut octets, channel, u32::MAX);
    encoded.expect("no frame is larger");
    octets
}

/// A message as a peer sends it, its body in pieces of at most that size.
pub(super) fn content_frames<'m>(
    channel: u16,
    method: impl Into<Method<'m>>,
    properties: Properties<'_>,
    body: &[u8],
    piece: usize,
) -> Vec<u8> {
    let mut octets = method_frame(channel, method);
    let header = ContentHeader {
        body_size: body.len() as u64,
        properties,
    };
    let pieces = body.chunks(piece.max(1));
    let frames = pieces.map(|payload| Frame::Body { channel, payload });
    for frame in [Frame::Header { channel, header }].into_iter().chain(frames) {
        frame.encode(&mut octets, u32::MAX).expect("no frame is larger");
    }
    octets
}
