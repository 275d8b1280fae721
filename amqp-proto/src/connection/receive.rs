//! The way in: frames out of the buffer, each to whom it is for.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Connection, State};
use crate::RecvBuf;
use crate::channel::{SmallDelivery, SmallFrame, Step, payload, small_below};
use crate::error::CloseReason;
use crate::event::Event;
use crate::id::{ConfirmTags, ConsumerId};
use crate::message::Delivery;
use crate::time::Instant;
use crate::trace::Direction;
use crate::wire::frame::METHOD_ID_SIZE;
use crate::wire::*;

/// As the payloads of `basic.deliver` and `basic.ack` begin.
const DELIVER: &[u8; METHOD_ID_SIZE] = &[0, 60, 0, 60];
const ACK: &[u8; METHOD_ID_SIZE] = &[0, 60, 0, 80];

/// What mostly comes. It was noted, and its octets are still there.
pub(super) enum Common {
    Delivery(SmallDelivery),
    Acked { tags: ConfirmTags, size: usize },
}

/// Outputs.
impl Connection {
    /// The next events, as long as they are small deliveries to this consumer: appends `most` of them at most, and says how many
    /// there were. They are what [`poll_event`](Self::poll_event) would tell, and cost less, since messages to one consumer
    /// mostly come in a row; what comes behind them is for `poll_event`.
    ///
    /// ```
    /// # use amqp_proto::{Connection, Event, Instant, RecvBuf};
    /// # fn look(connection: &mut Connection, now: Instant, input: &mut RecvBuf) {
    /// while let Some(event) = connection.poll_event(now, input) {
    ///     match event {
    ///         Event::Delivery(first) => {
    ///             let mut all = vec![first];
    ///             connection.poll_deliveries(all[0].consumer, input, 63, &mut all);
    ///         }
    ///         event => println!("{event:?}"),
    ///     }
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn poll_deliveries(
        &mut self,
        consumer: ConsumerId,
        input: &mut RecvBuf,
        most: usize,
        deliveries: &mut Vec<Delivery>,
    ) -> usize {
        if !self.link.events.is_empty() || !self.takes_short_way() {
            return 0;
        }
        let (number, below) = (consumer.channel().number(), small_below(&self.limits));
        let Some(channel) = self
            .channels
            .get_mut(&number)
            .filter(|channel| channel.id == consumer.channel())
        else {
            return 0;
        };
        let mut count = 0;
        while count < most
            && let Some(method) = SmallFrame::parse(input.unread(), FrameType::Method, below)
            && method.channel == number
            && let Some((DELIVER, arguments)) = method.payload.split_first_chunk()
            && let Some(small) =
                channel.on_small_delivery(&mut self.link, &method, arguments, below, Some(consumer))
        {
            deliveries.push(small.take(input));
            count += 1;
        }
        self.note_seen(input);
        count
    }
}

impl Connection {
    /// What mostly comes, on the shortest way: a small delivery, a confirm. `None` if it is anything else, and then nothing has
    /// happened.
    #[inline(always)]
    pub(super) fn common_event(&mut self, input: &RecvBuf) -> Option<Common> {
        if !self.takes_short_way() {
            return None;
        }
        let below = small_below(&self.limits);
        let method = SmallFrame::parse(input.unread(), FrameType::Method, below)?;
        match method.payload.split_first_chunk()? {
            (DELIVER, arguments) => {
                let channel = self.channels.get_mut(&method.channel)?;
                let small = channel.on_small_delivery(&mut self.link, &method, arguments, below, None)?;
                Some(Common::Delivery(small))
            }
            (ACK, arguments) => {
                // If it cannot be read, the general way says where.
                let ack = BasicAck::decode(arguments, 0).ok()?;
                let channel = self.channels.get_mut(&method.channel)?;
                let tags = channel.on_plain_ack(&mut self.link, &ack)?;
                let size = method.payload.len() + FRAME_OVERHEAD as usize;
                self.link.counters.octets_received += size as u64;
                Some(Common::Acked { tags, size })
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn takes_short_way(&self) -> bool {
        self.link.tap.is_none() && self.is_open() && !self.link.is_over_limit()
    }

    /// Takes frames up to the next event, then looks at what is due.
    #[inline(never)]
    pub(super) fn next_event(&mut self, now: Instant, input: &mut RecvBuf) -> Option<Event> {
        input.raise_limit(self.largest_input());
        // When the stream has ended nothing will be written, so nothing is gained by not reading.
        while !self.is_closed() && (self.disconnected.is_some() || !self.link.is_over_limit()) {
            match self.step(now, input) {
                Ok(Step::Event(event)) => {
                    self.note_seen(input);
                    return Some(event);
                }
                Ok(Step::Starved) => {
                    self.is_starved = true;
                    break;
                }
                Ok(Step::Consumed | Step::ChannelGone) => {}
                Err(error) => self.end_by_protocol_error(error),
            }
            if !self.link.events.is_empty() {
                self.note_seen(input);
                return self.link.events.pop_front();
            }
        }
        if !self.is_closed() {
            self.expire(now);
        }
        if self.is_closed() {
            input.consume(usize::MAX);
        }
        self.note_seen(input);
        self.link.events.pop_front()
    }

    /// Nothing more of the input is looked at for now.
    #[inline(always)]
    pub(super) fn note_seen(&mut self, input: &RecvBuf) {
        self.seen = input.unread().len();
    }

    /// Takes one frame, or the beginning of a message.
    fn step(&mut self, now: Instant, input: &mut RecvBuf) -> Result<Step, ProtocolError> {
        let Some(raw) = RawFrame::parse(input.unread(), &self.limits)? else {
            return Ok(Step::Starved);
        };
        let (frame_type, number, size) = (raw.frame_type, raw.channel, raw.size());
        let unread = input.unread().len();
        if let Some(tap) = &mut self.link.tap {
            let frame = input.unread().get(..size).unwrap_or_default();
            tap.frame(now, Direction::Received, number, frame);
        }
        let step = if frame_type == FrameType::Heartbeat {
            input.consume(size);
            self.link.counters.heartbeats_received += 1;
            Step::Consumed
        } else if number != 0 && matches!(self.state, State::Closing { is_said: true, .. }) {
            // Behind `connection.close` nothing is taken but what belongs to it, and nothing answered.
            input.consume(size);
            Step::Consumed
        } else if let Some(channel) = self.channels.get_mut(&number) {
            channel.on_frame(&mut self.link, input, frame_type, size, &self.limits)?
        } else {
            self.on_frame_without_channel(now, input, frame_type, number, size)?
        };
        match step {
            Step::Starved => return Ok(Step::Starved),
            Step::ChannelGone => self.forget_channel(number),
            Step::Event(_) | Step::Consumed => {}
        }
        let taken = unread.saturating_sub(input.unread().len());
        self.link.counters.octets_received += taken as u64;
        self.link.counters.frames_received += 1;
        Ok(step)
    }

    /// A channel has ended.
    fn forget_channel(&mut self, number: u16) {
        self.channels.remove(&number);
        self.closed_by_peer.insert(number);
        self.advance_close();
    }

    /// A frame on channel 0, or on one that is not open.
    fn on_frame_without_channel(
        &mut self,
        now: Instant,
        input: &mut RecvBuf,
        frame_type: FrameType,
        number: u16,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let result = match number {
            0 => self.on_connection_frame(now, input, frame_type, size),
            _ => self.on_stray_frame(input, frame_type, number, size),
        };
        // Once we said close, what is neither that nor its answer is to be discarded (specification, connection.close).
        if result.is_err() && matches!(self.state, State::Closing { is_said: true, .. }) {
            input.consume(size);
            return Ok(Step::Consumed);
        }
        result
    }

    /// A frame on a channel that is not open.
    #[cold]
    fn on_stray_frame(
        &mut self,
        input: &mut RecvBuf,
        frame_type: FrameType,
        number: u16,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let payload = payload(input, size);
        // RabbitMQ repeats that it closes a channel at every tick, until it has our answer.
        let is_close =
            frame_type == FrameType::Method && Method::split_id(payload)?.0 == ChannelClose::SPEC.id;
        if is_close && self.closed_by_peer.contains(&number) {
            input.consume(size);
            return Ok(Step::Consumed);
        }
        Err(ProtocolError::new(
            Problem::ChannelNotOpen(number),
            "frame header channel",
            1,
        ))
    }

    /// A frame on channel 0.
    fn on_connection_frame(
        &mut self,
        now: Instant,
        input: &mut RecvBuf,
        frame_type: FrameType,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        if frame_type != FrameType::Method {
            return Err(ProtocolError::new(
                Problem::UnexpectedContent,
                "frame header channel",
                1,
            ));
        }
        match Method::decode(payload(input, size))? {
            Method::ConnectionClose(close) => self.on_close(&close),
            Method::ConnectionUpdateSecretOk(_) => {
                let found = ConnectionUpdateSecretOk::SPEC.id;
                let (request, waiting) = self.requests.answer(found, |_| true)?;
                if waiting.is_abandoned {
                    self.link.counters.discarded_replies += 1;
                } else {
                    input.consume(HEADER_SIZE);
                    let payload = input.take(size.saturating_sub(HEADER_SIZE));
                    return Ok(Step::Event(Event::Reply(crate::Reply::from_frame(
                        request, payload,
                    ))));
                }
            }
            Method::ConnectionBlocked(blocked) if self.is_established() => {
                let reason = String::from_utf8_lossy(blocked.reason.as_bytes()).into();
                self.on_blocked(now, reason);
            }
            Method::ConnectionUnblocked(_) if self.is_established() => self.on_unblocked(),
            method => self.on_handshake(&method)?,
        }
        input.consume(size);
        Ok(Step::Consumed)
    }

    /// What must fit the buffer: a method that carries content, and the frame behind it.
    fn largest_input(&self) -> usize {
        let largest = self.limits.body.max(self.limits.other);
        (largest as usize).saturating_add(FRAME_MIN_SIZE as usize)
    }

    /// Past the handshake, and not over.
    const fn is_established(&self) -> bool {
        matches!(self.state, State::Open | State::Closing { .. })
    }

    fn on_blocked(&mut self, now: Instant, reason: Arc<str>) {
        self.deadlines
            .block(now, self.link.config.blocked_connection_timeout);
        self.blocked = Some(Arc::clone(&reason));
        self.link.events.push_back(Event::Blocked { reason });
    }

    fn on_unblocked(&mut self) {
        self.deadlines.unblock();
        if self.blocked.take().is_some() {
            self.link.events.push_back(Event::Unblocked);
        }
    }

    /// The peer broke the protocol: it is told so, unless it does not speak this one.
    #[cold]
    fn end_by_protocol_error(&mut self, mut error: ProtocolError) {
        self.link.drop_queued();
        if !matches!(self.state, State::Start) {
            error.problem = error.problem.of_amqp_peer();
        }
        if !error.is_other_protocol() {
            let text = alloc::format!("{error}");
            let close = ConnectionClose {
                reply_code: error.reply_code(),
                reply_text: crate::channel::cut(&text),
                class_id: 0,
                method_id: 0,
            };
            self.link.answer(0, &close);
        }
        self.end(CloseReason::Protocol(error));
    }
}
