//! What may wait is done on a thread of its own, for a future that must not.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

/// What a call came to, for whoever waits for it.
struct Slot<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// An error is what it panicked with.
    answer: Option<thread::Result<T>>,
    waker: Option<Waker>,
}

/// Calls it on a thread of that name. It is not called if that cannot be had; an inner error is what it panicked with.
pub(crate) async fn on_thread<T: Send + 'static>(
    name: &str,
    call: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::Result<T>> {
    let state = State {
        answer: None,
        waker: None,
    };
    let slot = Arc::new(Slot {
        state: Mutex::new(state),
    });
    let filled = Arc::clone(&slot);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || filled.fill(catch_unwind(AssertUnwindSafe(call))))?;
    Ok(slot.answer().await)
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(&self, answer: thread::Result<T>) {
        let mut state = self.lock();
        state.answer = Some(answer);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    async fn answer(&self) -> thread::Result<T> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if let Some(answer) = state.answer.take() {
                return Poll::Ready(answer);
            }
            let retired = state.waker.replace(cx.waker().clone());
            drop(state);
            drop(retired);
            Poll::Pending
        })
        .await
    }
}
