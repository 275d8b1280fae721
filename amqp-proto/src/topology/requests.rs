//! Requests that change what is recorded, from the moment they are sent until they are answered.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{ChannelKey, Topology};
use crate::wire::{HEADER_SIZE, Method};
use crate::{ChannelId, Reply, RequestId};

/// A [`Topology`], and the requests under way that change it when they are answered: each is kept as it was sent.
///
/// It holds no more of them than the connection has requests under way.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    topology: Topology,
    /// By channel and sequence.
    asked: BTreeMap<(ChannelId, u64), Asked>,
}

#[derive(Debug, Clone)]
struct Asked {
    channel: ChannelKey,
    payload: Vec<u8>,
}

const fn place(request: RequestId) -> (ChannelId, u64) {
    (request.channel(), request.sequence())
}

impl Recorder {
    /// What is recorded.
    #[must_use]
    pub const fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The same, to change it.
    pub const fn topology_mut(&mut self) -> &mut Topology {
        &mut self.topology
    }

    /// That was sent on that channel of the program's, as this request.
    pub fn asked(&mut self, channel: ChannelKey, request: RequestId, method: &Method<'_>) {
        let mut payload = Vec::new();
        // It was encoded just before.
        if method.encode(&mut payload, 0, u32::MAX).is_ok() {
            payload.pop();
            self.asked.insert(place(request), Asked { channel, payload });
        }
    }

    /// That was sent, and is not answered.
    pub fn told(&mut self, channel: ChannelKey, method: &Method<'_>) {
        self.topology.answered(channel, method, None);
    }

    /// A request was answered. Says whether it was one of those that were [asked](Self::asked).
    pub fn answered(&mut self, reply: &Reply) -> bool {
        let Some(asked) = self.asked.remove(&place(reply.request())) else {
            return false;
        };
        let payload = asked.payload.get(HEADER_SIZE..).unwrap_or_default();
        if let Ok(method) = Method::decode(payload) {
            let answer = reply.method();
            self.topology.answered(asked.channel, &method, answer.as_ref());
        }
        true
    }

    /// A request was refused, or will not be answered.
    pub fn failed(&mut self, request: RequestId) {
        self.asked.remove(&place(request));
    }

    /// Whether the answer to that request is awaited.
    #[must_use]
    pub fn is_asked(&self, request: RequestId) -> bool {
        self.asked.contains_key(&place(request))
    }

    /// The connection has ended, and all requests with it.
    pub fn disconnected(&mut self) {
        self.asked.clear();
    }
}
