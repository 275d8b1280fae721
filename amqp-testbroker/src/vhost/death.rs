//! Dead letters: what they say of how they died, and which of them go round in circles.

use std::time::Duration;

use amqp_proto::wire::{FieldArray, FieldArrayRef, FieldTable, FieldValue, Properties, ShortStr};
use amqp_proto::{Instant, Message};

use super::Name;
use super::letter::{COUNTS, Copies, Letter, readdressed};
use crate::config::Release;

/// Why a message left its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Expired,
    MaxLength,
    Rejected,
    DeliveryLimit,
}

impl Reason {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::Rejected => "rejected",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A death: of which message, in which queue, and where it is sent then.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) letter: Letter,
    pub(super) reason: Reason,
    pub(super) queue: Name,
    pub(super) is_from_quorum: bool,
    pub(super) exchange: Name,
    pub(super) routing_key: Option<Name>,
}

impl Death {
    /// The message as its dead letter exchange gets it. `None` if that cannot be written: names too long for the wire.
    pub(super) fn letter(&self, now: Instant, release: Release) -> Option<Letter> {
        let message = &self.letter.message;
        let properties = message.properties();
        let headers = properties.headers.unwrap_or_default();
        let mut headers = headers.to_owned().unwrap_or_default();
        if release == Release::V4 && !self.letter.envelope.has_died {
            // A client's own `x-death` counts for nothing since RabbitMQ 4.
            headers.remove("x-death");
        }
        if self.is_from_quorum {
            COUNTS.into_iter().for_each(|key| _ = headers.remove(key));
        }
        self.record(&mut headers, now, release)?;
        let copies = match &self.routing_key {
            None => self.letter.envelope.copies.clone(),
            Some(_) => {
                if release == Release::V3_10 {
                    headers.remove("CC");
                }
                None
            }
        };
        let routing_key = match &self.routing_key {
            Some(key) => ShortStr::from_bytes(key).ok()?,
            None => message.routing_key(),
        };
        let properties = Properties {
            headers: Some(headers.as_ref()),
            expiration: None,
            ..properties
        };
        let exchange = ShortStr::from_bytes(&self.exchange).ok()?;
        let message = readdressed(message, exchange, routing_key, &properties).ok()?;
        Some(Letter::new(message, copies, true))
    }

    /// Writes the death into the headers.
    fn record(&self, headers: &mut FieldTable, now: Instant, release: Release) -> Option<()> {
        let message = &self.letter.message;
        let (queue, exchange) = (text(&self.queue), text(message.exchange().as_bytes()));
        let reason = FieldValue::from(self.reason.name());
        let is_first = headers.get("x-death").is_none();
        let deaths = match headers.get("x-death") {
            Some(FieldValue::Array(before)) => self.among(before, now)?,
            _ => {
                let mut deaths = FieldArray::new();
                deaths.push(&self.first(now)?).ok()?;
                deaths
            }
        };
        headers.insert("x-death", &deaths).ok()?;
        if is_first {
            headers.insert("x-first-death-reason", reason).ok()?;
            headers.insert("x-first-death-queue", queue).ok()?;
            headers.insert("x-first-death-exchange", exchange).ok()?;
        }
        if release == Release::V4 {
            headers.insert("x-last-death-reason", reason).ok()?;
            headers.insert("x-last-death-queue", queue).ok()?;
            headers.insert("x-last-death-exchange", exchange).ok()?;
        }
        Some(())
    }

    /// Puts it before the deaths there were; one in the same queue for the same reason is counted again.
    fn among(&self, before: FieldArrayRef<'_>, now: Instant) -> Option<FieldArray> {
        let is_same =
            |value: &FieldValue<'_>| place(value) == Some((&self.queue[..], self.reason.name().as_bytes()));
        let again = before
            .iter()
            .flatten()
            .find(is_same)
            .and_then(|value| value.as_table());
        let newest = match again {
            None => self.first(now)?,
            Some(table) => {
                let mut table = table.to_owned().ok()?;
                let count = table.get("count").and_then(|count| count.as_i64()).unwrap_or(0);
                table.insert("count", count.saturating_add(1)).ok()?;
                table
            }
        };
        let mut deaths = FieldArray::new();
        deaths.push(&newest).ok()?;
        for other in before.iter().flatten().filter(|value| !is_same(value)) {
            deaths.push(other).ok()?;
        }
        Some(deaths)
    }

    /// An entry of `x-death`.
    fn first(&self, now: Instant) -> Option<FieldTable> {
        let message = &self.letter.message;
        let mut keys = FieldArray::new();
        let open = self
            .letter
            .envelope
            .copies
            .as_deref()
            .map_or(&[][..], |copies: &Copies| &copies.open[..]);
        for key in std::iter::once(message.routing_key().as_bytes()).chain(open.iter().map(|key| &key[..])) {
            keys.push(text(key)).ok()?;
        }
        let time = now.duration_since(Instant::EPOCH).as_secs();
        let mut table = FieldTable::new();
        table.insert("count", 1_i64).ok()?;
        table.insert("reason", self.reason.name()).ok()?;
        table.insert("queue", text(&self.queue)).ok()?;
        table.insert("time", FieldValue::Timestamp(time)).ok()?;
        table
            .insert("exchange", text(message.exchange().as_bytes()))
            .ok()?;
        table.insert("routing-keys", &keys).ok()?;
        if let Some(expiration) = message.properties().expiration {
            table
                .insert("original-expiration", text(expiration.as_bytes()))
                .ok()?;
        }
        Some(table)
    }
}

/// Whether the message was in that queue before, and nobody rejected it since. What a client rejects may go round for as long as the
/// client likes.
pub(super) fn is_cycle(message: &Message, queue: &[u8]) -> bool {
    let headers = message.properties().headers.unwrap_or_default();
    let Ok(Some(FieldValue::Array(deaths))) = headers.get("x-death") else {
        return false;
    };
    for death in deaths.iter().flatten() {
        match place(&death) {
            // A client has put it there.
            None => return false,
            Some((_, b"rejected")) => return false,
            Some((other, _)) if other == queue => return true,
            Some(_) => {}
        }
    }
    false
}

/// The queue and the reason of an entry of `x-death`.
fn place<'a>(death: &FieldValue<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let table = death.as_table()?;
    let text = |key| table.get(key).ok().flatten().and_then(|value| value.as_bytes());
    Some((text("queue")?, text("reason")?))
}

const fn text(octets: &[u8]) -> FieldValue<'_> {
    FieldValue::LongStr(octets)
}

/// The sooner of two times to live.
pub(super) fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
