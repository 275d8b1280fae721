//! Publishes that are kept until they are confirmed, and published again on the next life of their channel.

use std::hash::{BuildHasher, RandomState};

use amqp_proto::wire::{BasicPublish, Properties};
use amqp_proto::{
    Channel, ChannelCloseReason, ChannelId, ConfirmOutcome, ConfirmTag, ConfirmTags, OnLoss, Outbox, Payload,
    Republish, Returned, SendError,
};
use bytes::Bytes;

use super::channel::{ChannelRef, ChannelView};
use super::connection::{ConnectionId, Entry};
use super::context::Ctx;
use super::recovering::Recovering;

/// What a channel keeps. Its publishes are known by the channel's first name and by their numbers in all of its lives.
#[derive(Debug)]
pub(super) struct Kept {
    outbox: Outbox,
    channel: ChannelId,
    /// Why its last life has ended.
    interrupted: ChannelCloseReason,
}

impl Kept {
    fn new(republish: &Republish, channel: ChannelId) -> Self {
        // What no other outbox has, of whatever process: the keys come from the system's random numbers.
        let random = RandomState::new();
        let prefix = format!("{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
        Self {
            outbox: Outbox::new(republish.clone(), &prefix),
            channel,
            interrupted: ChannelCloseReason::Requested,
        }
    }

    fn publish(
        &mut self,
        core: &mut Channel<'_>,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: Payload<'_>,
    ) -> Result<Option<ConfirmTag>, SendError> {
        let body = match body {
            Payload::Borrowed(octets) => Bytes::copy_from_slice(octets),
            Payload::Shared(octets) => octets,
        };
        let tag = self.outbox.publish(core, method, properties, &body)?;
        Ok(tag.and_then(|tag| self.tag(tag)))
    }

    /// What a tag of this life is called in all of them.
    fn tag(&self, tag: ConfirmTag) -> Option<ConfirmTag> {
        let number = self.outbox.number(tag.value())?;
        Some(ConfirmTag::new(self.channel, number))
    }

    /// The broker told of these, of this life.
    fn settled(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome) -> Vec<ConfirmTags> {
        let mut settled = Vec::new();
        // What becomes of those is known when the channel has ended for good.
        if !matches!(outcome, ConfirmOutcome::Lost(_)) {
            let channel = self.channel;
            self.outbox.settled(tags, |first, last| {
                settled.push(ConfirmTags::new(channel, first, last));
            });
        }
        settled
    }

    /// This life has ended, and another one follows. Gives what it has ended for, if that is known.
    fn interrupt(&mut self, reason: &ChannelCloseReason) -> Option<ConfirmTags> {
        self.interrupted = reason.clone();
        let refused = self.outbox.interrupt(reason)?;
        Some(ConfirmTags::new(self.channel, refused, refused))
    }

    /// Nothing is published again.
    fn end(&mut self) -> Vec<ConfirmTags> {
        let (channel, mut lost) = (self.channel, Vec::new());
        self.outbox
            .end(|first, last| lost.push(ConfirmTags::new(channel, first, last)));
        lost
    }

    /// Publishes again as far as there is room for it. Gives what cannot be published again, such as on a channel without confirms
    /// because a filter has left them out.
    fn republish(&mut self, core: &mut Channel<'_>) -> Vec<ConfirmTags> {
        match self.outbox.republish(core) {
            Ok(())
            | Err(
                SendError::Full { .. } | SendError::InFlight | SendError::FlowStopped | SendError::Committing,
            ) => Vec::new(),
            Err(_) if core.is_open() => self.end(),
            // What becomes of it follows.
            Err(_) => Vec::new(),
        }
    }
}

impl Recovering {
    /// What keeps the publishes of that channel, if they are to be kept.
    pub(super) fn keep(&mut self, channel: ChannelId, on_loss: &OnLoss) -> Option<Box<Kept>> {
        let OnLoss::Republish(republish) = on_loss else {
            return None;
        };
        self.is_keeping = true;
        Some(Box::new(Kept::new(republish, channel)))
    }
}

impl<S> ChannelView<'_, S> {
    #[cold]
    pub(super) fn publish_kept(
        &mut self,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: Payload<'_>,
    ) -> Result<Option<ConfirmTag>, SendError> {
        let now = self.now.ok_or(SendError::NotConnected)?;
        let callbacks = self.entry.channels.get_mut(&self.channel.id());
        let kept = callbacks.and_then(|callbacks| callbacks.kept.as_deref_mut());
        let mut core = self.entry.connection.channel(now)?;
        kept.ok_or(SendError::Stale)?
            .publish(&mut core, method, properties, body)
    }
}

impl<S> Ctx<'_, S> {
    fn with_kept<T>(&mut self, channel: ChannelRef, use_it: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        self.with_channel(channel, |callbacks| callbacks.kept.as_deref_mut().map(use_it))
            .flatten()
    }

    /// The broker told of these, on a connection with channels that keep their publishes.
    #[cold]
    pub(super) fn on_kept_confirmed(
        &mut self,
        channel: ChannelRef,
        tags: ConfirmTags,
        outcome: &ConfirmOutcome,
    ) {
        let settled = self.with_kept(channel, |kept| kept.settled(tags, outcome));
        for tags in settled.unwrap_or_else(|| vec![tags]) {
            self.on_confirmed(channel, tags, outcome);
        }
    }

    /// A message has come back there.
    #[cold]
    pub(super) fn on_kept_returned(&mut self, channel: ChannelRef, mut returned: Returned) {
        let tag = returned.tag;
        let known = self.with_kept(channel, |kept| tag.and_then(|tag| kept.tag(tag)));
        returned.tag = known.unwrap_or(tag);
        self.on_returned(channel, &returned);
    }

    /// This life of a channel has ended, and another one follows.
    pub(super) fn interrupt_kept(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        let refused = self.with_kept(channel, |kept| kept.interrupt(reason));
        if let Some(Some(tags)) = refused {
            self.on_confirmed(channel, tags, &ConfirmOutcome::Lost(reason.clone()));
        }
    }

    /// A channel has ended for good.
    pub(super) fn lose_kept(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        let lost = self.with_kept(channel, Kept::end);
        for tags in lost.unwrap_or_default() {
            self.on_confirmed(channel, tags, &ConfirmOutcome::Lost(reason.clone()));
        }
    }

    /// Publishes again what was kept, as far as there is room for it.
    pub(super) fn republish(&mut self, id: ConnectionId) {
        let Some(Entry {
            connection,
            recovering: Some(recovering),
            channels,
            ..
        }) = self.inner.connections.get_mut(&id)
        else {
            return;
        };
        let is_blocked = || {
            connection
                .core()
                .is_none_or(|core| core.blocked().is_some() || core.close_reason().is_some())
        };
        if !recovering.has_to_republish || recovering.is_lost() || is_blocked() {
            return;
        }
        recovering.has_to_republish = false;
        let mut lost = Vec::new();
        for (name, callbacks) in channels {
            let kept = callbacks.kept.as_deref_mut();
            let (Some(kept), Some(now)) = (kept.filter(|kept| kept.outbox.is_behind()), callbacks.now) else {
                continue;
            };
            if let Ok(mut core) = connection.channel(now) {
                for tags in kept.republish(&mut core) {
                    lost.push((*name, tags, kept.interrupted.clone()));
                }
            }
            recovering.has_to_republish |= kept.outbox.is_behind();
        }
        for (name, tags, reason) in lost {
            self.on_confirmed(ChannelRef::new(id, name), tags, &ConfirmOutcome::Lost(reason));
        }
    }
}
