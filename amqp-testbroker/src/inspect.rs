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

    /// The names of a virtual host's queues, in order; those that are not UTF-8 with replacements. None without that host.
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
}
