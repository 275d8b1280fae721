//! The publishes of a channel in confirm mode that the broker has not confirmed yet.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
mod route;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use core::fmt;

use self::route::RouteHash;
use crate::ChannelCloseReason;
use crate::wire::Problem;

/// What became of a publish on a channel in confirm mode (RabbitMQ page "Consumer Acknowledgements and Publisher Confirms").
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfirmOutcome {
    /// The broker took it over: it is in every queue that it was routed to, on disk where that was asked for. If it was not
    /// mandatory, that may be no queue at all.
    Acked,
    /// The broker could not handle it, whatever was heard of it before: a mandatory message that was returned and is nacked
    /// is this.
    Nacked,
    /// It was mandatory and went to no queue: the broker returned it and has confirmed it since.
    Returned,
    /// The channel ended before the broker said anything; the message may or may not have arrived. One that was returned
    /// but not confirmed is this too.
    Lost(ChannelCloseReason),
}

impl fmt::Display for ConfirmOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acked => f.write_str("confirmed"),
            Self::Nacked => f.write_str("refused by the broker"),
            Self::Returned => f.write_str("returned by the broker: no queue got it"),
            Self::Lost(reason) => write!(f, "not confirmed: {reason}"),
        }
    }
}

/// How much may be published on a channel before the broker has confirmed what went before. The default is no limit.
///
/// While nothing waits for its confirm one message may always go, however large it is, and whatever the limits are.
///
/// ```
/// use amqp_proto::ConfirmLimits;
/// let limits = ConfirmLimits::default().count(1000).octets(16 * 1024 * 1024);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConfirmLimits {
    /// How many publishes.
    pub count: usize,
    /// How many octets their bodies may have together.
    pub octets: usize,
}

impl ConfirmLimits {
    /// Sets [`count`](Self#structfield.count).
    #[must_use]
    pub const fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Sets [`octets`](Self#structfield.octets).
    #[must_use]
    pub const fn octets(mut self, octets: usize) -> Self {
        self.octets = octets;
        self
    }
}

impl Default for ConfirmLimits {
    fn default() -> Self {
        Self {
            count: usize::MAX,
            octets: usize::MAX,
        }
    }
}

/// What a confirm said of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Acked,
    Nacked,
    Returned,
}

impl From<Settled> for ConfirmOutcome {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Acked => Self::Acked,
            Settled::Nacked => Self::Nacked,
            Settled::Returned => Self::Returned,
        }
    }
}

/// A sliding window over the publishes of one channel: from the oldest that waits for its confirm to the last one made.
///
/// ```text
///   1  2  3 │ 4  5  6  7  8  9 │ 10
///   gone    │ w  d  r  w  w  w │ next        w: waits   r: waits, was returned   d: done, confirmed before an older one
///             ▲ the oldest, never d
/// ```
///
/// A publish is 16 octets here. Where nothing in it was returned or confirmed out of order, which is nearly always, a confirm
/// costs the same however many publishes it is for. Its memory is bounded by whoever asks [`admits`](Self::admits) before a
/// publish.
#[derive(Debug)]
pub(crate) struct ConfirmWindow {
    slots: VecDeque<Slot>,
    /// The tag of the last slot, and of the last publish ever.
    last: u64,
    /// Where the first slot's octets begin, and where the last one's end, counted from the first publish on. May wrap.
    begin: u64,
    end: u64,
    /// How many slots are done, and how many octets they have.
    done: usize,
    done_octets: u64,
    /// How many slots wait and were returned.
    returned: usize,
    /// Returns come in the order of the publishes: the next one is for this tag or a later one.
    next_return: u64,
    limits: ConfirmLimits,
    /// How many slots there may be, those that are done included.
    most_slots: usize,
    key: u64,
}

/// A publish.
#[derive(Debug)]
struct Slot {
    /// Where its octets end. Its size would do, but this way a whole prefix of the window has its size without a look at
    /// each slot.
    end: u64,
    /// Only a mandatory publish has one, since no other is ever returned.
    route: Option<RouteHash>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Returned,
    Done,
}

/// A window that is empty keeps room for that many publishes, 16 KiB.
const KEPT_SLOTS: usize = 1024;

/// Behind a publish that is never confirmed, later ones that are leave their slots. So many may there be for each that the limits
/// allow in flight.
const SLOTS_FOR_EACH: usize = 16;

impl ConfirmWindow {
    /// The window of a channel whose `confirm.select` was written. The key is for [`RouteHash`].
    #[must_use]
    pub(crate) fn new(limits: ConfirmLimits, key: u64) -> Self {
        let mut window = Self {
            slots: VecDeque::new(),
            last: 0,
            begin: 0,
            end: 0,
            done: 0,
            done_octets: 0,
            returned: 0,
            next_return: 1,
            limits,
            most_slots: 0,
            key,
        };
        window.set_limits(limits);
        window
    }

    /// Other limits from now on; what is in flight beyond them stays.
    pub(crate) fn set_limits(&mut self, limits: ConfirmLimits) {
        self.limits = limits;
        self.most_slots = limits.count.saturating_mul(SLOTS_FOR_EACH).max(KEPT_SLOTS);
    }

    /// Whether a publish of that many octets is within the limits now. While nothing is in flight every one is, else a
    /// message larger than the limit could never go.
    #[must_use]
    pub(crate) fn admits(&self, size: usize) -> bool {
        let outstanding = self.outstanding();
        outstanding == 0
            || (outstanding < self.limits.count
                && self.slots.len() < self.most_slots
                && self.octets().saturating_add(size) <= self.limits.octets)
    }

    /// What [`push`](Self::push) wants to know of a mandatory publish.
    #[must_use]
    pub(crate) fn route(&self, exchange: &[u8], routing_key: &[u8]) -> RouteHash {
        RouteHash::new(self.key, exchange, routing_key)
    }

    /// Registers a publish that is encoded in this same step, and gives its tag: 1, 2, 3, ….
    ///
    /// Limits are not looked at. A route is for a mandatory one only.
    pub(crate) fn push(&mut self, size: usize, mandatory_route: Option<RouteHash>) -> u64 {
        self.last = self.last.wrapping_add(1);
        self.end = self.end.wrapping_add(size as u64);
        self.slots.push_back(Slot {
            end: self.end,
            route: mandatory_route,
            state: State::Waiting,
        });
        self.last
    }

    /// `basic.ack` or `basic.nack` from the broker: reports what it settles, as the fewest ranges from a first to a last
    /// tag, in order. A tag is reported once in the life of a window, so a second confirm of it reports nothing.
    ///
    /// Tag 0 with `multiple` is everything outstanding (specification, `basic.ack`).
    ///
    /// What was returned is [`Settled::Returned`] when it is acked, but [`Settled::Nacked`] when it is nacked: the return
    /// was told on its own before, and that the broker failed must not be lost. RabbitMQ is not known to do both.
    ///
    /// # Errors
    /// [`Problem::UnknownConfirm`] for a tag that was never published, 0 without `multiple` included. Nothing changes.
    pub(crate) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        nack: bool,
        mut report: impl FnMut(u64, u64, Settled),
    ) -> Result<(), Problem> {
        let is_all = multiple && tag == 0;
        if tag > self.last || (tag == 0 && !is_all) {
            return Err(Problem::UnknownConfirm(tag));
        }
        let tag = if is_all { self.last } else { tag };
        let Some((index, &Slot { end, .. })) = self.slot(tag) else {
            return Ok(());
        };
        let is_plain = self.done == 0 && self.returned == 0;
        if is_plain && (multiple || index == 0) {
            let first = self.first();
            self.drop_first(index, end);
            report(first, tag, Settled::new(nack));
        } else {
            self.confirm_each(tag, multiple, nack, report);
        }
        self.shrink();
        Ok(())
    }

    /// [`confirm`](Self::confirm) with an ack, where it settles publishes in a row, all of them alike: from which to which. `None`
    /// where it does not, and then nothing has happened.
    #[inline(always)]
    pub(crate) fn plain_ack(&mut self, tag: u64, multiple: bool) -> Option<(u64, u64)> {
        let (index, &Slot { end, .. }) = self.slot(tag)?;
        if self.done != 0 || self.returned != 0 || !(multiple || index == 0) {
            return None;
        }
        let first = self.first();
        self.drop_first(index, end);
        self.shrink();
        Some((first, tag))
    }

    /// Drops the slots up to that place, whose octets end there.
    #[inline]
    fn drop_first(&mut self, index: usize, end: u64) {
        self.begin = end;
        match index {
            0 => drop(self.slots.pop_front()), // the same as below, at half the price
            _ => drop(self.slots.drain(..=index)),
        }
    }

    /// `basic.return` from the broker: the publish that it is about, which an ack settles as [`Settled::Returned`] from then
    /// on. `None` if there is none, as for a message that was published before `confirm.select`.
    ///
    /// On a channel returns come in the order of the publishes, each before the confirm of its message; confirms come in
    /// any order and for many at once, so the confirm that comes next says nothing. Hence a return is for the first
    /// mandatory publish to that exchange with that routing key that still waits, after the one returned last. What
    /// waits before that one was routed, since its return would have come first.
    ///
    /// This is wrong in one case: of two equal routes in flight the earlier one still led to a queue and the later one does
    /// not any more, because a binding or queue went in between. Then the earlier one counts as returned in place of the
    /// later one. The `sequence`, which is the tag as it came back in the message's own headers, leaves no doubt.
    ///
    /// A return that matches looks at slots that none looks at again. One that does not looks at all of the window.
    pub(crate) fn returned(
        &mut self,
        exchange: &[u8],
        routing_key: &[u8],
        sequence: Option<u64>,
    ) -> Option<u64> {
        let tag = match sequence {
            Some(tag) => tag,
            None => self.next_with(self.route(exchange, routing_key))?,
        };
        let (index, _) = self.slot(tag)?;
        let slot = self.slots.get_mut(index)?;
        if slot.state != State::Waiting || slot.route.is_none() {
            return None;
        }
        slot.state = State::Returned;
        self.returned = self.returned.saturating_add(1);
        self.next_return = self.next_return.max(tag.wrapping_add(1));
        Some(tag)
    }

    /// The channel has ended: reports everything outstanding, as the fewest ranges from a first to a last tag, in order.
    /// Nothing is outstanding afterwards, and tags go on where they were.
    pub(crate) fn lose(&mut self, mut report: impl FnMut(u64, u64)) {
        if let Some(last) = self.slots.len().checked_sub(1) {
            let is_lost = |state| (state != State::Done).then_some(());
            self.settle_all(last, is_lost, |first, last, ()| report(first, last));
        }
        self.shrink();
    }

    /// How many publishes wait for their confirm.
    #[must_use]
    pub(crate) fn outstanding(&self) -> usize {
        self.slots.len().saturating_sub(self.done)
    }

    /// How many octets these have together.
    #[must_use]
    pub(crate) fn octets(&self) -> usize {
        let octets = self.end.wrapping_sub(self.begin).wrapping_sub(self.done_octets);
        usize::try_from(octets).unwrap_or(usize::MAX)
    }

    /// The tag of the last publish; 0 before the first.
    #[must_use]
    pub(crate) const fn last_tag(&self) -> u64 {
        self.last
    }

    /// Whether that publish was made and waits for its confirm.
    #[must_use]
    pub(crate) fn is_outstanding(&self, tag: u64) -> bool {
        self.slot(tag).is_some_and(|(_, slot)| slot.state != State::Done)
    }

    /// The tag of the oldest publish that waits for its confirm.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<u64> {
        (!self.slots.is_empty()).then(|| self.first())
    }

    /// The tag of the first slot, or of the next publish.
    fn first(&self) -> u64 {
        self.last.wrapping_add(1).wrapping_sub(self.slots.len() as u64)
    }

    /// A publish that is in the window, with its place.
    fn slot(&self, tag: u64) -> Option<(usize, &Slot)> {
        let index = usize::try_from(tag.checked_sub(self.first())?).ok()?;
        Some((index, self.slots.get(index)?))
    }

    /// The tag that a return of this route is for.
    fn next_with(&self, route: RouteHash) -> Option<u64> {
        let first = self.first();
        let looked_at = usize::try_from(self.next_return.saturating_sub(first)).ok()?;
        let (index, _) = (self.slots.iter().enumerate().skip(looked_at))
            .find(|(_, slot)| slot.route == Some(route) && slot.state == State::Waiting)?;
        Some(first.wrapping_add(index as u64))
    }

    /// A confirm where not all slots are alike. Apart, so that the usual one does not pay for what this one needs.
    #[cold]
    #[inline(never)]
    fn confirm_each(
        &mut self,
        tag: u64,
        multiple: bool,
        nack: bool,
        mut report: impl FnMut(u64, u64, Settled),
    ) {
        let Some((index, _)) = self.slot(tag) else {
            return;
        };
        if multiple {
            self.settle_all(index, |state| state.settled(nack), report);
        } else if let Some(settled) = self.settle(index, nack) {
            report(tag, tag, settled);
        }
        while self.slots.front().is_some_and(|slot| slot.state == State::Done) {
            self.pop();
        }
    }

    /// One confirm, anywhere in the window.
    fn settle(&mut self, index: usize, nack: bool) -> Option<Settled> {
        let before = index.checked_sub(1).and_then(|before| self.slots.get(before));
        let begin = before.map_or(self.begin, |slot| slot.end);
        let slot = self.slots.get_mut(index)?;
        let settled = slot.state.settled(nack)?;
        self.returned = self
            .returned
            .saturating_sub((slot.state == State::Returned).into());
        slot.state = State::Done;
        self.done = self.done.saturating_add(1);
        self.done_octets = self.done_octets.wrapping_add(slot.end.wrapping_sub(begin));
        Some(settled)
    }

    /// Takes all slots up to this one out, and reports what `settled` says of their states, in ranges of the same.
    fn settle_all<T: Copy + PartialEq>(
        &mut self,
        index: usize,
        settled: impl Fn(State) -> Option<T>,
        mut report: impl FnMut(u64, u64, T),
    ) {
        let mut range = None;
        let mut tag = self.first();
        for _ in 0..=index {
            let now = self.pop().and_then(&settled);
            range = match (range, now) {
                (Some((first, before)), Some(now)) if before == now => Some((first, now)),
                (range, now) => {
                    if let Some((first, before)) = range {
                        report(first, tag.wrapping_sub(1), before);
                    }
                    now.map(|now| (tag, now))
                }
            };
            tag = tag.wrapping_add(1);
        }
        if let Some((first, before)) = range {
            report(first, tag.wrapping_sub(1), before);
        }
    }

    /// Gives back the memory of a burst when it is over.
    fn shrink(&mut self) {
        if self.slots.is_empty() && self.slots.capacity() > KEPT_SLOTS {
            self.slots.shrink_to(KEPT_SLOTS);
        }
    }

    /// Takes out the first slot; what is known of slots further on stays right.
    fn pop(&mut self) -> Option<State> {
        let Slot { end, state, .. } = self.slots.pop_front()?;
        match state {
            State::Waiting => {}
            State::Returned => self.returned = self.returned.saturating_sub(1),
            State::Done => {
                self.done = self.done.saturating_sub(1);
                self.done_octets = self.done_octets.wrapping_sub(end.wrapping_sub(self.begin));
            }
        }
        self.begin = end;
        Some(state)
    }
}

impl Settled {
    const fn new(nack: bool) -> Self {
        if nack { Self::Nacked } else { Self::Acked }
    }
}

impl State {
    /// What a confirm makes of it.
    const fn settled(self, nack: bool) -> Option<Settled> {
        match self {
            Self::Returned if !nack => Some(Settled::Returned),
            Self::Waiting | Self::Returned => Some(Settled::new(nack)),
            Self::Done => None,
        }
    }
}
