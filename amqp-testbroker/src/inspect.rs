//! What a test may want to know about a broker.

use amqp_proto::Message;

use crate::broker::{Broker, ConnectionKey};
use crate::vhost::VirtualHost;

/// A connection, as the broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Which one.
    pub key: ConnectionKey,
    /// Who it belongs to; `None` until it is open.
    pub user: Option<String>,
    /// The virtual host it is in; `None` until it is open.
    pub virtual_host: Option<String>,
    /// How many channels it has, those that are about to be closed included.
    pub channels: usize,
}

/// A binding, without its arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct BindingInfo {
    /// The exchange that messages come from.
    pub source: String,
    /// The queue or the exchange that they go to.
    pub destination: String,
    /// Whether that is an exchange.
    pub is_to_exchange: bool,
    /// What the source matches.
    pub routing_key: String,
}

impl Broker {
    /// All connections, those in their handshake and those not forgotten yet included.
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        let info = |(key, connection): (&ConnectionKey, &crate::connection::Connection)| {
            let session = connection.session();
            ConnectionInfo {
                key: *key,
                user: session.map(|session| session.user.clone()),
                virtual_host: session.map(|session| session.host.to_string()),
                channels: connection.channel_count(),
            }
        };
        self.connections.iter().map(info).collect()
    }

    /// How many messages clients have published, those that no queue got included; not those that were refused, nor those of a
    /// transaction that is not committed.
    #[must_use]
    pub const fn published(&self) -> u64 {
        self.common.published
    }

    /// How many messages of a queue wait to be delivered; `None` without that queue.
    #[must_use]
    pub fn queue_len(&self, virtual_host: &str, queue: &str) -> Option<usize> {
        self.messages(virtual_host, queue).map(|messages| messages.len())
    }

    /// The messages of a queue that wait to be delivered, in their order; `None` without that queue.
    #[must_use]
    pub fn messages(&self, virtual_host: &str, queue: &str) -> Option<Vec<Message>> {
        self.common.hosts.get(virtual_host)?.messages(queue.as_bytes())
    }

    /// The names of a virtual host's queues, in order; those that are not UTF-8 with replacements. Empty without that host.
    #[must_use]
    pub fn queues(&self, virtual_host: &str) -> Vec<String> {
        let host = self.common.hosts.get(virtual_host);
        let names = host.into_iter().flat_map(VirtualHost::queue_names);
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// How many consumers a queue has; `None` without that queue.
    #[must_use]
    pub fn consumer_count(&self, virtual_host: &str, queue: &str) -> Option<usize> {
        self.common
            .hosts
            .get(virtual_host)?
            .consumer_count(queue.as_bytes())
    }

    /// The names of a virtual host's exchanges, in order, those that it has from its start included. None without that host.
    #[must_use]
    pub fn exchanges(&self, virtual_host: &str) -> Vec<String> {
        let host = self.common.hosts.get(virtual_host);
        let names = host.into_iter().flat_map(VirtualHost::exchange_names);
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// The bindings of a virtual host, in order, without those that every queue has to the default exchange. None without that
    /// host.
    #[must_use]
    pub fn bindings(&self, virtual_host: &str) -> Vec<BindingInfo> {
        let host = self.common.hosts.get(virtual_host);
        let mut bindings: Vec<_> = host.into_iter().flat_map(VirtualHost::bindings).collect();
        bindings.sort_unstable();
        bindings
    }

    /// How many octets of messages it holds, in queues, on their way to somebody and unsettled: what
    /// [`BrokerConfig::max_memory`](crate::BrokerConfig::max_memory) limits.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.common.memory()
    }
}
