//! What is recorded of each entity: what it takes to declare it again.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Name, Ordered};
use crate::wire::{
    BasicConsume, BasicQos, ExchangeBind, ExchangeDeclare, FieldTableRef, Method, QueueBind, QueueDeclare,
};

/// How many names that a server-named queue had before are kept.
const FORMER_NAMES: usize = 16;

/// The octets of a method's arguments as they were sent. Read by nobody here, so nothing can be wrong with them.
pub(super) type Octets = Arc<[u8]>;

/// An exchange that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    pub(super) name: Name,
    exchange_type: Name,
    durable: bool,
    pub(super) auto_delete: bool,
    internal: bool,
    arguments: Octets,
}

/// A queue that was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    pub(super) name: Name,
    is_server_named: bool,
    durable: bool,
    exclusive: bool,
    pub(super) auto_delete: bool,
    arguments: Octets,
    /// Oldest first.
    former_names: Vec<Name>,
}

/// A binding of a queue, or of an exchange, to an exchange. Bindings are the same if all of it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindingRecord {
    // First, so that the bindings of one destination stand side by side.
    pub(super) destination: Destination,
    pub(super) source: Name,
    pub(super) routing_key: Name,
    pub(super) arguments: Octets,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Destination {
    /// To a queue.
    Queue(Name),
    /// To an exchange (RabbitMQ page "Exchange to Exchange Bindings").
    Exchange(Name),
}

/// A consumer that was started.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerRecord {
    pub(super) queue: Name,
    tag: Name,
    no_local: bool,
    no_ack: bool,
    exclusive: bool,
    pub(super) arguments: Octets,
    /// The limit that was in force for new consumers when it was started.
    pub(super) qos: Option<BasicQos>,
}

/// A channel that was opened.
#[derive(Debug, Clone, Default)]
pub(super) struct ChannelRecord {
    /// For new consumers, each on its own.
    pub(super) qos: Option<BasicQos>,
    /// For the channel together.
    pub(super) global_qos: Option<BasicQos>,
    pub(super) mode: Mode,
    pub(super) consumers: Ordered<Name, ConsumerRecord>,
    pub(super) last_queue: Option<Name>,
}

/// What a channel's publishes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Plain,
    Confirmed,
    Transactional,
}

impl ExchangeRecord {
    pub(super) fn new(declare: &ExchangeDeclare<'_>) -> Self {
        Self {
            name: declare.exchange.into(),
            exchange_type: declare.exchange_type.into(),
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: declare.arguments.as_encoded().into(),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// What declares it again.
    #[must_use]
    pub fn declare(&self) -> ExchangeDeclare<'_> {
        ExchangeDeclare {
            exchange: self.name.as_short_str(),
            exchange_type: self.exchange_type.as_short_str(),
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: FieldTableRef::from_encoded(&self.arguments),
            ..Default::default()
        }
    }
}

impl QueueRecord {
    pub(super) fn new(declare: &QueueDeclare<'_>, name: Name) -> Self {
        Self {
            name,
            is_server_named: declare.queue.is_empty(),
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: declare.arguments.as_encoded().into(),
            former_names: Vec::new(),
        }
    }

    /// The name that it has now.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Whether the server chose the name, and will choose another one.
    #[must_use]
    pub const fn is_server_named(&self) -> bool {
        self.is_server_named
    }

    /// The names that it had before, oldest first; of more than sixteen the last.
    #[must_use]
    pub fn former_names(&self) -> &[Name] {
        &self.former_names
    }

    /// What declares it again: without a name if the server chose it.
    #[must_use]
    pub fn declare(&self) -> QueueDeclare<'_> {
        QueueDeclare {
            queue: if self.is_server_named {
                Default::default()
            } else {
                self.name.as_short_str()
            },
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            arguments: FieldTableRef::from_encoded(&self.arguments),
            ..Default::default()
        }
    }

    pub(super) fn rename(&mut self, new: &Name) {
        let old = core::mem::replace(&mut self.name, new.clone());
        self.former_names.retain(|name| *name != old && name != new);
        if self.former_names.len() >= FORMER_NAMES {
            self.former_names.remove(0);
        }
        self.former_names.push(old);
    }
}

impl BindingRecord {
    /// Where messages come from.
    #[must_use]
    pub const fn source(&self) -> &Name {
        &self.source
    }

    /// Where messages go to.
    #[must_use]
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// What the source matches.
    #[must_use]
    pub const fn routing_key(&self) -> &Name {
        &self.routing_key
    }

    /// What binds again: a `queue.bind` or an `exchange.bind`.
    #[must_use]
    pub fn bind(&self) -> Method<'_> {
        let routing_key = self.routing_key.as_short_str();
        let arguments = FieldTableRef::from_encoded(&self.arguments);
        match &self.destination {
            Destination::Queue(queue) => Method::QueueBind(QueueBind {
                queue: queue.as_short_str(),
                exchange: self.source.as_short_str(),
                routing_key,
                arguments,
                ..Default::default()
            }),
            Destination::Exchange(exchange) => Method::ExchangeBind(ExchangeBind {
                destination: exchange.as_short_str(),
                source: self.source.as_short_str(),
                routing_key,
                arguments,
                ..Default::default()
            }),
        }
    }

    /// Follows a queue to its new name. A routing key that is the old name, as bindings of reply queues have it, follows too:
    /// nobody else can mean a name that the server made up.
    pub(super) fn rename_queue(&mut self, old: &Name, new: &Name) {
        if self.is_to_queue(old) {
            self.destination = Destination::Queue(new.clone());
            if self.routing_key == *old {
                self.routing_key = new.clone();
            }
        }
    }

    pub(super) fn is_to_queue(&self, queue: &Name) -> bool {
        matches!(&self.destination, Destination::Queue(name) if name == queue)
    }

    pub(super) fn involves_exchange(&self, exchange: &Name) -> bool {
        self.source == *exchange
            || matches!(&self.destination, Destination::Exchange(name) if name == exchange)
    }
}

impl ConsumerRecord {
    /// A consumer of that name that was started while that limit was in force for new ones.
    #[must_use]
    pub fn new(consume: &BasicConsume<'_>, queue: Name, tag: Name, qos: Option<BasicQos>) -> Self {
        Self {
            queue,
            tag,
            no_local: consume.no_local,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: consume.arguments.as_encoded().into(),
            qos,
        }
    }

    /// The queue that it consumes from, by its present name.
    #[must_use]
    pub const fn queue(&self) -> &Name {
        &self.queue
    }

    /// Its name, which it keeps.
    #[must_use]
    pub const fn tag(&self) -> &Name {
        &self.tag
    }

    /// The limit that was in force for new consumers when it was started.
    #[must_use]
    pub const fn qos(&self) -> Option<BasicQos> {
        self.qos
    }

    /// What starts it again.
    #[must_use]
    pub fn consume(&self) -> BasicConsume<'_> {
        BasicConsume {
            queue: self.queue.as_short_str(),
            consumer_tag: self.tag.as_short_str(),
            no_local: self.no_local,
            no_ack: self.no_ack,
            exclusive: self.exclusive,
            arguments: FieldTableRef::from_encoded(&self.arguments),
            ..Default::default()
        }
    }

    /// Has it go on at that offset of its stream. Arguments that cannot be read stay as they are.
    pub fn set_stream_offset(&mut self, offset: u64) {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        if let Ok(mut arguments) = FieldTableRef::from_encoded(&self.arguments).to_owned()
            && arguments.insert("x-stream-offset", offset).is_ok()
        {
            self.arguments = arguments.as_ref().as_encoded().into();
        }
    }

    /// Follows a queue to its new name.
    pub fn rename_queue(&mut self, old: &Name, new: &Name) {
        if self.queue == *old {
            self.queue = new.clone();
        }
    }
}
