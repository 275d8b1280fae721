//! When to renew a secret that runs out: a policy as a value, and its running state. Neither reads a clock, asks anybody or sends
//! anything; an adapter does what they say.
//!
//! ```text
//!            handle_renewed(now, life)
//!                     │
//!                     ▼     0.8 of its life
//!   ┌──────────▶ next moment ─────────────▶ Ask ──▶ handle_renewed
//!   │                 │                      │
//!   │ backoff         │ all of its life      ▼
//!   │                 ▼               handle_failed ──▶ no attempts left
//!   │              Expired                   │
//!   └────────────────────────────────────────┘
//! ```

use alloc::string::String;
use alloc::sync::Arc;
use core::time::Duration;

use crate::reconnect::{Backoff, scaled};
use crate::{Credentials, Instant, SaslError, Secret};

/// At which part of a secret's life the next one is asked for.
const AT: f64 = 0.8;

/// When and how to renew a secret that runs out, mostly an OAuth 2 token.
///
/// ```
/// use amqp_proto::{Backoff, Instant, Refresh, RefreshPolicy, RefreshStep};
/// use core::time::Duration;
///
/// let seconds = |seconds| Instant::EPOCH + Duration::from_secs(seconds);
/// let backoff = Backoff::new(7).initial(Duration::from_secs(1)).jitter(0.0);
/// let mut refresh = Refresh::new(RefreshPolicy::new(backoff).jitter(0.0));
/// refresh.handle_renewed(seconds(0), Some(Duration::from_secs(100)));
/// assert_eq!(refresh.poll_timeout(), Some(seconds(80)));
/// assert_eq!(refresh.poll_step(seconds(80)), Some(RefreshStep::Ask));
/// assert_eq!(refresh.handle_failed(seconds(81)), Some(Duration::from_secs(1)));
/// assert_eq!(refresh.poll_timeout(), Some(seconds(82)));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RefreshPolicy {
    /// The delays between attempts that fail, and how many of them there are; it starts anew with each success. Its seed settles
    /// the jitter too: clients that must not ask in step need different ones.
    pub backoff: Backoff,
    /// At which part of its life a secret is renewed, from 0 to 1. Default 0.8; NaN counts as that.
    pub at: f64,
    /// How much earlier it may be, as a part of that time, from 0 (not at all) to 1 (at once). Default 0.1, which with the other
    /// default is between 0.72 and 0.8 of the life; NaN counts as 0.
    pub jitter: f64,
    /// The shortest time between a secret and the next one, however short its life is: a provider that gives what has run out
    /// already is not asked without pause. Default 1 s.
    pub min_interval: Duration,
    /// How long the provider may take for its answer, and then the broker for its own. Default 30 s each.
    pub timeout: Duration,
}

impl RefreshPolicy {
    /// These delays, and the defaults for the rest.
    #[must_use]
    pub const fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            at: AT,
            jitter: 0.1,
            min_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
        }
    }

    /// Sets [`at`](Self#structfield.at).
    #[must_use]
    pub const fn at(mut self, part: f64) -> Self {
        self.at = part;
        self
    }

    /// Sets [`jitter`](Self#structfield.jitter).
    #[must_use]
    pub const fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets [`min_interval`](Self#structfield.min_interval).
    #[must_use]
    pub const fn min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = interval;
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long after a secret of that life the next one is asked for.
    fn pause(&mut self, life: Duration) -> Duration {
        let whole = scaled(life, part(self.at, AT)).unwrap_or(life).min(life);
        let pause = self.backoff.shortened(whole, part(self.jitter, 0.0));
        pause.max(self.min_interval)
    }
}

/// From 0 to 1.
const fn part(number: f64, if_nan: f64) -> f64 {
    if number.is_nan() {
        if_nan
    } else {
        number.clamp(0.0, 1.0)
    }
}

/// A [`RefreshPolicy`] at work for one connection.
#[derive(Debug, Clone)]
pub struct Refresh {
    policy: RefreshPolicy,
    ask_at: Option<Instant>,
    expires_at: Option<Instant>,
}

/// What to do now, or to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefreshStep {
    /// Ask for another secret and send it to the broker; then say how that went.
    Ask,
    /// The life of the last secret has ended. Said once; asking goes on.
    Expired,
}

impl Refresh {
    /// Nothing has to be renewed before [`handle_renewed`](Self::handle_renewed).
    #[must_use]
    pub const fn new(policy: RefreshPolicy) -> Self {
        Self {
            policy,
            ask_at: None,
            expires_at: None,
        }
    }

    /// The broker has a secret that lives for so long from `now` on; `None` is for ever.
    pub fn handle_renewed(&mut self, now: Instant, life: Option<Duration>) {
        self.policy.backoff.reset();
        self.expires_at = life.map(|life| now + life);
        self.ask_at = life.map(|life| now + self.policy.pause(life));
    }

    /// There was no new secret, or the broker did not get it. Says how long it is until the next attempt; `None` if there is none,
    /// because the attempts of the backoff are used up.
    pub fn handle_failed(&mut self, now: Instant) -> Option<Duration> {
        let delay = self.policy.backoff.next_delay();
        self.ask_at = delay.map(|delay| now + delay);
        delay
    }

    /// What is to be done, or known, at that moment; again and again until it is `None`.
    pub fn poll_step(&mut self, now: Instant) -> Option<RefreshStep> {
        let take = |at: &mut Option<Instant>| at.take_if(|at| *at <= now).is_some();
        if take(&mut self.expires_at) {
            return Some(RefreshStep::Expired);
        }
        take(&mut self.ask_at).then_some(RefreshStep::Ask)
    }

    /// When to call [`poll_step`](Self::poll_step) next; `None` for never, as far as is known now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.ask_at, self.expires_at].into_iter().flatten().min()
    }
}

/// Credentials, and for how long.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProvidedCredentials {
    /// Who connects. With [`erase_on_connect`](Credentials::erase_on_connect) they are overwritten as soon as the broker has them,
    /// here and in all their clones: the next attempt needs new ones.
    pub credentials: Credentials,
    /// How long they are valid from now on; `None`, the default, is for ever.
    pub valid_for: Option<Duration>,
}

impl ProvidedCredentials {
    /// Sets [`valid_for`](Self#structfield.valid_for).
    #[must_use]
    pub const fn valid_for(mut self, duration: Duration) -> Self {
        self.valid_for = Some(duration);
        self
    }
}

/// Valid for ever.
impl From<Credentials> for ProvidedCredentials {
    fn from(credentials: Credentials) -> Self {
        Self {
            credentials,
            valid_for: None,
        }
    }
}

/// Why a provider of credentials gave none that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// It said so, in these words, which must not have a secret in them.
    #[error("the provider of credentials failed: {0}")]
    Failed(Arc<str>),
    /// It did not answer in time.
    #[error("the provider of credentials took longer than {limit:?}")]
    TimedOut {
        /// How long it might have taken.
        limit: Duration,
    },
    /// It panicked.
    #[error("the provider of credentials panicked")]
    Panicked,
    /// What it gave cannot renew what the connection was opened with: it lacks the mechanism, or was erased.
    #[error("the new credentials do not fit the connection: {0}")]
    Unfit(SaslError),
    /// The mechanism that the connection was opened with has no secret to renew, such as `EXTERNAL`.
    #[error("{mechanism} has no secret to renew")]
    NothingToRenew {
        /// The mechanism's name.
        mechanism: String,
    },
}

impl Credentials {
    /// What renews what a connection was opened with by that mechanism: for [`Connection::update_secret`](crate::Connection::update_secret).
    ///
    /// # Errors
    /// [`ProviderError::Unfit`] if these lack the mechanism or were erased, [`ProviderError::NothingToRenew`] if it has no secret.
    pub fn secret_to_renew(&self, mechanism: &str) -> Result<Secret, ProviderError> {
        let same = self.select(mechanism.as_bytes()).map_err(ProviderError::Unfit)?;
        match same.secret() {
            Some(secret) => Ok(secret),
            // Erased in between.
            None if self.is_erased() => Err(ProviderError::Unfit(SaslError::CredentialsErased)),
            None => Err(ProviderError::NothingToRenew {
                mechanism: mechanism.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
