//! Messages as they arrive: octets of the receive buffer and where in them things stand.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::Payload;
use crate::id::{ChannelId, ConfirmTag, ConsumerId, DeliveryTag, RequestId};
use crate::wire::{BasicGet, ContentHeader, EncodeError, Frame, Properties, ReplyCode, ShortStr};

/// A message: where it was published to, its properties and its body.
///
/// It shares the memory that it was received in, 4 to 64 KiB, or a large frame, for as long as it lives. Whoever keeps a
/// small message for long should [`detach`](Self::detach) it.
#[derive(Clone)]
pub struct Message {
    /// Holds exchange, routing key and content header; the body too if all came at once.
    head: Bytes,
    /// Where in `head` the exchange begins, at its length; the routing key follows.
    envelope: u32,
    /// Where in `head` the content header is.
    header: Span,
    body: Body,
}

/// From where to where, as small as a frame allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

#[derive(Clone)]
enum Body {
    /// In the message's head.
    Within(Span),
    /// Pieces, none of them empty. (A slice, since every event is as large as the largest, and is moved.)
    Pieces(Box<[Bytes]>),
}

/// A message that came to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// What to acknowledge it with.
    pub tag: DeliveryTag,
    /// The consumer it came to.
    pub consumer: ConsumerId,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// The message.
    pub message: Message,
}

/// A message that answers a `basic.get`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Got {
    /// The request it answers.
    pub request: RequestId<BasicGet<'static>>,
    /// What to acknowledge it with.
    pub tag: DeliveryTag,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How many messages are left in the queue.
    pub message_count: u32,
    /// The message.
    pub message: Message,
}

/// A publish that came back, because no queue got it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Returned {
    /// The channel it was published on.
    pub channel: ChannelId,
    /// Which publish it was; `None` if the channel is not in confirm mode.
    pub tag: Option<ConfirmTag>,
    /// Why, as a number: mostly [`ReplyCode::NO_ROUTE`].
    pub code: ReplyCode,
    /// Why, in words; octets that are not UTF-8 are replaced.
    pub text: String,
    /// The message.
    pub message: Message,
}

impl Delivery {
    /// A delivery as it could arrive; for tests.
    #[must_use]
    pub const fn new(tag: DeliveryTag, consumer: ConsumerId, redelivered: bool, message: Message) -> Self {
        Self {
            tag,
            consumer,
            redelivered,
            message,
        }
    }
}

impl Got {
    /// An answer as it could arrive; for tests.
    #[must_use]
    pub const fn new(
        request: RequestId<BasicGet<'static>>,
        tag: DeliveryTag,
        redelivered: bool,
        message_count: u32,
        message: Message,
    ) -> Self {
        Self {
            request,
            tag,
            redelivered,
            message_count,
            message,
        }
    }
}

impl Returned {
    /// A return as it could arrive; for tests.
    #[must_use]
    pub fn new(
        channel: ChannelId,
        tag: Option<ConfirmTag>,
        code: ReplyCode,
        text: &str,
        message: Message,
    ) -> Self {
        Self {
            channel,
            tag,
            code,
            text: text.into(),
            message,
        }
    }
}

impl Message {
    /// A message as it could arrive; for tests.
    ///
    /// # Errors
    /// Properties that fit no frame.
    pub fn new<'p>(
        exchange: ShortStr<'_>,
        routing_key: ShortStr<'_>,
        properties: &Properties<'_>,
        body: impl Into<Payload<'p>>,
    ) -> Result<Self, EncodeError> {
        let body = match body.into() {
            Payload::Borrowed(octets) => Bytes::copy_from_slice(octets),
            Payload::Shared(octets) => octets,
        };
        let mut head = Vec::new();
        for text in [exchange, routing_key] {
            head.push(text.length_octet());
            head.extend_from_slice(text.as_bytes());
        }
        let header = ContentHeader {
            body_size: body.len() as u64,
            properties: *properties,
        };
        let start = head.len().saturating_add(crate::wire::HEADER_SIZE);
        Frame::Header { channel: 0, header }.encode(&mut head, u32::MAX)?;
        let header = Span::new(start..head.len().saturating_sub(1));
        // It was given room for the longest properties, and may be kept for long.
        head.shrink_to_fit();
        Ok(Self::from_parts(head.into(), 0, header).with_body(body))
    }

    /// What was received: `envelope` and `header` are places in `head`; the body is still empty.
    #[inline]
    pub(crate) const fn from_parts(head: Bytes, envelope: u32, header: Span) -> Self {
        Self {
            head,
            envelope,
            header,
            body: Body::Within(Span { start: 0, end: 0 }),
        }
    }

    /// The body came with the head: it is a place in `head` too.
    #[inline(always)]
    pub(crate) const fn within(head: Bytes, envelope: u32, header: Span, body: Span) -> Self {
        Self {
            head,
            envelope,
            header,
            body: Body::Within(body),
        }
    }

    pub(crate) fn with_body(self, body: Bytes) -> Self {
        let pieces = if body.is_empty() {
            Vec::new()
        } else {
            [body].into()
        };
        self.with_pieces(pieces)
    }

    pub(crate) fn with_pieces(mut self, pieces: Vec<Bytes>) -> Self {
        self.body = Body::Pieces(pieces.into());
        self
    }

    /// The exchange it was published to; empty for the default exchange.
    #[must_use]
    pub fn exchange(&self) -> ShortStr<'_> {
        ShortStr::delimited(self.short_string(self.envelope as usize))
    }

    /// The key it was published with.
    #[must_use]
    pub fn routing_key(&self) -> ShortStr<'_> {
        let exchange = self.envelope as usize;
        let after = exchange
            .saturating_add(1)
            .saturating_add(self.short_string(exchange).len());
        ShortStr::delimited(self.short_string(after))
    }

    /// Its properties, read anew at each call.
    #[must_use]
    pub fn properties(&self) -> Properties<'_> {
        // It was checked when it arrived.
        ContentHeader::decode(self.header())
            .unwrap_or_default()
            .properties
    }

    /// The content header's payload.
    pub(crate) fn header(&self) -> &[u8] {
        self.head.get(self.header.range()).unwrap_or_default()
    }

    /// How many octets the body has.
    #[inline]
    #[must_use]
    pub fn body_len(&self) -> usize {
        match &self.body {
            Body::Within(span) => span.range().len(),
            Body::Pieces(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// How many octets it takes: names, properties and body.
    pub(crate) fn octets(&self) -> usize {
        let body = match &self.body {
            Body::Within(_) => 0,
            Body::Pieces(_) => self.body_len(),
        };
        self.head.len().saturating_add(body)
    }

    /// The body as it stands in memory: one piece, or several if it came in several frames; none if it is empty.
    pub fn body_chunks(&self) -> impl Iterator<Item = &[u8]> {
        let (within, pieces) = match &self.body {
            Body::Within(span) => (self.head.get(span.range()).unwrap_or_default(), &[][..]),
            Body::Pieces(pieces) => (&[][..], &pieces[..]),
        };
        let within = (!within.is_empty()).then_some(within);
        within.into_iter().chain(pieces.iter().map(|piece| &piece[..]))
    }

    /// The body in one piece; copied only if it came in several frames.
    #[must_use]
    pub fn body(&self) -> Cow<'_, [u8]> {
        match &self.body {
            Body::Within(span) => self.head.get(span.range()).unwrap_or_default().into(),
            Body::Pieces(pieces) => match &pieces[..] {
                [] => Cow::default(),
                [piece] => piece[..].into(),
                pieces => pieces.concat().into(),
            },
        }
    }

    /// The body as shared octets; copied only if it came in several frames.
    #[must_use]
    pub fn into_body(self) -> Bytes {
        match self.body {
            Body::Within(span) => {
                let range = span.range();
                if range.end <= self.head.len() {
                    self.head.slice(range)
                } else {
                    Bytes::new()
                }
            }
            Body::Pieces(pieces) => match &pieces[..] {
                [] => Bytes::new(),
                [piece] => piece.clone(),
                pieces => pieces.concat().into(),
            },
        }
    }

    /// Copies it out of the receive buffer, into memory of its own and of its size.
    #[must_use]
    pub fn detach(&self) -> Self {
        let mut octets = BytesMut::new();
        for text in [self.exchange(), self.routing_key()] {
            octets.extend_from_slice(&[text.length_octet()]);
            octets.extend_from_slice(text.as_bytes());
        }
        let start = octets.len();
        octets.extend_from_slice(self.header());
        let header = Span::new(start..octets.len());
        let body = Bytes::copy_from_slice(&self.body());
        Self::from_parts(octets.freeze(), 0, header).with_body(body)
    }

    /// The short string whose length stands at that place.
    fn short_string(&self, at: usize) -> &[u8] {
        self.head
            .get(at..)
            .and_then(<[u8]>::split_first)
            .and_then(|(length, rest)| rest.get(..usize::from(*length)))
            .unwrap_or_default()
    }
}

impl Span {
    /// What does not fit 32 bits is no place in a buffer that is held to 4 GiB; it becomes an empty one.
    #[inline(always)]
    pub(crate) fn new(range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self { start: 0, end: 0 },
        }
    }

    /// So many octets from there on.
    #[inline(always)]
    pub(crate) const fn of(start: u32, size: u32) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
        }
    }

    #[inline]
    const fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The same exchange, routing key, properties and body, however they arrived.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.exchange() == other.exchange()
            && self.routing_key() == other.routing_key()
            && self.header() == other.header()
            && self.body() == other.body()
    }
}

impl Eq for Message {}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("exchange", &self.exchange())
            .field("routing_key", &self.routing_key())
            .field("properties", &self.properties())
            .field("body_len", &self.body_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FieldTable;
    use alloc::format;
    use alloc::vec;

    fn short(text: &str) -> ShortStr<'_> {
        ShortStr::new(text).unwrap()
    }

    fn message<'p>(body: impl Into<Payload<'p>>) -> Message {
        let properties = Properties::default();
        Message::new(short("events"), short("user.new"), &properties, body).unwrap()
    }

    /// The same message with its body in other pieces.
    fn in_pieces(pieces: &[&'static [u8]]) -> Message {
        let whole = message(Bytes::from(pieces.concat()));
        whole.with_pieces(pieces.iter().map(|piece| Bytes::from_static(piece)).collect())
    }

    /// The same message with its body behind its head, as it mostly arrives.
    fn in_one_piece() -> Message {
        let apart = message(b"hello");
        let mut head = BytesMut::from(&apart.head[..]);
        let start = head.len();
        head.extend_from_slice(b"hello\xce");
        let body = Span::new(start..start + 5);
        Message::within(head.freeze(), apart.envelope, apart.header, body)
    }

    fn chunks(message: &Message) -> Vec<&[u8]> {
        message.body_chunks().collect()
    }

    #[test]
    fn it_says_what_it_was_made_of() {
        let headers = FieldTable::new().with("a", 1).unwrap();
        let properties = Properties {
            headers: Some(headers.as_ref()),
            message_id: Some(short("m1")),
            ..Properties::default()
        };
        let message = Message::new(short("x"), short(""), &properties, b"hi").unwrap();
        assert_eq!(message.exchange(), short("x"));
        assert_eq!(message.routing_key(), short(""));
        assert_eq!(message.properties(), properties);
        assert_eq!(message.body_len(), 2);
        assert_eq!(&*message.body(), b"hi");
    }

    #[test]
    fn names_may_have_255_octets_each() {
        let (exchange, key) = ("e".repeat(255), "k".repeat(255));
        let properties = Properties::default();
        let message = Message::new(short(&exchange), short(&key), &properties, b"").unwrap();
        assert_eq!(message.exchange(), short(&exchange));
        assert_eq!(message.routing_key(), short(&key));
        assert_eq!(message.detach(), message);
    }

    #[test]
    fn a_body_can_be_read_in_its_pieces_or_in_one() {
        for (message, pieces) in [
            (message(b""), &[][..]),
            (message(b"hello"), &[&b"hello"[..]]),
            (in_one_piece(), &[&b"hello"[..]]),
            (in_pieces(&[b"he", b"ll", b"o"]), &[&b"he"[..], b"ll", b"o"]),
        ] {
            assert_eq!(chunks(&message), pieces);
            let whole = pieces.concat();
            assert_eq!(message.body_len(), whole.len());
            assert_eq!(&*message.body(), whole);
            assert_eq!(message.into_body(), whole);
        }
    }

    #[test]
    fn only_a_body_of_several_pieces_is_copied_to_be_one() {
        for message in [message(b"hello"), in_one_piece()] {
            let place = chunks(&message)[0].as_ptr();
            assert!(matches!(message.body(), Cow::Borrowed(body) if body.as_ptr() == place));
            assert_eq!(message.into_body().as_ptr(), place);
        }
        let message = in_pieces(&[b"he", b"llo"]);
        assert!(matches!(message.body(), Cow::Owned(_)));
    }

    #[test]
    fn a_shared_body_is_shared_and_a_borrowed_one_copied() {
        let octets = Bytes::from(vec![1; 8]);
        let properties = Properties::default();
        let shared = Message::new(short("x"), short("k"), &properties, octets.clone()).unwrap();
        assert_eq!(chunks(&shared)[0].as_ptr(), octets.as_ptr());
        let copied = Message::new(short("x"), short("k"), &properties, &octets[..]).unwrap();
        assert_ne!(chunks(&copied)[0].as_ptr(), octets.as_ptr());
        assert_eq!(shared, copied);
    }

    #[test]
    fn messages_are_equal_however_their_body_is_split() {
        let all = [message(b"hello"), in_one_piece(), in_pieces(&[b"he", b"llo"])];
        for one in &all {
            for other in &all {
                assert_eq!(one, other);
            }
            assert_ne!(*one, message(b"hullo"));
            assert_ne!(*one, message(b"hello!"));
        }
    }

    #[test]
    fn messages_differ_by_exchange_key_properties_and_body() {
        let properties = Properties {
            priority: Some(1),
            ..Properties::default()
        };
        let base = Message::new(short("x"), short("k"), &properties, b"b").unwrap();
        assert_eq!(base, base.clone());
        let made = |exchange, key, properties: &Properties<'_>, body: &'static [u8]| {
            Message::new(short(exchange), short(key), properties, body).unwrap()
        };
        assert_ne!(base, made("y", "k", &properties, b"b"));
        assert_ne!(base, made("x", "l", &properties, b"b"));
        assert_ne!(base, made("x", "k", &Properties::default(), b"b"));
        assert_ne!(base, made("x", "k", &properties, b"c"));
        // The same octets, in another place between them.
        assert_ne!(made("xk", "", &properties, b""), made("x", "k", &properties, b""));
    }

    #[test]
    fn a_detached_message_is_equal_and_holds_memory_of_its_own() {
        for message in [message(b"hello"), in_one_piece(), in_pieces(&[b"he", b"llo"])] {
            let detached = message.detach();
            assert_eq!(detached, message);
            assert_ne!(detached.head.as_ptr(), message.head.as_ptr());
            assert_ne!(chunks(&detached)[0].as_ptr(), chunks(&message)[0].as_ptr());
            assert_eq!(chunks(&detached), [b"hello"]);
            assert_eq!(
                detached.head.len(),
                1 + 6 + 1 + 8 + 14,
                "names and content header"
            );
        }
        assert_eq!(chunks(&message(b"").detach()), [b""; 0]);
    }

    #[test]
    fn it_prints_without_its_body() {
        assert_eq!(
            format!("{:?}", message(b"secret")),
            r#"Message { exchange: "events", routing_key: "user.new", properties: Properties, body_len: 6, .. }"#
        );
        let properties = Properties {
            delivery_mode: Some(Properties::PERSISTENT),
            app_id: Some(short("crm")),
            ..Properties::default()
        };
        let message = Message::new(short("events"), short("user.new"), &properties, b"").unwrap();
        assert!(
            format!("{message:?}")
                .contains(r#"properties: Properties { delivery_mode: 2, app_id: "crm" }, "#),
            "{message:?}"
        );
    }

    #[test]
    fn a_place_past_32_bits_is_an_empty_one() {
        let last = u32::MAX as usize;
        assert_eq!(Span::new(3..last).range(), 3..last);
        assert_eq!(Span::new(3..last + 1).range(), 0..0);
        assert_eq!(Span::new(last + 1..last + 2).range(), 0..0);
    }

    #[test]
    fn places_that_are_not_there_are_empty_and_no_panic() {
        let nowhere = Span { start: 90, end: 99 };
        let message = Message::within(Bytes::from_static(b"\x05ab"), 0, nowhere, nowhere);
        assert!(message.exchange().is_empty() && message.routing_key().is_empty());
        assert_eq!(message.properties(), Properties::default());
        assert_eq!(&*message.body(), b"");
        assert!(message.into_body().is_empty());
    }
}
