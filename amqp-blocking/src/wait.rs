//! Waiting for a future on the caller's thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

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

/// Waits for so long at most; none if it took longer. By the caller's own clock: it does not depend on the I/O thread.
pub(crate) fn wait_for<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    // A moment that the clock does not have never comes.
    wait_until(Instant::now().checked_add(limit), future)
}

/// Waits until that moment at most, if there is one.
pub(crate) fn wait_until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    let parker = Arc::new(Parker {
        thread: thread::current(),
        is_woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&parker));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
            return Some(value);
        }
        while !parker.is_woken.swap(false, Ordering::Acquire) {
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
