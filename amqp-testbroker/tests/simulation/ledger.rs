//! What must be true of any client, whatever the program: everything that was asked is resolved once, and what ended is silent.

use std::collections::{BTreeMap, HashMap};

use amqp_proto::wire::ReplyCode;
use amqp_proto::{ChannelCloseReason, ChannelId, CloseReason, ConfirmOutcome, ConfirmTags, Event, RequestId};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which rule was broken.
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Unless that holds, the rule is broken.
pub(crate) fn ensure(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Checked {
    if holds {
        return Ok(());
    }
    let detail = detail();
    Err(Violation { rule, detail })
}

/// Requests, publishes and channels of all connections of one program.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether it is resolved.
    requests: HashMap<RequestId, bool>,
    channels: BTreeMap<ChannelId, Channel>,
    open_requests: usize,
    open_tags: usize,
    is_closed: bool,
    is_connected: bool,
    is_blocked: bool,
    /// A command was refused for want of room, and nothing was told since.
    is_full: bool,
    /// How many more commands were refused so than there were events that told of room. Of several refused one after the other
    /// only the first counts for the core.
    refused: usize,
}

#[derive(Debug, Default)]
struct Channel {
    is_opened: bool,
    is_ended: bool,
    open_requests: usize,
    /// Of the publishes from 1 on, whether each is resolved.
    tags: Vec<bool>,
    open_tags: usize,
}

impl Ledger {
    pub(crate) const fn connection_made(&mut self) {
        self.is_closed = false;
        self.is_connected = false;
        self.is_blocked = false;
        self.is_full = false;
        self.refused = 0;
    }

    pub(crate) fn channel_made(&mut self, channel: ChannelId) -> Checked {
        let is_new = self.channels.insert(channel, Channel::default()).is_none();
        ensure(is_new, "a channel is new", || {
            format!("{channel} was there before")
        })
    }

    pub(crate) fn asked(&mut self, request: RequestId) -> Checked {
        self.open_requests += 1;
        let channel = self.channels.entry(request.channel()).or_default();
        channel.open_requests += 1;
        let is_new = self.requests.insert(request, false).is_none();
        ensure(is_new, "a request is new", || {
            format!("{request:?} was there before")
        })
    }

    pub(crate) fn published(&mut self, channel: ChannelId, tag: u64) -> Checked {
        self.open_tags += 1;
        let channel = self.channels.entry(channel).or_default();
        channel.tags.push(false);
        channel.open_tags += 1;
        let count = channel.tags.len() as u64;
        ensure(count == tag, "publishes are numbered in order", || {
            format!("{tag} instead of {count}")
        })
    }

    pub(crate) const fn refused_for_room(&mut self) {
        self.is_full = true;
        self.refused += 1;
    }

    /// Whether nothing of that channel was told to have ended.
    pub(crate) fn is_channel_there(&self, channel: ChannelId) -> bool {
        self.channels
            .get(&channel)
            .is_some_and(|channel| !channel.is_ended)
    }

    /// What is not resolved; empty if all is.
    pub(crate) fn pending(&self) -> Vec<String> {
        let mut pending = Vec::new();
        let open = self.requests.iter().filter(|(_, is_resolved)| !**is_resolved);
        pending.extend(open.map(|(request, _)| format!("{request:?}")));
        for (id, channel) in &self.channels {
            if channel.open_tags > 0 {
                pending.push(format!("{} publishes on {id}", channel.open_tags));
            }
        }
        if self.is_full {
            pending.push("room to write".into());
        }
        if self.is_blocked {
            pending.push("the end of blocking".into());
        }
        pending.sort_unstable();
        pending
    }

    pub(crate) const fn has_open_requests(&self) -> bool {
        self.open_requests > 0
    }

    pub(crate) const fn has_pending(&self) -> bool {
        self.open_requests > 0 || self.open_tags > 0 || self.is_full || self.is_blocked
    }

    pub(crate) fn on_event(&mut self, event: &Event) -> Checked {
        ensure(!self.is_closed, "Closed is the last event", || {
            format!("{event:?}")
        })?;
        if let Some(channel) = event.channel() {
            ensure(
                self.is_channel_there(channel),
                "a channel that ended is silent",
                || format!("{event:?}"),
            )?;
        }
        match event {
            Event::Connected => {
                let is_first = !std::mem::replace(&mut self.is_connected, true);
                ensure(is_first, "Connected comes once", String::new)
            }
            Event::ChannelOpened { channel } => self.on_opened(*channel),
            Event::Reply(reply) => self.resolve(reply.request()),
            Event::RequestFailed { request, .. } => self.resolve(*request),
            Event::Got(got) => self.resolve(got.request.untyped()),
            Event::GetEmpty { request } => self.resolve(request.untyped()),
            Event::Confirmed { tags, outcome } => self.on_confirmed(*tags, outcome),
            Event::ChannelClosed { channel, reason } => self.on_channel_closed(*channel, reason),
            Event::Blocked { .. } => {
                let was_blocked = std::mem::replace(&mut self.is_blocked, true);
                ensure(!was_blocked, "Blocked and Unblocked alternate", String::new)
            }
            Event::Unblocked => {
                let was_blocked = std::mem::take(&mut self.is_blocked);
                ensure(was_blocked, "Blocked and Unblocked alternate", String::new)
            }
            Event::Writable => {
                self.is_full = false;
                ensure(self.refused > 0, "Writable comes once, after Full", String::new)?;
                self.refused -= 1;
                Ok(())
            }
            Event::Closed(reason) => self.on_closed(reason),
            _ => Ok(()),
        }
    }

    fn on_opened(&mut self, id: ChannelId) -> Checked {
        let channel = self.channels.entry(id).or_default();
        let is_first = !std::mem::replace(&mut channel.is_opened, true);
        ensure(is_first, "a channel opens once", || id.to_string())
    }

    fn resolve(&mut self, request: RequestId) -> Checked {
        let was_resolved = self.requests.insert(request, true);
        ensure(was_resolved == Some(false), "a request resolves once", || {
            format!("{request:?}")
        })?;
        self.open_requests -= 1;
        if let Some(channel) = self.channels.get_mut(&request.channel()) {
            channel.open_requests -= 1;
        }
        Ok(())
    }

    fn on_confirmed(&mut self, tags: ConfirmTags, outcome: &ConfirmOutcome) -> Checked {
        let channel = self.channels.entry(tags.channel()).or_default();
        let rule = "a publish resolves once";
        ensure(tags.count() > 0, rule, || format!("{tags:?} are none"))?;
        for tag in tags.iter() {
            let index = usize::try_from(tag.value()).unwrap_or(usize::MAX).wrapping_sub(1);
            let is_open = channel.tags.get(index) == Some(&false);
            ensure(is_open, rule, || format!("{tag:?}, now {outcome}"))?;
            channel.tags[index] = true;
            channel.open_tags -= 1;
            self.open_tags -= 1;
        }
        Ok(())
    }

    fn on_channel_closed(&mut self, id: ChannelId, reason: &ChannelCloseReason) -> Checked {
        if let ChannelCloseReason::Peer(peer) = reason {
            let expected = [
                ReplyCode::NOT_FOUND,
                ReplyCode::RESOURCE_LOCKED,
                ReplyCode::PRECONDITION_FAILED,
                ReplyCode::INTERNAL_ERROR,
            ];
            ensure(
                expected.contains(&peer.code),
                "the broker has no reason to close a channel so",
                || reason.to_string(),
            )?;
        }
        let channel = self.channels.entry(id).or_default();
        channel.is_ended = true;
        let (requests, tags) = (channel.open_requests, channel.open_tags);
        ensure(
            requests + tags == 0,
            "a channel that ends leaves nothing open",
            || format!("{requests} requests and {tags} publishes on {id}"),
        )
    }

    fn on_closed(&mut self, reason: &CloseReason) -> Checked {
        self.is_closed = true;
        self.is_full = false;
        self.is_blocked = false;
        let open: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, channel)| !channel.is_ended)
            .collect();
        ensure(
            open.is_empty(),
            "a connection that ends leaves no channel open",
            || format!("{open:?}"),
        )?;
        // What ended is kept in `requests`, which is enough to find what resolves twice.
        self.channels.clear();
        let is_fault = match reason {
            CloseReason::Peer(peer) => {
                let expected = [
                    ReplyCode::CONNECTION_FORCED,
                    ReplyCode::RESOURCE_ERROR,
                    ReplyCode::INTERNAL_ERROR,
                ];
                expected.contains(&peer.code)
            }
            CloseReason::Protocol(_)
            | CloseReason::Encode(_)
            | CloseReason::Config(_)
            | CloseReason::Sasl(_) => false,
            _ => true,
        };
        ensure(is_fault, "no side breaks the protocol", || reason.to_string())
    }
}
