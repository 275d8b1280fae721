//! How long round trips take, one after the other.

use std::time::{Duration, Instant};

/// What each round trip took so far.
pub(crate) struct RoundTrips {
    took: Vec<Duration>,
    /// When the one that is under way began.
    began: Instant,
}

impl RoundTrips {
    /// The first of so many begins.
    pub(crate) fn begin(count: u64) -> Self {
        Self {
            took: Vec::with_capacity(usize::try_from(count).unwrap_or_default()),
            began: Instant::now(),
        }
    }

    /// One has ended, and the next begins.
    pub(crate) fn end_one(&mut self) {
        let now = Instant::now();
        self.took.push(now - self.began);
        self.began = now;
    }

    /// Zero of none.
    pub(crate) fn median(mut self) -> Duration {
        self.took.sort_unstable();
        self.took.get(self.took.len() / 2).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let trips = |took: &[u64]| RoundTrips {
            took: took.iter().copied().map(Duration::from_nanos).collect(),
            began: Instant::now(),
        };
        assert_eq!(trips(&[9, 1, 2]).median(), Duration::from_nanos(2));
        assert_eq!(trips(&[]).median(), Duration::ZERO);
    }
}
