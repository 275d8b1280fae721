//! Scenarios, through the virtual host's own interface.

mod consumers;
mod dead_letters;
mod exchanges;
mod lifetimes;
mod limits;
mod queues;
mod routing;

use std::collections::BTreeMap;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{Instant, Message};

use super::*;
use crate::refusal::{Refusal, Scope};

const ME: ConnectionKey = ConnectionKey(1);
const OTHER: ConnectionKey = ConnectionKey(2);

fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

fn table<'v>(entries: &[(&str, FieldValue<'v>)]) -> FieldTable {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert(key, *value).unwrap();
    }
    table
}

fn array(items: &[&str]) -> FieldArray {
    let mut array = FieldArray::new();
    for item in items {
        array.push(*item).unwrap();
    }
    array
}

fn text(text: &str) -> FieldValue<'_> {
    FieldValue::from(text)
}

fn at(millis: u64) -> Instant {
    Instant::since_epoch(Duration::from_millis(millis))
}

fn key(tag: &str) -> ConsumerKey {
    ConsumerKey {
        connection: ME,
        channel: 1,
        tag: Name::copy_from_slice(tag.as_bytes()),
    }
}

/// Takes as many deliveries as a consumer has room for; no limit unless one is set.
#[derive(Debug, Default)]
struct FakeSink {
    room: BTreeMap<ConsumerKey, usize>,
    delivered: Vec<(String, Entry)>,
}

impl FakeSink {
    fn with_room(rooms: &[(&str, usize)]) -> Self {
        Self {
            room: rooms.iter().map(|(tag, room)| (key(tag), *room)).collect(),
            delivered: Vec::new(),
        }
    }

    /// Who got what since the last time: `tag:body`.
    fn take(&mut self) -> Vec<String> {
        let delivered = std::mem::take(&mut self.delivered);
        delivered
            .into_iter()
            .map(|(tag, entry)| format!("{tag}:{}", body(&entry.message)))
            .collect()
    }

    fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.delivered)
            .into_iter()
            .map(|(_, entry)| entry)
            .collect()
    }
}

impl Sink for FakeSink {
    fn has_room(&self, consumer: &ConsumerKey) -> bool {
        self.room.get(consumer).is_none_or(|room| *room > 0)
    }

    fn deliver(&mut self, consumer: &ConsumerKey, entry: Entry) {
        if let Some(room) = self.room.get_mut(consumer) {
            *room -= 1;
        }
        let tag = String::from_utf8(consumer.tag.to_vec()).unwrap();
        self.delivered.push((tag, entry));
    }
}

fn body(message: &Message) -> String {
    String::from_utf8(message.body().into_owned()).unwrap()
}

/// A virtual host `/` and shorthands for it.
struct Scene {
    host: VirtualHost,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self::of(Release::V4)
    }

    fn of(release: Release) -> Self {
        Self {
            host: VirtualHost::new("/", release),
            now: at(0),
        }
    }

    fn exchange(&mut self, name: &str, kind: &str) {
        self.try_exchange(&ExchangeDeclare {
            exchange: short(name),
            exchange_type: short(kind),
            ..Default::default()
        })
        .unwrap();
    }

    fn try_exchange(&mut self, method: &ExchangeDeclare<'_>) -> Result<(), Refusal> {
        self.host.declare_exchange(method)
    }

    fn queue(&mut self, name: &str) {
        self.queue_with(name, &[]);
    }

    fn queue_with(&mut self, name: &str, arguments: &[(&str, FieldValue<'_>)]) {
        self.try_queue_with(name, arguments).unwrap();
    }

    fn try_queue_with(
        &mut self,
        name: &str,
        arguments: &[(&str, FieldValue<'_>)],
    ) -> Result<Declared, Refusal> {
        let arguments = table(arguments);
        self.try_queue(&QueueDeclare {
            queue: short(name),
            durable: true,
            arguments: arguments.as_ref(),
            ..Default::default()
        })
    }

    fn try_queue(&mut self, method: &QueueDeclare<'_>) -> Result<Declared, Refusal> {
        self.host.declare_queue(method, ME, self.now)
    }

    fn passive(&mut self, name: &str) -> Result<Declared, Refusal> {
        self.try_queue(&QueueDeclare {
            queue: short(name),
            passive: true,
            ..Default::default()
        })
    }

    fn bind(&mut self, queue: &str, exchange: &str, key: &str) {
        self.bind_with(queue, exchange, key, &[]).unwrap();
    }

    fn bind_with(
        &mut self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: &[(&str, FieldValue<'_>)],
    ) -> Result<(), Refusal> {
        let arguments = table(arguments);
        let method = QueueBind {
            queue: short(queue),
            exchange: short(exchange),
            routing_key: short(key),
            arguments: arguments.as_ref(),
            ..Default::default()
        };
        self.host.bind_queue(&method, ME, self.now)
    }

    fn unbind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), Refusal> {
        let method = QueueUnbind {
            queue: short(queue),
            exchange: short(exchange),
            routing_key: short(key),
            ..Default::default()
        };
        self.host.unbind_queue(&method, ME, self.now)
    }

    fn bind_exchange(&mut self, destination: &str, source: &str, key: &str) -> Result<(), Refusal> {
        self.host.bind_exchange(&ExchangeBind {
            destination: short(destination),
            source: short(source),
            routing_key: short(key),
            ..Default::default()
        })
    }

    fn unbind_exchange(&mut self, destination: &str, source: &str, key: &str) -> Result<(), Refusal> {
        self.host.unbind_exchange(&ExchangeUnbind {
            destination: short(destination),
            source: short(source),
            routing_key: short(key),
            ..Default::default()
        })
    }

    fn delete_exchange(&mut self, name: &str) -> Result<(), Refusal> {
        self.host.delete_exchange(&ExchangeDelete {
            exchange: short(name),
            ..Default::default()
        })
    }

    fn delete_queue(&mut self, name: &str) -> Result<u32, Refusal> {
        let method = QueueDelete {
            queue: short(name),
            ..Default::default()
        };
        self.host.delete_queue(&method, ME, self.now)
    }

    fn publish(&mut self, exchange: &str, key: &str, body: &str) -> Published {
        self.publish_with(exchange, key, body, &Properties::default())
            .unwrap()
    }

    fn publish_with(
        &mut self,
        exchange: &str,
        key: &str,
        body: &str,
        properties: &Properties<'_>,
    ) -> Result<Published, Refusal> {
        let message = Message::new(short(exchange), short(key), properties, body.as_bytes()).unwrap();
        let addressed = self.host.address(&message)?;
        Ok(self.host.publish(&addressed, self.now))
    }

    fn consume(&mut self, queue: &str, tag: &str) {
        self.consume_with(queue, tag, false, &[]).unwrap();
    }

    fn consume_with(
        &mut self,
        queue: &str,
        tag: &str,
        exclusive: bool,
        arguments: &[(&str, FieldValue<'_>)],
    ) -> Result<(), Refusal> {
        let arguments = table(arguments);
        let method = BasicConsume {
            queue: short(queue),
            consumer_tag: short(tag),
            exclusive,
            arguments: arguments.as_ref(),
            ..Default::default()
        };
        self.host.consume(&method, key(tag), self.now)
    }

    fn get(&mut self, queue: &str) -> Option<Entry> {
        let got = self.host.get(queue.as_bytes(), ME, self.now).unwrap();
        got.map(|(entry, _)| entry)
    }

    fn dispatch(&mut self, sink: &mut FakeSink) -> Vec<String> {
        self.host.dispatch(self.now, sink);
        sink.take()
    }

    /// Until then: all deadlines on the way.
    fn pass(&mut self, until: u64) {
        while let Some(deadline) = self.host.next_deadline()
            && deadline <= at(until)
        {
            self.now = deadline;
            self.host.expire(deadline);
        }
        self.now = at(until);
        self.host.expire(self.now);
    }

    /// The bodies that are ready in a queue.
    fn bodies(&self, queue: &str) -> Vec<String> {
        let messages = self.host.messages(queue.as_bytes()).unwrap();
        messages.iter().map(body).collect()
    }

    /// The first message of a queue.
    fn head(&self, queue: &str) -> Message {
        self.host.messages(queue.as_bytes()).unwrap().remove(0)
    }
}

/// What a message says in that header.
fn header(message: &Message, key: &str) -> Option<String> {
    let headers = message.properties().headers?;
    headers.get(key).unwrap().map(|value| format!("{value:?}"))
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (u16, String) {
    let refusal = result.unwrap_err();
    assert_eq!(refusal.scope, Scope::Channel);
    (refusal.code.0, refusal.text)
}
