//! A message on its way to queues, with what no octet of it says.

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::Message;
use amqp_proto::wire::{EncodeError, FieldTable, FieldTableRef, FieldValue, Properties, ShortStr};

use super::Name;
use super::arguments::expiration;
use super::value::type_name;
use crate::config::Release;
use crate::refusal::Refusal;

/// What a message takes beside its body and its headers, roughly: so that empty ones are not free.
const OVERHEAD: u64 = 128;

/// Keys that a message is routed by beside its own.
#[derive(Debug)]
pub(super) struct Copies {
    /// Header `CC`.
    pub(super) open: Vec<Name>,
    /// Header `BCC`, which the message lost.
    blind: Vec<Name>,
}

#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) message: Message,
    pub(super) envelope: Envelope,
}

/// What is known of a message beside its octets, or was read from them once.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) copies: Option<Arc<Copies>>,
    /// It was dead-lettered before, so that its `x-death` is the broker's.
    pub(super) has_died: bool,
    pub(super) time_to_live: Option<Duration>,
    pub(super) priority: Option<u8>,
    pub(super) is_persistent: bool,
    /// In octets, for the limit of memory.
    pub(super) size: u64,
}

impl Letter {
    /// A message that was published: reads the headers `CC` and `BCC`, and takes the latter out.
    pub(super) fn published(message: &Message) -> Result<Self, Refusal> {
        let headers = message.properties().headers.unwrap_or_default();
        let (open, blind) = (routes(headers, "CC")?, routes(headers, "BCC")?);
        let mut message = message.clone();
        if !blind.is_empty() {
            let mut left = headers.to_owned().unwrap_or_default();
            left.remove("BCC");
            message = with_headers(&message, &left).map_err(|_| not_encodable())?;
        }
        let copies = (!open.is_empty() || !blind.is_empty()).then(|| Arc::new(Copies { open, blind }));
        Ok(Self::new(message, copies, false))
    }

    pub(super) fn new(message: Message, copies: Option<Arc<Copies>>, has_died: bool) -> Self {
        let properties = message.properties();
        let headers = properties.headers.unwrap_or_default().as_encoded().len();
        let size = message.body_len().saturating_add(headers) as u64;
        let envelope = Envelope {
            copies,
            has_died,
            time_to_live: properties
                .expiration
                .and_then(|text| expiration(text.as_bytes()).ok()),
            priority: properties.priority,
            is_persistent: properties.delivery_mode == Some(Properties::PERSISTENT),
            size: size.saturating_add(OVERHEAD),
        };
        Self { message, envelope }
    }

    /// Its own key first.
    pub(super) fn routing_keys(&self) -> impl Iterator<Item = &[u8]> {
        let copies = self
            .envelope
            .copies
            .iter()
            .flat_map(|copies| copies.open.iter().chain(&copies.blind));
        std::iter::once(self.message.routing_key().as_bytes()).chain(copies.map(|key| &key[..]))
    }
}

/// The keys in such a header: those of its items that are text.
fn routes(headers: FieldTableRef<'_>, key: &str) -> Result<Vec<Name>, Refusal> {
    match headers.get(key).ok().flatten() {
        None => Ok(Vec::new()),
        Some(FieldValue::Array(keys)) => Ok(keys
            .iter()
            .flatten()
            .filter_map(|key| match key {
                FieldValue::LongStr(key) => Some(Name::copy_from_slice(key)),
                _ => None,
            })
            .collect()),
        Some(other) => Err(Refusal::precondition_failed(format_args!(
            "invalid message: {{unacceptable_type_in_header,\"{key}\",{}}}",
            type_name(&other)
        ))),
    }
}

/// The same message with other headers.
pub(super) fn with_headers(message: &Message, headers: &FieldTable) -> Result<Message, EncodeError> {
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..message.properties()
    };
    readdressed(message, message.exchange(), message.routing_key(), &properties)
}

/// What a quorum queue says to its consumers, and to nobody else.
pub(super) const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// The message as a quorum queue gives it away: it says how often it was delivered before.
pub(super) fn counted(message: &Message, deliveries: u32, release: Release) -> Option<Message> {
    let keys = match release {
        Release::V3_10 => COUNTS.get(..1)?,
        Release::V4 => &COUNTS,
    };
    let headers = message.properties().headers.unwrap_or_default();
    let mut headers = headers.to_owned().ok()?;
    for key in keys {
        headers.insert(key, i64::from(deliveries)).ok()?;
    }
    with_headers(message, &headers).ok()
}

/// The same body elsewhere.
pub(super) fn readdressed(
    message: &Message,
    exchange: ShortStr<'_>,
    routing_key: ShortStr<'_>,
    properties: &Properties<'_>,
) -> Result<Message, EncodeError> {
    Message::new(exchange, routing_key, properties, message.clone().into_body())
}

/// Cannot be: it has less in it than when it arrived.
fn not_encodable() -> Refusal {
    Refusal::precondition_failed("invalid message: headers too large")
}
