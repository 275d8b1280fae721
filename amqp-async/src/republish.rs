//! Publishes that are kept until they are confirmed, and published again on the next life of their channel.

use std::hash::{BuildHasher, RandomState};
use std::task::Waker;

use amqp_proto::wire::{BasicPublish, Properties};
use amqp_proto::{ChannelCloseReason, ConfirmOutcome, ConfirmTag, ConfirmTags, OnLoss, Outbox, SendError};
use bytes::Bytes;

use crate::channels::Entry;
use crate::shared::State;

/// What keeps the publishes of a channel, if they are to be kept.
pub(crate) fn outbox(on_loss: &OnLoss) -> Option<Box<Outbox>> {
    match on_loss {
        OnLoss::Republish(republish) => Some(Box::new(Outbox::new(republish.clone(), &prefix()))),
        _ => None,
    }
}

/// What no other outbox has, of whatever process.
fn prefix() -> String {
    // Its keys come from the system's random numbers.
    let random = RandomState::new();
    format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1))
}

impl Entry {
    /// The broker told of these, of this life, which are kept.
    #[cold]
    pub(crate) fn settle_kept(
        &mut self,
        tags: ConfirmTags,
        outcome: &ConfirmOutcome,
        wakes: &mut Vec<Waker>,
    ) {
        // What becomes of those is known when the channel has ended for good.
        if matches!(outcome, ConfirmOutcome::Lost(_)) {
            return;
        }
        let mut settled = Vec::new();
        if let Some(outbox) = &mut self.outbox {
            outbox.settled(tags, |first, last| settled.push((first, last)));
        }
        self.settle_all(settled, outcome, wakes);
    }

    /// This life has ended.
    pub(crate) fn interrupt_kept(&mut self, reason: &ChannelCloseReason, wakes: &mut Vec<Waker>) {
        let refused = self.outbox.as_mut().and_then(|outbox| outbox.interrupt(reason));
        if let Some(number) = refused {
            self.settle_all(
                vec![(number, number)],
                &ConfirmOutcome::Lost(reason.clone()),
                wakes,
            );
        }
    }

    /// Nothing is published again.
    pub(crate) fn lose_kept(&mut self, reason: &ChannelCloseReason, wakes: &mut Vec<Waker>) {
        let mut lost = Vec::new();
        if let Some(outbox) = &mut self.outbox {
            outbox.end(|first, last| lost.push((first, last)));
        }
        self.settle_all(lost, &ConfirmOutcome::Lost(reason.clone()), wakes);
    }

    fn settle_all(&mut self, numbers: Vec<(u64, u64)>, outcome: &ConfirmOutcome, wakes: &mut Vec<Waker>) {
        for (first, last) in numbers {
            let tags = ConfirmTags::new(self.first_id(), first, last);
            self.settle(tags, outcome, wakes);
        }
    }

    /// How many publishes wait to be published again.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.unsent())
    }

    fn is_behind(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.is_behind())
    }
}

impl State {
    /// Publishes what is kept until it is confirmed.
    #[cold]
    pub(crate) fn publish_kept(
        &mut self,
        place: usize,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: &Bytes,
    ) -> Result<Option<ConfirmTag>, SendError> {
        let outbox = self.channels.get_mut(place).and_then(|entry| entry.outbox.take());
        let mut outbox = outbox.ok_or(SendError::Stale)?;
        let core = self.core(place);
        let result = core.and_then(|mut core| outbox.publish(&mut core, method, properties, body));
        if let Some(entry) = self.channels.get_mut(place) {
            entry.outbox = Some(outbox);
        }
        result
    }

    /// Publishes again what was kept, as far as there is room for it.
    pub(crate) fn republish(&mut self) {
        if !self.has_to_republish || self.is_lost() || self.connection.blocked().is_some() {
            return;
        }
        self.has_to_republish = false;
        for place in self.channels.places() {
            self.republish_on(place);
        }
    }

    fn republish_on(&mut self, place: usize) {
        let Some(entry) = self
            .channels
            .unclosed_mut(place)
            .filter(|entry| entry.is_behind())
        else {
            return;
        };
        self.has_to_republish = true;
        let id = entry.id();
        let Some(outbox) = entry.outbox.as_mut().filter(|_| entry.restore.is_empty()) else {
            return;
        };
        let unsent = outbox.unsent();
        let Ok(mut core) = self.connection.channel(id) else {
            return;
        };
        let result = outbox.republish(&mut core);
        let is_open = core.is_open();
        let again = unsent.saturating_sub(outbox.unsent());
        self.notes.measured.republished(again);
        let wakes = &mut self.wakes;
        match result {
            Ok(()) => {}
            Err(
                SendError::Full { .. } | SendError::InFlight | SendError::FlowStopped | SendError::Committing,
            ) => {}
            // It cannot be published again, such as on a channel without confirms because a filter has left them out.
            Err(_) if is_open => {
                let reason = entry
                    .last_end
                    .as_deref()
                    .cloned()
                    .unwrap_or(ChannelCloseReason::Requested);
                entry.lose_kept(&reason, wakes);
                self.settled.drain_into(wakes);
            }
            // It is closing: what becomes of it follows.
            Err(_) => {}
        }
        if !entry.is_behind() {
            entry.room.drain_into(wakes);
        }
    }
}
