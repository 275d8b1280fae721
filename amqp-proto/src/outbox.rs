//! Publishes that are kept until the broker has confirmed them, to be published again after a loss.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;

use bytes::Bytes;

use crate::channel::{Channel, ConfirmLimits, with_header};
use crate::error::{ChannelCloseReason, CloseReason, SendError};
use crate::id::{ConfirmTag, ConfirmTags};
use crate::message::Message;
use crate::wire::{Arguments, BasicPublish, FieldTable, Properties};

/// What becomes of publishes that are not confirmed when their channel is lost, with its connection or alone, and another life of
/// it follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnLoss {
    /// They are [`Lost`](crate::ConfirmOutcome::Lost), and whoever published them decides: they may have arrived or not.
    #[default]
    Fail,
    /// They are published again: each arrives once or more often, unless the end comes before.
    Republish(Republish),
}

/// How publishes are kept and published again.
///
/// Each carries an id in a header, the same one each time it is published and no other publish's, whatever the process. The broker or
/// a consumer can tell by it what came twice. The default header is that of RabbitMQ's message deduplication plugin.
///
/// What is published again keeps its order and comes before anything new; but behind what had arrived of it before the loss.
///
/// ```
/// use amqp_proto::{ConfirmLimits, Republish};
/// let limits = ConfirmLimits::default().count(100).octets(1 << 20);
/// let republish = Republish::default().limits(limits).header("x-my-id");
/// assert_eq!(republish.header.as_ref(), "x-my-id");
/// assert_eq!(Republish::default().header.as_ref(), "x-deduplication-header");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Republish {
    /// How much is kept at most, each message's octets with its properties and names; who publishes more waits. While nothing is kept,
    /// one message of any size may go. Default: 10 000 messages and 64 MiB.
    pub limits: ConfirmLimits,
    /// The header with the id. A message that has such a header already keeps its own value.
    pub header: Arc<str>,
}

impl Default for Republish {
    fn default() -> Self {
        Self {
            limits: ConfirmLimits::default().count(10_000).octets(64 << 20),
            header: "x-deduplication-header".into(),
        }
    }
}

impl Republish {
    /// Sets [`limits`](Self#structfield.limits).
    #[must_use]
    pub const fn limits(mut self, limits: ConfirmLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`header`](Self#structfield.header).
    #[must_use]
    pub fn header(mut self, name: &str) -> Self {
        self.header = name.into();
        self
    }
}

/// The publishes of a channel in confirm mode that are not confirmed, over all of its lives.
///
/// ```text
///   number   3  5  6  7 │ 8  9 │ 10       the same in every life
///   tag      1  2  3  4 │ 5  6 │          this life's
///            sent       │ behind │ next
/// ```
///
/// Publishes are numbered from 1. What the core's events say of tags is told here as numbers. It does no I/O: whoever embeds it
/// calls [`publish`](Self::publish) instead of the channel's, tells of [`Event::Confirmed`](crate::Event::Confirmed) and of the end of
/// each life, and calls [`republish`](Self::republish) in the next one.
#[derive(Debug)]
pub struct Outbox {
    republish: Republish,
    prefix: Box<str>,
    /// The number of the last publish ever.
    last: u64,
    /// From the first that is not confirmed on. Those that were sent in this life have tags in a row.
    slots: VecDeque<Slot>,
    /// The tag of the first slot, if it was sent.
    first_tag: u64,
    /// How many slots were sent in this life.
    sent: usize,
    /// How many of these are not confirmed.
    in_flight: usize,
    kept: usize,
    octets: usize,
    /// So many slots from the first on are sent one by one: the broker has closed the channel because of one of them.
    suspects: usize,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    /// None if it is confirmed.
    kept: Option<Box<Kept>>,
}

#[derive(Debug)]
struct Kept {
    message: Message,
    mandatory: bool,
}

/// Behind a publish that is never confirmed, later ones that are leave their slots. So many may there be for each that may be kept.
const SLOTS_FOR_EACH: usize = 16;

impl Outbox {
    /// An empty one. All ids begin with that prefix, which no other outbox may have: 128 random bits will do.
    #[must_use]
    pub fn new(republish: Republish, prefix: &str) -> Self {
        Self {
            republish,
            prefix: prefix.into(),
            last: 0,
            slots: VecDeque::new(),
            first_tag: 1,
            sent: 0,
            in_flight: 0,
            kept: 0,
            octets: 0,
            suspects: 0,
        }
    }

    /// Publishes a message for the first time and keeps it. Gives its tag in this life; none on a channel that is not in confirm mode,
    /// where it is not kept.
    ///
    /// # Errors
    /// Those of [`Channel::publish`]. [`SendError::InFlight`] as well if too much is kept, or if not all is published again that was
    /// kept before. [`SendError::Headers`] for headers that cannot take the id.
    pub fn publish(
        &mut self,
        channel: &mut Channel<'_>,
        method: &BasicPublish<'_>,
        properties: &Properties<'_>,
        body: &Bytes,
    ) -> Result<Option<ConfirmTag>, SendError> {
        if self.is_behind() || !self.admits(body.len()) {
            return Err(SendError::InFlight);
        }
        let number = self.last.wrapping_add(1);
        let headers = self.headers(number, properties)?;
        let properties = Properties {
            headers: headers.as_ref().map(FieldTable::as_ref).or(properties.headers),
            ..*properties
        };
        let message = Message::new(method.exchange, method.routing_key, &properties, body.clone())?;
        let octets = message.octets();
        if !self.admits(octets) {
            return Err(SendError::InFlight);
        }
        let Some(tag) = channel.publish(method, &properties, body.clone())? else {
            return Ok(None);
        };
        if self.slots.is_empty() {
            self.first_tag = tag.value();
        }
        let mandatory = method.mandatory;
        self.slots.push_back(Slot {
            number,
            kept: Some(Box::new(Kept { message, mandatory })),
        });
        self.last = number;
        self.sent = self.slots.len();
        self.in_flight = self.in_flight.saturating_add(1);
        self.kept = self.kept.saturating_add(1);
        self.octets = self.octets.saturating_add(octets);
        Ok(Some(tag))
    }

    /// The headers with the id, if they have none.
    fn headers(&self, number: u64, properties: &Properties<'_>) -> Result<Option<FieldTable>, SendError> {
        let name = &*self.republish.header;
        if let Some(headers) = properties.headers
            && headers.get(name).is_ok_and(|value| value.is_some())
        {
            return Ok(None);
        }
        let id = format!("{}-{number}", self.prefix);
        with_header(properties, name, id.as_str()).map(Some)
    }

    fn admits(&self, octets: usize) -> bool {
        let limits = &self.republish.limits;
        let most_slots = limits.count.saturating_mul(SLOTS_FOR_EACH);
        self.kept == 0
            || self.kept < limits.count
                && self.slots.len() < most_slots
                && self.octets.saturating_add(octets) <= limits.octets
    }

    /// Publishes again what was kept when the last life ended, as far as there is room for it. To be called as long as
    /// [`is_behind`](Self::is_behind), after each event.
    ///
    /// # Errors
    /// Those of [`Channel::publish`]; what was sent before is. An error that stays ([`SendError::Encode`], such as a frame size that
    /// became smaller; [`SendError::Stale`], also if the channel is not in confirm mode) leaves no way but [`end`](Self::end).
    pub fn republish(&mut self, channel: &mut Channel<'_>) -> Result<(), SendError> {
        while self.suspects == 0 || self.in_flight == 0 {
            let Some(Kept { message, mandatory }) =
                self.slots.get(self.sent).and_then(|slot| slot.kept.as_deref())
            else {
                return Ok(());
            };
            let method = BasicPublish {
                exchange: message.exchange(),
                routing_key: message.routing_key(),
                mandatory: *mandatory,
                ..BasicPublish::default()
            };
            let body = message.clone().into_body();
            let tag = channel.publish(&method, &message.properties(), body)?;
            let tag = tag.ok_or(SendError::Stale)?.value();
            if self.sent == 0 {
                self.first_tag = tag;
            }
            self.sent = self.sent.saturating_add(1);
            self.in_flight = self.in_flight.saturating_add(1);
        }
        Ok(())
    }

    /// The broker has settled these: lets go of them, and tells their numbers, in order, from each first one to its last. Not to be
    /// called for what is [`Lost`](crate::ConfirmOutcome::Lost): that is not settled.
    pub fn settled(&mut self, tags: ConfirmTags, tell: impl FnMut(u64, u64)) {
        let end = self.first_tag.saturating_add(self.sent as u64);
        let (first, last) = (
            tags.first().max(self.first_tag),
            tags.last().min(end.saturating_sub(1)),
        );
        let mut told = Runs::new(tell);
        for index in first..=last {
            let index = usize::try_from(index.saturating_sub(self.first_tag)).unwrap_or(usize::MAX);
            if let Some(number) = self.let_go(index) {
                self.in_flight = self.in_flight.saturating_sub(1);
                told.add(number);
            }
        }
        told.finish();
        while self.slots.front().is_some_and(|slot| slot.kept.is_none()) {
            self.slots.pop_front();
            self.first_tag = self.first_tag.saturating_add(1);
            self.sent = self.sent.saturating_sub(1);
            self.suspects = self.suspects.saturating_sub(1);
        }
        if self.slots.is_empty() {
            self.slots.shrink_to(KEPT_SLOTS);
        }
    }

    /// Its number, if there is anything to let go of.
    fn let_go(&mut self, index: usize) -> Option<u64> {
        let slot = self.slots.get_mut(index)?;
        let kept = slot.kept.take()?;
        self.kept = self.kept.saturating_sub(1);
        self.octets = self.octets.saturating_sub(kept.message.octets());
        Some(slot.number)
    }

    /// The number of the publish that has that tag in this life, if it is not settled.
    #[must_use]
    pub fn number(&self, tag: u64) -> Option<u64> {
        let index = usize::try_from(tag.checked_sub(self.first_tag)?).ok()?;
        let slot = self.slots.get(index).filter(|_| index < self.sent)?;
        slot.kept.as_ref().map(|_| slot.number)
    }

    /// The life of the channel has ended and another one follows: all that is kept has to be published again.
    ///
    /// But if the broker ended it because of a publish, that one is given up, and its number told; else that would not end. The broker
    /// does not say which one it is. If several may be, they are published one by one in the next life.
    pub fn interrupt(&mut self, reason: &ChannelCloseReason) -> Option<u64> {
        let mut refused = None;
        if blames_publish(reason) {
            match self.in_flight {
                1 => {
                    let is_kept = |slot: &Slot| slot.kept.is_some();
                    let index = self.slots.iter().take(self.sent).position(is_kept);
                    refused = index.and_then(|index| self.let_go(index));
                }
                _ => self.suspects = self.suspects.max(self.sent),
            }
        }
        let suspects = self.slots.iter().take(self.suspects);
        self.suspects = suspects.filter(|slot| slot.kept.is_some()).count();
        self.slots.retain(|slot| slot.kept.is_some());
        (self.sent, self.in_flight) = (0, 0);
        refused
    }

    /// Nothing follows: lets go of everything, and tells the numbers as [`settled`](Self::settled) does.
    pub fn end(&mut self, tell: impl FnMut(u64, u64)) {
        let mut told = Runs::new(tell);
        for slot in core::mem::take(&mut self.slots) {
            if slot.kept.is_some() {
                told.add(slot.number);
            }
        }
        told.finish();
        (self.sent, self.in_flight, self.kept, self.octets) = (0, 0, 0, 0);
        self.suspects = 0;
    }

    /// Whether something is to be published again, and perhaps to be confirmed, before anything new may be published.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.sent < self.slots.len() || self.suspects > 0
    }

    /// How many publishes are kept.
    #[must_use]
    pub const fn kept(&self) -> usize {
        self.kept
    }

    /// How many of these wait to be published again.
    #[must_use]
    pub const fn unsent(&self) -> usize {
        self.kept.saturating_sub(self.in_flight)
    }

    /// How many octets they have, with their properties and names.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }
}

/// An outbox that is empty keeps room for that many publishes, 16 KiB.
const KEPT_SLOTS: usize = 1024;

/// Whether the broker ended it because it could not take a publish.
fn blames_publish(reason: &ChannelCloseReason) -> bool {
    let (ChannelCloseReason::Peer(peer) | ChannelCloseReason::Connection(CloseReason::Peer(peer))) = reason
    else {
        return false;
    };
    peer.method == Some(BasicPublish::SPEC.id)
}

/// Numbers in a row are told together.
struct Runs<F: FnMut(u64, u64)> {
    run: Option<(u64, u64)>,
    tell: F,
}

impl<F: FnMut(u64, u64)> Runs<F> {
    const fn new(tell: F) -> Self {
        Self { run: None, tell }
    }

    fn add(&mut self, number: u64) {
        match &mut self.run {
            Some((_, last)) if last.wrapping_add(1) == number => *last = number,
            run => {
                let before = run.replace((number, number));
                if let Some((first, last)) = before {
                    (self.tell)(first, last);
                }
            }
        }
    }

    fn finish(mut self) {
        if let Some((first, last)) = self.run.take() {
            (self.tell)(first, last);
        }
    }
}
