//! A connection, its buffers and a clock; and the broker's side of it, played by the test.

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Config, Connection, Event, Instant, RecvBuf, SendBuf};
use bytes::Buf;

pub(crate) struct Peer {
    pub(crate) connection: Connection,
    pub(crate) input: RecvBuf,
    pub(crate) now: Instant,
    /// What the connection handed over and the socket, so to say, did not take; empty unless `stall` was called.
    pub(crate) output: SendBuf,
    /// The socket takes nothing.
    pub(crate) is_stalled: bool,
    /// What the socket took and the test has not looked at.
    written: Vec<u8>,
}

impl Peer {
    /// A connection that has not said anything yet.
    pub(crate) fn new(config: Config) -> Self {
        Self {
            connection: Connection::new(Arc::new(config), Instant::EPOCH, 0),
            input: RecvBuf::new(),
            now: Instant::EPOCH,
            output: SendBuf::new(),
            is_stalled: false,
            written: Vec::new(),
        }
    }

    /// One with the handshake done, without heartbeats, nothing left to be looked at.
    pub(crate) fn open() -> Self {
        Self::open_with(
            Config::default(),
            ConnectionTune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            },
        )
    }

    pub(crate) fn open_with(config: Config, tune: ConnectionTune) -> Self {
        let mut peer = Self::new(config);
        peer.send(0, ConnectionStart::default());
        peer.send(0, tune);
        peer.send(0, ConnectionOpenOk {});
        assert_eq!(peer.events(), [Event::Connected]);
        peer.sent();
        peer
    }

    /// An open channel of it.
    pub(crate) fn open_channel(&mut self) -> ChannelId {
        let channel = self.connection.open_channel().unwrap();
        self.send(channel.number(), ChannelOpenOk {});
        assert_eq!(self.events(), [Event::ChannelOpened { channel }]);
        self.sent();
        channel
    }

    /// The broker sends a method.
    pub(crate) fn send<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let mut octets = Vec::new();
        method.into().encode(&mut octets, channel, u32::MAX).unwrap();
        self.send_octets(&octets);
    }

    /// The broker sends a content header.
    pub(crate) fn send_header(&mut self, channel: u16, body_size: u64, properties: Properties<'_>) {
        let header = ContentHeader {
            body_size,
            properties,
        };
        self.send_frame(Frame::Header { channel, header });
    }

    /// The broker sends a piece of a body.
    pub(crate) fn send_body(&mut self, channel: u16, payload: &[u8]) {
        self.send_frame(Frame::Body { channel, payload });
    }

    /// The broker sends a message in three frames, or two if it is empty.
    pub(crate) fn send_content<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>, body: &[u8]) {
        self.send(channel, method);
        self.send_header(channel, body.len() as u64, Properties::default());
        if !body.is_empty() {
            self.send_body(channel, body);
        }
    }

    /// The broker sends a frame.
    pub(crate) fn send_frame(&mut self, frame: Frame<'_>) {
        let mut octets = Vec::new();
        frame.encode(&mut octets, u32::MAX).unwrap();
        self.send_octets(&octets);
    }

    /// The broker sends anything.
    pub(crate) fn send_octets(&mut self, octets: &[u8]) {
        assert_eq!(self.input.extend(octets), octets.len(), "the buffer is full");
    }

    /// All events that there are, and what is to be written written.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            events.extend(std::iter::from_fn(|| {
                self.connection.poll_event(self.now, &mut self.input)
            }));
            self.transmit();
            match self.connection.poll_event(self.now, &mut self.input) {
                Some(event) => events.push(event),
                None => return events,
            }
        }
    }

    /// The only event there is.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Hands over and writes.
    pub(crate) fn transmit(&mut self) {
        while self.connection.poll_transmit(self.now, &mut self.output) && !self.is_stalled {
            let count = self.output.chunk().len();
            self.written.extend_from_slice(self.output.chunk());
            self.output.advance(count);
        }
    }

    /// What the connection wrote since the last time.
    pub(crate) fn sent_octets(&mut self) -> Vec<u8> {
        self.transmit();
        std::mem::take(&mut self.written)
    }

    /// What the connection wrote since the last time: a line for each frame, as `Frame` prints it.
    pub(crate) fn sent(&mut self) -> Vec<String> {
        let octets = self.sent_octets();
        let mut rest = &octets[..];
        let mut lines = Vec::new();
        if let Some(after) = rest.strip_prefix(&PROTOCOL_HEADER[..]) {
            lines.push("protocol header".to_owned());
            rest = after;
        }
        let limits = FrameLimits {
            body: u32::MAX,
            other: u32::MAX,
        };
        while let Some(raw) = RawFrame::parse(rest, &limits).unwrap() {
            lines.push(raw.decode().unwrap().to_string());
            rest = &rest[raw.size()..];
        }
        assert!(rest.is_empty(), "half a frame was written");
        lines
    }

    /// Time goes on, from one deadline to the next as a loop would sleep; gives the events on the way.
    pub(crate) fn advance(&mut self, duration: Duration) -> Vec<Event> {
        let end = self.now + duration;
        let mut events = self.events();
        while let Some(at) = self.connection.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
            events.extend(self.events());
        }
        self.now = end;
        events
    }
}
