//! Queues: where messages wait.

use std::future::IntoFuture;
use std::sync::Arc;

use amqp_proto::Backoff;
use amqp_proto::wire::*;

use crate::BoxFuture;
use crate::channel::{Channel, read};
use crate::consumer::Consumer;
use crate::delivery::{Delivery, Origin};
use crate::error::Error;
use crate::recovery::{NameCell, QueueName};
use crate::shared::Answer;
use crate::times::Timestamp;

/// From where on a stream is read; nothing but a stream has that.
const STREAM_OFFSET: &str = "x-stream-offset";

/// A queue, by name, on a channel.
#[derive(Debug, Clone)]
pub struct Queue {
    channel: Channel,
    name: NameCell,
    /// As it was declared by this handle, and what the broker said.
    declared: Option<Arc<Declared>>,
}

#[derive(Debug)]
struct Declared {
    settings: Settings,
    message_count: u32,
    consumer_count: u32,
}

/// What is declared of a queue beside its name.
#[derive(Debug, Clone, Default)]
struct Settings {
    passive: bool,
    durable: bool,
    exclusive: bool,
    auto_delete: bool,
    arguments: FieldTable,
}

/// Declares a queue when awaited.
#[derive(Debug, Clone)]
#[must_use = "nothing happens unless it is awaited"]
pub struct DeclareQueue {
    channel: Channel,
    name: String,
    settings: Settings,
}

/// How a consumer is to be.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ConsumeOptions {
    /// The broker's name for it; empty, the default, makes one up.
    pub tag: String,
    /// Deliveries need no acknowledgement: the broker forgets them when they are sent, and no prefetch limit holds it back.
    ///
    /// A program that takes none while it awaits something of the same connection, such as a confirm in a handler, may have to wait for
    /// all of a long queue to be read. It is read until 64 MiB wait; 5 to 10 s later the [`Consumer`] ends with
    /// [`ConsumerEnd::Overflow`](crate::ConsumerEnd::Overflow), so that the answer comes, and what was on its way is lost.
    /// Acknowledgements and a prefetch limit, or another connection to publish on, avoid that.
    pub no_ack: bool,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
    /// Arguments, such as `x-priority`, or `x-stream-offset`, which says that the queue is a [stream](Consumer).
    pub arguments: FieldTable,
    /// When and how often it is started again after the broker has ended it; `None`, the default, is never: it ends with the reason.
    /// See [`resubscribe`](Self::resubscribe).
    pub resubscribe: Option<Backoff>,
}

/// Where a consumer of a stream begins (RabbitMQ page "Streams", section "Consuming").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamOffset {
    /// At the first message that is there.
    First,
    /// At the last chunk of messages.
    Last,
    /// At what is published from now on.
    Next,
    /// At the message of that number; each delivery has its own in the header `x-stream-offset`.
    Offset(u64),
    /// At that moment, or somewhat before.
    At(Timestamp),
}

impl ConsumeOptions {
    /// Sets [`tag`](Self#structfield.tag).
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = tag.into();
        self
    }

    /// Sets [`no_ack`](Self#structfield.no_ack).
    #[must_use]
    pub const fn no_ack(mut self, no_ack: bool) -> Self {
        self.no_ack = no_ack;
        self
    }

    /// Sets [`exclusive`](Self#structfield.exclusive).
    #[must_use]
    pub const fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// When the broker ends it, it is started again, with these delays before each attempt, as often as they say: when its queue was
    /// deleted or moved to another node, when a quorum queue has waited too long for a delivery to be settled (RabbitMQ from 4.3 on), when
    /// its channel was closed and [opened again](crate::Reopen) without it, and when it could not be had again after a loss
    /// ([`ConsumerEnd::NotRestored`](crate::ConsumerEnd::NotRestored)).
    ///
    /// Whether the queue is there is asked on a channel of its own, since the broker closes the channel of who consumes from one that is
    /// not. If it is gone between the question and that, the channel is closed all the same. The count begins anew when it has lasted
    /// for 30 s. When the attempts are used up it ends with the reason that it had ended for. What had come from a queue that was deleted
    /// is still handed out.
    ///
    /// ```
    /// use amqp_async::{ConsumeOptions, proto::Backoff};
    /// let options = ConsumeOptions::default().resubscribe(Backoff::new(7).attempts(10));
    /// ```
    #[must_use]
    pub const fn resubscribe(mut self, backoff: Backoff) -> Self {
        self.resubscribe = Some(backoff);
        self
    }

    /// Sets [`arguments`](Self#structfield.arguments), all of them.
    #[must_use]
    pub fn arguments(mut self, arguments: FieldTable) -> Self {
        self.arguments = arguments;
        self
    }

    /// Consumers of a higher priority get what there is as long as they can take it (RabbitMQ page "Consumer Priorities"). Without it
    /// the priority is 0.
    #[must_use]
    pub fn priority(self, priority: i32) -> Self {
        self.argument("x-priority", i64::from(priority))
    }

    /// Where in a stream to begin. Without it, at what is published from now on.
    #[must_use]
    pub fn stream_offset(self, offset: StreamOffset) -> Self {
        let key = "x-stream-offset";
        match offset {
            StreamOffset::First => self.argument(key, "first"),
            StreamOffset::Last => self.argument(key, "last"),
            StreamOffset::Next => self.argument(key, "next"),
            StreamOffset::Offset(offset) => self.argument(key, i64::try_from(offset).unwrap_or(i64::MAX)),
            StreamOffset::At(at) => self.argument(key, FieldValue::Timestamp(at.as_secs())),
        }
    }

    fn argument<'v>(mut self, key: &str, value: impl Into<FieldValue<'v>>) -> Self {
        // Keys and values here fit every table.
        let _ = self.arguments.insert(key, value);
        self
    }
}

impl Queue {
    pub(crate) fn new(channel: Channel, name: impl Into<String>) -> Self {
        Self {
            channel,
            name: NameCell::Fixed(name.into().into()),
            declared: None,
        }
    }

    /// Its name, which may be the broker's choice. Such a name is another one when the connection was lost and made again
    /// ([`Recovery`](crate::Recovery)).
    #[must_use]
    pub fn name(&self) -> QueueName {
        self.name.get()
    }

    /// The channel that it is used on.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// How many messages were ready when it was declared; none if it was not declared by this handle.
    #[must_use]
    pub fn message_count(&self) -> Option<u32> {
        self.declared.as_ref().map(|declared| declared.message_count)
    }

    /// How many consumers it had when it was declared; none if it was not declared by this handle.
    #[must_use]
    pub fn consumer_count(&self) -> Option<u32> {
        self.declared.as_ref().map(|declared| declared.consumer_count)
    }

    /// Whether it was declared durable by this handle.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.settings().is_some_and(|settings| settings.durable)
    }

    /// Whether it was declared exclusive by this handle.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.settings().is_some_and(|settings| settings.exclusive)
    }

    /// Whether it was declared by this handle to go with its last consumer.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.settings().is_some_and(|settings| settings.auto_delete)
    }

    /// The arguments that it was declared with by this handle.
    #[must_use]
    pub fn arguments(&self) -> FieldTableRef<'_> {
        let arguments = self.settings().map(|settings| settings.arguments.as_ref());
        arguments.unwrap_or_default()
    }

    /// Its name, to be sent: one that the broker gives may be about to change while there is no connection.
    pub(crate) async fn present_name(&self) -> Result<QueueName, Error> {
        if self.name.may_change() {
            self.channel.until_there().await?;
        }
        Ok(self.name())
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.declared.as_ref()?.settings)
    }

    /// Its type, if this handle declared one.
    fn queue_type(&self) -> Option<&str> {
        self.settings()?.arguments.get("x-queue-type")?.as_str()
    }

    /// Declares it again, by its present name and as it was declared by this handle: what was deleted meanwhile is there again,
    /// empty, and the counts are new.
    pub fn declare(&self) -> DeclareQueue {
        DeclareQueue {
            channel: self.channel.clone(),
            name: self.name().to_string(),
            settings: self.settings().cloned().unwrap_or_default(),
        }
    }

    /// Starts a consumer that acknowledges.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn consume(&self) -> Result<Consumer, Error> {
        self.consume_with(ConsumeOptions::default()).await
    }

    /// Starts a consumer as those options say. Of a stream that was declared by this handle it gets what is published from now on,
    /// unless its arguments have another `x-stream-offset` than that (`next`).
    ///
    /// # Errors
    /// As [`Channel::request`]; a tag that is in use on the channel.
    pub async fn consume_with(&self, mut options: ConsumeOptions) -> Result<Consumer, Error> {
        if self.queue_type() == Some("stream") && options.arguments.get(STREAM_OFFSET).is_none() {
            // By this, which is the broker's default, the core knows a stream. A table without room for it fits no frame either.
            let _ = options.arguments.insert(STREAM_OFFSET, "next");
        }
        let name = self.present_name().await?;
        let method = BasicConsume {
            queue: ShortStr::new(&name)?,
            consumer_tag: ShortStr::new(&options.tag)?,
            no_ack: options.no_ack,
            exclusive: options.exclusive,
            arguments: options.arguments.as_ref(),
            ..BasicConsume::default()
        };
        self.channel
            .start_consumer(&method, options.resubscribe.clone())
            .await
    }

    /// Takes one message, to be settled; `None` if there is none.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn get(&self) -> Result<Option<Delivery>, Error> {
        self.get_with(false).await
    }

    /// Takes one message, which with `no_ack` needs no acknowledgement; `None` if there is none.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn get_with(&self, no_ack: bool) -> Result<Option<Delivery>, Error> {
        let name = self.present_name().await?;
        let method = BasicGet {
            queue: ShortStr::new(&name)?,
            no_ack,
        };
        let answer = self
            .channel
            .call(|channel| Ok(channel.get(&method)?.untyped()))
            .await?;
        Ok(match answer {
            Answer::Got(got) => {
                let origin = Origin {
                    channel: self.channel.clone(),
                    consumer: None,
                    no_ack,
                };
                Some(Delivery::got(Arc::new(origin), got))
            }
            Answer::GetEmpty | Answer::Reply(_) => None,
        })
    }

    /// Has it get what `exchange` routes by that key.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn bind(&self, exchange: impl AsRef<str>, routing_key: &str) -> Result<(), Error> {
        self.bind_with(exchange, routing_key, &FieldTable::new()).await
    }

    /// The same with arguments, such as those of a headers exchange.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn bind_with(
        &self,
        exchange: impl AsRef<str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let name = self.present_name().await?;
        let method = QueueBind {
            queue: ShortStr::new(&name)?,
            exchange: ShortStr::new(exchange.as_ref())?,
            routing_key: ShortStr::new(routing_key)?,
            arguments: arguments.as_ref(),
            ..QueueBind::default()
        };
        self.channel.request(&method).await.map(drop)
    }

    /// Takes a binding back: the one with that key and no arguments.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn unbind(&self, exchange: impl AsRef<str>, routing_key: &str) -> Result<(), Error> {
        self.unbind_with(exchange, routing_key, &FieldTable::new()).await
    }

    /// The same for a binding with arguments.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn unbind_with(
        &self,
        exchange: impl AsRef<str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let name = self.present_name().await?;
        let method = QueueUnbind {
            queue: ShortStr::new(&name)?,
            exchange: ShortStr::new(exchange.as_ref())?,
            routing_key: ShortStr::new(routing_key)?,
            arguments: arguments.as_ref(),
        };
        self.channel.request(&method).await.map(drop)
    }

    /// Drops all messages that are ready, and says how many.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn purge(&self) -> Result<u32, Error> {
        let name = self.present_name().await?;
        let method = QueuePurge {
            queue: ShortStr::new(&name)?,
            ..QueuePurge::default()
        };
        let reply = self.channel.request(&method).await?;
        read::<QueuePurge<'_>, _>(&reply, |ok| ok.message_count)
    }

    /// Deletes it with all that is in it, and says how many messages went. Its consumers are cancelled. aio-pika deletes a queue only if
    /// it is unused and empty: that is [`delete_if(true, true)`](Self::delete_if).
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn delete(&self) -> Result<u32, Error> {
        self.delete_if(false, false).await
    }

    /// Deletes it if it has no consumers, or no messages that are ready, or neither, as is asked for; says how many messages went.
    ///
    /// RabbitMQ knows no conditions on quorum queues, and ends the connection of who asks for one (540); on streams it does not look at
    /// them.
    ///
    /// # Errors
    /// As [`Channel::request`]; 406 if it is in use or not empty. [`Error::DeleteCondition`] for a condition on what was declared by
    /// this handle as a quorum queue or a stream.
    pub async fn delete_if(&self, if_unused: bool, if_empty: bool) -> Result<u32, Error> {
        if (if_unused || if_empty) && matches!(self.queue_type(), Some("quorum" | "stream")) {
            return Err(Error::DeleteCondition);
        }
        let name = self.present_name().await?;
        let method = QueueDelete {
            queue: ShortStr::new(&name)?,
            if_unused,
            if_empty,
            ..QueueDelete::default()
        };
        let reply = self.channel.request(&method).await?;
        read::<QueueDelete<'_>, _>(&reply, |ok| ok.message_count)
    }
}

impl DeclareQueue {
    pub(crate) fn new(channel: Channel, name: String) -> Self {
        Self {
            channel,
            name,
            settings: Settings::default(),
        }
    }

    /// Only looks whether it is there; nothing else counts then.
    pub const fn passive(mut self, passive: bool) -> Self {
        self.settings.passive = passive;
        self
    }

    /// It survives a restart of the broker. RabbitMQ from 4.3 on refuses a queue that is neither this nor exclusive.
    pub const fn durable(mut self, durable: bool) -> Self {
        self.settings.durable = durable;
        self
    }

    /// It is this connection's only, and goes with it.
    pub const fn exclusive(mut self, exclusive: bool) -> Self {
        self.settings.exclusive = exclusive;
        self
    }

    /// It goes when its last consumer does.
    pub const fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.settings.auto_delete = auto_delete;
        self
    }

    /// Arguments: [`QueueArguments`](amqp_proto::QueueArguments), or a table.
    pub fn arguments(mut self, arguments: impl Into<FieldTable>) -> Self {
        self.settings.arguments = arguments.into();
        self
    }

    async fn run(self) -> Result<Queue, Error> {
        let method = QueueDeclare {
            queue: ShortStr::new(&self.name)?,
            passive: self.settings.passive,
            durable: self.settings.durable,
            exclusive: self.settings.exclusive,
            auto_delete: self.settings.auto_delete,
            arguments: self.settings.arguments.as_ref(),
            ..QueueDeclare::default()
        };
        self.channel.warn(|version| version.lint_queue(&method));
        let reply = self.channel.request(&method).await?;
        let settings = self.settings.clone();
        let read_ok = |ok: QueueDeclareOk<'_>| {
            let declared = Declared {
                settings,
                message_count: ok.message_count,
                consumer_count: ok.consumer_count,
            };
            (ok.queue.to_string(), declared)
        };
        let (name, declared) = read::<QueueDeclare<'_>, _>(&reply, read_ok)?;
        let name = self
            .channel
            .shared()
            .lock()
            .queue_name(&name, self.name.is_empty());
        Ok(Queue {
            channel: self.channel,
            name,
            declared: Some(Arc::new(declared)),
        })
    }
}

impl IntoFuture for DeclareQueue {
    type Output = Result<Queue, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
