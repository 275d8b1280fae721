//! What a broker is like: which RabbitMQ it follows, who may do what, its limits.

use std::collections::BTreeMap;
use std::time::Duration;

use amqp_proto::wire::FRAME_MIN_SIZE;

/// The RabbitMQ that is followed where releases differ: in close codes, texts and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Release {
    /// 3.10.
    V3_10,
    /// 4.3.
    #[default]
    V4,
}

/// How a [`Broker`](crate::Broker) is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BrokerConfig {
    /// Which RabbitMQ to follow. Default [`Release::V4`].
    pub release: Release,
    /// Who may connect, by name. Default `guest` with the password `guest` and all permissions.
    pub users: BTreeMap<String, User>,
    /// The virtual hosts. Default `/`.
    pub virtual_hosts: Vec<String>,
    /// Proposed in `connection.tune`. Default 2047.
    pub channel_max: u16,
    /// Proposed in `connection.tune`, in octets. Default 131072.
    pub frame_max: u32,
    /// Proposed in `connection.tune`, in seconds. Default 60.
    pub heartbeat: u16,
    /// How long a handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a delivery may be unsettled (RabbitMQ page "Consumers", section "Delivery Acknowledgement Timeout"). Then its channel
    /// is closed (406) in 3.10; in 4.3 only quorum queues look at it: the message goes back, and its consumer is cancelled, until it
    /// settles the delivery after all. Default `None`: for ever. RabbitMQ's own is 30 minutes, and it looks once a minute; this looks
    /// at once.
    pub consumer_timeout: Option<Duration>,
    /// The largest body of a message, in octets. Default 16 MiB, 128 MiB for 3.10.
    pub max_message_size: u64,
    /// How many octets of messages to hold, all queues together. What does not fit is refused with 506. Default 256 MiB.
    pub max_memory: u64,
    /// Confirms of publishes that arrived together are joined with `multiple`, as RabbitMQ does under load; otherwise each has an
    /// ack of its own. Default `true`.
    pub joins_confirms: bool,
}

impl Release {
    /// What `connection.start` gives as the version: that of a release in the line that is followed, since clients choose their
    /// ways by it.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V3_10 => "3.10.8",
            Self::V4 => "4.3.6",
        }
    }

    /// The smallest frame_max that a client may answer.
    pub(crate) const fn frame_min(self) -> u32 {
        match self {
            Self::V3_10 => FRAME_MIN_SIZE,
            Self::V4 => 8192,
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self::of(Release::default())
    }
}

impl BrokerConfig {
    /// The defaults of that release.
    #[must_use]
    pub fn of(release: Release) -> Self {
        let guest = User::new("guest").with_permissions("/", Permissions::default());
        Self {
            release,
            users: BTreeMap::from([("guest".to_owned(), guest)]),
            virtual_hosts: vec!["/".to_owned()],
            channel_max: 2047,
            frame_max: 128 * 1024,
            heartbeat: 60,
            handshake_timeout: Duration::from_secs(10),
            consumer_timeout: None,
            max_message_size: match release {
                Release::V3_10 => 128 * 1024 * 1024,
                Release::V4 => 16 * 1024 * 1024,
            },
            max_memory: 256 * 1024 * 1024,
            joins_confirms: true,
        }
    }
}

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct User {
    /// What PLAIN and AMQPLAIN compare.
    pub password: String,
    /// What is allowed, by virtual host; a virtual host that is not here is refused.
    pub permissions: BTreeMap<String, Permissions>,
}

impl User {
    /// A user who may not enter any virtual host yet.
    #[must_use]
    pub fn new(password: &str) -> Self {
        Self {
            password: password.to_owned(),
            permissions: BTreeMap::new(),
        }
    }

    /// The same who may enter that one too.
    #[must_use]
    pub fn with_permissions(mut self, virtual_host: &str, permissions: Permissions) -> Self {
        self.permissions.insert(virtual_host.to_owned(), permissions);
        self
    }
}

/// What a user may do in a virtual host: the names of resources that each kind of operation may touch (RabbitMQ page "Access
/// Control").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Permissions {
    /// Declare and delete.
    pub configure: Access,
    /// Publish, and bind to.
    pub write: Access,
    /// Consume, get, purge, and bind from.
    pub read: Access,
}

impl Permissions {
    /// What RabbitMQ's `set_permissions` takes, in its order.
    #[must_use]
    pub const fn new(configure: Access, write: Access, read: Access) -> Self {
        Self {
            configure,
            write,
            read,
        }
    }
}

/// A set of names. RabbitMQ has regular expressions here; these are the ones that occur in tests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Access {
    /// `.*`
    #[default]
    All,
    /// `^$`: nothing with a name, and nothing at all for the default exchange either.
    Nothing,
    /// Names that begin so.
    Prefix(String),
}

impl Access {
    /// Whether that name is in it; the default exchange has the name `amq.default` here.
    pub(crate) fn allows(&self, name: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Nothing => name.is_empty(),
            Self::Prefix(prefix) => name.starts_with(prefix.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_release() {
        let limits = |release| {
            let config = BrokerConfig::of(release);
            (config.frame_max, config.max_message_size, config.max_memory)
        };
        assert_eq!(limits(Release::V3_10), (131_072, 134_217_728, 268_435_456));
        assert_eq!(limits(Release::V4), (131_072, 16_777_216, 268_435_456));
    }
}
