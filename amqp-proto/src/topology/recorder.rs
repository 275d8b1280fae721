//! The inputs of [`Topology`]: what was answered.

use super::record::{ChannelRecord, Mode};
use super::{
    BindingRecord, ChannelKey, ConsumerRecord, Destination, ExchangeRecord, Name, QueueRecord, Topology,
};
use crate::wire::{
    BasicConsume, BasicQos, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, FieldTableRef,
    Method, QueueBind, QueueDeclare, QueueDelete, QueueUnbind, ShortStr,
};

impl Topology {
    /// A request was answered, whatever it was: does what the input for it does, if there is one. `answer` is `None` if nothing was to
    /// answer.
    pub fn answered(&mut self, channel: ChannelKey, request: &Method<'_>, answer: Option<&Method<'_>>) {
        let name = match answer {
            Some(Method::QueueDeclareOk(ok)) => ok.queue,
            Some(Method::BasicConsumeOk(ok)) => ok.consumer_tag,
            _ => ShortStr::EMPTY,
        };
        match request {
            Method::ExchangeDeclare(declare) => self.exchange_declared(declare),
            Method::ExchangeDelete(delete) => self.exchange_deleted(delete),
            Method::ExchangeBind(bind) => self.exchange_bound(bind),
            Method::ExchangeUnbind(unbind) => self.exchange_unbound(unbind),
            Method::QueueDeclare(declare) => self.queue_declared(channel, declare, name),
            Method::QueueDelete(delete) => self.queue_deleted(channel, delete),
            Method::QueueBind(bind) => self.queue_bound(channel, bind),
            Method::QueueUnbind(unbind) => self.queue_unbound(channel, unbind),
            Method::ChannelOpen(_) => self.channel_opened(channel),
            Method::BasicQos(qos) => self.qos(channel, qos),
            Method::ConfirmSelect(_) => self.confirm_selected(channel),
            Method::TxSelect(_) => self.transaction_selected(channel),
            Method::BasicConsume(consume) => self.consumer_started(channel, consume, name),
            Method::BasicCancel(cancel) => self.consumer_cancelled(channel, cancel.consumer_tag),
            _ => {}
        }
    }

    /// An exchange was declared. One of the same name is replaced.
    pub fn exchange_declared(&mut self, declare: &ExchangeDeclare<'_>) {
        let exchange = ExchangeRecord::new(declare);
        if !declare.passive && !exchange.name.is_predeclared() {
            self.exchanges.insert(exchange.name.clone(), exchange);
        }
    }

    /// An exchange was deleted; its bindings in both directions went with it.
    pub fn exchange_deleted(&mut self, delete: &ExchangeDelete<'_>) {
        self.forget_exchange(delete.exchange);
    }

    /// An exchange was bound to an exchange.
    pub fn exchange_bound(&mut self, bind: &ExchangeBind<'_>) {
        self.bindings.insert(
            BindingRecord {
                destination: Destination::Exchange(bind.destination.into()),
                source: bind.source.into(),
                routing_key: bind.routing_key.into(),
                arguments: bind.arguments.as_encoded().into(),
            },
            (),
        );
    }

    /// A binding between exchanges was removed.
    pub fn exchange_unbound(&mut self, unbind: &ExchangeUnbind<'_>) {
        self.remove_binding(&BindingRecord {
            destination: Destination::Exchange(unbind.destination.into()),
            source: unbind.source.into(),
            routing_key: unbind.routing_key.into(),
            arguments: unbind.arguments.as_encoded().into(),
        });
    }

    /// A queue was declared. `name` is what `queue.declare-ok` says, or empty if nothing was to answer; if neither that nor
    /// the declare names the queue, there is nothing to record. A queue of the same name is replaced.
    pub fn queue_declared(&mut self, channel: ChannelKey, declare: &QueueDeclare<'_>, name: ShortStr<'_>) {
        let name = Name::from(if name.is_empty() { declare.queue } else { name });
        if name.is_empty() {
            return;
        }
        self.channel_mut(channel).last_queue = Some(name.clone());
        if !declare.passive {
            self.queues.insert(name.clone(), QueueRecord::new(declare, name));
        }
    }

    /// A queue was deleted; its bindings and consumers went with it.
    pub fn queue_deleted(&mut self, channel: ChannelKey, delete: &QueueDelete<'_>) {
        let queue = self.resolve(channel, delete.queue);
        self.remove_queue(&queue);
    }

    /// A queue was bound. If it names neither queue nor routing key, the routing key is the queue's name, too
    /// (specification, `queue.bind`).
    pub fn queue_bound(&mut self, channel: ChannelKey, bind: &QueueBind<'_>) {
        let (queue, key, source, arguments) = (bind.queue, bind.routing_key, bind.exchange, bind.arguments);
        if let Some(binding) = self.queue_binding(channel, queue, key, source, arguments) {
            self.bindings.insert(binding, ());
        }
    }

    /// A binding of a queue was removed.
    pub fn queue_unbound(&mut self, channel: ChannelKey, unbind: &QueueUnbind<'_>) {
        let (queue, key, source, arguments) = (
            unbind.queue,
            unbind.routing_key,
            unbind.exchange,
            unbind.arguments,
        );
        if let Some(binding) = self.queue_binding(channel, queue, key, source, arguments) {
            self.remove_binding(&binding);
        }
    }

    /// A server-named queue was declared again and has another name now: bindings, routing keys that were the old name,
    /// consumers and [`last_queue`](Self::last_queue) follow. Arguments that hold the old name, such as
    /// `x-dead-letter-routing-key`, do not. Says whether there was such a queue.
    pub fn queue_renamed(&mut self, old: &Name, new: &Name) -> bool {
        if old == new || !self.queues.contains(old) {
            return false;
        }
        self.queues.rekey(old, new.clone());
        if let Some(queue) = self.queues.get_mut(new) {
            queue.rename(new);
        }
        for binding in self.bindings_to(&Destination::Queue(old.clone())) {
            let mut renamed = binding.clone();
            renamed.rename_queue(old, new);
            self.bindings.rekey(&binding, renamed);
        }
        for channel in self.channels.values_mut() {
            for consumer in channel.consumers.values_mut() {
                consumer.rename_queue(old, new);
            }
            if channel.last_queue.as_ref() == Some(old) {
                channel.last_queue = Some(new.clone());
            }
        }
        true
    }

    /// A channel was opened. Every other input that names a channel implies this.
    pub fn channel_opened(&mut self, channel: ChannelKey) {
        self.channel_mut(channel);
    }

    /// A channel was closed for good; its consumers went with it. Not for a channel that is to be opened again: see
    /// [`Plan::for_channel`](super::Plan::for_channel).
    pub fn channel_closed(&mut self, channel: ChannelKey) {
        self.remove_channel(channel);
    }

    /// A limit was set: for consumers that start after it, or for the whole channel. Both kinds are kept beside each other
    /// (RabbitMQ page "Consumer Prefetch").
    pub fn qos(&mut self, channel: ChannelKey, qos: &BasicQos) {
        let channel = self.channel_mut(channel);
        match qos.global {
            true => channel.global_qos = Some(*qos),
            false => channel.qos = Some(*qos),
        }
    }

    /// A channel was put into confirm mode.
    pub fn confirm_selected(&mut self, channel: ChannelKey) {
        self.channel_mut(channel).mode = Mode::Confirmed;
    }

    /// A channel was made transactional.
    pub fn transaction_selected(&mut self, channel: ChannelKey) {
        self.channel_mut(channel).mode = Mode::Transactional;
    }

    /// A consumer was started. `tag` is what `basic.consume-ok` says, or empty if nothing was to answer; if neither that nor the
    /// request names the consumer or the queue, there is nothing to record. A consumer of that tag is replaced.
    pub fn consumer_started(&mut self, channel: ChannelKey, consume: &BasicConsume<'_>, tag: ShortStr<'_>) {
        let tag = Name::from(if tag.is_empty() { consume.consumer_tag } else { tag });
        let queue = self.resolve(channel, consume.queue);
        if tag.is_empty() || queue.is_empty() {
            return;
        }
        let channel = self.channel_mut(channel);
        // To the end, so that consumers stand in the order of the limits they were started under.
        channel.consumers.remove(&tag);
        let consumer = ConsumerRecord::new(consume, queue, tag.clone(), channel.qos);
        channel.consumers.insert(tag, consumer);
    }

    /// A consumer was cancelled, by either side.
    pub fn consumer_cancelled(&mut self, channel: ChannelKey, tag: ShortStr<'_>) {
        let channel = self.channels.get_mut(&channel);
        let consumer = channel.and_then(|channel| channel.consumers.remove(&tag.into()));
        if let Some(consumer) = consumer {
            self.prune_queue(&consumer.queue);
        }
    }

    /// Has a consumer of a stream go on at that offset the next time ([`Event::StreamPosition`](crate::Event::StreamPosition)). Says
    /// whether there was such a consumer.
    pub fn set_stream_offset(&mut self, channel: ChannelKey, tag: ShortStr<'_>, offset: u64) -> bool {
        let channel = self.channels.get_mut(&channel);
        let consumer = channel.and_then(|channel| channel.consumers.get_mut(&tag.into()));
        consumer
            .map(|consumer| consumer.set_stream_offset(offset))
            .is_some()
    }

    /// Takes a queue out as if it had been deleted: because somebody else deleted it, or because it shall not be declared
    /// again.
    pub fn forget_queue(&mut self, queue: ShortStr<'_>) {
        self.remove_queue(&queue.into());
    }

    /// Takes an exchange out as if it had been deleted: because somebody else deleted it, or because it shall not be declared
    /// again.
    pub fn forget_exchange(&mut self, exchange: ShortStr<'_>) {
        self.remove_exchange(&exchange.into());
    }

    fn channel_mut(&mut self, channel: ChannelKey) -> &mut ChannelRecord {
        self.channels.entry(channel).or_default()
    }

    /// What a queue's name means on a channel; empty if that is not known.
    fn resolve(&self, channel: ChannelKey, queue: ShortStr<'_>) -> Name {
        match self.last_queue(channel) {
            Some(last) if queue.is_empty() => last.clone(),
            _ => queue.into(),
        }
    }

    fn queue_binding(
        &self,
        channel: ChannelKey,
        queue: ShortStr<'_>,
        routing_key: ShortStr<'_>,
        source: ShortStr<'_>,
        arguments: FieldTableRef<'_>,
    ) -> Option<BindingRecord> {
        let name = self.resolve(channel, queue);
        let means_queue = queue.is_empty() && routing_key.is_empty();
        (!name.is_empty()).then(|| BindingRecord {
            routing_key: if means_queue {
                name.clone()
            } else {
                routing_key.into()
            },
            destination: Destination::Queue(name),
            source: source.into(),
            arguments: arguments.as_encoded().into(),
        })
    }
}
