//! What is to be written to one stream.

use amqp_proto::SendBuf;
use amqp_proto::wire::{Arguments, CarriesContent, ReplyCode};
use amqp_proto::{Message, Payload};
use bytes::Buf;

use crate::refusal::Refusal;

/// Beyond so many octets that nobody has written yet, nothing is delivered and nothing read.
const LIMIT: usize = 1024 * 1024;

/// Frames that were said and not handed over, and how much of what was handed over is not written.
#[derive(Debug, Default)]
pub(super) struct Output {
    buffer: SendBuf,
    unwritten: usize,
    /// How much of the buffer the caller was told of.
    told: usize,
}

impl Output {
    /// RabbitMQ splits only bodies by frame_max, so a method always fits.
    pub(super) fn method<A: Arguments>(&mut self, channel: u16, method: &A) {
        let result = self.buffer.method(channel, method, u32::MAX);
        debug_assert!(result.is_ok(), "{result:?}");
    }

    /// A message.
    ///
    /// # Errors
    /// Its properties do not fit a frame, as a publisher with a larger frame_max can make them. RabbitMQ sends a larger frame then.
    pub(super) fn content<A: CarriesContent>(
        &mut self,
        channel: u16,
        method: &A,
        message: &Message,
        frame_max: u32,
    ) -> Result<(), Refusal> {
        let limit = if frame_max == 0 { u32::MAX } else { frame_max };
        let body = Payload::Shared(message.clone().into_body());
        self.buffer
            .content(channel, method, &message.properties(), body, limit)
            .map_err(|error| Refusal::connection(ReplyCode::INTERNAL_ERROR, error))
    }

    pub(super) fn heartbeat(&mut self) {
        self.buffer.heartbeat();
    }

    pub(super) fn protocol_header(&mut self) {
        self.buffer.protocol_header();
    }

    /// Moves all to `out` if that is empty, and says how much that was.
    pub(super) fn transmit(&mut self, out: &mut SendBuf) -> usize {
        let count = if out.has_remaining() {
            0
        } else {
            std::mem::swap(&mut self.buffer, out);
            self.told = 0;
            out.remaining()
        };
        self.unwritten = out.remaining();
        count
    }

    pub(super) fn is_congested(&self) -> bool {
        self.buffer.remaining().saturating_add(self.unwritten) > LIMIT
    }

    /// Whether there is more than the last time. A caller that cannot write is not told again and again.
    pub(super) fn takes_news(&mut self) -> bool {
        let told = std::mem::replace(&mut self.told, self.buffer.remaining());
        self.told > told
    }

    pub(super) fn clear(&mut self) {
        self.buffer = SendBuf::new();
        self.told = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mebibyte_is_not_too_much() {
        let unwritten = |unwritten| Output {
            unwritten,
            ..Output::default()
        };
        assert!(!unwritten(1_048_576).is_congested());
        assert!(unwritten(1_048_577).is_congested());
    }
}
