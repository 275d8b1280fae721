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

    /// Says what is due.
    pub(super) fn flush_confirms(&mut self, cx: &mut Context<'_>) {
        let Some(confirms) = &mut self.confirms else {
            return;
        };
        let now = cx.now;
        let count = confirms
            .pending
            .iter()
            .take_while(|pending| pending.due <= now)
            .count();
        let due: Vec<Pending> = confirms.pending.drain(..count).collect();
        if cx.common.faults.reverses_confirms {
            for pending in due.into_iter().rev() {
                cx.say_confirm(pending.is_rejected, pending.tag, false);
            }
            return;
        }
        let open = confirms.pending.front().map_or(u64::MAX, |pending| pending.tag);
        cx.say_confirms(&due, open);
    }
}

impl Context<'_> {
    /// In RabbitMQ's way: what can be joined with `multiple` first, the rest one by one. Nothing from `open` on is decided.
    fn say_confirms(&mut self, due: &[Pending], open: u64) {
        let tags = |is_rejected| {
            let alike = due
                .iter()
                .filter(move |pending| pending.is_rejected == is_rejected);
            alike.map(|pending| pending.tag).collect::<Vec<_>>()
        };
        let (acked, nacked) = (tags(false), tags(true));
        let end = |others: &[u64]| others.first().map_or(open, |first| open.min(*first));
        for (tag, multiple) in join(&nacked, end(&acked)) {
            self.say_confirm(true, tag, multiple);
        }
        // A single ack is never joined with nothing, a single nack is.
        let acks = match acked[..] {
            [tag] => vec![(tag, false)],
            _ => join(&acked, end(&nacked)),
        };
        for (tag, multiple) in acks {
            self.say_confirm(false, tag, multiple);
        }
    }

    fn say_confirm(&mut self, is_rejected: bool, delivery_tag: u64, multiple: bool) {
        if is_rejected {
            self.answer(&BasicNack {
                delivery_tag,
                multiple,
                // It means nothing here; RabbitMQ sets it.
                requeue: true,
            });
        } else {
            self.answer(&BasicAck {
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
