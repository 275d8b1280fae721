//! What goes with what: the server's own deletions, done to the record.
//!
//! ```text
//! last consumer ─▶ auto-delete queue ─▶ its bindings ─▶ auto-delete exchange without bindings ─▶ its bindings as destination ─▶ …
//! ```

use alloc::vec;
use alloc::vec::Vec;

use super::{BindingRecord, ChannelKey, Destination, Name, Topology};

impl Topology {
    pub(super) fn remove_queue(&mut self, queue: &Name) {
        self.queues.remove(queue);
        for channel in self.channels.values_mut() {
            channel.consumers.retain(|_, consumer| consumer.queue != *queue);
        }
        let sources = self.remove_bindings_to(&Destination::Queue(queue.clone()));
        self.prune_exchanges(sources);
    }

    pub(super) fn remove_exchange(&mut self, exchange: &Name) {
        self.exchanges.remove(exchange);
        self.bindings.retain(|binding, ()| binding.source != *exchange);
        let sources = self.remove_bindings_to(&Destination::Exchange(exchange.clone()));
        self.prune_exchanges(sources);
    }

    pub(super) fn remove_binding(&mut self, binding: &BindingRecord) {
        if self.bindings.remove(binding).is_some() {
            self.prune_exchanges(vec![binding.source.clone()]);
        }
    }

    /// Takes out a channel and its consumers.
    pub(super) fn remove_channel(&mut self, channel: ChannelKey) {
        let channel = self.channels.remove(&channel);
        for consumer in channel.iter().flat_map(|channel| channel.consumers.values()) {
            self.prune_queue(&consumer.queue);
        }
    }

    /// Takes out a queue that has just lost a consumer, if the server does.
    pub(super) fn prune_queue(&mut self, queue: &Name) {
        let is_auto_delete = self.queues.get(queue).is_some_and(|queue| queue.auto_delete);
        if is_auto_delete && !self.has_consumer(queue) {
            self.remove_queue(queue);
        }
    }

    /// Takes out those of these exchanges that the server deletes, now that each of them has lost a binding, and what goes with
    /// them. A loop and no recursion: chains of exchanges may be long.
    fn prune_exchanges(&mut self, mut suspects: Vec<Name>) {
        while let Some(exchange) = suspects.pop() {
            let is_auto_delete = self
                .exchanges
                .get(&exchange)
                .is_some_and(|exchange| exchange.auto_delete);
            if is_auto_delete && !self.bindings.keys().any(|binding| binding.source == exchange) {
                self.exchanges.remove(&exchange);
                suspects.extend(self.remove_bindings_to(&Destination::Exchange(exchange)));
            }
        }
    }

    /// The sources of the bindings that were removed.
    fn remove_bindings_to(&mut self, destination: &Destination) -> Vec<Name> {
        let bindings = self.bindings_to(destination);
        for binding in &bindings {
            self.bindings.remove(binding);
        }
        bindings.into_iter().map(|binding| binding.source).collect()
    }

    pub(super) fn bindings_to(&self, destination: &Destination) -> Vec<BindingRecord> {
        let first = BindingRecord {
            destination: destination.clone(),
            source: Name::default(),
            routing_key: Name::default(),
            arguments: [].into(),
        };
        let from_first = self.bindings.keys_from(first..);
        from_first
            .take_while(|binding| binding.destination == *destination)
            .cloned()
            .collect()
    }

    fn has_consumer(&self, queue: &Name) -> bool {
        let mut consumers = self
            .channels
            .values()
            .flat_map(|channel| channel.consumers.values());
        consumers.any(|consumer| consumer.queue == *queue)
    }
}
