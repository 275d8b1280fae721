//! Exchanges, bindings and queues.

use std::collections::BTreeSet;
use std::time::Duration;

use amqp_mio::ChannelRef;
use amqp_mio::proto::wire::{
    BasicPublish, ExchangeBind, ExchangeDeclare, ExchangeDelete, ExchangeUnbind, FieldTable, FieldTableRef,
    Properties, QueueBind, QueueDeclare, QueueDelete, QueueUnbind, ReplyCode,
};
use amqp_mio::proto::{ConfirmOutcome, Overflow, QueueArguments};

use super::World;
use super::client::{Client, from, passive, peer, short, to};

/// A client with a queue to see what arrives.
struct Routes {
    client: Client,
    channel: ChannelRef,
    queue: String,
}

impl Routes {
    fn new(world: &World) -> Self {
        let mut client = world.connect();
        let (channel, queue) = client.queue();
        Self {
            client,
            channel,
            queue,
        }
    }

    /// Goes with its last binding.
    fn exchange(&mut self, exchange_type: &str, name: &str) {
        let declare = ExchangeDeclare {
            exchange: short(name),
            exchange_type: short(exchange_type),
            auto_delete: true,
            ..Default::default()
        };
        self.client.ask(self.channel, &declare).unwrap();
    }

    fn bind(&mut self, exchange: &str, routing_key: &str, arguments: FieldTableRef<'_>) {
        let bind = QueueBind {
            queue: short(&self.queue),
            exchange: short(exchange),
            routing_key: short(routing_key),
            arguments,
            ..Default::default()
        };
        self.client.ask(self.channel, &bind).unwrap();
    }

    fn unbind(&mut self, exchange: &str, routing_key: &str) {
        let unbind = QueueUnbind {
            queue: short(&self.queue),
            exchange: short(exchange),
            routing_key: short(routing_key),
            ..Default::default()
        };
        self.client.ask(self.channel, &unbind).unwrap();
    }

    fn publish(&mut self, exchange: &str, routing_key: &str, headers: &FieldTable, body: &str) {
        let publish = BasicPublish {
            exchange: short(exchange),
            routing_key: short(routing_key),
            ..Default::default()
        };
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        let outcome = self.client.publish(self.channel, &publish, &properties, body);
        assert_eq!(outcome, ConfirmOutcome::Acked);
    }

    /// What is in the queue.
    fn taken(&mut self) -> BTreeSet<String> {
        let mut bodies = BTreeSet::new();
        while let Some(got) = self.client.get(self.channel, &self.queue) {
            self.client.on(self.channel, |view| view.ack(got.tag)).unwrap();
            bodies.insert(String::from_utf8(got.message.body().to_vec()).unwrap());
        }
        bodies
    }
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(crate) fn direct_topic_and_fanout_route_by_key(world: World) {
    let mut routes = Routes::new(&world);
    let [direct, topic, fanout] = ["direct", "topic", "fanout"].map(|kind| {
        let name = world.name(kind);
        routes.exchange(kind, &name);
        name
    });
    let nothing = FieldTable::new();
    for severity in ["warning", "error"] {
        routes.bind(&direct, severity, nothing.as_ref());
    }
    routes.bind(&topic, "kern.*", nothing.as_ref());
    routes.bind(&fanout, "", nothing.as_ref());
    for severity in ["info", "warning", "error"] {
        routes.publish(&direct, severity, &nothing, severity);
    }
    for key in ["kern.critical", "cron.info", "kern.a.b"] {
        routes.publish(&topic, key, &nothing, key);
    }
    routes.publish(&fanout, "whatever", &nothing, "to all");
    let expected = set(&["warning", "error", "kern.critical", "to all"]);
    assert_eq!(routes.taken(), expected);
    routes.unbind(&direct, "error");
    routes.publish(&direct, "error", &nothing, "error");
    assert_eq!(routes.taken(), set(&[]));
    routes.client.close();
}

pub(crate) fn headers_route_by_headers(world: World) {
    let mut routes = Routes::new(&world);
    let name = world.name("headers");
    routes.exchange("headers", &name);
    let arguments = FieldTable::new()
        .with("x-match", "any")
        .and_then(|table| table.with("format", "pdf"))
        .and_then(|table| table.with("pages", 3_i64))
        .unwrap();
    routes.bind(&name, "", arguments.as_ref());
    let one = |name, value: &str| FieldTable::new().with(name, value).unwrap();
    routes.publish(&name, "", &one("format", "pdf"), "pdf");
    let three = FieldTable::new().with("pages", 3_i64).unwrap();
    routes.publish(&name, "", &three, "three pages");
    routes.publish(&name, "", &one("format", "zip"), "zip");
    assert_eq!(routes.taken(), set(&["pdf", "three pages"]));
    routes.client.close();
}

pub(crate) fn an_exchange_can_be_bound_to_another(world: World) {
    let mut routes = Routes::new(&world);
    let (first, second) = (world.name("first"), world.name("second"));
    routes.exchange("topic", &first);
    routes.exchange("fanout", &second);
    let nothing = FieldTable::new();
    routes.bind(&second, "", nothing.as_ref());
    let bind = ExchangeBind {
        destination: short(&second),
        source: short(&first),
        routing_key: short("passed.#"),
        ..Default::default()
    };
    routes.client.ask(routes.channel, &bind).unwrap();
    routes.publish(&first, "passed.on", &nothing, "one");
    routes.publish(&first, "kept", &nothing, "two");
    assert_eq!(routes.taken(), set(&["one"]));
    let unbind = ExchangeUnbind {
        destination: short(&second),
        source: short(&first),
        routing_key: short("passed.#"),
        ..Default::default()
    };
    routes.client.ask(routes.channel, &unbind).unwrap();
    // It went with its last binding.
    let look = ExchangeDeclare {
        exchange: short(&first),
        passive: true,
        ..Default::default()
    };
    let result = routes.client.ask(routes.channel, &look);
    assert_eq!(peer(result).code, ReplyCode::NOT_FOUND);
    routes.client.close();
}

pub(crate) fn queues_are_purged_and_deleted_as_asked(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let name = world.name("durable queue");
    let declare = QueueDeclare {
        queue: short(&name),
        durable: true,
        ..Default::default()
    };
    let declared = client.declare(channel, &declare).unwrap();
    assert_eq!(declared.name, name);
    assert_eq!((declared.message_count, declared.consumer_count), (0, 0));
    for _ in 0..3 {
        client.send(channel, &name, "");
    }
    let again = client.declare(channel, &declare).unwrap();
    assert_eq!(again.message_count, 3);
    let other = client.channel();
    let mut delete = QueueDelete {
        queue: short(&name),
        if_unused: true,
        if_empty: true,
        ..Default::default()
    };
    let refused = peer(client.ask(other, &delete));
    assert_eq!(refused.code, ReplyCode::PRECONDITION_FAILED);
    assert_eq!(client.purge(channel, &name), 3);
    client.send(channel, &name, "");
    delete.if_empty = false;
    let deleted = client.ask_for(channel, &delete, |ok| ok.message_count);
    assert_eq!(deleted.unwrap(), 1);
    client.close();
}

pub(crate) fn exchanges_are_deleted_as_asked(world: World) {
    let mut routes = Routes::new(&world);
    let name = world.name("exchange");
    let declare = ExchangeDeclare {
        exchange: short(&name),
        durable: true,
        ..Default::default()
    };
    routes.client.ask(routes.channel, &declare).unwrap();
    routes.bind(&name, "key", FieldTable::new().as_ref());
    let other = routes.client.channel();
    let mut delete = ExchangeDelete {
        exchange: short(&name),
        if_unused: true,
        ..Default::default()
    };
    let refused = peer(routes.client.ask(other, &delete));
    assert_eq!(refused.code, ReplyCode::PRECONDITION_FAILED);
    delete.if_unused = false;
    routes.client.ask(routes.channel, &delete).unwrap();
    routes.client.close();
}

/// The long example of aio-pika's documentation.
/// The program keeps what it declared by.
pub(crate) fn a_queue_is_declared_again_as_it_was(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let (name, arguments) = (
        world.name("queue"),
        FieldTable::new().with("x-max-length", 5_i64).unwrap(),
    );
    let declare = QueueDeclare {
        queue: short(&name),
        exclusive: true,
        auto_delete: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
    client.send(channel, &name, "x");
    assert_eq!(client.declare(channel, &declare).unwrap().message_count, 1);
    let delete = QueueDelete {
        queue: short(&name),
        if_unused: true,
        ..Default::default()
    };
    let deleted = client.ask_for(channel, &delete, |ok| ok.message_count);
    assert_eq!(deleted, Ok(1));
    let again = client.declare(channel, &declare).unwrap();
    assert_eq!((again.message_count, again.consumer_count), (0, 0));
    // It has its length, it is exclusive, and it is deleted with its last consumer.
    for number in 0..6_u8 {
        client.send(channel, &name, [number]);
    }
    let counted = client.declare(channel, &passive(&name)).unwrap();
    assert_eq!(counted.message_count, 5);
    let mut stranger = world.connect();
    let theirs = stranger.channel();
    let refused = peer(stranger.declare(theirs, &passive(&name)));
    assert_eq!(refused.code, ReplyCode::RESOURCE_LOCKED);
    stranger.close();
    let consumer = client.consume(channel, &from(&name)).unwrap();
    client.cancel(channel, consumer.id);
    let gone = peer(client.declare(channel, &passive(&name)));
    assert_eq!(gone.code, ReplyCode::NOT_FOUND);
    client.close();
}

pub(crate) fn a_message_goes_all_the_way(world: World) {
    let mut routes = Routes::new(&world);
    let (exchange, key) = (world.name("direct"), world.name("key"));
    routes.exchange("direct", &exchange);
    routes.queue = world.name("queue");
    let declare = QueueDeclare {
        queue: short(&routes.queue),
        durable: true,
        auto_delete: true,
        ..Default::default()
    };
    routes.client.declare(routes.channel, &declare).unwrap();
    routes.bind(&exchange, &key, FieldTable::new().as_ref());
    let headers = FieldTable::new().with("foo", "bar").unwrap();
    routes.publish(&exchange, &key, &headers, "Hello");
    let got = routes.client.get(routes.channel, &routes.queue).unwrap();
    assert_eq!(
        (got.message.body().to_vec(), got.message_count),
        (b"Hello".to_vec(), 0)
    );
    let arrived = got.message.properties().headers.unwrap();
    assert_eq!(arrived.get("foo").unwrap().unwrap().as_str(), Some("bar"));
    routes
        .client
        .on(routes.channel, |view| view.ack(got.tag))
        .unwrap();
    routes.unbind(&exchange, &key);
    let consumer = routes
        .client
        .consume(routes.channel, &from(&routes.queue))
        .unwrap();
    routes.client.cancel(routes.channel, consumer.id);
    // It went with its last consumer.
    let look = passive(&routes.queue);
    let gone = peer(routes.client.declare(routes.channel, &look));
    assert_eq!(gone.code, ReplyCode::NOT_FOUND);
    routes.client.close();
}

pub(crate) fn arguments_have_names(world: World) {
    let mut client = world.connect();
    let (channel, parked) = client.queue();
    let arguments = QueueArguments::classic()
        .max_length(1)
        .overflow(Overflow::RejectPublish)
        .max_priority(3)
        .message_ttl(Duration::from_secs(3600));
    let table = FieldTable::from(arguments);
    let declare = QueueDeclare {
        exclusive: true,
        arguments: table.as_ref(),
        ..Default::default()
    };
    let classic = client.declare(channel, &declare).unwrap().name;
    client.send(channel, &classic, "fits");
    let outcome = client.publish(channel, &to(&classic), &Properties::default(), "does not");
    assert_eq!(outcome, ConfirmOutcome::Nacked);

    let arguments = QueueArguments::quorum()
        .delivery_limit(1)
        .dead_letter_exchange("")
        .dead_letter_routing_key(&parked);
    let table = FieldTable::from(arguments);
    let quorum = world.name("quorum");
    let declare = QueueDeclare {
        queue: short(&quorum),
        durable: true,
        arguments: table.as_ref(),
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
    client.send(channel, &quorum, "poison");
    let consumer = client.consume(channel, &from(&quorum)).unwrap();
    for _ in 0..2 {
        // Against its limit RabbitMQ 4 counts a reject, and not a nack.
        let delivery = client.wait(&consumer.deliveries);
        client
            .on(channel, |view| view.core()?.reject(delivery.tag, true))
            .unwrap();
    }
    let rest = client.consume(channel, &from(&parked)).unwrap();
    let delivery = client.wait(&rest.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"poison");
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    let delete = QueueDelete {
        queue: short(&quorum),
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    client.close();
}
