//! The class tx: publishes and acknowledgements that are done together.

use amqp_proto::wire::*;

use super::channel::{Channel, Unsettled};
use super::context::Context;
use super::publish::Outgoing;
use super::settle::{Deliveries, Outcome};
use crate::refusal::Refusal;

/// What is to be done at `tx.commit`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    publishes: Vec<Outgoing>,
    /// With the delivery's tag.
    pub(super) settlements: Vec<(Outcome, u64, Unsettled)>,
}

impl Transaction {
    /// Keeps a publish for the commit.
    pub(super) fn keep(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Refusal> {
        outgoing.check_memory(cx)?;
        cx.common.held = cx.common.held.saturating_add(outgoing.size());
        self.publishes.push(outgoing);
        Ok(())
    }

    /// Forgets the publishes, and gives back the deliveries.
    pub(super) fn discard(mut self, cx: &mut Context<'_>) -> Deliveries {
        self.take_publishes(cx);
        self.settlements
            .into_iter()
            .map(|(_, tag, delivery)| (tag, delivery))
            .collect()
    }

    /// They do not count as held any more.
    fn take_publishes(&mut self, cx: &mut Context<'_>) -> Vec<Outgoing> {
        let publishes = std::mem::take(&mut self.publishes);
        let octets = publishes.iter().map(Outgoing::size).sum();
        cx.common.held = cx.common.held.saturating_sub(octets);
        publishes
    }
}

impl Channel {
    pub(super) fn tx_select(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        if self.confirms.is_some() {
            let text = "cannot switch from confirm to tx mode";
            return Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text));
        }
        self.transaction.get_or_insert_default();
        cx.answer(&TxSelectOk {});
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        for outgoing in transaction.take_publishes(cx) {
            outgoing.commit(cx)?;
        }
        let transaction = self.transaction.get_or_insert_default();
        for (outcome, _, delivery) in std::mem::take(&mut transaction.settlements) {
            self.apply(cx, outcome, [delivery]);
        }
        cx.answer(&TxCommitOk {});
        Ok(())
    }

    pub(super) fn tx_rollback(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        let deliveries = std::mem::take(transaction).discard(cx);
        self.unsettled.extend(deliveries);
        cx.answer(&TxRollbackOk {});
        Ok(())
    }
}

fn not_transactional() -> Refusal {
    Refusal::channel(ReplyCode::PRECONDITION_FAILED, "channel is not transactional")
}
