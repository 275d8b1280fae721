//! How a connection is left in order. The driver does it, since it has the clock: whoever asked for it may go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use amqp_proto::{
    ChannelId, CloseReason, CloseReport, Counters, Delivery, InFlight, Instant, Shutdown, ShutdownAction,
};

use crate::channels::{Entry, Unsaid};
use crate::inbox::{ConsumerEnd, Link};
use crate::shared::{Shared, State};

/// What somebody wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Departure {
    /// Handlers finish, all within that time.
    Shutdown(Duration),
    /// They do not.
    Close,
}

/// It is under way.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// Not seen by the driver.
    wanted: Vec<Departure>,
    plan: Option<Shutdown>,
    /// When it began.
    before: Counters,
    /// When it was looked at last, before the close.
    seen: InFlight,
    /// How many deliveries that nobody had taken went back.
    given_back: usize,
    /// How many deliveries were in nobody's hand when their channel ended.
    at_rest: usize,
    /// How many publishes waited to be published again when a life of their channel ended: the core did not count them as lost.
    unsent: usize,
    /// How many are published again in another life: the core did.
    kept: usize,
}

/// Work that a [shutdown](crate::Connection::shutdown) waits for as for a handler, until it is dropped. It does not keep the connection
/// from being closed otherwise.
#[derive(Debug)]
#[must_use = "dropped, it is done"]
pub struct Working {
    _counted: Counted,
}

impl Working {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            _counted: Counted::new(shared),
        }
    }
}

/// A handler that runs, or that will if a delivery is there; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Shared>);

impl Counted {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.handlers.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.handlers.fetch_sub(1, Ordering::SeqCst);
        // In this order, as the driver looks at both in the other one: it is woken if it saw one more.
        if self.0.is_leaving.load(Ordering::SeqCst) {
            self.0.command(|_| ());
        }
    }
}

impl Shared {
    /// Somebody wants to leave.
    pub(crate) fn leave(&self, how: Departure) {
        self.is_leaving.store(true, Ordering::SeqCst);
        let handlers = self.handlers.load(Ordering::SeqCst);
        self.command(|state| state.leave(how, handlers));
    }
}

impl Leaving {
    fn take_plan(&mut self, now: Instant, close_timeout: Duration) -> Option<Shutdown> {
        for how in self.wanted.drain(..) {
            let wanted = match how {
                Departure::Shutdown(timeout) => Shutdown::draining(now, timeout, close_timeout),
                Departure::Close => Shutdown::closing(now, close_timeout),
            };
            match &mut self.plan {
                Some(plan) => plan.hasten(&wanted),
                None => self.plan = Some(wanted),
            }
        }
        self.plan.take()
    }

    /// The connection has ended.
    fn report(&self, reason: CloseReason, after: &Counters) -> CloseReport {
        let since = |count: fn(&Counters) -> u64| {
            usize::try_from(count(after).saturating_sub(count(&self.before))).unwrap_or(usize::MAX)
        };
        let has_cancelled = self.plan.as_ref().is_some_and(Shutdown::has_cancelled);
        let mut report = CloseReport::new(reason);
        report.consumers = if has_cancelled { self.seen.consumers } else { 0 };
        report.handlers = self.seen.handlers;
        report.untaken = self.seen.untaken;
        report.unsettled = since(|all| all.abandoned).saturating_sub(self.at_rest);
        report.given_back = self.given_back.saturating_add(since(|all| all.undeliverable));
        let lost = since(|all| all.lost).saturating_add(self.unsent);
        report.unconfirmed = lost.saturating_sub(self.kept);
        report
    }
}

impl State {
    fn leave(&mut self, how: Departure, handlers: usize) {
        if let Some(reason) = &self.closed {
            let report = || CloseReport::new(reason.clone());
            self.report.get_or_insert_with(report);
            return;
        }
        let (before, seen) = (self.counters(), self.seen(handlers));
        let leaving = self.leaving.get_or_insert_with(|| {
            Box::new(Leaving {
                wanted: Vec::new(),
                plan: None,
                before,
                seen,
                given_back: 0,
                at_rest: 0,
                unsent: 0,
                kept: 0,
            })
        });
        leaving.wanted.push(how);
    }

    /// No handle is left: nobody has anything to do any more.
    pub(crate) fn close_unattended(&mut self) {
        match &mut self.leaving {
            // Confirms may be waited for.
            Some(leaving) => leaving.wanted.push(Departure::Close),
            None => self.close(),
        }
    }

    /// Does what it is time for; so many handlers run. Gives when to look again at the latest.
    pub(crate) fn step_leaving(&mut self, now: Instant, handlers: &AtomicUsize) -> Option<Instant> {
        let close_timeout = self.connection.config().close_timeout;
        let mut plan = self.leaving.as_mut()?.take_plan(now, close_timeout)?;
        if self.is_lost() {
            // Nothing that would be waited for can come to its end: the deliveries are gone.
            plan.hasten(&Shutdown::closing(now, close_timeout));
        }
        let is_closing = self.is_closing;
        loop {
            let seen = self.seen(handlers.load(Ordering::SeqCst));
            if let Some(leaving) = self.leaving.as_mut().filter(|_| !is_closing) {
                leaving.seen = seen;
            }
            match plan.poll(now, &seen) {
                ShutdownAction::CancelConsumers => {
                    self.connection.cancel_consumers();
                    self.revoke();
                }
                ShutdownAction::Drain => self.end_consumers(),
                ShutdownAction::Close => {
                    self.close();
                    // That is written before anything else is done.
                    break;
                }
                ShutdownAction::GiveUp => self.connection.handle_disconnect(now, None),
                _ => break,
            }
        }
        let at = plan.poll_timeout();
        if let Some(leaving) = &mut self.leaving {
            leaving.plan = Some(plan);
        }
        at
    }

    /// What is under way.
    fn seen(&mut self, handlers: usize) -> InFlight {
        let (connection, channels) = (&mut self.connection, &self.channels);
        let mut seen = connection.in_flight();
        seen.handlers = handlers;
        seen.unsettled = 0;
        for entry in channels.iter() {
            let told = connection.channel(entry.id()).map_or(0, |core| core.unsettled());
            seen.unconfirmed += entry.unsent();
            seen.unsettled += told.saturating_sub(entry.untaken(entry.id(), false));
            seen.untaken += entry.untaken(entry.id(), true);
        }
        seen
    }

    /// Consumers end, and what they have not taken goes back.
    fn revoke(&mut self) {
        let mut waiting = Vec::new();
        for inbox in self.channels.iter_mut().flat_map(|entry| &mut entry.consumers) {
            if !inbox.no_ack {
                inbox.link.revoke();
                inbox.end(ConsumerEnd::Requested, &mut self.wakes);
                waiting.extend(inbox.drain());
            }
        }
        for delivery in &waiting {
            self.note_given_back(delivery.tag.channel(), 1);
        }
        self.give_back(waiting);
    }

    /// Nothing more comes.
    fn end_consumers(&mut self) {
        let inboxes = self.channels.iter_mut().flat_map(|entry| &mut entry.consumers);
        for inbox in inboxes.filter(|inbox| !inbox.takes_replies) {
            inbox.end(ConsumerEnd::Requested, &mut self.wakes);
        }
    }

    /// A consumer gives back what it had taken out of its inbox.
    pub(crate) fn give_back_ahead(&mut self, channel: ChannelId, ready: VecDeque<Delivery>, link: &Link) {
        self.note_given_back(channel, link.take());
        self.give_back(ready);
    }

    /// So many deliveries that nobody has taken go back. If the channel has ended they were counted then.
    pub(crate) fn note_given_back(&mut self, channel: ChannelId, count: usize) {
        let is_over = self.channels.find_mut(channel).is_none_or(|entry| !entry.is_open);
        let Some(leaving) = self.leaving.as_mut().filter(|_| !is_over) else {
            return;
        };
        leaving.given_back += count;
        let core = self.connection.channel(channel);
        if !core.is_ok_and(|core| core.is_open()) {
            // It closes, which gives them back.
            leaving.at_rest += count;
        }
    }

    /// A channel has ended, and with it what was not settled on it.
    pub(crate) fn note_at_rest(&mut self, channel: ChannelId) {
        let (Some(leaving), Some(entry)) = (&mut self.leaving, self.channels.find_mut(channel)) else {
            return;
        };
        let untaken = entry.untaken(channel, false);
        let inboxes = entry.consumers.iter().filter(|inbox| !inbox.no_ack);
        inboxes.for_each(|inbox| inbox.link.set(0));
        // It went back all the same.
        let unsaid = entry.unsaid.iter().filter(|unsaid| unsaid.goes_back()).count();
        leaving.given_back += untaken;
        leaving.at_rest += untaken + unsaid;
    }

    /// A life of a channel has ended. So many publishes waited then to be published again.
    pub(crate) fn note_unsent(&mut self, place: usize, unsent: usize) {
        if let (Some(leaving), Some(entry)) = (&mut self.leaving, self.channels.get(place)) {
            leaving.unsent += unsent;
            leaving.kept += entry.unsent();
        }
    }

    /// The connection has ended.
    pub(crate) fn finish_leaving(&mut self, reason: &CloseReason) {
        if let Some(mut leaving) = self.leaving.take() {
            leaving.unsent += self.channels.iter().map(Entry::unsent).sum::<usize>();
            self.report = Some(leaving.report(reason.clone(), &self.counters()));
        }
    }
}

impl Entry {
    /// How many deliveries came on that life of the channel that consumers have not taken: of those that want no acknowledgements, or of
    /// the others.
    fn untaken(&self, channel: ChannelId, no_ack: bool) -> usize {
        let inboxes = self.consumers.iter();
        let its = inboxes.filter(|inbox| inbox.no_ack == no_ack && inbox.id.channel() == channel);
        let its = its.filter(|inbox| !inbox.takes_replies);
        its.map(|inbox| inbox.len() + inbox.link.len()).sum()
    }
}

impl Unsaid {
    /// Whether the end of the channel does the same.
    const fn goes_back(&self) -> bool {
        matches!(
            self,
            Self::Nack { requeue: true, .. } | Self::Reject { requeue: true, .. }
        )
    }
}
