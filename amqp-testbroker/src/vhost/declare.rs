//! What is declared, bound and deleted.

use amqp_proto::Instant;
use amqp_proto::wire::*;

use super::exchange::{Destination, Exchange, Kind};
use super::queue::{Queue, is_durable};
use super::value::{Resource, Text};
use super::{Declared, Name, VirtualHost, arguments};
use crate::broker::ConnectionKey;
use crate::name::generated;
use crate::refusal::Refusal;
use arguments::QueueType;

/// What a binding goes by beside its two ends.
#[derive(Clone, Copy)]
struct Binding<'a> {
    source: &'a [u8],
    key: ShortStr<'a>,
    arguments: FieldTableRef<'a>,
}

impl VirtualHost {
    pub(crate) fn declare_exchange(&mut self, method: &ExchangeDeclare<'_>) -> Result<(), Refusal> {
        let name = clean(method.exchange);
        if method.passive {
            check_not_default(&name)?;
            return self.exchange(&name).map(|_| ());
        }
        let kind = Kind::named(method.exchange_type, self.release)?;
        check_not_default(&name)?;
        let resource = resource(&self.name, "exchange", &name);
        if let Some(exchange) = self.exchanges.get(&name) {
            return exchange.check_equivalence(method, kind, resource);
        }
        check_not_reserved("exchange", &name)?;
        let exchange = Exchange::new(method, kind, resource)?;
        self.exchanges.insert(name, exchange);
        Ok(())
    }

    pub(crate) fn delete_exchange(&mut self, method: &ExchangeDelete<'_>) -> Result<(), Refusal> {
        let name = clean(method.exchange);
        check_not_default(&name)?;
        let resource = self.exchange_resource(&name);
        if is_reserved(&name) {
            return Err(Refusal::access_refused(format_args!(
                "deletion of system {resource} not allowed"
            )));
        }
        let Some(exchange) = self.exchanges.get(&name) else {
            return Ok(());
        };
        if method.if_unused && !exchange.is_unused() {
            return Err(Refusal::precondition_failed(format_args!("{resource} in use")));
        }
        self.exchanges.remove(&name);
        self.unbind_gone(Destination::Exchange(name));
        Ok(())
    }

    pub(crate) fn bind_exchange(&mut self, method: &ExchangeBind<'_>) -> Result<(), Refusal> {
        let (source, destination) = (clean(method.source), clean(method.destination));
        let binding = Binding {
            source: &source,
            key: method.routing_key,
            arguments: method.arguments,
        };
        check_not_default(&destination)?;
        check_not_default(&source)?;
        self.exchange(&source)?;
        self.exchange(&destination)?;
        self.bind(binding, Destination::Exchange(destination))
    }

    pub(crate) fn unbind_exchange(&mut self, method: &ExchangeUnbind<'_>) -> Result<(), Refusal> {
        let (source, destination) = (clean(method.source), clean(method.destination));
        let binding = Binding {
            source: &source,
            key: method.routing_key,
            arguments: method.arguments,
        };
        check_not_default(&destination)?;
        check_not_default(&source)?;
        self.unbind(binding, Destination::Exchange(destination));
        Ok(())
    }

    /// `method.queue` may be empty unless it is passive: then a name is made up.
    pub(crate) fn declare_queue(
        &mut self,
        method: &QueueDeclare<'_>,
        by: ConnectionKey,
        now: Instant,
    ) -> Result<Declared, Refusal> {
        let mut name = clean(method.queue);
        if method.passive {
            self.queue(&name, by)?;
            return self.declared(name, now);
        }
        let table = arguments::complete(method.arguments, self.release);
        if name.is_empty() {
            if table.get("x-queue-type").and_then(|value| value.as_bytes()) == Some(b"quorum") {
                return Err(Refusal::precondition_failed(format_args!(
                    "Cannot declare a server-named queue for type {}",
                    QueueType::Quorum.module()
                )));
            }
            name = self.generate_name();
        } else {
            check_not_reserved("queue", &name)?;
        }
        let resource = resource(&self.name, "queue", &name);
        if let Some(queue) = self.queues.get(&name) {
            if queue.owner != method.exclusive.then_some(by) {
                return Err(locked(resource));
            }
            for (key, current, received) in [
                ("durable", queue.durable, is_durable(method)),
                ("auto_delete", queue.auto_delete, method.auto_delete),
            ] {
                arguments::equivalent_property(key, current, received, resource)?;
            }
            arguments::check_equivalence(&queue.table, &table, resource, self.release)?;
            return self.declared(name, now);
        }
        let checked = arguments::check(table.as_ref(), resource, self.release)?;
        if checked.queue_type == QueueType::Quorum {
            check_quorum(method, resource)?;
        }
        let queue = Queue::new(method, by, table, checked, self.position, now);
        self.queues.insert(name.clone(), queue);
        self.declared(name, now)
    }

    pub(crate) fn bind_queue(
        &mut self,
        method: &QueueBind<'_>,
        by: ConnectionKey,
        _now: Instant,
    ) -> Result<(), Refusal> {
        let (source, queue) = (clean(method.exchange), clean(method.queue));
        let binding = Binding {
            source: &source,
            key: method.routing_key,
            arguments: method.arguments,
        };
        check_not_default(&source)?;
        self.exchange(&source)?;
        self.queue(&queue, by)?;
        self.bind(binding, Destination::Queue(queue))
    }

    pub(crate) fn unbind_queue(
        &mut self,
        method: &QueueUnbind<'_>,
        by: ConnectionKey,
        _now: Instant,
    ) -> Result<(), Refusal> {
        let (source, queue) = (clean(method.exchange), clean(method.queue));
        let binding = Binding {
            source: &source,
            key: method.routing_key,
            arguments: method.arguments,
        };
        check_not_default(&source)?;
        if self.exchanges.contains_key(&source) && self.queues.contains_key(&queue) {
            self.queue(&queue, by)?;
            self.unbind(binding, Destination::Queue(queue));
        }
        Ok(())
    }

    /// How many messages went.
    pub(crate) fn purge(&mut self, queue: &[u8], by: ConnectionKey, _now: Instant) -> Result<u32, Refusal> {
        let ready = self.queue(queue, by)?.take_all();
        let mut count = 0_u32;
        for entry in ready {
            count = count.saturating_add(1);
            self.forget(entry.envelope.size);
        }
        self.retime(queue);
        Ok(count)
    }

    /// How many messages went with it.
    pub(crate) fn delete_queue(
        &mut self,
        method: &QueueDelete<'_>,
        by: ConnectionKey,
        _now: Instant,
    ) -> Result<u32, Refusal> {
        let name = clean(method.queue);
        if !self.queues.contains_key(&name) {
            return Ok(0);
        }
        let queue = self.queue(&name, by)?;
        let (is_empty, is_unused) = (queue.is_empty(), queue.consumers.is_empty());
        let resource = self.queue_resource(&name);
        if method.if_empty && !is_empty {
            return Err(Refusal::precondition_failed(format_args!("{resource} not empty")));
        }
        if method.if_unused && !is_unused {
            return Err(Refusal::precondition_failed(format_args!("{resource} in use")));
        }
        Ok(self.remove_queue(&name))
    }

    /// A connection ended: its exclusive queues go. Its consumers were cancelled and its messages requeued before.
    pub(crate) fn forget_connection(&mut self, connection: ConnectionKey, _now: Instant) {
        let owned = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.owner == Some(connection));
        let owned: Vec<Name> = owned.map(|(name, _)| name.clone()).collect();
        for name in owned {
            self.remove_queue(&name);
        }
    }

    /// The queue goes, with its messages, its consumers and its bindings. How many messages there were.
    pub(super) fn remove_queue(&mut self, name: &[u8]) -> u32 {
        let Some((name, queue)) = self.queues.remove_entry(name) else {
            return 0;
        };
        if let Some(deadline) = queue.timer {
            self.timers.remove(&(deadline, name.clone()));
        }
        self.forget(queue.memory());
        let count = count(queue.len());
        self.cancelled.extend(queue.consumers.into_keys());
        self.unbind_gone(Destination::Queue(name));
        count
    }

    /// Takes away the bindings to what is gone, and the auto-delete exchanges that had no other.
    fn unbind_gone(&mut self, gone: Destination) {
        let mut gone = vec![gone];
        while let Some(destination) = gone.pop() {
            let mut ended = Vec::new();
            for (name, exchange) in &mut self.exchanges {
                let is_last = exchange.retain_bindings(|other| *other != destination);
                if is_last && exchange.auto_delete {
                    ended.push(name.clone());
                }
            }
            for name in ended {
                self.exchanges.remove(&name);
                gone.push(Destination::Exchange(name));
            }
        }
    }

    fn bind(&mut self, binding: Binding<'_>, destination: Destination) -> Result<(), Refusal> {
        let key = Name::copy_from_slice(binding.key.as_bytes());
        if let Some(exchange) = self.exchanges.get_mut(binding.source) {
            exchange.check_binding(binding.arguments)?;
            exchange.bind(key, destination, binding.arguments);
        }
        Ok(())
    }

    fn unbind(&mut self, binding: Binding<'_>, destination: Destination) {
        let Some(exchange) = self.exchanges.get_mut(binding.source) else {
            return;
        };
        let is_last = exchange.unbind(binding.key.as_bytes(), destination, binding.arguments);
        if is_last
            && exchange.auto_delete
            && let Some((name, _)) = self.exchanges.remove_entry(binding.source)
        {
            self.unbind_gone(Destination::Exchange(name));
        }
    }

    /// It is used now.
    fn declared(&mut self, name: Name, now: Instant) -> Result<Declared, Refusal> {
        let Some(queue) = self.queues.get_mut(&name) else {
            return Err(Refusal::not_found(self.queue_resource(&name)));
        };
        queue.used = now;
        let declared = Declared {
            messages: count(queue.len()),
            consumers: count(queue.consumers.len()),
            queue: name,
        };
        self.retime(&declared.queue);
        Ok(declared)
    }

    fn generate_name(&mut self) -> Name {
        loop {
            let name = Name::from(generated("amq.gen-", self.names));
            self.names = self.names.wrapping_add(1);
            if !self.queues.contains_key(&name) {
                return name;
            }
        }
    }

    pub(super) fn exchange(&self, name: &[u8]) -> Result<&Exchange, Refusal> {
        let exchange = self.exchanges.get(name);
        exchange.ok_or_else(|| Refusal::not_found(self.exchange_resource(name)))
    }

    /// A queue that the connection may use.
    pub(super) fn queue(&mut self, name: &[u8], by: ConnectionKey) -> Result<&mut Queue, Refusal> {
        let resource = resource(&self.name, "queue", name);
        let queue = self
            .queues
            .get_mut(name)
            .ok_or_else(|| Refusal::not_found(resource))?;
        if queue.owner.is_some_and(|owner| owner != by) {
            return Err(locked(resource));
        }
        Ok(queue)
    }

    pub(super) fn exchange_resource<'a>(&'a self, name: &'a [u8]) -> Resource<'a> {
        resource(&self.name, "exchange", name)
    }

    pub(super) fn queue_resource<'a>(&'a self, name: &'a [u8]) -> Resource<'a> {
        resource(&self.name, "queue", name)
    }
}

/// For when the virtual host is borrowed otherwise.
pub(super) const fn resource<'a>(virtual_host: &'a str, kind: &'static str, name: &'a [u8]) -> Resource<'a> {
    Resource {
        kind,
        name,
        virtual_host,
    }
}

/// The wire counts in 32 bits.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A name to declare, without line ends: RabbitMQ takes these out.
fn clean(name: ShortStr<'_>) -> Name {
    let octets = name.as_bytes().iter().copied();
    octets.filter(|octet| !matches!(octet, b'\r' | b'\n')).collect()
}

fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(b"amq.")
}

fn check_not_reserved(kind: &str, name: &[u8]) -> Result<(), Refusal> {
    if !is_reserved(name) {
        return Ok(());
    }
    let name = Text(name);
    Err(Refusal::access_refused(format_args!(
        "{kind} name '{name}' contains reserved prefix 'amq.*'"
    )))
}

fn check_not_default(exchange: &[u8]) -> Result<(), Refusal> {
    if exchange.is_empty() {
        return Err(Refusal::access_refused(
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

/// A quorum queue is for all, and stays.
fn check_quorum(method: &QueueDeclare<'_>, queue: Resource<'_>) -> Result<(), Refusal> {
    for (is_wrong, property) in [
        (method.auto_delete, "auto-delete"),
        (method.exclusive, "exclusive-owner"),
        (!method.durable, "non-durable"),
    ] {
        if is_wrong {
            return Err(Refusal::precondition_failed(format_args!(
                "invalid property '{property}' for {queue}"
            )));
        }
    }
    Ok(())
}

fn locked(queue: Resource<'_>) -> Refusal {
    Refusal::channel(
        ReplyCode::RESOURCE_LOCKED,
        format_args!(
            "cannot obtain exclusive access to locked {queue}. It could be originally declared on another \
             connection or the exclusive property value does not match that of the original declaration."
        ),
    )
}
