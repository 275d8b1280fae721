//! The class basic: consumers and what is delivered to them.

use amqp_proto::wire::*;
use amqp_proto::{Instant, Message};

use super::channel::{Channel, Consumer, ReplyConsumer, Unsettled};
use super::context::{Context, Operation};
use super::output::Output;
use super::publish::{REPLY_ADDRESS, REPLY_TO};
use crate::config::Release;
use crate::refusal::Refusal;
use crate::vhost::{ConsumerKey, Entry, Name};

impl Channel {
    pub(super) fn qos(&mut self, cx: &mut Context<'_>, method: &BasicQos) -> Result<(), Refusal> {
        if method.prefetch_size != 0 {
            let text = format_args!("prefetch_size!=0 ({})", method.prefetch_size);
            return Err(Refusal::connection(ReplyCode::NOT_IMPLEMENTED, text));
        }
        match (cx.release(), method.global) {
            (Release::V3_10, true) => {
                self.channel_prefetch = method.prefetch_count;
                self.note_room(cx);
            }
            // It lifts the channel's limit.
            (Release::V3_10, false) => {
                self.consumer_prefetch = method.prefetch_count;
                self.channel_prefetch = 0;
                self.note_room(cx);
            }
            // All limits are those of consumers to come.
            (Release::V4, _) => self.consumer_prefetch = method.prefetch_count,
        }
        cx.answer(&BasicQosOk {});
        Ok(())
    }

    pub(super) fn consume(&mut self, cx: &mut Context<'_>, method: &BasicConsume<'_>) -> Result<(), Refusal> {
        let tag = method.consumer_tag;
        let is_reply_consumer = |consumer: &ReplyConsumer| consumer.tag == tag.as_bytes();
        if self.consumers.contains_key(tag.as_bytes())
            || self.reply_consumer.as_ref().is_some_and(is_reply_consumer)
        {
            let text = format_args!("attempt to reuse consumer tag '{tag}'");
            return Err(Refusal::connection(ReplyCode::NOT_ALLOWED, text));
        }
        let make_tag = |cx: &mut Context<'_>| match tag.is_empty() {
            true => cx.common.make_name("amq.ctag-"),
            false => Name::copy_from_slice(tag.as_bytes()),
        };
        let tag = if method.queue.as_bytes() == REPLY_TO {
            self.check_reply_consumer(method)?;
            let tag = make_tag(cx);
            self.add_reply_consumer(cx, tag.clone());
            tag
        } else {
            let queue = self.queue_name(method.queue)?;
            cx.check_queue(Operation::Read, &queue)?;
            let tag = make_tag(cx);
            let named = BasicConsume {
                queue: ShortStr::from_bytes(&queue).unwrap_or_default(),
                ..*method
            };
            let (key, now) = (cx.consumer(tag.clone()), cx.now);
            cx.host().consume(&named, key, now)?;
            let settle_within = cx.settle_within(&queue);
            self.has_time_limits |= settle_within.is_some();
            let consumer = Consumer {
                queue,
                no_ack: method.no_ack,
                prefetch: self.consumer_prefetch,
                in_flight: 0,
                settle_within,
                timed_out: 0,
            };
            self.consumers.insert(tag.clone(), consumer);
            tag
        };
        let consumer_tag = ShortStr::from_bytes(&tag).unwrap_or_default();
        cx.answer_unless(method.no_wait, &BasicConsumeOk { consumer_tag });
        Ok(())
    }

    fn check_reply_consumer(&self, method: &BasicConsume<'_>) -> Result<(), Refusal> {
        let text = if !method.no_ack {
            "reply consumer cannot acknowledge"
        } else if self.reply_consumer.is_some() {
            "reply consumer already set"
        } else {
            return Ok(());
        };
        Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text))
    }

    fn add_reply_consumer(&mut self, cx: &mut Context<'_>, tag: Name) {
        let address = cx.common.make_name(REPLY_ADDRESS);
        let key = cx.consumer(tag.clone());
        cx.common.reply_consumers.insert(address.clone(), key);
        self.reply_consumer = Some(ReplyConsumer { tag, address });
    }

    pub(super) fn cancel(&mut self, cx: &mut Context<'_>, method: &BasicCancel<'_>) -> Result<(), Refusal> {
        let tag = method.consumer_tag;
        self.end_consumer(cx, tag.as_bytes());
        cx.answer_unless(method.no_wait, &BasicCancelOk { consumer_tag: tag });
        Ok(())
    }

    /// Removes a consumer, of a queue or of direct replies; says whether there was one. What it got stays to be settled.
    pub(super) fn end_consumer(&mut self, cx: &mut Context<'_>, tag: &[u8]) -> bool {
        if let Some(consumer) = self.reply_consumer.take_if(|consumer| consumer.tag == tag) {
            cx.common.reply_consumers.remove(&consumer.address);
            return true;
        }
        let Some((tag, consumer)) = self.consumers.remove_entry(tag) else {
            return false;
        };
        let (key, now) = (cx.consumer(tag), cx.now);
        cx.host().cancel(&consumer.queue, &key, now);
        true
    }

    /// A consumer ended with its queue; says whether it was there.
    pub(super) fn forget_consumer(&mut self, tag: &[u8]) -> bool {
        self.consumers.remove(tag).is_some()
    }

    pub(super) fn get(&mut self, cx: &mut Context<'_>, method: &BasicGet<'_>) -> Result<(), Refusal> {
        let queue = self.queue_name(method.queue)?;
        cx.check_queue(Operation::Read, &queue)?;
        let (by, now) = (cx.connection, cx.now);
        let Some((entry, message_count)) = cx.host().get(&queue, by, now)? else {
            cx.answer(&BasicGetEmpty {});
            return Ok(());
        };
        let ok = BasicGetOk {
            delivery_tag: self.next_delivery_tag(),
            redelivered: entry.deliveries > 0,
            exchange: entry.message.exchange(),
            routing_key: entry.message.routing_key(),
            message_count,
        };
        let result = cx.output.content(cx.number, &ok, &entry.message, cx.frame_max);
        if method.no_ack {
            cx.host().acknowledge(entry, now);
        } else {
            let timeout = match cx.release() {
                Release::V3_10 => cx.common.config.consumer_timeout,
                Release::V4 => None,
            };
            self.has_time_limits |= timeout.is_some();
            self.unsettled.insert(
                self.deliveries,
                Unsettled {
                    entry: Some(entry),
                    consumer: None,
                    settle_by: timeout.map(|timeout| now + timeout),
                },
            );
        }
        result
    }

    const fn next_delivery_tag(&mut self) -> u64 {
        self.deliveries = self.deliveries.saturating_add(1);
        self.deliveries
    }

    /// Whether one more message may go to that consumer.
    pub(super) fn has_room(&self, tag: &[u8]) -> bool {
        let Some(consumer) = self.consumers.get(tag) else {
            return false;
        };
        let is_below = |count: u32, limit: u16| limit == 0 || count < u32::from(limit);
        consumer.no_ack
            || consumer.timed_out == 0
                && is_below(consumer.in_flight, consumer.prefetch)
                && is_below(self.in_flight, self.channel_prefetch)
    }

    /// Its consumers may have room again.
    pub(super) fn note_room(&self, cx: &mut Context<'_>) {
        for consumer in self.consumers.values() {
            cx.host().note_room(&consumer.queue);
        }
    }

    /// Delivers it; gives it back if that settled it.
    ///
    /// # Errors
    /// It does not fit the connection's frames. It counts as delivered.
    pub(super) fn deliver(
        &mut self,
        output: &mut Output,
        consumer: &ConsumerKey,
        entry: Entry,
        now: Instant,
        frame_max: u32,
    ) -> (Option<Entry>, Result<(), Refusal>) {
        let deliver = BasicDeliver {
            consumer_tag: ShortStr::from_bytes(&consumer.tag).unwrap_or_default(),
            delivery_tag: self.next_delivery_tag(),
            redelivered: entry.deliveries > 0,
            exchange: entry.message.exchange(),
            routing_key: entry.message.routing_key(),
        };
        let result = output.content(consumer.channel, &deliver, &entry.message, frame_max);
        match self.consumers.get_mut(&consumer.tag) {
            Some(found) if !found.no_ack => {
                found.in_flight = found.in_flight.saturating_add(1);
                self.in_flight = self.in_flight.saturating_add(1);
                let settle_by = found.settle_within.map(|limit| now + limit);
                let consumer = Some(consumer.tag.clone());
                self.unsettled.insert(
                    self.deliveries,
                    Unsettled {
                        entry: Some(entry),
                        consumer,
                        settle_by,
                    },
                );
                (None, result)
            }
            _ => (Some(entry), result),
        }
    }

    /// Delivers a direct reply, if that consumer is still there.
    pub(super) fn deliver_reply(
        &mut self,
        output: &mut Output,
        consumer: &ConsumerKey,
        message: &Message,
        frame_max: u32,
    ) -> Result<(), Refusal> {
        if self
            .reply_consumer
            .as_ref()
            .is_none_or(|found| found.tag != consumer.tag)
        {
            return Ok(());
        }
        let deliver = BasicDeliver {
            consumer_tag: ShortStr::from_bytes(&consumer.tag).unwrap_or_default(),
            delivery_tag: self.next_delivery_tag(),
            redelivered: false,
            exchange: message.exchange(),
            routing_key: message.routing_key(),
        };
        output.content(consumer.channel, &deliver, message, frame_max)
    }
}
