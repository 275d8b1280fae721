//! How far the consumers of streams have come.

use alloc::collections::VecDeque;

use super::unsettled::Unsettled;

/// How many deliveries are kept at least before settled ones are looked for.
const LEAST: usize = 64;

/// How far one consumer of a stream has come. It is told of deliveries only: which of them are settled the channel knows, and is asked
/// when it matters.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The tags and offsets of deliveries, oldest first. Those that are settled may be missing.
    delivered: VecDeque<(u64, u64)>,
    /// Behind the last one.
    end: Option<u64>,
    /// It is not known any more what is settled behind this offset.
    stopped_at: Option<u64>,
}

impl Progress {
    /// A message was told.
    pub(crate) fn delivered(&mut self, tag: u64, offset: u64, unsettled: &Unsettled) {
        if self.stopped_at.is_some() {
            return;
        }
        // So often that it takes the same time for each delivery, whatever is settled and in whatever order.
        if self.delivered.len() >= LEAST.max(unsettled.len().saturating_mul(2)) {
            self.delivered.retain(|(tag, _)| unsettled.contains(*tag));
        }
        self.delivered.push_back((tag, offset));
        self.end = Some(offset.saturating_add(1));
    }

    /// The offset of the oldest delivery that is not settled, or behind the last one; none if nothing came.
    pub(crate) fn position(&self, unsettled: &Unsettled) -> Option<u64> {
        let mut open = self.delivered.iter().filter(|(tag, _)| unsettled.contains(*tag));
        self.stopped_at
            .or_else(|| open.next().map(|(_, offset)| *offset))
            .or(self.end)
    }

    /// From now on nothing is known of what is settled.
    pub(crate) fn stop(&mut self, unsettled: &Unsettled) {
        self.stopped_at = self.position(unsettled);
        self.delivered = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(deliveries: u64, settled: &[u64]) -> Option<u64> {
        let (mut progress, mut unsettled) = (Progress::default(), Unsettled::default());
        for tag in 1..=deliveries {
            unsettled.insert(tag);
            progress.delivered(tag, 99 + tag, &unsettled);
        }
        for tag in settled {
            unsettled.remove(*tag);
        }
        progress.position(&unsettled)
    }

    #[test]
    fn it_is_where_the_first_delivery_is_that_is_not_settled() {
        assert_eq!(after(0, &[]), None);
        assert_eq!(after(3, &[]), Some(100));
        assert_eq!(after(3, &[2, 3]), Some(100));
        assert_eq!(after(3, &[2, 1]), Some(102));
        assert_eq!(after(3, &[3, 2, 1]), Some(103));
    }

    #[test]
    fn it_takes_no_more_memory_than_there_are_unsettled_deliveries() {
        let (mut progress, mut unsettled) = (Progress::default(), Unsettled::default());
        for tag in 1..=10_000 {
            unsettled.insert(tag);
            progress.delivered(tag, tag, &unsettled);
            // The first one never is, the others at once.
            if tag > 1 {
                unsettled.remove(tag);
            }
            assert!(progress.delivered.len() <= LEAST);
        }
        assert_eq!(progress.position(&unsettled), Some(1));
        unsettled.remove(1);
        assert_eq!(progress.position(&unsettled), Some(10_001));
    }

    #[test]
    fn it_does_not_move_when_nothing_is_known_any_more() {
        let (mut progress, mut unsettled) = (Progress::default(), Unsettled::default());
        for tag in 1..=3 {
            unsettled.insert(tag);
            progress.delivered(tag, tag + 10, &unsettled);
        }
        unsettled.remove(1);
        progress.stop(&unsettled);
        unsettled.clear();
        progress.delivered(4, 14, &unsettled);
        assert_eq!(progress.position(&unsettled), Some(12));
    }
}
