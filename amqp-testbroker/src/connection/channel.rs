//! One channel: what it remembers, and which method goes where.

use std::collections::BTreeMap;
use std::time::Duration;

use amqp_proto::Instant;
use amqp_proto::wire::*;

use super::confirm::Confirms;
use super::content::{Assembled, Assembly};
use super::context::Context;
use super::frame::Delimited;
use super::tx::Transaction;
use crate::config::Release;
use crate::fault::MethodFault;
use crate::refusal::Refusal;
use crate::vhost::{Entry, Name};

/// What a frame on a channel leads to that it should not have.
#[derive(Debug)]
pub(super) enum Failure {
    /// A refusal, and the method that is to blame.
    Refused(Refusal, MethodId),
    /// Nobody is told anything.
    HangUp,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `channel.open` is awaited.
    #[default]
    Starting,
    Open,
    /// `channel.close` is out, and its answer awaited.
    Closing,
    Gone,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    state: State,
    assembly: Assembly,
    /// What an empty queue name means.
    pub(super) last_queue: Name,
    pub(super) consumers: BTreeMap<Name, Consumer>,
    pub(super) reply_consumer: Option<ReplyConsumer>,
    /// The last delivery tag.
    pub(super) deliveries: u64,
    pub(super) unsettled: BTreeMap<u64, Unsettled>,
    /// How many of these went to consumers.
    pub(super) in_flight: u32,
    /// The limit for each consumer that is yet to come; 0 is none.
    pub(super) consumer_prefetch: u16,
    /// The limit for all consumers together; 0 is none.
    pub(super) channel_prefetch: u16,
    pub(super) confirms: Option<Confirms>,
    pub(super) transaction: Option<Transaction>,
    /// Some deliveries have to be settled in time.
    pub(super) has_time_limits: bool,
    /// A fault: nothing is heard but `channel.close`.
    is_stalled: bool,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: Name,
    pub(super) no_ack: bool,
    pub(super) prefetch: u16,
    pub(super) in_flight: u32,
    /// How long its deliveries may be unsettled; none is for ever.
    pub(super) settle_within: Option<Duration>,
    /// How many were not settled in time: it gets nothing until they are settled after all.
    pub(super) timed_out: u32,
}

/// The consumer of `amq.rabbitmq.reply-to`.
#[derive(Debug)]
pub(super) struct ReplyConsumer {
    pub(super) tag: Name,
    /// What stands in `reply_to` instead.
    pub(super) address: Name,
}

/// Delivered, and not settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// None if it went back, not settled in time.
    pub(super) entry: Option<Entry>,
    /// Who got it; `None` for `basic.get`.
    pub(super) consumer: Option<Name>,
    /// When it is not settled in time.
    pub(super) settle_by: Option<Instant>,
}

impl Channel {
    /// A frame on it.
    pub(super) fn on_frame(&mut self, cx: &mut Context<'_>, frame: &Delimited<'_>) -> Result<(), Failure> {
        let is_open = self.state == State::Open;
        match self.assembly.on_frame(cx, frame, is_open)? {
            Assembled::Nothing => Ok(()),
            Assembled::Method(method) => {
                let id = method.spec().id;
                let result = match self.fault(cx, &method) {
                    None => self.on_method(cx, &method),
                    Some(fault) => fault.into_result(),
                };
                result.map_err(|refusal| Failure::Refused(refusal, id))
            }
            Assembled::Content(content) => {
                let id = content.method.id;
                let result = match self.state {
                    State::Starting => Err(not_open()),
                    State::Open if content.method.publish.is_some() => self.publish(cx, content),
                    State::Open => Err(unimplemented_method()),
                    State::Closing | State::Gone => Ok(()),
                };
                result.map_err(|refusal| Failure::Refused(refusal, id))
            }
        }
    }

    /// What goes wrong with it.
    fn fault(&mut self, cx: &mut Context<'_>, method: &Method<'_>) -> Option<MethodFault> {
        if matches!(method, Method::ChannelClose(_)) {
            return None;
        }
        if self.is_stalled {
            return Some(MethodFault::StallsChannel);
        }
        let fault = cx.common.faults.of_method(method)?;
        self.is_stalled = fault == MethodFault::StallsChannel;
        Some(fault)
    }

    fn on_method(&mut self, cx: &mut Context<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        match (self.state, method) {
            (State::Starting, Method::ChannelOpen(_)) => {
                self.state = State::Open;
                cx.answer(&ChannelOpenOk {});
                Ok(())
            }
            (State::Starting, _) => Err(not_open()),
            (State::Closing, Method::ChannelClose(_)) => {
                cx.answer(&ChannelCloseOk {});
                Ok(())
            }
            (State::Closing, Method::ChannelCloseOk(_)) => {
                self.state = State::Gone;
                Ok(())
            }
            (State::Closing | State::Gone, _) => Ok(()),
            (State::Open, method) => {
                self.flush_confirms(cx);
                self.on_open_method(cx, method)
            }
        }
    }

    fn on_open_method(&mut self, cx: &mut Context<'_>, method: &Method<'_>) -> Result<(), Refusal> {
        match method {
            Method::ChannelOpen(_) => Err(Refusal::connection(
                ReplyCode::CHANNEL_ERROR,
                "second 'channel.open' seen",
            )),
            Method::ChannelClose(_) => {
                self.end(cx);
                self.state = State::Gone;
                cx.answer(&ChannelCloseOk {});
                Ok(())
            }
            Method::ChannelFlow(flow) if !flow.active => {
                Err(Refusal::connection(ReplyCode::NOT_IMPLEMENTED, "active=false"))
            }
            Method::ChannelFlow(_) => {
                cx.answer(&ChannelFlowOk { active: true });
                Ok(())
            }
            Method::AccessRequest(_) => {
                cx.answer(&AccessRequestOk { ticket: 1 });
                Ok(())
            }
            Method::ExchangeDeclare(method) => self.declare_exchange(cx, method),
            Method::ExchangeDelete(method) => self.delete_exchange(cx, method),
            Method::ExchangeBind(method) => self.bind_exchange(cx, method),
            Method::ExchangeUnbind(method) => self.unbind_exchange(cx, method),
            Method::QueueDeclare(method) => self.declare_queue(cx, method),
            Method::QueueBind(method) => self.bind_queue(cx, method),
            Method::QueueUnbind(method) => self.unbind_queue(cx, method),
            Method::QueuePurge(method) => self.purge_queue(cx, method),
            Method::QueueDelete(method) => self.delete_queue(cx, method),
            Method::BasicQos(method) => self.qos(cx, method),
            Method::BasicConsume(method) => self.consume(cx, method),
            Method::BasicCancel(method) => self.cancel(cx, method),
            Method::BasicGet(method) => self.get(cx, method),
            Method::BasicAck(method) => self.ack(cx, method),
            Method::BasicNack(method) => self.nack(cx, method),
            Method::BasicReject(method) => self.reject(cx, method),
            Method::BasicRecover(method) => {
                self.recover(cx, method.requeue)?;
                cx.answer(&BasicRecoverOk {});
                Ok(())
            }
            Method::BasicRecoverAsync(method) => self.recover(cx, method.requeue),
            Method::ConfirmSelect(method) => self.confirm_select(cx, method),
            Method::TxSelect(_) => self.tx_select(cx),
            Method::TxCommit(_) => self.tx_commit(cx),
            Method::TxRollback(_) => self.tx_rollback(cx),
            _ => Err(unimplemented_method()),
        }
    }

    /// The broker closes it.
    pub(super) fn close(&mut self, cx: &mut Context<'_>, refusal: &Refusal, id: MethodId) {
        self.end(cx);
        self.state = State::Closing;
        let text = refusal.short_text();
        cx.answer(&ChannelClose {
            reply_code: refusal.code,
            reply_text: ShortStr::from_bytes(&text).unwrap_or_default(),
            class_id: id.class,
            method_id: id.method,
        });
    }

    /// Its consumers go, and what is not settled goes back to its queue. What is awaited of a message goes on being read.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) {
        for (tag, consumer) in std::mem::take(&mut self.consumers) {
            let (key, now) = (cx.consumer(tag), cx.now);
            cx.host().cancel(&consumer.queue, &key, now);
        }
        if let Some(consumer) = self.reply_consumer.take() {
            cx.common.reply_consumers.remove(&consumer.address);
        }
        let mut unsettled = std::mem::take(&mut self.unsettled);
        if let Some(transaction) = self.transaction.take() {
            unsettled.extend(transaction.discard(cx));
        }
        self.in_flight = 0;
        self.confirms = None;
        let entries: Vec<Entry> = unsettled
            .into_values()
            .filter_map(|delivery| delivery.entry)
            .collect();
        if !entries.is_empty() {
            let now = cx.now;
            cx.host().requeue(entries, now);
        }
    }

    /// The connection ends, or the channel is forgotten: nothing of it is read any more.
    pub(super) fn end_for_good(&mut self, cx: &mut Context<'_>) {
        self.end(cx);
        cx.common.held = cx.common.held.saturating_sub(self.assembly.held());
        self.assembly = Assembly::default();
        self.state = State::Gone;
    }

    /// Its number is free again.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// When it has confirms to say.
    pub(super) fn next_confirm(&self) -> Option<Instant> {
        self.confirms.as_ref()?.next_due()
    }

    /// When a delivery is not settled in time.
    pub(super) fn settle_by(&self) -> Option<Instant> {
        if !self.has_time_limits {
            return None;
        }
        let unsettled = self.unsettled.values();
        unsettled.filter_map(|delivery| delivery.settle_by).min()
    }

    /// A delivery was not settled in time. Gives the consumers that are said to be gone.
    pub(super) fn time_out(&mut self, cx: &mut Context<'_>) -> Vec<Name> {
        match cx.release() {
            Release::V3_10 => {
                self.close_unsettled(cx);
                Vec::new()
            }
            Release::V4 => self.give_timed_out_back(cx),
        }
    }

    fn close_unsettled(&mut self, cx: &mut Context<'_>) {
        let timeout = cx.common.config.consumer_timeout.unwrap_or_default();
        let text = format_args!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {} ms. This timeout value can be configured, see \
             consumers doc guide to learn more",
            cx.number,
            timeout.as_millis()
        );
        self.close(cx, &Refusal::precondition_failed(text), MethodId::default());
    }

    /// Their consumers keep their tags, and begin again when all of it is settled.
    fn give_timed_out_back(&mut self, cx: &mut Context<'_>) -> Vec<Name> {
        let now = cx.now;
        let is_due = |delivery: &&mut Unsettled| delivery.settle_by.is_some_and(|at| at <= now);
        let (mut entries, mut ended) = (Vec::new(), Vec::new());
        for delivery in self.unsettled.values_mut().filter(is_due) {
            delivery.settle_by = None;
            entries.extend(delivery.entry.take());
            if let Some(tag) = &delivery.consumer
                && let Some(consumer) = self.consumers.get_mut(tag)
            {
                if consumer.timed_out == 0 {
                    ended.push(tag.clone());
                }
                consumer.timed_out = consumer.timed_out.saturating_add(1);
            }
        }
        cx.host().requeue(entries, now);
        ended
    }

    /// An empty queue name stands for the one that was declared last.
    pub(super) fn queue_name(&self, name: ShortStr<'_>) -> Result<Name, Refusal> {
        if !name.is_empty() {
            return Ok(Name::copy_from_slice(name.as_bytes()));
        }
        if self.last_queue.is_empty() {
            return Err(Refusal::channel(
                ReplyCode::NOT_FOUND,
                "no previously declared queue",
            ));
        }
        Ok(self.last_queue.clone())
    }
}

fn not_open() -> Refusal {
    Refusal::connection(ReplyCode::CHANNEL_ERROR, "expected 'channel.open'")
}

fn unimplemented_method() -> Refusal {
    Refusal::connection(ReplyCode::COMMAND_INVALID, "unimplemented method")
}
