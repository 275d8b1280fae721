//! A request and its answer.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::wire::Method;
use amqp_proto::{RequestId, SendError};

use crate::channels::Unsaid;
use crate::error::Error;
use crate::shared::{Answer, CallState, Shared, State};
use crate::wakers::{self, WakerKey, WakerSet};

/// Waits for an answer. Dropped before it came, the answer is discarded, and what it would leave behind is undone.
pub(crate) struct Call<'s> {
    shared: &'s Arc<Shared>,
    request: RequestId,
    deadline: &'s Deadline<'s>,
    is_done: bool,
}

/// A moment by which something must be done, if there is one.
pub(crate) struct Deadline<'s> {
    shared: &'s Arc<Shared>,
    alarm: Option<u64>,
}

/// Waits in a list of tasks, and leaves it when dropped.
pub(crate) struct Place<'s> {
    shared: &'s Arc<Shared>,
    pub(crate) key: WakerKey,
    set: fn(&mut State, usize) -> Option<&mut WakerSet>,
    channel: usize,
}

impl<'s> Call<'s> {
    /// For a request that [`State::await_answer`] was told of.
    pub(crate) const fn new(shared: &'s Arc<Shared>, request: RequestId, deadline: &'s Deadline<'s>) -> Self {
        Self {
            shared,
            request,
            deadline,
            is_done: false,
        }
    }
}

impl Future for Call<'_> {
    type Output = Result<Answer, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut locked = this.shared.lock();
        let state = &mut *locked;
        match state.calls.get_mut(&this.request) {
            Some(CallState::Waiting(waker)) => {
                state.retired.extend(wakers::replace(waker, cx));
                drop(locked);
                this.deadline.poll(cx).map(|()| Err(Error::Timeout))
            }
            _ => {
                this.is_done = true;
                match state.calls.remove(&this.request) {
                    Some(CallState::Done(answer)) => Poll::Ready(answer.map_err(Error::from)),
                    // It cannot be that it was taken already; that the future was polled again can.
                    _ => Poll::Ready(Err(Error::Timeout)),
                }
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        self.shared.command(|state| {
            // What it does must be known for another connection.
            if !state.is_recorded(self.request) {
                state.connection.abandon(self.request);
            }
            match state.calls.remove(&self.request) {
                // A message that came for nobody goes back.
                Some(CallState::Done(Ok(Answer::Got(got)))) => {
                    let (tag, requeue) = (got.tag, true);
                    state.say(tag.channel(), Unsaid::Nack { tag, requeue });
                }
                Some(CallState::Waiting(waker)) => state.retired.extend(waker),
                _ => {}
            }
        });
    }
}

impl<'s> Deadline<'s> {
    /// So much time from now on; none for ever.
    pub(crate) fn after(shared: &'s Arc<Shared>, duration: Option<Duration>) -> Self {
        let alarm = duration.map(|duration| shared.command(|state| state.alarms.set(duration)));
        Self { shared, alarm }
    }

    /// Whether it has come.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        match self.alarm {
            Some(alarm) => self.shared.lock().poll_alarm(alarm, cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for Deadline<'_> {
    fn drop(&mut self) {
        if let Some(alarm) = self.alarm {
            self.shared.lock().remove_alarm(alarm);
        }
    }
}

impl<'s> Place<'s> {
    /// Among those that found no room to write.
    pub(crate) const fn writable(shared: &'s Arc<Shared>) -> Self {
        Self::of(shared, 0, |state, _| Some(&mut state.writable))
    }

    /// Among those that wait for a change of the connection.
    pub(crate) const fn changed(shared: &'s Arc<Shared>) -> Self {
        Self::of(shared, 0, |state, _| Some(&mut state.changed))
    }

    /// Among those that wait for publishes to be settled.
    pub(crate) const fn settled(shared: &'s Arc<Shared>) -> Self {
        Self::of(shared, 0, |state, _| Some(&mut state.settled))
    }

    /// Among those that wait for octets to be written.
    pub(crate) const fn written(shared: &'s Arc<Shared>) -> Self {
        Self::of(shared, 0, |state, _| Some(&mut state.written))
    }

    /// Among those that wait for a change of a channel.
    pub(crate) const fn channel_changed(shared: &'s Arc<Shared>, channel: usize) -> Self {
        Self::of(shared, channel, |state, channel| {
            state.channels.get_mut(channel).map(|entry| &mut entry.changed)
        })
    }

    const fn of(
        shared: &'s Arc<Shared>,
        channel: usize,
        set: fn(&mut State, usize) -> Option<&mut WakerSet>,
    ) -> Self {
        Self {
            shared,
            key: WakerKey::new(),
            set,
            channel,
        }
    }

    /// Waits until there is something to be had from the state, which is looked at whenever it changes.
    pub(crate) async fn until<R>(&mut self, mut look: impl FnMut(&mut State) -> Option<R>) -> R {
        poll_fn(|cx| self.poll(cx, &mut look)).await
    }

    /// The same, but not for longer than until that deadline.
    pub(crate) async fn until_deadline<R>(
        &mut self,
        deadline: &Deadline<'_>,
        mut look: impl FnMut(&mut State) -> Option<R>,
    ) -> Option<R> {
        poll_fn(|cx| match self.poll(cx, &mut look) {
            Poll::Ready(found) => Poll::Ready(Some(found)),
            Poll::Pending => deadline.poll(cx).map(|()| None),
        })
        .await
    }

    fn poll<R>(&mut self, cx: &Context<'_>, look: &mut impl FnMut(&mut State) -> Option<R>) -> Poll<R> {
        let mut state = self.shared.lock();
        if let Some(found) = look(&mut state) {
            return Poll::Ready(found);
        }
        if let Some(set) = (self.set)(&mut state, self.channel) {
            let retired = set.register(&mut self.key, cx);
            state.retired.extend(retired);
        }
        // The driver may have stopped reading, and reads on for who waits.
        let driver = state.take_driver();
        drop(state);
        driver.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.key.is_registered() {
            let mut state = self.shared.lock();
            if let Some(set) = (self.set)(&mut state, self.channel) {
                let retired = set.remove(&self.key);
                state.retired.extend(retired);
            }
        }
    }
}

/// Whether it does no harm to ask for that twice, and the second answer says the same.
pub(crate) fn is_idempotent(method: &Method<'_>) -> bool {
    match method {
        // Without a name each makes another queue.
        Method::QueueDeclare(declare) => !declare.queue.is_empty(),
        Method::QueueDelete(delete) => !delete.if_unused && !delete.if_empty,
        Method::ExchangeDelete(delete) => !delete.if_unused,
        Method::ExchangeDeclare(_)
        | Method::ExchangeBind(_)
        | Method::ExchangeUnbind(_)
        | Method::QueueBind(_)
        | Method::QueueUnbind(_)
        | Method::BasicQos(_)
        | Method::ConfirmSelect(_) => true,
        _ => false,
    }
}

/// Tries a command until there is room for it, or the deadline has come.
pub(crate) async fn retry<R>(
    shared: &Arc<Shared>,
    deadline: &Deadline<'_>,
    mut command: impl FnMut(&mut State) -> Result<R, SendError>,
    refusal: impl Fn(&State, SendError) -> Error,
) -> Result<R, Error> {
    let mut place = Place::writable(shared);
    poll_fn(|cx| {
        let key = &mut place.key;
        let result = shared.command(|state| match command(state) {
            Ok(value) => Poll::Ready(Ok(value)),
            Err(SendError::Full { .. }) => {
                state.retired.extend(state.writable.register(key, cx));
                Poll::Pending
            }
            Err(SendError::TooManyRequests | SendError::Committing) => {
                state.retired.extend(state.answered.register(key, cx));
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(refusal(state, error))),
        });
        match result {
            Poll::Pending => deadline.poll(cx).map(|()| Err(Error::Timeout)),
            ready => ready,
        }
    })
    .await
}
