//! Lists of callbacks that may change while they are called.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A callback that was added, by which it can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallbackId(u64);

/// Callbacks in the order in which they were added.
pub(super) struct Callbacks<F> {
    /// `None` while it is being called.
    list: Vec<(CallbackId, Option<F>)>,
}

impl<F> Callbacks<F> {
    pub(super) const fn new() -> Self {
        Self { list: Vec::new() }
    }

    pub(super) fn add(&mut self, callback: F) -> CallbackId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = CallbackId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.list.push((id, Some(callback)));
        id
    }

    pub(super) fn remove(&mut self, id: CallbackId) -> bool {
        let before = self.list.len();
        self.list.retain(|(known, _)| *known != id);
        self.list.len() != before
    }

    /// Those that are there now.
    pub(super) fn ids(&self) -> Vec<CallbackId> {
        self.list.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn take(&mut self, id: CallbackId) -> Option<F> {
        let (_, callback) = self.list.iter_mut().find(|(known, _)| *known == id)?;
        callback.take()
    }

    /// After it was called; it is dropped if it was removed meanwhile.
    pub(super) fn put_back(&mut self, id: CallbackId, callback: F) {
        if let Some((_, place)) = self.list.iter_mut().find(|(known, _)| *known == id) {
            *place = Some(callback);
        }
    }
}

impl<F> fmt::Debug for Callbacks<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} callbacks", self.list.len())
    }
}
