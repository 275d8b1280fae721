//! Where deliveries come from: a block of them, encoded once and written over and over with new delivery tags.

use std::io::{self, Write};

use amqp_bench::clients::SMALL;
use amqp_bench::{ECHO_QUEUE, QueueName};
use amqp_proto::SendBuf;
use amqp_proto::wire::{BasicConsume, BasicDeliver, HEADER_SIZE, Properties};
use anyhow::Result;
use bytes::Buf;

/// How much is written at a time, in octets, if a single delivery is not larger.
const BLOCK: usize = 256 * 1024;

/// The messages that one consumer is still to get.
pub(crate) struct Source {
    /// Deliveries of the same length, one after the other.
    block: Vec<u8>,
    delivery: usize,
    channel: u16,
    /// Where in a delivery its tag is.
    tag_at: usize,
    /// The tag of the last one that was written.
    sent: u64,
    last: u64,
    settled: u64,
    /// How many may be unsettled; `u64::MAX` without a limit.
    prefetch: u64,
    /// There is one message for each that is published.
    is_echo: bool,
}

impl Source {
    pub(crate) fn new(
        channel: u16,
        consume: &BasicConsume<'_>,
        prefetch: u16,
        frame_max: u32,
    ) -> Result<Self> {
        let name = consume.queue.to_str()?;
        let is_echo = name == ECHO_QUEUE;
        let queue = match name {
            ECHO_QUEUE => QueueName {
                messages: 0,
                size: SMALL,
            },
            name => name.parse()?,
        };
        let deliver = BasicDeliver {
            consumer_tag: consume.consumer_tag,
            routing_key: consume.queue,
            ..BasicDeliver::default()
        };
        let properties = Properties {
            content_type: Some("text/plain".try_into()?),
            delivery_mode: Some(Properties::PERSISTENT),
            ..Properties::default()
        };
        let mut output = SendBuf::new();
        output.content(channel, &deliver, &properties, vec![b'x'; queue.size], frame_max)?;
        let delivery = output.copy_to_bytes(output.remaining());
        let method_id = 4;
        Ok(Self {
            block: delivery.repeat((BLOCK / delivery.len()).max(1)),
            delivery: delivery.len(),
            channel,
            tag_at: HEADER_SIZE + method_id + 1 + consume.consumer_tag.as_bytes().len(),
            sent: 0,
            last: queue.messages,
            settled: 0,
            prefetch: match prefetch {
                _ if consume.no_ack => u64::MAX,
                0 => u64::MAX,
                prefetch => prefetch.into(),
            },
            is_echo,
        })
    }

    /// The channel of its consumer.
    pub(crate) const fn channel(&self) -> u16 {
        self.channel
    }

    /// So many were published.
    pub(crate) fn published(&mut self, count: u64) {
        if self.is_echo {
            self.last = count;
        }
    }

    pub(crate) fn settle(&mut self, delivery_tag: u64, multiple: bool) {
        self.settled = if multiple { delivery_tag } else { self.settled + 1 };
    }

    /// Writes what the consumer may have. It waits until half of the prefetch is settled: a busy broker does not answer each
    /// ack with one message either, and how much comes at a time does not depend on who is scheduled when.
    pub(crate) fn write(&mut self, output: &mut impl Write) -> io::Result<()> {
        let unsettled = self.sent.saturating_sub(self.settled);
        if unsettled > self.prefetch / 2 {
            return Ok(());
        }
        let until = self.last.min(self.settled.saturating_add(self.prefetch));
        while self.sent < until {
            let fitting = self.block.len() / self.delivery;
            let count = usize::try_from(until - self.sent).map_or(fitting, |left| left.min(fitting));
            let block = &mut self.block[..count * self.delivery];
            for delivery in block.chunks_exact_mut(self.delivery) {
                self.sent += 1;
                delivery[self.tag_at..self.tag_at + 8].copy_from_slice(&self.sent.to_be_bytes());
            }
            output.write_all(block)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use amqp_proto::wire::{Frame, FrameLimits, Method, RawFrame};

    use super::*;

    /// The delivery tags of what it writes.
    fn written(source: &mut Source) -> Vec<u64> {
        let mut octets = Vec::new();
        source.write(&mut octets).expect("a Vec takes all");
        let mut rest = &octets[..];
        let mut tags = Vec::new();
        while let Some(raw) = RawFrame::parse(rest, &FrameLimits::default()).expect("valid") {
            rest = &rest[raw.size()..];
            let frame = raw.decode().expect("valid");
            if let Frame::Method {
                method: Method::BasicDeliver(deliver),
                ..
            } = frame
            {
                assert_eq!(deliver.consumer_tag.as_bytes(), b"consumer");
                tags.push(deliver.delivery_tag);
            }
        }
        assert!(rest.is_empty());
        tags
    }

    fn source(no_ack: bool) -> Source {
        let consume = BasicConsume {
            queue: "10000 x 16".try_into().expect("short"),
            consumer_tag: "consumer".try_into().expect("short"),
            no_ack,
            ..BasicConsume::default()
        };
        Source::new(1, &consume, 100, 4096).expect("the queue's name is right")
    }

    #[test]
    fn without_acks_all_come_at_once() {
        let all: Vec<u64> = (1..=10_000).collect();
        assert_eq!(written(&mut source(true)), all);
    }

    #[test]
    fn an_echo_is_as_often_as_is_published() {
        let consume = BasicConsume {
            queue: ECHO_QUEUE.try_into().expect("short"),
            consumer_tag: "consumer".try_into().expect("short"),
            no_ack: true,
            ..BasicConsume::default()
        };
        let mut echo = Source::new(1, &consume, 0, 4096).expect("it is there");
        assert!(written(&mut echo).is_empty());
        echo.published(2);
        assert_eq!(written(&mut echo), [1, 2]);
        echo.published(3);
        assert_eq!(written(&mut echo), [3]);
        let mut other = source(true);
        other.published(3);
        assert_eq!(written(&mut other).len(), 10_000);
    }

    #[test]
    fn the_prefetch_is_filled_again_when_half_of_it_is_settled() {
        let mut source = source(false);
        assert_eq!(written(&mut source), (1..=100).collect::<Vec<_>>());
        assert!(written(&mut source).is_empty());
        source.settle(49, true);
        assert!(written(&mut source).is_empty());
        source.settle(50, false);
        assert_eq!(written(&mut source), (101..=150).collect::<Vec<_>>());
    }
}
