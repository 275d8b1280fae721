//! Names for things of one connection: channels, requests, consumers, deliveries, publishes. Each carries the channel's
//! incarnation, so that one that outlived its channel is recognised and never taken for another.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;

/// A channel: its number on the wire, and which of the channels that had this number it is.
///
/// Incarnations are counted over a connection and go on in the next one
/// ([`Connection::new`](crate::Connection::new)), so that no two channels of a connection and its successors are equal. Those of
/// connections side by side may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    number: u16,
    incarnation: u32,
}

impl ChannelId {
    /// The connection itself, as far as requests go: `update_secret` is answered on channel 0.
    pub const CONNECTION: Self = Self::new(0, 0);

    /// Names a channel; the connection makes its own, this one is for tests.
    #[must_use]
    pub const fn new(number: u16, incarnation: u32) -> Self {
        Self { number, incarnation }
    }

    /// The number on the wire, 1 to 65535; 0 is the connection itself.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.number
    }

    /// How many channels were opened before it.
    #[must_use]
    pub const fn incarnation(self) -> u32 {
        self.incarnation
    }
}

/// The tag by which one delivery is acknowledged, valid on the channel it came on and only there.
// The channel in two parts, for the whole to fit 16 octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryTag {
    channel_number: u16,
    incarnation: u32,
    value: u64,
    is_from_stream: bool,
}

impl DeliveryTag {
    /// Names a delivery of a channel; one from a stream is [named so](Self::from_stream) too.
    #[must_use]
    pub const fn new(channel: ChannelId, value: u64) -> Self {
        Self {
            channel_number: channel.number,
            incarnation: channel.incarnation,
            value,
            is_from_stream: false,
        }
    }

    /// The same delivery, which came from a stream, or did not.
    #[must_use]
    pub const fn from_stream(mut self, is_from_stream: bool) -> Self {
        self.is_from_stream = is_from_stream;
        self
    }

    /// The channel it came on.
    #[must_use]
    pub const fn channel(self) -> ChannelId {
        ChannelId::new(self.channel_number, self.incarnation)
    }

    /// The number on the wire; counts from 1.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.value
    }

    /// Whether it came from a stream, which takes nothing back: it can be acknowledged, and not refused. Known of a consumer
    /// that was started with `x-stream-offset`.
    #[must_use]
    pub const fn is_from_stream(self) -> bool {
        self.is_from_stream
    }
}

/// The number of one publish on a channel in confirm mode, by which the broker confirms it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConfirmTag {
    channel: ChannelId,
    value: u64,
}

impl ConfirmTag {
    /// Names a publish of a channel.
    #[must_use]
    pub const fn new(channel: ChannelId, value: u64) -> Self {
        Self { channel, value }
    }

    /// The channel it was published on.
    #[must_use]
    pub const fn channel(self) -> ChannelId {
        self.channel
    }

    /// The number on the wire; counts from 1 since `confirm.select`.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.value
    }
}

/// Publishes in a row on one channel, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConfirmTags {
    channel: ChannelId,
    first: u64,
    last: u64,
}

impl ConfirmTags {
    /// The publishes from `first` to `last` of a channel; none if `last` is smaller.
    #[must_use]
    pub const fn new(channel: ChannelId, first: u64, last: u64) -> Self {
        Self { channel, first, last }
    }

    /// The channel they were published on.
    #[must_use]
    pub const fn channel(self) -> ChannelId {
        self.channel
    }

    /// The number of the first one.
    #[must_use]
    pub const fn first(self) -> u64 {
        self.first
    }

    /// The number of the last one.
    #[must_use]
    pub const fn last(self) -> u64 {
        self.last
    }

    /// How many they are.
    #[must_use]
    pub const fn count(self) -> u64 {
        (self.last.saturating_add(1)).saturating_sub(self.first)
    }

    /// Whether that publish is one of them.
    #[must_use]
    pub fn contains(self, tag: ConfirmTag) -> bool {
        self.channel == tag.channel && (self.first..=self.last).contains(&tag.value)
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = ConfirmTag> {
        (self.first..=self.last).map(move |value| ConfirmTag::new(self.channel, value))
    }
}

/// A consumer on a channel, whatever its tag's text is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId {
    channel: ChannelId,
    number: u32,
}

impl ConsumerId {
    /// Names a consumer; the connection makes its own, this one is for tests.
    #[must_use]
    pub const fn new(channel: ChannelId, number: u32) -> Self {
        Self { channel, number }
    }

    /// The channel it consumes on.
    #[must_use]
    pub const fn channel(self) -> ChannelId {
        self.channel
    }

    /// How many consumers this channel had before it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }
}

/// A request that was sent. `T` is its method, from which follows what [`Reply::read`](crate::Reply::read) gives; `()`
/// where that is not known.
pub struct RequestId<T = ()> {
    channel: ChannelId,
    sequence: u64,
    method: PhantomData<fn() -> T>,
}

impl<T> RequestId<T> {
    /// Names a request; the connection makes its own, this one is for tests.
    #[must_use]
    pub const fn new(channel: ChannelId, sequence: u64) -> Self {
        Self {
            channel,
            sequence,
            method: PhantomData,
        }
    }

    /// The channel it was sent on.
    #[must_use]
    pub const fn channel(self) -> ChannelId {
        self.channel
    }

    /// How many requests were sent on this channel before it.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }

    /// The same request without its method, as events name it.
    #[must_use]
    pub const fn untyped(self) -> RequestId {
        RequestId::new(self.channel, self.sequence)
    }
}

impl<T> Clone for RequestId<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RequestId<T> {}

impl<T, U> PartialEq<RequestId<U>> for RequestId<T> {
    fn eq(&self, other: &RequestId<U>) -> bool {
        self.channel == other.channel && self.sequence == other.sequence
    }
}

impl<T> Eq for RequestId<T> {}

impl<T> Hash for RequestId<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.channel, self.sequence).hash(state);
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({self})")
    }
}

impl fmt::Display for ChannelId {
    /// Number and incarnation: `1#7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.number, self.incarnation)
    }
}

macro_rules! debug_as {
    ($($type:ident $(<$parameter:ident>)? => $($field:ident).+;)+) => {
        $(impl $(<$parameter>)? fmt::Debug for $type $(<$parameter>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({} of {})"), self.$($field).+, self.channel())
            }
        })+
    };
}

debug_as! {
    DeliveryTag => value;
    ConfirmTag => value;
    ConsumerId => number;
    RequestId<T> => sequence;
}

impl fmt::Debug for ConfirmTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ConfirmTags({}..={} of {})",
            self.first, self.last, self.channel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    #[test]
    fn ids_of_another_incarnation_are_others() {
        let (old, new) = (ChannelId::new(1, 1), ChannelId::new(1, 2));
        assert_ne!(DeliveryTag::new(old, 5), DeliveryTag::new(new, 5));
        assert_ne!(RequestId::<u8>::new(old, 5), RequestId::<u8>::new(new, 5));
        assert_eq!(
            RequestId::<u8>::new(old, 5),
            RequestId::<u8>::new(old, 5).untyped()
        );
        assert!(!ConfirmTags::new(old, 1, 9).contains(ConfirmTag::new(new, 5)));
    }

    #[test]
    fn a_delivery_from_a_stream_says_so_and_takes_no_more_room() {
        let tag = DeliveryTag::new(ChannelId::new(3, 7), 5);
        let from_stream = tag.from_stream(true);
        assert!(from_stream.is_from_stream() && !tag.is_from_stream());
        assert_eq!((from_stream.channel(), from_stream.value()), (tag.channel(), 5));
        assert_eq!(from_stream.from_stream(false), tag);
        assert_eq!(size_of::<DeliveryTag>(), 16);
    }

    #[test]
    fn ranges_include_both_ends() {
        let channel = ChannelId::new(3, 7);
        let tags = ConfirmTags::new(channel, 4, 6);
        assert_eq!(tags.count(), 3);
        assert_eq!(tags.iter().map(ConfirmTag::value).collect::<Vec<_>>(), [4, 5, 6]);
        assert!(!tags.contains(ConfirmTag::new(channel, 3)));
        assert!(tags.contains(ConfirmTag::new(channel, 4)));
        assert!(tags.contains(ConfirmTag::new(channel, 6)));
        assert!(!tags.contains(ConfirmTag::new(channel, 7)));
        assert_eq!(ConfirmTags::new(channel, 2, 1).count(), 0);
    }

    #[test]
    fn requests_can_be_kept_in_a_map() {
        let (one, other) = (ChannelId::new(1, 1), ChannelId::new(2, 1));
        let request = |channel, sequence| RequestId::<u8>::new(channel, sequence);
        let random = std::hash::RandomState::new();
        let hash = |request: RequestId<u8>| core::hash::BuildHasher::hash_one(&random, request);
        assert_eq!(hash(request(one, 1)), hash(request(one, 1)));
        assert_ne!(hash(request(one, 1)), hash(request(one, 2)));
        assert_ne!(hash(request(one, 1)), hash(request(other, 1)));
    }

    #[test]
    fn they_print_their_channel() {
        let channel = ChannelId::new(3, 7);
        assert_eq!(format!("{channel:?}"), "ChannelId(3#7)");
        assert_eq!(
            format!("{:?}", DeliveryTag::new(channel, 9)),
            "DeliveryTag(9 of 3#7)"
        );
        assert_eq!(
            format!("{:?}", RequestId::<u8>::new(channel, 1)),
            "RequestId(1 of 3#7)"
        );
        assert_eq!(
            format!("{:?}", ConfirmTags::new(channel, 1, 2)),
            "ConfirmTags(1..=2 of 3#7)"
        );
    }
}
