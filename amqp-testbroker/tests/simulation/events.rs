//! What a program makes of events: records what was answered, and notes what ended.

use std::time::Duration;

use amqp_proto::topology::{ChannelKey, Plan};
use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, ConfirmOutcome, ConfirmTag, ConsumerId, DeliveryTag, Event,
    Instant, Message, ReconnectAction, Reply, RequestError, RequestId,
};

use crate::case::{EXCHANGES, Mode, SERVER_NAMED, exchange_declare, queue_declare};
use crate::ledger::{Checked, ensure};
use crate::mail::{Arrival, Fate, number};
use crate::program::{Ask, Asked, Held, Phase, Program, exchange_bind, queue_bind, queue_unbind, text};
use crate::recovery::{Recovery, Started};
use crate::short;

impl Program {
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) -> Checked {
        self.ledger.on_event(&event)?;
        if let Some(recovery) = &mut self.recovery
            && recovery.on_event(&event, &mut self.topology)
        {
            if let Event::RequestFailed { cause, .. } = &event {
                self.gives_up |= *cause == RequestError::Timeout;
            }
            return Ok(());
        }
        match event {
            Event::Connected => {
                self.reconnect.connected(now);
                self.start_recovery();
            }
            Event::ChannelOpened { channel } => self.on_opened(channel),
            Event::Reply(reply) => self.on_reply(&reply),
            Event::RequestFailed { request, cause } => self.on_failed(request, &cause),
            Event::Delivery(delivery) => {
                let Some(Started { queue, no_ack, .. }) = self.consumers.get(&delivery.consumer) else {
                    return ensure(false, "deliveries are for consumers", || format!("{delivery:?}"));
                };
                let (queue, no_ack) = (queue.clone(), *no_ack);
                self.on_message(
                    &delivery.message,
                    delivery.tag,
                    &queue,
                    delivery.redelivered,
                    no_ack,
                )?;
                self.hold(
                    delivery.tag,
                    &delivery.message,
                    queue,
                    Some(delivery.consumer),
                    no_ack,
                )?;
            }
            Event::Got(got) => {
                let asked = self.asked.remove(&got.request.untyped());
                let Some(Asked {
                    ask: Ask::Get { queue, no_ack },
                    proves,
                    ..
                }) = asked
                else {
                    return ensure(false, "an answer is to its request", || format!("{got:?}"));
                };
                self.prove(proves);
                if no_ack {
                    self.mail.wipe(&text(&queue));
                }
                self.on_message(&got.message, got.tag, &text(&queue), got.redelivered, no_ack)?;
                self.hold(got.tag, &got.message, text(&queue), None, no_ack)?;
            }
            Event::GetEmpty { request } => {
                if let Some(asked) = self.asked.remove(&request.untyped()) {
                    self.prove(asked.proves);
                }
            }
            Event::Returned(returned) => {
                self.on_returned(returned.channel, returned.tag, &returned.message)?
            }
            Event::Confirmed { tags, outcome } => {
                self.tally.confirms += tags.count();
                for tag in tags.iter() {
                    self.on_confirmed(tag, &outcome);
                }
            }
            Event::ConsumerCancelled { consumer } => self.forget_consumer(consumer),
            Event::ChannelClosed { channel, reason } => self.on_channel_closed(channel, &reason),
            Event::Closed(reason) => self.on_closed(&reason, now)?,
            _ => {}
        }
        Ok(())
    }

    fn start_recovery(&mut self) {
        self.phase = Phase::Recovering;
        let plan = Plan::new(&self.topology);
        self.recovery = Some(Recovery::new(plan, true, self.settings.pipelines_plan));
    }

    fn on_opened(&mut self, channel: ChannelId) {
        if let Some(key) = self.slot_of(channel).and_then(|slot| slot.key) {
            self.topology.channel_opened(key);
        }
    }

    fn prove(&mut self, proves: Vec<(u64, String)>) {
        for (number, queue) in proves {
            self.mail.proved(number, &queue);
        }
    }

    fn on_reply(&mut self, reply: &Reply) {
        let request = reply.request();
        if let Some(Asked { key, ask, proves }) = self.asked.remove(&request) {
            self.prove(proves);
            self.record(key, ask, reply.method());
        }
    }

    /// Writes down what was answered.
    fn record(&mut self, key: ChannelKey, ask: Ask, answer: Option<Method<'_>>) {
        let topology = &mut self.topology;
        match ask {
            Ask::DeclareExchange(exchange) => topology.exchange_declared(&exchange_declare(exchange)),
            Ask::DeleteExchange(exchange) => {
                topology.exchange_deleted(&ExchangeDelete {
                    exchange: short(EXCHANGES[usize::from(exchange)].0),
                    ..Default::default()
                });
                self.destructive -= 1;
            }
            Ask::BindExchange { from, to, key } => topology.exchange_bound(&exchange_bind(from, to, key)),
            Ask::DeclareQueue(queue) => {
                if let Some(Method::QueueDeclareOk(ok)) = answer {
                    topology.queue_declared(key, &queue_declare(queue), ok.queue);
                    if queue == SERVER_NAMED {
                        self.own_queue = Some(ok.queue.into());
                    }
                }
            }
            Ask::DeleteQueue(queue) => {
                let delete = QueueDelete {
                    queue: queue.as_short_str(),
                    ..Default::default()
                };
                topology.queue_deleted(key, &delete);
                self.mail.wipe(&text(&queue));
                self.destructive -= 1;
            }
            Ask::Purge(queue) => {
                self.mail.wipe(&text(&queue));
                self.destructive -= 1;
            }
            Ask::Bind {
                queue,
                exchange,
                key: routing,
            } => topology.queue_bound(key, &queue_bind(&queue, exchange, routing)),
            Ask::Unbind {
                queue,
                exchange,
                key: routing,
            } => {
                topology.queue_unbound(key, &queue_unbind(&queue, exchange, routing));
                self.destructive -= 1;
            }
            Ask::Consume(consumer) => {
                if let Some(started) = self.consumers.get(&consumer) {
                    let consume = BasicConsume {
                        queue: short(&started.queue),
                        no_ack: started.no_ack,
                        ..Default::default()
                    };
                    topology.consumer_started(key, &consume, short(&started.tag));
                }
            }
            Ask::Cancel(consumer) => self.forget_consumer(consumer),
            Ask::Qos(qos) => topology.qos(key, &qos),
            Ask::Mode(Mode::Confirm) => topology.confirm_selected(key),
            Ask::Mode(_) => topology.transaction_selected(key),
            Ask::Recover => {
                let slot = self.slot_of_key(key);
                slot.recovers -= 1;
                slot.unsettled.clear();
            }
            Ask::Commit(numbers) => numbers
                .iter()
                .for_each(|number| self.mail.resolved(*number, Fate::Taken)),
            Ask::Rollback(numbers) => numbers
                .iter()
                .for_each(|number| self.mail.resolved(*number, Fate::Refused)),
            Ask::Get { .. } => {}
        }
    }

    fn on_failed(&mut self, request: RequestId, cause: &RequestError) {
        let Some(Asked { ask, .. }) = self.asked.remove(&request) else {
            return;
        };
        if *cause == RequestError::Timeout {
            // It may still be done, as long as there is a connection.
            self.gives_up = true;
            self.destructive += usize::from(ask.destroys());
        }
        match ask {
            Ask::DeleteQueue(queue) | Ask::Purge(queue) => {
                self.mail.wipe(&text(&queue));
                self.destructive -= 1;
            }
            Ask::DeleteExchange(_) | Ask::Unbind { .. } => self.destructive -= 1,
            Ask::Get { queue, .. } => self.mail.wipe(&text(&queue)),
            Ask::DeclareExchange(_) | Ask::DeclareQueue(_) | Ask::Bind { .. } | Ask::BindExchange { .. } => {
                self.has_ghosts = true;
            }
            Ask::Commit(numbers) | Ask::Rollback(numbers) => {
                numbers
                    .iter()
                    .for_each(|number| self.mail.resolved(*number, Fate::Unknown));
            }
            _ => {}
        }
    }

    fn on_message(
        &mut self,
        message: &Message,
        tag: DeliveryTag,
        queue: &str,
        redelivered: bool,
        no_ack: bool,
    ) -> Checked {
        self.tally.deliveries += 1;
        let arrival = Arrival {
            queue,
            channel: tag.channel(),
            redelivered,
            no_ack,
        };
        let (ledger, slots) = (&self.ledger, &self.slots);
        // When both sides close a channel, the broker's reason does not come through.
        let is_closing = |channel| {
            slots
                .iter()
                .any(|slot| slot.id == Some(channel) && slot.is_closing)
        };
        let is_there = |channel| ledger.is_channel_there(channel) && !is_closing(channel);
        self.mail.arrived(message, &arrival, is_there).map(drop)
    }

    /// A message is the program's to settle. No consumer has more of them than its limit.
    fn hold(
        &mut self,
        tag: DeliveryTag,
        message: &Message,
        queue: String,
        consumer: Option<ConsumerId>,
        no_ack: bool,
    ) -> Checked {
        if no_ack {
            return Ok(());
        }
        let started = consumer.and_then(|consumer| self.consumers.get(&consumer));
        let limit = started.and_then(|started| self.prefetch.get(&started.tag).copied());
        let Some(slot) = self.slot_of(tag.channel()) else {
            return Ok(());
        };
        let held = Held {
            number: number(message),
            queue,
            consumer,
        };
        slot.unsettled.insert(tag.value(), held);
        let mut all = slot.unsettled.values();
        let count = all.by_ref().filter(|held| held.consumer == consumer).count();
        let is_within = limit.is_none_or(|limit| limit == 0 || count <= usize::from(limit));
        ensure(
            consumer.is_none() || is_within,
            "a consumer gets no more than its limit",
            || format!("{count} instead of {limit:?} at {consumer:?}"),
        )
    }

    /// A return names a publish. Without numbers of our own it may name another one with the same route.
    fn on_returned(&mut self, channel: ChannelId, tag: Option<ConfirmTag>, message: &Message) -> Checked {
        let (came, is_numbered) = (number(message), self.settings.numbers_publishes);
        let named = tag.and_then(|tag| self.slot_of(channel)?.tags.get(&tag.value()).copied());
        if tag.is_none() {
            // In a transaction, where it counts as committed all the same.
            self.mail.doubt(came);
        }
        if let Some(named) = named
            && named != came
        {
            ensure(!is_numbered, "a return names its publish", || {
                format!("message {came} came back as {named}")
            })?;
            self.mail.doubt(named);
            self.mail.doubt(came);
        }
        Ok(())
    }

    fn on_confirmed(&mut self, tag: ConfirmTag, outcome: &ConfirmOutcome) {
        let fate = match outcome {
            ConfirmOutcome::Acked => Fate::Taken,
            ConfirmOutcome::Nacked | ConfirmOutcome::Returned => Fate::Refused,
            _ => Fate::Unknown,
        };
        let number = self
            .slot_of(tag.channel())
            .and_then(|slot| slot.tags.remove(&tag.value()));
        if let Some(number) = number {
            self.mail.resolved(number, fate);
        }
    }

    fn forget_consumer(&mut self, consumer: ConsumerId) {
        let Some(slot) = self.slot_of(consumer.channel()) else {
            return;
        };
        slot.consumers.retain(|other| *other != consumer);
        let key = slot.key;
        if let (Some(key), Some(started)) = (key, self.consumers.get(&consumer)) {
            self.topology.consumer_cancelled(key, short(&started.tag));
        }
    }

    fn on_channel_closed(&mut self, channel: ChannelId, reason: &ChannelCloseReason) {
        let is_restored_by_plan = self
            .recovery
            .as_ref()
            .is_some_and(|recovery| !recovery.is_finished());
        let reopens = self.settings.reopens_channels;
        let Some(slot) = self.slot_of(channel) else {
            return;
        };
        let key = slot.key;
        let ended = std::mem::take(slot);
        slot.key = key;
        for number in ended.transaction {
            self.mail.resolved(number, Fate::Unknown);
        }
        let tags = ended
            .unsettled
            .keys()
            .map(|value| DeliveryTag::new(channel, *value));
        self.stale.extend(tags.take(3));
        // So many are enough to try.
        self.stale.drain(..self.stale.len().saturating_sub(3));
        let Some(key) = key else {
            return;
        };
        let is_recorded = self.topology.channels().any(|other| other == key);
        // Nobody asked for it but the adapter.
        let is_given_up = self.gives_up && !ended.is_closing;
        self.gives_up |= matches!(reason, ChannelCloseReason::Timeout(_));
        match reason {
            ChannelCloseReason::Connection(_) | ChannelCloseReason::Timeout(_) if is_recorded => {}
            ChannelCloseReason::Requested if is_recorded && is_given_up => {}
            ChannelCloseReason::Peer(_) if is_recorded && (reopens || is_restored_by_plan) => {
                self.reopen.insert(key);
                // With its consumers a queue may have gone that is being declared again: then it comes back without its bindings.
                self.has_ghosts |= self.ledger.has_open_requests();
            }
            _ => {
                self.topology.channel_closed(key);
                self.slot_of_key(key).key = None;
            }
        }
    }

    fn on_closed(&mut self, reason: &CloseReason, now: Instant) -> Checked {
        self.recovery = None;
        self.reopen.clear();
        self.asked.clear();
        self.destructive = 0;
        self.consumers.clear();
        if self.phase == Phase::Leaving {
            self.phase = Phase::Left;
            return Ok(());
        }
        if std::mem::take(&mut self.gives_up) {
            self.phase = Phase::Waiting(now + Duration::from_secs(1));
            return Ok(());
        }
        match self.reconnect.failed(reason, now) {
            ReconnectAction::ConnectAt { at, .. } => {
                self.phase = Phase::Waiting(at);
                Ok(())
            }
            ReconnectAction::GiveUp { reason } => {
                ensure(false, "recovery goes on while it makes sense", || {
                    reason.to_string()
                })
            }
            _ => Ok(()),
        }
    }
}
