//! A channel that the broker has closed is opened again, if that was asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use amqp_proto::wire::{BasicQos, ConfirmSelect, ReplyCode};
use amqp_proto::{ChannelCloseReason, ChannelId, SendError};

use crate::channels::Entry;
use crate::events::ConnectionEvent;
use crate::shared::State;

/// When a channel is opened again that the broker has closed, mostly because it refused something (404, 406 and so on). The connection
/// and its other channels go on in any case.
///
/// What begins again has the options, confirms and [`Qos`](crate::Qos) of before. What belonged to the channel's life before has ended,
/// with the broker's reason: calls that waited, publishes that were not confirmed ([`PublishError::Lost`](crate::PublishError::Lost), unless
/// they are [published again](crate::ChannelOptions::republish)), consumers, and deliveries, which go back to their queues; to settle one
/// of them later is an error and does nothing. A channel is not opened again while it is being opened, and not at all once it was used
/// for transactions: half of one would be lost in silence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reopen {
    /// It stays closed, and every call on it says why: the default, as with aio-pika's and other clients' plain channels. A program
    /// that does not know that its channel has begun again would go on without its consumers.
    #[default]
    Never,
    /// Whatever the reason is.
    Always,
    /// For these reply codes.
    Codes(Arc<[ReplyCode]>),
}

impl Reopen {
    /// For these reply codes.
    pub fn on(codes: impl IntoIterator<Item = ReplyCode>) -> Self {
        Self::Codes(codes.into_iter().collect())
    }

    fn is_for(&self, code: ReplyCode) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Codes(codes) => codes.contains(&code),
        }
    }
}

/// What has to be sent before a channel is as it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Restore {
    Open,
    Confirms,
    Qos(BasicQos),
}

impl Entry {
    fn is_reopened_after(&self, reason: &ChannelCloseReason) -> bool {
        let is_in_use = self.is_open && !self.is_closing && !self.is_orphaned && !self.is_transactional;
        let ChannelCloseReason::Peer(peer) = reason else {
            return false;
        };
        is_in_use && self.options.reopen.is_for(peer.code)
    }

    /// What has to be sent to have it again.
    fn steps(&self) -> VecDeque<Restore> {
        let confirms = self.options.confirms.then_some(Restore::Confirms);
        let qos = self.qos.into_iter().flatten().map(Restore::Qos);
        [Restore::Open].into_iter().chain(confirms).chain(qos).collect()
    }
}

impl State {
    /// A channel ended, for good or to begin again.
    pub(crate) fn on_channel_closed(&mut self, channel: ChannelId, reason: &ChannelCloseReason) {
        self.note_at_rest(channel);
        let place = self.channels.place_of(channel).unwrap_or(usize::MAX);
        let unsent = self.channels.get(place).map_or(0, Entry::unsent);
        let is_open = !self.is_closing && self.closed.is_none();
        let outlives = self.channel_outlives(channel, reason);
        let wakes = &mut self.wakes;
        if let Some(entry) = self.channels.find_mut(channel) {
            if outlives {
                entry.interrupt(reason, wakes);
            } else if is_open && entry.is_reopened_after(reason) {
                entry.end_life(reason, wakes);
                entry.restore = entry.steps();
                self.has_to_restore = true;
                self.has_to_republish = true;
                self.restore();
            } else {
                entry.close(reason, wakes);
                self.note_channel(place, false);
            }
        }
        self.note_unsent(place, unsent);
        self.channels.remove_if_over(channel);
        // A command that is refused from now on must be tried again to learn it.
        self.writable.drain_into(&mut self.wakes);
        self.answered.drain_into(&mut self.wakes);
        self.settled.drain_into(&mut self.wakes);
        self.unblocked.drain_into(&mut self.wakes);
    }

    /// The broker confirmed a channel.
    pub(crate) fn on_channel_opened(&mut self, channel: ChannelId) {
        let Some(place) = self.channels.place_of(channel) else {
            return;
        };
        self.note_channel(place, true);
        let is_lost = self.is_lost();
        let wakes = &mut self.wakes;
        let Some(entry) = self.channels.get_mut(place) else {
            return;
        };
        entry.is_open = true;
        entry.changed.drain_into(wakes);
        if let Some(reason) = entry.last_end.clone().filter(|_| !is_lost) {
            let number = channel.number();
            self.watchers
                .tell(&ConnectionEvent::ChannelReopened { number, reason }, wakes);
        }
    }

    /// Sends what channels need to be as they were, as far as there is room for it.
    pub(crate) fn restore(&mut self) {
        if !std::mem::take(&mut self.has_to_restore) {
            return;
        }
        let mut has_worked = false;
        for place in self.channels.places() {
            while let Some(step) = self.next_step(place) {
                match self.try_to_restore(place, step) {
                    Ok(()) => {
                        let entry = self.channels.get_mut(place);
                        entry.map(|entry| entry.restore.pop_front());
                    }
                    Err(SendError::Full { .. } | SendError::TooManyRequests) => {
                        self.has_to_restore = true;
                        break;
                    }
                    Err(_) => self.give_up(place),
                }
                has_worked = true;
            }
        }
        if has_worked {
            // Who waits for room may have waited for this.
            self.writable.drain_into(&mut self.wakes);
        }
    }

    fn next_step(&self, place: usize) -> Option<Restore> {
        self.channels.get(place)?.restore.front().copied()
    }

    fn try_to_restore(&mut self, place: usize, step: Restore) -> Result<(), SendError> {
        let Some(entry) = self.channels.get(place) else {
            return Ok(());
        };
        let (id, options) = (entry.id(), &entry.options);
        let request = match step {
            Restore::Open => {
                let id = match options.number {
                    Some(number) => self.connection.open_channel_with_number(number)?,
                    None => self.connection.open_channel()?,
                };
                options.apply(&mut self.connection.channel(id)?)?;
                self.channels.renumber(place, id);
                return Ok(());
            }
            Restore::Confirms => self
                .connection
                .channel(id)?
                .request(&ConfirmSelect::default())?
                .untyped(),
            Restore::Qos(qos) => self.connection.channel(id)?.request(&qos)?.untyped(),
        };
        self.connection.abandon(request);
        Ok(())
    }

    /// It cannot be opened again: it stays closed, for the reason that it was closed for.
    fn give_up(&mut self, place: usize) {
        if let Some(entry) = self.channels.get_mut(place) {
            let reason = entry.last_end.clone().unwrap_or(ChannelCloseReason::Requested);
            entry.close(&reason, &mut self.wakes);
        }
        self.settled.drain_into(&mut self.wakes);
        self.note_channel(place, false);
    }

    /// Whoever wants it closed need not wait until it is open again.
    pub(crate) fn stop_restoring(&mut self, place: usize) {
        if let Some(Restore::Open) = self.next_step(place) {
            self.give_up(place);
        } else if let Some(entry) = self.channels.get_mut(place) {
            entry.restore.clear();
        }
    }
}
