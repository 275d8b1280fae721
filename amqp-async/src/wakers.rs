//! Tasks that wait for the same thing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// Of the next [`WakerKey`]. One count for all sets, so that a task can wait in one and then in another.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Has the task of `cx` woken. Gives the waker that is of no use any more: its drop may run anything, and is not for under a lock.
#[must_use = "it is to be dropped where no lock is held"]
pub(crate) fn replace(waker: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match waker {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        waker => waker.replace(cx.waker().clone()),
    }
}

/// The tasks that wait for something, each with a key of its own.
#[derive(Debug, Default)]
pub(crate) struct WakerSet {
    wakers: BTreeMap<u64, Waker>,
}

/// A task's place in any [`WakerSet`]; empty at first.
#[derive(Debug, Default)]
pub(crate) struct WakerKey(Option<u64>);

impl WakerKey {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    pub(crate) const fn is_registered(&self) -> bool {
        self.0.is_some()
    }
}

impl WakerSet {
    /// Has the task woken once, however often this is called. Gives a former waker of it, as [`replace`].
    #[must_use = "it is to be dropped where no lock is held"]
    pub(crate) fn register(&mut self, key: &mut WakerKey, cx: &Context<'_>) -> Option<Waker> {
        let key = *key.0.get_or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
        match self.wakers.get(&key) {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => self.wakers.insert(key, cx.waker().clone()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Whoever waited does no more; gives its waker, as [`replace`].
    #[must_use = "it is to be dropped where no lock is held"]
    pub(crate) fn remove(&mut self, key: &WakerKey) -> Option<Waker> {
        self.wakers.remove(&key.0?)
    }

    /// Takes all of them, to be woken where no lock is held.
    pub(crate) fn drain_into(&mut self, wakes: &mut Vec<Waker>) {
        if !self.wakers.is_empty() {
            wakes.extend(std::mem::take(&mut self.wakers).into_values());
        }
    }
}
