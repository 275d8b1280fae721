//! Callbacks that wait for their time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// A timer that was set, by which it can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(Instant, u64);

pub(super) struct Timers<F> {
    waiting: BTreeMap<TimerId, F>,
    next: u64,
}

impl<F> Timers<F> {
    pub(super) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
        }
    }

    /// `None` if that time never comes.
    pub(super) fn add(&mut self, now: Instant, delay: Duration, callback: F) -> Option<TimerId> {
        let id = TimerId(now.checked_add(delay)?, self.next);
        self.next = self.next.wrapping_add(1);
        self.waiting.insert(id, callback);
        Some(id)
    }

    pub(super) fn remove(&mut self, id: TimerId) -> bool {
        self.waiting.remove(&id).is_some()
    }

    /// The next one whose time has come.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<F> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(id, _)| id.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<F> fmt::Debug for Timers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} timers", self.waiting.len())
    }
}
