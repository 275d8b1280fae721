//! Content: a method, a content header and body frames become a message.
//!
//! ```text
//!         method            header                       last piece
//! (none) ────────▶ Header ──────────▶ Body, Stream, Skip ──────────▶ (none), and the message is told
//! ```
//! Mostly all frames of a small message lie in the buffer together, which is the common case of `small.rs`.

use alloc::string::String;
use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};

use super::consumers::Consumer;
use super::request::Purpose;
use super::state::{ChannelState, Phase, Step, payload, unexpected};
use crate::RecvBuf;
use crate::error::{ChannelCloseReason, RequestError};
use crate::event::Event;
use crate::id::{ConfirmTag, ConsumerId, DeliveryTag, RequestId};
use crate::link::Link;
use crate::message::{Delivery, Got, Message, Returned, Span};
use crate::wire::frame::METHOD_ID_SIZE;
use crate::wire::*;

/// Pieces under this size are joined by copying: each would pin a buffer, and cost more than its octets.
const JOINED_BELOW: usize = 4096;

/// How many deliveries that nobody wants may wait to go back. A queue without limit could send any number of them behind a
/// commit that is never answered; those over it go back when the channel ends.
const MAX_UNWANTED: usize = 4096;

/// A message that is not all there.
#[derive(Debug)]
pub(crate) enum Partial {
    /// The method came, and then a frame of another channel.
    Header { carried: Carried, method: Bytes },
    /// The body is being collected.
    Body {
        carried: Carried,
        message: Message,
        pieces: Pieces,
        left: u64,
    },
    /// The body is passed on as it comes.
    Stream { tag: DeliveryTag, left: u64 },
    /// Nobody wants it.
    Skip { left: u64 },
}

/// What a method said of the message it carries.
#[derive(Debug)]
pub(crate) enum Carried {
    Delivery {
        tag: DeliveryTag,
        consumer: ConsumerId,
        redelivered: bool,
        is_streamed: bool,
        no_ack: bool,
    },
    /// Its request waits until the message is complete: it may be abandoned, time out or fail before.
    Got {
        tag: DeliveryTag,
        redelivered: bool,
        message_count: u32,
    },
    Returned {
        code: ReplyCode,
        text: String,
    },
    /// Nobody wants it.
    Nothing,
}

/// A body in pieces, small ones joined.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    whole: Vec<Bytes>,
    small: BytesMut,
}

impl ChannelState {
    /// A method that carries content, and what belongs to it.
    pub(super) fn on_content_method(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
        limits: &FrameLimits,
    ) -> Result<Step, ProtocolError> {
        let envelope = Envelope::read(payload(input, size))?;
        if matches!(self.phase, Phase::Opening) {
            return Err(unexpected(Problem::UnexpectedMethod(envelope.id())));
        }
        if link.tap.is_some() {
            // Frame by frame, so that the tap sees each.
            return self.keep_method(link, input, size);
        }
        let unread = input.unread();
        let Some(header) = RawFrame::parse(unread.get(size..).unwrap_or_default(), limits)? else {
            return Ok(Step::Starved);
        };
        if header.frame_type != FrameType::Header || header.channel != self.id.number() {
            // Whatever it is, it is looked at in its turn: a close of this channel may come at any time.
            return self.keep_method(link, input, size);
        }
        let body_size = ContentHeader::body_size(header.payload)?;
        let head_size = size.saturating_add(header.size());
        let header = size.saturating_add(HEADER_SIZE)..head_size.saturating_sub(1);
        let exchange_at = envelope.exchange_at(HEADER_SIZE);
        let carried = self.carried(link, &envelope)?;
        link.counters.frames_received += 1;
        let message = Message::from_parts(input.take(head_size), exchange_at, Span::new(header));
        Ok(self.begin(link, carried, message, body_size))
    }

    /// Takes the method alone.
    fn keep_method(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let envelope = Envelope::read(payload(input, size))?;
        let carried = self.carried(link, &envelope)?;
        input.consume(HEADER_SIZE);
        let method = input.take(size.saturating_sub(HEADER_SIZE));
        self.partial = Some(Partial::Header { carried, method });
        Ok(Step::Consumed)
    }

    /// A content header on its own.
    pub(super) fn on_header(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let (carried, method) = match self.partial.take() {
            Some(Partial::Header { carried, method }) => (carried, method),
            Some(_) => return Err(unexpected(Problem::ContentInterrupted)),
            None => return Err(unexpected(Problem::UnexpectedContent)),
        };
        let header = payload(input, size);
        let body_size = ContentHeader::body_size(header)?;
        let exchange_at =
            Envelope::read(method.get(..method.len().saturating_sub(1)).unwrap_or_default())?.exchange_at(0);
        let mut head = BytesMut::with_capacity(method.len().saturating_add(header.len()));
        head.extend_from_slice(&method);
        head.extend_from_slice(header);
        let header = Span::new(method.len()..head.len());
        input.consume(size);
        let message = Message::from_parts(head.freeze(), exchange_at, header);
        Ok(self.begin(link, carried, message, body_size))
    }

    /// The head of a message is there, its body is not, or not in one frame.
    fn begin(&mut self, link: &mut Link, carried: Carried, message: Message, body_size: u64) -> Step {
        let limit = link.config.max_message_size;
        if let Carried::Delivery {
            tag,
            consumer,
            redelivered,
            is_streamed: true,
            no_ack,
        } = carried
        {
            self.note_delivery(link, tag.value(), no_ack);
            self.note_offset(consumer, tag, message.header());
            self.partial = Some(Partial::Stream { tag, left: body_size });
            link.counters.delivered += 1;
            if body_size == 0 {
                self.partial = None;
                link.events.push_back(Event::DeliveryEnded { tag });
            }
            return Step::Event(Event::DeliveryStarted {
                delivery: Delivery::new(tag, consumer, redelivered, message),
                body_size,
            });
        }
        if matches!(carried, Carried::Nothing) {
            self.partial = (body_size > 0).then_some(Partial::Skip { left: body_size });
            return Step::Consumed;
        }
        if body_size > limit {
            self.partial = Some(Partial::Skip { left: body_size });
            return self.refuse_content(link, &carried, body_size, limit);
        }
        if body_size == 0 {
            return self.complete(link, carried, message);
        }
        self.partial = Some(Partial::Body {
            carried,
            message,
            pieces: Pieces::default(),
            left: body_size,
        });
        Step::Consumed
    }

    /// A piece of a body.
    pub(super) fn on_body(
        &mut self,
        link: &mut Link,
        input: &mut RecvBuf,
        size: usize,
    ) -> Result<Step, ProtocolError> {
        let piece_size = payload(input, size).len();
        let left = match &mut self.partial {
            Some(Partial::Body { left, .. } | Partial::Stream { left, .. } | Partial::Skip { left }) => left,
            Some(Partial::Header { .. }) => return Err(unexpected(Problem::ContentInterrupted)),
            None => return Err(unexpected(Problem::UnexpectedContent)),
        };
        let Some(now_left) = left.checked_sub(piece_size as u64) else {
            return Err(unexpected(Problem::BodyTooLong {
                size: piece_size,
                left: *left,
            }));
        };
        *left = now_left;
        if let Some(Partial::Body { pieces, .. }) = &mut self.partial {
            link.partial_content = link.partial_content.saturating_add(piece_size as u64);
            pieces.push(input, piece_size);
            if now_left > 0 && link.partial_content > link.config.max_partial_content {
                return Ok(self.give_up_body(link, now_left));
            }
        } else if let Some(Partial::Stream { tag, .. }) = self.partial {
            input.consume(HEADER_SIZE);
            let chunk = input.take(piece_size);
            input.consume(1);
            return Ok(self.pass_on(link, tag, chunk, now_left));
        } else {
            input.consume(size);
        }
        if now_left > 0 {
            return Ok(Step::Consumed);
        }
        match self.take_partial(link) {
            Some(Partial::Body {
                carried,
                message,
                pieces,
                ..
            }) => Ok(self.complete(link, carried, message.with_pieces(pieces.finish()))),
            _ => Ok(Step::Consumed),
        }
    }

    /// The next piece of a body that is not collected.
    fn pass_on(&mut self, link: &mut Link, tag: DeliveryTag, chunk: Bytes, left: u64) -> Step {
        if left == 0 {
            self.partial = None;
        }
        match (chunk.is_empty(), left == 0) {
            (true, false) => Step::Consumed,
            (true, true) => Step::Event(Event::DeliveryEnded { tag }),
            (false, false) => Step::Event(Event::DeliveryChunk { tag, chunk }),
            (false, true) => {
                link.events.push_back(Event::DeliveryEnded { tag });
                Step::Event(Event::DeliveryChunk { tag, chunk })
            }
        }
    }

    /// All channels together hold too much, and something is left to come.
    fn give_up_body(&mut self, link: &mut Link, left: u64) -> Step {
        let Some(Partial::Body { carried, pieces, .. }) = self.take_partial(link) else {
            return Step::Consumed;
        };
        self.partial = Some(Partial::Skip { left });
        let size = left.saturating_add(pieces.len() as u64);
        self.refuse_content(link, &carried, size, link.config.max_partial_content)
    }

    /// Closes the channel because of a message that is too large. That answers its request, as a failure.
    fn refuse_content(&mut self, link: &mut Link, carried: &Carried, size: u64, limit: u64) -> Step {
        let reason = ChannelCloseReason::ContentTooLarge { size, limit };
        if let Carried::Got { .. } = carried
            && let Ok((request, waiting)) = self.requests.answer(BasicGetOk::SPEC.id, |_| true)
            && !waiting.is_abandoned
        {
            let cause = RequestError::ChannelClosed(reason.clone());
            link.events.push_back(Event::RequestFailed { request, cause });
        }
        if self.is_usable() {
            let text = ShortStr::delimited(b"message over the client's limit");
            self.close(link, ReplyCode::CONTENT_TOO_LARGE, text, reason);
        }
        Step::Consumed
    }

    /// Where in its stream a delivery is that was told, if it comes from one.
    pub(super) fn note_offset(&mut self, consumer: ConsumerId, tag: DeliveryTag, header: &[u8]) {
        if !tag.is_from_stream() || !self.unsettled.contains(tag.value()) {
            return;
        }
        let found = ContentHeader::decode(header)
            .unwrap_or_default()
            .properties
            .headers;
        let found = found.and_then(|headers| headers.get("x-stream-offset").ok()?);
        let offset = found.and_then(|offset| offset.as_i64());
        if let Some(offset) = offset.and_then(|offset| u64::try_from(offset).ok()) {
            self.consumers
                .note_offset(consumer.number(), tag.value(), offset, &self.unsettled);
        }
    }

    /// A message is complete.
    fn complete(&mut self, link: &mut Link, carried: Carried, message: Message) -> Step {
        Step::Event(match carried {
            Carried::Delivery {
                tag,
                consumer,
                redelivered,
                no_ack,
                ..
            } => {
                link.counters.delivered += 1;
                self.note_delivery(link, tag.value(), no_ack);
                self.note_offset(consumer, tag, message.header());
                Event::Delivery(Delivery::new(tag, consumer, redelivered, message))
            }
            Carried::Got {
                tag,
                redelivered,
                message_count,
            } => {
                let Some(request) = self.answer_get(link, tag.value()) else {
                    return Step::Consumed;
                };
                link.counters.got += 1;
                Event::Got(Got::new(request, tag, redelivered, message_count, message))
            }
            Carried::Returned { code, text, .. } => {
                link.counters.returned += 1;
                let tag = self.match_return(&message);
                Event::Returned(Returned {
                    channel: self.id,
                    tag,
                    code,
                    text,
                    message,
                })
            }
            Carried::Nothing => return Step::Consumed,
        })
    }

    /// What becomes of the message that this method carries.
    fn carried(&mut self, link: &mut Link, envelope: &Envelope<'_>) -> Result<Carried, ProtocolError> {
        match envelope {
            Envelope::Deliver(deliver) => Ok(self.carried_by_deliver(link, deliver)),
            Envelope::GetOk(get_ok) => self.carried_by_get_ok(link, get_ok),
            Envelope::Return(returned) => Ok(Carried::Returned {
                code: returned.reply_code,
                text: String::from_utf8_lossy(returned.reply_text.as_bytes()).into_owned(),
            }),
        }
    }

    fn carried_by_deliver(&mut self, link: &mut Link, deliver: &BasicDeliver<'_>) -> Carried {
        let tag = DeliveryTag::new(self.id, deliver.delivery_tag);
        self.last_delivery = self.last_delivery.max(tag.value());
        let is_usable = self.is_usable();
        let had_stream = self.consumers.had_stream();
        match self.consumers.get(deliver.consumer_tag.as_bytes()) {
            Some(consumer) if is_usable && !consumer.is_unwanted => Carried::Delivery {
                tag: tag.from_stream(consumer.is_stream_queue),
                consumer: ConsumerId::new(self.id, consumer.number),
                redelivered: deliver.redelivered,
                is_streamed: consumer.is_streamed,
                no_ack: consumer.no_ack,
            },
            Some(&Consumer {
                no_ack,
                is_stream_queue,
                ..
            }) => {
                self.give_back(link, tag.from_stream(is_stream_queue), no_ack);
                Carried::Nothing
            }
            // It may be from a stream, or not: neither can it be refused, nor acknowledged. It goes back when the channel ends.
            None if had_stream => {
                link.counters.undeliverable += 1;
                // What is acknowledged together would take it along.
                self.end_coalescing(link);
                Carried::Nothing
            }
            None => {
                self.give_back(link, tag, false);
                Carried::Nothing
            }
        }
    }

    fn carried_by_get_ok(
        &mut self,
        link: &mut Link,
        get_ok: &BasicGetOk<'_>,
    ) -> Result<Carried, ProtocolError> {
        let waiting = self.requests.due(BasicGetOk::SPEC.id)?;
        let tag = get_ok.delivery_tag;
        self.last_delivery = self.last_delivery.max(tag);
        if waiting.is_abandoned {
            self.answer_get(link, tag);
            return Ok(Carried::Nothing);
        }
        Ok(Carried::Got {
            tag: DeliveryTag::new(self.id, tag),
            redelivered: get_ok.redelivered,
            message_count: get_ok.message_count,
        })
    }

    /// The `basic.get` that a message answers; `None`, and the message goes back, if nobody waits for it any more.
    fn answer_get(&mut self, link: &mut Link, tag: u64) -> Option<RequestId<BasicGet<'static>>> {
        let (request, waiting) = self.requests.answer(BasicGetOk::SPEC.id, |_| true).ok()?;
        let no_ack = waiting.purpose == Purpose::Get { no_ack: true };
        if waiting.is_abandoned {
            link.counters.discarded_replies += 1;
            let tag = DeliveryTag::new(self.id, tag);
            self.give_back(link, tag, no_ack);
            return None;
        }
        self.note_delivery(link, tag, no_ack);
        Some(RequestId::new(request.channel(), request.sequence()))
    }

    /// Puts a message that nobody wants back into its queue. A channel that is closing gives it back by itself.
    #[cold]
    fn give_back(&mut self, link: &mut Link, tag: DeliveryTag, no_ack: bool) {
        link.counters.undeliverable += 1;
        if no_ack || !self.is_usable() {
            return;
        }
        if !self.is_committing {
            self.say_unwanted(link, tag);
        } else if self.unwanted_deliveries.len() < MAX_UNWANTED {
            self.unwanted_deliveries.push(tag);
        }
    }

    /// To a stream, which keeps it and takes nothing back, an acknowledgement only says that the next one may come.
    pub(super) fn say_unwanted(&self, link: &mut Link, tag: DeliveryTag) {
        let (delivery_tag, multiple) = (tag.value(), false);
        if tag.is_from_stream() {
            let ack = BasicAck {
                delivery_tag,
                multiple,
            };
            return link.answer(self.id.number(), &ack);
        }
        let nack = BasicNack {
            delivery_tag,
            multiple,
            requeue: true,
        };
        link.answer(self.id.number(), &nack);
    }

    /// Which publish came back.
    fn match_return(&mut self, message: &Message) -> Option<ConfirmTag> {
        let window = self.confirm.as_mut().filter(|_| !self.is_confirm_pending)?;
        let sequence = self
            .numbers_publishes
            .then(|| super::publish::number_of(message))
            .flatten();
        let tag = window.returned(
            message.exchange().as_bytes(),
            message.routing_key().as_bytes(),
            sequence,
        )?;
        Some(ConfirmTag::new(self.id, tag))
    }

    /// Forgets a message that is not all there.
    pub(super) fn drop_partial(&mut self, link: &mut Link) {
        self.take_partial(link);
    }

    fn take_partial(&mut self, link: &mut Link) -> Option<Partial> {
        let partial = self.partial.take();
        if let Some(Partial::Body { pieces, .. }) = &partial {
            link.partial_content = link.partial_content.saturating_sub(pieces.len() as u64);
        }
        partial
    }
}

/// A method that carries content to us.
enum Envelope<'a> {
    Deliver(BasicDeliver<'a>),
    GetOk(BasicGetOk<'a>),
    Return(BasicReturn<'a>),
}

impl<'a> Envelope<'a> {
    #[inline]
    fn read(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        match Method::decode(payload)? {
            Method::BasicDeliver(deliver) => Ok(Self::Deliver(deliver)),
            Method::BasicGetOk(get_ok) => Ok(Self::GetOk(get_ok)),
            Method::BasicReturn(returned) => Ok(Self::Return(returned)),
            other => Err(unexpected(Problem::UnexpectedMethod(other.spec().id))),
        }
    }

    const fn id(&self) -> MethodId {
        match self {
            Self::Deliver(_) => BasicDeliver::SPEC.id,
            Self::GetOk(_) => BasicGetOk::SPEC.id,
            Self::Return(_) => BasicReturn::SPEC.id,
        }
    }

    /// Where the exchange begins, in front of which are the method's numbers and other arguments; the payload is at `start`.
    #[inline]
    fn exchange_at(&self, start: usize) -> u32 {
        let before = match self {
            Self::Deliver(deliver) => return exchange_in_deliver(start, deliver),
            Self::GetOk(_) => METHOD_ID_SIZE + 8 + 1,
            Self::Return(returned) => METHOD_ID_SIZE + 2 + 1 + returned.reply_text.len(),
        };
        Span::new(0..start.saturating_add(before)).end
    }
}

/// Where the exchange begins in a `basic.deliver`: behind the tags and a bit.
#[inline(always)]
pub(super) fn exchange_in_deliver(start: usize, deliver: &BasicDeliver<'_>) -> u32 {
    let before = METHOD_ID_SIZE + 1 + usize::from(deliver.consumer_tag.length_octet()) + 8 + 1;
    Span::new(0..start.saturating_add(before)).end
}

impl Pieces {
    /// Takes the body frame that `input` begins with.
    fn push(&mut self, input: &mut RecvBuf, size: usize) {
        input.consume(HEADER_SIZE);
        if size < JOINED_BELOW {
            self.small
                .extend_from_slice(input.unread().get(..size).unwrap_or_default());
            input.consume(size);
        } else {
            self.flush_small();
            self.whole.push(input.take(size));
        }
        input.consume(1);
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.whole.push(core::mem::take(&mut self.small).freeze());
        }
    }

    fn len(&self) -> usize {
        self.whole.iter().map(Bytes::len).sum::<usize>() + self.small.len()
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.flush_small();
        self.whole
    }
}
