//! A broker, clients that say what a test tells them to, and a clock.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{Instant, RecvBuf, SendBuf};
use amqp_testbroker::{Broker, BrokerConfig, ConnectionKey};
use bytes::Buf;

pub(crate) struct Stage {
    pub(crate) broker: Broker,
    pub(crate) now: Instant,
    clients: Vec<Client>,
}

struct Client {
    key: ConnectionKey,
    input: RecvBuf,
    output: SendBuf,
    /// What arrived and the test has not looked at.
    received: Vec<u8>,
    /// It reads nothing.
    is_stalled: bool,
}

/// Which client, in the order in which they connected.
pub(crate) type Who = usize;

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(BrokerConfig::default())
    }

    pub(crate) fn with(config: BrokerConfig) -> Self {
        Self {
            broker: Broker::new(config),
            now: Instant::EPOCH,
            clients: Vec::new(),
        }
    }

    /// A client that has not said anything yet.
    pub(crate) fn connect(&mut self) -> Who {
        let key = self.broker.accept(self.now);
        self.add(key)
    }

    pub(crate) fn add(&mut self, key: ConnectionKey) -> Who {
        self.clients.push(Client {
            key,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            received: Vec::new(),
            is_stalled: false,
        });
        self.clients.len() - 1
    }

    /// One that is `guest` in `/`, without heartbeats, and can do everything.
    pub(crate) fn open(&mut self) -> Who {
        self.open_as("guest", "guest")
    }

    pub(crate) fn open_as(&mut self, user: &str, password: &str) -> Who {
        let who = self.start(user, password, &all_capabilities());
        self.tune(who, 0);
        self.send(who, 0, ConnectionOpen::default());
        assert_eq!(self.received(who), ["ch 0 connection.open-ok"]);
        who
    }

    /// One that said who it is, and was told the limits.
    pub(crate) fn start(&mut self, user: &str, password: &str, capabilities: &FieldTable) -> Who {
        let who = self.connect();
        self.send_octets(who, &PROTOCOL_HEADER);
        let start = self.received(who);
        assert!(start[0].starts_with("ch 0 connection.start"), "{start:?}");
        self.start_ok(
            who,
            "PLAIN",
            format!("\0{user}\0{password}").as_bytes(),
            capabilities,
        );
        who
    }

    pub(crate) fn start_ok(&mut self, who: Who, mechanism: &str, response: &[u8], capabilities: &FieldTable) {
        let properties = FieldTable::new().with("capabilities", capabilities).unwrap();
        let start_ok = ConnectionStartOk {
            client_properties: properties.as_ref(),
            mechanism: mechanism.try_into().unwrap(),
            response: SecretStr::new(response),
            ..Default::default()
        };
        self.send(who, 0, start_ok);
    }

    /// It takes what was proposed, but for the heartbeat.
    pub(crate) fn tune(&mut self, who: Who, heartbeat: u16) {
        let tune = self.received(who);
        assert_eq!(
            tune,
            ["ch 0 connection.tune channel_max=2047 frame_max=131072 heartbeat=60"]
        );
        self.tune_ok(who, 2047, 131_072, heartbeat);
    }

    pub(crate) fn tune_ok(&mut self, who: Who, channel_max: u16, frame_max: u32, heartbeat: u16) {
        self.send(
            who,
            0,
            ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat,
            },
        );
    }

    /// An open client with channel 1 open.
    pub(crate) fn open_channel(&mut self) -> Who {
        let who = self.open();
        self.channel(who, 1);
        who
    }

    pub(crate) fn channel(&mut self, who: Who, number: u16) {
        self.call(who, number, ChannelOpen::default(), "channel.open-ok");
    }

    /// Says something that has that one answer.
    #[track_caller]
    pub(crate) fn call<'m>(&mut self, who: Who, channel: u16, method: impl Into<Method<'m>>, answer: &str) {
        self.send(who, channel, method);
        assert_eq!(self.received(who), [format!("ch {channel} {answer}")]);
    }

    pub(crate) fn send<'m>(&mut self, who: Who, channel: u16, method: impl Into<Method<'m>>) {
        let mut octets = Vec::new();
        method.into().encode(&mut octets, channel, u32::MAX).unwrap();
        self.send_octets(who, &octets);
    }

    pub(crate) fn send_header(&mut self, who: Who, channel: u16, body_size: u64, properties: Properties<'_>) {
        let header = ContentHeader {
            body_size,
            properties,
        };
        self.send_frame(who, Frame::Header { channel, header });
    }

    pub(crate) fn send_body(&mut self, who: Who, channel: u16, payload: &[u8]) {
        self.send_frame(who, Frame::Body { channel, payload });
    }

    pub(crate) fn send_frame(&mut self, who: Who, frame: Frame<'_>) {
        let mut octets = Vec::new();
        frame.encode(&mut octets, u32::MAX).unwrap();
        self.send_octets(who, &octets);
    }

    pub(crate) fn publish(&mut self, who: Who, channel: u16, queue: &str, body: &[u8]) {
        let publish = BasicPublish {
            routing_key: queue.try_into().unwrap(),
            ..Default::default()
        };
        self.publish_with(who, channel, publish, Properties::default(), body);
    }

    pub(crate) fn publish_with(
        &mut self,
        who: Who,
        channel: u16,
        publish: BasicPublish<'_>,
        properties: Properties<'_>,
        body: &[u8],
    ) {
        self.send(who, channel, publish);
        self.send_header(who, channel, body.len() as u64, properties);
        if !body.is_empty() {
            self.send_body(who, channel, body);
        }
    }

    /// It is handed over at the next [`received`](Self::received), all together.
    pub(crate) fn send_octets(&mut self, who: Who, octets: &[u8]) {
        let input = &mut self.clients[who].input;
        input.raise_limit(64 * 1024 * 1024);
        assert_eq!(input.extend(octets), octets.len());
    }

    pub(crate) fn stall(&mut self, who: Who, is_stalled: bool) {
        self.clients[who].is_stalled = is_stalled;
    }

    /// Everybody's octets go to the broker, and its own come back: to those that it names, and to those that were stalled.
    pub(crate) fn run(&mut self) {
        for who in 0..self.clients.len() {
            self.hand_in(who);
            if self.clients[who].output.has_remaining() {
                self.transmit(who);
            }
        }
        while let Some(key) = self.broker.poll_ready() {
            if let Some(who) = self.clients.iter().position(|client| client.key == key) {
                self.hand_in(who);
                self.transmit(who);
            }
        }
    }

    fn hand_in(&mut self, who: Who) {
        let client = &mut self.clients[who];
        if !client.input.unread().is_empty() {
            self.broker.handle_input(client.key, self.now, &mut client.input);
        }
    }

    fn transmit(&mut self, who: Who) {
        let client = &mut self.clients[who];
        loop {
            if !client.is_stalled {
                let octets = client.output.copy_to_bytes(client.output.remaining());
                client.received.extend_from_slice(&octets);
            }
            if !self
                .broker
                .poll_transmit(client.key, self.now, &mut client.output)
            {
                break;
            }
        }
    }

    /// What arrived at that client since the last time: a line for each frame, as `Frame` prints it.
    pub(crate) fn received(&mut self, who: Who) -> Vec<String> {
        self.run();
        let octets = std::mem::take(&mut self.clients[who].received);
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
        assert!(rest.is_empty(), "half a frame came");
        lines
    }

    pub(crate) fn key(&self, who: Who) -> ConnectionKey {
        self.clients[who].key
    }

    pub(crate) fn unread(&self, who: Who) -> usize {
        self.clients[who].input.unread().len()
    }

    /// Whether the broker is done with that stream.
    pub(crate) fn is_over(&self, who: Who) -> bool {
        self.broker.is_over(self.clients[who].key)
    }

    pub(crate) fn disconnect(&mut self, who: Who) {
        self.broker.handle_disconnect(self.clients[who].key, self.now);
        self.run();
    }

    /// Time goes on, from one deadline to the next.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run();
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now, "a deadline was missed");
            self.now = at;
            self.broker.handle_timeout(at);
            self.run();
            assert!(
                self.broker.poll_timeout().is_none_or(|next| next > at),
                "the deadline stays due"
            );
        }
        self.now = end;
    }
}

pub(crate) fn all_capabilities() -> FieldTable {
    let capabilities = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
    ];
    let mut table = FieldTable::new();
    for capability in capabilities {
        table.insert(capability, true).unwrap();
    }
    table
}

pub(crate) fn name(text: &str) -> ShortStr<'_> {
    text.try_into().unwrap()
}

/// `connection.close` or `channel.close`, as `Frame` prints it.
pub(crate) fn close(channel: u16, code: u16, text: &str, class: u16, method: u16) -> String {
    let scope = if channel == 0 { "connection" } else { "channel" };
    let code = ReplyCode(code);
    let text = ShortStr::new(text).unwrap();
    format!(
        "ch {channel} {scope}.close reply_code={code} reply_text={text:?} class_id={class} method_id={method}"
    )
}
