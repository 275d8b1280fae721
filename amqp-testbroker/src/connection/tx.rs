//! The class tx: publishes and acknowledgements that are done together.

use amqp_proto::Message;
use amqp_proto::wire::*;

use super::channel::Channel;
use super::context::Context;
use super::settle::{Deliveries, Outcome};
use crate::refusal::Refusal;

/// What is to be done at `tx.commit`.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// With whether they are mandatory.
    publishes: Vec<(Message, bool)>,
    pub(super) settlements: Vec<(Outcome, Deliveries)>,
}

impl Transaction {
    /// Forgets the publishes, and gives back the deliveries.
    pub(super) fn discard(self, cx: &mut Context<'_>) -> Deliveries {
        cx.common.held = cx.common.held.saturating_sub(octets_of(&self.publishes));
        self.settlements
            .into_iter()
            .flat_map(|(_, deliveries)| deliveries)
            .collect()
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

    /// Keeps a publish for the commit. Whether its exchange is there is looked at now.
    pub(super) fn publish_later(
        &mut self,
        cx: &mut Context<'_>,
        message: Message,
        mandatory: bool,
    ) -> Result<(), Refusal> {
        cx.find_exchange(message.exchange())?;
        let octets = message.body_len() as u64;
        if !cx.common.has_memory_for(octets) {
            return Err(cx.common.out_of_memory());
        }
        if let Some(transaction) = &mut self.transaction {
            cx.common.held = cx.common.held.saturating_add(octets);
            transaction.publishes.push((message, mandatory));
        }
        Ok(())
    }

    pub(super) fn tx_commit(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let transaction = self.transaction.as_mut().ok_or_else(not_transactional)?;
        let publishes = std::mem::take(&mut transaction.publishes);
        // All at once: if one of them is refused, the rest is not done.
        cx.common.held = cx.common.held.saturating_sub(octets_of(&publishes));
        for (message, mandatory) in publishes {
            self.route(cx, &message, mandatory)?;
        }
        let transaction = self.transaction.get_or_insert_default();
        for (outcome, deliveries) in std::mem::take(&mut transaction.settlements) {
            self.apply(cx, outcome, deliveries);
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

fn octets_of(publishes: &[(Message, bool)]) -> u64 {
    publishes
        .iter()
        .map(|(message, _)| message.body_len() as u64)
        .sum()
}

fn not_transactional() -> Refusal {
    Refusal::channel(ReplyCode::PRECONDITION_FAILED, "channel is not transactional")
}
