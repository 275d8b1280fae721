//! A queue: what it is, and the messages that are ready in it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use amqp_proto::wire::{FieldTable, QueueDeclare};
use amqp_proto::{Instant, Message};

use super::arguments::{Arguments, Overflow, QueueType};
use super::consumers::Consumers;
use super::death::{Death, Reason};
use super::letter::{Letter, counted};
use super::{Entry, Name};
use crate::broker::ConnectionKey;
use crate::config::Release;

/// A queue's messages come in this order: what came back to a quorum queue, the highest priority, as they came.
type Place = (Lane, Reverse<u8>, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Returned,
    Usual,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) durable: bool,
    pub(super) auto_delete: bool,
    /// The connection that has it for itself.
    pub(super) owner: Option<ConnectionKey>,
    /// As it was declared.
    pub(super) table: FieldTable,
    pub(super) arguments: Arguments,
    /// All its messages have later positions.
    pub(super) born: u64,
    pub(super) consumers: Consumers,
    pub(super) had_consumers: bool,
    /// It was declared, got from, or lost its last consumer.
    pub(super) used: Instant,
    /// When it is to be looked at, as the virtual host has noted it.
    pub(super) timer: Option<Instant>,
    /// Whether the virtual host knows that it is to be dispatched.
    pub(super) is_changed: bool,
    ready: BTreeMap<Place, Entry>,
    /// Of the bodies of what is ready.
    ready_octets: u64,
}

impl Queue {
    pub(super) fn new(
        method: &QueueDeclare<'_>,
        by: ConnectionKey,
        table: FieldTable,
        arguments: Arguments,
        born: u64,
        now: Instant,
    ) -> Self {
        Self {
            durable: is_durable(method),
            auto_delete: method.auto_delete,
            owner: method.exclusive.then_some(by),
            table,
            consumers: Consumers::new(arguments.single_active_consumer),
            arguments,
            born,
            had_consumers: false,
            used: now,
            timer: None,
            is_changed: false,
            ready: BTreeMap::new(),
            ready_octets: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.ready.values().map(|entry| &entry.message)
    }

    /// When something in it has to go, or itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let head = self.ready.first_key_value().and_then(|(_, entry)| entry.deadline);
        match (head, self.expiry()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// When it goes for want of use.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let after = self.arguments.expires.filter(|_| self.consumers.is_empty())?;
        Some(self.used + after)
    }

    /// Whether a message with that body would be one too many.
    pub(super) fn has_no_room_for(&self, letter: &Letter) -> bool {
        let length = (self.ready.len() as u64).saturating_add(1);
        let octets = self.ready_octets.saturating_add(letter.message.body_len() as u64);
        self.arguments.overflow != Overflow::DropHead && self.is_over(length, octets)
    }

    /// Whether the oldest message has to make room.
    fn is_overfull(&self) -> bool {
        self.arguments.overflow == Overflow::DropHead
            && self.is_over(self.ready.len() as u64, self.ready_octets)
    }

    fn is_over(&self, length: u64, octets: u64) -> bool {
        self.arguments.max_length.is_some_and(|most| length > most)
            || self.arguments.max_length_bytes.is_some_and(|most| octets > most)
    }

    /// Puts a message back, to its place. A quorum queue with a delivery limit has it behind others
    /// that came back, and before all others; one without has it at the end.
    pub(super) fn push_back(&mut self, mut entry: Entry, new_position: u64) {
        let mut lane = Lane::Usual;
        if self.arguments.queue_type == QueueType::Quorum {
            entry.position = new_position;
            if self.arguments.delivery_limit.is_some() {
                lane = Lane::Returned;
            }
        }
        self.insert(lane, entry);
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.insert(Lane::Usual, entry);
    }

    fn insert(&mut self, lane: Lane, entry: Entry) {
        let Arguments {
            max_priority,
            default_priority,
            ..
        } = self.arguments;
        let priority = match lane {
            Lane::Returned => 0,
            Lane::Usual => entry
                .envelope
                .priority
                .unwrap_or(default_priority)
                .min(max_priority),
        };
        self.ready_octets = self.ready_octets.saturating_add(entry.message.body_len() as u64);
        self.ready
            .insert((lane, Reverse(priority), entry.position), entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let (_, entry) = self.ready.pop_first()?;
        self.ready_octets = self.ready_octets.saturating_sub(entry.message.body_len() as u64);
        Some(entry)
    }

    /// The head, as whoever gets it is to see it. Only an answer to `basic.get` from 3.10 says that it was never delivered.
    pub(super) fn pop_to_deliver(&mut self, release: Release, is_got: bool) -> Option<Entry> {
        let mut entry = self.pop()?;
        let is_counted = entry.deliveries > 0 || is_got && release == Release::V3_10;
        if self.arguments.queue_type == QueueType::Quorum
            && is_counted
            && let Some(message) = counted(&entry.message, entry.deliveries, release)
        {
            entry.message = message;
        }
        Some(entry)
    }

    /// The head, if its time is over.
    pub(super) fn pop_expired(&mut self, is_over: impl Fn(Instant) -> bool) -> Option<Entry> {
        let (_, head) = self.ready.first_key_value()?;
        if head.deadline.is_some_and(is_over) {
            self.pop()
        } else {
            None
        }
    }

    /// The head, if there are too many.
    pub(super) fn pop_surplus(&mut self) -> Option<Entry> {
        if self.is_overfull() { self.pop() } else { None }
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.ready_octets = 0;
        std::mem::take(&mut self.ready).into_values()
    }

    /// Keeps what a restart does.
    pub(super) fn retain_persistent(&mut self) {
        if self.arguments.queue_type == QueueType::Classic {
            self.ready.retain(|_, entry| entry.envelope.is_persistent);
        }
        let octets = self.ready.values().map(|entry| entry.message.body_len() as u64);
        self.ready_octets = octets.sum();
    }

    /// What all the messages in it count for the limit of memory.
    pub(super) fn memory(&self) -> u64 {
        self.ready.values().map(|entry| entry.envelope.size).sum()
    }

    /// What is to be done with a message that dies here; `None` if it is just gone.
    pub(super) fn death(&self, name: &Name, letter: Letter, reason: Reason) -> Option<Death> {
        Some(Death {
            letter,
            reason,
            queue: name.clone(),
            is_from_quorum: self.arguments.queue_type == QueueType::Quorum,
            exchange: self.arguments.dead_letter_exchange.clone()?,
            routing_key: self.arguments.dead_letter_routing_key.clone(),
        })
    }
}

/// What is exclusive never survives, whatever it says.
pub(super) const fn is_durable(method: &QueueDeclare<'_>) -> bool {
    method.durable && !method.exclusive
}
