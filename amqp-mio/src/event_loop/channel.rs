//! The callbacks of a channel, and its commands.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use amqp_proto::topology::Name;
use amqp_proto::wire::{BasicConsume, BasicGet, BasicPublish, Method, Properties, ReplyCode};
use amqp_proto::{
    Answered, Channel, ChannelCloseReason, ChannelId, ConfirmOutcome, ConfirmTag, ConfirmTags, ConsumerId,
    Delivery, DeliveryTag, Got, NoWait, Payload, Reply, Request, RequestError, RequestId, Returned,
    SendError,
};

use super::callbacks::{CallbackId, Callbacks};
use super::connection::{ConnectionId, Entry};
use super::context::Ctx;
use super::options::ChannelOptions;
use super::recovering::key;
use super::republishing::Kept;

/// A channel of a connection of an [`EventLoop`](super::EventLoop). It stays this one's name when the channel is closed, and when it is
/// another one of the core's because its connection was [recovered](super::Recovery).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelRef {
    connection: ConnectionId,
    id: ChannelId,
}

impl ChannelRef {
    pub(super) const fn new(connection: ConnectionId, id: ChannelId) -> Self {
        Self { connection, id }
    }

    /// The connection that it is on.
    #[must_use]
    pub const fn connection(self) -> ConnectionId {
        self.connection
    }

    /// What the core called it first.
    #[must_use]
    pub const fn id(self) -> ChannelId {
        self.id
    }
}

/// What answers a request.
pub(super) enum Answer {
    Reply(Reply),
    Got(Got),
    GetEmpty,
}

type Opened<S> = Box<dyn FnOnce(&mut Ctx<'_, S>, ChannelRef)>;
pub(super) type OnChannelClose<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ChannelRef, &ChannelCloseReason)>;
pub(super) type OnReturn<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ChannelRef, &Returned)>;
pub(super) type OnCancel<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ChannelRef, ConsumerId)>;
pub(super) type OnConfirm<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ChannelRef, ConfirmTags, &ConfirmOutcome)>;
pub(super) type OnMessage<S> = Box<dyn FnMut(&mut Ctx<'_, S>, ChannelRef, Delivery)>;
type Confirming<S> = Box<dyn FnOnce(&mut Ctx<'_, S>, ChannelRef, ConfirmOutcome)>;

type OnAnswer<S> = Box<dyn FnOnce(&mut Ctx<'_, S>, Result<Answer, RequestError>)>;

/// Called with the answer to a request.
pub(super) struct Answering<S>(OnAnswer<S>);

impl<S> Answering<S> {
    pub(super) fn new(call: impl FnOnce(&mut Ctx<'_, S>, Result<Answer, RequestError>) + 'static) -> Self {
        Self(Box::new(call))
    }

    pub(super) fn call(self, ctx: &mut Ctx<'_, S>, answer: Result<Answer, RequestError>) {
        (self.0)(ctx, answer);
    }
}

impl<S> fmt::Debug for Answering<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a callback")
    }
}

/// What is called for a consumer, and which one it is.
pub(super) struct ConsumerEntry<S> {
    /// `None` while it is being called.
    pub(super) on_message: Option<OnMessage<S>>,
    /// What the core calls it now.
    pub(super) now: ConsumerId,
    /// By which it is known when it is started again.
    pub(super) tag: Name,
}

/// What is called for a channel.
pub(super) struct ChannelCallbacks<S> {
    /// What the core calls it now; `None` while it is not there.
    pub(super) now: Option<ChannelId>,
    pub(super) options: ChannelOptions,
    /// Somebody wants it closed.
    pub(super) is_closing: bool,
    pub(super) is_transactional: bool,
    pub(super) opened: Option<Opened<S>>,
    pub(super) on_close: Callbacks<OnChannelClose<S>>,
    pub(super) on_return: Callbacks<OnReturn<S>>,
    pub(super) on_cancel: Callbacks<OnCancel<S>>,
    pub(super) on_confirm: Callbacks<OnConfirm<S>>,
    /// By what they were called first.
    pub(super) consumers: HashMap<ConsumerId, ConsumerEntry<S>>,
    pub(super) confirms: BTreeMap<u64, Confirming<S>>,
    /// What is published again after a loss; none if nothing is.
    pub(super) kept: Option<Box<Kept>>,
}

impl<S> ChannelCallbacks<S> {
    pub(super) fn new(id: ChannelId, options: ChannelOptions, opened: Opened<S>) -> Self {
        Self {
            now: Some(id),
            options,
            is_closing: false,
            is_transactional: false,
            opened: Some(opened),
            on_close: Callbacks::new(),
            on_return: Callbacks::new(),
            on_cancel: Callbacks::new(),
            on_confirm: Callbacks::new(),
            consumers: HashMap::new(),
            confirms: BTreeMap::new(),
            kept: None,
        }
    }

    /// The next of the callbacks for these publishes.
    pub(super) fn take_confirm(&mut self, tags: ConfirmTags) -> Option<Confirming<S>> {
        let (&tag, _) = self.confirms.range(tags.first()..=tags.last()).next()?;
        self.confirms.remove(&tag)
    }
}

impl<S> fmt::Debug for ChannelCallbacks<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} consumers", self.consumers.len())
    }
}

/// A channel, to do something with it and to add callbacks.
#[derive(Debug)]
pub struct ChannelView<'a, S> {
    pub(super) channel: ChannelRef,
    pub(super) now: Option<ChannelId>,
    is_keeping: bool,
    pub(super) entry: &'a mut Entry<S>,
}

impl<'a, S> ChannelView<'a, S> {
    pub(super) fn new(channel: ChannelRef, entry: &'a mut Entry<S>) -> Result<Self, SendError> {
        let callbacks = entry.channels.get(&channel.id).ok_or(SendError::Stale)?;
        Ok(Self {
            channel,
            now: callbacks.now,
            is_keeping: callbacks.kept.is_some(),
            entry,
        })
    }

    /// Its name.
    #[must_use]
    pub const fn channel(&self) -> ChannelRef {
        self.channel
    }

    /// The core's view of it, for all commands that no callback answers. What is declared by it is not there again after a
    /// [recovery](super::Recovery), and nothing may be published by it on a channel that [publishes again](ChannelOptions::republish).
    ///
    /// # Errors
    /// [`SendError::Stale`], [`SendError::Closed`]; [`SendError::NotConnected`] while its connection is lost and not as it was, as for all
    /// commands.
    pub fn core(&mut self) -> Result<Channel<'_>, SendError> {
        let now = self.now.ok_or(SendError::NotConnected)?;
        self.entry.connection.channel(now)
    }

    /// Sends a request; `answered` is called with its answer, or with why there is none.
    ///
    /// # Errors
    /// As [`Channel::request`]; then it is not called.
    pub fn request<R: Request>(
        &mut self,
        method: &R,
        answered: impl FnOnce(
            &mut Ctx<'_, S>,
            ChannelRef,
            Result<<R::Method as Answered>::Answer<'_>, RequestError>,
        ) + 'static,
    ) -> Result<(), SendError>
    where
        R::Method: 'static,
    {
        let request = self.core()?.request(method)?;
        if self.entry.recovering.is_some() {
            self.note_asked(request.untyped(), &method.as_method());
        }
        self.await_answer(request, answered);
        Ok(())
    }

    /// What it asks for is recorded when it is answered.
    #[cold]
    fn note_asked(&mut self, request: RequestId, method: &Method<'_>) {
        if let Some(recovering) = &mut self.entry.recovering {
            recovering.recorder.asked(key(self.channel.id), request, method);
        }
        if matches!(method, Method::TxSelect(_)) {
            self.callbacks(|callbacks| callbacks.is_transactional = true);
        }
    }

    fn await_answer<M: Answered + 'static>(
        &mut self,
        request: RequestId<M>,
        answered: impl FnOnce(&mut Ctx<'_, S>, ChannelRef, Result<M::Answer<'_>, RequestError>) + 'static,
    ) {
        let channel = self.channel;
        let call = move |ctx: &mut Ctx<'_, S>, answer: Result<Answer, RequestError>| match answer {
            Ok(Answer::Reply(reply)) => {
                // The core matches answers to requests.
                if let Some(answer) = reply.read(request) {
                    answered(ctx, channel, Ok(answer));
                }
            }
            Ok(_) => {}
            Err(error) => answered(ctx, channel, Err(error)),
        };
        self.entry
            .requests
            .insert(request.untyped(), Answering::new(call));
    }

    /// Sends a request whose answer nobody needs.
    ///
    /// # Errors
    /// As [`Channel::send_nowait`].
    pub fn send_nowait<R: NoWait>(&mut self, method: &R) -> Result<(), SendError> {
        self.core()?.send_nowait(method)?;
        if let Some(recovering) = &mut self.entry.recovering {
            recovering
                .recorder
                .told(key(self.channel.id), &method.as_method());
        }
        Ok(())
    }

    /// Starts a consumer; `on_message` is called with each delivery, until it is cancelled or the channel is closed.
    ///
    /// # Errors
    /// As [`Channel::consume`].
    pub fn consume(
        &mut self,
        method: &BasicConsume<'_>,
        on_message: impl FnMut(&mut Ctx<'_, S>, ChannelRef, Delivery) + 'static,
    ) -> Result<ConsumerId, SendError> {
        self.consume_then(method, on_message, |_, _, _| {})
    }

    /// The same; `started` is called when the broker has confirmed it, or with why it has not. Only after that cancel it: RabbitMQ 3.10
    /// ends the connection (541) if it is quicker.
    ///
    /// # Errors
    /// As [`Channel::consume`]; then neither is called.
    pub fn consume_then(
        &mut self,
        method: &BasicConsume<'_>,
        on_message: impl FnMut(&mut Ctx<'_, S>, ChannelRef, Delivery) + 'static,
        started: impl FnOnce(&mut Ctx<'_, S>, ChannelRef, Result<ConsumerId, RequestError>) + 'static,
    ) -> Result<ConsumerId, SendError> {
        let mut core = self.core()?;
        let (consumer, request) = core.consume(method)?;
        let tag = core.consumer_tag(consumer).map(Name::from).unwrap_or_default();
        if self.entry.recovering.is_some() {
            self.note_asked(request.untyped(), &(*method).into());
        }
        self.await_answer(request, move |ctx, channel, answer| {
            if let (Err(_), Ok(mut view)) = (&answer, ctx.channel(channel)) {
                view.callbacks(|callbacks| callbacks.consumers.remove(&consumer));
            }
            started(ctx, channel, answer.map(|_| consumer));
        });
        let entry = ConsumerEntry {
            on_message: Some(Box::new(on_message)),
            now: consumer,
            tag,
        };
        self.callbacks(|callbacks| callbacks.consumers.insert(consumer, entry));
        Ok(consumer)
    }

    /// Ends a consumer. Deliveries may come until `cancelled` is called; and behind that, if it is called because there was no answer in time.
    ///
    /// # Errors
    /// As [`Channel::cancel`].
    pub fn cancel(
        &mut self,
        consumer: ConsumerId,
        cancelled: impl FnOnce(&mut Ctx<'_, S>, ChannelRef, Result<(), RequestError>) + 'static,
    ) -> Result<(), SendError> {
        let known = self.callbacks(|callbacks| {
            let known = callbacks.consumers.get(&consumer)?;
            Some((known.now, known.tag.clone()))
        });
        let (now, tag) = known.flatten().unwrap_or_else(|| (consumer, Name::default()));
        let request = self.core()?.cancel(now)?;
        if let Some(recovering) = &mut self.entry.recovering {
            recovering.forget_consumer(self.channel.id, &tag);
        }
        self.await_answer(request, move |ctx, channel, answer| {
            // Without an answer it may still be a consumer, whose deliveries somebody must settle.
            if !matches!(answer, Err(RequestError::Timeout))
                && let Ok(mut view) = ctx.channel(channel)
            {
                view.callbacks(|callbacks| callbacks.consumers.remove(&consumer));
            }
            cancelled(ctx, channel, answer.map(drop));
        });
        Ok(())
    }

    /// Asks for one message; `answered` is called with it, or with `None` if the queue is empty.
    ///
    /// # Errors
    /// As [`Channel::get`].
    pub fn get(
        &mut self,
        method: &BasicGet<'_>,
        answered: impl FnOnce(&mut Ctx<'_, S>, ChannelRef, Result<Option<Got>, RequestError>) + 'static,
    ) -> Result<(), SendError> {
        let request = self.core()?.get(method)?;
        let channel = self.channel;
        let call = move |ctx: &mut Ctx<'_, S>, answer: Result<Answer, RequestError>| match answer {
            Ok(Answer::Got(got)) => answered(ctx, channel, Ok(Some(got))),
            Ok(_) => answered(ctx, channel, Ok(None)),
            Err(error) => answered(ctx, channel, Err(error)),
        };
        self.entry
            .requests
            .insert(request.untyped(), Answering::new(call));
        Ok(())
    }

    /// Publishes a message. In confirm mode it has a tag, by which [`on_confirm`](Self::on_confirm) tells what became of it.
    ///
    /// # Errors
    /// As [`Channel::publish`], and as [`ChannelOptions::republish`] says.
    pub fn publish<'p>(
        &mut self,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: impl Into<Payload<'p>>,
    ) -> Result<Option<ConfirmTag>, SendError> {
        if self.is_keeping {
            return self.publish_kept(method, properties, body.into());
        }
        self.core()?.publish(method, properties, body)
    }

    /// The same on a channel in confirm mode; `confirmed` is called with what became of it. On any other channel it is never called.
    ///
    /// # Errors
    /// As [`Channel::publish`].
    pub fn publish_confirmed<'p>(
        &mut self,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: impl Into<Payload<'p>>,
        confirmed: impl FnOnce(&mut Ctx<'_, S>, ChannelRef, ConfirmOutcome) + 'static,
    ) -> Result<Option<ConfirmTag>, SendError> {
        let tag = self.publish(method, properties, body)?;
        if let Some(tag) = tag {
            self.callbacks(|callbacks| {
                callbacks.confirms.insert(tag.value(), Box::new(confirmed));
            });
        }
        Ok(tag)
    }

    /// Acknowledges a delivery.
    ///
    /// # Errors
    /// As [`Channel::ack`].
    pub fn ack(&mut self, tag: DeliveryTag) -> Result<(), SendError> {
        self.core()?.ack(tag)
    }

    /// Refuses a delivery: back to its queue, or dropped or dead-lettered.
    ///
    /// # Errors
    /// As [`Channel::nack`].
    pub fn nack(&mut self, tag: DeliveryTag, requeue: bool) -> Result<(), SendError> {
        self.core()?.nack(tag, requeue)
    }

    /// Closes it; its close callbacks are called when that is done. It is not there again after a recovery.
    ///
    /// # Errors
    /// As [`Channel::close`].
    pub fn close(&mut self, code: ReplyCode, text: &str) -> Result<(), SendError> {
        self.core()?.close(code, text)?;
        self.callbacks(|callbacks| callbacks.is_closing = true);
        Ok(())
    }

    /// Called when it is closed, by whomever, after the callbacks of all that it takes with it; not when its connection is lost and
    /// [recovered](super::Recovery), but for a channel that was not open, in transactions, or is refused then.
    pub fn on_close(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ChannelRef, &ChannelCloseReason) + 'static,
    ) -> Option<CallbackId> {
        self.callbacks(|callbacks| callbacks.on_close.add(Box::new(call)))
    }

    /// Called with each message that comes back.
    pub fn on_return(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ChannelRef, &Returned) + 'static,
    ) -> Option<CallbackId> {
        self.callbacks(|callbacks| callbacks.on_return.add(Box::new(call)))
    }

    /// Called when the broker ends a consumer, as when its queue is deleted, or does not start it again in a
    /// [recovery](super::Recovery).
    pub fn on_cancel(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ChannelRef, ConsumerId) + 'static,
    ) -> Option<CallbackId> {
        self.callbacks(|callbacks| callbacks.on_cancel.add(Box::new(call)))
    }

    /// Called with what became of publishes, each of them once.
    pub fn on_confirm(
        &mut self,
        call: impl FnMut(&mut Ctx<'_, S>, ChannelRef, ConfirmTags, &ConfirmOutcome) + 'static,
    ) -> Option<CallbackId> {
        self.callbacks(|callbacks| callbacks.on_confirm.add(Box::new(call)))
    }

    /// Forgets a callback of this channel; says whether there was one.
    pub fn remove_callback(&mut self, id: CallbackId) -> bool {
        let removed = self.callbacks(|callbacks| {
            callbacks.on_close.remove(id)
                || callbacks.on_return.remove(id)
                || callbacks.on_cancel.remove(id)
                || callbacks.on_confirm.remove(id)
        });
        removed == Some(true)
    }

    fn callbacks<T>(&mut self, change: impl FnOnce(&mut ChannelCallbacks<S>) -> T) -> Option<T> {
        self.entry.channels.get_mut(&self.channel.id).map(change)
    }
}
