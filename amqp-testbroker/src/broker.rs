//! The broker: connections and virtual hosts behind one value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::ReplyCode;
use amqp_proto::{Instant, Message, RecvBuf, SendBuf};

use crate::config::BrokerConfig;
use crate::connection::{Connection, Stream};
use crate::fault::Faults;
use crate::name::generated;
use crate::refusal::Refusal;
use crate::vhost::{ConsumerKey, Entry, Name, Sink, VirtualHost};

/// Which connection, in the order in which they were accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionKey(pub(crate) u64);

/// The server's end of any number of connections and what they share, without I/O and without a clock.
///
/// Around it goes a loop like this. A stream opens: [`accept`](Self::accept). Octets came: [`handle_input`](Self::handle_input).
/// After each of these, and after [`handle_timeout`](Self::handle_timeout), ask [`poll_ready`](Self::poll_ready) until it has no
/// more: what one connection sends makes output for others.
#[derive(Debug)]
pub struct Broker {
    pub(crate) common: Common,
    pub(crate) connections: BTreeMap<ConnectionKey, Connection>,
    next_key: u64,
    ready: BTreeSet<ConnectionKey>,
}

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) config: BrokerConfig,
    pub(crate) hosts: BTreeMap<Arc<str>, VirtualHost>,
    /// Why nothing is read from publishers, if it is so.
    pub(crate) alarm: Option<String>,
    /// Who consumes direct replies, by the address that stands in `reply_to`.
    pub(crate) reply_consumers: BTreeMap<Name, ConsumerKey>,
    /// Direct replies on their way.
    pub(crate) replies: Vec<(ConsumerKey, Message)>,
    /// Octets of bodies that are in no queue yet: of messages that are not complete, and in transactions.
    pub(crate) held: u64,
    /// How many messages were taken from clients.
    pub(crate) published: u64,
    /// Counts the names that the broker made up.
    pub(crate) made_names: u64,
    pub(crate) faults: Faults,
}

impl Broker {
    /// A broker with nothing in it but what its configuration says.
    #[must_use]
    pub fn new(config: BrokerConfig) -> Self {
        let hosts = config
            .virtual_hosts
            .iter()
            .map(|name| (name.as_str().into(), VirtualHost::new(name, config.release)))
            .collect();
        Self {
            common: Common {
                config,
                hosts,
                alarm: None,
                reply_consumers: BTreeMap::new(),
                replies: Vec::new(),
                held: 0,
                published: 0,
                made_names: 0,
                faults: Faults::default(),
            },
            connections: BTreeMap::new(),
            next_key: 0,
            ready: BTreeSet::new(),
        }
    }

    /// A stream was opened.
    pub fn accept(&mut self, now: Instant) -> ConnectionKey {
        self.add(now, Stream::Plain)
    }

    /// A TLS stream was opened: EXTERNAL is offered, and takes the user whose name the client's certificate gives, if it gave one.
    pub fn accept_tls(&mut self, now: Instant, certificate_name: Option<&str>) -> ConnectionKey {
        let certificate_name = certificate_name.map(ToOwned::to_owned);
        self.add(now, Stream::Tls { certificate_name })
    }

    fn add(&mut self, now: Instant, stream: Stream) -> ConnectionKey {
        self.next_key = self.next_key.saturating_add(1);
        let key = ConnectionKey(self.next_key);
        let mut connection = Connection::new(key, &self.common.config, now, stream);
        if self.common.faults.takes_refusal() {
            connection.hang_up();
            self.ready.insert(key);
        }
        self.connections.insert(key, connection);
        key
    }

    /// Octets came on that stream: takes all whole frames, unless it reads nothing for the time being. To be called again with what
    /// is left when [`poll_ready`](Self::poll_ready) names the connection.
    pub fn handle_input(&mut self, connection: ConnectionKey, now: Instant, input: &mut RecvBuf) {
        let key = connection;
        loop {
            let Some(connection) = self.connections.get_mut(&key) else {
                input.consume(usize::MAX);
                return;
            };
            if !connection.step(&mut self.common, now, input) {
                break;
            }
            self.settle(key, now);
        }
        self.update(key, now, |connection, common| {
            connection.flush_confirms(common, now)
        });
    }

    /// That stream ended or failed.
    pub fn handle_disconnect(&mut self, connection: ConnectionKey, now: Instant) {
        let key = connection;
        self.update(key, now, |connection, common| connection.end(common, now));
        self.connections.remove(&key);
        self.ready.remove(&key);
    }

    /// Hands over what is to be written to that stream, if `out` is empty and there is anything. What `out` still holds counts as
    /// unwritten: beyond 1 MiB of that, nothing is delivered to it and nothing read from it.
    pub fn poll_transmit(&mut self, connection: ConnectionKey, now: Instant, out: &mut SendBuf) -> bool {
        let Some(found) = self.connections.get_mut(&connection) else {
            return false;
        };
        let was_congested = found.is_congested();
        let is_handed_over = found.transmit(now, out);
        if was_congested && !found.is_congested() {
            found.note_room(&mut self.common, now);
            self.ready.insert(connection);
            self.settle(connection, now);
        } else if found.is_over() && is_handed_over {
            self.ready.insert(connection);
        }
        is_handed_over
    }

    /// A connection for which there is something new to write, or that reads again, or that is to be hung up. Each is told once
    /// until it is looked at: call [`handle_input`](Self::handle_input) if something is unread, then
    /// [`poll_transmit`](Self::poll_transmit), then ask whether it [is over](Self::is_over).
    pub fn poll_ready(&mut self) -> Option<ConnectionKey> {
        self.ready.pop_first()
    }

    /// Whether nothing more is to be read from that stream and, once all is written, the stream is to be closed.
    #[must_use]
    pub fn is_over(&self, connection: ConnectionKey) -> bool {
        self.connections.get(&connection).is_none_or(Connection::is_over)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let connections = self.connections.values().filter_map(Connection::next_deadline);
        let hosts = self.common.hosts.values().filter_map(VirtualHost::next_deadline);
        connections.chain(hosts).min()
    }

    /// It is that time: heartbeats, deadlines, expiries, delayed faults.
    pub fn handle_timeout(&mut self, now: Instant) {
        for (key, connection) in &mut self.connections {
            if connection.next_deadline().is_some_and(|deadline| deadline <= now) {
                connection.handle_timeout(&mut self.common, now);
                self.ready.insert(*key);
            }
        }
        for host in self.common.hosts.values_mut() {
            if host.next_deadline().is_some_and(|deadline| deadline <= now) {
                host.expire(now);
            }
        }
        self.settle_all(now);
    }

    /// Resources are low (`low on memory`, `low on disk`): whoever publishes is told so and then nothing is read from it, until
    /// [`unblock`](Self::unblock). Heartbeats go on. A second reason does not replace the first.
    pub fn block(&mut self, reason: &str) {
        self.common.alarm.get_or_insert_with(|| reason.to_owned());
    }

    /// Resources are fine again.
    pub fn unblock(&mut self, now: Instant) {
        self.common.alarm = None;
        for (key, connection) in &mut self.connections {
            if connection.unblock(now) {
                self.ready.insert(*key);
            }
        }
    }

    /// Sets [`BrokerConfig::consumer_timeout`] for consumers that begin from now on.
    pub const fn set_consumer_timeout(&mut self, timeout: Option<Duration>) {
        self.common.config.consumer_timeout = timeout;
    }

    /// The node stops and starts again: every stream breaks off without a word, and what is not durable is gone.
    pub fn restart(&mut self, now: Instant) {
        for (key, connection) in &mut self.connections {
            connection.end(&mut self.common, now);
            connection.hang_up();
            self.ready.insert(*key);
        }
        for host in self.common.hosts.values_mut() {
            host.restart();
        }
        self.settle_all(now);
    }

    /// Does something with a connection, and what follows from it for others.
    pub(crate) fn update<T>(
        &mut self,
        key: ConnectionKey,
        now: Instant,
        change: impl FnOnce(&mut Connection, &mut Common) -> T,
    ) -> Option<T> {
        let result = change(self.connections.get_mut(&key)?, &mut self.common);
        self.settle(key, now);
        Some(result)
    }

    /// After something changed through that connection: tells and delivers what follows from it.
    fn settle(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if connection.takes_news() {
            self.ready.insert(key);
        }
        if let Some(host) = connection.host() {
            self.settle_host(&host, now);
        }
    }

    pub(crate) fn settle_all(&mut self, now: Instant) {
        let hosts: Vec<Arc<str>> = self.common.hosts.keys().cloned().collect();
        for host in hosts {
            self.settle_host(&host, now);
        }
    }

    fn settle_host(&mut self, name: &str, now: Instant) {
        let Some(host) = self.common.hosts.get_mut(name) else {
            return;
        };
        for consumer in host.take_cancelled() {
            if let Some(connection) = self.connections.get_mut(&consumer.connection) {
                connection.on_consumer_gone(&consumer);
                self.ready.insert(consumer.connection);
            }
        }
        let mut deliveries = Deliveries {
            connections: &mut self.connections,
            ready: &mut self.ready,
            settled: Vec::new(),
            now,
        };
        host.dispatch(now, &mut deliveries);
        for entry in deliveries.settled {
            host.acknowledge(entry, now);
        }
        for (consumer, message) in std::mem::take(&mut self.common.replies) {
            if let Some(connection) = self.connections.get_mut(&consumer.connection) {
                connection.deliver_reply(&consumer, &message);
                self.ready.insert(consumer.connection);
            }
        }
    }
}

impl Common {
    /// A name that nothing had before.
    pub(crate) fn make_name(&mut self, prefix: &str) -> Name {
        self.made_names = self.made_names.saturating_add(1);
        generated(prefix, self.made_names).into()
    }

    /// Octets of bodies, wherever they are.
    pub(crate) fn memory(&self) -> u64 {
        let queued = self.hosts.values().map(VirtualHost::memory);
        queued.fold(self.held, u64::saturating_add)
    }

    /// The configured limit is reached.
    pub(crate) fn out_of_memory(&self) -> Refusal {
        let text = format_args!("memory limit of {} octets is reached", self.config.max_memory);
        Refusal::connection(ReplyCode::RESOURCE_ERROR, text)
    }

    /// Whether a body of that size still fits.
    pub(crate) fn has_memory_for(&self, octets: u64) -> bool {
        self.memory().saturating_add(octets) <= self.config.max_memory
    }
}

/// All connections, for a virtual host to deliver to.
struct Deliveries<'a> {
    connections: &'a mut BTreeMap<ConnectionKey, Connection>,
    ready: &'a mut BTreeSet<ConnectionKey>,
    /// What went to consumers that do not acknowledge.
    settled: Vec<Entry>,
    now: Instant,
}

impl Sink for Deliveries<'_> {
    fn has_room(&self, consumer: &ConsumerKey) -> bool {
        self.connections
            .get(&consumer.connection)
            .is_some_and(|connection| connection.has_room(consumer))
    }

    fn deliver(&mut self, consumer: &ConsumerKey, entry: Entry) {
        let Some(connection) = self.connections.get_mut(&consumer.connection) else {
            return;
        };
        self.settled.extend(connection.deliver(self.now, consumer, entry));
        self.ready.insert(consumer.connection);
    }
}
