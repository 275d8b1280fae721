//! The class confirm: which publishes the broker has taken.

use std::collections::VecDeque;

use amqp_proto::Instant;
use amqp_proto::wire::*;

use super::channel::Channel;
use super::context::Context;
use crate::refusal::Refusal;

/// The publishes of a channel in confirm mode.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// The number of the last publish.
    last: u64,
    /// Decided and not said, in order.
    pending: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    tag: u64,
    due: Instant,
    is_rejected: bool,
}

impl Confirms {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.due)
    }
}

impl Channel {
    pub(super) fn confirm_select(
        &mut self,
        cx: &mut Context<'_>,
        method: &ConfirmSelect,
    ) -> Result<(), Refusal> {
        if self.transaction.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text));
        }
        self.confirms.get_or_insert_default();
        cx.answer_unless(method.no_wait, &ConfirmSelectOk {});
        Ok(())
    }

    /// A publish was taken, or was not.
    pub(super) fn confirm(&mut self, cx: &mut Context<'_>, is_rejected: bool) {
        let Some(confirms) = &mut self.confirms else {
            return;
        };
        confirms.last = confirms.last.saturating_add(1);
        confirms.pending.push_back(Pending {
            tag: confirms.last,
            due: cx.now + cx.common.faults.confirm_delay,
            is_rejected,
        });
        if !cx.common.config.joins_confirms {
            self.flush_confirms(cx);
        }
    }

    /// Says what is due, in RabbitMQ's way: what can be joined with `multiple` first, the rest one by one.
    pub(super) fn flush_confirms(&mut self, cx: &mut Context<'_>) {
        let Some(confirms) = &mut self.confirms else {
            return;
        };
        let is_due = |pending: &Pending| pending.due <= cx.now;
        let (mut acked, mut nacked) = (Vec::new(), Vec::new());
        let count = confirms
            .pending
            .iter()
            .take_while(|pending| is_due(pending))
            .count();
        for pending in confirms.pending.drain(..count) {
            let tags = if pending.is_rejected {
                &mut nacked
            } else {
                &mut acked
            };
            tags.push(pending.tag);
        }
        let open = confirms.pending.front().map_or(u64::MAX, |pending| pending.tag);
        let end = |others: &[u64]| others.first().map_or(open, |first| open.min(*first));
        let nacks = join(&nacked, end(&acked));
        for (delivery_tag, multiple) in nacks {
            cx.answer(&BasicNack {
                delivery_tag,
                multiple,
                // It means nothing here; RabbitMQ sets it.
                requeue: true,
            });
        }
        // A single ack is never joined with nothing, a single nack is.
        let acks = match acked[..] {
            [tag] => vec![(tag, false)],
            _ => join(&acked, end(&nacked)),
        };
        for (delivery_tag, multiple) in acks {
            cx.answer(&BasicAck {
                delivery_tag,
                multiple,
            });
        }
    }
}

/// What to say for these tags: one word for all below `end`, then one for each.
fn join(tags: &[u64], end: u64) -> Vec<(u64, bool)> {
    let (below, others) = tags.split_at(tags.partition_point(|tag| *tag < end));
    let joined = below.last().map(|tag| (*tag, true));
    joined
        .into_iter()
        .chain(others.iter().map(|tag| (*tag, false)))
        .collect()
}
