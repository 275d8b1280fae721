//! Any octets at the broker, in any pieces: whoever sends them harms only himself.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{Instant, RecvBuf, SendBuf};
use bytes::Buf;

use super::honest::Honest;
use super::{MAX_MEMORY, MAX_MESSAGE_SIZE, check_memory, short};
use crate::broker::{Broker, ConnectionKey};
use crate::config::{BrokerConfig, Release};

const FRAME_MAX: u32 = 8192;

/// How often a moment may be due without time passing.
const ROUNDS: usize = 8;

/// What a client sends, from the protocol header on or from an open channel with a queue and a consumer.
///
/// ```text
/// 0       1            2       3
/// +-------+------------+-------+------------+
/// | state | piece size | pause | octets ... |
/// +-------+------------+-------+------------+
/// ```
/// Nothing panics or is due for ever; memory is bounded; what is written can be read. Another client is served meanwhile and
/// afterwards, and when the stream has ended nothing of it is left.
pub fn server(data: &[u8]) {
    let [state, cut, pause, octets @ ..] = data else {
        return;
    };
    let mut peer = Peer::new(*state);
    peer.is_stalled = cut & 0x80 != 0;
    let piece = match cut & 0x7F {
        0 => octets.len().max(1),
        size => size.into(),
    };
    for piece in octets.chunks(piece) {
        if peer.feed(piece) < piece.len() {
            break;
        }
        peer.sleep(Duration::from_millis(10) * (*pause).into());
    }
    if state & 0x40 != 0 {
        // Silence: whoever is not authenticated is not waited for.
        peer.sleep(Duration::from_secs(24 * 3600));
        let infos = peer.broker.connections();
        let is_known = infos.iter().any(|info| info.user.is_some());
        assert!(is_known || peer.broker.is_over(peer.key));
    }
    peer.leave();
}

/// The one that misbehaves.
struct Peer {
    broker: Broker,
    key: ConnectionKey,
    now: Instant,
    input: RecvBuf,
    output: SendBuf,
    written: Vec<u8>,
    is_stalled: bool,
}

impl Peer {
    fn new(state: u8) -> Self {
        let release = match state & 2 {
            0 => Release::V4,
            _ => Release::V3_10,
        };
        let mut broker = Broker::new(BrokerConfig {
            max_memory: MAX_MEMORY,
            max_message_size: MAX_MESSAGE_SIZE,
            channel_max: 7,
            frame_max: FRAME_MAX,
            ..BrokerConfig::of(release)
        });
        let mut peer = Self {
            key: broker.accept(Instant::EPOCH),
            broker,
            now: Instant::EPOCH,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            written: Vec::new(),
            is_stalled: false,
        };
        if state & 1 != 0 {
            peer.feed(&opening());
            let infos = peer.broker.connections();
            assert!(infos.iter().any(|info| info.channels == 1), "{infos:?}");
        }
        peer
    }

    /// Octets arrive; says how many there was room for.
    fn feed(&mut self, octets: &[u8]) -> usize {
        let count = self.input.extend(octets);
        self.settle();
        count
    }

    /// What is ready is looked at, as [`Broker`] asks for.
    fn settle(&mut self) {
        self.broker.handle_input(self.key, self.now, &mut self.input);
        self.transmit();
        let mut rounds = 0;
        while let Some(key) = self.broker.poll_ready() {
            assert_eq!(key, self.key);
            assert!(rounds < 1000, "ready for ever");
            rounds += 1;
            self.broker.handle_input(self.key, self.now, &mut self.input);
            self.transmit();
        }
        check_memory(&self.broker);
        assert!(self.input.capacity() <= 1024 * 1024, "{:?}", self.input);
    }

    fn transmit(&mut self) {
        while self.broker.poll_transmit(self.key, self.now, &mut self.output) && !self.is_stalled {
            self.write();
        }
        // One message and its answer may be put on top of what is too much.
        assert!(self.output.remaining() <= 1024 * 1024 + 2 * self.input.capacity().max(64 * 1024));
    }

    fn write(&mut self) {
        while self.output.has_remaining() {
            let chunk = self.output.chunk();
            self.written.extend_from_slice(chunk);
            let count = chunk.len();
            self.output.advance(count);
        }
    }

    /// Time passes, deadline by deadline.
    fn sleep(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut rounds = 0;
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= until) {
            rounds = if at > self.now { 0 } else { rounds + 1 };
            assert!(rounds < ROUNDS, "due for ever");
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    /// Another client is served as far as there is memory, then the stream ends, and there is memory.
    fn leave(mut self) {
        let mut honest = Honest::connect(&mut self.broker, self.now);
        honest.leave();
        self.broker.handle_disconnect(self.key, self.now);
        self.write();
        check_frames(&self.written);
        assert!(self.broker.connections().is_empty());
        assert_eq!(self.broker.common.held, 0);
        honest = Honest::connect(&mut self.broker, self.now);
        honest.clear();
        honest.works();
        honest.leave();
    }
}

/// What opens a connection and channel 1, with confirms, a queue `q` and a consumer of it.
fn opening() -> Vec<u8> {
    let mut octets = PROTOCOL_HEADER.to_vec();
    let method = |octets: &mut Vec<u8>, channel: u16, method: Method<'_>| {
        method.encode(octets, channel, u32::MAX).expect("it is short");
    };
    let queue = short(b"q");
    let start_ok = ConnectionStartOk {
        response: SecretStr::new(b"\0guest\0guest"),
        ..ConnectionStartOk::default()
    };
    let tune_ok = ConnectionTuneOk {
        channel_max: 7,
        frame_max: FRAME_MAX,
        heartbeat: 60,
    };
    let open = ConnectionOpen {
        virtual_host: short(b"/"),
    };
    let declare = QueueDeclare {
        queue,
        ..QueueDeclare::default()
    };
    let consume = BasicConsume {
        queue,
        ..BasicConsume::default()
    };
    method(&mut octets, 0, start_ok.into());
    method(&mut octets, 0, tune_ok.into());
    method(&mut octets, 0, open.into());
    method(&mut octets, 1, ChannelOpen::default().into());
    method(&mut octets, 1, ConfirmSelect::default().into());
    method(&mut octets, 1, declare.into());
    method(&mut octets, 1, consume.into());
    octets
}

/// Frames, and nothing else but what answers a protocol header that is none.
fn check_frames(octets: &[u8]) {
    if octets == PROTOCOL_HEADER {
        return;
    }
    let limits = FrameLimits {
        body: FRAME_MAX,
        other: u32::MAX,
    };
    let mut rest = octets;
    while !rest.is_empty() {
        let raw = RawFrame::parse(rest, &limits);
        let raw = raw.expect("it can be read").expect("it is whole");
        raw.decode().expect("it can be read");
        rest = &rest[raw.size()..];
    }
}
