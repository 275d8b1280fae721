//! A client that waits for each answer before it goes on, over any stream: the codec at work, and nothing else.

use std::io::{self, Read, Write};

use amqp_proto::config::{negotiate_channel_max, negotiate_frame_max};
use amqp_proto::wire::{
    Arguments, BasicAck, BasicGet, BasicGetOk, BasicPublish, ChannelClose, ChannelOpen, ConfirmSelect,
    ConnectionClose, ConnectionOpen, ConnectionSecureOk, ConnectionStartOk, ConnectionTune, ConnectionTuneOk,
    FRAME_MIN_SIZE, FieldTable, Frame, FrameLimits, Method, Properties, RawFrame, ReplyCode, SecretStr,
    ShortStr,
};
use amqp_proto::{Config, RecvBuf, SendBuf};
use bytes::Buf;

/// Whatever ends a session early, in words.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the broker.
    Sent,
    /// From the broker.
    Received,
}

/// The channel that everything runs on.
const CHANNEL: u16 = 1;

/// A connection with one open channel, which confirms what is published.
pub(crate) struct Client<S, W> {
    stream: S,
    input: RecvBuf,
    output: SendBuf,
    limits: FrameLimits,
    /// The largest frame that the broker takes, in octets.
    frame_max: u32,
    /// Sees every frame on its way.
    watch: W,
}

/// A message that came out of a queue.
#[derive(Debug)]
pub(crate) struct Got {
    /// What to acknowledge it with.
    pub(crate) delivery_tag: u64,
    /// The payload of its content header frame.
    pub(crate) header: Vec<u8>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

/// What the broker may say while a client proves who it is.
enum Challenge {
    Secure(Vec<u8>),
    Tune(ConnectionTune),
}

impl<S: Read + Write, W: FnMut(Direction, &Frame<'_>)> Client<S, W> {
    /// Opens the connection and the channel: protocol header, SASL, tune, open. Every wait is bounded by the read timeout
    /// that `stream` has.
    pub(crate) fn connect(stream: S, config: &Config, watch: W) -> Result<Self, Error> {
        let mut client = Self {
            stream,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            limits: FrameLimits::default(),
            frame_max: FRAME_MIN_SIZE,
            watch,
        };
        client.output.protocol_header();
        let tune = client.authenticate(config)?;
        client.tune(config, &tune)?;
        let open = ConnectionOpen {
            virtual_host: ShortStr::new(&config.virtual_host)?,
        };
        client.call(0, &open, "connection.open-ok", |method| {
            matches!(method, Method::ConnectionOpenOk(_)).then_some(())
        })?;
        client.call(CHANNEL, &ChannelOpen {}, "channel.open-ok", |method| {
            matches!(method, Method::ChannelOpenOk(_)).then_some(())
        })?;
        client.call(
            CHANNEL,
            &ConfirmSelect::default(),
            "confirm.select-ok",
            |method| matches!(method, Method::ConfirmSelectOk(_)).then_some(()),
        )?;
        Ok(client)
    }

    /// Answers `connection.start`, then as many challenges as the mechanism takes.
    fn authenticate(&mut self, config: &Config) -> Result<ConnectionTune, Error> {
        let offered = self.receive_method("connection.start", |method| match method {
            Method::ConnectionStart(start) => Some(start.mechanisms.as_bytes().to_vec()),
            _ => None,
        })?;
        let mechanism = config.credentials.select(&offered)?;
        // Without this capability RabbitMQ says nothing to a wrong password and hangs up three seconds later.
        let capabilities = FieldTable::new().with("authentication_failure_close", true)?;
        let properties = FieldTable::new()
            .with("product", "amqp-proto session")?
            .with("capabilities", &capabilities)?;
        let response = mechanism.respond(0, &[])?;
        self.send(
            0,
            &ConnectionStartOk {
                client_properties: properties.as_ref(),
                mechanism: mechanism.name().try_into()?,
                response: SecretStr::new(response.expose()),
                ..Default::default()
            },
        )?;
        for round in 1.. {
            let challenge =
                self.receive_method("connection.secure or connection.tune", |method| match method {
                    Method::ConnectionSecure(secure) => {
                        Some(Challenge::Secure(secure.challenge.as_bytes().to_vec()))
                    }
                    Method::ConnectionTune(tune) => Some(Challenge::Tune(*tune)),
                    _ => None,
                })?;
            match challenge {
                Challenge::Tune(tune) => return Ok(tune),
                Challenge::Secure(challenge) => {
                    let response = mechanism.respond(round, &challenge)?;
                    self.send(
                        0,
                        &ConnectionSecureOk {
                            response: SecretStr::new(response.expose()),
                        },
                    )?;
                }
            }
        }
        unreachable!("a mechanism ends or fails before 2^32 rounds")
    }

    /// Takes the smaller limit of both sides. This client never pauses, so it needs no heartbeats.
    fn tune(&mut self, config: &Config, tune: &ConnectionTune) -> Result<(), Error> {
        let tune_ok = ConnectionTuneOk {
            channel_max: negotiate_channel_max(config.channel_max, tune.channel_max),
            frame_max: negotiate_frame_max(config.frame_max, tune.frame_max)?,
            heartbeat: 0,
        };
        self.send(0, &tune_ok)?;
        self.frame_max = if tune_ok.frame_max == 0 {
            u32::MAX
        } else {
            tune_ok.frame_max
        };
        self.limits.body = self.frame_max;
        self.input.raise_limit(self.frame_max as usize);
        Ok(())
    }

    /// Sends a request and waits for the answer that `accept` takes.
    pub(crate) fn request<A: Arguments, T>(
        &mut self,
        request: &A,
        expected: &str,
        accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        self.call(CHANNEL, request, expected, accept)
    }

    fn call<A: Arguments, T>(
        &mut self,
        channel: u16,
        request: &A,
        expected: &str,
        accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        self.send(channel, request)?;
        self.receive_method(expected, accept)
    }

    /// Publishes to the default exchange and waits until the broker has confirmed it.
    pub(crate) fn publish(
        &mut self,
        queue: &str,
        properties: &Properties<'_>,
        body: &[u8],
    ) -> Result<(), Error> {
        let publish = BasicPublish {
            routing_key: queue.try_into()?,
            mandatory: true,
            ..Default::default()
        };
        self.output
            .content(CHANNEL, &publish, properties, body, self.frame_max)?;
        self.flush()?;
        self.receive_method("basic.ack", |method| match method {
            Method::BasicAck(_) => Some(Ok(())),
            Method::BasicNack(_) => Some(Err("the broker did not take the message".into())),
            Method::BasicReturn(returned) => Some(Err(format!("the message came back: {returned:?}").into())),
            _ => None,
        })?
    }

    /// Takes one message, if there is one.
    pub(crate) fn get(&mut self, queue: &str) -> Result<Option<Got>, Error> {
        let get = BasicGet {
            queue: queue.try_into()?,
            ..Default::default()
        };
        let tag = self.request(&get, "basic.get-ok", |method| match method {
            Method::BasicGetOk(BasicGetOk { delivery_tag, .. }) => Some(Some(*delivery_tag)),
            Method::BasicGetEmpty(_) => Some(None),
            _ => None,
        })?;
        let Some(delivery_tag) = tag else { return Ok(None) };
        let mut got = Got {
            delivery_tag,
            header: Vec::new(),
            body: Vec::new(),
        };
        let mut size = self.receive("a content header", |raw, frame| match frame {
            Frame::Header { header, .. } => {
                got.header = raw.payload.to_vec();
                Some(header.body_size)
            }
            _ => None,
        })?;
        while size > 0 {
            size = self.receive("a body", |_, frame| match frame {
                Frame::Body { payload, .. } => {
                    got.body.extend_from_slice(payload);
                    Some(size.saturating_sub(payload.len() as u64))
                }
                _ => None,
            })?;
        }
        Ok(Some(got))
    }

    /// Acknowledges a message.
    pub(crate) fn ack(&mut self, got: &Got) -> Result<(), Error> {
        self.send(
            CHANNEL,
            &BasicAck {
                delivery_tag: got.delivery_tag,
                multiple: false,
            },
        )
    }

    /// Closes the channel, then the connection.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        let (reply_code, reply_text) = (ReplyCode::REPLY_SUCCESS, ShortStr::new("Normal shutdown")?);
        let close = ChannelClose {
            reply_code,
            reply_text,
            ..Default::default()
        };
        self.request(&close, "channel.close-ok", |method| {
            matches!(method, Method::ChannelCloseOk(_)).then_some(())
        })?;
        let close = ConnectionClose {
            reply_code,
            reply_text,
            ..Default::default()
        };
        self.call(0, &close, "connection.close-ok", |method| {
            matches!(method, Method::ConnectionCloseOk(_)).then_some(())
        })
    }

    /// Sends a method.
    pub(crate) fn send<A: Arguments>(&mut self, channel: u16, method: &A) -> Result<(), Error> {
        self.output.method(channel, method, self.frame_max)?;
        self.flush()
    }

    /// Writes everything out and shows it, as it really goes over the wire.
    fn flush(&mut self) -> Result<(), Error> {
        let octets = self.output.copy_to_bytes(self.output.remaining());
        let mut rest = octets
            .strip_prefix(b"AMQP\0\0\x09\x01".as_slice())
            .unwrap_or(&octets);
        while let Some(raw) = RawFrame::parse(
            rest,
            &FrameLimits {
                body: u32::MAX,
                other: u32::MAX,
            },
        )? {
            (self.watch)(Direction::Sent, &raw.decode()?);
            rest = rest.get(raw.size()..).unwrap_or_default();
        }
        Ok(self.stream.write_all(&octets)?)
    }

    /// Waits for the method that `accept` takes.
    pub(crate) fn receive_method<T>(
        &mut self,
        expected: &str,
        mut accept: impl FnMut(&Method<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        self.receive(expected, |_, frame| match frame {
            Frame::Method { method, .. } => accept(method),
            _ => None,
        })
    }

    /// Takes frames until `accept` likes one. Heartbeats mean nothing; anything else is an error.
    fn receive<T>(
        &mut self,
        expected: &str,
        mut accept: impl FnMut(&RawFrame<'_>, &Frame<'_>) -> Option<T>,
    ) -> Result<T, Error> {
        if self.output.has_remaining() {
            self.flush()?;
        }
        loop {
            let Some(raw) = RawFrame::parse(self.input.unread(), &self.limits)? else {
                self.fill()
                    .map_err(|error| format!("waiting for {expected}: {error}"))?;
                continue;
            };
            let size = raw.size();
            let frame = raw.decode()?;
            (self.watch)(Direction::Received, &frame);
            let accepted = match frame {
                Frame::Heartbeat => None,
                _ => Some(accept(&raw, &frame).ok_or_else(|| format!("waiting for {expected}, got {frame}"))),
            };
            self.input.consume(size);
            if let Some(accepted) = accepted {
                return Ok(accepted?);
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let count = self.stream.read(self.input.spare_mut())?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the broker hung up"));
        }
        self.input.advance(count);
        Ok(())
    }
}
