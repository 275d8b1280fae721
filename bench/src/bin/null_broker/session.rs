//! One connection: a thread, a blocking socket, and of each frame only as much looked at as is needed.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use amqp_proto::SendBuf;
use amqp_proto::wire::{
    Arguments, BasicAck, BasicCancelOk, BasicConsumeOk, BasicQosOk, ChannelCloseOk, ChannelOpenOk,
    ConfirmSelectOk, ConnectionCloseOk, ConnectionOpenOk, ConnectionStart, ConnectionTune, ExchangeDeclareOk,
    FrameLimits, FrameType, LongStr, Method, PROTOCOL_HEADER, QueueBindOk, QueueDeclareOk, RawFrame,
};
use anyhow::{Context, Result, bail};
use bytes::Buf;

use crate::input::Input;
use crate::source::Source;

const FRAME_MAX: u32 = 128 * 1024;

/// In seconds; so long that none is sent while something is measured.
const HEARTBEAT: u16 = 600;

/// For whoever leaves that to the broker; as long as RabbitMQ's.
const CONSUMER_TAG: &str = "amq.ctag-Zr4jMLq0pT8bXw2nKe6uVg";

/// Class and method number, as they begin a method frame's payload.
const BASIC_PUBLISH: [u8; 4] = [0, 60, 0, 40];
const BASIC_ACK: [u8; 4] = [0, 60, 0, 80];

/// A connection and all that is known of it.
pub(crate) struct Session {
    stream: TcpStream,
    output: SendBuf,
    channels: HashMap<u16, Channel>,
    source: Option<Source>,
}

#[derive(Default)]
struct Channel {
    /// The messages that arrived whole.
    published: u64,
    /// What is missing of the message that is arriving, in octets.
    body_left: u64,
    /// The last one confirmed, if confirms are selected.
    confirmed: Option<u64>,
    prefetch: u16,
}

impl Session {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            output: SendBuf::new(),
            channels: HashMap::new(),
            source: None,
        }
    }

    /// Serves the client until it goes.
    pub(crate) fn run(mut self) -> Result<()> {
        self.start()?;
        let mut input = Input::new(self.stream.try_clone()?);
        while input.read()? {
            self.handle_frames(&mut input)?;
            self.confirm()?;
            self.flush()?;
            if let Some(source) = &mut self.source {
                if let Some(channel) = self.channels.get(&source.channel()) {
                    source.published(channel.published);
                }
                source.write(&mut self.stream).context("writing deliveries")?;
            }
        }
        Ok(())
    }

    /// Takes the protocol header and sends `connection.start`.
    fn start(&mut self) -> Result<()> {
        let mut header = [0; PROTOCOL_HEADER.len()];
        self.stream.read_exact(&mut header).context("protocol header")?;
        if header != PROTOCOL_HEADER {
            bail!("not AMQP 0-9-1: {header:?}");
        }
        let start = ConnectionStart {
            version_minor: 9,
            mechanisms: LongStr::new(b"PLAIN"),
            locales: LongStr::new(b"en_US"),
            ..ConnectionStart::default()
        };
        self.send(0, &start)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        while self.output.has_remaining() {
            let count = self.stream.write(self.output.chunk()).context("writing")?;
            self.output.advance(count);
        }
        Ok(())
    }

    fn send<A: Arguments>(&mut self, channel: u16, method: &A) -> Result<()> {
        Ok(self.output.method(channel, method, FRAME_MAX)?)
    }

    fn channel(&mut self, number: u16) -> Result<&mut Channel> {
        self.channels
            .get_mut(&number)
            .with_context(|| format!("channel {number} is not open"))
    }

    fn handle_frames(&mut self, input: &mut Input) -> Result<()> {
        loop {
            while let Some(frame) = RawFrame::parse(input.unread(), &FrameLimits::default())? {
                let size = frame.size();
                self.handle_frame(&frame)?;
                input.consume(size);
            }
            match input.discard_body()? {
                Some(body) => self.channel(body.channel)?.take_body(body.octets)?,
                None => return Ok(()),
            }
        }
    }

    fn handle_frame(&mut self, frame: &RawFrame<'_>) -> Result<()> {
        match frame.frame_type {
            FrameType::Body => {
                let octets = frame.payload.len() as u64;
                self.channel(frame.channel)?.take_body(octets)?;
            }
            FrameType::Header => {
                let size = frame.payload.get(4..12).and_then(|size| size.try_into().ok());
                let size = u64::from_be_bytes(size.context("a content header without a body size")?);
                self.channel(frame.channel)?.begin_body(size);
            }
            FrameType::Heartbeat => {}
            FrameType::Method if frame.payload.starts_with(&BASIC_PUBLISH) => {}
            FrameType::Method if frame.payload.starts_with(&BASIC_ACK) => {
                let [tag @ .., multiple] = frame.payload else {
                    bail!("an empty basic.ack");
                };
                let tag = tag.get(4..).and_then(|tag| tag.try_into().ok());
                let tag = u64::from_be_bytes(tag.context("a basic.ack without a delivery tag")?);
                if let Some(source) = &mut self.source {
                    source.settle(tag, *multiple != 0);
                }
            }
            FrameType::Method => return self.handle_method(frame.channel, &Method::decode(frame.payload)?),
        }
        Ok(())
    }

    /// All that is not on the hot path.
    fn handle_method(&mut self, number: u16, method: &Method<'_>) -> Result<()> {
        match method {
            Method::ConnectionStartOk(_) => {
                let tune = ConnectionTune {
                    channel_max: 2047,
                    frame_max: FRAME_MAX,
                    heartbeat: HEARTBEAT,
                };
                self.send(0, &tune)?;
            }
            Method::ConnectionTuneOk(tune) if tune.frame_max == FRAME_MAX => {}
            Method::ConnectionOpen(_) => self.send(0, &ConnectionOpenOk::default())?,
            // It is the client's to end the stream.
            Method::ConnectionClose(_) => self.send(0, &ConnectionCloseOk {})?,
            Method::ChannelOpen(_) => {
                self.channels.insert(number, Channel::default());
                self.send(number, &ChannelOpenOk::default())?;
            }
            Method::ChannelClose(_) => {
                self.channels.remove(&number);
                self.send(number, &ChannelCloseOk {})?;
            }
            Method::ExchangeDeclare(_) => self.send(number, &ExchangeDeclareOk {})?,
            Method::QueueBind(_) => self.send(number, &QueueBindOk {})?,
            Method::QueueDeclare(declare) => {
                // Whoever publishes without confirms learns here that all has arrived.
                let ok = QueueDeclareOk {
                    queue: declare.queue,
                    message_count: self.channel(number)?.published.try_into()?,
                    consumer_count: 0,
                };
                self.send(number, &ok)?;
            }
            Method::ConfirmSelect(_) => {
                self.channel(number)?.confirmed = Some(0);
                self.send(number, &ConfirmSelectOk {})?;
            }
            Method::BasicQos(qos) => {
                self.channel(number)?.prefetch = qos.prefetch_count;
                self.send(number, &BasicQosOk {})?;
            }
            Method::BasicConsume(consume) => {
                let prefetch = self.channel(number)?.prefetch;
                let mut consume = *consume;
                if consume.consumer_tag.as_bytes().is_empty() {
                    consume.consumer_tag = CONSUMER_TAG.try_into()?;
                }
                self.source = Some(Source::new(number, &consume, prefetch, FRAME_MAX)?);
                let consumer_tag = consume.consumer_tag;
                self.send(number, &BasicConsumeOk { consumer_tag })?;
            }
            Method::BasicCancel(cancel) => {
                self.source = None;
                let consumer_tag = cancel.consumer_tag;
                self.send(number, &BasicCancelOk { consumer_tag })?;
            }
            other => bail!("the null broker cannot do {other:?}"),
        }
        Ok(())
    }

    /// One ack for all that arrived whole since the last one.
    fn confirm(&mut self) -> Result<()> {
        for (number, channel) in &mut self.channels {
            if let Some(confirmed) = &mut channel.confirmed
                && *confirmed < channel.published
            {
                *confirmed = channel.published;
                let ack = BasicAck {
                    delivery_tag: channel.published,
                    multiple: true,
                };
                self.output.method(*number, &ack, FRAME_MAX)?;
            }
        }
        Ok(())
    }
}

impl Channel {
    fn begin_body(&mut self, size: u64) {
        self.body_left = size;
        if size == 0 {
            self.published += 1;
        }
    }

    fn take_body(&mut self, octets: u64) -> Result<()> {
        self.body_left = self
            .body_left
            .checked_sub(octets)
            .context("more of a body than its header said")?;
        if self.body_left == 0 {
            self.published += 1;
        }
        Ok(())
    }
}
