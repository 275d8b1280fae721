//! How a connection stands, in numbers.

use amqp_proto::Counters;

use crate::channels::Entry;
use crate::shared::State;

/// How a connection stands, and what it has counted since it was made for the first time. Plain numbers; whoever exports metrics
/// subtracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// What the protocol's core has counted, on all connections that were made one after the other.
    pub counters: Counters,
    /// Channels that have a handle and have not ended.
    pub channels: usize,
    /// Consumers that have not ended.
    pub consumers: usize,
    /// Publishes that wait for their confirm.
    pub unconfirmed: usize,
    /// Octets that wait to be written.
    pub queued_bytes: usize,
    /// Octets of messages that came to consumers and were not taken yet, and 256 octets more for each message.
    pub waiting_bytes: usize,
    /// Deliveries that were dropped without being settled while their channel was open. They went back to their queues: mostly an
    /// acknowledgement was forgotten.
    pub unsettled_dropped: u64,
    /// How often it was lost and made again with everything that was on it ([`Recovery`](crate::Recovery)).
    pub recoveries: u64,
}

impl Stats {
    pub(crate) fn of(state: &mut State) -> Self {
        let unconfirmed = state.unconfirmed();
        let open = || state.channels.iter().filter(|entry| entry.closed.is_none());
        let inboxes = || open().flat_map(|entry: &Entry| &entry.consumers);
        Self {
            counters: state.counters(),
            channels: open().count(),
            consumers: inboxes().filter(|inbox| !inbox.has_ended()).count(),
            unconfirmed,
            queued_bytes: state.connection.queued_bytes(),
            waiting_bytes: inboxes().map(|inbox| inbox.octets()).sum(),
            unsettled_dropped: state.unsettled_dropped,
            recoveries: state.recoveries,
        }
    }
}
