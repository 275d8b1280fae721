//! Deadlines: when to wake, and what it is for.

use core::time::Duration;

use super::{Connection, State};
use crate::error::{CloseReason, RequestError};
use crate::event::Event;
use crate::time::{Instant, nanos};

/// What the next wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// An event waits to be told.
    Event,
    /// The handshake must be done.
    Handshake,
    /// Nothing was sent for half an interval.
    HeartbeatSend,
    /// Nothing was received for two intervals.
    HeartbeatReceive,
    /// A request must be answered, or the close of a channel.
    Request,
    /// Acknowledgements have waited [for others](crate::AckCoalescing) long enough.
    Acks,
    /// The peer must have unblocked the connection.
    Blocked,
    /// The connection must be closed.
    Close,
}

/// The connection's own deadlines; [`Instant::MAX`] where there is none.
#[derive(Debug)]
pub(super) struct Deadlines {
    handshake: Instant,
    blocked: Instant,
    close: Instant,
    /// The heartbeat interval; zero for none.
    interval: Duration,
    /// After how many nanoseconds without sending a heartbeat is due; `u64::MAX` for never.
    send_after: u64,
    /// After how many nanoseconds without receiving the peer counts as dead; `u64::MAX` for never.
    dead_after: u64,
    last_received: Instant,
    last_sent: Instant,
    is_paused: bool,
    /// The caller said that it was this time.
    noted: Option<Instant>,
}

impl Deadlines {
    pub(super) fn new(now: Instant, handshake_timeout: Duration) -> Self {
        Self {
            handshake: now + handshake_timeout,
            blocked: Instant::MAX,
            close: Instant::MAX,
            interval: Duration::ZERO,
            send_after: u64::MAX,
            dead_after: u64::MAX,
            last_received: now,
            last_sent: now,
            is_paused: false,
            noted: None,
        }
    }

    pub(super) const fn end_handshake(&mut self) {
        self.handshake = Instant::MAX;
    }

    pub(super) fn start_heartbeats(&mut self, interval: Duration) {
        self.interval = interval;
        if !interval.is_zero() {
            self.send_after = nanos(interval / 2);
            self.dead_after = nanos(interval * 2);
        }
    }

    #[inline]
    pub(super) fn note_received(&mut self, now: Instant) {
        self.last_received = self.last_received.max(now);
    }

    #[inline]
    pub(super) fn note_sent(&mut self, now: Instant) {
        self.last_sent = self.last_sent.max(now);
    }

    pub(super) fn note_timeout(&mut self, now: Instant) {
        self.noted = self.noted.max(Some(now));
    }

    pub(super) const fn is_noted(&self) -> bool {
        self.noted.is_some()
    }

    pub(super) const fn pause(&mut self) {
        self.is_paused = true;
    }

    pub(super) fn resume(&mut self, now: Instant) {
        self.is_paused = false;
        self.note_received(now);
    }

    /// The clock of the close starts: all the time there is, or half of it if the channels come first.
    fn start_close(&mut self, now: Instant, timeout: Duration, is_said: bool) {
        self.close = now + if is_said { timeout } else { timeout / 2 };
    }

    /// The channels are closed, and the rest of the time is the connection's. If the clock has not started, that is all.
    pub(super) fn extend_close(&mut self, timeout: Duration) {
        self.close = self.close + timeout / 2;
    }

    /// A second alarm does not give more time.
    pub(super) fn block(&mut self, now: Instant, timeout: Option<Duration>) {
        if let Some(timeout) = timeout {
            self.blocked = self.blocked.min(now + timeout);
        }
    }

    pub(super) const fn unblock(&mut self) {
        self.blocked = Instant::MAX;
    }

    /// When a heartbeat must be sent.
    #[inline]
    pub(super) fn send(&self) -> Instant {
        self.last_sent.plus_nanos(self.send_after)
    }

    /// When the peer counts as dead.
    #[inline]
    fn receive(&self) -> Instant {
        if self.is_paused {
            return Instant::MAX;
        }
        self.last_received.plus_nanos(self.dead_after)
    }
}

impl Connection {
    /// Whether an event waits, or what was noted has not been looked at.
    #[inline]
    fn is_event_due(&self) -> bool {
        !self.link.events.is_empty() || (self.deadlines.is_noted() && !self.is_closed())
    }

    /// The earliest deadline; [`Instant::MAX`] if there is none.
    #[inline]
    pub(super) fn next_timeout(&self) -> Instant {
        if self.is_event_due() {
            return Instant::EPOCH;
        }
        if self.is_closed() {
            return Instant::MAX;
        }
        let deadlines = &self.deadlines;
        let heartbeat = deadlines.send().min(deadlines.receive());
        let patience = deadlines.handshake.min(deadlines.close).min(deadlines.blocked);
        let link = self.link.request_deadline.min(self.link.acks_due);
        heartbeat.min(patience).min(link)
    }

    /// What the earliest deadline is for.
    pub(super) fn next_timeout_reason(&self) -> Option<TimeoutReason> {
        let next = self.next_timeout();
        if next == Instant::MAX {
            return None;
        }
        if self.is_event_due() {
            return Some(TimeoutReason::Event);
        }
        let deadlines = &self.deadlines;
        let all = [
            (deadlines.handshake, TimeoutReason::Handshake),
            (deadlines.close, TimeoutReason::Close),
            (deadlines.blocked, TimeoutReason::Blocked),
            (deadlines.send(), TimeoutReason::HeartbeatSend),
            (deadlines.receive(), TimeoutReason::HeartbeatReceive),
            (self.link.request_deadline, TimeoutReason::Request),
            (self.link.acks_due, TimeoutReason::Acks),
        ];
        let found = all.into_iter().find(|(at, _)| *at == next);
        found.map(|(_, reason)| reason)
    }

    /// Looks at what is due. Nothing whole lies unread.
    #[inline]
    pub(super) fn expire(&mut self, now: Instant) {
        if let Some(noted) = self.deadlines.noted.take() {
            self.expire_noted(now.max(noted));
        }
    }

    fn expire_noted(&mut self, now: Instant) {
        if let Some(error) = self.disconnected.take() {
            return self.on_disconnect(error);
        }
        let deadlines = &self.deadlines;
        let reason = if deadlines.handshake <= now {
            CloseReason::HandshakeTimeout { state: self.state() }
        } else if deadlines.close <= now {
            if let State::Closing { is_said: false, .. } = self.state {
                return self.give_up_channels();
            }
            CloseReason::Requested { acknowledged: false }
        } else if deadlines.blocked <= now {
            CloseReason::BlockedTimeout {
                reason: self.blocked.clone().unwrap_or_default(),
            }
        } else if deadlines.receive() <= now {
            CloseReason::HeartbeatMissed {
                interval: deadlines.interval,
                silence: now.duration_since(deadlines.last_received),
            }
        } else {
            return self.expire_requests(now);
        };
        self.link.drop_queued();
        // Whatever ends what we are closing, it was closed on request.
        self.end(match self.state {
            State::Closing { .. } => CloseReason::Requested { acknowledged: false },
            _ => reason,
        });
    }

    fn expire_requests(&mut self, now: Instant) {
        if self.link.request_deadline > now {
            return;
        }
        let (events, counters) = (&mut self.link.events, &mut self.link.counters);
        self.requests.expire(now, |request, _| {
            counters.timed_out += 1;
            let cause = RequestError::Timeout;
            events.push_back(Event::RequestFailed { request, cause });
        });
        let mut next = self.requests.deadline();
        for state in self.channels.values_mut() {
            next = next.min(state.expire(&mut self.link, now));
        }
        self.link.request_deadline = next;
        self.advance_close();
    }

    /// Sends a heartbeat if nothing else was sent for half an interval.
    #[inline]
    pub(super) fn queue_heartbeat(&mut self, now: Instant, is_behind: bool) {
        if now < self.deadlines.send() || self.is_closed() {
            return;
        }
        if is_behind {
            // What waits to be written says that we live, as soon as it is written; a heartbeat behind it would add nothing.
            self.deadlines.note_sent(now);
        } else if self.link.is_empty() {
            self.link.heartbeat();
        }
    }

    /// Says the acknowledgements that have waited long enough, and starts the clock of the others.
    pub(super) fn flush_due_acks(&mut self, now: Instant) {
        let mut next = Instant::MAX;
        let (mut holding, link) = (core::mem::take(&mut self.link.holding), &mut self.link);
        holding.retain(|number| {
            let state = self.channels.get_mut(number);
            let due = state.map_or(Instant::MAX, |state| state.flush_due_acks(link, now));
            next = next.min(due);
            due != Instant::MAX
        });
        self.link.holding = holding;
        self.link.acks_due = next;
    }

    /// The clock of what was asked starts when it is handed over; and when it waits to be, since that may take for ever.
    #[inline]
    pub(super) fn start_timeouts(&mut self, now: Instant, is_handed_over: bool) {
        if let State::Closing { is_said, .. } = self.state
            && self.deadlines.close == Instant::MAX
        {
            let timeout = self.link.config.close_timeout;
            self.deadlines.start_close(now, timeout, is_said);
        }
        if !self.link.unsent.is_empty() {
            self.start_request_timeouts(now, is_handed_over);
        }
    }

    fn start_request_timeouts(&mut self, now: Instant, is_handed_over: bool) {
        let config = alloc::sync::Arc::clone(&self.link.config);
        let mut next = self.link.request_deadline;
        for number in &self.link.unsent {
            if *number == 0 {
                self.requests
                    .start_timeout(now + config.request_timeout, is_handed_over);
                next = next.min(self.requests.deadline());
            } else if let Some(state) = self.channels.get_mut(number) {
                next = next.min(state.start_timeout(now, &config, is_handed_over));
            }
        }
        self.link.request_deadline = next;
        if is_handed_over {
            self.link.unsent.clear();
        }
    }
}
