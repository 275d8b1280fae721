//! What the core tells, brought to whoever waits for it.

use std::time::Duration;

use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelId, Delivery, Event, Instant, RecvBuf, RequestId, SendError};

use crate::channels::{Entry, Unsaid};
use crate::events::ConnectionEvent;
use crate::inbox::{ConsumerEnd, HARD_LIMIT, Inbox, SOFT_LIMIT};
use crate::shared::{Answer, CallState, State};

/// How much may wait to be said on a channel until it is closed instead, which gives back all that was delivered on it. To read
/// nothing more would not do: a broker that cannot write may read nothing either, and while a transaction is committed its answer
/// must be read.
const MOST_UNSAID: usize = 1 << 16;

/// How often a stream is read a little that is held back because a consumer takes nothing. RabbitMQ gives up on a client that reads
/// nothing for 15 s, or twice that.
const SIP_EVERY: Duration = Duration::from_secs(5);

/// How many octets are read then. The broker notices only when a third of what its system keeps for the stream is gone.
const SIP: u64 = 1 << 20;

/// What may be read of a stream that is held back.
#[derive(Debug)]
pub(crate) struct Sip {
    /// When the next one begins.
    next: Instant,
    /// This one ends when so many octets have come on the connection.
    up_to: u64,
}

impl State {
    /// Brings the next event to whoever waits for it, and with a delivery those behind it; says how many these were, `most` at most,
    /// which is not 0.
    // Always: a delivery that is passed on is written once more.
    #[inline(always)]
    pub(crate) fn on_next(&mut self, now: Instant, input: &mut RecvBuf, most: usize) -> usize {
        match self.connection.poll_event(now, input) {
            Some(Event::Delivery(first)) => 1 + self.on_deliveries(first, input, most.saturating_sub(1)),
            Some(event) => {
                self.on_event(event);
                1
            }
            None => 0,
        }
    }

    /// What is no delivery.
    fn on_event(&mut self, event: Event) {
        if self.is_lost() && self.on_restoring(&event) {
            return;
        }
        match event {
            Event::Confirmed { tags, outcome } => {
                let wakes = &mut self.wakes;
                let mut entry = self.channels.find_mut(tags.channel());
                let sample = entry.as_deref_mut().map(|entry| &mut entry.sample);
                self.notes.measured.confirmed(sample, tags, &outcome);
                if let Some(entry) = entry {
                    entry.confirmed(tags, &outcome, wakes);
                }
                self.settled.drain_into(wakes);
            }
            Event::Returned(returned) => {
                if let Some(entry) = self.channels.find_mut(returned.channel) {
                    entry.returned(returned, &mut self.wakes);
                }
            }
            Event::Reply(reply) => {
                self.note_answered(&reply);
                self.note_started(reply.request());
                self.answer(reply.request(), Ok(Answer::Reply(reply)));
            }
            Event::Got(got) => self.answer(got.request.untyped(), Ok(Answer::Got(got))),
            Event::GetEmpty { request } => self.answer(request.untyped(), Ok(Answer::GetEmpty)),
            Event::RequestFailed { request, cause } => {
                self.note_refused(request);
                self.note_not_started(request, &cause);
                self.answer(request, Err(cause));
            }
            event => self.on_change(event),
        }
    }

    /// What changes how a connection or a channel is.
    #[inline(never)]
    fn on_change(&mut self, event: Event) {
        self.notes.note(&event, &self.connection);
        let wakes = &mut self.wakes;
        if let Some(event) = ConnectionEvent::of(&event) {
            self.watchers.tell(&event, wakes);
        }
        match event {
            Event::Connected => self.on_connected(),
            Event::ChannelOpened { channel } => self.on_channel_opened(channel),
            Event::ConsumerCancelled { consumer } => {
                let place = self.channels.place_of(consumer.channel());
                let entry = place.and_then(|place| self.channels.get_mut(place));
                if let Some(inbox) = entry.and_then(|entry| entry.inbox(consumer)) {
                    inbox.stop(ConsumerEnd::CancelledByBroker, wakes);
                    let tag = inbox.tag.clone();
                    self.forget_consumer(place.unwrap_or(usize::MAX), &tag);
                }
            }
            Event::StreamPosition { consumer, next } => self.note_position(consumer, next),
            Event::Flow { channel, .. } => {
                if let Some(entry) = self.channels.find_mut(channel) {
                    entry.room.drain_into(wakes);
                }
            }
            Event::ChannelClosed { channel, reason } => self.on_channel_closed(channel, &reason),
            Event::Blocked { .. } | Event::Unblocked => self.unblocked.drain_into(wakes),
            Event::Writable => self.writable.drain_into(wakes),
            Event::Closed(reason) => self.on_closed(reason),
            _ => {}
        }
    }

    #[inline(always)]
    fn on_deliveries(&mut self, first: Delivery, input: &mut RecvBuf, most: usize) -> usize {
        let (consumer, wakes) = (first.consumer, &mut self.wakes);
        let entry = self.channels.find_mut(consumer.channel());
        if let Some(inbox) = entry.and_then(|entry| entry.inbox(consumer))
            && !inbox.has_ended()
        {
            let core = &mut self.connection;
            let more = |waiting: &mut Vec<_>| core.poll_deliveries(consumer, input, most, waiting);
            return inbox.push(first, more, wakes);
        }
        self.on_unwanted(&first);
        0
    }

    /// Nobody takes it any more. Without acknowledgements it is lost; otherwise it goes back.
    #[cold]
    fn on_unwanted(&mut self, delivery: &Delivery) {
        let (tag, requeue) = (delivery.tag, true);
        let core = self.connection.channel(tag.channel());
        if core.is_ok_and(|mut core| core.wants_acks(delivery.consumer) != Some(false)) {
            self.note_given_back(tag.channel(), 1);
            self.say(tag.channel(), Unsaid::Nack { tag, requeue });
        }
    }

    /// The peer said something: what could not be asked before may be asked now.
    pub(crate) fn on_input(&mut self) {
        self.answered.drain_into(&mut self.wakes);
    }

    /// Says that now, or as soon as there is room for it and the channel takes it. On a channel that ended it needs not be said.
    pub(crate) fn say(&mut self, channel: ChannelId, what: Unsaid) {
        if let Unsaid::Cancel(consumer) = what
            && (self.is_starting_again(consumer) || self.give_up_starting(consumer))
        {
            return;
        }
        let is_first = self
            .entry_of(channel)
            .is_some_and(|entry| entry.unsaid.is_empty());
        if is_first && !self.try_to_say(channel, what) {
            return;
        }
        if let Some(entry) = self.channels.find_mut(channel) {
            entry.unsaid.push_back(what);
            self.has_unsaid = true;
        }
    }

    /// Tries again what could not be said.
    pub(crate) fn say_unsaid(&mut self) {
        if !std::mem::take(&mut self.has_unsaid) {
            return;
        }
        let ids: Vec<ChannelId> = self.channels.iter().map(Entry::id).collect();
        for id in ids {
            while let Some(what) = self.entry_of(id).and_then(|entry| entry.unsaid.pop_front()) {
                if !self.try_to_say(id, what) {
                    continue;
                }
                if let Some(entry) = self.channels.find_mut(id) {
                    entry.unsaid.push_front(what);
                    self.has_unsaid = true;
                    if entry.unsaid.len() > MOST_UNSAID {
                        self.close_overflowing(id);
                    }
                }
                break;
            }
        }
    }

    fn close_overflowing(&mut self, channel: ChannelId) {
        let core = self.connection.channel(channel);
        let text = "too much waits to be settled";
        let _ = core.and_then(|mut core| core.close(ReplyCode::REPLY_SUCCESS, text));
        if let Some(entry) = self.channels.find_mut(channel) {
            entry.is_closing = true;
        }
    }

    /// Whether it must be tried again.
    fn try_to_say(&mut self, channel: ChannelId, what: Unsaid) -> bool {
        let said = self.connection.channel(channel).and_then(|mut core| match what {
            Unsaid::Cancel(consumer) => core.cancel(consumer).map(Some),
            // A stream takes nothing back, and keeps it anyway.
            Unsaid::Nack { tag, .. } | Unsaid::Reject { tag, .. } if tag.is_from_stream() => {
                core.ack(tag).map(|()| None)
            }
            Unsaid::Nack { tag, requeue } => core.nack(tag, requeue).map(|()| None),
            Unsaid::Reject { tag, requeue } => core.reject(tag, requeue).map(|()| None),
        });
        match said {
            Ok(request) => {
                if let Some(request) = request {
                    self.connection.abandon(request);
                }
                false
            }
            Err(error) => matches!(
                error,
                SendError::Full { .. } | SendError::Committing | SendError::TooManyRequests
            ),
        }
    }

    fn answer(&mut self, request: RequestId, answer: Result<Answer, amqp_proto::RequestError>) {
        let Some(call) = self.calls.get_mut(&request) else {
            return;
        };
        if let CallState::Waiting(waker) = std::mem::replace(call, CallState::Done(answer)) {
            self.wakes.extend(waker);
        }
    }

    /// Whether the socket is not to be read for a while: consumers take too little of what came. Those that could be told to
    /// wait (their messages can go back) and do not are ended instead. Gives as well when to look again at the latest: below
    /// [`HARD_LIMIT`] a little is read now and then, so that a handler may take its time and the broker sees somebody there.
    pub(crate) fn holds_back(&mut self, now: Instant) -> (bool, Option<Instant>) {
        let mut is_over_soft = false;
        let mut is_over_hard = false;
        let mut overflows = Vec::new();
        let inboxes = self.channels.iter().flat_map(|entry| &entry.consumers);
        // Nothing more comes into one that has ended.
        for inbox in inboxes.filter(|inbox| !inbox.has_ended()) {
            if inbox.is_over(HARD_LIMIT) && !inbox.no_ack {
                overflows.push(inbox.id);
            } else if inbox.is_over(SOFT_LIMIT) && (inbox.no_ack || !inbox.is_limited) {
                is_over_soft = true;
                is_over_hard |= inbox.is_over(HARD_LIMIT);
            }
        }
        for consumer in overflows {
            self.end_consumer(consumer, ConsumerEnd::Overflow);
        }
        let sip = self.sip.take();
        if !is_over_soft {
            return (false, None);
        }
        match (self.is_awaiting(), is_over_hard) {
            (false, true) => {
                self.over_hard().for_each(Inbox::forget_patience);
                (true, None)
            }
            (false, false) => self.sips(now, sip),
            (true, false) => (false, None),
            (true, true) => {
                let until = self.end_stuck(now);
                (until.is_some(), until)
            }
        }
    }

    fn sips(&mut self, now: Instant, sip: Option<Sip>) -> (bool, Option<Instant>) {
        let received = self.connection.counters().octets_received;
        let next = now + SIP_EVERY;
        let mut sip = sip.unwrap_or(Sip { next, up_to: 0 });
        if sip.next <= now {
            let up_to = received.saturating_add(SIP);
            sip = Sip { next, up_to };
        }
        let is_over = received >= sip.up_to;
        let until = is_over.then_some(sip.next);
        self.sip = Some(sip);
        (is_over, until)
    }

    /// Consumers for which nothing is read at all.
    fn over_hard(&mut self) -> impl Iterator<Item = &mut Inbox> {
        let inboxes = self.channels.iter_mut().flat_map(|entry| &mut entry.consumers);
        inboxes.filter(|inbox| inbox.is_over(HARD_LIMIT) && !inbox.has_ended())
    }

    /// Somebody waits for what is behind the messages that there is no room for: ends the consumers that have taken nothing for too
    /// long, so that these are read and dropped. Gives until when the others are waited for; none if there are no others.
    fn end_stuck(&mut self, now: Instant) -> Option<Instant> {
        let mut until: Option<Instant> = None;
        let mut stuck = Vec::new();
        for inbox in self.over_hard() {
            match inbox.patience_until(now) {
                Some(at) => until = Some(until.map_or(at, |until| until.min(at))),
                None => stuck.push(inbox.id),
            }
        }
        for consumer in stuck {
            // The broker has forgotten what waits here: it can still be taken.
            let entry = self.channels.find_mut(consumer.channel());
            if let Some(inbox) = entry.and_then(|entry| entry.inbox(consumer)) {
                inbox.end(ConsumerEnd::Overflow, &mut self.wakes);
            }
            self.say(consumer.channel(), Unsaid::Cancel(consumer));
        }
        until
    }

    /// Closes a channel, if it is not closed or closing.
    pub(crate) fn close_channel(&mut self, place: usize) {
        self.stop_restoring(place);
        if self.is_lost() {
            return self.close_lost_channel(place);
        }
        let _ = self
            .core(place)
            .and_then(|mut channel| channel.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"));
        if let Some(entry) = self.channels.get_mut(place) {
            entry.is_closing = true;
        }
    }

    /// Cancels a consumer and gives back what it has not taken.
    pub(crate) fn end_consumer(&mut self, consumer: amqp_proto::ConsumerId, end: ConsumerEnd) {
        let Some(entry) = self.channels.find_mut(consumer.channel()) else {
            return;
        };
        let Some(inbox) = entry.inbox(consumer) else {
            return;
        };
        inbox.end(end, &mut self.wakes);
        let (no_ack, waiting) = (inbox.no_ack, inbox.drain());
        self.say(consumer.channel(), Unsaid::Cancel(consumer));
        if !no_ack {
            self.give_back(waiting);
        }
    }

    /// Back to their queues.
    pub(crate) fn give_back(&mut self, deliveries: impl IntoIterator<Item = Delivery>) {
        for delivery in deliveries {
            let (tag, requeue) = (delivery.tag, true);
            self.say(tag.channel(), Unsaid::Nack { tag, requeue });
        }
    }

    /// The connection ends in an orderly way.
    pub(crate) fn close(&mut self) {
        self.is_closing = true;
        self.connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    }
}
