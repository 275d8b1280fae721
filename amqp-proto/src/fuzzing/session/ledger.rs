//! What is outstanding on a connection, kept by whoever gives the commands, and checked against each event.

use std::collections::{HashMap, HashSet};

use crate::wire::{BasicConsume, BasicGet, MethodSpec};
use crate::{
    ChannelCloseReason, ChannelId, ConfirmOutcome, ConfirmTag, ConsumerId, DeliveryTag, Event, RequestError,
    RequestId,
};

/// Everything that an event must still come for, each exactly once.
#[derive(Debug, Default)]
pub struct Ledger {
    /// And whether they were told as open.
    channels: HashMap<ChannelId, bool>,
    requests: HashMap<RequestId, Asked>,
    consumers: HashSet<ConsumerId>,
    tags: HashSet<ConfirmTag>,
    /// Messages that come in pieces, and how much is left of each.
    streams: HashMap<DeliveryTag, u64>,
    is_connected: bool,
    is_closed: bool,
    /// How much was ever asked for.
    issued: usize,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Asked {
    /// That method.
    Plain(&'static MethodSpec),
    /// To start a consumer.
    Consume(ConsumerId),
    /// To end a consumer.
    Cancel(ConsumerId),
    /// To get a message.
    Get,
}

impl Ledger {
    /// A channel was opened.
    pub fn opened(&mut self, channel: ChannelId) {
        self.issued += 1;
        assert_eq!(self.channels.insert(channel, false), None);
    }

    /// A request was made.
    pub fn asked<T>(&mut self, request: RequestId<T>, asked: Asked) {
        self.issued += 1;
        if let Asked::Consume(consumer) = asked {
            self.consuming(consumer);
        }
        assert_eq!(self.requests.insert(request.untyped(), asked), None);
    }

    pub(super) fn consuming(&mut self, consumer: ConsumerId) {
        self.issued += 1;
        assert!(self.consumers.insert(consumer));
    }

    /// A publish waits for its confirm.
    pub fn published(&mut self, tag: ConfirmTag) {
        self.issued += 1;
        assert!(self.tags.insert(tag));
    }

    /// Nothing comes of that request any more.
    pub(super) fn abandoned(&mut self, request: RequestId) {
        if let Some(Asked::Consume(consumer)) = self.requests.remove(&request) {
            self.consumers.remove(&consumer);
        }
    }

    pub(super) const fn issued(&self) -> usize {
        self.issued
    }

    /// Whether [`Event::Closed`] came.
    pub const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Publishes that wait for their confirm.
    pub fn tags(&self) -> impl Iterator<Item = &ConfirmTag> {
        self.tags.iter()
    }

    /// Requests that nobody answered or gave up.
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// Takes off what the event resolves; it must be there.
    pub fn take(&mut self, event: &Event) {
        assert!(!self.is_closed, "after the end: {event:?}");
        match event {
            Event::Connected => assert!(!core::mem::replace(&mut self.is_connected, true)),
            Event::ChannelOpened { channel } => {
                assert_eq!(self.channels.insert(*channel, true), Some(false), "{event:?}");
            }
            Event::Reply(reply) => self.take_reply(reply),
            Event::RequestFailed { request, cause } => self.take_failure(*request, cause),
            Event::Delivery(delivery) => self.is_wanted(delivery.consumer),
            Event::DeliveryStarted { delivery, body_size } => {
                self.is_wanted(delivery.consumer);
                assert_eq!(delivery.message.body_len(), 0);
                // A peer that repeats a tag is not our concern.
                self.streams.insert(delivery.tag, *body_size);
            }
            Event::DeliveryChunk { tag, chunk } => {
                let left = self.streams.get_mut(tag).expect("it was started");
                assert!(!chunk.is_empty());
                *left = left.checked_sub(chunk.len() as u64).expect("it is that large");
            }
            Event::DeliveryEnded { tag } => assert_eq!(self.streams.remove(tag), Some(0)),
            Event::Got(got) => self.take_get(got.request),
            Event::GetEmpty { request } => self.take_get(*request),
            Event::Returned(returned) => {
                assert!(self.channels.contains_key(&returned.channel));
                assert!(returned.tag.is_none_or(|tag| self.tags.contains(&tag)));
            }
            Event::Confirmed { tags, outcome } => {
                assert!(tags.count() > 0);
                for tag in tags.iter() {
                    assert!(
                        self.tags.remove(&tag),
                        "{tag:?} is {outcome:?} though it does not wait"
                    );
                }
                let is_lost = matches!(outcome, ConfirmOutcome::Lost(_));
                assert!(self.channels.contains_key(&tags.channel()) || is_lost);
            }
            Event::ConsumerCancelled { consumer } => assert!(self.consumers.remove(consumer), "{event:?}"),
            Event::Flow { channel, .. } => assert!(self.channels.contains_key(channel)),
            Event::ChannelClosed { channel, .. } => self.take_channel(*channel),
            Event::Closed(_) => {
                self.is_closed = true;
                self.is_settled();
                assert!(self.channels.is_empty(), "{:?}", self.channels);
            }
            _ => {}
        }
    }

    /// Nothing waits for an answer or a confirm.
    pub fn is_settled(&self) {
        assert!(self.requests.is_empty(), "{:?}", self.requests);
        assert!(self.tags.is_empty(), "{:?}", self.tags);
    }

    fn take_reply(&mut self, reply: &crate::Reply) {
        let asked = self.requests.remove(&reply.request());
        let method = reply.method().expect("it can be read");
        let is_due = |spec: &MethodSpec| spec.replies.contains(&method.spec().id);
        match asked {
            Some(Asked::Plain(spec)) => assert!(is_due(spec), "{reply:?} answers {}", spec.name),
            Some(Asked::Consume(_)) => assert_eq!(method.spec().name, "basic.consume-ok"),
            Some(Asked::Cancel(consumer)) => {
                assert_eq!(method.spec().name, "basic.cancel-ok");
                self.consumers.remove(&consumer);
            }
            other => panic!("{reply:?} answers {other:?}"),
        }
    }

    fn take_failure(&mut self, request: RequestId, cause: &RequestError) {
        let asked = self.requests.remove(&request);
        assert!(
            asked.is_some(),
            "{request:?} fails though it does not wait: {cause}"
        );
        if let Some(Asked::Consume(consumer)) = asked {
            self.consumers.remove(&consumer);
        }
        if let RequestError::ChannelClosed(ChannelCloseReason::Requested) = cause {
            assert_ne!(request.channel(), ChannelId::CONNECTION);
        }
    }

    fn take_get(&mut self, request: RequestId<BasicGet<'static>>) {
        let asked = self.requests.remove(&request.untyped());
        assert_eq!(asked, Some(Asked::Get));
    }

    fn take_channel(&mut self, channel: ChannelId) {
        assert!(self.channels.remove(&channel).is_some(), "{channel} ended twice");
        let late = self.requests.keys().find(|request| request.channel() == channel);
        assert_eq!(late, None, "it was left behind");
        assert!(!self.tags.iter().any(|tag| tag.channel() == channel));
        self.consumers.retain(|consumer| consumer.channel() != channel);
        self.streams.retain(|tag, _| tag.channel() != channel);
    }

    fn is_wanted(&self, consumer: ConsumerId) {
        assert!(self.consumers.contains(&consumer), "nobody is {consumer:?}");
    }
}

/// The request of a consumer.
pub(super) fn consume(
    (consumer, request): (ConsumerId, RequestId<BasicConsume<'static>>),
) -> (RequestId, Asked) {
    (request.untyped(), Asked::Consume(consumer))
}
