//! Time as the caller tells it.

use core::fmt;
use core::ops::Add;
use core::time::Duration;

/// A moment: nanoseconds since an epoch that the caller chose, such as the moment its program started.
///
/// There is no clock behind it. Whoever drives the core reads a clock of its own, and whoever tests it counts up a number.
/// It must not go back. Sums saturate at [`MAX`](Self::MAX), which
/// never comes (584 years).
///
/// ```
/// use amqp_proto::Instant;
/// use core::time::Duration;
///
/// let epoch = std::time::Instant::now();
/// let now = || Instant::since_epoch(epoch.elapsed());
/// let deadline = now() + Duration::from_secs(30);
/// assert!(deadline.duration_since(now()) <= Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The caller's epoch.
    pub const EPOCH: Self = Self(0);

    /// Later than everything else.
    pub const MAX: Self = Self(u64::MAX);

    /// That many nanoseconds after the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// That much later than the epoch; [`MAX`](Self::MAX) if that is out of range.
    #[must_use]
    pub const fn since_epoch(elapsed: Duration) -> Self {
        Self(nanos(elapsed))
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// That many nanoseconds later.
    #[inline]
    pub(crate) const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// How much later than `earlier` it is; zero if it is not.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds, `u64::MAX` for more than that.
pub(crate) const fn nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 {
        return u64::MAX;
    }
    #[expect(clippy::cast_possible_truncation, reason = "looked at above")]
    {
        nanos as u64
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({:?})", Duration::from_nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_shows_how_long_after_the_epoch_it_is() {
        let moment = Instant::from_nanos(1_500_000_000);
        assert_eq!(alloc::format!("{moment:?}"), "Instant(1.5s)");
    }

    #[test]
    fn sums_and_differences_saturate() {
        let one = Instant::from_nanos(1);
        assert_eq!((one + Duration::from_nanos(2)).as_nanos(), 3);
        assert_eq!(one + Duration::MAX, Instant::MAX);
        assert_eq!(Instant::MAX + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::since_epoch(Duration::MAX), Instant::MAX);
        assert_eq!(
            Instant::since_epoch(Duration::from_secs(u64::MAX / 2)),
            Instant::MAX
        );
        assert_eq!(Instant::since_epoch(Duration::from_micros(1)).as_nanos(), 1000);
        assert_eq!(Instant::EPOCH.duration_since(one), Duration::ZERO);
        assert_eq!(
            Instant::MAX.duration_since(one),
            Duration::from_nanos(u64::MAX - 1)
        );
    }
}
