//! What properties of a message are given in: lengths of time, moments, modes.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use amqp_proto::wire::Properties;

/// When the broker may drop a message that still waits in a queue (RabbitMQ page "Time-To-Live and Expiration").
///
/// ```
/// use amqp_async::Message;
/// use std::time::{Duration, SystemTime};
/// let soon = Message::new("").expiration(Duration::from_secs(5));
/// let tomorrow = Message::new("").expiration(SystemTime::now() + Duration::from_secs(24 * 3600));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiration {
    /// After so long in a queue; whole milliseconds. What is longer than 2³² − 1 of them the broker refuses.
    After(Duration),
    /// At that moment by this machine's clock, counted when the message is published. One that has passed is at once: only a consumer
    /// that waits for it gets the message.
    At(SystemTime),
}

impl From<Duration> for Expiration {
    fn from(after: Duration) -> Self {
        Self::After(after)
    }
}

impl From<SystemTime> for Expiration {
    fn from(at: SystemTime) -> Self {
        Self::At(at)
    }
}

/// The expiration of one message, as it was given or as the wire has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expires {
    /// Milliseconds, as digits.
    After(String),
    At(SystemTime),
}

impl Expires {
    /// What the wire has if it is published at that moment.
    pub(crate) fn digits(&self, now: impl FnOnce() -> SystemTime) -> Cow<'_, str> {
        match self {
            Self::After(digits) => digits.into(),
            Self::At(at) => {
                let left = at.duration_since(now()).unwrap_or_default();
                left.as_millis().to_string().into()
            }
        }
    }
}

impl From<Expiration> for Expires {
    fn from(expiration: Expiration) -> Self {
        match expiration {
            Expiration::After(after) => Self::After(after.as_millis().to_string()),
            Expiration::At(at) => Self::At(at),
        }
    }
}

/// A moment as a message carries it: whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Seconds since 1970.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }
}

impl From<u64> for Timestamp {
    fn from(seconds: u64) -> Self {
        Self(seconds)
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before 1970 count as 1970.
    fn from(at: SystemTime) -> Self {
        Self(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

/// Whether a message survives a restart of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// It need not. What a message is that does not say.
    #[default]
    Transient,
    /// The broker keeps it on disk, if its queue is durable.
    Persistent,
}

impl DeliveryMode {
    /// What the wire has.
    #[must_use]
    pub const fn value(self) -> u8 {
        match self {
            Self::Transient => Properties::TRANSIENT,
            Self::Persistent => Properties::PERSISTENT,
        }
    }

    /// As RabbitMQ reads it: 2 is persistent, all else is not.
    #[must_use]
    pub const fn of(properties: &Properties<'_>) -> Self {
        match properties.delivery_mode {
            Some(Properties::PERSISTENT) => Self::Persistent,
            _ => Self::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_expires_in_what_is_left_until_then() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let expires = Expires::from(Expiration::from(at(100)));
        assert_eq!(expires.digits(|| at(97)), "3000");
        assert_eq!(expires.digits(|| at(100)), "0");
        assert_eq!(expires.digits(|| at(500)), "0");
        let after = Expires::from(Expiration::from(Duration::from_micros(1_500_900)));
        assert_eq!(after.digits(|| unreachable!("nobody asks")), "1500");
    }

    #[test]
    fn moments_are_whole_seconds_since_1970() {
        let late = UNIX_EPOCH + Duration::from_millis(7_900);
        assert_eq!(Timestamp::from(late), Timestamp::from(7));
        let early = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(early).as_secs(), 0);
    }

    #[test]
    fn what_is_not_persistent_is_transient() {
        for (value, expected) in [
            (None, DeliveryMode::Transient),
            (Some(1), DeliveryMode::Transient),
            (Some(2), DeliveryMode::Persistent),
            (Some(3), DeliveryMode::Transient),
        ] {
            let properties = Properties {
                delivery_mode: value,
                ..Properties::default()
            };
            assert_eq!(DeliveryMode::of(&properties), expected);
        }
        assert_eq!(DeliveryMode::default().value(), 1);
        assert_eq!(DeliveryMode::Persistent.value(), 2);
    }
}
