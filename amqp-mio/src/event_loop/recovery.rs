//! How a lost connection is made again.

use std::hash::{BuildHasher, RandomState};

use amqp_proto::topology::{Step, StepFilter};
use amqp_proto::{Backoff, ReconnectPolicy};

/// How a lost connection is made again, with everything that was on it ([`Ctx::connect_recovering`](super::Ctx::connect_recovering)).
///
/// Channels with their options, limits and confirms are there again afterwards, and exchanges, queues and bindings that were declared by
/// [`ChannelView`](super::ChannelView) on this connection and not deleted, and consumers: their names and their callbacks go on. What was
/// under way is not: requests fail, publishes that were not confirmed are [`Lost`](amqp_proto::ConfirmOutcome::Lost), unless their channel
/// [publishes them again](super::ChannelOptions::republish), and deliveries that were not settled come again; to settle one of those is refused and changes nothing. What is asked meanwhile is refused
/// ([`SendError::NotConnected`](amqp_proto::SendError::NotConnected)); [`on_recovered`](super::ConnectionView::on_recovered) says when to
/// go on. Only what is delivered before that can be dealt with at once, on its channel. Channels in transactions end. That an empty name
/// means the queue that was declared last on a channel is not known there any more: the broker refuses it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Recovery {
    /// When and where it is tried, and which failures end it. Default: after half a second, which doubles up to 30 s,
    /// for ever; [permanent](amqp_proto::CloseReason::is_permanent) failures end it.
    pub reconnect: ReconnectPolicy,
    /// What is made again. Default: everything.
    pub filter: Option<StepFilter>,
}

/// Clients that do not act in step: the delays are drawn from a seed that differs from one connection to the next.
impl Default for Recovery {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(0);
        Self::new(ReconnectPolicy::new(Backoff::new(seed)))
    }
}

impl Recovery {
    /// With those delays and hosts, and everything made again.
    #[must_use]
    pub const fn new(reconnect: ReconnectPolicy) -> Self {
        Self {
            reconnect,
            filter: None,
        }
    }

    /// Makes only those steps that `is_wanted` says.
    #[must_use]
    pub fn filter(mut self, is_wanted: impl Fn(&Step) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(StepFilter::new(is_wanted));
        self
    }
}
