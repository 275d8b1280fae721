//! A channel that the broker has closed is opened again, if that was asked for.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::{BasicQos, ConfirmSelect, ReplyCode};
use amqp_proto::{
    Backoff, ChannelCloseReason, ChannelId, ConsumerId, Instant, PeerClose, RequestId, SendError,
};

use crate::channels::Entry;
use crate::events::ConnectionEvent;
use crate::inbox::{ConsumerEnd, Inbox};
use crate::shared::State;

/// What has lasted for so long is not what goes wrong each time.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How many delays there are without a policy for them.
const ATTEMPTS: u32 = 5;

/// When a channel is opened again that the broker has closed, mostly because it refused something (404, 406 and so on). The connection
/// and its other channels go on in any case.
///
/// What begins again has the options, confirms and [`Qos`](crate::Qos) of before. What belonged to the channel's life before has ended,
/// with the broker's reason: calls that waited, publishes that were not confirmed ([`PublishError::Lost`](crate::PublishError::Lost),
/// unless they are [published again](crate::ChannelOptions::republish)), and deliveries, which go back to their queues; to settle one of
/// them later is an error and does nothing. Its consumers have ended too, unless they are [to go on](Self::with_consumers). A channel is not
/// opened again while it is being opened, and not at all once it was used for transactions: half of one would be lost in silence.
///
/// It is opened again at once, or after a [delay](Self::backoff) if the broker has closed it again within 30 s. When these are used up it
/// stays closed, with the last reason.
///
/// ```
/// use amqp_async::{ChannelOptions, Reopen};
/// let options = ChannelOptions::default().reopen(Reopen::on_ack_timeout().with_consumers());
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reopen {
    when: When,
    has_consumers: bool,
    backoff: Option<Backoff>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum When {
    #[default]
    Never,
    Always,
    Codes(Arc<[ReplyCode]>),
    AckTimeout,
}

impl Reopen {
    const fn when(when: When) -> Self {
        Self {
            when,
            has_consumers: false,
            backoff: None,
        }
    }

    /// It stays closed, and every call on it says why: the default, as with aio-pika's and other clients' plain channels. A program
    /// that does not know that its channel has begun again would go on without its consumers.
    #[must_use]
    pub const fn never() -> Self {
        Self::when(When::Never)
    }

    /// Whatever the reason is.
    #[must_use]
    pub const fn always() -> Self {
        Self::when(When::Always)
    }

    /// For these reply codes.
    pub fn on(codes: impl IntoIterator<Item = ReplyCode>) -> Self {
        Self::when(When::Codes(codes.into_iter().collect()))
    }

    /// If a delivery was not settled in time (406; RabbitMQ page "Consumers", section "Delivery Acknowledgement Timeout").
    #[must_use]
    pub const fn on_ack_timeout() -> Self {
        Self::when(When::AckTimeout)
    }

    /// Its consumers are started again, in the same handles, which [tell of it](crate::Consumer::on_interruption). What they had not
    /// handed out is dropped, since it comes again. One that is refused, since its queue is gone, ends with the broker's reason, and the
    /// others are started without it, whatever the channel is to be opened again for, and at once.
    #[must_use]
    pub const fn with_consumers(mut self) -> Self {
        self.has_consumers = true;
        self
    }

    /// What is waited for before it is opened again once more. Default: half a second, doubled each time, five times.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    pub(crate) const fn has_consumers(&self) -> bool {
        self.has_consumers
    }

    fn is_for(&self, peer: &PeerClose) -> bool {
        match &self.when {
            When::Never => false,
            When::Always => true,
            When::Codes(codes) => codes.contains(&peer.code),
            When::AckTimeout => peer.is_ack_timeout(),
        }
    }

    /// Channels that do not act in step.
    fn delays(&self) -> Backoff {
        let seeded = || Backoff::new(RandomState::new().hash_one(0)).attempts(ATTEMPTS);
        self.backoff.clone().unwrap_or_else(seeded)
    }
}

/// How often and when a channel was opened again.
#[derive(Debug)]
pub(crate) struct Reopening {
    delays: Backoff,
    /// Not before.
    at: Instant,
    /// A consumer was refused that was to begin with it: the broker closes it for that.
    has_refused: bool,
}

/// A consumer that is being started again.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) request: RequestId,
    pub(crate) handle: ConsumerId,
    /// With its channel, not alone.
    pub(crate) is_with_channel: bool,
}

/// What has to be sent before a channel is as it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Restore {
    Open,
    Confirms,
    Qos(BasicQos),
    Consumer(ConsumerId),
}

impl Entry {
    /// Whether it is opened again, if it was open.
    fn is_reopened_after(&self, reason: &ChannelCloseReason) -> bool {
        let is_in_use = !self.is_closing && !self.is_orphaned && !self.is_transactional;
        let ChannelCloseReason::Peer(peer) = reason else {
            return false;
        };
        let has_refused = self.reopening.as_ref().is_some_and(|it| it.has_refused);
        is_in_use && (has_refused || self.options.reopen.is_for(peer))
    }

    /// Settles when it is opened again; says whether it is.
    fn schedule_reopening(&mut self, now: Instant) -> bool {
        let Some(reopening) = &mut self.reopening else {
            let delays = self.options.reopen.delays();
            self.reopening = Some(Box::new(Reopening {
                delays,
                at: now,
                has_refused: false,
            }));
            return true;
        };
        // That one is left out, so it is not what goes wrong each time.
        if std::mem::take(&mut reopening.has_refused) {
            return true;
        }
        if now.duration_since(reopening.at) >= STABLE_AFTER {
            reopening.delays.reset();
            reopening.at = now;
            return true;
        }
        let delay = reopening.delays.next_delay();
        reopening.at = now + delay.unwrap_or_default();
        delay.is_some()
    }

    /// The broker closes it because it refuses that one.
    pub(crate) fn note_refused(&mut self, starting: &Starting) {
        if let Some(reopening) = self.reopening.as_mut().filter(|_| starting.is_with_channel) {
            reopening.has_refused = true;
        }
    }

    /// Whether that one is started again when the channel is.
    fn takes_along(&self, inbox: &Inbox) -> bool {
        self.options.reopen.has_consumers() && inbox.record.is_some() && inbox.is_running()
    }

    /// What has to be sent to have it again.
    fn steps(&self) -> VecDeque<Restore> {
        let [each, all] = self.qos;
        let confirms = self.has_confirms.then_some(Restore::Confirms);
        let first = [Some(Restore::Open), confirms, all.map(Restore::Qos)];
        let mut steps: VecDeque<_> = first.into_iter().flatten().collect();
        // Each consumer has the limit that it was started under.
        let mut limit = None;
        let mut set_limit = |steps: &mut VecDeque<_>, wanted: Option<BasicQos>| {
            if wanted != limit {
                steps.push_back(Restore::Qos(wanted.unwrap_or_default()));
                limit = wanted;
            }
        };
        for inbox in self.consumers.iter().filter(|inbox| self.takes_along(inbox)) {
            set_limit(&mut steps, inbox.record.as_ref().and_then(|record| record.qos()));
            steps.push_back(Restore::Consumer(inbox.handle));
        }
        set_limit(&mut steps, each);
        steps
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
        let now = self.alarms.now();
        if let Some(entry) = self.channels.get_mut(place) {
            let was_open = entry.is_open;
            if outlives {
                entry.interrupt(reason, &mut self.wakes);
            } else if !(is_open && was_open && self.reopen(place, reason, now)) {
                self.end_channel(place, reason);
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

    /// It is not opened again.
    pub(crate) fn end_channel(&mut self, place: usize, reason: &ChannelCloseReason) {
        if let Some(entry) = self.channels.get_mut(place) {
            entry.close(reason, &mut self.wakes);
        }
        self.note_channel(place, false);
    }

    /// A channel that was open has ended: has it opened again, if that was asked for. Says whether it was.
    pub(crate) fn reopen(&mut self, place: usize, reason: &ChannelCloseReason, now: Instant) -> bool {
        let wakes = &mut self.wakes;
        let Some(entry) = self.channels.get_mut(place) else {
            return false;
        };
        if !entry.is_reopened_after(reason) || !entry.schedule_reopening(now) {
            return false;
        }
        let steps = entry.steps();
        let mut left_out = Vec::new();
        for number in 0..entry.consumers.len() {
            let takes_along = entry
                .consumers
                .get(number)
                .is_some_and(|inbox| entry.takes_along(inbox));
            if let Some(inbox) = entry.consumers.get_mut(number).filter(|_| !takes_along) {
                inbox.stop(ConsumerEnd::Channel(reason.clone()), wakes);
                left_out.push(inbox.tag.clone());
            }
        }
        entry.interrupt(reason, wakes);
        entry.restore = steps;
        self.has_to_restore = true;
        self.has_to_republish = true;
        for tag in left_out {
            self.forget_consumer(place, &tag);
        }
        true
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
        if let Some(reason) = entry.last_end.as_deref().cloned().filter(|_| !is_lost) {
            let number = channel.number();
            self.watchers
                .tell(&ConnectionEvent::ChannelReopened { number, reason }, wakes);
        }
    }

    /// Sends what channels need to be as they were, as far as there is room for it and it is time. Gives when to look again.
    pub(crate) fn restore(&mut self, now: Instant) -> Option<Instant> {
        let is_time = self.restore_at.is_some_and(|at| at <= now);
        if !std::mem::take(&mut self.has_to_restore) && !is_time {
            return self.restore_at;
        }
        self.restore_at = None;
        let mut has_worked = false;
        for place in self.channels.places() {
            if let Some(at) = self.reopens_at(place).filter(|at| *at > now) {
                self.restore_at = Some(self.restore_at.map_or(at, |other| other.min(at)));
                continue;
            }
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
                    // That it ended, or the connection, is told by an event that is to come.
                    Err(SendError::Stale | SendError::Closed | SendError::NotConnected) => break,
                    Err(_) => self.give_up(place),
                }
                has_worked = true;
            }
        }
        if has_worked {
            // Who waits for room may have waited for this.
            self.writable.drain_into(&mut self.wakes);
        }
        self.restore_at
    }

    /// When that channel is to be opened again, if that is what it waits for.
    fn reopens_at(&self, place: usize) -> Option<Instant> {
        let entry = self.channels.get(place)?;
        let reopening = entry.reopening.as_ref()?;
        matches!(entry.restore.front(), Some(Restore::Open)).then_some(reopening.at)
    }

    fn next_step(&self, place: usize) -> Option<Restore> {
        self.channels.get(place)?.restore.front().copied()
    }

    fn try_to_restore(&mut self, place: usize, step: Restore) -> Result<(), SendError> {
        let Some(entry) = self.channels.get(place) else {
            return Ok(());
        };
        let (id, options) = (entry.id(), &entry.options);
        let request: RequestId = match step {
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
            Restore::Consumer(handle) => return self.restore_consumer(place, handle),
        };
        self.connection.abandon(request);
        Ok(())
    }

    /// One that was given up meanwhile, or cannot be asked for, does not keep the channel closed.
    fn restore_consumer(&mut self, place: usize, handle: ConsumerId) -> Result<(), SendError> {
        let Some(entry) = self.channels.get_mut(place) else {
            return Ok(());
        };
        let inbox = entry.inbox_of(handle).filter(|inbox| !inbox.has_ended());
        let Some(mut record) = inbox.and_then(|inbox| inbox.record.as_deref().cloned()) else {
            return Ok(());
        };
        self.follow_queue(&mut record);
        match self.start_again(place, handle, &record) {
            Err(error @ (SendError::Full { .. } | SendError::TooManyRequests | SendError::Stale)) => {
                Err(error)
            }
            Err(_) => {
                let entry = self.channels.get_mut(place);
                if let Some(inbox) = entry.and_then(|entry| entry.inbox_of(handle)) {
                    inbox.stop(ConsumerEnd::NotRestored, &mut self.wakes);
                }
                Ok(())
            }
            Ok(()) => {
                let entry = self.channels.get_mut(place);
                if let Some(starting) = entry.and_then(|entry| entry.starting.back_mut()) {
                    starting.is_with_channel = true;
                }
                Ok(())
            }
        }
    }

    /// It cannot be opened again: it stays closed, for the reason that it was closed for.
    fn give_up(&mut self, place: usize) {
        let entry = self.channels.get(place);
        let reason = entry.and_then(|entry| entry.last_end.as_deref().cloned());
        self.end_channel(place, &reason.unwrap_or(ChannelCloseReason::Requested));
        self.settled.drain_into(&mut self.wakes);
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
