//! The class queue.

use amqp_proto::wire::*;

use super::channel::Channel;
use super::context::{Context, Operation};
use super::publish::{REPLY_TO, is_reply_address};
use crate::refusal::Refusal;
use crate::vhost::Name;

impl Channel {
    pub(super) fn declare_queue(
        &mut self,
        cx: &mut Context<'_>,
        method: &QueueDeclare<'_>,
    ) -> Result<(), Refusal> {
        let name = Name::copy_from_slice(method.queue.as_bytes());
        if name == REPLY_TO || cx.common.reply_consumers.contains_key(&name) {
            self.on_declared(cx, method.no_wait, name, 0, 1);
            return Ok(());
        }
        if is_reply_address(&name) {
            let (name, host) = (method.queue, &cx.session.host);
            let text = format_args!("no queue '{name}' in vhost '{host}'");
            return Err(Refusal::channel(ReplyCode::NOT_FOUND, text));
        }
        if !method.passive {
            check_declare(cx, method)?;
        }
        let (by, now) = (cx.connection, cx.now);
        let declared = cx.host().declare_queue(method, by, now)?;
        self.on_declared(
            cx,
            method.no_wait,
            declared.queue,
            declared.messages,
            declared.consumers,
        );
        Ok(())
    }

    fn on_declared(
        &mut self,
        cx: &mut Context<'_>,
        no_wait: bool,
        queue: Name,
        message_count: u32,
        consumer_count: u32,
    ) {
        let ok = QueueDeclareOk {
            queue: ShortStr::from_bytes(&queue).unwrap_or_default(),
            message_count,
            consumer_count,
        };
        cx.answer_unless(no_wait, &ok);
        self.last_queue = queue;
    }

    pub(super) fn bind_queue(&self, cx: &mut Context<'_>, method: &QueueBind<'_>) -> Result<(), Refusal> {
        let queue = self.queue_name(method.queue)?;
        let queue = ShortStr::from_bytes(&queue).unwrap_or_default();
        let routing_key = self.binding_key(method.queue, method.routing_key);
        check_binding(cx, queue, method.exchange)?;
        let method = QueueBind {
            queue,
            routing_key,
            ..*method
        };
        let (by, now) = (cx.connection, cx.now);
        cx.host().bind_queue(&method, by, now)?;
        cx.answer_unless(method.no_wait, &QueueBindOk {});
        Ok(())
    }

    pub(super) fn unbind_queue(&self, cx: &mut Context<'_>, method: &QueueUnbind<'_>) -> Result<(), Refusal> {
        let queue = self.queue_name(method.queue)?;
        let queue = ShortStr::from_bytes(&queue).unwrap_or_default();
        let routing_key = self.binding_key(method.queue, method.routing_key);
        check_binding(cx, queue, method.exchange)?;
        let method = QueueUnbind {
            queue,
            routing_key,
            ..*method
        };
        let (by, now) = (cx.connection, cx.now);
        cx.host().unbind_queue(&method, by, now)?;
        cx.answer(&QueueUnbindOk {});
        Ok(())
    }

    /// Without a queue and a key, the key is the name of the queue that was declared last.
    fn binding_key<'a>(&'a self, queue: ShortStr<'_>, key: ShortStr<'a>) -> ShortStr<'a> {
        if queue.is_empty() && key.is_empty() {
            ShortStr::from_bytes(&self.last_queue).unwrap_or_default()
        } else {
            key
        }
    }

    pub(super) fn purge_queue(&self, cx: &mut Context<'_>, method: &QueuePurge<'_>) -> Result<(), Refusal> {
        let queue = self.queue_name(method.queue)?;
        cx.check_queue(Operation::Read, &queue)?;
        let (by, now) = (cx.connection, cx.now);
        let message_count = cx.host().purge(&queue, by, now)?;
        cx.answer_unless(method.no_wait, &QueuePurgeOk { message_count });
        Ok(())
    }

    pub(super) fn delete_queue(&self, cx: &mut Context<'_>, method: &QueueDelete<'_>) -> Result<(), Refusal> {
        let queue = self.queue_name(method.queue)?;
        cx.check_queue(Operation::Configure, &queue)?;
        let queue = ShortStr::from_bytes(&queue).unwrap_or_default();
        let (by, now) = (cx.connection, cx.now);
        let message_count = cx
            .host()
            .delete_queue(&QueueDelete { queue, ..*method }, by, now)?;
        cx.answer_unless(method.no_wait, &QueueDeleteOk { message_count });
        Ok(())
    }
}

/// Whether the user may declare it. A name that is yet to be made up begins with `amq.gen-`.
fn check_declare(cx: &mut Context<'_>, method: &QueueDeclare<'_>) -> Result<(), Refusal> {
    let name = match method.queue.as_bytes() {
        b"" => b"amq.gen-",
        name => name,
    };
    cx.check_queue(Operation::Configure, name)?;
    let dead_letters = method.arguments.get("x-dead-letter-exchange").ok().flatten();
    if let Some(exchange) = dead_letters.and_then(|exchange| exchange.as_bytes())
        && !is_declared(cx, method.queue)
    {
        cx.check_queue(Operation::Read, name)?;
        cx.check_exchange(Operation::Write, exchange)?;
    }
    Ok(())
}

fn is_declared(cx: &mut Context<'_>, queue: ShortStr<'_>) -> bool {
    let passive = QueueDeclare {
        queue,
        passive: true,
        ..Default::default()
    };
    let (by, now) = (cx.connection, cx.now);
    let result = match queue.is_empty() {
        true => return false,
        false => cx.host().declare_queue(&passive, by, now),
    };
    result.map_or_else(|refusal| refusal.code != ReplyCode::NOT_FOUND, |_| true)
}

fn check_binding(cx: &Context<'_>, queue: ShortStr<'_>, exchange: ShortStr<'_>) -> Result<(), Refusal> {
    cx.check_queue(Operation::Write, queue.as_bytes())?;
    cx.check_exchange(Operation::Read, exchange.as_bytes())
}
