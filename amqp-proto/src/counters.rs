//! What a connection counted.

use crate::channel::Settled;

/// What a connection counted since it was made. Plain numbers, cheap to copy; whoever exports metrics subtracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Frames that were received, heartbeats included.
    pub frames_received: u64,
    /// Octets of these.
    pub octets_received: u64,
    /// Frames that were written for sending, heartbeats included.
    pub frames_sent: u64,
    /// Octets that were handed over for sending.
    pub octets_sent: u64,
    /// Heartbeats that were received.
    pub heartbeats_received: u64,
    /// Heartbeats that were written for sending.
    pub heartbeats_sent: u64,
    /// Publishes.
    pub published: u64,
    /// Publishes that the broker took over.
    pub acked: u64,
    /// Publishes that the broker refused.
    pub nacked: u64,
    /// Publishes that came back.
    pub returned: u64,
    /// Publishes whose channel ended first.
    pub lost: u64,
    /// Messages that came to a consumer.
    pub delivered: u64,
    /// Messages that were told and not settled before their channel ended; the broker delivers them again.
    pub abandoned: u64,
    /// Messages that answered a `basic.get`.
    pub got: u64,
    /// Messages for a consumer that is not known or no longer wanted; they went back to their queue unless they count as
    /// acknowledged when they are sent.
    pub undeliverable: u64,
    /// Answers that nobody waited for any more.
    pub discarded_replies: u64,
    /// Requests without an answer in time.
    pub timed_out: u64,
}

impl Counters {
    #[inline]
    pub(crate) const fn note_settled(&mut self, count: u64, settled: Settled) {
        match settled {
            Settled::Acked => self.acked += count,
            Settled::Nacked => self.nacked += count,
            Settled::Returned => {} // counted when it came back
        }
    }
}
