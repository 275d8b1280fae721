//! No client: octets encoded beforehand, on a blocking socket. What this takes, the kernel and the null broker take of
//! every client; its messages a second are what the null broker can do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use amqp_proto::wire::{
    BasicAck, BasicConsume, BasicPublish, BasicQos, ChannelOpen, ConfirmSelect, ConnectionClose,
    ConnectionOpen, ConnectionStartOk, ConnectionTuneOk, Frame, FrameLimits, FrameType, Method, Properties,
    QueueDeclare, RawFrame,
};
use amqp_proto::{RecvBuf, SendBuf};
use anyhow::{Result, bail, ensure};
use bytes::{Buf, Bytes};

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

const PATIENCE: Duration = Duration::from_secs(120);

/// How much is written at a time, in octets, if a single message is not larger.
const BLOCK: usize = 64 * 1024;

/// A connection. Each run opens the next channel of it.
pub(crate) struct Floor {
    stream: TcpStream,
    input: RecvBuf,
    output: SendBuf,
    channel: u16,
}

impl Client for Floor {
    async fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut floor = Self {
            stream,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            channel: 0,
        };
        floor.handshake()?;
        Ok(floor)
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        self.open_channel()?;
        let messages = self.encode(body)?;
        messages.write(&mut self.stream, count)?;
        let swallowed = self.swallowed()?;
        ensure!(swallowed == count, "the broker has {swallowed} of {count}");
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        self.open_channel()?;
        let select = ConfirmSelect::default();
        self.output.method(self.channel, &select, samples::FRAME_MAX)?;
        self.flush()?;
        let messages = self.encode(body)?;
        let (mut published, mut confirmed) = (0, 0);
        while confirmed < count {
            let until = count.min(confirmed + outstanding as u64);
            messages.write(&mut self.stream, until - published)?;
            published = until;
            self.read(|frame| {
                if let Frame::Method {
                    method: Method::BasicAck(ack),
                    ..
                } = frame.decode()?
                {
                    confirmed = ack.delivery_tag;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        self.open_channel()?;
        let channel = self.channel;
        let qos = BasicQos {
            prefetch_count: PREFETCH,
            ..BasicQos::default()
        };
        self.output.method(channel, &qos, samples::FRAME_MAX)?;
        self.start_consumer(&queue.to_string(), ack == Ack::None)?;
        let mut acks = SendBuf::new();
        let mut number = 0;
        while number < queue.messages {
            self.flush()?;
            self.read(|frame| {
                // Each message has one.
                if frame.frame_type != FrameType::Header {
                    return Ok(());
                }
                number += 1;
                if let Ack::Every(interval) = ack
                    && number % interval == 0
                {
                    let ack = BasicAck {
                        delivery_tag: number,
                        multiple: interval > 1,
                    };
                    acks.method(channel, &ack, samples::FRAME_MAX)?;
                }
                Ok(())
            })?;
            std::mem::swap(&mut acks, &mut self.output);
        }
        self.swallowed()?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        self.open_channel()?;
        self.start_consumer(ECHO_QUEUE, true)?;
        self.flush()?;
        let message = self.encode(body)?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            message.write(&mut self.stream, 1)?;
            let mut octets = None;
            while octets.is_none() {
                self.read(|frame| {
                    if frame.frame_type == FrameType::Body {
                        octets = Some(frame.payload.len());
                    }
                    Ok(())
                })?;
            }
            ensure!(octets == Some(SMALL));
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let mut floor = Self::connect(port).await?;
        floor.open_channel()?;
        floor.swallowed()?;
        floor
            .output
            .method(0, &ConnectionClose::default(), samples::FRAME_MAX)?;
        floor.flush()?;
        let answer = floor.stream.read(floor.input.spare_mut())?;
        ensure!(answer > 0, "no answer");
        Ok(())
    }
}

impl Floor {
    /// Says all of the client's part at once: the null broker says the same whatever it hears.
    fn handshake(&mut self) -> Result<()> {
        let start_ok = ConnectionStartOk {
            mechanism: "PLAIN".try_into()?,
            locale: "en_US".try_into()?,
            ..ConnectionStartOk::default()
        };
        let tune_ok = ConnectionTuneOk {
            frame_max: samples::FRAME_MAX,
            ..ConnectionTuneOk::default()
        };
        self.output.protocol_header();
        self.output.method(0, &start_ok, samples::FRAME_MAX)?;
        self.output.method(0, &tune_ok, samples::FRAME_MAX)?;
        self.output
            .method(0, &ConnectionOpen::default(), samples::FRAME_MAX)?;
        self.flush()
    }

    fn open_channel(&mut self) -> Result<()> {
        self.channel += 1;
        let open = ChannelOpen::default();
        self.output.method(self.channel, &open, samples::FRAME_MAX)?;
        self.flush()
    }

    fn start_consumer(&mut self, queue: &str, no_ack: bool) -> Result<()> {
        let consume = BasicConsume {
            queue: queue.try_into()?,
            consumer_tag: samples::CONSUMER_TAG.try_into()?,
            no_ack,
            ..BasicConsume::default()
        };
        Ok(self.output.method(self.channel, &consume, samples::FRAME_MAX)?)
    }

    fn encode(&self, body: &[u8]) -> Result<Messages> {
        let publish = BasicPublish {
            routing_key: samples::ROUTING_KEY.try_into()?,
            ..BasicPublish::default()
        };
        let mut output = SendBuf::new();
        output.content(
            self.channel,
            &publish,
            &Properties::default(),
            body,
            samples::FRAME_MAX,
        )?;
        let message = output.copy_to_bytes(output.remaining());
        Ok(Messages {
            block: message.repeat((BLOCK / message.len()).max(1)),
            message: message.len(),
        })
    }

    /// How many messages of this channel the null broker has; asked behind all that was sent before.
    fn swallowed(&mut self) -> Result<u64> {
        let declare = QueueDeclare::default();
        self.output.method(self.channel, &declare, samples::FRAME_MAX)?;
        let mut answer = None;
        loop {
            self.flush()?;
            self.read(|frame| {
                if let Frame::Method {
                    method: Method::QueueDeclareOk(ok),
                    ..
                } = frame.decode()?
                {
                    answer = Some(ok.message_count);
                }
                Ok(())
            })?;
            if let Some(count) = answer {
                return Ok(count.into());
            }
        }
    }

    fn flush(&mut self) -> Result<()> {
        while self.output.has_remaining() {
            let count = self.stream.write(self.output.chunk())?;
            self.output.advance(count);
        }
        Ok(())
    }

    /// Reads once, and handles the frames that are there.
    fn read(&mut self, mut handle: impl FnMut(&RawFrame<'_>) -> Result<()>) -> Result<()> {
        let count = self.stream.read(self.input.spare_mut())?;
        if count == 0 {
            bail!("the broker closed the connection");
        }
        self.input.advance(count);
        while let Some(frame) = RawFrame::parse(self.input.unread(), &FrameLimits::default())? {
            handle(&frame)?;
            let size = frame.size();
            self.input.consume(size);
        }
        Ok(())
    }
}

/// The same message, encoded, as often as fits a block.
struct Messages {
    block: Vec<u8>,
    message: usize,
}

impl Messages {
    fn write(&self, stream: &mut TcpStream, count: u64) -> Result<()> {
        let mut left = usize::try_from(count)?;
        while left > 0 {
            let now = left.min(self.block.len() / self.message);
            stream.write_all(&self.block[..now * self.message])?;
            left -= now;
        }
        Ok(())
    }
}
