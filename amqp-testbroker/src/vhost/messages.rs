//! The way of messages: into queues, out of them, back and away.

use amqp_proto::wire::{BasicConsume, ReplyCode};
use amqp_proto::{Instant, Message};

use super::arguments::{Overflow, QueueType, check_consumer};
use super::death::{Reason, is_cycle, sooner};
use super::declare::count;
use super::exchange::Destination;
use super::letter::Letter;
use super::{Addressed, ConsumerKey, Entry, Name, Published, Sink, VirtualHost};
use crate::broker::ConnectionKey;
use crate::config::Release;
use crate::erlang;
use crate::refusal::Refusal;

/// How many deaths may follow from one, if dead letter exchanges lead from queue to queue. The rest is dropped: queues that are
/// full and lead to each other could go on for longer than anybody waits.
const MAX_DEATHS: usize = 100;

impl VirtualHost {
    /// Finds the queues for a message (CC, BCC and alternate exchanges included). `Err` for an exchange that is not there or is
    /// internal, and for CC or BCC that is no array.
    pub(crate) fn address(&self, message: &Message) -> Result<Addressed, Refusal> {
        let name = message.exchange().as_bytes();
        if self.exchange(name)?.internal {
            let exchange = self.exchange_resource(name);
            return Err(Refusal::access_refused(format_args!(
                "cannot publish to internal {exchange}"
            )));
        }
        let letter = Letter::published(message)?;
        let queues = self.route(&letter);
        Ok(Addressed { letter, queues })
    }

    /// What a commit looks at: queues that are gone since they were found are none to RabbitMQ 3; RabbitMQ 4 ends the connection.
    pub(crate) fn check_not_gone(&self, addressed: &Addressed) -> Result<(), Refusal> {
        let mut queues = addressed.queues.iter();
        match queues.find(|queue| !self.queues.contains_key(*queue)) {
            Some(gone) if self.release != Release::V3_10 => {
                let [host, queue] =
                    [self.name.as_bytes(), gone].map(|octets| erlang::printed(octets, self.release));
                let text = format_args!(
                    "failed to deliver message: {{not_found,{{resource,{host},queue,{queue}}}}}"
                );
                Err(Refusal::connection(ReplyCode::RESOURCE_ERROR, text))
            }
            _ => Ok(()),
        }
    }

    /// Puts a message into its queues (dead-lettering by length included).
    pub(crate) fn publish(&mut self, addressed: &Addressed, now: Instant) -> Published {
        let mut published = Published {
            queues: 0,
            is_rejected: false,
        };
        for queue in &addressed.queues {
            if self.queues.contains_key(queue) {
                published.queues = published.queues.saturating_add(1);
                published.is_rejected |= !self.put(queue, &addressed.letter, now);
            }
        }
        self.bury(now);
        published
    }

    /// The queues that a message is for, each once.
    fn route(&self, letter: &Letter) -> Vec<Name> {
        let mut queues = Vec::new();
        let first = letter.message.exchange().as_bytes();
        if first.is_empty() {
            for key in letter.routing_keys() {
                queues.extend(self.queues.get_key_value(key).map(|(name, _)| name.clone()));
            }
        } else {
            let mut seen = vec![Name::copy_from_slice(first)];
            let mut next = 0;
            while let Some(name) = seen.get(next).cloned() {
                next = next.saturating_add(1);
                let Some(exchange) = self.exchanges.get(&name) else {
                    continue;
                };
                exchange.route(letter, self.release, |destination| match destination {
                    Destination::Queue(queue) => queues.push(queue),
                    Destination::Exchange(exchange) => {
                        if !seen.contains(&exchange) {
                            seen.push(exchange);
                        }
                    }
                });
            }
        }
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    /// Puts a message into a queue, or says that there is no room for it.
    fn put(&mut self, name: &Name, letter: &Letter, now: Instant) -> bool {
        let position = self.next_position();
        let Some(queue) = self.queues.get_mut(name) else {
            return true;
        };
        if queue.has_no_room_for(letter) {
            if queue.arguments.overflow == Overflow::RejectPublishDlx {
                self.dying
                    .extend(queue.death(name, letter.clone(), Reason::MaxLength));
            }
            return false;
        }
        let time_to_live = sooner(queue.arguments.message_ttl, letter.envelope.time_to_live);
        queue.push(Entry {
            message: letter.message.clone(),
            envelope: letter.envelope.clone(),
            queue: name.clone(),
            deliveries: 0,
            position,
            deadline: time_to_live.map(|after| now + after),
        });
        self.memory = self.memory.saturating_add(letter.envelope.size);
        self.attend(name, now);
        true
    }

    /// Later than all there were.
    fn next_position(&mut self) -> u64 {
        let position = self.position;
        self.position = position.saturating_add(1);
        position
    }

    /// Something came into a queue: a dispatch looks at it, at once if there is nobody to deliver to.
    fn attend(&mut self, name: &[u8], now: Instant) {
        match self.queues.get(name) {
            Some(queue) if queue.consumers.is_empty() => self.settle(name, now),
            Some(_) => {
                self.note_room(name);
                self.retime(name);
            }
            None => {}
        }
    }

    /// Nothing more of a queue can be delivered: what is too much or too old goes.
    fn settle(&mut self, name: &[u8], now: Instant) {
        while let Some(entry) = self.queues.get_mut(name).and_then(|queue| queue.pop_surplus()) {
            self.die(entry, Reason::MaxLength);
        }
        let is_over = |deadline| deadline <= now;
        while let Some(entry) = self
            .queues
            .get_mut(name)
            .and_then(|queue| queue.pop_expired(is_over))
        {
            self.die(entry, Reason::Expired);
        }
        self.retime(name);
    }

    /// A message is out of its queue for good; [`bury`](Self::bury) sends it on.
    fn die(&mut self, entry: Entry, reason: Reason) {
        self.forget(entry.envelope.size);
        let name = entry.queue.clone();
        if let Some(queue) = self.queues.get(&name) {
            self.dying.extend(queue.death(&name, entry.into_letter(), reason));
        }
    }

    /// Sends on what died, and what dies of that.
    fn bury(&mut self, now: Instant) {
        let mut left = self.dying.len().saturating_mul(MAX_DEATHS);
        while let Some(death) = self.dying.pop_front() {
            if left == 0 {
                continue;
            }
            left = left.saturating_sub(1);
            if !self.exchanges.contains_key(&death.exchange) {
                continue;
            }
            let Some(letter) = death.letter(now, self.release) else {
                continue;
            };
            for queue in self.route(&letter) {
                if !is_cycle(&letter.message, &queue) {
                    self.put(&queue, &letter, now);
                }
            }
        }
    }

    /// Takes the next message, if there is one, and says how many are left.
    pub(crate) fn get(
        &mut self,
        queue: &[u8],
        by: ConnectionKey,
        now: Instant,
    ) -> Result<Option<(Entry, u32)>, Refusal> {
        let arguments = &self.queue(queue, by)?.arguments;
        if arguments.queue_type == QueueType::Quorum && arguments.single_active_consumer {
            let queue = self.queue_resource(queue);
            return Err(Refusal::channel(
                ReplyCode::RESOURCE_LOCKED,
                format_args!(
                    "cannot obtain access to locked {queue}. basic.get operations are not supported by \
                     quorum queues with single active consumer"
                ),
            ));
        }
        self.settle(queue, now);
        let release = self.release;
        let found = self.queue(queue, by)?;
        found.used = now;
        let got = found.pop_to_deliver(release, true);
        self.settle(queue, now);
        let left = count(self.queue_len(queue).unwrap_or(0));
        self.bury(now);
        Ok(got.map(|entry| (entry, left)))
    }

    /// Adds a consumer (exclusive, priority, single active consumer). `method.queue` names the queue; the tag is `key.tag`.
    pub(crate) fn consume(
        &mut self,
        method: &BasicConsume<'_>,
        key: ConsumerKey,
        _now: Instant,
    ) -> Result<(), Refusal> {
        let name = method.queue.as_bytes();
        let queue_type = self.queue(name, key.connection)?.arguments.queue_type;
        let priority = check_consumer(method.arguments, self.queue_resource(name), queue_type)?;
        let queue = self.queue(name, key.connection)?;
        if !queue.consumers.add(key, priority, method.exclusive) {
            let queue = self.queue_resource(name);
            return Err(Refusal::access_refused(format_args!("{queue} in exclusive use")));
        }
        queue.had_consumers = true;
        self.note_room(name);
        self.retime(name);
        Ok(())
    }

    /// Removes a consumer; the queue goes with its last one if it is auto-delete.
    pub(crate) fn cancel(&mut self, queue: &[u8], key: &ConsumerKey, now: Instant) {
        let Some(found) = self.queues.get_mut(queue) else {
            return;
        };
        if !found.consumers.remove(key) {
            return;
        }
        if !found.consumers.is_empty() {
            // The next one may be active now.
            self.note_room(queue);
        } else if found.auto_delete {
            self.remove_queue(queue);
        } else {
            found.used = now;
            self.settle(queue, now);
            self.bury(now);
        }
    }

    /// It was acknowledged, or delivered to somebody who does not.
    pub(crate) fn acknowledge(&mut self, entry: Entry, _now: Instant) {
        self.forget(entry.envelope.size);
    }

    /// They go back to their places (delivery limit included).
    pub(crate) fn requeue(&mut self, entries: Vec<Entry>, now: Instant) {
        let mut changed: Vec<Name> = Vec::new();
        for mut entry in entries {
            let position = self.next_position();
            entry.deliveries = entry.deliveries.saturating_add(1);
            let Some(queue) = self.queue_of(&entry) else {
                self.forget(entry.envelope.size);
                continue;
            };
            let limit = queue.arguments.delivery_limit;
            if limit.is_some_and(|limit| entry.deliveries > limit) {
                self.die(entry, Reason::DeliveryLimit);
                continue;
            }
            if changed.last() != Some(&entry.queue) {
                changed.push(entry.queue.clone());
            }
            queue.push_back(entry, position);
        }
        for name in changed {
            self.attend(&name, now);
        }
        self.bury(now);
    }

    /// It was rejected for good: dead-lettered or dropped.
    pub(crate) fn reject(&mut self, entry: Entry, now: Instant) {
        if self.queue_of(&entry).is_some() {
            self.die(entry, Reason::Rejected);
            self.bury(now);
        } else {
            self.forget(entry.envelope.size);
        }
    }

    /// The queue that it is from, unless that is gone, or another one has its name now.
    fn queue_of(&mut self, entry: &Entry) -> Option<&mut super::queue::Queue> {
        let queue = self.queues.get_mut(&entry.queue)?;
        (queue.born <= entry.position).then_some(queue)
    }

    /// Delivers what can be delivered: looks only at queues where something changed, or whose consumers got room
    /// ([`note_room`](Self::note_room)).
    pub(crate) fn dispatch(&mut self, now: Instant, sink: &mut impl Sink) {
        while !self.changed.is_empty() {
            for name in std::mem::take(&mut self.changed) {
                self.dispatch_queue(&name, now, sink);
            }
            self.bury(now);
        }
    }

    fn dispatch_queue(&mut self, name: &[u8], now: Instant, sink: &mut impl Sink) {
        let Some(queue) = self.queues.get_mut(name) else {
            return;
        };
        let release = self.release;
        queue.is_changed = false;
        queue.consumers.unblock(|key| sink.has_room(key));
        let mut expired = Vec::new();
        while !queue.is_empty() {
            // What lives for no time at all is delivered if that is possible at once.
            if let Some(entry) = queue.pop_expired(|deadline| deadline < now) {
                expired.push(entry);
                continue;
            }
            let Some(key) = queue.consumers.next(|key| sink.has_room(key)) else {
                break;
            };
            let Some(entry) = queue.pop_to_deliver(release, false) else {
                break;
            };
            sink.deliver(&key, entry);
        }
        for entry in expired {
            self.die(entry, Reason::Expired);
        }
        self.settle(name, now);
    }

    /// A consumer of that queue may have room again.
    pub(crate) fn note_room(&mut self, queue: &[u8]) {
        if let Some(found) = self.queues.get_mut(queue)
            && !found.is_changed
        {
            found.is_changed = true;
            self.changed.push(Name::copy_from_slice(queue));
        }
    }

    /// Expires what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((deadline, name)) = self.timers.first()
            && *deadline <= now
        {
            let name = name.clone();
            let expiry = self.queues.get(&name).and_then(|queue| queue.expiry());
            if expiry.is_some_and(|expiry| expiry <= now) {
                self.remove_queue(&name);
            } else {
                self.settle(&name, now);
            }
        }
        self.bury(now);
    }

    /// Notes when a queue is to be looked at.
    pub(super) fn retime(&mut self, name: &[u8]) {
        let Some(queue) = self.queues.get_mut(name) else {
            return;
        };
        let deadline = queue.deadline();
        if deadline == queue.timer {
            return;
        }
        let name = Name::copy_from_slice(name);
        if let Some(before) = std::mem::replace(&mut queue.timer, deadline) {
            self.timers.remove(&(before, name.clone()));
        }
        self.timers.extend(deadline.map(|deadline| (deadline, name)));
    }

    /// That many octets are not held any more.
    pub(super) fn forget(&mut self, size: u64) {
        self.memory = self.memory.saturating_sub(size);
    }
}
