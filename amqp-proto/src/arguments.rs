//! Arguments of queues, by name instead of by key, and what releases of RabbitMQ make of what is asked for.

use core::fmt;
use core::time::Duration;

use crate::wire::{BasicQos, FieldTable, FieldTableRef, FieldValue, QueueDeclare};

/// The arguments of a queue (RabbitMQ pages "Queues", "Quorum Queues", "Streams"). Those that RabbitMQ does not know for the type of
/// the queue it refuses, or ignores, by its release.
///
/// ```
/// use amqp_proto::QueueArguments;
/// use amqp_proto::wire::FieldTable;
/// use core::time::Duration;
///
/// let arguments = QueueArguments::quorum()
///     .delivery_limit(5)
///     .dead_letter_exchange("failed")
///     .message_ttl(Duration::from_secs(60));
/// let table = FieldTable::from(arguments);
/// assert_eq!(
///     format!("{table:?}"),
///     r#"{"x-queue-type": "quorum", "x-delivery-limit": 5, "x-dead-letter-exchange": "failed", "x-message-ttl": 60000}"#
/// );
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueArguments {
    table: FieldTable,
}

/// What a full queue does (RabbitMQ page "Queue Length Limit").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest messages go: what RabbitMQ does by default.
    DropHead,
    /// New ones are refused: publishes are nacked.
    RejectPublish,
    /// New ones are refused and dead-lettered; not for quorum queues.
    RejectPublishDlx,
}

impl QueueArguments {
    /// None: the type is the default of the virtual host.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            table: FieldTable::new(),
        }
    }

    /// Of a classic queue.
    #[must_use]
    pub fn classic() -> Self {
        Self::new().set("x-queue-type", "classic")
    }

    /// Of a quorum queue: replicated, durable, not exclusive.
    #[must_use]
    pub fn quorum() -> Self {
        Self::new().set("x-queue-type", "quorum")
    }

    /// Of a stream: what is consumed stays in it. Consumers need a prefetch limit.
    #[must_use]
    pub fn stream() -> Self {
        Self::new().set("x-queue-type", "stream")
    }

    /// How long a message may wait; whole milliseconds.
    #[must_use]
    pub fn message_ttl(self, after: Duration) -> Self {
        self.set("x-message-ttl", millis(after))
    }

    /// After how long without use the queue goes; whole milliseconds, at least one.
    #[must_use]
    pub fn expires(self, after: Duration) -> Self {
        self.set("x-expires", millis(after))
    }

    /// How many messages may wait.
    #[must_use]
    pub fn max_length(self, messages: u64) -> Self {
        self.set("x-max-length", number(messages))
    }

    /// How many octets of bodies may wait.
    #[must_use]
    pub fn max_length_bytes(self, octets: u64) -> Self {
        self.set("x-max-length-bytes", number(octets))
    }

    /// What it does when it is full.
    #[must_use]
    pub fn overflow(self, overflow: Overflow) -> Self {
        let value = match overflow {
            Overflow::DropHead => "drop-head",
            Overflow::RejectPublish => "reject-publish",
            Overflow::RejectPublishDlx => "reject-publish-dlx",
        };
        self.set("x-overflow", value)
    }

    /// Where messages go that are rejected, expire or are too many (RabbitMQ page "Dead Letter Exchanges").
    #[must_use]
    pub fn dead_letter_exchange(self, exchange: &str) -> Self {
        self.set("x-dead-letter-exchange", exchange)
    }

    /// The routing key they go there with; without it their own.
    #[must_use]
    pub fn dead_letter_routing_key(self, key: &str) -> Self {
        self.set("x-dead-letter-routing-key", key)
    }

    /// None of them is lost on the way; quorum queues only, with [`Overflow::RejectPublish`].
    #[must_use]
    pub fn dead_letter_at_least_once(self) -> Self {
        self.set("x-dead-letter-strategy", "at-least-once")
    }

    /// Messages have priorities, up to this one; classic queues only. Each level costs something: few are better.
    #[must_use]
    pub fn max_priority(self, priority: u8) -> Self {
        self.set("x-max-priority", i64::from(priority))
    }

    /// One consumer gets everything, and another one only when it has gone (RabbitMQ page "Consumers", section "Single Active
    /// Consumer").
    #[must_use]
    pub fn single_active_consumer(self) -> Self {
        self.set("x-single-active-consumer", true)
    }

    /// How often a message may be delivered before it is dropped or dead-lettered; quorum queues only.
    #[must_use]
    pub fn delivery_limit(self, times: u32) -> Self {
        self.set("x-delivery-limit", i64::from(times))
    }

    /// On how many nodes a quorum queue or a stream starts.
    #[must_use]
    pub fn initial_group_size(self, nodes: u32) -> Self {
        let key = match self.table.get("x-queue-type").and_then(|value| value.as_str()) {
            Some("stream") => "x-initial-cluster-size",
            _ => "x-quorum-initial-group-size",
        };
        self.set(key, i64::from(nodes))
    }

    /// How old a message of a stream may get; whole seconds.
    #[must_use]
    pub fn max_age(self, age: Duration) -> Self {
        let text = alloc::format!("{}s", age.as_secs());
        self.set("x-max-age", text.as_str())
    }

    /// How large the files of a stream are, in octets.
    #[must_use]
    pub fn stream_max_segment_size(self, octets: u64) -> Self {
        self.set("x-stream-max-segment-size-bytes", number(octets))
    }

    /// Any other argument. What fits no table (a key over 255 octets) is left out.
    #[must_use]
    pub fn set<'v>(mut self, key: &str, value: impl Into<FieldValue<'v>>) -> Self {
        // Of the keys here none is too long, and no frame holds a text that is.
        let _ = self.table.insert(key, value);
        self
    }
}

impl From<QueueArguments> for FieldTable {
    fn from(arguments: QueueArguments) -> Self {
        arguments.table
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The release of a RabbitMQ server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerVersion {
    /// 4 of 4.3.
    pub major: u16,
    /// 3 of 4.3.
    pub minor: u16,
}

impl ServerVersion {
    /// From what the server says of itself ([`Connection::server_properties`](crate::Connection::server_properties)); `None` if it is
    /// not RabbitMQ, nor `amqp-testbroker`, which follows its releases, or if it does not say.
    #[must_use]
    pub fn of(properties: FieldTableRef<'_>) -> Option<Self> {
        let text = |key: &str| properties.get(key).ok().flatten();
        let product = text("product")?;
        let version = text("version")?;
        if !matches!(product.as_str()?, "RabbitMQ" | "amqp-testbroker") {
            return None;
        }
        let mut parts = version.as_str()?.split(['.', '-', '+']);
        Some(Self {
            major: parts.next()?.parse().ok()?,
            minor: parts.next()?.parse().ok()?,
        })
    }

    /// What this release makes of such a queue, if that is not what was meant.
    #[must_use]
    pub fn lint_queue(self, method: &QueueDeclare<'_>) -> Option<Lint> {
        let is_transient = !method.durable && !method.exclusive && !method.passive;
        (is_transient && self >= Self { major: 4, minor: 3 }).then_some(Lint::TransientQueue)
    }

    /// What this release makes of such a limit, if that is not what was meant.
    #[must_use]
    pub fn lint_qos(self, method: &BasicQos) -> Option<Lint> {
        (method.global && self >= Self { major: 4, minor: 0 }).then_some(Lint::GlobalQos)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a release of RabbitMQ refuses, or has given up, although the protocol has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Lint {
    /// RabbitMQ from 4.3 on refuses a queue that is neither durable nor exclusive (541, which ends the connection), unless its
    /// configuration permits it.
    #[error("RabbitMQ from 4.3 on refuses queues that are neither durable nor exclusive")]
    TransientQueue,
    /// RabbitMQ deprecates a prefetch limit for a whole channel; quorum queues and streams do not know it.
    #[error("RabbitMQ deprecates a prefetch limit for a whole channel")]
    GlobalQos,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn arguments_have_the_keys_and_types_that_rabbitmq_reads() {
        let shown = |arguments: QueueArguments| format!("{:?}", FieldTable::from(arguments));
        let second = Duration::from_secs(1);
        let classic = QueueArguments::classic()
            .expires(second)
            .max_length(7)
            .max_length_bytes(u64::MAX)
            .overflow(Overflow::RejectPublishDlx)
            .max_priority(10)
            .single_active_consumer()
            .dead_letter_exchange("dlx")
            .dead_letter_routing_key("key");
        assert_eq!(
            shown(classic),
            r#"{"x-queue-type": "classic", "x-expires": 1000, "x-max-length": 7, "x-max-length-bytes": 9223372036854775807, "x-overflow": "reject-publish-dlx", "x-max-priority": 10, "x-single-active-consumer": true, "x-dead-letter-exchange": "dlx", "x-dead-letter-routing-key": "key"}"#
        );
        let quorum = QueueArguments::quorum()
            .initial_group_size(3)
            .overflow(Overflow::RejectPublish);
        assert_eq!(
            shown(quorum.dead_letter_at_least_once()),
            r#"{"x-queue-type": "quorum", "x-quorum-initial-group-size": 3, "x-overflow": "reject-publish", "x-dead-letter-strategy": "at-least-once"}"#
        );
        let stream = QueueArguments::stream()
            .initial_group_size(3)
            .max_age(second * 90);
        assert_eq!(
            shown(stream.stream_max_segment_size(1000)),
            r#"{"x-queue-type": "stream", "x-initial-cluster-size": 3, "x-max-age": "90s", "x-stream-max-segment-size-bytes": 1000}"#
        );
        let other = QueueArguments::new()
            .overflow(Overflow::DropHead)
            .set("x-other", 1_i64);
        assert_eq!(shown(other), r#"{"x-overflow": "drop-head", "x-other": 1}"#);
    }

    fn version(product: &str, version: &str) -> Option<ServerVersion> {
        let table = FieldTable::new().with("product", product).unwrap();
        ServerVersion::of(table.with("version", version).unwrap().as_ref())
    }

    #[test]
    fn what_is_told_depends_on_the_release() {
        let transient = QueueDeclare::default();
        let durable = QueueDeclare {
            durable: true,
            ..transient
        };
        let exclusive = QueueDeclare {
            exclusive: true,
            ..transient
        };
        let passive = QueueDeclare {
            passive: true,
            ..transient
        };
        let global = BasicQos {
            global: true,
            ..BasicQos::default()
        };
        for (text, is_43, is_4) in [
            ("3.10.8", false, false),
            ("3.13.7", false, false),
            ("4.0.5", false, true),
            ("4.2.9", false, true),
            ("4.3.0-rc.1", true, true),
            ("4.10.0", true, true),
            ("5.0", true, true),
        ] {
            let version = version("RabbitMQ", text).unwrap();
            assert_eq!(version.lint_queue(&transient).is_some(), is_43, "{text}");
            for other in [durable, exclusive, passive] {
                assert_eq!(version.lint_queue(&other), None, "{text}");
            }
            assert_eq!(version.lint_qos(&global).is_some(), is_4, "{text}");
            assert_eq!(version.lint_qos(&BasicQos::default()), None, "{text}");
        }
        assert_eq!(version("RabbitMQ", "3.10.8").unwrap().to_string(), "3.10");
    }

    #[test]
    fn others_have_no_release() {
        for (product, text) in [
            ("Other", "4.3.0"),
            ("RabbitMQ", ""),
            ("RabbitMQ", "four"),
            ("RabbitMQ", "4"),
        ] {
            assert_eq!(version(product, text), None, "{product} {text}");
        }
        assert_eq!(ServerVersion::of(FieldTableRef::default()), None);
        assert!(version("amqp-testbroker", "4.3.6").is_some());
    }
}
