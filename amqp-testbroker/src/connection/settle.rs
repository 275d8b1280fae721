//! Acknowledgements and their opposites.

use std::collections::BTreeMap;

use amqp_proto::wire::*;

use super::channel::{Channel, Unsettled};
use super::context::Context;
use crate::refusal::Refusal;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged,
    Requeued,
    Rejected,
}

/// Deliveries by their tags.
pub(super) type Deliveries = BTreeMap<u64, Unsettled>;

impl Channel {
    pub(super) fn ack(&mut self, cx: &mut Context<'_>, method: &BasicAck) -> Result<(), Refusal> {
        self.settle(cx, method.delivery_tag, method.multiple, Outcome::Acknowledged)
    }

    pub(super) fn nack(&mut self, cx: &mut Context<'_>, method: &BasicNack) -> Result<(), Refusal> {
        self.settle(cx, method.delivery_tag, method.multiple, outcome(method.requeue))
    }

    pub(super) fn reject(&mut self, cx: &mut Context<'_>, method: &BasicReject) -> Result<(), Refusal> {
        self.settle(cx, method.delivery_tag, false, outcome(method.requeue))
    }

    pub(super) fn recover(&mut self, cx: &mut Context<'_>, requeue: bool) -> Result<(), Refusal> {
        if !requeue {
            return Err(Refusal::connection(ReplyCode::NOT_IMPLEMENTED, "requeue=false"));
        }
        let deliveries = std::mem::take(&mut self.unsettled);
        self.apply(cx, Outcome::Requeued, deliveries.into_values());
        Ok(())
    }

    fn settle(
        &mut self,
        cx: &mut Context<'_>,
        tag: u64,
        multiple: bool,
        outcome: Outcome,
    ) -> Result<(), Refusal> {
        let deliveries = self.take_unsettled(tag, multiple)?;
        match &mut self.transaction {
            Some(transaction) => {
                let settlements = deliveries
                    .into_iter()
                    .map(|(tag, delivery)| (outcome, tag, delivery));
                transaction.settlements.extend(settlements);
            }
            None => self.apply(cx, outcome, deliveries.into_values()),
        }
        Ok(())
    }

    /// The delivery of that tag, or all up to it; tag 0 is all there are.
    fn take_unsettled(&mut self, tag: u64, multiple: bool) -> Result<Deliveries, Refusal> {
        if multiple && tag == 0 {
            return Ok(std::mem::take(&mut self.unsettled));
        }
        let Some(delivery) = self.unsettled.remove(&tag) else {
            let text = format_args!("unknown delivery tag {tag}");
            return Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text));
        };
        let mut deliveries = Deliveries::new();
        if multiple {
            let after = self.unsettled.split_off(&tag);
            deliveries = std::mem::replace(&mut self.unsettled, after);
        }
        deliveries.insert(tag, delivery);
        Ok(deliveries)
    }

    /// Does what was decided, and makes room for more.
    pub(super) fn apply(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Outcome,
        deliveries: impl IntoIterator<Item = Unsettled>,
    ) {
        let now = cx.now;
        let mut requeued = Vec::new();
        for Unsettled { entry, consumer, .. } in deliveries {
            if let Some(tag) = consumer {
                self.in_flight = self.in_flight.saturating_sub(1);
                if let Some(consumer) = self.consumers.get_mut(&tag) {
                    consumer.in_flight = consumer.in_flight.saturating_sub(1);
                    if entry.is_none() {
                        consumer.timed_out = consumer.timed_out.saturating_sub(1);
                    }
                    cx.host().note_room(&consumer.queue);
                }
            }
            let Some(entry) = entry else {
                continue;
            };
            match outcome {
                Outcome::Acknowledged => cx.host().acknowledge(entry, now),
                Outcome::Requeued => requeued.push(entry),
                Outcome::Rejected => cx.host().reject(entry, now),
            }
        }
        if !requeued.is_empty() {
            cx.host().requeue(requeued, now);
        }
        if self.channel_prefetch != 0 {
            self.note_room(cx);
        }
    }
}

const fn outcome(requeue: bool) -> Outcome {
    if requeue {
        Outcome::Requeued
    } else {
        Outcome::Rejected
    }
}
