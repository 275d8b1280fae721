//! Waiting for a future on the caller's thread.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::io_thread::hurry;

/// Wakes the thread that waits.
struct Parker {
    thread: Thread,
    is_woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

thread_local! {
    /// One for all that the thread waits for: one after the other, and to be woken once too often does no harm.
    static WAITING: Waiting = Waiting::of_this_thread();
}

/// A thread that waits, and what wakes it.
struct Waiting {
    parker: Arc<Parker>,
    waker: Waker,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// The answer to what was just asked: this thread says nothing more before it comes.
    Answer,
    /// Something of the many things that are under way.
    Any,
}

/// Waits for so long at most; none if it took longer. By the caller's own clock: it does not depend on the I/O thread.
pub(crate) fn wait_for<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    // A moment that the clock does not have never comes.
    wait(For::Any, || Instant::now().checked_add(limit), future)
}

/// The same for the answer to what the future asks.
pub(crate) fn ask<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    wait(For::Answer, || Instant::now().checked_add(limit), future)
}

/// The same until that moment at most, if there is one.
pub(crate) fn ask_until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    wait(For::Answer, || deadline, future)
}

/// Waits; until when at most is asked for when there is something to wait for.
pub(crate) fn wait<T>(
    what: For,
    deadline: impl FnOnce() -> Option<Instant>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut call = Some((deadline, pin!(future)));
    let mut run = |waiting: &Waiting| {
        let (deadline, future) = call.take()?;
        waiting.wait(what, deadline, future)
    };
    // A thread that is ending has none any more.
    WAITING
        .try_with(&mut run)
        .unwrap_or_else(|_| run(&Waiting::of_this_thread()))
}

impl Waiting {
    fn of_this_thread() -> Self {
        let parker = Arc::new(Parker {
            thread: thread::current(),
            is_woken: AtomicBool::new(false),
        });
        Self {
            waker: Waker::from(Arc::clone(&parker)),
            parker,
        }
    }

    fn wait<T>(
        &self,
        what: For,
        deadline: impl FnOnce() -> Option<Instant>,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut cx = Context::from_waker(&self.waker);
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            // Most calls have nothing to wait for, and need no clock.
            return Some(value);
        }
        let deadline = deadline();
        loop {
            hurry(what);
            while !self.parker.is_woken.swap(false, Ordering::Acquire) {
                let Some(deadline) = deadline else {
                    thread::park();
                    continue;
                };
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return Some(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn, ready};

    #[test]
    fn what_is_ready_is_taken_whatever_the_limit() {
        assert_eq!(wait_for(Duration::ZERO, ready(7)), Some(7));
        assert_eq!(wait_for(Duration::MAX, ready(7)), Some(7));
    }

    #[test]
    fn it_ends_at_the_limit() {
        let begin = Instant::now();
        assert_eq!(wait_for(Duration::from_millis(20), pending::<()>()), None);
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn another_thread_wakes_it() {
        let mut thread = None;
        let woken = poll_fn(|cx| match thread.take() {
            Some(_) => Poll::Ready(7),
            None => {
                let waker = cx.waker().clone();
                thread = Some(thread::spawn(move || waker.wake()));
                Poll::Pending
            }
        });
        assert_eq!(wait_for(Duration::from_secs(30), woken), Some(7));
    }
}
