//! A shutdown that is under way.

use amqp_proto::wire::ReplyCode;
use amqp_proto::{
    CloseReason, CloseReport, Connection, Counters, InFlight, Instant, Shutdown, ShutdownAction,
};

/// The core's plan at work.
#[derive(Debug)]
pub(crate) struct Leaving {
    plan: Shutdown,
    /// When it began.
    before: Counters,
    /// When it was looked at last, before the close.
    seen: InFlight,
}

impl Leaving {
    pub(crate) fn new(plan: Shutdown, core: &Connection) -> Self {
        Self {
            plan,
            before: core.counters(),
            seen: core.in_flight(),
        }
    }

    pub(crate) fn hasten(&mut self, other: &Shutdown) {
        self.plan.hasten(other);
    }

    /// Does what it is time for; says whether that was something. What the core has to say must be written before the next step.
    pub(crate) fn step(&mut self, core: &mut Connection, now: Instant) -> bool {
        if core.close_reason().is_some() {
            return false;
        }
        let seen = core.in_flight();
        if core.is_open() {
            self.seen = seen;
        }
        match self.plan.poll(now, &seen) {
            ShutdownAction::CancelConsumers => core.cancel_consumers(),
            ShutdownAction::Close => core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown"),
            ShutdownAction::GiveUp => core.handle_disconnect(now, None),
            ShutdownAction::Drain => {}
            _ => return false,
        }
        true
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.plan.poll_timeout()
    }

    /// The connection has ended.
    pub(crate) fn report(&self, reason: CloseReason, after: &Counters) -> CloseReport {
        let since = |count: fn(&Counters) -> u64| {
            usize::try_from(count(after).saturating_sub(count(&self.before))).unwrap_or(usize::MAX)
        };
        let mut report = CloseReport::new(reason);
        report.consumers = if self.plan.has_cancelled() {
            self.seen.consumers
        } else {
            0
        };
        report.unsettled = since(|all| all.abandoned);
        report.given_back = since(|all| all.undeliverable);
        report.unconfirmed = since(|all| all.lost);
        report
    }
}
