//! Consumers that the broker has ended are started again, if that was asked for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use amqp_proto::topology::ConsumerRecord;
use amqp_proto::wire::{Arguments, BasicConsume};
use amqp_proto::{Backoff, ChannelCloseReason, ConsumerId, RequestError, RequestId, SendError};

use crate::call::{Deadline, retry};
use crate::channel::{Channel, ChannelOptions, refusal};
use crate::error::Error;
use crate::inbox::ConsumerEnd;
use crate::reopen::{STABLE_AFTER, Starting};
use crate::shared::State;

/// One consumer, by what its handle calls it.
struct Kept {
    channel: Channel,
    handle: ConsumerId,
}

/// Starts a consumer again whenever the broker has ended it, until it ends for good.
pub(crate) async fn keep(channel: Channel, handle: ConsumerId, mut backoff: Backoff) {
    let kept = Kept { channel, handle };
    let shared = kept.channel.shared();
    let mut started_at = None;
    while kept.stopped().await {
        let now = shared.lock().alarms.now();
        if started_at.is_some_and(|at| now.duration_since(at) >= STABLE_AFTER) {
            backoff.reset();
        }
        let is_started = loop {
            let Some(delay) = backoff.next_delay() else {
                break false;
            };
            let attempt = async {
                let deadline = Deadline::after(shared, Some(delay));
                poll_fn(|cx| deadline.poll(cx)).await;
                kept.start().await
            };
            match kept.unless_ended(attempt).await {
                Some(Ok(())) => break true,
                Some(Err(_)) => {}
                None => return,
            }
        };
        if !is_started {
            return kept.give_up();
        }
        started_at = Some(shared.lock().alarms.now());
    }
}

impl Kept {
    /// Waits until it is to be started again; false if it has ended.
    async fn stopped(&self) -> bool {
        poll_fn(|cx| match self.poll_stopped(cx) {
            Some(false) => Poll::Pending,
            stopped => Poll::Ready(stopped.is_some()),
        })
        .await
    }

    fn poll_stopped(&self, cx: &std::task::Context<'_>) -> Option<bool> {
        let mut locked = self.channel.shared().lock();
        let state = &mut *locked;
        let entry = state.channels.get_mut(self.channel.place())?;
        let inbox = entry.inbox_of(self.handle)?;
        inbox.poll_stopped(cx, &mut state.retired)
    }

    /// Does that, but nothing more when nobody wants the consumer any more.
    async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.poll_stopped(cx).is_none() {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(ready!(work.as_mut().poll(cx))))
        })
        .await
    }

    /// Asks whether the queue is there, where a refusal harms nobody, and for the consumer then.
    async fn start(&self) -> Result<(), Error> {
        let Some(record) = self.channel.shared().lock().record(&self.channel, self.handle) else {
            return Ok(());
        };
        let queue = record.queue().as_short_str().to_string();
        let options = ChannelOptions::default().without_confirms();
        let other = self.channel.connection().channel_with(options).await?;
        other.declare_queue(queue).passive(true).await?;
        drop(other);
        let place = self.channel.place();
        let start = |state: &mut State| {
            // Not before the channel is as it was.
            state.core(place)?;
            match state.record(&self.channel, self.handle) {
                Some(record) => state.start_again(place, self.handle, &record),
                None => Ok(()),
            }
        };
        let deadline = self.channel.deadline();
        retry(self.channel.shared(), &deadline, start, refusal(place)).await
    }

    fn give_up(&self) {
        self.channel.shared().command(|state| {
            let entry = state.channels.get_mut(self.channel.place());
            if let Some(inbox) = entry.and_then(|entry| entry.inbox_of(self.handle)) {
                inbox.give_up(&mut state.wakes);
            }
        });
    }
}

impl State {
    /// What starts that consumer, as things are now.
    fn record(&mut self, channel: &Channel, handle: ConsumerId) -> Option<ConsumerRecord> {
        let entry = self.channels.get_mut(channel.place())?;
        let qos = entry.qos[0];
        let record = entry.inbox_of(handle)?.record.as_deref()?;
        let (queue, tag) = (record.queue().clone(), record.tag().clone());
        let mut record = ConsumerRecord::new(&record.consume(), queue, tag, qos);
        self.follow_queue(&mut record);
        Some(record)
    }

    /// Asks for that consumer once more. What comes of it is learnt from events.
    pub(crate) fn start_again(
        &mut self,
        place: usize,
        handle: ConsumerId,
        record: &ConsumerRecord,
    ) -> Result<(), SendError> {
        let consume = record.consume();
        let channel = self.channels.get(place).ok_or(SendError::Stale)?.id();
        let (id, request) = self.connection.channel(channel)?.consume(&consume)?;
        self.note_consumer(place, &consume, &record.tag().as_short_str().to_string());
        if let Some(entry) = self.channels.get_mut(place) {
            entry.starting.push_back(Starting {
                request: request.untyped(),
                handle,
                is_with_channel: false,
            });
            if let Some(inbox) = entry.inbox_of(handle) {
                inbox.record = Some(Box::new(record.clone()));
                inbox.restart(id, &mut self.wakes);
            }
        }
        Ok(())
    }

    fn starting(&mut self, consumer: ConsumerId) -> Option<RequestId> {
        let entry = self.channels.find_mut(consumer.channel())?;
        let handle = entry.inbox(consumer)?.handle;
        let mut starting = entry.starting.iter();
        let found = starting.find(|starting| starting.handle == handle)?;
        Some(found.request)
    }

    /// Whether that consumer was asked for again, without an answer so far.
    pub(crate) fn has_asked_again(&mut self, consumer: ConsumerId) -> bool {
        self.starting(consumer).is_some()
    }

    /// If that consumer was asked for again and is not there, it is cancelled when it is: RabbitMQ 3 ends the connection of who does so
    /// before (541).
    pub(crate) fn give_up_starting(&mut self, consumer: ConsumerId) -> bool {
        let Some(request) = self.starting(consumer) else {
            return false;
        };
        self.connection.abandon(request);
        self.note_started(request);
        true
    }

    /// A request was answered, maybe that for such a consumer.
    pub(crate) fn note_started(&mut self, request: RequestId) {
        if let Some(entry) = self.channels.find_mut(request.channel()) {
            entry.starting.retain(|starting| starting.request != request);
        }
    }

    /// A consumer that was asked for is not there, since its channel has ended: whoever asked learns that, and it is not started again.
    fn note_not_had(&mut self, place: usize, request: RequestId, reason: &ChannelCloseReason) {
        let Some(entry) = self.channels.get_mut(place) else {
            return;
        };
        let mut inboxes = entry.consumers.iter_mut();
        if let Some(inbox) = inboxes.find(|inbox| inbox.request == Some(request)) {
            inbox.end(ConsumerEnd::Channel(reason.clone()), &mut self.wakes);
            let tag = inbox.tag.clone();
            if is_refusal(reason) {
                // Those behind it were not looked at.
                entry.starting.clear();
            }
            self.forget_consumer(place, &tag);
        }
    }

    /// A request was not answered. If it was for such a consumer and is to blame, that one ends, or waits for another attempt.
    pub(crate) fn note_not_started(&mut self, request: RequestId, cause: &RequestError) {
        let Some(place) = self.channels.place_of(request.channel()) else {
            return;
        };
        if let RequestError::ChannelClosed(reason) = cause {
            self.note_not_had(place, request, reason);
        }
        let Some(entry) = self.channels.get_mut(place) else {
            return;
        };
        let known = entry
            .starting
            .iter()
            .position(|starting| starting.request == request);
        let Some(starting) = known.and_then(|known| entry.starting.remove(known)) else {
            return;
        };
        let handle = starting.handle;
        let end = match cause {
            RequestError::Timeout => ConsumerEnd::NotRestored,
            RequestError::ChannelClosed(reason) if is_refusal(reason) => {
                // Requests are answered in their order: those behind it were not looked at.
                entry.starting.clear();
                entry.note_refused(&starting);
                ConsumerEnd::Channel(reason.clone())
            }
            RequestError::ChannelClosed(_) => return,
            _ => ConsumerEnd::NotRestored,
        };
        if let Some(inbox) = entry.inbox_of(handle) {
            inbox.stop(end, &mut self.wakes);
            let tag = inbox.tag.clone();
            self.forget_consumer(place, &tag);
        }
    }
}

/// Whether the broker has closed a channel because it refused a consumer: the first that was not answered.
fn is_refusal(reason: &ChannelCloseReason) -> bool {
    let ChannelCloseReason::Peer(peer) = reason else {
        return false;
    };
    peer.method == Some(BasicConsume::SPEC.id)
}
