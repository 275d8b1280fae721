//! What happens to a connection, for whoever wants to watch.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::{ChannelCloseReason, CloseReason, Event, GiveUpReason, Lint};
use futures_core::Stream;

use crate::credentials::RefreshError;
use crate::recovery::RecoveryReport;
use crate::shared::Shared;
use crate::wakers;

/// How many events wait for a watcher; it misses older ones.
const MOST_WAITING: usize = 256;

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The broker takes no publishes (RabbitMQ page "Blocked Connection Notifications").
    Blocked {
        /// The broker's words, such as `low on memory`.
        reason: Arc<str>,
    },
    /// It takes them again.
    Unblocked,
    /// More waits to be written than [`Config::backpressure_multiplier`](amqp_proto::Config::backpressure_multiplier) times the mean
    /// frame: the broker or the network is slower than the program.
    BackpressureOn {
        /// What waits, in octets.
        queued: usize,
        /// The limit, in octets.
        limit: usize,
    },
    /// Less than half of that waits.
    BackpressureOff {
        /// What waits, in octets.
        queued: usize,
    },
    /// A channel that the broker had closed is open again ([`Reopen`](crate::Reopen)).
    ChannelReopened {
        /// Its number now.
        number: u16,
        /// Why it had been closed.
        reason: ChannelCloseReason,
    },
    /// Something was asked for that the broker's release refuses or has given up. It is asked for all the same.
    Warning(Lint),
    /// A delivery was dropped without being settled, and went back to its queue: mostly an acknowledgement was forgotten. Told for
    /// the first one, the second, the fourth, the eighth and so on.
    DeliveryDropped {
        /// The number of the channel.
        channel: u16,
        /// How many there were so far, on the whole connection.
        count: u64,
    },
    /// The broker has a new secret ([`CredentialsProvider`](crate::CredentialsProvider)).
    CredentialsRefreshed {
        /// How long it is valid from when the provider gave it; `None` is for ever: no other one will be asked for.
        valid_for: Option<Duration>,
    },
    /// There was no new secret, or the broker did not take it over. The connection goes on with the one it has.
    CredentialsNotRefreshed {
        /// Why.
        error: RefreshError,
        /// When another one is asked for; `None` if the attempts are used up.
        retry_in: Option<Duration>,
    },
    /// The secret has run out without having been renewed. RabbitMQ 3.10 with OAuth 2 then refuses what is asked for (403, which ends
    /// channels) until it has another one. Told once; new ones are asked for as before.
    CredentialsExpired,
    /// It was lost, and is made again ([`Recovery`](crate::Recovery)).
    Lost {
        /// Why.
        reason: CloseReason,
    },
    /// It is tried to have it again.
    Retrying {
        /// Why it is not there.
        reason: CloseReason,
        /// How long is waited before that.
        delay: Duration,
    },
    /// It is there again, with everything that was on it but what the report lists.
    Recovered(Arc<RecoveryReport>),
    /// It is not tried any more; [`Closed`](Self::Closed) follows.
    GaveUp(GiveUpReason),
    /// It ended. The last one.
    Closed(CloseReason),
}

impl ConnectionEvent {
    /// If the core's event is for watchers.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Blocked { reason } => Self::Blocked {
                reason: Arc::clone(reason),
            },
            Event::Unblocked => Self::Unblocked,
            Event::BackpressureOn { queued, limit } => Self::BackpressureOn {
                queued: *queued,
                limit: *limit,
            },
            Event::BackpressureOff { queued } => Self::BackpressureOff { queued: *queued },
            _ => return None,
        })
    }
}

/// The events of a connection from the moment it was asked for; a stream that ends with the connection. Who is more than 256 events
/// behind misses the oldest ones. It does not keep the connection from being closed.
#[derive(Debug)]
pub struct Events {
    shared: Arc<Shared>,
    number: u64,
    has_news: Arc<AtomicBool>,
    /// Who is woken when there is something: a loop that also waits for other things asks often, and mostly in vain.
    waiting: Option<Waker>,
}

/// Who watches.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    watchers: BTreeMap<u64, Watcher>,
    next: u64,
}

#[derive(Debug, Default)]
struct Watcher {
    events: VecDeque<ConnectionEvent>,
    waker: Option<Waker>,
    /// Something was told since its owner has looked last.
    has_news: Arc<AtomicBool>,
}

impl Watchers {
    pub(crate) fn tell(&mut self, event: &ConnectionEvent, wakes: &mut Vec<Waker>) {
        for watcher in self.watchers.values_mut() {
            if watcher.events.len() == MOST_WAITING {
                watcher.events.pop_front();
            }
            watcher.events.push_back(event.clone());
            watcher.has_news.store(true, Ordering::Release);
            wakes.extend(watcher.waker.take());
        }
    }
}

impl Events {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let mut state = shared.lock();
        let closed = state.closed.clone();
        let watchers = &mut state.watchers;
        watchers.next += 1;
        let number = watchers.next;
        let mut watcher = Watcher::default();
        watcher.events.extend(closed.map(ConnectionEvent::Closed));
        let has_news = Arc::clone(&watcher.has_news);
        watchers.watchers.insert(number, watcher);
        drop(state);
        Self {
            shared: Arc::clone(shared),
            number,
            has_news,
            waiting: None,
        }
    }

    /// The next event; `None` behind [`ConnectionEvent::Closed`].
    pub async fn next(&mut self) -> Option<ConnectionEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &Context<'_>) -> Poll<Option<ConnectionEvent>> {
        let is_waiting = |waker: &Waker| waker.will_wake(cx.waker());
        if self.waiting.as_ref().is_some_and(is_waiting) && !self.has_news.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.look(cx)
    }

    fn look(&mut self, cx: &Context<'_>) -> Poll<Option<ConnectionEvent>> {
        self.waiting = None;
        let mut locked = self.shared.lock();
        let state = &mut *locked;
        let is_closed = state.closed.is_some();
        let Some(watcher) = state.watchers.watchers.get_mut(&self.number) else {
            return Poll::Ready(None);
        };
        watcher.has_news.store(false, Ordering::Relaxed);
        match watcher.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if is_closed => Poll::Ready(None),
            None => {
                state.retired.extend(wakers::replace(&mut watcher.waker, cx));
                self.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream for Events {
    type Item = ConnectionEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let watcher = state.watchers.watchers.remove(&self.number);
        state.retired.extend(watcher.and_then(|watcher| watcher.waker));
    }
}
