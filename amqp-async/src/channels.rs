//! What is known of each channel beside what the core knows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use amqp_proto::wire::BasicQos;
use amqp_proto::{
    ChannelCloseReason, ChannelId, ConfirmOutcome, ConfirmTag, ConfirmTags, ConsumerId, DeliveryTag, Outbox,
    Returned,
};

use crate::channel::ChannelOptions;
use crate::confirms::Confirms;
use crate::inbox::Inbox;
use crate::ledger::Ledger;
use crate::observe::Sample;
use crate::reopen::{Reopening, Restore, Starting};
use crate::republish;
use crate::returns::Listeners;
use crate::wakers::WakerSet;

/// The channels, by their place, which a handle keeps, and by the number that they have on the wire.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    entries: Vec<Option<Box<Entry>>>,
    free: Vec<usize>,
    /// The place of the last channel of a number, plus one; 0 is none.
    by_number: Vec<usize>,
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Entry {
    id: ChannelId,
    /// How it is to be when it is opened again. Channels with the same options share them, if those are the usual ones.
    pub(crate) options: Arc<ChannelOptions>,
    /// Publishes are confirmed, or will be.
    pub(crate) has_confirms: bool,
    /// Limits that were asked for, for each consumer and for all together.
    pub(crate) qos: [Option<BasicQos>; 2],
    /// It was used for transactions.
    pub(crate) is_transactional: bool,
    /// What has to be sent before it can be used again.
    pub(crate) restore: VecDeque<Restore>,
    /// How often and when it was opened again.
    pub(crate) reopening: Option<Box<Reopening>>,
    /// Consumers that are being started again, in the order in which they were asked for.
    pub(crate) starting: VecDeque<Starting>,
    pub(crate) is_open: bool,
    pub(crate) is_closing: bool,
    pub(crate) closed: Option<ChannelCloseReason>,
    /// Why it ended before it was opened again the last time.
    pub(crate) last_end: Option<Box<ChannelCloseReason>>,
    /// Its id in its first life, by which its publishes are known in all of them.
    first_id: ChannelId,
    /// How many were published in former lives.
    published_before: u64,
    /// No handle is left.
    pub(crate) is_orphaned: bool,
    pub(crate) confirms: Confirms,
    pub(crate) ledger: Ledger,
    /// What is published again after a loss; none if nothing is.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// Who listens to what comes back.
    pub(crate) listeners: Listeners,
    /// In the order in which they started.
    pub(crate) consumers: Vec<Inbox>,
    /// Who waits for it to open or to end.
    pub(crate) changed: WakerSet,
    /// Who waits for confirms to make room, or for the flow to go on.
    pub(crate) room: WakerSet,
    /// What could not be said yet, in order.
    pub(crate) unsaid: VecDeque<Unsaid>,
    pub(crate) sample: Sample,
}

/// What must be said although nobody waits until there is room for it. What came from a stream is acknowledged instead of refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unsaid {
    Cancel(ConsumerId),
    Nack { tag: DeliveryTag, requeue: bool },
    Reject { tag: DeliveryTag, requeue: bool },
}

impl Channels {
    /// A new channel; its place.
    pub(crate) fn insert(&mut self, id: ChannelId, options: Arc<ChannelOptions>) -> usize {
        let outbox = republish::outbox(&options.on_loss);
        let entry = Box::new(Entry {
            id,
            has_confirms: options.confirms,
            options,
            outbox,
            qos: [None; 2],
            is_transactional: false,
            restore: VecDeque::new(),
            reopening: None,
            starting: VecDeque::new(),
            last_end: None,
            first_id: id,
            published_before: 0,
            is_open: false,
            is_closing: false,
            closed: None,
            is_orphaned: false,
            confirms: Confirms::default(),
            ledger: Ledger::default(),
            listeners: Listeners::default(),
            consumers: Vec::new(),
            changed: WakerSet::default(),
            room: WakerSet::default(),
            unsaid: VecDeque::new(),
            sample: Sample::default(),
        });
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.entries.push(None);
                self.entries.len() - 1
            }
        };
        if let Some(slot) = self.entries.get_mut(place) {
            *slot = Some(entry);
        }
        self.note_number(id.number(), place);
        place
    }

    /// It is another channel of the core's from now on.
    pub(crate) fn renumber(&mut self, place: usize, id: ChannelId) {
        let Some(entry) = self.get_mut(place) else {
            return;
        };
        let former = std::mem::replace(&mut entry.id, id);
        entry.published_before = entry.ledger.published();
        self.forget_number(former.number(), place);
        self.note_number(id.number(), place);
    }

    fn note_number(&mut self, number: u16, place: usize) {
        let number = usize::from(number);
        if self.by_number.len() <= number {
            self.by_number.resize(number + 1, 0);
        }
        if let Some(slot) = self.by_number.get_mut(number) {
            *slot = place + 1;
        }
    }

    fn forget_number(&mut self, number: u16, place: usize) {
        if let Some(slot) = self.by_number.get_mut(usize::from(number))
            && *slot == place + 1
        {
            *slot = 0;
        }
    }

    /// All places.
    pub(crate) const fn places(&self) -> std::ops::Range<usize> {
        0..self.entries.len()
    }

    #[inline]
    pub(crate) fn get(&self, place: usize) -> Option<&Entry> {
        self.entries.get(place)?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Entry> {
        self.entries.get_mut(place)?.as_deref_mut()
    }

    /// One that has not ended for good.
    pub(crate) fn unclosed_mut(&mut self, place: usize) -> Option<&mut Entry> {
        self.get_mut(place).filter(|entry| entry.closed.is_none())
    }

    /// By its id; none for one that nobody has a handle of.
    #[inline]
    pub(crate) fn find_mut(&mut self, id: ChannelId) -> Option<&mut Entry> {
        let place = self.place_of(id)?;
        self.get_mut(place)
    }

    #[inline]
    pub(crate) fn place_of(&self, id: ChannelId) -> Option<usize> {
        let has_id = |place: &usize| self.get(*place).is_some_and(|entry| entry.id == id);
        let latest = self.by_number.get(usize::from(id.number()))?.checked_sub(1);
        // One that ended may be asked for while its number is used again already.
        latest
            .filter(has_id)
            .or_else(|| (0..self.entries.len()).find(has_id))
    }

    /// Forgets it: no handle is left, and nothing more comes of it.
    pub(crate) fn remove(&mut self, place: usize) {
        let Some(entry) = self.entries.get_mut(place).and_then(Option::take) else {
            return;
        };
        self.forget_number(entry.id.number(), place);
        self.free.push(place);
    }

    /// Forgets that one if it ended and no handle is left.
    pub(crate) fn remove_if_over(&mut self, id: ChannelId) {
        let is_over = |entry: &Entry| entry.is_orphaned && entry.closed.is_some();
        if let Some(place) = self.place_of(id)
            && self.get(place).is_some_and(is_over)
        {
            self.remove(place);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().flatten().map(|entry| &**entry)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().flatten().map(|entry| &mut **entry)
    }
}

impl Entry {
    pub(crate) const fn id(&self) -> ChannelId {
        self.id
    }

    #[inline]
    pub(crate) fn inbox(&mut self, consumer: ConsumerId) -> Option<&mut Inbox> {
        self.consumers.iter_mut().find(|inbox| inbox.id == consumer)
    }

    /// Whether the broker has to say something about it: a confirm that somebody waits for, that it is open or closed.
    pub(crate) fn is_awaiting(&self) -> bool {
        let is_changing = self.closed.is_none() && (!self.is_open || self.is_closing);
        is_changing || self.confirms.is_awaited() || self.room.len() > 0
    }

    /// By what its publishes are known.
    pub(crate) const fn first_id(&self) -> ChannelId {
        self.first_id
    }

    /// A message was published; whether anybody wants to know what becomes of it. Gives its number, among those of all lives.
    #[inline]
    pub(crate) fn published(&mut self, is_awaited: bool) -> ConfirmTag {
        let number = self.ledger.publish();
        self.confirms.push(number, is_awaited);
        ConfirmTag::new(self.first_id, number)
    }

    /// The broker told of these, of this life.
    #[inline]
    pub(crate) fn confirmed(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome, wakes: &mut Vec<Waker>) {
        if self.outbox.is_some() {
            return self.settle_kept(tags, outcome, wakes);
        }
        let before = self.published_before;
        let tags = ConfirmTags::new(self.first_id, before + tags.first(), before + tags.last());
        self.settle(tags, outcome, wakes);
    }

    /// The same, by their numbers among those of all lives.
    #[inline]
    pub(crate) fn settle(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome, wakes: &mut Vec<Waker>) {
        self.ledger.confirmed(tags, outcome);
        self.confirms.confirmed(tags, outcome, wakes);
        self.room.drain_into(wakes);
    }

    /// A message came back. Who waits for its confirm learns it then; else it is for those who listen.
    pub(crate) fn returned(&mut self, mut returned: Returned, wakes: &mut Vec<Waker>) {
        let number = |tag: ConfirmTag| match &self.outbox {
            Some(outbox) => outbox.number(tag.value()),
            None => Some(self.published_before + tag.value()),
        };
        let number = returned.tag.and_then(number);
        returned.tag = number.map(|number| ConfirmTag::new(self.first_id, number));
        let unawaited = match returned.tag {
            Some(tag) => {
                self.ledger.returned(tag, &returned);
                self.confirms.returned(tag.value(), returned)
            }
            None => Some(returned),
        };
        if let Some(returned) = unawaited {
            self.listeners.tell(&returned, wakes);
        }
    }

    /// Whether the broker holds back what a consumer cannot take, if it starts now.
    pub(crate) fn has_prefetch(&self) -> bool {
        self.qos.iter().flatten().any(|qos| qos.prefetch_count != 0)
    }

    #[inline]
    pub(crate) fn inbox_of_tag(&mut self, tag: &str) -> Option<&mut Inbox> {
        let mut inboxes = self.consumers.iter_mut();
        inboxes.find(|inbox| *inbox.tag == *tag && inbox.is_running())
    }

    /// By what its handle knows it by.
    #[inline]
    pub(crate) fn inbox_of(&mut self, handle: ConsumerId) -> Option<&mut Inbox> {
        self.consumers.iter_mut().find(|inbox| inbox.handle == handle)
    }

    /// It ended: everything that waits for it learns why.
    pub(crate) fn close(&mut self, reason: &ChannelCloseReason, wakes: &mut Vec<Waker>) {
        for inbox in &mut self.consumers {
            inbox.end(crate::ConsumerEnd::Channel(reason.clone()), wakes);
        }
        self.interrupt(reason, wakes);
        self.lose_kept(reason, wakes);
        self.closed = Some(reason.clone());
        self.listeners.end(wakes);
    }

    /// What belongs to this life of the channel has ended with it; its consumers go on with the next one.
    pub(crate) fn interrupt(&mut self, reason: &ChannelCloseReason, wakes: &mut Vec<Waker>) {
        self.is_open = false;
        self.last_end = Some(Box::new(reason.clone()));
        self.restore.clear();
        self.starting.clear();
        self.unsaid.clear();
        self.interrupt_kept(reason, wakes);
        for inbox in &mut self.consumers {
            inbox.interrupt(reason);
        }
        self.changed.drain_into(wakes);
        self.room.drain_into(wakes);
    }
}
