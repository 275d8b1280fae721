//! When to try again, where, and when to stop trying: a policy as a value, and its running state. Neither reads a clock nor
//! opens a socket; an adapter does what they say.
//!
//! ```text
//!                      start(now)
//!                          │
//!                          ▼       connected(now)
//!   ┌───────────────▶ ConnectAt ──────────────────▶ connected
//!   │ failed(reason, now)  │                            │
//!   └──────────────────────┴────────────────────────────┘
//!                          │ permanent, or no attempts or no time left
//!                          ▼
//!                       GiveUp
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::{CloseReason, Instant};

/// How to reconnect: the same value gives the same actions in every adapter.
///
/// A failure at one host leads to the next one at once. When every host has been tried, and after the loss of a connection
/// that was open, a delay of the [`Backoff`] comes first, so that a broker that restarts is not run down by its clients.
///
/// ```
/// use amqp_proto::{Backoff, CloseReason, Instant, Reconnect, ReconnectAction, ReconnectPolicy, TransportError};
/// use amqp_proto::ConnectionState;
/// use core::time::Duration;
///
/// let backoff = Backoff::new(7).initial(Duration::from_secs(1)).jitter(0.0);
/// let mut reconnect = Reconnect::new(ReconnectPolicy::new(backoff), 2);
/// let now = Instant::EPOCH;
/// assert_eq!(reconnect.start(now), ReconnectAction::ConnectAt { host: 0, at: now });
///
/// let lost = CloseReason::Transport {
///     state: ConnectionState::Open,
///     error: TransportError::end_of_stream(),
/// };
/// assert_eq!(reconnect.failed(&lost, now), ReconnectAction::ConnectAt { host: 1, at: now });
/// let later = now + Duration::from_secs(1);
/// assert_eq!(reconnect.failed(&lost, now), ReconnectAction::ConnectAt { host: 0, at: later });
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// The delays and how many of them there are; its seed also shuffles the hosts.
    pub backoff: Backoff,
    /// In which order to try the hosts. Default: as they are listed.
    pub host_order: HostOrder,
    /// How long a connection must have lived for the backoff to start anew after it. Default 30 s: a broker that accepts
    /// clients and falls over is given more and more time.
    pub stable_after: Duration,
    /// How long after a loss it is tried, however many attempts are left. Default none: without end. An attempt that is under way
    /// then is given up ([`Reconnect::give_up_at`]).
    pub give_up_after: Option<Duration>,
    /// Judges failures in place of [`CloseReason::is_permanent`]. Default none.
    pub classifier: Option<Classifier>,
}

/// Delays that grow, with jitter and an end: a sequence that its seed settles.
///
/// The delay number n is `initial` × `multiplier`ⁿ⁻¹, at most `max`; then a random part of it, at most `jitter` of the whole,
/// is taken away. Clients that must not act in step need different seeds.
///
/// ```
/// use amqp_proto::Backoff;
/// use core::time::Duration;
///
/// let mut backoff = Backoff::new(1).initial(Duration::from_secs(1)).jitter(0.0).attempts(3);
/// let delays: Vec<_> = core::iter::from_fn(|| backoff.next_delay()).map(|delay| delay.as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    initial: Duration,
    multiplier: f64,
    max: Duration,
    jitter: f64,
    attempts: Option<u32>,
    seed: u64,
    random: SplitMix64,
    /// The next delay before jitter; `None` for the first.
    next: Option<Duration>,
    given: u32,
}

/// In which order to try the hosts of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum HostOrder {
    /// As they are listed.
    #[default]
    Listed,
    /// In an order that the backoff's seed settles, so that clients spread over the cluster.
    Shuffled,
}

/// What a [`Classifier`] says about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Trying again makes sense.
    Transient,
    /// Trying again must end the same way.
    Permanent,
}

/// A function of the user's that judges failures; where it answers `None`, the usual judgement stands.
#[derive(Clone)]
pub struct Classifier(Arc<Classify>);

type Classify = dyn Fn(&CloseReason) -> Option<Verdict> + Send + Sync;

/// A [`ReconnectPolicy`] at work for one connection.
#[derive(Debug, Clone)]
pub struct Reconnect {
    policy: ReconnectPolicy,
    /// The hosts in the order of trying them.
    order: Vec<usize>,
    /// Where in `order` the last attempt went to.
    position: usize,
    /// How many hosts are left to try before the next delay.
    left_in_round: usize,
    connected_at: Option<Instant>,
    /// Since when there is no connection.
    lost_at: Option<Instant>,
    /// How many times running the peer hung up where its answer to our credentials belongs.
    silent_refusals: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReconnectAction {
    /// Connect to that host, not before that moment.
    ConnectAt {
        /// Its index among the hosts.
        host: usize,
        /// When; `now` or earlier means at once.
        at: Instant,
    },
    /// Stop trying.
    GiveUp {
        /// Why.
        reason: GiveUpReason,
    },
}

/// Why nothing is tried any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GiveUpReason {
    /// Trying again must end the same way.
    #[error("not worth another attempt: {0}")]
    Permanent(CloseReason),
    /// The attempts are used up; this is how the last one ended.
    #[error("no attempts left after: {0}")]
    Exhausted(CloseReason),
    /// [`ReconnectPolicy::give_up_after`] is over; this is how the last attempt ended, or the connection itself.
    #[error("not there again in time after: {0}")]
    TimedOut(CloseReason),
    /// Something is not there again without which the program makes no sense, as it said itself; what that is, and why.
    #[error("it makes no sense without {0}")]
    Unrestored(Arc<str>),
    /// The connection was closed on request.
    #[error("closed on request")]
    Requested,
    /// The list of hosts is empty.
    #[error("there is no host to connect to")]
    NoHosts,
}

/// So many hang-ups in a row during authentication are taken for a refusal: a broker that restarts shows other failures in
/// between, such as a refused TCP connection.
const SILENT_REFUSALS: u32 = 3;

impl ReconnectPolicy {
    /// These delays, and the defaults for the rest.
    #[must_use]
    pub const fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            host_order: HostOrder::Listed,
            stable_after: Duration::from_secs(30),
            give_up_after: None,
            classifier: None,
        }
    }

    /// Sets [`host_order`](Self#structfield.host_order).
    #[must_use]
    pub const fn host_order(mut self, host_order: HostOrder) -> Self {
        self.host_order = host_order;
        self
    }

    /// Sets [`stable_after`](Self#structfield.stable_after).
    #[must_use]
    pub const fn stable_after(mut self, stable_after: Duration) -> Self {
        self.stable_after = stable_after;
        self
    }

    /// Sets [`give_up_after`](Self#structfield.give_up_after).
    #[must_use]
    pub const fn give_up_after(mut self, duration: Duration) -> Self {
        self.give_up_after = Some(duration);
        self
    }

    /// Judges failures by this function; where it answers `None`, the usual judgement stands.
    #[must_use]
    pub fn classifier(mut self, f: impl Fn(&CloseReason) -> Option<Verdict> + Send + Sync + 'static) -> Self {
        self.classifier = Some(Classifier(Arc::new(f)));
        self
    }
}

impl Backoff {
    /// Half a second first, doubled each time up to 30 s, up to half of it taken away, without end.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            initial: Duration::from_millis(500),
            multiplier: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.5,
            attempts: None,
            seed,
            random: SplitMix64(seed),
            next: None,
            given: 0,
        }
    }

    /// Sets the first delay. Default 500 ms.
    #[must_use]
    pub const fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Sets how much longer than the one before a delay is. Default 2; less than 1, and NaN, count as 1.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        // `max` takes the other number when one is NaN.
        self.multiplier = multiplier.max(1.0);
        self
    }

    /// Sets the longest delay. Default 30 s.
    #[must_use]
    pub const fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets how much of a delay may be taken away, from 0 (none) to 1 (all). Default 0.5; NaN counts as 0.
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter.max(0.0).min(1.0);
        self
    }

    /// Sets how many delays there are. Default: no end.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// How long to wait before the next attempt; `None` when the attempts are used up.
    pub fn next_delay(&mut self) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| self.given >= attempts) {
            return None;
        }
        self.given = self.given.saturating_add(1);
        let whole = self.next.unwrap_or(self.initial).min(self.max);
        self.next = Some(scaled(whole, self.multiplier).unwrap_or(self.max).min(self.max));
        Some(self.shortened(whole, self.jitter))
    }

    /// Takes a random part away, at most `jitter` of the whole.
    pub(crate) fn shortened(&mut self, whole: Duration, jitter: f64) -> Duration {
        let kept = 1.0 - jitter * self.random.fraction();
        scaled(whole, kept).unwrap_or(whole).min(whole)
    }

    /// Starts anew with the first delay and all attempts. The random numbers go on where they are.
    pub const fn reset(&mut self) {
        self.next = None;
        self.given = 0;
    }
}

impl Reconnect {
    /// The policy for that many hosts.
    #[must_use]
    pub fn new(policy: ReconnectPolicy, hosts: usize) -> Self {
        let mut order: Vec<usize> = (0..hosts).collect();
        if policy.host_order == HostOrder::Shuffled {
            SplitMix64(policy.backoff.seed).shuffle(&mut order);
        }
        Self {
            policy,
            order,
            position: 0,
            left_in_round: hosts.saturating_sub(1),
            connected_at: None,
            lost_at: None,
            silent_refusals: 0,
        }
    }

    /// The first attempt: at the first host, without a delay.
    #[must_use]
    pub fn start(&self, now: Instant) -> ReconnectAction {
        self.connect_at(now)
    }

    /// The attempt that was asked for led to an open connection.
    pub const fn connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
        self.lost_at = None;
        self.silent_refusals = 0;
    }

    /// When it is given up, whatever is under way; none while there is a connection, and if there is no such limit.
    #[must_use]
    pub fn give_up_at(&self) -> Option<Instant> {
        Some(self.lost_at? + self.policy.give_up_after?)
    }

    /// The attempt that was asked for failed, or the connection ended.
    ///
    /// A hang-up without a word where the answer to the credentials belongs counts as permanent when it comes three times
    /// running (RabbitMQ page "Authentication Failure Notifications": without that capability it only hangs up).
    #[must_use]
    pub fn failed(&mut self, reason: &CloseReason, now: Instant) -> ReconnectAction {
        if matches!(reason, CloseReason::Requested { .. }) {
            return give_up(GiveUpReason::Requested);
        }
        if self.is_permanent(reason) {
            return give_up(GiveUpReason::Permanent(reason.clone()));
        }
        self.lost_at.get_or_insert(now);
        if let Some(since) = self.connected_at.take() {
            self.left_in_round = 0;
            if now.duration_since(since) >= self.policy.stable_after {
                self.policy.backoff.reset();
            }
        }
        self.position = self.position.saturating_add(1);
        if self.position >= self.order.len() {
            self.position = 0;
        }
        let at = match self.left_in_round.checked_sub(1) {
            Some(left) => {
                self.left_in_round = left;
                now
            }
            None => {
                self.left_in_round = self.order.len().saturating_sub(1);
                match self.policy.backoff.next_delay() {
                    Some(delay) => now + delay,
                    None => return give_up(GiveUpReason::Exhausted(reason.clone())),
                }
            }
        };
        match self.give_up_at() {
            // Nothing would come of waiting.
            Some(end) if end <= at => give_up(GiveUpReason::TimedOut(reason.clone())),
            _ => self.connect_at(at),
        }
    }

    fn is_permanent(&mut self, reason: &CloseReason) -> bool {
        self.silent_refusals = match reason {
            CloseReason::AuthRefused { peer: None } => self.silent_refusals.saturating_add(1),
            _ => 0,
        };
        let classifier = self.policy.classifier.as_ref();
        match classifier.and_then(|classifier| (classifier.0)(reason)) {
            Some(verdict) => verdict == Verdict::Permanent,
            None => reason.is_permanent() || self.silent_refusals >= SILENT_REFUSALS,
        }
    }

    fn connect_at(&self, at: Instant) -> ReconnectAction {
        match self.order.get(self.position) {
            Some(&host) => ReconnectAction::ConnectAt { host, at },
            None => give_up(GiveUpReason::NoHosts),
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Classifier(..)")
    }
}

const fn give_up(reason: GiveUpReason) -> ReconnectAction {
    ReconnectAction::GiveUp { reason }
}

/// `None` if it is out of range.
pub(crate) fn scaled(duration: Duration, factor: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).ok()
}

/// Vigna's SplitMix64: small, and good enough to keep clients from acting in step.
#[derive(Debug, Clone, PartialEq)]
struct SplitMix64(u64);

impl SplitMix64 {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to just below 1: the upper 53 bits, which are what an `f64` holds.
    const fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Fisher and Yates.
    fn shuffle(&mut self, items: &mut [usize]) {
        for end in (1..items.len()).rev() {
            let bound = (end as u128).saturating_add(1);
            let chosen = (u128::from(self.next()).saturating_mul(bound)) >> 64;
            items.swap(end, usize::try_from(chosen).unwrap_or(end));
        }
    }
}

#[cfg(test)]
mod tests;
