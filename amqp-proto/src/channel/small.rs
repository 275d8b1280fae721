//! The common case of content: a small message to a consumer, all three frames of it there. They are read at once and taken in one
//! piece, and no state is entered.

use super::content::exchange_in_deliver;
use super::state::{ChannelState, Phase};
use crate::RecvBuf;
use crate::id::{ConsumerId, DeliveryTag};
use crate::link::Link;
use crate::message::{Delivery, Message, Span};
use crate::wire::frame::FRAME_END;
use crate::wire::*;

/// No payload is as long as that.
const SMALL_BELOW: u32 = 16 * 1024;

/// The octets before a frame's payload: all around it but the last.
const BEFORE: u32 = FRAME_OVERHEAD - 1;

/// A whole frame with a small payload.
#[derive(Clone, Copy)]
pub(crate) struct SmallFrame<'i> {
    pub(crate) channel: u16,
    pub(crate) payload: &'i [u8],
    /// Of the payload.
    pub(crate) size: u32,
    /// What is behind it.
    rest: &'i [u8],
}

/// A message that was noted as delivered, and where it lies in the buffer.
pub(crate) struct SmallDelivery {
    tag: DeliveryTag,
    consumer: ConsumerId,
    redelivered: bool,
    envelope: u32,
    header: Span,
    body: Span,
    end: usize,
}

/// Which payloads are small: those under that size.
#[inline(always)]
pub(crate) fn small_below(limits: &FrameLimits) -> u32 {
    let limit = limits.body.min(limits.other).saturating_sub(FRAME_OVERHEAD);
    limit.min(SMALL_BELOW)
}

impl<'i> SmallFrame<'i> {
    /// The frame that `input` begins with. `None` if it is of another type, its payload not under that size, not all there, or wrong.
    #[inline(always)]
    pub(crate) fn parse(input: &'i [u8], frame_type: FrameType, below: u32) -> Option<Self> {
        let (&[found, c0, c1, s0, s1, s2, s3], rest) = input.split_first_chunk::<HEADER_SIZE>()?;
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if found != frame_type as u8 || size >= below {
            return None;
        }
        let (payload, [FRAME_END, rest @ ..]) = rest.split_at_checked(size as usize)? else {
            return None;
        };
        Some(Self {
            channel: u16::from_be_bytes([c0, c1]),
            payload,
            size,
            rest,
        })
    }
}

impl SmallDelivery {
    /// How many octets of the buffer it is.
    pub(crate) const fn size(&self) -> usize {
        self.end
    }

    /// Takes it out of the buffer that it was found in.
    #[inline(always)]
    pub(crate) fn take(self, input: &mut RecvBuf) -> Delivery {
        let octets = input.take_small(self.end);
        let message = Message::within(octets, self.envelope, self.header, self.body);
        Delivery::new(self.tag, self.consumer, self.redelivered, message)
    }
}

impl ChannelState {
    /// A small message to a consumer that wants it whole, to that one if one is named; its `basic.deliver` is that frame. `None` if it
    /// is anything else, and then nothing has happened; where it is wrong, the general way says so.
    #[inline(always)]
    pub(crate) fn on_small_delivery(
        &mut self,
        link: &mut Link,
        method: &SmallFrame<'_>,
        arguments: &[u8],
        below: u32,
        only: Option<ConsumerId>,
    ) -> Option<SmallDelivery> {
        if !matches!(self.phase, Phase::Open) || self.partial.is_some() {
            return None;
        }
        let deliver = BasicDeliver::decode(arguments, 0).ok()?;
        let header = SmallFrame::parse(method.rest, FrameType::Header, below)?;
        let body_size = ContentHeader::body_size(header.payload).ok()?;
        let body = SmallFrame::parse(header.rest, FrameType::Body, below)?;
        if header.channel != method.channel
            || body.channel != method.channel
            || u64::from(body.size) != body_size
            || body_size == 0
            || body_size > link.config.max_message_size
        {
            return None;
        }
        let consumer = self.consumers.get(deliver.consumer_tag.as_bytes())?;
        if consumer.is_unwanted
            || consumer.is_streamed
            || only.is_some_and(|only| only.number() != consumer.number)
        {
            return None;
        }
        let tag = DeliveryTag::new(self.id, deliver.delivery_tag).from_stream(consumer.is_stream_queue);
        let no_ack = consumer.no_ack;
        let consumer = ConsumerId::new(self.id, consumer.number);
        // All three are small: nothing of that overflows.
        let header_at = BEFORE + method.size + 1 + BEFORE;
        let body_at = header_at + header.size + 1 + BEFORE;
        let end = (body_at + body.size + 1) as usize;
        self.last_delivery = self.last_delivery.max(tag.value());
        self.note_delivery(link, tag.value(), no_ack);
        if tag.is_from_stream() {
            self.note_offset(consumer, tag, header.payload);
        }
        link.counters.delivered += 1;
        link.counters.frames_received += 3;
        link.counters.octets_received += end as u64;
        Some(SmallDelivery {
            tag,
            consumer,
            redelivered: deliver.redelivered,
            envelope: exchange_in_deliver(HEADER_SIZE, &deliver),
            header: Span::of(header_at, header.size),
            body: Span::of(body_at, body.size),
            end,
        })
    }
}
