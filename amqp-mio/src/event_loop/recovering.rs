//! A connection that goes on when it was lost: what the loss does, and what puts it right.
//!
//! ```text
//! open ──▶ lost ──▶ delay, next host ──▶ handshake ──▶ plan carried out ──▶ recovered
//!           ▲                                │                │
//!           └────────────────────────────────┴────────────────┴──▶ given up: closed
//! ```
//!
//! Channels and consumers keep their first names; here is what the core calls them now.

use std::collections::{HashMap, HashSet};

use amqp_proto::topology::{
    ChannelKey, Culprits, Name, Outcome, Recorder, RecoveryReport, Restorer, Sent, Step, StepFilter,
    StepKind, Unrestored,
};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, ChannelId, CloseReason, ConsumerId, Event, RequestId};

use super::channel::{ChannelCallbacks, ChannelRef};
use super::connection::{ConnectionId, Entry};
use super::context::Ctx;

/// What is known beside the callbacks, for the next life of a connection.
#[derive(Debug)]
pub(super) struct Recovering {
    pub(super) recorder: Recorder,
    filter: Option<StepFilter>,
    /// It was open once: before, a failure is the program's to handle.
    was_open: bool,
    /// Why it is not there, or not as it was.
    lost: Option<CloseReason>,
    restorer: Option<Restorer>,
    /// Of the lives that have ended before everything was there again.
    culprits: Culprits,
    /// The first name of each channel of this life that has another one.
    channels: HashMap<ChannelId, ChannelId>,
    consumers: HashMap<ConsumerId, ConsumerId>,
    /// Why the broker closed channels, by their first names, while it was not as it was.
    closed: HashMap<ChannelId, ChannelCloseReason>,
    /// Some channel keeps its publishes.
    pub(super) is_keeping: bool,
    /// There may be some to be published again.
    pub(super) has_to_republish: bool,
    /// Of the queues, as the program knows them, when it was lost.
    queues: Vec<Name>,
}

/// The key of a channel is its first name.
pub(super) fn key(channel: ChannelId) -> ChannelKey {
    ChannelKey::new(u64::from(channel.incarnation()) << 16 | u64::from(channel.number()))
}

/// The channel that a key stands for.
fn channel(key: ChannelKey) -> Option<ChannelId> {
    let number = u16::try_from(key.number() & 0xffff).ok()?;
    let incarnation = u32::try_from(key.number() >> 16).ok()?;
    Some(ChannelId::new(number, incarnation))
}

impl Recovering {
    pub(super) fn new(filter: Option<StepFilter>) -> Box<Self> {
        Box::new(Self {
            recorder: Recorder::default(),
            filter,
            was_open: false,
            lost: None,
            restorer: None,
            culprits: Culprits::default(),
            channels: HashMap::new(),
            consumers: HashMap::new(),
            closed: HashMap::new(),
            is_keeping: false,
            has_to_republish: false,
            queues: Vec::new(),
        })
    }

    pub(super) const fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    pub(super) const fn was_open(&self) -> bool {
        self.was_open
    }

    /// What that channel was called first.
    fn name(&self, channel: ChannelId) -> ChannelId {
        self.channels.get(&channel).copied().unwrap_or(channel)
    }

    fn consumer(&self, consumer: ConsumerId) -> ConsumerId {
        self.consumers.get(&consumer).copied().unwrap_or(consumer)
    }

    /// Nobody wants that consumer any more, or it has ended.
    pub(super) fn forget_consumer(&mut self, channel: ChannelId, tag: &Name) {
        let topology = self.recorder.topology_mut();
        topology.consumer_cancelled(key(channel), tag.as_short_str());
    }

    /// What an answer, or that there is none, changes in the record.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Reply(reply) => drop(self.recorder.answered(reply)),
            Event::RequestFailed { request, .. } => self.recorder.failed(*request),
            Event::ChannelOpened { channel } => {
                let channel = self.name(*channel);
                self.recorder.topology_mut().channel_opened(key(channel));
            }
            _ => {}
        }
    }

    /// Begins to be without a connection; what belonged to the last one is forgotten.
    fn lose(&mut self, reason: &CloseReason) {
        if self.lost.is_none() {
            let queues = self.recorder.topology().queues();
            self.queues = queues.map(|queue| queue.name().clone()).collect();
        }
        self.lost = Some(reason.clone());
        if let Some(restorer) = self.restorer.take() {
            self.culprits = restorer.into_culprits(reason);
        }
        self.recorder.disconnected();
        self.channels = HashMap::new();
        self.consumers = HashMap::new();
        self.closed = HashMap::new();
    }

    /// Which queues have another name since then.
    fn take_renamed(&mut self) -> Vec<(Name, Name)> {
        let topology = self.recorder.topology();
        let renamed = |old: Name| {
            let new = topology.current_queue_name(&old)?.clone();
            (new != old).then_some((old, new))
        };
        std::mem::take(&mut self.queues)
            .into_iter()
            .filter_map(renamed)
            .collect()
    }
}

impl<S> ChannelCallbacks<S> {
    /// Whether it is there again with its connection.
    fn outlives(&self) -> bool {
        self.opened.is_none() && !self.is_closing && !self.is_transactional
    }

    fn consumer_of_tag(&mut self, tag: &Name) -> Option<ConsumerId> {
        let mut consumers = self.consumers.iter();
        let (name, _) = consumers.find(|(_, consumer)| consumer.tag == *tag)?;
        Some(*name)
    }
}

impl<S> Ctx<'_, S> {
    /// An event of a connection that is made again with everything on it.
    pub(super) fn on_event_recovering(&mut self, id: ConnectionId, event: Event) {
        let Some(recovering) = self.recovering(id) else {
            return;
        };
        if let Some(restorer) = &mut recovering.restorer
            && restorer.on_event(&event, recovering.recorder.topology_mut())
        {
            return self.go_on_restoring(id);
        }
        recovering.note(&event);
        let is_keeping = recovering.is_keeping;
        let name = |channel| ChannelRef::new(id, recovering.name(channel));
        match event {
            Event::Connected if recovering.was_open => self.begin_to_restore(id),
            Event::ChannelOpened { channel } => {
                let channel = name(channel);
                self.on_opened(channel);
            }
            Event::Delivery(mut delivery) => {
                let (now, channel) = (delivery.consumer.channel(), name(delivery.consumer.channel()));
                delivery.consumer = recovering.consumer(delivery.consumer);
                if recovering.is_lost() {
                    // What was to be sent on it before its consumers has been: it can be used.
                    self.with_channel(channel, |callbacks| callbacks.now = Some(now));
                }
                self.on_delivery(channel, delivery);
            }
            Event::Returned(returned) => {
                let channel = name(returned.channel);
                match is_keeping {
                    true => self.on_kept_returned(channel, returned),
                    false => self.on_returned(channel, &returned),
                }
            }
            Event::Confirmed { tags, outcome } => {
                let channel = name(tags.channel());
                match is_keeping {
                    true => self.on_kept_confirmed(channel, tags, &outcome),
                    false => self.on_confirmed(channel, tags, &outcome),
                }
            }
            Event::StreamPosition { consumer, next } => {
                let (channel, consumer) = (name(consumer.channel()), recovering.consumer(consumer));
                self.note_position(channel, consumer, next);
            }
            Event::ConsumerCancelled { consumer } => {
                let (channel, consumer) = (name(consumer.channel()), recovering.consumer(consumer));
                self.end_consumer(channel, consumer);
            }
            Event::ChannelClosed { channel: now, reason } => {
                let channel = name(now);
                recovering.channels.remove(&now);
                self.on_channel_closed_recovering(channel, &reason);
            }
            Event::Closed(reason) => self.on_closed_recovering(id, reason),
            event => {
                recovering.was_open |= event == Event::Connected;
                // Before the program takes the room.
                self.republish(id);
                self.on_event(id, event);
            }
        }
        self.go_on_restoring(id);
        if is_keeping {
            self.republish(id);
        }
    }

    fn recovering(&mut self, id: ConnectionId) -> Option<&mut Recovering> {
        self.inner.connections.get_mut(&id)?.recovering.as_deref_mut()
    }

    /// By which that consumer is known in the record.
    fn tag(&mut self, channel: ChannelRef, consumer: ConsumerId) -> Option<Name> {
        let known = self.with_channel(channel, |callbacks| {
            callbacks.consumers.get(&consumer)?.tag.clone().into()
        });
        known.flatten()
    }

    /// Where a consumer of a stream is to go on.
    fn note_position(&mut self, channel: ChannelRef, consumer: ConsumerId, next: u64) {
        let tag = self.tag(channel, consumer);
        if let (Some(tag), Some(recovering)) = (tag, self.recovering(channel.connection())) {
            let topology = recovering.recorder.topology_mut();
            topology.set_stream_offset(key(channel.id()), tag.as_short_str(), next);
        }
    }

    /// A consumer has ended, and nobody has asked for that.
    fn end_consumer(&mut self, channel: ChannelRef, consumer: ConsumerId) {
        let tag = self.tag(channel, consumer);
        if let (Some(tag), Some(recovering)) = (tag, self.recovering(channel.connection())) {
            recovering.forget_consumer(channel.id(), &tag);
        }
        self.on_cancelled(channel, consumer);
    }

    fn on_channel_closed_recovering(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        let id = channel.connection();
        let goes_on = match reason {
            ChannelCloseReason::Connection(reason) => self.inner.outlives(id, reason),
            // Mostly the plan opens it again, if it has not closed it for that.
            _ => match self.recovering(id).filter(|recovering| recovering.is_lost()) {
                Some(recovering) => {
                    if *reason != ChannelCloseReason::Requested {
                        recovering.closed.insert(channel.id(), reason.clone());
                    }
                    true
                }
                None => false,
            },
        };
        let stays = self.with_channel(channel, |callbacks| {
            callbacks.now = None;
            goes_on && callbacks.outlives()
        });
        match stays {
            Some(true) => self.interrupt_kept(channel, reason),
            _ => self.end_channel(channel, reason),
        }
    }

    /// A channel has ended for good.
    fn end_channel(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        if let Some(recovering) = self.recovering(channel.connection()) {
            recovering
                .recorder
                .topology_mut()
                .channel_closed(key(channel.id()));
        }
        self.lose_kept(channel, reason);
        self.on_channel_closed(channel, reason);
    }

    /// It has ended, and those channels with it that were to be opened again.
    pub(super) fn close_channels(&mut self, id: ConnectionId, reason: &CloseReason) {
        if let Some(recovering) = self.recovering(id) {
            recovering.lost = None;
        }
        let channels = self.inner.connections.get(&id).map(|entry| entry.channels.keys());
        let mut channels: Vec<_> = channels.into_iter().flatten().copied().collect();
        channels.sort_unstable();
        for channel in channels {
            let reason = ChannelCloseReason::Connection(reason.clone());
            self.end_channel(ChannelRef::new(id, channel), &reason);
        }
    }

    fn on_closed_recovering(&mut self, id: ConnectionId, reason: CloseReason) {
        match self.inner.outlives(id, &reason) {
            true => self.on_lost(id, &reason),
            false => {
                self.close_channels(id, &reason);
                self.on_event(id, Event::Closed(reason));
            }
        }
    }

    fn on_lost(&mut self, id: ConnectionId, reason: &CloseReason) {
        let Some(Entry {
            recovering: Some(recovering),
            channels,
            ..
        }) = self.inner.connections.get_mut(&id)
        else {
            return;
        };
        let was_lost = recovering.is_lost();
        recovering.lose(reason);
        channels.values_mut().for_each(|callbacks| callbacks.now = None);
        if !was_lost {
            self.call_all(
                id,
                |entry| Some(&mut entry.on_lost),
                |call, ctx| call(ctx, id, reason),
            );
        }
        self.on_end(id, reason);
    }

    /// There is a connection again.
    fn begin_to_restore(&mut self, id: ConnectionId) {
        let Some(recovering) = self.recovering(id) else {
            return;
        };
        let topology = recovering.recorder.topology().clone();
        let filter = recovering.filter.clone();
        let mut plan = None;
        self.guarded(Some(id), |_| {
            plan = Some(StepFilter::plan(filter.as_ref(), &topology))
        });
        if let (Some(plan), Some(recovering)) = (plan, self.recovering(id)) {
            let culprits = std::mem::take(&mut recovering.culprits);
            recovering.restorer = Some(Restorer::new(plan).avoiding(culprits));
        }
    }

    /// Sends what the plan says, as far as there is room for it.
    fn go_on_restoring(&mut self, id: ConnectionId) {
        let Some(entry) = self.inner.connections.get_mut(&id) else {
            return;
        };
        // When it has ended, which is still to be told, every step of the plan has failed.
        if entry
            .connection
            .core()
            .is_none_or(|core| core.close_reason().is_some())
        {
            return;
        }
        let Some((recovering, mut restorer)) = entry
            .recovering
            .as_deref_mut()
            .and_then(|recovering| recovering.restorer.take().map(|restorer| (recovering, restorer)))
        else {
            return;
        };
        let mut taken = Taken {
            channels: &mut entry.channels,
            recovering,
            opened: Vec::new(),
            unwanted: Vec::new(),
        };
        let connection = &mut entry.connection;
        let result = connection.restore(&mut restorer, &mut |sent| taken.note(&sent));
        let Taken { opened, unwanted, .. } = taken;
        for (name, now) in opened {
            let Ok(mut core) = connection.channel(now) else {
                continue;
            };
            match entry.channels.get(&name) {
                // Nothing was delivered on it, so that it takes all of them.
                Some(callbacks) => drop(callbacks.options.apply(&mut core)),
                // It was closed meanwhile.
                None => drop(core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown")),
            }
        }
        for request in unwanted {
            connection.abandon(request);
        }
        // If there is no room, there is more to send when there is.
        if result.is_ok() && restorer.is_finished() {
            return self.on_restored(id, &restorer);
        }
        if let Some(recovering) = self.recovering(id) {
            recovering.restorer = Some(restorer);
        }
    }

    /// Every step is settled: all goes on, but for what was refused.
    fn on_restored(&mut self, id: ConnectionId, restorer: &Restorer) {
        let Some(entry) = self.inner.connections.get_mut(&id) else {
            return;
        };
        let mut report = RecoveryReport::new(restorer.plan());
        let ended = entry.end_unrestored(restorer, &mut report);
        let Some(recovering) = &mut entry.recovering else {
            return;
        };
        let renamed = recovering.take_renamed();
        recovering.has_to_republish = recovering.is_keeping;
        if let Some(reconnecting) = &mut entry.reconnecting {
            reconnecting.connected();
        }
        self.republish(id);
        for (old, new) in renamed {
            self.call_all(
                id,
                |entry| Some(&mut entry.on_queue_renamed),
                |call, ctx| call(ctx, id, &old, &new),
            );
        }
        for (channel, consumer) in ended.consumers {
            self.end_consumer(ChannelRef::new(id, channel), consumer);
        }
        for (channel, reason) in ended.channels {
            self.end_channel(ChannelRef::new(id, channel), &reason);
        }
        self.call_all(
            id,
            |entry| Some(&mut entry.on_recovered),
            |call, ctx| call(ctx, id, &report),
        );
    }
}

/// What was not brought back.
#[derive(Debug, Default)]
struct Ended {
    consumers: Vec<(ChannelId, ConsumerId)>,
    channels: Vec<(ChannelId, ChannelCloseReason)>,
}

impl<S> Entry<S> {
    /// Channels and consumers that are there again can be used; gives the others, those that the plan left out among them.
    fn end_unrestored(&mut self, restorer: &Restorer, report: &mut RecoveryReport) -> Ended {
        let mut ended = Ended::default();
        let Some(recovering) = &mut self.recovering else {
            return ended;
        };
        let Some(lost) = recovering.lost.take() else {
            return ended;
        };
        let mut closed = std::mem::take(&mut recovering.closed);
        let mut failed = HashSet::new();
        for (step, outcome) in restorer.plan().outcomes() {
            let is_of_channel = !matches!(step.kind(), StepKind::Consumer(_));
            if *outcome != Outcome::Succeeded
                && is_of_channel
                && let Some(name) = step.channel().and_then(channel)
            {
                failed.insert(name);
            }
        }
        let now: HashMap<_, _> = recovering
            .channels
            .iter()
            .map(|(now, name)| (*name, *now))
            .collect();
        let mut names: Vec<_> = self.channels.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let Some(callbacks) = self.channels.get_mut(&name) else {
                continue;
            };
            let now = now.get(&name).copied();
            callbacks.now = now;
            if let (Some(now), false) = (now, failed.contains(&name)) {
                let consumers = callbacks.consumers.iter();
                let gone = consumers.filter(|(_, consumer)| consumer.now.channel() != now);
                ended
                    .consumers
                    .extend(gone.map(|(consumer, _)| (name, *consumer)));
                continue;
            }
            if let Some(Ok(mut core)) = now.map(|now| self.connection.channel(now)) {
                let _ = core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
            }
            if !failed.contains(&name) {
                let what = "channel.open".to_owned();
                report.unrestored.push(Unrestored::new(what, None));
            }
            let reason = closed.remove(&name);
            let reason = reason.unwrap_or_else(|| ChannelCloseReason::Connection(lost.clone()));
            ended.channels.push((name, reason));
        }
        ended
    }
}

/// What was sent, and whose it is.
struct Taken<'c, S> {
    channels: &'c mut HashMap<ChannelId, ChannelCallbacks<S>>,
    recovering: &'c mut Recovering,
    opened: Vec<(ChannelId, ChannelId)>,
    /// Consumers that nobody wants any more.
    unwanted: Vec<RequestId>,
}

impl<S> Taken<'_, S> {
    fn note(&mut self, sent: &Sent<'_>) {
        match sent {
            Sent::Channel(key, now) => {
                if let Some(name) = channel(*key) {
                    // It may be opened more than once.
                    self.recovering.channels.retain(|_, other| *other != name);
                    self.recovering.channels.insert(*now, name);
                    self.opened.push((name, *now));
                }
            }
            Sent::Consumer(step, request, consumer) if self.start(step, *consumer).is_none() => {
                self.unwanted.push(*request);
            }
            _ => {}
        }
    }

    fn start(&mut self, step: &Step, now: ConsumerId) -> Option<()> {
        let StepKind::Consumer(record) = step.kind() else {
            return None;
        };
        let callbacks = self.channels.get_mut(&channel(step.channel()?)?)?;
        let name = callbacks.consumer_of_tag(record.tag())?;
        callbacks.consumers.get_mut(&name)?.now = now;
        self.recovering.consumers.insert(now, name);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_channel_and_the_other_way_round() {
        for id in [ChannelId::new(1, 0), ChannelId::new(u16::MAX, u32::MAX)] {
            assert_eq!(channel(key(id)), Some(id));
        }
        assert_eq!(channel(ChannelKey::new(u64::MAX)), None);
    }
}
