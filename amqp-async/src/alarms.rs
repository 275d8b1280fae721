//! Deadlines of handles, which have no clock: the driver's is theirs. When the driver has gone, none comes any more, and whatever
//! was waited for has ended with the connection.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use amqp_proto::Instant;

/// Who is to be woken when so much time has passed.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// By number; without an instant until the driver has looked at its clock.
    alarms: BTreeMap<u64, Alarm>,
    next: u64,
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
        self.next
    }

    /// Whether that time has passed.
    pub(crate) fn poll(&mut self, number: u64, cx: &Context<'_>) -> Poll<()> {
        match self.alarms.get_mut(&number) {
            Some(alarm) if !alarm.is_over => {
                alarm.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.alarms.len()
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.alarms.remove(&number);
    }

    /// The driver looks at its clock: those whose time has come are over. Gives the next moment.
    pub(crate) fn tick(&mut self, now: Instant, wakes: &mut Vec<Waker>) -> Option<Instant> {
        let mut next = None;
        for alarm in self.alarms.values_mut().filter(|alarm| !alarm.is_over) {
            let at = *alarm.at.get_or_insert_with(|| now + alarm.after);
            if at <= now {
                alarm.is_over = true;
                wakes.extend(alarm.waker.take());
            } else {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            }
        }
        next
    }
}
