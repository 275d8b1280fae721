//! When each message is due.

use std::time::{Duration, Instant};

/// So many messages a second from the beginning. What an outage has held up follows as fast as it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start: Instant,
    rate: u32,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            start: Instant::now(),
            rate: rate.max(1),
        }
    }

    /// When the message of that number may be published.
    pub(crate) fn due(&self, number: usize) -> Instant {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.start + Duration::from_secs(1) * number / self.rate
    }
}
