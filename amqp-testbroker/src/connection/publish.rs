//! `basic.publish`: what is checked, and what follows.

use amqp_proto::Message;
use amqp_proto::wire::*;

use super::channel::Channel;
use super::content::{Content, Publish};
use super::context::{Context, Operation};
use crate::config::Release;
use crate::refusal::Refusal;
use crate::vhost::{Addressed, expiration};

/// The queue that direct replies are consumed from, and what stands in `reply_to` for it.
pub(super) const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// What a direct reply's address begins with.
pub(super) const REPLY_ADDRESS: &str = "amq.rabbitmq.reply-to.";

pub(super) fn is_reply_address(name: &[u8]) -> bool {
    name.starts_with(REPLY_ADDRESS.as_bytes())
}

impl Channel {
    pub(super) fn publish(&mut self, cx: &mut Context<'_>, content: Content) -> Result<(), Refusal> {
        let Some(publish) = &content.method.publish else {
            return Ok(());
        };
        let max_message_size = cx.common.config.max_message_size;
        if publish.immediate {
            return Err(Refusal::connection(ReplyCode::NOT_IMPLEMENTED, "immediate=true"));
        }
        if content.body_size > max_message_size {
            let text = format_args!(
                "message size {} is larger than configured max size {max_message_size}",
                content.body_size
            );
            return Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text));
        }
        cx.check_exchange(Operation::Write, &publish.exchange)?;
        // Unless the exchange is missing, which is looked at first.
        let message = match self.message(cx, publish, &content) {
            Ok(message) => message,
            Err(refusal) => {
                cx.find_exchange(ShortStr::from_bytes(&publish.exchange).unwrap_or_default())?;
                return Err(refusal);
            }
        };
        let outgoing = Outgoing::new(cx, &message, publish.mandatory)?;
        if let Some(transaction) = &mut self.transaction {
            return transaction.keep(cx, outgoing);
        }
        let is_lost = self.confirms.is_some() && cx.common.faults.takes_nack();
        let is_rejected = is_lost || outgoing.send(cx)?;
        self.confirm(cx, is_rejected);
        Ok(())
    }

    /// The message, with its direct reply address filled in.
    fn message(&self, cx: &Context<'_>, publish: &Publish, content: &Content) -> Result<Message, Refusal> {
        let header = ContentHeader::decode(&content.header).map_err(|_| Refusal::internal_error())?;
        let mut properties = header.properties;
        if let Some(headers) = properties.headers {
            headers.validate().map_err(|_| Refusal::internal_error())?;
        }
        if properties
            .reply_to
            .is_some_and(|name| name.as_bytes() == REPLY_TO)
        {
            let Some(consumer) = &self.reply_consumer else {
                let text = "fast reply consumer does not exist";
                return Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text));
            };
            properties.reply_to = ShortStr::from_bytes(&consumer.address).ok();
        }
        check_user_id(&properties, &cx.session.user)?;
        if let Some(text) = properties.expiration {
            expiration(text.as_bytes())?;
        }
        let exchange = ShortStr::from_bytes(&publish.exchange).unwrap_or_default();
        let routing_key = ShortStr::from_bytes(&publish.routing_key).unwrap_or_default();
        Message::new(exchange, routing_key, &properties, &content.body[..])
            .map_err(|_| Refusal::internal_error())
    }
}

/// A message that was taken, and where it goes: that is found out when it is published, whenever it is sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    addressed: Addressed,
    is_direct_reply: bool,
    mandatory: bool,
}

impl Outgoing {
    fn new(cx: &mut Context<'_>, message: &Message, mandatory: bool) -> Result<Self, Refusal> {
        let key = message.routing_key();
        Ok(Self {
            addressed: cx.host().address(message)?,
            is_direct_reply: message.exchange().is_empty() && is_reply_address(key.as_bytes()),
            mandatory,
        })
    }

    /// How many octets it counts for while it is kept.
    pub(super) const fn size(&self) -> u64 {
        self.addressed.size()
    }

    /// Whether its body still fits. What it takes beside that is counted, but may go over the limit.
    pub(super) fn check_memory(&self, cx: &Context<'_>) -> Result<(), Refusal> {
        if cx
            .common
            .has_memory_for(self.addressed.message().body_len() as u64)
        {
            Ok(())
        } else {
            Err(cx.common.out_of_memory())
        }
    }

    /// Sends it where it belongs, or back; says whether a queue did not take it.
    pub(super) fn send(&self, cx: &mut Context<'_>) -> Result<bool, Refusal> {
        let message = self.addressed.message();
        let (is_routed, is_rejected) = if self.is_direct_reply {
            (route_reply(cx, message), false)
        } else {
            self.check_memory(cx)?;
            let now = cx.now;
            let published = cx.host().publish(&self.addressed, now);
            (published.queues > 0, published.is_rejected)
        };
        cx.common.published = cx.common.published.saturating_add(1);
        if self.mandatory && !is_routed {
            let method = BasicReturn {
                reply_code: ReplyCode::NO_ROUTE,
                reply_text: ShortStr::new("NO_ROUTE").unwrap_or_default(),
                exchange: message.exchange(),
                routing_key: message.routing_key(),
            };
            cx.output.content(cx.number, &method, message, cx.frame_max)?;
        }
        Ok(is_rejected)
    }

    /// The same at the commit of its transaction.
    pub(super) fn commit(&self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        cx.host().check_not_gone(&self.addressed)?;
        self.send(cx).map(drop)
    }
}

/// Says whether it counts as routed. RabbitMQ 3.10 does not take the consumer for a queue: what is mandatory comes back although it
/// was delivered. RabbitMQ 4 takes even one for a queue that is gone.
fn route_reply(cx: &mut Context<'_>, message: &Message) -> bool {
    let address = message.routing_key();
    if let Some(consumer) = cx.common.reply_consumers.get(address.as_bytes()).cloned() {
        cx.common.replies.push((consumer, message.clone()));
    }
    cx.release() != Release::V3_10
}

fn check_user_id(properties: &Properties<'_>, user: &str) -> Result<(), Refusal> {
    match properties.user_id {
        Some(claimed) if claimed.as_bytes() != user.as_bytes() => {
            let text =
                format_args!("user_id property set to '{claimed}' but authenticated user was '{user}'");
            Err(Refusal::channel(ReplyCode::PRECONDITION_FAILED, text))
        }
        _ => Ok(()),
    }
}
