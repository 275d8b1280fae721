//! From events to callbacks.

use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, CloseReport, ConfirmOutcome, ConfirmTags, ConsumerId,
    Delivery, Event, GiveUpReason, RequestError, RequestId, Returned,
};

use super::callbacks::Callbacks;
use super::channel::{Answer, ChannelCallbacks, ChannelRef};
use super::connection::{Backpressure, ConnectionId, Entry};
use super::context::Ctx;
use crate::ConnectError;

/// How many events of one connection are told before the others get their turn.
const MOST_EVENTS: usize = 64;

impl<S> Ctx<'_, S> {
    pub(super) fn run_connections(&mut self) {
        let ids: Vec<_> = self.inner.connections.keys().copied().collect();
        for id in ids {
            self.run_events(id);
            self.run_credentials(id);
        }
    }

    fn run_credentials(&mut self, id: ConnectionId) {
        while let Some(entry) = self.inner.connections.get_mut(&id)
            && let Some(event) = entry.connection.poll_credentials()
        {
            self.call_all(
                id,
                |entry| Some(&mut entry.on_credentials),
                |call, ctx| call(ctx, id, &event),
            );
        }
    }

    fn run_events(&mut self, id: ConnectionId) {
        if let Some(entry) = self.inner.connections.get_mut(&id) {
            entry.connection.on_timeout();
            if entry.time_left().is_some_and(|left| left.is_zero()) {
                entry.connection.break_off();
            }
        }
        for _ in 0..MOST_EVENTS {
            let Some(entry) = self.inner.connections.get_mut(&id) else {
                return;
            };
            match entry.connection.poll_event() {
                Ok(Some(event)) if entry.recovering.is_some() => self.on_event_recovering(id, event),
                Ok(Some(event)) => self.on_event(id, event),
                Ok(None) => return,
                Err(error) => {
                    self.on_open_error(id, &error);
                    return;
                }
            }
        }
    }

    pub(super) fn on_event(&mut self, id: ConnectionId, event: Event) {
        match event {
            Event::Connected => {
                if let Some(entry) = self.inner.connections.get_mut(&id)
                    && let Some(reconnecting) = &mut entry.reconnecting
                {
                    reconnecting.connected();
                }
                self.call_all(id, |entry| Some(&mut entry.on_open), |call, ctx| call(ctx, id))
            }
            Event::ChannelOpened { channel } => self.on_opened(ChannelRef::new(id, channel)),
            Event::Reply(reply) => self.answer(id, reply.request(), Ok(Answer::Reply(reply))),
            Event::RequestFailed { request, cause } => self.answer(id, request, Err(cause)),
            Event::Got(got) => self.answer(id, got.request.untyped(), Ok(Answer::Got(got))),
            Event::GetEmpty { request } => self.answer(id, request.untyped(), Ok(Answer::GetEmpty)),
            Event::Delivery(delivery) => {
                self.on_delivery(ChannelRef::new(id, delivery.consumer.channel()), delivery);
            }
            Event::Returned(returned) => self.on_returned(ChannelRef::new(id, returned.channel), &returned),
            Event::Confirmed { tags, outcome } => {
                self.on_confirmed(ChannelRef::new(id, tags.channel()), tags, &outcome);
            }
            Event::ConsumerCancelled { consumer } => {
                self.on_cancelled(ChannelRef::new(id, consumer.channel()), consumer);
            }
            Event::ChannelClosed { channel, reason } => {
                self.on_channel_closed(ChannelRef::new(id, channel), &reason)
            }
            Event::Blocked { reason } => {
                self.call_all(
                    id,
                    |entry| Some(&mut entry.on_blocked),
                    |call, ctx| call(ctx, id, &reason),
                );
            }
            Event::Unblocked => {
                self.call_all(
                    id,
                    |entry| Some(&mut entry.on_unblocked),
                    |call, ctx| call(ctx, id),
                );
            }
            Event::Writable => self.call_all(
                id,
                |entry| Some(&mut entry.on_writable),
                |call, ctx| call(ctx, id),
            ),
            Event::BackpressureOn { queued, limit } => {
                self.on_backpressure(id, Backpressure::On { queued, limit })
            }
            Event::BackpressureOff { queued } => self.on_backpressure(id, Backpressure::Off { queued }),
            Event::Closed(reason) => {
                self.tell_closed(id, &reason);
                self.on_end(id, &reason);
            }
            // The flow of a channel is answered by the core; bodies in pieces cannot be asked for here.
            _ => {}
        }
    }

    /// Whoever has shut it down learns what came of that.
    fn report(&mut self, id: ConnectionId, reason: &CloseReason) {
        let Some(entry) = self.inner.connections.get_mut(&id) else {
            return;
        };
        let calls = std::mem::take(&mut entry.on_report.0);
        let report = entry.connection.report().cloned();
        let report = report.unwrap_or_else(|| CloseReport::new(reason.clone()));
        for call in calls {
            self.guarded(Some(id), |ctx| call(ctx, id, &report));
        }
    }

    fn on_open_error(&mut self, id: ConnectionId, error: &ConnectError) {
        self.call_all(
            id,
            |entry| Some(&mut entry.on_open_error),
            |call, ctx| call(ctx, id, error),
        );
        self.on_end(id, &CloseReason::from(error.clone()));
    }

    /// Its next life begins, or it is gone.
    pub(super) fn on_end(&mut self, id: ConnectionId, reason: &CloseReason) {
        match self.inner.reconnect(id, reason) {
            Some(Ok(delay)) => {
                self.call_all(
                    id,
                    |entry| Some(&mut entry.on_reconnect),
                    |call, ctx| call(ctx, id, delay),
                );
                return;
            }
            None | Some(Err(GiveUpReason::Requested)) => {}
            Some(Err(why)) => {
                self.call_all(
                    id,
                    |entry| Some(&mut entry.on_give_up),
                    |call, ctx| call(ctx, id, &why),
                );
            }
        }
        self.end_lost(id, reason);
        self.inner.connections.remove(&id);
    }

    /// What was to be recovered is not: now it is closed.
    fn end_lost(&mut self, id: ConnectionId, reason: &CloseReason) {
        let entry = self.inner.connections.get(&id);
        if entry.is_some_and(Entry::is_lost) {
            self.close_channels(id, reason);
            self.tell_closed(id, reason);
        }
    }

    fn tell_closed(&mut self, id: ConnectionId, reason: &CloseReason) {
        self.call_all(
            id,
            |entry| Some(&mut entry.on_close),
            |call, ctx| call(ctx, id, reason),
        );
        self.report(id, reason);
    }

    fn on_backpressure(&mut self, id: ConnectionId, backpressure: Backpressure) {
        self.call_all(
            id,
            |entry| Some(&mut entry.on_backpressure),
            |call, ctx| call(ctx, id, backpressure),
        );
    }

    pub(super) fn on_opened(&mut self, channel: ChannelRef) {
        let opened = self.with_channel(channel, |callbacks| callbacks.opened.take());
        if let Some(Some(opened)) = opened {
            self.guarded(Some(channel.connection()), |ctx| opened(ctx, channel));
        }
    }

    fn answer(&mut self, id: ConnectionId, request: RequestId, answer: Result<Answer, RequestError>) {
        let waiting = self
            .inner
            .connections
            .get_mut(&id)
            .and_then(|entry| entry.requests.remove(&request));
        if let Some(waiting) = waiting {
            self.guarded(Some(id), |ctx| waiting.call(ctx, answer));
        }
    }

    pub(super) fn on_delivery(&mut self, channel: ChannelRef, delivery: Delivery) {
        let consumer = delivery.consumer;
        let taken = self.with_channel(channel, |callbacks| {
            callbacks.consumers.get_mut(&consumer)?.on_message.take()
        });
        let Some(Some(mut on_message)) = taken else {
            return;
        };
        self.guarded(Some(channel.connection()), |ctx| {
            on_message(ctx, channel, delivery)
        });
        self.with_channel(channel, |callbacks| {
            if let Some(entry) = callbacks.consumers.get_mut(&consumer) {
                entry.on_message = Some(on_message);
            }
        });
    }

    pub(super) fn on_returned(&mut self, channel: ChannelRef, returned: &Returned) {
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_return,
            |call, ctx| call(ctx, channel, returned),
        );
    }

    pub(super) fn on_cancelled(&mut self, channel: ChannelRef, consumer: ConsumerId) {
        self.with_channel(channel, |callbacks| callbacks.consumers.remove(&consumer));
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_cancel,
            |call, ctx| call(ctx, channel, consumer),
        );
    }

    pub(super) fn on_confirmed(&mut self, channel: ChannelRef, tags: ConfirmTags, outcome: &ConfirmOutcome) {
        while let Some(Some(confirmed)) = self.with_channel(channel, |callbacks| callbacks.take_confirm(tags))
        {
            self.guarded(Some(channel.connection()), |ctx| {
                confirmed(ctx, channel, outcome.clone())
            });
        }
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_confirm,
            |call, ctx| call(ctx, channel, tags, outcome),
        );
    }

    pub(super) fn on_channel_closed(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_close,
            |call, ctx| call(ctx, channel, reason),
        );
        if let Some(entry) = self.inner.connections.get_mut(&channel.connection()) {
            entry.channels.remove(&channel.id());
        }
    }

    pub(super) fn with_channel<T>(
        &mut self,
        channel: ChannelRef,
        use_it: impl FnOnce(&mut ChannelCallbacks<S>) -> T,
    ) -> Option<T> {
        let entry = self.inner.connections.get_mut(&channel.connection())?;
        entry.channels.get_mut(&channel.id()).map(use_it)
    }

    fn call_channel<F>(
        &mut self,
        channel: ChannelRef,
        list: impl Fn(&mut ChannelCallbacks<S>) -> &mut Callbacks<F>,
        call: impl FnMut(&mut F, &mut Ctx<'_, S>),
    ) {
        let id: ChannelId = channel.id();
        self.call_all(
            channel.connection(),
            |entry| entry.channels.get_mut(&id).map(&list),
            call,
        );
    }

    /// Calls those callbacks that were there when it happened and were not removed since.
    pub(super) fn call_all<F>(
        &mut self,
        id: ConnectionId,
        list: impl Fn(&mut Entry<S>) -> Option<&mut Callbacks<F>>,
        mut call: impl FnMut(&mut F, &mut Ctx<'_, S>),
    ) {
        let find = |ctx: &mut Ctx<'_, S>| Some(list(ctx.inner.connections.get_mut(&id)?)?.ids());
        for callback in find(self).unwrap_or_default() {
            let entry = self.inner.connections.get_mut(&id);
            let taken = entry.and_then(|entry| list(entry)?.take(callback));
            let Some(mut taken) = taken else {
                continue;
            };
            self.guarded(Some(id), |ctx| call(&mut taken, ctx));
            if let Some(list) = self.inner.connections.get_mut(&id).and_then(&list) {
                list.put_back(callback, taken);
            }
        }
    }
}
