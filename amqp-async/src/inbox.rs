//! What came for a consumer and was not taken yet.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::topology::ConsumerRecord;
use amqp_proto::{ChannelCloseReason, ConsumerId, Delivery, Instant, RequestId};

use crate::interruption::Interruption;
use crate::wakers;

/// Above that many octets a consumer without acknowledgements, or without a prefetch limit, has the socket read no more.
/// So little that what waits stays in the processor's cache, and the memory it was received in is used again.
pub(crate) const SOFT_LIMIT: usize = 512 << 10;

/// Above that many octets a consumer is not waited for.
pub(crate) const HARD_LIMIT: usize = 64 << 20;

/// How long a consumer above [`HARD_LIMIT`] may take nothing while somebody waits for what is behind its messages. It is looked at
/// that often, so it is ended after twice as long at most. RabbitMQ gives up on a client that reads nothing for 15 s (its
/// `send_timeout`), and the answer must come before that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a delivery costs beside its body, roughly: its place here, room for as much again, and what else of its frames was read.
const OVERHEAD: usize = 256;

/// For how many deliveries room is kept that are not there any more: twice those of a flood of small ones. Above, more has come
/// than usual, and may not come again.
const MOST_ROOM: usize = 2 * SOFT_LIMIT / OVERHEAD;

/// Why a consumer gets nothing more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerEnd {
    /// It was cancelled here.
    #[error("cancelled")]
    Requested,
    /// The broker cancelled it: its queue was deleted, or moved away, or has waited too long for a delivery to be settled.
    /// [`ConsumeOptions::resubscribe`](crate::ConsumeOptions::resubscribe) has it started again.
    #[error("cancelled by the broker")]
    CancelledByBroker,
    /// It took too little of what came: 64 MiB were waiting. What it had not taken went back to the queue; a stream has it anyway.
    /// Without acknowledgements that could still be taken, and what came behind it is lost
    /// ([`ConsumeOptions::no_ack`](crate::ConsumeOptions::no_ack)).
    #[error("too many messages wait to be taken")]
    Overflow,
    /// Its channel ended.
    #[error("{0}")]
    Channel(ChannelCloseReason),
    /// The connection was lost and made again ([`Recovery`](crate::Recovery)), and the consumer could not be: something that it needs
    /// is not there. [`ConnectionEvent::Recovered`](crate::ConnectionEvent::Recovered) lists what.
    #[error("not restored after a loss of the connection")]
    NotRestored,
}

#[derive(Debug)]
pub(crate) struct Inbox {
    /// What the core calls it: another one in each life of its channel.
    pub(crate) id: ConsumerId,
    /// What its handle calls it: its first.
    pub(crate) handle: ConsumerId,
    pub(crate) tag: Box<str>,
    /// What the program asked for it with: if that fails, nobody gets it.
    pub(crate) request: Option<RequestId>,
    pub(crate) no_ack: bool,
    /// The broker holds back by itself: prefetch is limited and acknowledgements are asked for.
    pub(crate) is_limited: bool,
    /// Oldest first. (A `Vec`: what is pushed is written where it stays.)
    waiting: Vec<Delivery>,
    octets: usize,
    waker: Option<Waker>,
    end: Option<ConsumerEnd>,
    pub(crate) link: Arc<Link>,
    /// Why nothing comes at the moment.
    interrupted: Option<ConsumerEnd>,
    /// What starts it again, if anything does.
    pub(crate) record: Option<Box<ConsumerRecord>>,
    /// Starts it again when the broker has ended it.
    keeper: Option<Keeper>,
    /// What its consumer does not know yet, and how many of those that wait came before.
    gap: Option<Box<(Interruption, usize)>>,
    /// What comes are answers, which somebody waits for.
    pub(crate) takes_replies: bool,
    /// Until when it may take nothing while reading is held back for it and somebody waits for the broker.
    patience: Option<Instant>,
}

/// A task that starts a consumer again.
#[derive(Debug, Default)]
struct Keeper {
    waker: Option<Waker>,
    /// It is to be started again.
    is_due: bool,
}

/// What an inbox and its consumer know of each other. The consumer takes all that waits at once, and then one by one from that.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// How many the consumer has taken out of the inbox and given to nobody yet.
    len: AtomicUsize,
    /// These are to go back.
    is_revoked: AtomicBool,
    /// A delivery was taken since this was looked at last.
    has_taken: AtomicBool,
    /// How often the connection was lost: what was taken before comes again.
    losses: AtomicU32,
}

impl Link {
    #[inline]
    pub(crate) fn note_taken(&self) {
        self.has_taken.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, len: usize) {
        self.len.store(len, Ordering::Relaxed);
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many there are; from now on there are none.
    pub(crate) fn take(&self) -> usize {
        self.len.swap(0, Ordering::Relaxed)
    }

    /// They are to go back.
    pub(crate) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Relaxed)
    }
}

impl Inbox {
    pub(crate) fn new(id: ConsumerId, tag: &str, no_ack: bool, is_limited: bool) -> Self {
        Self {
            id,
            handle: id,
            tag: tag.into(),
            no_ack,
            is_limited,
            waiting: Vec::new(),
            octets: 0,
            request: None,
            waker: None,
            end: None,
            link: Arc::default(),
            interrupted: None,
            record: None,
            keeper: None,
            gap: None,
            takes_replies: false,
            patience: None,
        }
    }

    /// A message came, and perhaps others right behind it, which `more` appends: it says how many.
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        first: Delivery,
        more: impl FnOnce(&mut Vec<Delivery>) -> usize,
        wakes: &mut Vec<Waker>,
    ) -> usize {
        let before = self.waiting.len();
        self.waiting.push(first);
        let count = more(&mut self.waiting);
        let new = self.waiting.get(before..).unwrap_or_default();
        self.octets += new.iter().map(octets).sum::<usize>();
        // Mostly nobody waits; `extend` would make room first.
        if let Some(waker) = self.waker.take() {
            wakes.push(waker);
        }
        count
    }

    /// Its channel ended for that reason. What was not taken comes again, if it wants acknowledgements.
    pub(crate) fn interrupt(&mut self, reason: &ChannelCloseReason) {
        // One that waits to be started again has ended before, for its own reason.
        if !self.is_stopped() {
            self.interrupted = Some(ConsumerEnd::Channel(reason.clone()));
        }
        self.link.losses.fetch_add(1, Ordering::Relaxed);
        if !self.no_ack {
            self.drain();
        }
        self.patience = None;
    }

    /// A task starts it again.
    pub(crate) fn set_kept(&mut self) {
        self.keeper = Some(Keeper::default());
    }

    /// The broker ended it, for that reason. Somebody may start it again; says whether it ended for good.
    pub(crate) fn stop(&mut self, end: ConsumerEnd, wakes: &mut Vec<Waker>) -> bool {
        match &mut self.keeper {
            Some(keeper) if self.end.is_none() => {
                keeper.is_due = true;
                wakes.extend(keeper.waker.take());
                self.interrupted = Some(end);
                false
            }
            _ => {
                self.end(end, wakes);
                true
            }
        }
    }

    /// The broker ended it, and its keeper has not started it again.
    pub(crate) fn is_stopped(&self) -> bool {
        self.end.is_none() && self.keeper.as_ref().is_some_and(|keeper| keeper.is_due)
    }

    /// It has neither ended nor waits to be started again.
    pub(crate) fn is_running(&self) -> bool {
        !self.has_ended() && !self.is_stopped()
    }

    /// It is not started again: what ended it counts.
    pub(crate) fn give_up(&mut self, wakes: &mut Vec<Waker>) {
        if let Some(end) = self.interrupted.take() {
            self.end(end, wakes);
        }
    }

    /// For its keeper: whether it is to be started again; none if it has ended.
    pub(crate) fn poll_stopped(&mut self, cx: &Context<'_>, retired: &mut Vec<Waker>) -> Option<bool> {
        let keeper = self.keeper.as_mut().filter(|_| self.end.is_none())?;
        retired.extend(wakers::replace(&mut keeper.waker, cx));
        Some(keeper.is_due)
    }

    /// It goes on as that consumer of the core's. What waits came before.
    pub(crate) fn restart(&mut self, id: ConsumerId, wakes: &mut Vec<Waker>) {
        self.id = id;
        if let Some(keeper) = &mut self.keeper {
            keeper.is_due = false;
        }
        if let Some(cause) = self.interrupted.take() {
            let interruption = Interruption::new(cause, id.channel());
            self.gap = Some(Box::new((interruption, self.waiting.len())));
            wakes.extend(self.waker.take());
        }
    }

    /// What comes next came behind that interruption.
    pub(crate) fn take_interruption(&mut self) -> Option<Interruption> {
        let is_next = |gap: &mut Box<(Interruption, usize)>| gap.1 == 0;
        self.gap.take_if(is_next).map(|gap| gap.0)
    }

    /// Nothing more comes. What is there can still be taken, and the first reason counts.
    pub(crate) fn end(&mut self, end: ConsumerEnd, wakes: &mut Vec<Waker>) {
        self.end.get_or_insert(end);
        wakes.extend(self.waker.take());
        wakes.extend(self.keeper.as_mut().and_then(|keeper| keeper.waker.take()));
    }

    /// Takes all that is there, in exchange for an empty queue; the end comes behind the last. A waker that is of no use any more goes
    /// to `retired`, to be dropped where no lock is held.
    pub(crate) fn take(
        &mut self,
        empty: &mut VecDeque<Delivery>,
        cx: &Context<'_>,
        retired: &mut Vec<Waker>,
    ) -> Poll<Option<ConsumerEnd>> {
        if !self.waiting.is_empty() {
            let room: Vec<_> = mem::take(empty).into();
            let room = if room.capacity() > MOST_ROOM {
                Vec::new()
            } else {
                room
            };
            *empty = mem::replace(&mut self.waiting, room).into();
            self.octets = 0;
            self.patience = None;
            if let Some(gap) = &mut self.gap {
                let behind = empty.split_off(mem::take(&mut gap.1).min(empty.len()));
                self.octets = behind.iter().map(octets).sum();
                self.waiting = behind.into();
            }
            return Poll::Ready(None);
        }
        if let Some(end) = &self.end {
            return Poll::Ready(Some(end.clone()));
        }
        retired.extend(wakers::replace(&mut self.waker, cx));
        Poll::Pending
    }

    /// Wakes that one when something comes, or nothing more. Gives the waker that is of no use any more.
    #[must_use = "it is to be dropped where no lock is held"]
    pub(crate) fn watch(&mut self, cx: &Context<'_>) -> Option<Waker> {
        wakers::replace(&mut self.waker, cx)
    }

    /// Nobody will take anything any more.
    pub(crate) const fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// What nobody will take.
    pub(crate) fn drain(&mut self) -> Vec<Delivery> {
        self.octets = 0;
        if let Some(gap) = &mut self.gap {
            gap.1 = 0;
        }
        mem::take(&mut self.waiting)
    }

    /// Of what waits, roughly.
    pub(crate) const fn octets(&self) -> usize {
        self.octets
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) const fn is_over(&self, limit: usize) -> bool {
        self.octets > limit
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Reading is held back for it and somebody waits for the broker: until when it is waited for. None if nothing was taken for so long.
    pub(crate) fn patience_until(&mut self, now: Instant) -> Option<Instant> {
        let has_taken = self.link.has_taken.swap(false, Ordering::Relaxed);
        let until = self.patience.filter(|_| !has_taken).unwrap_or(now + PATIENCE);
        self.patience = Some(until);
        (until > now).then_some(until)
    }

    /// Nobody waits for the broker: it may be held back for ever.
    pub(crate) const fn forget_patience(&mut self) {
        self.patience = None;
    }
}

/// What a delivery takes, roughly.
#[inline]
fn octets(delivery: &Delivery) -> usize {
    delivery.message.body_len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use amqp_proto::wire::{Properties, ShortStr};
    use amqp_proto::{ChannelId, DeliveryTag, Message};

    use super::*;

    /// So many come, and are taken.
    fn round(inbox: &mut Inbox, ready: &mut VecDeque<Delivery>, count: u64) {
        let empty = ShortStr::default();
        let message = Message::new(empty, empty, &Properties::default(), &b"m"[..]).expect("it fits");
        let (id, mut wakes) = (inbox.id, Vec::new());
        for number in 1..=count {
            let tag = DeliveryTag::new(id.channel(), number);
            let first = Delivery::new(tag, id, false, message.clone());
            inbox.push(first, |_| 0, &mut wakes);
        }
        let cx = Context::from_waker(Waker::noop());
        assert!(inbox.take(ready, &cx, &mut Vec::new()).is_ready());
        let tags = ready.drain(..).map(|delivery| delivery.tag.value());
        assert!(tags.eq(1..=count), "in the order in which they came");
    }

    #[test]
    fn room_is_kept_for_what_is_usual_and_given_back_after_a_flood() {
        let id = ConsumerId::new(ChannelId::new(1, 0), 0);
        let mut inbox = Inbox::new(id, "tag", true, false);
        let mut ready = VecDeque::new();
        for _ in 0..4 {
            round(&mut inbox, &mut ready, 1000);
        }
        let before = (inbox.waiting.as_ptr(), ready.capacity());
        for _ in 0..2 {
            round(&mut inbox, &mut ready, 1000);
        }
        assert_eq!(
            (inbox.waiting.as_ptr(), ready.capacity()),
            before,
            "no other memory is asked for"
        );
        for _ in 0..2 {
            round(&mut inbox, &mut ready, 5 * MOST_ROOM as u64);
        }
        for _ in 0..2 {
            round(&mut inbox, &mut ready, 1);
        }
        assert!(inbox.waiting.capacity() + ready.capacity() <= 2 * MOST_ROOM);
    }
}
