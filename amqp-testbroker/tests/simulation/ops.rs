//! What a program sends for each of its operations.

use amqp_proto::Connection;
use amqp_proto::topology::Name;
use amqp_proto::wire::*;

use crate::case::{How, KEYS, Mode, Op, Publish, Route, Settle, exchange_declare, queue_declare};
use crate::ledger::{Checked, ensure};
use crate::mail::{Posting, body, properties};
use crate::program::{Ask, Held, Program, exchange_bind, exchange_name, queue_bind, queue_unbind, text};
use crate::recovery::Started;
use crate::short;

/// Sends a request on a slot's channel, and notes what its answer means.
macro_rules! request {
    ($program:ident, $connection:ident, $slot:expr, $ask:expr, |$channel:ident| $send:expr) => {{
        let Some(id) = $program.slots[usize::from($slot)].id else {
            return Ok(());
        };
        let result = $connection
            .channel(id)
            .and_then(|mut $channel| $send)
            .map(|request| request.untyped());
        if let Some(request) = $program.sent(result)? {
            $program.asks($slot, request, $ask)?;
        }
    }};
}

impl Program {
    /// Does it, if it can be done now.
    pub(crate) fn run(&mut self, connection: &mut Connection, op: &Op) -> Checked {
        match *op {
            Op::Open { slot, mode } => return self.open(connection, slot, mode),
            Op::Wait { .. } => return Ok(()),
            _ => {}
        }
        if self.slot_for(op).is_none_or(|slot| {
            let slot = &self.slots[usize::from(slot)];
            slot.id.is_none() || slot.is_closing
        }) {
            return Ok(());
        }
        match op {
            Op::Close { slot } => self.close(connection, *slot),
            Op::Publish(publish) => self.publish(connection, publish),
            Op::Settle(settle) => self.settle(connection, settle),
            Op::SettleStale { slot } => self.settle_stale(connection, *slot),
            Op::Consume { slot, queue, no_ack } => self.consume(connection, *slot, *queue, *no_ack),
            Op::Cancel { slot, nth } => self.cancel(connection, *slot, *nth),
            Op::Commit { slot } | Op::Rollback { slot } => {
                self.end_transaction(connection, *slot, matches!(op, Op::Commit { .. }))
            }
            _ => self.ask(connection, op),
        }
    }

    fn slot_for(&self, op: &Op) -> Option<u8> {
        Some(match *op {
            Op::Close { slot }
            | Op::DeclareExchange { slot, .. }
            | Op::DeleteExchange { slot, .. }
            | Op::BindExchange { slot, .. }
            | Op::DeclareQueue { slot, .. }
            | Op::DeleteQueue { slot, .. }
            | Op::Purge { slot, .. }
            | Op::Bind { slot, .. }
            | Op::Unbind { slot, .. }
            | Op::Publish(Publish { slot, .. })
            | Op::Consume { slot, .. }
            | Op::Cancel { slot, .. }
            | Op::Get { slot, .. }
            | Op::Settle(Settle { slot, .. })
            | Op::Qos { slot, .. }
            | Op::Recover { slot }
            | Op::Commit { slot }
            | Op::Rollback { slot }
            | Op::SettleStale { slot } => slot,
            Op::Open { .. } | Op::Wait { .. } => return None,
        })
    }

    fn open(&mut self, connection: &mut Connection, slot: u8, mode: Mode) -> Checked {
        if self.slots[usize::from(slot)].key.is_some() {
            return Ok(());
        }
        let result = connection.open_channel();
        let Some(id) = self.sent(result)? else {
            return Ok(());
        };
        self.ledger.channel_made(id)?;
        let key = self.new_key(slot);
        let place = &mut self.slots[usize::from(slot)];
        place.key = Some(key);
        place.id = Some(id);
        if let Ok(mut channel) = connection.channel(id) {
            let result = self.settings.apply(&mut channel);
            ensure(result == Ok(()), "a channel begins without deliveries", || {
                format!("{result:?}")
            })?;
        }
        match mode {
            Mode::Plain => {}
            Mode::Confirm => request!(self, connection, slot, Ask::Mode(mode), |channel| {
                channel.request(&ConfirmSelect::default())
            }),
            Mode::Transaction => {
                request!(self, connection, slot, Ask::Mode(mode), |channel| channel
                    .request(&TxSelect::default()));
                self.slots[usize::from(slot)].is_transactional = true;
            }
        }
        Ok(())
    }

    fn close(&mut self, connection: &mut Connection, slot: u8) -> Checked {
        let place = &mut self.slots[usize::from(slot)];
        let Some(id) = place.id else { return Ok(()) };
        let result = connection
            .channel(id)
            .and_then(|mut channel| channel.close(ReplyCode::REPLY_SUCCESS, "done"));
        if self.sent(result)?.is_some() {
            self.slots[usize::from(slot)].is_closing = true;
            // Its consumers go, and with them queues and what is bound to them.
            self.mail.doubt_open();
        }
        Ok(())
    }

    /// What is one request.
    fn ask(&mut self, connection: &mut Connection, op: &Op) -> Checked {
        match *op {
            Op::DeclareExchange { slot, exchange } => {
                request!(
                    self,
                    connection,
                    slot,
                    Ask::DeclareExchange(exchange),
                    |channel| channel.request(&exchange_declare(exchange))
                );
            }
            Op::DeleteExchange { slot, exchange } => {
                let delete = ExchangeDelete {
                    exchange: exchange_name(exchange),
                    ..Default::default()
                };
                request!(self, connection, slot, Ask::DeleteExchange(exchange), |channel| {
                    channel.request(&delete)
                });
            }
            Op::BindExchange { slot, from, to, key } => {
                request!(
                    self,
                    connection,
                    slot,
                    Ask::BindExchange { from, to, key },
                    |channel| channel.request(&exchange_bind(from, to, key))
                );
            }
            Op::DeclareQueue { slot, queue } => {
                request!(self, connection, slot, Ask::DeclareQueue(queue), |channel| {
                    channel.request(&queue_declare(queue))
                });
            }
            Op::Qos { slot, count, global } => {
                let qos = BasicQos {
                    prefetch_count: count,
                    global,
                    ..Default::default()
                };
                request!(self, connection, slot, Ask::Qos(qos), |channel| channel
                    .request(&qos));
            }
            Op::Recover { slot } => {
                request!(self, connection, slot, Ask::Recover, |channel| channel
                    .request(&BasicRecover { requeue: true }));
                self.slots[usize::from(slot)].recovers += 1;
            }
            _ => return self.ask_about_queue(connection, op),
        }
        Ok(())
    }

    fn ask_about_queue(&mut self, connection: &mut Connection, op: &Op) -> Checked {
        let (Op::DeleteQueue { slot, queue }
        | Op::Purge { slot, queue }
        | Op::Bind { slot, queue, .. }
        | Op::Unbind { slot, queue, .. }
        | Op::Get { slot, queue, .. }) = *op
        else {
            return Ok(());
        };
        let Some(queue) = self.queue_name(queue) else {
            return Ok(());
        };
        let name: Name = queue.clone();
        match *op {
            Op::DeleteQueue { .. } => {
                let delete = QueueDelete {
                    queue: name.as_short_str(),
                    ..Default::default()
                };
                request!(self, connection, slot, Ask::DeleteQueue(queue), |channel| channel
                    .request(&delete));
            }
            Op::Purge { .. } => {
                let purge = QueuePurge {
                    queue: name.as_short_str(),
                    ..Default::default()
                };
                request!(self, connection, slot, Ask::Purge(queue), |channel| channel
                    .request(&purge));
            }
            Op::Bind { exchange, key, .. } => {
                request!(
                    self,
                    connection,
                    slot,
                    Ask::Bind { queue, exchange, key },
                    |channel| channel.request(&queue_bind(&name, exchange, key))
                );
            }
            Op::Unbind { exchange, key, .. } => {
                request!(
                    self,
                    connection,
                    slot,
                    Ask::Unbind { queue, exchange, key },
                    |channel| channel.request(&queue_unbind(&name, exchange, key))
                );
            }
            Op::Get { no_ack, .. } => {
                // A transaction would hold back what it acknowledges.
                if self.slots[usize::from(slot)].is_transactional {
                    return Ok(());
                }
                let get = BasicGet {
                    queue: name.as_short_str(),
                    no_ack,
                };
                request!(self, connection, slot, Ask::Get { queue, no_ack }, |channel| {
                    channel.get(&get)
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn publish(&mut self, connection: &mut Connection, publish: &Publish) -> Checked {
        let index = usize::from(publish.slot);
        let (exchange, key) = match publish.route {
            Route::Queue(queue) => match self.queue_name(queue) {
                Some(queue) => (String::new(), text(&queue)),
                None => return Ok(()),
            },
            Route::Exchange(exchange, key) => (
                exchange_name(exchange).to_string(),
                KEYS[usize::from(key)].to_owned(),
            ),
        };
        let method = BasicPublish {
            exchange: short(&exchange),
            routing_key: short(&key),
            mandatory: publish.mandatory,
            ..Default::default()
        };
        for _ in 0..publish.count {
            let Some(id) = self.slots[index].id else {
                return Ok(());
            };
            let number = self.mail.next();
            let name = number.to_string();
            let properties = properties(&name, publish.persistent);
            let body = body(number, publish.size);
            let result = connection
                .channel(id)
                .and_then(|mut channel| channel.publish(&method, &properties, &body[..]));
            let Some(tag) = self.sent(result)? else {
                return Ok(());
            };
            self.mail.posted(Posting {
                channel: id,
                size: publish.size,
                persistent: publish.persistent,
                expected: self.expected(&exchange, &key, publish.mandatory),
                is_uncertain: self.destructive > 0,
            });
            let slot = &mut self.slots[index];
            if let Some(tag) = tag {
                slot.tags.insert(tag.value(), number);
                self.ledger.published(id, tag.value())?;
            } else if slot.is_transactional {
                slot.transaction.push(number);
            } else {
                self.mail.resolved(number, crate::mail::Fate::Unknown);
            }
        }
        Ok(())
    }

    fn settle(&mut self, connection: &mut Connection, settle: &Settle) -> Checked {
        let slot = &self.slots[usize::from(settle.slot)];
        let Some(id) = slot.id else { return Ok(()) };
        if slot.recovers > 0 || slot.unsettled.is_empty() || slot.is_transactional {
            return Ok(());
        }
        let nth = usize::from(settle.nth) % slot.unsettled.len();
        let Some(value) = slot.unsettled.keys().nth(nth).copied() else {
            return Ok(());
        };
        let tag = amqp_proto::DeliveryTag::new(id, value);
        let result = connection
            .channel(id)
            .and_then(|mut channel| match (settle.how, settle.multiple) {
                (How::Ack, false) => channel.ack(tag),
                (How::Ack, true) => channel.ack_multiple(tag),
                (How::Nack { requeue }, false) => channel.nack(tag, requeue),
                (How::Nack { requeue }, true) => channel.nack_multiple(tag, requeue),
                (How::Reject { requeue }, _) => channel.reject(tag, requeue),
            });
        if self.sent(result)?.is_none() {
            return Ok(());
        }
        let is_multiple = settle.multiple && !matches!(settle.how, How::Reject { .. });
        let requeue = matches!(
            settle.how,
            How::Nack { requeue: true } | How::Reject { requeue: true }
        );
        let slot = &mut self.slots[usize::from(settle.slot)];
        let meant = |other: &u64| *other == value || is_multiple && *other < value;
        let values: Vec<u64> = slot.unsettled.keys().copied().filter(meant).collect();
        for value in values {
            let Some(Held { number, queue, .. }) = slot.unsettled.remove(&value) else {
                continue;
            };
            if !requeue {
                self.mail.settled(number, &queue, id);
                slot.unproved.push((number, queue));
            }
        }
        Ok(())
    }

    /// A tag of a channel that ended must not settle what came on the channel that has its number now.
    fn settle_stale(&mut self, connection: &mut Connection, slot: u8) -> Checked {
        let Some(id) = self.slots[usize::from(slot)].id else {
            return Ok(());
        };
        for tag in &self.stale {
            let result = connection.channel(id).and_then(|mut channel| channel.ack(*tag));
            ensure(result.is_err(), "a stale tag is refused", || {
                format!("{tag:?} on {id}")
            })?;
        }
        Ok(())
    }

    fn consume(&mut self, connection: &mut Connection, slot: u8, queue: u8, no_ack: bool) -> Checked {
        let Some(queue) = self.queue_name(queue) else {
            return Ok(());
        };
        let place = &self.slots[usize::from(slot)];
        let (Some(id), false) = (place.id, place.is_transactional) else {
            return Ok(());
        };
        let consume = BasicConsume {
            queue: queue.as_short_str(),
            no_ack,
            ..Default::default()
        };
        let result = connection.channel(id).and_then(|mut channel| {
            let (consumer, request) = channel.consume(&consume)?;
            let tag = channel.consumer_tag(consumer).map(|tag| tag.to_string());
            Ok((consumer, request, tag.unwrap_or_default()))
        });
        let Some((consumer, request, tag)) = self.sent(result)? else {
            return Ok(());
        };
        let queue = text(&queue);
        if no_ack {
            // From now on nobody can say what of it was lost on the way.
            self.mail.wipe_for_good(&queue);
        }
        if let Some(prefetch) = self.slots[usize::from(slot)].prefetch {
            self.prefetch.insert(tag.clone(), prefetch);
        }
        self.consumers.insert(consumer, Started { tag, queue, no_ack });
        self.slots[usize::from(slot)].consumers.push(consumer);
        self.asks(slot, request.untyped(), Ask::Consume(consumer))
    }

    fn cancel(&mut self, connection: &mut Connection, slot: u8, nth: u8) -> Checked {
        let consumers = &self.slots[usize::from(slot)].consumers;
        let count = consumers.len();
        if count == 0 {
            return Ok(());
        }
        let consumer = consumers[usize::from(nth) % count];
        let Some(id) = self.slots[usize::from(slot)].id else {
            return Ok(());
        };
        let result = connection
            .channel(id)
            .and_then(|mut channel| channel.cancel(consumer));
        if matches!(result, Err(amqp_proto::SendError::UnknownConsumer)) {
            return Ok(()); // It is being cancelled.
        }
        if let Some(request) = self.sent(result)? {
            self.mail.doubt_open();
            self.asks(slot, request.untyped(), Ask::Cancel(consumer))?;
        }
        Ok(())
    }

    fn end_transaction(&mut self, connection: &mut Connection, slot: u8, commits: bool) -> Checked {
        let place = &mut self.slots[usize::from(slot)];
        if !place.is_transactional {
            return Ok(());
        }
        let numbers = place.transaction.clone();
        if commits {
            request!(self, connection, slot, Ask::Commit(numbers), |channel| channel
                .request(&TxCommit::default()));
        } else {
            request!(self, connection, slot, Ask::Rollback(numbers), |channel| channel
                .request(&TxRollback::default()));
        }
        self.slots[usize::from(slot)].transaction.clear();
        Ok(())
    }
}
