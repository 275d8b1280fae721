//! Exchanges: where messages are published to.

use std::borrow::Cow;
use std::future::IntoFuture;
use std::sync::Arc;

use amqp_proto::wire::*;

use crate::BoxFuture;
use crate::channel::Channel;
use crate::error::{Error, PublishError};
use crate::message::Message;
use crate::observe::publishing;
use crate::publish::{Confirm, Publish};
use crate::queue::Queue;

/// How an exchange finds the queues for a message (RabbitMQ page "Exchanges").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// Those bound with just that routing key.
    #[default]
    Direct,
    /// All that are bound.
    Fanout,
    /// Those bound with a pattern that fits: `*` is one word, `#` any number of them.
    Topic,
    /// Those bound with such headers.
    Headers,
    /// As a plugin does it, such as `x-delayed-message`.
    Custom(String),
}

impl ExchangeKind {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::Custom(name) => name,
        }
    }
}

impl From<&str> for ExchangeKind {
    fn from(name: &str) -> Self {
        match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            name => Self::Custom(name.to_owned()),
        }
    }
}

/// An exchange, by name, on a channel.
#[derive(Debug, Clone)]
pub struct Exchange {
    channel: Channel,
    name: Cow<'static, str>,
    /// As it was declared by this handle.
    settings: Option<Arc<Settings>>,
}

/// What is declared of an exchange beside its name.
#[derive(Debug, Clone, Default)]
struct Settings {
    kind: ExchangeKind,
    passive: bool,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: FieldTable,
}

/// Declares an exchange when awaited.
#[derive(Debug, Clone)]
#[must_use = "nothing happens unless it is awaited"]
pub struct DeclareExchange {
    channel: Channel,
    name: String,
    settings: Settings,
}

impl Exchange {
    pub(crate) fn new(channel: Channel, name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            channel,
            name: name.into(),
            settings: None,
        }
    }

    /// Its name; empty for the default exchange.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The channel that it is used on.
    #[must_use]
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The kind that it was declared as by this handle.
    #[must_use]
    pub fn kind(&self) -> Option<&ExchangeKind> {
        Some(&self.settings.as_ref()?.kind)
    }

    /// Whether it was declared durable by this handle.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.durable)
    }

    /// Whether it was declared by this handle to go with the last binding to it.
    #[must_use]
    pub fn is_auto_delete(&self) -> bool {
        self.settings
            .as_ref()
            .is_some_and(|settings| settings.auto_delete)
    }

    /// The arguments that it was declared with by this handle.
    #[must_use]
    pub fn arguments(&self) -> FieldTableRef<'_> {
        let settings = self.settings.as_deref();
        settings.map_or_else(FieldTableRef::default, |settings| settings.arguments.as_ref())
    }

    /// Publishes a message, and waits until the broker has confirmed it, or has it written on a channel that does not confirm. A
    /// message that no queue gets comes back as an error (`mandatory`); [`publish_optional`](Self::publish_optional) does without.
    ///
    /// # Errors
    /// [`PublishError`]. Nothing was sent if it is [`PublishError::NotSent`]; a routing key over 255 octets is that.
    pub async fn publish(
        &self,
        message: impl Into<Message>,
        routing_key: impl AsRef<str>,
    ) -> Result<(), PublishError> {
        let (message, routing_key) = (message.into(), routing_key.as_ref());
        let publish = self.message(&message, routing_key, true);
        let confirmed = async { publish.send_awaited().await?.await };
        publishing(&self.name, routing_key, &message, confirmed).await
    }

    /// The same for a message that need not get to any queue.
    ///
    /// # Errors
    /// As [`publish`](Self::publish), without [`PublishError::Returned`].
    pub async fn publish_optional(
        &self,
        message: impl Into<Message>,
        routing_key: impl AsRef<str>,
    ) -> Result<(), PublishError> {
        let (message, routing_key) = (message.into(), routing_key.as_ref());
        let publish = self.message(&message, routing_key, false);
        let confirmed = async { publish.send_awaited().await?.await };
        publishing(&self.name, routing_key, &message, confirmed).await
    }

    /// Publishes a message as soon as there is room for it, and gives what to wait for its confirm with: many can be under way.
    ///
    /// # Errors
    /// Nothing was sent.
    pub async fn publish_deferred(
        &self,
        message: impl Into<Message>,
        routing_key: impl AsRef<str>,
    ) -> Result<Confirm, Error> {
        let (message, routing_key) = (message.into(), routing_key.as_ref());
        let publish = self.message(&message, routing_key, true);
        publishing(&self.name, routing_key, &message, publish.send_awaited()).await
    }

    /// The same for a message that is answered to that queue.
    pub(crate) async fn publish_call(
        &self,
        message: &Message,
        routing_key: &str,
        reply_to: &Queue,
    ) -> Result<Confirm, Error> {
        let mut publish = self.message(message, routing_key, true);
        publish.reply_to = Some(reply_to);
        publishing(&self.name, routing_key, message, publish.send_awaited()).await
    }

    /// Publishes a message as soon as there is room for it, without anything to wait for. What no queue gets comes back if somebody
    /// listens ([`Channel::returns`]); [`Channel::wait_for_confirms`] tells of it too.
    ///
    /// # Errors
    /// Nothing was sent.
    pub async fn publish_unconfirmed(
        &self,
        message: impl Into<Message>,
        routing_key: impl AsRef<str>,
    ) -> Result<(), Error> {
        let (message, routing_key) = (message.into(), routing_key.as_ref());
        let publish = self.message(&message, routing_key, false);
        publishing(&self.name, routing_key, &message, publish.send(false))
            .await
            .map(drop)
    }

    fn message<'p>(&'p self, message: &'p Message, routing_key: &'p str, mandatory: bool) -> Publish<'p> {
        Publish {
            channel: &self.channel,
            exchange: &self.name,
            routing_key,
            message,
            mandatory,
            reply_to: None,
        }
    }

    /// Has it get what `source` routes by that key (RabbitMQ page "Exchange to Exchange Bindings").
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn bind(&self, source: impl AsRef<str>, routing_key: &str) -> Result<(), Error> {
        self.bind_with(source, routing_key, &FieldTable::new()).await
    }

    /// The same with arguments, such as those of a headers exchange.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn bind_with(
        &self,
        source: impl AsRef<str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let method = ExchangeBind {
            destination: ShortStr::new(&self.name)?,
            source: ShortStr::new(source.as_ref())?,
            routing_key: ShortStr::new(routing_key)?,
            arguments: arguments.as_ref(),
            ..ExchangeBind::default()
        };
        self.channel.request(&method).await.map(drop)
    }

    /// Takes a binding back: the one with that key and no arguments.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn unbind(&self, source: impl AsRef<str>, routing_key: &str) -> Result<(), Error> {
        self.unbind_with(source, routing_key, &FieldTable::new()).await
    }

    /// The same for a binding with arguments.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn unbind_with(
        &self,
        source: impl AsRef<str>,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> Result<(), Error> {
        let method = ExchangeUnbind {
            destination: ShortStr::new(&self.name)?,
            source: ShortStr::new(source.as_ref())?,
            routing_key: ShortStr::new(routing_key)?,
            arguments: arguments.as_ref(),
            ..ExchangeUnbind::default()
        };
        self.channel.request(&method).await.map(drop)
    }

    /// Deletes it, and all bindings to and from it.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn delete(&self) -> Result<(), Error> {
        self.delete_if(false).await
    }

    /// The same; with `if_unused` only if nothing is bound to it.
    ///
    /// # Errors
    /// As [`Channel::request`]; 406 if it is in use.
    pub async fn delete_if(&self, if_unused: bool) -> Result<(), Error> {
        let method = ExchangeDelete {
            exchange: ShortStr::new(&self.name)?,
            if_unused,
            ..ExchangeDelete::default()
        };
        self.channel.request(&method).await.map(drop)
    }
}

impl AsRef<str> for Exchange {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl DeclareExchange {
    pub(crate) fn new(channel: Channel, name: String, kind: ExchangeKind) -> Self {
        Self {
            channel,
            name,
            settings: Settings {
                kind,
                ..Settings::default()
            },
        }
    }

    /// Only looks whether it is there; nothing else counts then.
    pub const fn passive(mut self, passive: bool) -> Self {
        self.settings.passive = passive;
        self
    }

    /// It survives a restart of the broker.
    pub const fn durable(mut self, durable: bool) -> Self {
        self.settings.durable = durable;
        self
    }

    /// It goes when the last binding to it does.
    pub const fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.settings.auto_delete = auto_delete;
        self
    }

    /// Only other exchanges publish to it.
    pub const fn internal(mut self, internal: bool) -> Self {
        self.settings.internal = internal;
        self
    }

    /// What cannot be routed goes there (RabbitMQ page "Alternate Exchanges").
    pub fn alternate_exchange(mut self, exchange: &str) -> Self {
        // Only what no frame holds fits no table.
        let _ = self.settings.arguments.insert("alternate-exchange", exchange);
        self
    }

    /// Arguments, such as `x-delayed-type`; all of them.
    pub fn arguments(mut self, arguments: FieldTable) -> Self {
        self.settings.arguments = arguments;
        self
    }

    async fn run(self) -> Result<Exchange, Error> {
        let method = ExchangeDeclare {
            exchange: ShortStr::new(&self.name)?,
            exchange_type: ShortStr::new(self.settings.kind.as_str())?,
            passive: self.settings.passive,
            durable: self.settings.durable,
            auto_delete: self.settings.auto_delete,
            internal: self.settings.internal,
            arguments: self.settings.arguments.as_ref(),
            ..ExchangeDeclare::default()
        };
        self.channel.request(&method).await?;
        Ok(Exchange {
            settings: Some(Arc::new(self.settings)),
            ..Exchange::new(self.channel, self.name)
        })
    }
}

impl IntoFuture for DeclareExchange {
    type Output = Result<Exchange, Error>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
