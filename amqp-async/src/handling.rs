//! A consumer that calls a handler, in the background.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::consumer::Consumer;
use crate::delivery::Delivery;
use crate::inbox::ConsumerEnd;
use crate::leaving::Counted;
use crate::sync::{Mutex, MutexGuard};
use crate::wakers::{WakerKey, WakerSet};

/// A consumer whose deliveries are handled in the background. Dropped, it takes nothing more, and what runs goes on to its end.
#[derive(Debug)]
#[must_use = "dropped, the consumer is cancelled"]
pub struct Handling {
    work: Arc<Work>,
}

#[derive(Debug, Default)]
struct Work {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many handlers run.
    running: usize,
    is_cancelled: bool,
    /// Nothing more is taken, and why if that was not asked for.
    end: Option<Option<ConsumerEnd>>,
    waiting: WakerSet,
}

/// A handler's failure: any error. Its delivery is rejected, as [`ProcessOptions`](crate::ProcessOptions) say.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

impl Handling {
    /// Takes nothing more, and waits until what runs is done.
    ///
    /// # Errors
    /// What had ended the consumer before.
    pub async fn stop(self) -> Result<(), ConsumerEnd> {
        self.work.change(|state| state.is_cancelled = true);
        self.ended().await
    }

    /// Waits until the consumer has ended and all handlers are done.
    ///
    /// # Errors
    /// What ended the consumer, but for [`stop`](Self::stop).
    pub async fn ended(&self) -> Result<(), ConsumerEnd> {
        let is_over = |state: &State| state.end.clone().filter(|_| state.running == 0);
        match self.work.until(is_over).await {
            Some(end) => Err(end),
            None => Ok(()),
        }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.work.change(|state| state.is_cancelled = true);
    }
}

/// Starts it: `handle` deals with each delivery.
pub(crate) fn start<F, Fut>(consumer: Consumer, limit: usize, handle: F) -> Handling
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let work = Arc::new(Work::default());
    let shared = Arc::clone(consumer.channel().shared());
    // Made here: the task may be dropped before it is polled.
    let ending = Ending(Arc::clone(&work));
    let task = take(consumer, ending, limit.max(1), handle);
    shared.spawn(Box::pin(task));
    Handling { work }
}

/// Takes deliveries while there is room for handlers.
async fn take<F, Fut>(mut consumer: Consumer, ending: Ending, limit: usize, handle: F)
where
    F: Fn(Delivery) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let work = Arc::clone(&ending.0);
    let handle = Arc::new(handle);
    let shared = Arc::clone(consumer.channel().shared());
    let mut key = WakerKey::new();
    let end = loop {
        {
            let mut room =
                pin!(work.until(|state| (state.running < limit || state.is_cancelled).then_some(())));
            poll_fn(|cx| {
                let poll = room.as_mut().poll(cx);
                if poll.is_pending() {
                    consumer.watch(cx);
                }
                poll
            })
            .await;
        }
        // Whatever comes first.
        let next = poll_fn(|cx| {
            if work.is_cancelled(&mut key, cx) {
                return Poll::Ready(None);
            }
            // Before it is taken: at no moment nobody knows of it.
            let counted = Counted::new(&shared);
            let next = consumer.poll_delivery(cx);
            next.map(|next| next.map(|next| next.map(|delivery| (delivery, counted))))
        });
        match next.await {
            None => break None,
            Some(Err(end)) => break Some(end),
            Some(Ok((delivery, counted))) => {
                let running = Running::new(&work, counted);
                let handle = Arc::clone(&handle);
                shared.spawn(Box::pin(async move {
                    handle(delivery).await;
                    drop(running);
                }));
            }
        }
    };
    drop(consumer);
    ending.0.change(|state| state.end = Some(end));
}

/// One that runs; counted until it is dropped, by a panic too.
struct Running {
    work: Arc<Work>,
    _counted: Counted,
}

impl Running {
    fn new(work: &Arc<Work>, counted: Counted) -> Self {
        work.lock().running += 1;
        Self {
            work: Arc::clone(work),
            _counted: counted,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.change(|state| state.running -= 1);
    }
}

/// Nothing more is taken, even if the task is dropped or a handler panics when it is called.
struct Ending(Arc<Work>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.end.get_or_insert(None);
        });
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut wakes = Vec::new();
        let mut state = self.lock();
        change(&mut state);
        state.waiting.drain_into(&mut wakes);
        drop(state);
        wakes.into_iter().for_each(Waker::wake);
    }

    fn is_cancelled(&self, key: &mut WakerKey, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        let is_cancelled = state.is_cancelled;
        let retired = (!is_cancelled).then(|| state.waiting.register(key, cx));
        drop(state);
        drop(retired);
        is_cancelled
    }

    async fn until<R>(&self, look: impl Fn(&State) -> Option<R>) -> R {
        let mut place = Place {
            work: self,
            key: WakerKey::new(),
        };
        poll_fn(|cx| {
            let mut state = place.work.lock();
            if let Some(found) = look(&state) {
                return Poll::Ready(found);
            }
            let retired = state.waiting.register(&mut place.key, cx);
            drop(state);
            drop(retired);
            Poll::Pending
        })
        .await
    }
}

/// Waits, and does so no more when dropped.
struct Place<'w> {
    work: &'w Work,
    key: WakerKey,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let retired = self.work.lock().waiting.remove(&self.key);
        drop(retired);
    }
}
