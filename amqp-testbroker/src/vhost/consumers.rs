//! The consumers of a queue, and whose turn it is.

use super::ConsumerKey;

#[derive(Debug)]
struct Consumer {
    key: ConsumerKey,
    /// Higher goes first, while it has room.
    priority: i64,
    /// It had no room when it was its turn. It comes last of its priority when it has.
    is_blocked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// By priority, the highest first; among equals in the order of their turns.
    turns: Vec<Consumer>,
    /// The one that gets all: it is exclusive, or the single active one.
    holder: Option<ConsumerKey>,
    /// Whether the next one becomes the holder when that ends.
    is_single_active: bool,
}

impl Consumers {
    pub(super) fn new(is_single_active: bool) -> Self {
        Self {
            is_single_active,
            ..Self::default()
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds one, unless somebody has the queue for himself, or wants to and is not alone.
    pub(super) fn add(&mut self, key: ConsumerKey, priority: i64, is_exclusive: bool) -> bool {
        let is_refused = if self.is_single_active {
            is_exclusive
        } else {
            self.holder.is_some() || is_exclusive && !self.turns.is_empty()
        };
        if is_refused {
            return false;
        }
        if is_exclusive || self.is_single_active && self.holder.is_none() {
            self.holder = Some(key.clone());
        }
        self.insert(Consumer {
            key,
            priority,
            is_blocked: false,
        });
        true
    }

    /// Removes one, and says whether it was there.
    pub(super) fn remove(&mut self, key: &ConsumerKey) -> bool {
        let before = self.turns.len();
        self.turns.retain(|consumer| consumer.key != *key);
        if self.holder.as_ref() == Some(key) {
            let next = self.turns.first().filter(|_| self.is_single_active);
            self.holder = next.map(|consumer| consumer.key.clone());
        }
        self.turns.len() < before
    }

    pub(super) fn into_keys(self) -> impl Iterator<Item = ConsumerKey> {
        self.turns.into_iter().map(|consumer| consumer.key)
    }

    pub(super) fn clear(&mut self) {
        self.turns.clear();
        self.holder = None;
    }

    /// Lets those that have room again have their turns.
    pub(super) fn unblock(&mut self, has_room: impl Fn(&ConsumerKey) -> bool) {
        if self.turns.iter().all(|consumer| !consumer.is_blocked) {
            return;
        }
        let (unblocked, turns) = std::mem::take(&mut self.turns)
            .into_iter()
            .partition::<Vec<_>, _>(|consumer| consumer.is_blocked && has_room(&consumer.key));
        self.turns = turns;
        for consumer in unblocked {
            self.insert(Consumer {
                is_blocked: false,
                ..consumer
            });
        }
    }

    /// Who gets the next message. It comes last of its priority then.
    pub(super) fn next(&mut self, has_room: impl Fn(&ConsumerKey) -> bool) -> Option<ConsumerKey> {
        if let Some(holder) = &self.holder {
            return has_room(holder).then(|| holder.clone());
        }
        let place = self.turns.iter_mut().position(|consumer| {
            consumer.is_blocked = consumer.is_blocked || !has_room(&consumer.key);
            !consumer.is_blocked
        })?;
        let consumer = self.turns.remove(place);
        let key = consumer.key.clone();
        self.insert(consumer);
        Some(key)
    }

    /// Behind all whose priority is not lower.
    fn insert(&mut self, consumer: Consumer) {
        let place = self
            .turns
            .partition_point(|other| other.priority >= consumer.priority);
        self.turns.insert(place, consumer);
    }
}
