//! Messages that came back and that nobody waits for.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use amqp_proto::Returned;
use futures_core::Stream;

use crate::channel::Channel;
use crate::wakers;

/// How many messages wait for a listener; it misses older ones.
const MOST_WAITING: usize = 256;

/// How many octets of bodies wait for a listener, unless a single message has more.
const MOST_OCTETS: usize = 1 << 20;

/// What came back to a channel because no queue got it, from the moment this was asked for ([`Channel::returns`]); a stream that ends
/// with the channel. Each has the broker's code and words, and the message with its exchange and routing key.
///
/// Who is more than 256 messages or 1 MiB behind misses the oldest ones.
#[derive(Debug)]
#[must_use = "dropped, nobody listens"]
pub struct Returns {
    channel: Channel,
    number: u64,
}

/// Who listens on a channel.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    listeners: BTreeMap<u64, Listener>,
    next: u64,
}

#[derive(Debug, Default)]
struct Listener {
    waiting: VecDeque<Returned>,
    octets: usize,
    missed: u64,
    waker: Option<Waker>,
}

impl Listeners {
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    pub(crate) fn tell(&mut self, returned: &Returned, wakes: &mut Vec<Waker>) {
        for listener in self.listeners.values_mut() {
            listener.octets += returned.message.body_len();
            listener.waiting.push_back(returned.clone());
            let is_full = |listener: &Listener| {
                let count = listener.waiting.len();
                count > MOST_WAITING || count > 1 && listener.octets > MOST_OCTETS
            };
            while is_full(listener)
                && let Some(oldest) = listener.waiting.pop_front()
            {
                listener.octets -= oldest.message.body_len();
                listener.missed += 1;
            }
            wakes.extend(listener.waker.take());
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self, wakes: &mut Vec<Waker>) {
        let wakers = self.listeners.values_mut();
        wakes.extend(wakers.filter_map(|listener| listener.waker.take()));
    }
}

impl Returns {
    pub(crate) fn new(channel: Channel) -> Self {
        let mut state = channel.shared().lock();
        let mut number = 0;
        if let Some(entry) = state.channels.get_mut(channel.place()) {
            entry.listeners.next += 1;
            number = entry.listeners.next;
            entry.listeners.listeners.insert(number, Listener::default());
        }
        drop(state);
        Self { channel, number }
    }

    /// The next message that came back; `None` when the channel has ended.
    pub async fn next(&mut self) -> Option<Returned> {
        std::future::poll_fn(|cx| self.poll_returned(cx)).await
    }

    /// How many were missed so far because they were not taken in time.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let state = self.channel.shared().lock();
        let entry = state.channels.get(self.channel.place());
        let listener = entry.and_then(|entry| entry.listeners.listeners.get(&self.number));
        listener.map_or(0, |listener| listener.missed)
    }

    fn poll_returned(&self, cx: &Context<'_>) -> Poll<Option<Returned>> {
        let mut locked = self.channel.shared().lock();
        let state = &mut *locked;
        let Some(entry) = state.channels.get_mut(self.channel.place()) else {
            return Poll::Ready(None);
        };
        let is_closed = entry.closed.is_some();
        let Some(listener) = entry.listeners.listeners.get_mut(&self.number) else {
            return Poll::Ready(None);
        };
        if let Some(returned) = listener.waiting.pop_front() {
            listener.octets -= returned.message.body_len();
            return Poll::Ready(Some(returned));
        }
        if is_closed {
            return Poll::Ready(None);
        }
        state.retired.extend(wakers::replace(&mut listener.waker, cx));
        Poll::Pending
    }
}

impl Stream for Returns {
    type Item = Returned;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_returned(cx)
    }
}

impl Drop for Returns {
    fn drop(&mut self) {
        let mut state = self.channel.shared().lock();
        if let Some(entry) = state.channels.get_mut(self.channel.place()) {
            let listener = entry.listeners.listeners.remove(&self.number);
            state.retired.extend(listener.and_then(|listener| listener.waker));
        }
    }
}
