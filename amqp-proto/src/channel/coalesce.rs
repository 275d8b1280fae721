//! Acknowledgements that wait, to be said together.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::state::ChannelState;
use crate::link::Link;
use crate::time::Instant;
use crate::wire::*;

/// How acknowledgements of one channel are joined, so that one `basic.ack` with `multiple` says many of them.
///
/// What is acknowledged waits, in any order. It is said when `count` wait, when the first of them has waited for `delay`, and before
/// anything else is said on the channel but publishes: before a refusal, a request, the start or the end of a consumer, the close of the
/// channel or the connection. One `basic.ack` is for all below which nothing is unsettled, and each of the others has
/// its own if it cannot wait on; so nothing is acknowledged that the user has not settled, whichever consumer it came to.
///
/// With a prefetch limit ([`BasicQos`]) it is said when half of that limit waits, so that the broker has time to send more before
/// all is settled.
///
/// The price: if the connection or the channel is lost, what waited is delivered again, though it was dealt with. Less is asked of the
/// broker and the network for it: an acknowledgement is a frame of 21 octets.
///
/// From [`Connection::cancel_consumers`](crate::Connection::cancel_consumers) on none waits: whoever leaves wants to know what is settled.
/// From `tx.select` on they are not joined: `tx.rollback` makes unsettled what was settled before, and `multiple` would take it along.
///
/// The specification has `multiple` in its section "basic.ack"; see RabbitMQ's page "Consumer Acknowledgements and Publisher Confirms".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AckCoalescing {
    /// How many wait at most; 0 and 1 join nothing.
    pub count: u16,
    /// How long each waits at most, counted from the [`poll_transmit`](crate::Connection::poll_transmit) that follows it. Zero:
    /// until that one, which joins what was acknowledged between two of them.
    pub delay: Duration,
}

impl AckCoalescing {
    /// So many wait at most, and for so long.
    #[must_use]
    pub const fn new(count: u16, delay: Duration) -> Self {
        Self { count, delay }
    }
}

/// Keeps what is to be acknowledged on one channel.
#[derive(Debug)]
pub(crate) struct Coalescer {
    options: AckCoalescing,
    /// Tags that the user has acknowledged and the peer was not told of.
    held: Vec<u64>,
    /// When they must be said; [`Instant::MAX`] until somebody looks.
    due: Instant,
}

impl Coalescer {
    const fn new(options: AckCoalescing) -> Self {
        Self {
            options,
            held: Vec::new(),
            due: Instant::MAX,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Says at least half of what waits, in one method if that will do: what is behind the first unsettled one may be joined later.
    fn make_room(&mut self, first_unsettled: Option<u64>, mut say: impl FnMut(BasicAck)) {
        let waiting = self.held.len();
        self.join(first_unsettled, &mut say);
        if self.held.len() > waiting / 2 {
            self.flush(first_unsettled, say);
        } else if self.held.is_empty() {
            self.due = Instant::MAX;
        }
    }

    /// Says all that waits, in as few methods as possible.
    fn flush(&mut self, first_unsettled: Option<u64>, mut say: impl FnMut(BasicAck)) {
        self.join(first_unsettled, &mut say);
        for delivery_tag in self.held.drain(..) {
            let multiple = false;
            say(BasicAck {
                delivery_tag,
                multiple,
            });
        }
        self.due = Instant::MAX;
    }

    /// Says what waits and has nothing unsettled before it.
    fn join(&mut self, first_unsettled: Option<u64>, say: &mut impl FnMut(BasicAck)) {
        self.held.sort_unstable();
        let count = match first_unsettled {
            Some(first) => self.held.partition_point(|held| *held < first),
            None => self.held.len(),
        };
        if let Some(delivery_tag) = self.held.drain(..count).next_back() {
            let multiple = count > 1;
            say(BasicAck {
                delivery_tag,
                multiple,
            });
        }
    }
}

/// How much the peer may deliver before something is settled; 0 is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Prefetch {
    /// For each consumer that starts from now on.
    next: u16,
    /// The least that a consumer has, or had.
    least: u16,
    /// For all together.
    all: u16,
}

impl Prefetch {
    /// A request was sent, which may be `basic.qos`.
    pub(super) fn note<A: Arguments>(&mut self, method: &A) {
        if A::SPEC.id != BasicQos::SPEC.id {
            return;
        }
        let (mut count, mut is_global) = (0, false);
        method.for_each_argument(&mut |_, argument| match argument {
            Argument::Short(prefetch_count) => count = prefetch_count,
            Argument::Bit(global) => is_global = global,
            _ => {}
        });
        match is_global {
            true => self.all = count,
            false => self.next = count,
        }
    }

    /// A consumer starts that is to acknowledge what it gets.
    pub(super) fn note_consumer(&mut self) {
        self.least = match (self.least, self.next) {
            (0, other) | (other, 0) => other,
            (least, next) => least.min(next),
        };
    }

    /// How many acknowledgements may wait without the peer waiting for them.
    fn most_held(self) -> usize {
        let limits = [self.least, self.all];
        let least = limits.into_iter().filter(|limit| *limit != 0).min();
        least.map_or(usize::MAX, |least| usize::from(least / 2))
    }
}

impl ChannelState {
    /// Whether acknowledgements are to be joined, and how. Says whether it can be: nothing was delivered before.
    pub(super) fn set_ack_coalescing(&mut self, link: &mut Link, options: Option<AckCoalescing>) -> bool {
        match (&mut self.coalescer, options) {
            (_, None) => self.end_coalescing(link),
            (Some(coalescer), Some(options)) => {
                coalescer.options = options;
                self.flush_acks(link);
            }
            (none, Some(options)) if self.last_delivery == 0 => {
                *none = Some(Box::new(Coalescer::new(options)));
            }
            _ => return false,
        }
        true
    }

    /// What was acknowledged so far is said, and from now on each is said at once.
    #[cold]
    pub(super) fn end_coalescing(&mut self, link: &mut Link) {
        self.flush_acks(link);
        self.coalescer = None;
    }

    /// A delivery was told, which is to be settled unless it needs no acknowledgement.
    #[inline(always)]
    pub(super) fn note_delivery(&mut self, link: &mut Link, tag: u64, no_ack: bool) {
        if !no_ack && !self.unsettled.insert(tag) {
            self.end_coalescing(link);
            self.consumers.stop_progress(&self.unsettled);
        }
    }

    /// The user acknowledged one delivery.
    #[inline(never)]
    pub(super) fn hold_ack(&mut self, link: &mut Link, delivery_tag: u64) {
        let (number, was_unsettled) = (self.id.number(), self.unsettled.remove(delivery_tag));
        if !was_unsettled {
            // The peer is to judge that.
            self.flush_acks(link);
            let multiple = false;
            let ack = BasicAck {
                delivery_tag,
                multiple,
            };
            return link.answer(number, &ack);
        }
        let Some(coalescer) = &mut self.coalescer else {
            return;
        };
        // Whoever leaves waits for nothing.
        let most = match link.takes_no_consumers {
            true => 1,
            false => self.prefetch.most_held().min(coalescer.options.count.into()),
        };
        coalescer.held.push(delivery_tag);
        if coalescer.held.len() >= most {
            coalescer.make_room(self.unsettled.first(), |ack| link.answer(number, &ack));
        } else if coalescer.held.len() == 1 {
            link.note_held(number);
        }
    }

    /// What was delivered so far is delivered again.
    pub(super) fn note_recovered(&mut self, link: &mut Link) {
        self.flush_acks(link);
        self.forget_unsettled();
    }

    /// What is not settled is delivered again, be it to others.
    pub(super) fn forget_unsettled(&mut self) {
        self.consumers.stop_progress(&self.unsettled);
        self.unsettled.clear();
    }

    /// Says what was acknowledged and not said.
    #[inline]
    pub(crate) fn flush_acks(&mut self, link: &mut Link) {
        if let Some(coalescer) = &mut self.coalescer
            && !coalescer.held.is_empty()
        {
            let number = self.id.number();
            coalescer.flush(self.unsettled.first(), |ack| link.answer(number, &ack));
        }
    }

    /// Says what is due; gives when the rest is, [`Instant::MAX`] if there is none.
    pub(crate) fn flush_due_acks(&mut self, link: &mut Link, now: Instant) -> Instant {
        let Some(coalescer) = &mut self.coalescer else {
            return Instant::MAX;
        };
        if coalescer.held.is_empty() {
            return Instant::MAX;
        }
        if coalescer.due == Instant::MAX {
            coalescer.due = now + coalescer.options.delay;
        }
        if coalescer.due <= now {
            self.flush_acks(link);
            return Instant::MAX;
        }
        coalescer.due
    }
}
