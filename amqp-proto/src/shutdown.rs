//! A graceful shutdown: what to do next, and what was left undone. Like all here it reads no clock and opens no socket; an adapter
//! tells it what is in flight and does what it says.
//!
//! ```text
//!             CancelConsumers          Drain                                    Close             GiveUp
//! Starting ──────────────────▶ Cancelling ────▶ Draining ────▶ Confirming ───────────▶ Closing ─────────▶ GivenUp
//!     │                            │ all are     │ no handler runs,  ▲ │ all are         │ the deadline
//!     │                            │ cancelled   │ all is settled    │ │ confirmed       │
//!     └── without draining ────────┴─────────────┴── it is late ─────┘ └── it is late    └── closed: the end
//! ```

use core::time::Duration;

use crate::error::CloseReason;
use crate::time::Instant;

/// The order of a graceful shutdown, with one deadline: cancel consumers, let handlers finish, wait for confirms, close.
///
/// A part of the time is kept for the close itself: half of the deadline, or of [`Config::close_timeout`](crate::Config::close_timeout)
/// if that is less. What is not done by then is abandoned, and the broker gives it to somebody else. At the deadline a broker that has
/// not said goodbye is left without it.
///
/// ```
/// use amqp_proto::{InFlight, Instant, Shutdown, ShutdownAction};
/// use core::time::Duration;
///
/// let (mut now, second) = (Instant::EPOCH, Duration::from_secs(1));
/// let mut shutdown = Shutdown::draining(now, 30 * second, 10 * second);
/// let mut seen = InFlight { consumers: 1, unsettled: 2, ..Default::default() };
/// assert_eq!(shutdown.poll(now, &seen), ShutdownAction::CancelConsumers);
/// assert_eq!(shutdown.poll(now, &seen), ShutdownAction::Wait);
///
/// seen.consumers = 0; // The broker has confirmed that.
/// assert_eq!(shutdown.poll(now, &seen), ShutdownAction::Drain);
/// assert_eq!(shutdown.poll_timeout(), Some(now + 25 * second));
///
/// now = now + 25 * second; // Two handlers hang.
/// assert_eq!(shutdown.poll(now, &seen), ShutdownAction::Close);
/// assert_eq!(shutdown.poll_timeout(), Some(now + 5 * second));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    stage: Stage,
    /// Consumers are cancelled first, and who handles their messages is waited for.
    drains: bool,
    /// When the close begins at the latest.
    leave_at: Instant,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Cancelling,
    Draining,
    Confirming,
    Closing,
    GivenUp,
}

/// What is under way on a connection, in numbers.
///
/// [`Connection::in_flight`](crate::Connection::in_flight) knows what the protocol tells; an adapter knows of handlers, and of messages
/// that nobody has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InFlight {
    /// Consumers that the broker may still send something to.
    pub consumers: usize,
    /// Handlers that run.
    pub handlers: usize,
    /// Deliveries that were told and are not settled, those whose acknowledgement [waits](crate::AckCoalescing) among them.
    pub unsettled: usize,
    /// Deliveries without acknowledgements that wait to be taken: the broker has forgotten them.
    pub untaken: usize,
    /// Publishes that wait for their confirm.
    pub unconfirmed: usize,
}

/// What to do next in a [`Shutdown`]. Each but `Wait` is said once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShutdownAction {
    /// [`Connection::cancel_consumers`](crate::Connection::cancel_consumers); what was delivered and taken by nobody goes back.
    CancelConsumers,
    /// All consumers are cancelled: nothing more comes to them.
    Drain,
    /// [`Connection::close`](crate::Connection::close). What is in flight now is abandoned.
    Close,
    /// [`Connection::handle_disconnect`](crate::Connection::handle_disconnect): the broker has not answered in time.
    GiveUp,
    /// Nothing, until something has changed or [`Shutdown::poll_timeout`] is reached.
    Wait,
}

impl Shutdown {
    /// With handlers that finish their work, all within `timeout` from now.
    #[must_use]
    pub fn draining(now: Instant, timeout: Duration, close_timeout: Duration) -> Self {
        let goodbye = timeout.min(close_timeout) / 2;
        Self {
            stage: Stage::Starting,
            drains: true,
            leave_at: now + timeout.saturating_sub(goodbye),
            deadline: now + timeout,
        }
    }

    /// Without them: waits for confirms only, all within `timeout` from now.
    #[must_use]
    pub fn closing(now: Instant, timeout: Duration) -> Self {
        Self {
            drains: false,
            ..Self::draining(now, timeout, timeout)
        }
    }

    /// Somebody else wants it too: it is over when the less patient of both has to be content.
    pub fn hasten(&mut self, other: &Self) {
        self.drains &= other.drains;
        self.leave_at = self.leave_at.min(other.leave_at);
        self.deadline = self.deadline.min(other.deadline);
    }

    /// What to do now, with that in flight. To be asked again until it says [`ShutdownAction::Wait`], and no more when the connection
    /// has ended.
    pub fn poll(&mut self, now: Instant, seen: &InFlight) -> ShutdownAction {
        let is_late = self.leave_at <= now;
        let is_hasty = is_late || !self.drains;
        loop {
            let (stage, action) = match self.stage {
                Stage::Starting if !is_hasty => (Stage::Cancelling, Some(ShutdownAction::CancelConsumers)),
                Stage::Starting | Stage::Cancelling | Stage::Draining if is_hasty => {
                    (Stage::Confirming, None)
                }
                Stage::Cancelling if seen.consumers == 0 => (Stage::Draining, Some(ShutdownAction::Drain)),
                Stage::Draining if seen.is_drained() => (Stage::Confirming, None),
                Stage::Confirming if is_late || seen.unconfirmed == 0 => {
                    (Stage::Closing, Some(ShutdownAction::Close))
                }
                Stage::Closing if self.deadline <= now => (Stage::GivenUp, Some(ShutdownAction::GiveUp)),
                _ => return ShutdownAction::Wait,
            };
            self.stage = stage;
            if let Some(action) = action {
                return action;
            }
        }
    }

    /// When it has to be asked again at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let at = match self.stage {
            Stage::Closing => self.deadline,
            Stage::GivenUp => Instant::MAX,
            _ => self.leave_at,
        };
        (at < Instant::MAX).then_some(at)
    }

    /// Whether it has said [`ShutdownAction::CancelConsumers`].
    #[must_use]
    pub const fn has_cancelled(&self) -> bool {
        self.drains && !matches!(self.stage, Stage::Starting)
    }
}

impl InFlight {
    /// Whether nobody has anything to do with a delivery any more.
    const fn is_drained(&self) -> bool {
        self.handlers == 0 && self.unsettled == 0 && self.untaken == 0
    }
}

/// How a connection was closed, and what was abandoned for it.
///
/// All that was in flight is somewhere: what is not here has ended in another way, which whoever waited for it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// Why the connection ended.
    pub reason: CloseReason,
    /// Consumers whose cancel the broker had not confirmed when it was time to close. Zero if that was not waited for.
    pub consumers: usize,
    /// Handlers that still ran when it was time to close. Their deliveries are among the unsettled ones if they want acknowledgements.
    pub handlers: usize,
    /// Deliveries that were taken and not settled before their channel ended: the broker delivers them again.
    pub unsettled: usize,
    /// Deliveries that had come and were not taken: they went back to their queues.
    pub given_back: usize,
    /// Deliveries without acknowledgements that were not taken when it was time to close. The broker has forgotten them; as long as
    /// there is their consumer they can still be taken.
    pub untaken: usize,
    /// Publishes whose channel ended before they were confirmed: they may or may not have arrived.
    pub unconfirmed: usize,
}

impl CloseReport {
    /// Of a connection that ended so, with nothing to be told beyond that.
    #[must_use]
    pub const fn new(reason: CloseReason) -> Self {
        Self {
            reason,
            consumers: 0,
            handlers: 0,
            unsettled: 0,
            given_back: 0,
            untaken: 0,
            unconfirmed: 0,
        }
    }

    /// Whether nothing was abandoned. What nobody had taken does not count: it is where it was.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.consumers == 0
            && self.handlers == 0
            && self.unsettled == 0
            && self.untaken == 0
            && self.unconfirmed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ShutdownAction::{CancelConsumers, Close, Drain, GiveUp, Wait};

    const SECOND: Duration = Duration::from_secs(1);

    const fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    const fn seen(consumers: usize, handlers: usize, unsettled: usize, unconfirmed: usize) -> InFlight {
        InFlight {
            consumers,
            handlers,
            unsettled,
            untaken: 0,
            unconfirmed,
        }
    }

    /// When it is looked at, what is in flight then, and what it says.
    type Row = (u64, InFlight, ShutdownAction);

    fn check(mut shutdown: Shutdown, rows: &[Row]) -> Shutdown {
        for (number, (seconds, seen, action)) in rows.iter().enumerate() {
            let now = at(*seconds);
            assert_eq!(shutdown.poll(now, seen), *action, "row {number}");
            if *action == Wait {
                assert!(shutdown.poll_timeout() > Some(now) || shutdown.poll_timeout().is_none());
            }
        }
        shutdown
    }

    /// 20 s in all, of which 5 s are for the close.
    fn draining() -> Shutdown {
        Shutdown::draining(at(0), 20 * SECOND, 10 * SECOND)
    }

    const ALL: InFlight = seen(2, 3, 4, 5);
    const NONE: InFlight = seen(0, 0, 0, 0);

    #[test]
    fn one_thing_comes_after_the_other() {
        let rows = [
            (0, ALL, CancelConsumers),
            (0, ALL, Wait),
            // Whatever else is done: what is under way may still come.
            (1, seen(1, 0, 0, 0), Wait),
            (2, seen(0, 3, 4, 5), Drain),
            (3, seen(0, 0, 4, 5), Wait),
            (4, seen(0, 3, 0, 0), Wait),
            // A handler publishes its result, and ends.
            (5, seen(0, 0, 0, 6), Wait),
            (6, NONE, Close),
            (7, NONE, Wait),
        ];
        let shutdown = check(draining(), &rows);
        assert_eq!(shutdown.poll_timeout(), Some(at(20)));
    }

    #[test]
    fn with_nothing_in_flight_nothing_is_waited_for() {
        check(
            draining(),
            &[
                (0, NONE, CancelConsumers),
                (0, NONE, Drain),
                (0, NONE, Close),
                (0, NONE, Wait),
                (20, NONE, GiveUp),
                (21, NONE, Wait),
            ],
        );
    }

    #[test]
    fn each_of_them_holds_it_up_until_it_is_late_and_no_longer() {
        let untaken = InFlight { untaken: 1, ..NONE };
        let before: &[ShutdownAction] = &[CancelConsumers];
        let drained: &[ShutdownAction] = &[CancelConsumers, Drain];
        for (stuck, said) in [
            (seen(1, 0, 0, 0), before),
            (seen(0, 1, 0, 0), drained),
            (seen(0, 0, 1, 0), drained),
            (untaken, drained),
            (seen(0, 0, 0, 1), drained),
        ] {
            let mut rows: Vec<Row> = said.iter().map(|action| (0, stuck, *action)).collect();
            rows.extend([
                (0, stuck, Wait),
                (14, stuck, Wait),
                (15, stuck, Close),
                (15, stuck, Wait),
                (19, stuck, Wait),
                (20, stuck, GiveUp),
                (20, stuck, Wait),
            ]);
            let shutdown = check(draining(), &rows);
            assert_eq!(shutdown.poll_timeout(), None);
        }
    }

    #[test]
    fn a_plain_close_waits_for_confirms_only() {
        let shutdown = Shutdown::closing(at(0), 10 * SECOND);
        check(
            shutdown.clone(),
            &[
                (0, ALL, Wait),
                (1, seen(2, 3, 4, 0), Close),
                (9, NONE, Wait),
                (10, NONE, GiveUp),
            ],
        );
        let shutdown = check(shutdown, &[(4, ALL, Wait), (5, ALL, Close), (5, ALL, Wait)]);
        assert!(!shutdown.has_cancelled());
    }

    #[test]
    fn the_less_patient_one_counts() {
        let close = |seconds| Shutdown::closing(at(seconds), 10 * SECOND);
        // In the middle of each stage.
        for rows in [
            &[][..],
            &[(1, ALL, CancelConsumers), (1, ALL, Wait)],
            &[
                (1, ALL, CancelConsumers),
                (1, seen(0, 1, 1, 1), Drain),
                (1, ALL, Wait),
            ],
        ] {
            let mut shutdown = check(draining(), rows);
            shutdown.hasten(&close(2));
            check(
                shutdown,
                &[(2, ALL, Wait), (6, ALL, Wait), (7, ALL, Close), (12, ALL, GiveUp)],
            );
        }
        // Who is more patient changes nothing.
        let mut shutdown = close(0);
        shutdown.hasten(&draining());
        assert_eq!(shutdown, close(0));
        // One that closes already gets no more time, and no less than it has.
        let mut shutdown = check(close(0), &[(0, NONE, Close)]);
        shutdown.hasten(&Shutdown::closing(at(1), 3 * SECOND));
        check(shutdown, &[(3, NONE, Wait), (4, NONE, GiveUp)]);
    }

    #[test]
    fn no_time_is_none_and_all_time_never_ends() {
        let rows = [(0, ALL, Close), (0, ALL, GiveUp), (0, ALL, Wait)];
        check(Shutdown::draining(at(0), Duration::ZERO, 10 * SECOND), &rows);
        check(Shutdown::closing(at(0), Duration::ZERO), &rows);

        let shutdown = Shutdown::draining(at(0), Duration::MAX, Duration::MAX);
        let shutdown = check(shutdown, &[(0, ALL, CancelConsumers), (1_000_000_000, ALL, Wait)]);
        assert_eq!(shutdown.poll_timeout(), None);
        // Without a limit of its own the close gets what there is.
        let shutdown = Shutdown::draining(at(0), 8 * SECOND, Duration::MAX);
        assert_eq!(shutdown.poll_timeout(), Some(at(4)));
        let shutdown = Shutdown::draining(at(0), 8 * SECOND, Duration::ZERO);
        assert_eq!(shutdown.poll_timeout(), Some(at(8)));
    }

    #[test]
    fn a_report_is_complete_if_nothing_was_abandoned() {
        let reason = CloseReason::Requested { acknowledged: true };
        let report = CloseReport::new(reason);
        let given_back = CloseReport {
            given_back: 7,
            ..report.clone()
        };
        assert!(report.is_complete() && given_back.is_complete());
        let abandoned: [fn(&mut CloseReport) -> &mut usize; 5] = [
            |report| &mut report.consumers,
            |report| &mut report.handlers,
            |report| &mut report.unsettled,
            |report| &mut report.untaken,
            |report| &mut report.unconfirmed,
        ];
        for field in abandoned {
            let mut report = report.clone();
            *field(&mut report) = 1;
            assert!(!report.is_complete());
        }
    }
}
