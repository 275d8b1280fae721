//! From events to callbacks.

use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, CloseReport, ConfirmOutcome, ConfirmTags, Delivery, Event,
    GiveUpReason, RequestError, RequestId,
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
        }
        for _ in 0..MOST_EVENTS {
            let Some(entry) = self.inner.connections.get_mut(&id) else {
                return;
            };
            match entry.connection.poll_event() {
                Ok(Some(event)) => self.on_event(id, event),
                Ok(None) => return,
                Err(error) => {
                    self.on_open_error(id, &error);
                    return;
                }
            }
        }
    }

    fn on_event(&mut self, id: ConnectionId, event: Event) {
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
            Event::Delivery(delivery) => self.on_delivery(id, delivery),
            Event::Returned(returned) => {
                let channel = ChannelRef::new(id, returned.channel);
                self.call_channel(
                    channel,
                    |callbacks| &mut callbacks.on_return,
                    |call, ctx| call(ctx, channel, &returned),
                );
            }
            Event::Confirmed { tags, outcome } => self.on_confirmed(id, tags, &outcome),
            Event::ConsumerCancelled { consumer } => {
                let channel = ChannelRef::new(id, consumer.channel());
                self.with_channel(channel, |callbacks| callbacks.consumers.remove(&consumer));
                self.call_channel(
                    channel,
                    |callbacks| &mut callbacks.on_cancel,
                    |call, ctx| call(ctx, channel, consumer),
                );
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
                self.call_all(
                    id,
                    |entry| Some(&mut entry.on_close),
                    |call, ctx| call(ctx, id, &reason),
                );
                self.report(id, &reason);
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
    fn on_end(&mut self, id: ConnectionId, reason: &CloseReason) {
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
            Some(Err(reason)) => self.call_all(
                id,
                |entry| Some(&mut entry.on_give_up),
                |call, ctx| call(ctx, id, &reason),
            ),
        }
        self.inner.connections.remove(&id);
    }

    fn on_backpressure(&mut self, id: ConnectionId, backpressure: Backpressure) {
        self.call_all(
            id,
            |entry| Some(&mut entry.on_backpressure),
            |call, ctx| call(ctx, id, backpressure),
        );
    }

    fn on_opened(&mut self, channel: ChannelRef) {
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

    fn on_delivery(&mut self, id: ConnectionId, delivery: Delivery) {
        let consumer = delivery.consumer;
        let channel = ChannelRef::new(id, consumer.channel());
        let taken = self.with_channel(channel, |callbacks| {
            callbacks.consumers.get_mut(&consumer)?.take()
        });
        let Some(Some(mut on_message)) = taken else {
            return;
        };
        self.guarded(Some(id), |ctx| on_message(ctx, channel, delivery));
        self.with_channel(channel, |callbacks| {
            if let Some(place) = callbacks.consumers.get_mut(&consumer) {
                *place = Some(on_message);
            }
        });
    }

    fn on_confirmed(&mut self, id: ConnectionId, tags: ConfirmTags, outcome: &ConfirmOutcome) {
        let channel = ChannelRef::new(id, tags.channel());
        while let Some(Some(confirmed)) = self.with_channel(channel, |callbacks| callbacks.take_confirm(tags))
        {
            self.guarded(Some(id), |ctx| confirmed(ctx, channel, outcome.clone()));
        }
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_confirm,
            |call, ctx| call(ctx, channel, tags, outcome),
        );
    }

    fn on_channel_closed(&mut self, channel: ChannelRef, reason: &ChannelCloseReason) {
        self.call_channel(
            channel,
            |callbacks| &mut callbacks.on_close,
            |call, ctx| call(ctx, channel, reason),
        );
        if let Some(entry) = self.inner.connections.get_mut(&channel.connection()) {
            entry.channels.remove(&channel.id());
        }
    }

    fn with_channel<T>(
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
    fn call_all<F>(
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
