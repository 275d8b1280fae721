//! What is to be done on the thread of whoever waits: callbacks, timers, deliveries.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use amqp_async::{ConnectionEvent, ConsumerEnd, Events, HandlerError, Returns};
use amqp_proto::{CloseReason, Returned};

use crate::channel::{BlockingChannel, Inner};
use crate::connection::BlockingConnection;
use crate::delivery::Delivery;
use crate::error::PostError;
use crate::wait::{For, wait};

/// How many callbacks may wait to be run.
const MOST_CALLS: usize = 65_536;

/// What is further away than that, some 68 years, never comes.
const FAR: Duration = Duration::from_secs(1 << 31);

/// A callback that runs once.
pub(crate) type Call = Box<dyn FnOnce(&BlockingConnection) + Send>;

/// A callback for what happens to the connection. It says whether the event was one of those it is for.
pub(crate) type EventCallback = Box<dyn FnMut(&BlockingConnection, &ConnectionEvent) -> bool + Send>;

/// A callback for what comes back to a channel.
pub(crate) type ReturnCallback = Box<dyn FnMut(&BlockingChannel, Returned) + Send>;

/// A callback for consumers of a channel that end.
pub(crate) type CancelCallback = Box<dyn FnMut(&BlockingChannel, &str, &ConsumerEnd) + Send>;

/// A consumer's handler.
pub(crate) type Handler = Box<dyn FnMut(&BlockingChannel, Delivery) -> Result<(), HandlerError> + Send>;

/// A timer that was set, by which it can be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(Instant, u64);

/// A callback that was added, by which it can be [removed](BlockingConnection::remove_callback).
#[derive(Debug, Clone)]
pub struct CallbackId {
    is_removed: Arc<AtomicBool>,
}

/// A callback that can be removed, while it runs too. It is out of its list while it runs.
pub(crate) struct Removable<F> {
    id: CallbackId,
    callback: F,
}

/// A consumer with its handler. Whose handler runs is taken out of the list meanwhile.
pub(crate) struct Registered {
    pub(crate) channel: Arc<Inner>,
    pub(crate) tag: Arc<str>,
    pub(crate) consumer: amqp_async::Consumer,
    pub(crate) handler: Handler,
}

/// Who listens for what comes back to a channel. It is out of the list while its callback runs.
pub(crate) struct Listening {
    pub(crate) channel: Weak<Inner>,
    /// The channel's.
    pub(crate) key: u64,
    pub(crate) returns: Returns,
    pub(crate) callback: Removable<ReturnCallback>,
}

/// Shared by the handles of a connection. Its lock is never held while a callback runs.
#[derive(Debug)]
pub(crate) struct Dispatch {
    state: Mutex<State>,
}

pub(crate) struct State {
    events: Events,
    closed: Option<CloseReason>,
    on_event: Vec<Removable<EventCallback>>,
    /// Those run, and are not in the list: the next event waits for them.
    is_telling: bool,
    on_return: Vec<Listening>,
    /// Each with its channel's key.
    on_cancel: Vec<(u64, Removable<CancelCallback>)>,
    calls: VecDeque<Call>,
    timers: BTreeMap<TimerId, Call>,
    /// Who gets the next turn is first.
    consumers: VecDeque<Box<Registered>>,
    /// Consumers whose handler runs, by channel and tag, and whether they were cancelled meanwhile.
    running: Vec<(u64, Arc<str>, bool)>,
    /// The threads that wait.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

/// What to do next.
pub(crate) enum Turn<T> {
    /// What was looked for.
    Found(T),
    Call(Call),
    /// With the callbacks, to be run and then put back.
    Event(ConnectionEvent, Vec<Removable<EventCallback>>),
    /// Something came back; none if nothing more does. To be dropped where no lock is held.
    Returned(Listening, Option<Returned>),
    /// Nothing more comes.
    Closed(CloseReason),
    /// It took too long.
    Late,
}

/// What a consumer has.
pub(crate) enum Taken {
    Delivery(Box<Registered>, amqp_async::Delivery),
    /// It has ended, and is no longer in the list. To be dropped where no lock is held.
    End(Box<Registered>, ConsumerEnd),
}

impl Dispatch {
    pub(crate) fn new(events: Events) -> Self {
        let state = State {
            events,
            closed: None,
            on_event: Vec::new(),
            is_telling: false,
            on_return: Vec::new(),
            on_cancel: Vec::new(),
            calls: VecDeque::new(),
            timers: BTreeMap::new(),
            consumers: VecDeque::new(),
            running: Vec::new(),
            waiting: BTreeMap::new(),
            next: 0,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that those who wait may have to know.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        result
    }

    pub(crate) fn next_key(&self) -> u64 {
        self.lock().next_key()
    }

    /// Waits until `look` finds something, a callback is due, or that moment has come.
    pub(crate) fn wait<T>(
        &self,
        deadline: Option<Instant>,
        mut look: impl FnMut(&mut State, &mut Context<'_>) -> Poll<T>,
    ) -> Turn<T> {
        let mut place = Place {
            dispatch: self,
            key: None,
        };
        loop {
            // Until when, as soon as there is something to wait for.
            let waits = Cell::new(None);
            let looking = poll_fn(|cx| {
                let mut state = self.lock();
                if let Poll::Ready(turn) = state.poll_turn(cx, &mut look) {
                    return Poll::Ready(Some(turn));
                }
                let until = earlier(deadline, state.next_timer());
                if waits.get().is_some_and(|waits| earlier(waits, until) != waits) {
                    // A timer was set that comes before what is waited for.
                    return Poll::Ready(None);
                }
                waits.set(Some(waits.get().unwrap_or(until)));
                place.register(&mut state, cx);
                Poll::Pending
            });
            match wait(For::Any, || waits.get().flatten(), looking) {
                Some(Some(turn)) => return turn,
                None if waits.get().flatten() == deadline => return Turn::Late,
                Some(None) | None => {}
            }
        }
    }

    pub(crate) fn post(&self, call: Call) -> Result<(), PostError> {
        // A call that is not taken is dropped where no lock is held.
        let refused = self.change(|state| {
            if state.closed.is_some() {
                return Err((PostError::Closed, call));
            }
            if state.calls.len() >= MOST_CALLS {
                return Err((PostError::Full, call));
            }
            state.calls.push_back(call);
            Ok(())
        });
        refused.map_err(|(error, _)| error)
    }

    pub(crate) fn set_timer(&self, delay: Duration, call: Call) -> TimerId {
        let now = Instant::now();
        let at = now.checked_add(delay.min(FAR)).unwrap_or(now);
        self.change(|state| {
            let id = TimerId(at, state.next_key());
            state.timers.insert(id, call);
            id
        })
    }

    pub(crate) fn remove_timer(&self, id: TimerId) -> bool {
        let removed = self.lock().timers.remove(&id);
        removed.is_some()
    }

    pub(crate) fn add_event_callback(&self, callback: EventCallback) -> CallbackId {
        let (id, callback) = Removable::new(callback);
        self.lock().on_event.push(callback);
        id
    }

    /// Says whether it was still there.
    pub(crate) fn remove_callback(&self, id: &CallbackId) -> bool {
        let was_there = !id.is_removed.swap(true, Ordering::AcqRel);
        let mut state = self.lock();
        let on_event = &mut state.on_event;
        let events: Vec<_> = on_event
            .extract_if(.., |callback| callback.is_removed())
            .collect();
        let on_return = &mut state.on_return;
        let returns: Vec<_> = on_return
            .extract_if(.., |listening| listening.callback.is_removed())
            .collect();
        let on_cancel = &mut state.on_cancel;
        let cancels: Vec<_> = on_cancel
            .extract_if(.., |(_, callback)| callback.is_removed())
            .collect();
        // They are dropped where no lock is held.
        drop(state);
        drop((events, returns, cancels));
        was_there
    }

    pub(crate) fn put_event_callbacks_back(&self, mut callbacks: Vec<Removable<EventCallback>>) {
        callbacks.retain(|callback| !callback.is_removed());
        self.change(|state| {
            // Those that were added meanwhile come later.
            callbacks.append(&mut state.on_event);
            state.on_event = callbacks;
            state.is_telling = false;
        });
    }

    pub(crate) fn add_listening(&self, listening: Listening) {
        if listening.callback.is_removed() {
            return;
        }
        self.change(|state| state.on_return.push(listening));
    }

    pub(crate) fn add_cancel_callback(&self, channel: u64, callback: CancelCallback) -> CallbackId {
        let (id, callback) = Removable::new(callback);
        self.lock().on_cancel.push((channel, callback));
        id
    }

    /// The callbacks for that channel's consumers, to be run and then put back.
    pub(crate) fn take_cancel_callbacks(&self, channel: u64) -> Vec<(u64, Removable<CancelCallback>)> {
        let all = &mut self.lock().on_cancel;
        all.extract_if(.., |(of, _)| *of == channel).collect()
    }

    pub(crate) fn put_cancel_callbacks_back(&self, mut callbacks: Vec<(u64, Removable<CancelCallback>)>) {
        callbacks.retain(|(_, callback)| !callback.is_removed());
        let mut state = self.lock();
        // Those that were added meanwhile come later.
        callbacks.append(&mut state.on_cancel);
        state.on_cancel = callbacks;
    }

    /// Who listens on that channel, but for those whose callback runs.
    pub(crate) fn take_listening(&self, channel: u64) -> Vec<Listening> {
        let all = &mut self.lock().on_return;
        all.extract_if(.., |listening| listening.key == channel).collect()
    }

    pub(crate) fn add_consumer(&self, registered: Box<Registered>) {
        self.change(|state| state.consumers.push_back(registered));
    }

    /// All consumers of that channel. Those whose handlers run are given back to nobody when that is over.
    pub(crate) fn take_consumers(&self, channel: u64) -> VecDeque<Box<Registered>> {
        self.change(|state| {
            for running in &mut state.running {
                running.2 |= running.0 == channel;
            }
            let all = std::mem::take(&mut state.consumers);
            let (taken, left) = all.into_iter().partition(|entry| entry.channel.key == channel);
            state.consumers = left;
            taken
        })
    }

    /// One consumer of that channel. If its handler runs it is cancelled afterwards, and if it is not known nothing happens.
    pub(crate) fn take_consumer(&self, channel: u64, tag: &str) -> Option<Box<Registered>> {
        self.change(|state| {
            for running in &mut state.running {
                running.2 |= running.0 == channel && &*running.1 == tag;
            }
            let mut entries = state.consumers.iter();
            let position = entries.position(|entry| entry.channel.key == channel && &*entry.tag == tag)?;
            state.consumers.remove(position)
        })
    }

    /// The handler is done. Gives the consumer back if it was cancelled meanwhile.
    pub(crate) fn put_consumer_back(&self, registered: Box<Registered>) -> Option<Box<Registered>> {
        self.change(|state| {
            if state.is_cancelled(&registered) {
                return Some(registered);
            }
            state.consumers.push_back(registered);
            None
        })
    }

    /// The handler did not come to its end.
    pub(crate) fn forget_running(&self, channel: u64, tag: &str) {
        let mut state = self.lock();
        state
            .running
            .retain(|(of, name, _)| (*of, &**name) != (channel, tag));
    }
}

impl<F> Removable<F> {
    pub(crate) fn new(callback: F) -> (CallbackId, Self) {
        let id = CallbackId {
            is_removed: Arc::default(),
        };
        (id.clone(), Self { id, callback })
    }

    fn is_removed(&self) -> bool {
        self.id.is_removed.load(Ordering::Acquire)
    }

    pub(crate) fn id(&self) -> CallbackId {
        self.id.clone()
    }

    /// None if it was removed.
    pub(crate) fn get(&mut self) -> Option<&mut F> {
        (!self.is_removed()).then_some(&mut self.callback)
    }
}

impl State {
    fn next_key(&mut self) -> u64 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|(id, _)| id.0)
    }

    fn take_due(&mut self) -> Option<Call> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= Instant::now()).then(|| first.remove())
    }

    fn poll_turn<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: &mut impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<Turn<T>> {
        if let Some(call) = self.calls.pop_front().or_else(|| self.take_due()) {
            return Poll::Ready(Turn::Call(call));
        }
        if self.closed.is_none()
            && !self.is_telling
            && let Poll::Ready(Some(event)) = pin!(self.events.next()).poll(cx)
        {
            if let ConnectionEvent::Closed(reason) = &event {
                self.closed = Some(reason.clone());
            }
            self.is_telling = true;
            return Poll::Ready(Turn::Event(event, std::mem::take(&mut self.on_event)));
        }
        if let Poll::Ready((listening, returned)) = self.poll_returned(cx) {
            return Poll::Ready(Turn::Returned(listening, returned));
        }
        if let Poll::Ready(found) = look(self, cx) {
            return Poll::Ready(Turn::Found(found));
        }
        match &self.closed {
            Some(reason) => Poll::Ready(Turn::Closed(reason.clone())),
            None => Poll::Pending,
        }
    }

    fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<(Listening, Option<Returned>)> {
        let mut next = None;
        let listening = self.on_return.extract_if(.., |listening| {
            if next.is_none()
                && let Poll::Ready(returned) = pin!(listening.returns.next()).poll(cx)
            {
                next = Some(returned);
                return true;
            }
            false
        });
        let listening = listening.last();
        listening.zip(next).map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether that channel, or any without one, has consumers whose handler does not run.
    pub(crate) fn has_consumers(&self, channel: u64) -> bool {
        self.consumers.iter().any(|entry| entry.channel.key == channel)
    }

    /// What the next consumer of that channel has, or of any channel if it is none.
    pub(crate) fn poll_consumers(&mut self, channel: Option<u64>, cx: &mut Context<'_>) -> Poll<Taken> {
        for position in 0..self.consumers.len() {
            let Some(entry) = self.consumers.get_mut(position) else {
                break;
            };
            if channel.is_some_and(|channel| channel != entry.channel.key) {
                continue;
            }
            let Poll::Ready(next) = pin!(entry.consumer.next()).poll(cx) else {
                continue;
            };
            let Some(entry) = self.consumers.remove(position) else {
                break;
            };
            return Poll::Ready(match next {
                Some(Ok(delivery)) => {
                    let tag = Arc::clone(&entry.tag);
                    self.running.push((entry.channel.key, tag, false));
                    Taken::Delivery(entry, delivery)
                }
                Some(Err(end)) => Taken::End(entry, end),
                None => Taken::End(entry, ConsumerEnd::Requested),
            });
        }
        Poll::Pending
    }

    /// It does not run any more; whether it was cancelled while it did.
    fn is_cancelled(&mut self, registered: &Registered) -> bool {
        let (key, tag) = (registered.channel.key, &registered.tag);
        let mut running = self.running.iter();
        let position = running.position(|(channel, name, _)| (*channel, name) == (key, tag));
        position.is_some_and(|position| self.running.swap_remove(position).2)
    }
}

/// A thread's place among those that wait. When it leaves, the others look again: what would have woken it is theirs now.
struct Place<'d> {
    dispatch: &'d Dispatch,
    key: Option<u64>,
}

impl Place<'_> {
    fn register(&mut self, state: &mut State, cx: &Context<'_>) {
        let key = *self.key.get_or_insert_with(|| state.next_key());
        state.waiting.insert(key, cx.waker().clone());
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.dispatch.change(|state| state.waiting.remove(&key));
        }
    }
}

/// The earlier of two moments, where none never comes.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("closed", &self.closed)
            .field("calls", &self.calls.len())
            .field("timers", &self.timers.len())
            .field("on_return", &self.on_return.len())
            .field("consumers", &self.consumers.len())
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_testbroker::TestBroker;
    use std::thread;

    #[test]
    fn a_timer_of_another_thread_comes_before_what_is_waited_for() {
        const LONG: Duration = Duration::from_secs(30);
        let broker = TestBroker::start().unwrap();
        let connection = BlockingConnection::connect(&broker.uri()).unwrap();
        let other = connection.clone();
        let deadline = Instant::now() + LONG;
        let setting = thread::spawn(move || {
            while other.dispatch().lock().waiting.is_empty() {
                assert!(Instant::now() < deadline, "nobody waits");
                thread::yield_now();
            }
            other.call_later(Duration::from_millis(20), |_| ());
        });
        assert_eq!(connection.process_data_events(LONG).unwrap(), 1);
        setting.join().unwrap();
    }
}
