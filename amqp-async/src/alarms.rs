//! Deadlines of handles, which have no clock: the driver's is theirs. When the driver has gone, none comes any more, and whatever
//! was waited for has ended with the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::Instant;

use crate::wakers;

/// Who is to be woken when so much time has passed.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// By number.
    alarms: BTreeMap<u64, Alarm>,
    /// Those that the driver has not seen: they have no instant before it has looked at its clock.
    unseen: Vec<u64>,
    /// Those that are not over, by their instant.
    by_time: BTreeSet<(Instant, u64)>,
    next: u64,
    /// When the driver looked last.
    now: Instant,
}

#[derive(Debug)]
struct Alarm {
    after: Duration,
    at: Option<Instant>,
    is_over: bool,
    waker: Option<Waker>,
}

impl Alarms {
    /// Sets an alarm, and gives its number.
    pub(crate) fn set(&mut self, after: Duration) -> u64 {
        self.next += 1;
        let alarm = Alarm {
            after,
            at: None,
            is_over: false,
            waker: None,
        };
        self.alarms.insert(self.next, alarm);
        self.unseen.push(self.next);
        self.next
    }

    /// Whether that time has passed. Puts wakers that are of no use any more to `retired`, to be dropped where no lock is held.
    pub(crate) fn poll(&mut self, number: u64, cx: &Context<'_>, retired: &mut Vec<Waker>) -> Poll<()> {
        match self.alarms.get_mut(&number) {
            Some(alarm) if !alarm.is_over => {
                retired.extend(wakers::replace(&mut alarm.waker, cx));
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// The driver looks at its clock.
    pub(crate) const fn look(&mut self, now: Instant) {
        self.now = now;
    }

    /// What the driver's clock said last. Who has just seen an alarm that is over knows what time it is.
    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn len(&self) -> usize {
        self.alarms.len()
    }

    /// Gives its waker, to be dropped where no lock is held.
    #[must_use = "it is to be dropped where no lock is held"]
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waker> {
        let alarm = self.alarms.remove(&number)?;
        match alarm.at {
            Some(at) => drop(self.by_time.remove(&(at, number))),
            None => self.unseen.retain(|unseen| *unseen != number),
        }
        alarm.waker
    }

    /// The driver looks at its clock: those whose time has come are over. Gives the next moment.
    pub(crate) fn tick(&mut self, now: Instant, wakes: &mut Vec<Waker>) -> Option<Instant> {
        self.now = now;
        for number in self.unseen.drain(..) {
            if let Some(alarm) = self.alarms.get_mut(&number) {
                let at = now + alarm.after;
                alarm.at = Some(at);
                self.by_time.insert((at, number));
            }
        }
        while let Some(&(at, number)) = self.by_time.first() {
            if at > now {
                return Some(at);
            }
            self.by_time.pop_first();
            if let Some(alarm) = self.alarms.get_mut(&number) {
                alarm.is_over = true;
                wakes.extend(alarm.waker.take());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_end_in_the_order_of_their_time_and_leave_nothing() {
        let (mut alarms, mut wakes, mut retired) = (Alarms::default(), Vec::new(), Vec::new());
        let cx = Context::from_waker(Waker::noop());
        let late = alarms.set(Duration::from_secs(5));
        let soon = alarms.set(Duration::from_secs(2));
        let never = alarms.set(Duration::from_secs(9));
        assert!(alarms.remove(never).is_none());
        let at = |seconds| Instant::EPOCH + Duration::from_secs(seconds);
        assert!(alarms.poll(soon, &cx, &mut retired).is_pending());
        assert_eq!(alarms.tick(at(1), &mut wakes), Some(at(3)));
        assert!(alarms.poll(late, &cx, &mut retired).is_pending());
        assert_eq!(alarms.tick(at(3), &mut wakes), Some(at(6)));
        assert_eq!(wakes.len(), 1);
        assert!(
            alarms.poll(soon, &cx, &mut retired).is_ready()
                && alarms.poll(late, &cx, &mut retired).is_pending()
        );
        assert!(alarms.remove(late).is_some(), "its waker");
        assert!(alarms.remove(soon).is_none());
        assert_eq!(alarms.tick(at(7), &mut wakes), None);
        assert!(alarms.alarms.is_empty() && alarms.unseen.is_empty() && alarms.by_time.is_empty());
    }
}
