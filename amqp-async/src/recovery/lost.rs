//! What the loss of a connection does to what its handles see, and what is written down for the next one.

use amqp_proto::topology::{ChannelKey, ConsumerRecord, Culprits, Recorder};
use amqp_proto::wire::{BasicConsume, Method, ReplyCode, ShortStr};
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, Config, Connection, ConsumerId, GiveUpReason, Instant, Reply,
    RequestId, SendError,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use super::Recovering;
use super::judging::Judging;
use super::names::{NameCell, Names};
use crate::events::ConnectionEvent;
use crate::shared::{CallState, State};

impl Recovering {
    /// With or without somebody who says something about steps.
    pub(crate) fn new(is_judged: bool) -> Box<Self> {
        Box::new(Self {
            judging: is_judged.then(Judging::default),
            recorder: Recorder::default(),
            is_to_plan: false,
            was_open: false,
            recovered_at: None,
            restorer: None,
            starting: HashMap::new(),
            culprits: Culprits::default(),
            names: Names::default(),
        })
    }
}

/// By its place, which its handles keep.
pub(super) const fn key(place: usize) -> ChannelKey {
    ChannelKey::new(place as u64)
}

/// The place that a key stands for.
pub(super) fn place(key: ChannelKey) -> Option<usize> {
    usize::try_from(key.number()).ok()
}

/// What is written down.
impl State {
    /// A request was sent on that channel: what it asks for is recorded when it is answered.
    pub(crate) fn note_asked(&mut self, place: usize, request: RequestId, method: &Method<'_>) {
        if let Some(recovering) = &mut self.recovering {
            recovering.recorder.asked(key(place), request, method);
        }
    }

    /// A request was sent that is not answered.
    pub(crate) fn note_told(&mut self, place: usize, method: &Method<'_>) {
        if let Some(recovering) = &mut self.recovering {
            recovering.recorder.told(key(place), method);
        }
    }

    pub(crate) fn note_answered(&mut self, reply: &Reply) {
        if let Some(recovering) = &mut self.recovering {
            recovering.recorder.answered(reply);
        }
    }

    /// Whether the answer to that request changes what is recorded.
    pub(crate) fn is_recorded(&self, request: RequestId) -> bool {
        let recovering = self.recovering.as_ref();
        recovering.is_some_and(|recovering| recovering.recorder.is_asked(request))
    }

    pub(crate) fn note_refused(&mut self, request: RequestId) {
        if let Some(recovering) = &mut self.recovering {
            recovering.recorder.failed(request);
        }
    }

    /// A channel is there, or is there no more.
    pub(crate) fn note_channel(&mut self, place: usize, is_there: bool) {
        if let Some(recovering) = &mut self.recovering {
            let topology = recovering.recorder.topology_mut();
            match is_there {
                true => topology.channel_opened(key(place)),
                false => topology.channel_closed(key(place)),
            }
        }
    }

    /// A consumer was asked for; it is recorded at once, since what comes of it comes to its handle.
    pub(crate) fn note_consumer(&mut self, place: usize, consume: &BasicConsume<'_>, tag: &str) {
        let (Some(recovering), Ok(tag)) = (&mut self.recovering, ShortStr::new(tag)) else {
            return;
        };
        let topology = recovering.recorder.topology_mut();
        topology.consumer_started(key(place), consume, tag);
    }

    /// Nobody wants that consumer any more, or it has ended.
    pub(crate) fn forget_consumer(&mut self, place: usize, tag: &str) {
        if let (Some(recovering), Ok(tag)) = (&mut self.recovering, ShortStr::new(tag)) {
            let topology = recovering.recorder.topology_mut();
            topology.consumer_cancelled(key(place), tag);
        }
    }

    /// Where a consumer of a stream is to go on.
    pub(crate) fn note_position(&mut self, consumer: ConsumerId, next: u64) {
        let place = self.channels.place_of(consumer.channel());
        let entry = place.and_then(|place| Some((place, self.channels.get_mut(place)?)));
        let found = entry.and_then(|(place, entry)| Some((place, entry.inbox(consumer)?)));
        let Some((place, inbox)) = found else {
            return;
        };
        if let Some(record) = &mut inbox.record {
            record.set_stream_offset(next);
        }
        if let (Some(recovering), Ok(tag)) = (&mut self.recovering, ShortStr::new(&inbox.tag)) {
            recovering
                .recorder
                .topology_mut()
                .set_stream_offset(key(place), tag, next);
        }
    }

    /// Has a record follow its queue, which may have another name by now.
    pub(crate) fn follow_queue(&self, record: &mut ConsumerRecord) {
        let recovering = self.recovering.as_ref();
        let queue = record.queue().clone();
        if let Some(present) =
            recovering.and_then(|recovering| recovering.recorder.topology().current_queue_name(&queue))
        {
            record.rename_queue(&queue, present);
        }
    }

    /// A queue of that name was declared; the broker may have chosen it.
    pub(crate) fn queue_name(&mut self, name: &str, is_given: bool) -> NameCell {
        match &mut self.recovering {
            Some(recovering) if is_given => {
                NameCell::Given(recovering.names.follow(name, recovering.recorder.topology()))
            }
            _ => NameCell::Fixed(name.into()),
        }
    }
}

/// What a loss does.
impl State {
    /// Whether the end of the connection for that reason is not the end of its handles.
    fn outlives(&self, reason: &CloseReason) -> bool {
        let was_open = self
            .recovering
            .as_ref()
            .is_some_and(|recovering| recovering.was_open);
        was_open && !self.is_leaving() && !matches!(reason, CloseReason::Requested { .. })
    }

    /// Whether somebody wants it closed.
    pub(super) const fn is_leaving(&self) -> bool {
        self.is_closing || self.leaving.is_some()
    }

    /// Whether that channel goes on although this life of it has ended.
    pub(crate) fn channel_outlives(&self, channel: ChannelId, reason: &ChannelCloseReason) -> bool {
        if self.recovering.is_none() {
            return false;
        }
        let place = self.channels.place_of(channel);
        let Some(entry) = place.and_then(|place| self.channels.get(place)) else {
            return false;
        };
        let is_in_use = !entry.is_closing && !entry.is_orphaned && !entry.is_transactional;
        match reason {
            ChannelCloseReason::Connection(reason) => {
                // One that is being opened belongs to a call that fails now.
                let was_open = entry.is_open || entry.last_end.is_some() || self.is_lost();
                is_in_use && was_open && self.outlives(reason)
            }
            // The plan opens it again.
            _ => is_in_use && self.is_lost(),
        }
    }

    /// The core's connection is open.
    pub(crate) fn on_connected(&mut self) {
        self.is_connected = true;
        self.changed.drain_into(&mut self.wakes);
        if let Some(recovering) = &mut self.recovering {
            recovering.was_open = true;
            recovering.is_to_plan = self.lost.is_some();
        }
    }

    /// The core's connection has ended.
    pub(crate) fn on_closed(&mut self, reason: CloseReason) {
        self.ended = Some(reason.clone());
        match self.outlives(&reason) {
            true => self.on_lost(reason),
            false => self.finish(reason),
        }
    }

    fn on_lost(&mut self, reason: CloseReason) {
        self.is_connected = false;
        let was_lost = self.lost.replace(reason.clone()).is_some();
        self.last_loss = Some(reason.clone());
        let channel_reason = ChannelCloseReason::Connection(reason.clone());
        if let Some(recovering) = &mut self.recovering {
            recovering.recorder.disconnected();
            recovering.starting.clear();
            if let Some(restorer) = recovering.restorer.take() {
                recovering.culprits = restorer.into_culprits(&reason);
            }
            recovering.is_to_plan = false;
            recovering.names.update(recovering.recorder.topology());
        }
        let wakes = &mut self.wakes;
        // The core has told the end of its channels: those are left that were to be opened again.
        for entry in self.channels.iter_mut().filter(|entry| entry.closed.is_none()) {
            entry.interrupt(&channel_reason, wakes);
        }
        if !was_lost {
            self.watchers.tell(&ConnectionEvent::Lost { reason }, wakes);
        }
        self.wake_all();
    }

    /// It has ended for good.
    pub(crate) fn finish(&mut self, reason: CloseReason) {
        self.lost = None;
        self.is_connected = false;
        self.closed = Some(reason.clone());
        self.finish_leaving(&reason);
        self.watchers
            .tell(&ConnectionEvent::Closed(reason.clone()), &mut self.wakes);
        self.wake_all();
        let reason = ChannelCloseReason::Connection(reason);
        for entry in self.channels.iter_mut().filter(|entry| entry.closed.is_none()) {
            entry.close(&reason, &mut self.wakes);
        }
        self.recovering = None;
    }

    /// Whoever waits for something looks again.
    pub(super) fn wake_all(&mut self) {
        let sets = [
            &mut self.changed,
            &mut self.writable,
            &mut self.answered,
            &mut self.unblocked,
            &mut self.settled,
            &mut self.written,
        ];
        for set in sets {
            set.drain_into(&mut self.wakes);
        }
    }

    /// Whether something can be asked for now: not while there is no connection, and not before it is as it was.
    pub(crate) fn check_there(&self) -> Result<(), SendError> {
        match self.is_lost() {
            true => Err(SendError::Full { queued: 0, limit: 0 }),
            false => Ok(()),
        }
    }

    /// Whoever wants it closed need not wait for another connection.
    pub(crate) fn close_lost_channel(&mut self, place: usize) {
        let Some(entry) = self.channels.unclosed_mut(place) else {
            return;
        };
        entry.is_closing = true;
        let id = entry.id();
        match self.connection.channel(id) {
            Ok(mut core) => drop(core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown")),
            Err(_) => {
                entry.close(&ChannelCloseReason::Requested, &mut self.wakes);
                self.settled.drain_into(&mut self.wakes);
                self.note_channel(place, false);
            }
        }
    }

    /// Keeps the deadlines of handles while there is no driver to do it. Gives the next one.
    pub(super) fn tick(&mut self, now: Instant, cx: &Context<'_>) -> Option<Instant> {
        let next = self.alarms.tick(now, &mut self.wakes);
        self.sleep(cx);
        next
    }

    /// There is a stream again.
    pub(crate) fn begin_life(&mut self, config: Arc<Config>, now: Instant) {
        self.past += self.connection.counters();
        let incarnation = self.connection.next_incarnation();
        self.connection = Connection::new(config, now, incarnation);
        self.ended = None;
        self.lives = self.lives.wrapping_add(1);
        self.sip = None;
        self.calls.retain(|_, call| matches!(call, CallState::Done(_)));
    }

    /// When everything was there again in this life of the connection; told once.
    pub(super) fn take_recovered_at(&mut self) -> Option<Instant> {
        self.recovering.as_mut()?.recovered_at.take()
    }

    pub(super) fn on_retry(&mut self, reason: &CloseReason, delay: Duration) {
        let reason = reason.clone();
        self.watchers
            .tell(&ConnectionEvent::Retrying { reason, delay }, &mut self.wakes);
    }

    /// Nothing is tried any more.
    pub(super) fn on_give_up(&mut self, why: GiveUpReason, reason: CloseReason) {
        let reason = match &why {
            GiveUpReason::Permanent(reason)
            | GiveUpReason::Exhausted(reason)
            | GiveUpReason::TimedOut(reason) => reason.clone(),
            _ => reason,
        };
        self.watchers.tell(&ConnectionEvent::GaveUp(why), &mut self.wakes);
        self.finish(reason);
    }
}
