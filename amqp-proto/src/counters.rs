//! What a connection counted.

use core::ops::AddAssign;

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

/// What two connections counted, one after the other.
impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            frames_received,
            octets_received,
            frames_sent,
            octets_sent,
            heartbeats_received,
            heartbeats_sent,
            published,
            acked,
            nacked,
            returned,
            lost,
            delivered,
            abandoned,
            got,
            undeliverable,
            discarded_replies,
            timed_out,
        } = other;
        self.frames_received = self.frames_received.saturating_add(frames_received);
        self.octets_received = self.octets_received.saturating_add(octets_received);
        self.frames_sent = self.frames_sent.saturating_add(frames_sent);
        self.octets_sent = self.octets_sent.saturating_add(octets_sent);
        self.heartbeats_received = self.heartbeats_received.saturating_add(heartbeats_received);
        self.heartbeats_sent = self.heartbeats_sent.saturating_add(heartbeats_sent);
        self.published = self.published.saturating_add(published);
        self.acked = self.acked.saturating_add(acked);
        self.nacked = self.nacked.saturating_add(nacked);
        self.returned = self.returned.saturating_add(returned);
        self.lost = self.lost.saturating_add(lost);
        self.delivered = self.delivered.saturating_add(delivered);
        self.abandoned = self.abandoned.saturating_add(abandoned);
        self.got = self.got.saturating_add(got);
        self.undeliverable = self.undeliverable.saturating_add(undeliverable);
        self.discarded_replies = self.discarded_replies.saturating_add(discarded_replies);
        self.timed_out = self.timed_out.saturating_add(timed_out);
    }
}
