//! When to send a heartbeat, and when the peer has been silent for too long.

use std::time::Duration;

use amqp_proto::Instant;

/// After how many intervals without an octet RabbitMQ drops a client: it looks once an interval, and forgives two.
const FORGIVEN_INTERVALS: u32 = 3;

/// Both directions of one connection's heartbeats.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    received: Instant,
    sent: Instant,
}

impl Heartbeat {
    /// From now on, with that interval in seconds; none for 0.
    pub(super) fn start(seconds: u16, now: Instant) -> Option<Self> {
        (seconds != 0).then(|| Self {
            interval: Duration::from_secs(seconds.into()),
            received: now,
            sent: now,
        })
    }

    pub(super) const fn note_received(&mut self, now: Instant) {
        self.received = now;
    }

    pub(super) const fn note_sent(&mut self, now: Instant) {
        self.sent = now;
    }

    pub(super) fn is_dead(&self, now: Instant) -> bool {
        self.dead_at() <= now
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at() <= now
    }

    /// When to look again, by whether it listens and whether it speaks.
    pub(super) fn next_deadline(&self, is_heard: bool, is_spoken: bool) -> Option<Instant> {
        let dead_at = is_heard.then(|| self.dead_at());
        let due_at = is_spoken.then(|| self.due_at());
        dead_at.into_iter().chain(due_at).min()
    }

    fn dead_at(&self) -> Instant {
        self.received + self.interval.saturating_mul(FORGIVEN_INTERVALS)
    }

    fn due_at(&self) -> Instant {
        self.sent + self.interval / 2
    }
}
