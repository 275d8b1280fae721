//! Calls from other threads.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mio::Waker;

use super::Ctx;

/// How many calls may wait: a loop that does not run must not take all the memory there is.
const LIMIT: usize = 65_536;

/// Reaches an [`EventLoop`](super::EventLoop) from any thread.
pub struct Handle<S> {
    shared: Arc<Shared<S>>,
}

type Call<S> = Box<dyn FnOnce(&mut Ctx<'_, S>) + Send>;

struct Shared<S> {
    /// `None` when the loop is gone.
    calls: Mutex<Option<VecDeque<Call<S>>>>,
    waker: Waker,
}

/// Why a call was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The loop was dropped.
    #[error("the event loop is gone")]
    Gone,
    /// 65 536 calls wait already: the loop does not run.
    #[error("too many calls wait for the event loop")]
    Full,
    /// The system could not wake the loop; the call is made when it wakes for something else.
    #[error("the event loop could not be woken")]
    NotWoken,
}

impl<S> Handle<S> {
    pub(super) fn new(waker: Waker) -> Self {
        let calls = Mutex::new(Some(VecDeque::new()));
        Self {
            shared: Arc::new(Shared { calls, waker }),
        }
    }

    /// Calls that on the loop's thread, soon. (pika: `add_callback_threadsafe`.)
    ///
    /// # Errors
    /// [`PostError`].
    pub fn call_soon(&self, call: impl FnOnce(&mut Ctx<'_, S>) + Send + 'static) -> Result<(), PostError> {
        let mut calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = calls.as_mut().ok_or(PostError::Gone)?;
        if waiting.len() >= LIMIT {
            return Err(PostError::Full);
        }
        waiting.push_back(Box::new(call));
        drop(calls);
        self.shared.waker.wake().map_err(|_| PostError::NotWoken)
    }

    /// Those that wait now.
    pub(super) fn take(&self) -> VecDeque<Call<S>> {
        let mut calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        let calls = self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.as_ref().is_none_or(VecDeque::is_empty)
    }

    pub(super) fn end(&self) {
        let calls = self
            .shared
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // What they hold is dropped without the lock.
        drop(calls);
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}
