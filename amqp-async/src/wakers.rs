//! Tasks that wait for the same thing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

/// Of the next [`WakerKey`]. One count for all sets, so that a task can wait in one and then in another.
static NEXT: AtomicU64 = AtomicU64::new(0);

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
    /// Has the task woken once, however often this is called.
    pub(crate) fn register(&mut self, key: &mut WakerKey, cx: &Context<'_>) {
        let key = *key.0.get_or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
        match self.wakers.get_mut(&key) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => drop(self.wakers.insert(key, cx.waker().clone())),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.wakers.len()
    }

    /// Whoever waited does no more.
    pub(crate) fn remove(&mut self, key: &WakerKey) {
        if let Some(key) = key.0 {
            self.wakers.remove(&key);
        }
    }

    /// Takes all of them, to be woken where no lock is held.
    pub(crate) fn drain_into(&mut self, wakes: &mut Vec<Waker>) {
        if !self.wakers.is_empty() {
            wakes.extend(std::mem::take(&mut self.wakers).into_values());
        }
    }
}
