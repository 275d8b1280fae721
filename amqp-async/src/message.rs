//! A message to be published.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use amqp_proto::SendError;
use amqp_proto::wire::{FieldTable, FieldValue, Properties, ShortStr, TooLong};
use bytes::Bytes;

use crate::times::{DeliveryMode, Expiration, Expires, Timestamp};

/// A message to be published: a body and what is said of it.
///
/// ```
/// use amqp_async::Message;
/// let message = Message::new("Hello").content_type("text/plain").persistent();
/// assert_eq!(message.body(), b"Hello");
/// ```
///
/// What is published is given away, so that nobody changes it any more. A clone is cheap: it shares the body.
///
/// ```compile_fail
/// async fn change_what_is_published(exchange: amqp_async::Exchange) {
///     let message = amqp_async::Message::new("Hello");
///     exchange.publish(message, "all").await.unwrap();
///     message.persistent();
/// }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Message {
    body: Bytes,
    delivery_mode: Option<u8>,
    priority: Option<u8>,
    /// All else; most messages have none of it.
    more: Option<Box<More>>,
}

#[derive(Clone, Default, PartialEq)]
struct More {
    headers: Option<FieldTable>,
    /// Why a header could not be put in.
    bad_header: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<Expires>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    message_type: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident;)+) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, text: impl Into<String>) -> Self {
            self.more().$name = Some(text.into());
            self
        })+
    };
}

impl Message {
    /// A message without properties. What is neither [`Bytes`] nor a `Vec` or `String` is copied once.
    #[must_use]
    pub fn new(body: impl Into<Body>) -> Self {
        Self {
            body: body.into().0,
            ..Self::default()
        }
    }

    /// A message that was received, to be published again: with its body, not copied unless it came in several frames, and its
    /// properties. Texts that are not UTF-8 get replacement characters; headers that cannot be read are left out.
    #[must_use]
    pub fn from_received(received: &amqp_proto::Message) -> Self {
        let properties = received.properties();
        let text = |text: Option<ShortStr<'_>>| text.map(|text| text.to_string());
        let more = More {
            headers: properties.headers.and_then(|headers| headers.to_owned().ok()),
            bad_header: None,
            content_type: text(properties.content_type),
            content_encoding: text(properties.content_encoding),
            correlation_id: text(properties.correlation_id),
            reply_to: text(properties.reply_to),
            expiration: text(properties.expiration).map(Expires::After),
            message_id: text(properties.message_id),
            timestamp: properties.timestamp,
            message_type: text(properties.message_type),
            user_id: text(properties.user_id),
            app_id: text(properties.app_id),
        };
        Self {
            body: received.clone().into_body(),
            delivery_mode: properties.delivery_mode,
            priority: properties.priority,
            more: (more != More::default()).then(|| Box::new(more)),
        }
    }

    /// The same without what may keep it from being taken or kept: the time it may wait, who sent it, and a header for
    /// other receivers.
    pub(crate) fn for_keeping(mut self) -> Self {
        if let Some(more) = &mut self.more {
            (more.expiration, more.user_id) = (None, None);
        }
        // The last two say how often it came from another queue.
        let unwanted = ["CC", "x-delivery-count", "x-acquired-count"];
        unwanted.into_iter().fold(self, Self::without_header)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The broker keeps it on disk, if its queue is durable.
    #[must_use]
    pub const fn persistent(self) -> Self {
        self.delivery_mode(DeliveryMode::Persistent)
    }

    /// It need not survive a restart of the broker.
    #[must_use]
    pub const fn transient(self) -> Self {
        self.delivery_mode(DeliveryMode::Transient)
    }

    /// Whether it survives a restart of the broker.
    #[must_use]
    pub const fn delivery_mode(mut self, mode: DeliveryMode) -> Self {
        self.delivery_mode = Some(mode.value());
        self
    }

    /// Higher ones come first, in queues that have `x-max-priority`.
    #[must_use]
    pub const fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Headers: for headers exchanges, and for applications.
    #[must_use]
    pub fn headers(mut self, headers: FieldTable) -> Self {
        self.more().headers = Some(headers);
        self
    }

    /// One more header. With a name over 255 octets, or a value that fits no table, the message cannot be published
    /// ([`SendError::Headers`]).
    #[must_use]
    pub fn header<'v>(mut self, name: &str, value: impl Into<FieldValue<'v>>) -> Self {
        let more = self.more();
        let headers = more.headers.get_or_insert_default();
        if let Err(error) = headers.insert(name, value) {
            more.bad_header = Some(format!("{name}: {error}"));
        }
        self
    }

    /// The same without that header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        if let Some(headers) = self.more.as_mut().and_then(|more| more.headers.as_mut()) {
            headers.remove(name);
        }
        self
    }

    /// How long it may wait in a queue, or until when.
    #[must_use]
    pub fn expiration(mut self, expiration: impl Into<Expiration>) -> Self {
        self.more().expiration = Some(expiration.into().into());
        self
    }

    /// When it was made, as a [`SystemTime`] or in seconds since 1970.
    #[must_use]
    pub fn timestamp(mut self, at: impl Into<Timestamp>) -> Self {
        self.more().timestamp = Some(at.into().as_secs());
        self
    }

    texts! {
        /// MIME type of the body.
        content_type;
        /// MIME content encoding of the body.
        content_encoding;
        /// What it answers, or what its answer shall carry.
        correlation_id;
        /// Where answers go: a queue, or `amq.rabbitmq.reply-to`.
        reply_to;
        /// A name of its own.
        message_id;
        /// What kind of message it is.
        message_type;
        /// Who sends it; RabbitMQ closes the channel if that is not who is logged in.
        user_id;
        /// Which application sends it.
        app_id;
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// What the wire has for its expiration if it is published now.
    pub(crate) fn expiration_digits(&self) -> Option<Cow<'_, str>> {
        let expiration = self.more.as_ref()?.expiration.as_ref()?;
        Some(expiration.digits(SystemTime::now))
    }

    /// How the properties go onto the wire, with that expiration.
    #[inline]
    pub(crate) fn properties<'m>(&'m self, expiration: Option<&'m str>) -> Result<Properties<'m>, SendError> {
        let mut properties = Properties {
            delivery_mode: self.delivery_mode,
            priority: self.priority,
            ..Properties::default()
        };
        if let Some(more) = &self.more {
            more.add_to(&mut properties)?;
            properties.expiration = expiration.map(ShortStr::new).transpose()?;
        }
        Ok(properties)
    }

    pub(crate) const fn shared_body(&self) -> &Bytes {
        &self.body
    }
}

/// The properties that are set, or why they cannot be written, and the length of the body.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut message = f.debug_struct("Message");
        let expiration = self.expiration_digits();
        match self.properties(expiration.as_deref()) {
            Ok(properties) => message.field("properties", &properties),
            Err(error) => message.field("properties", &error),
        };
        message
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl More {
    /// All but the expiration.
    fn add_to<'m>(&'m self, properties: &mut Properties<'m>) -> Result<(), SendError> {
        if let Some(problem) = &self.bad_header {
            return Err(SendError::Headers(problem.as_str().into()));
        }
        properties.headers = self.headers.as_ref().map(FieldTable::as_ref);
        properties.content_type = short(&self.content_type)?;
        properties.content_encoding = short(&self.content_encoding)?;
        properties.correlation_id = short(&self.correlation_id)?;
        properties.reply_to = short(&self.reply_to)?;
        properties.message_id = short(&self.message_id)?;
        properties.timestamp = self.timestamp;
        properties.message_type = short(&self.message_type)?;
        properties.user_id = short(&self.user_id)?;
        properties.app_id = short(&self.app_id)?;
        Ok(())
    }
}

fn short(text: &Option<String>) -> Result<Option<ShortStr<'_>>, TooLong> {
    text.as_deref().map(ShortStr::new).transpose()
}

/// What can be the body of a [`Message`].
#[derive(Debug, Clone, Default)]
pub struct Body(Bytes);

impl From<Bytes> for Body {
    fn from(body: Bytes) -> Self {
        Self(body)
    }
}

impl From<Vec<u8>> for Body {
    fn from(body: Vec<u8>) -> Self {
        Self(body.into())
    }
}

impl From<String> for Body {
    fn from(body: String) -> Self {
        Self(body.into())
    }
}

impl From<&str> for Body {
    fn from(body: &str) -> Self {
        Self(Bytes::copy_from_slice(body.as_bytes()))
    }
}

impl From<&[u8]> for Body {
    fn from(body: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(body))
    }
}

impl<const N: usize> From<&[u8; N]> for Body {
    fn from(body: &[u8; N]) -> Self {
        Self(Bytes::copy_from_slice(body))
    }
}

impl<T: Into<Body>> From<T> for Message {
    fn from(body: T) -> Self {
        Self::new(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_prints_its_properties_and_not_its_body() {
        let message = Message::new("secret").persistent().app_id("crm").header("a", 1);
        assert_eq!(
            format!("{message:?}"),
            r#"Message { properties: Properties { headers: {"a": 1}, delivery_mode: 2, app_id: "crm" }, body_len: 6, .. }"#
        );
        let unfit = format!("{:?}", Message::default().app_id("x".repeat(256)));
        assert!(unfit.contains("256") && unfit.contains("body_len: 0"), "{unfit}");
    }
}
