//! Streams, and what they have not: a way back, and conditions for their end. The embedded broker has no streams.

use std::cell::Cell;
use std::rc::Rc;

use amqp_mio::proto::wire::{BasicConsume, FieldTable, QueueDeclare, QueueDelete, ReplyCode};
use amqp_mio::proto::{Channel, CloseReason, ConsumerId, Delivery, DeliveryTag, SendError};
use amqp_mio::{ChannelRef, Connector, Ctx, Recovery, RecoveryReport};

use super::World;
use super::client::{
    Client, Consumer, PATIENCE, Told, durable, from, own_queue, passive, peer, prefetch, short,
    until_declared,
};
use super::operator::Operator;
use super::recovery::Survivor;

/// How a delivery is refused.
type Refuse = fn(&mut Channel<'_>, DeliveryTag) -> Result<(), SendError>;

/// A queue of that type, which outlives its connection.
fn declare(client: &mut Client, channel: ChannelRef, name: &str, queue_type: &str) {
    let arguments = FieldTable::new().with("x-queue-type", queue_type).unwrap();
    let declare = QueueDeclare {
        arguments: arguments.as_ref(),
        ..durable(name)
    };
    client.declare(channel, &declare).unwrap();
}

/// A stream with so many messages, and a channel with that prefetch limit.
fn stream(client: &mut Client, world: &World, prefetch_count: u16, messages: u8) -> (ChannelRef, String) {
    let (channel, name) = (client.channel(), world.name("stream"));
    client.ask(channel, &prefetch(prefetch_count)).unwrap();
    declare(client, channel, &name, "stream");
    for number in 0..messages {
        client.send(channel, &name, [number]);
    }
    (channel, name)
}

fn from_the_first() -> FieldTable {
    FieldTable::new().with("x-stream-offset", "first").unwrap()
}

fn consume(client: &mut Client, channel: ChannelRef, name: &str) -> Consumer {
    let offset = from_the_first();
    let consume = BasicConsume {
        arguments: offset.as_ref(),
        ..from(name)
    };
    client.consume(channel, &consume).unwrap()
}

fn next(client: &mut Client, deliveries: &Told<Delivery>, number: u8) -> Delivery {
    let delivery = client.wait(deliveries);
    assert_eq!(delivery.message.body().to_vec(), [number]);
    delivery
}

fn ack(client: &mut Client, channel: ChannelRef, delivery: &Delivery) {
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
}

fn refuse(client: &mut Client, channel: ChannelRef, delivery: &Delivery, how: Refuse) {
    let refused = client.on(channel, |view| how(&mut view.core()?, delivery.tag));
    assert_eq!(refused, Err(SendError::StreamDelivery));
}

pub(crate) fn what_a_stream_does_not_take_back_is_acknowledged(world: World) {
    let refusals: [Refuse; 6] = [
        |core, tag| core.nack(tag, true),
        |core, tag| core.nack(tag, false),
        |core, tag| core.reject(tag, true),
        |core, tag| core.reject(tag, false),
        |core, tag| core.nack_multiple(tag, true),
        |core, tag| core.nack_multiple(tag, false),
    ];
    let mut client = world.connect();
    // The next message comes when the one before it is settled, and not before.
    let (channel, name) = stream(&mut client, &world, 1, 7);
    let consumer = consume(&mut client, channel, &name);
    for (number, how) in (0..).zip(refusals) {
        let delivery = next(&mut client, &consumer.deliveries, number);
        refuse(&mut client, channel, &delivery, how);
        client.declare(channel, &passive(&name)).unwrap();
        assert_eq!(consumer.deliveries.len(), 0);
        ack(&mut client, channel, &delivery);
    }
    let last = next(&mut client, &consumer.deliveries, 6);
    ack(&mut client, channel, &last);
    client.cancel(channel, consumer.id);
    client.delete(channel, &name);
    client.close();
}

/// A consumer that ends in its first callback; what comes before the broker knows that is settled as it comes, or told.
fn end_at_once(client: &mut Client, channel: ChannelRef, name: &str, is_told: bool) -> Consumer {
    let (cancelled, deliveries) = (Told::new(), Told::new());
    let (cancel, delivery) = (cancelled.clone(), deliveries.clone());
    let mut is_first = true;
    let on_message = move |ctx: &mut Ctx<'_, ()>, channel, told: Delivery| {
        let mut view = ctx.channel(channel).unwrap();
        if std::mem::take(&mut is_first) {
            assert_eq!(told.message.body().to_vec(), [0]);
            let cancel = cancel.clone();
            view.cancel(told.consumer, move |ctx, _, result| cancel.tell(ctx, result))
                .unwrap();
        }
        match is_told {
            true => delivery.tell(ctx, told),
            false => view.ack(told.tag).unwrap(),
        }
    };
    let offset = from_the_first();
    let consume = BasicConsume {
        arguments: offset.as_ref(),
        ..from(name)
    };
    let id = client
        .on(channel, |view| view.consume(&consume, on_message))
        .unwrap();
    client.wait(&cancelled).unwrap();
    Consumer { id, deliveries }
}

pub(crate) fn a_streams_consumer_may_end_at_any_time(world: World) {
    let mut client = world.connect();
    let (channel, name) = stream(&mut client, &world, 50, 200);
    for round in 0..10 {
        let consumer = match round % 3 {
            0 => {
                let consumer = consume(&mut client, channel, &name);
                let first = next(&mut client, &consumer.deliveries, 0);
                client.cancel(channel, consumer.id);
                ack(&mut client, channel, &first);
                consumer
            }
            1 => end_at_once(&mut client, channel, &name, true),
            _ => end_at_once(&mut client, channel, &name, false),
        };
        // It has ended, and can be settled nevertheless.
        while let Some(delivery) = consumer.deliveries.pop() {
            refuse(&mut client, channel, &delivery, |core, tag| core.nack(tag, true));
            ack(&mut client, channel, &delivery);
        }
    }
    // The broker's default is the end of the stream.
    let consumer = client.consume(channel, &from(&name)).unwrap();
    client.send(channel, &name, [201]);
    let new = next(&mut client, &consumer.deliveries, 201);
    ack(&mut client, channel, &new);
    client.cancel(channel, consumer.id);
    let counted = client.declare(channel, &passive(&name)).unwrap();
    assert_eq!(counted.consumer_count, 0);
    client.delete(channel, &name);
    let report = client.shut_down(PATIENCE);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
}

pub(crate) fn an_ordinary_queue_beside_a_stream_gets_its_messages_back(world: World) {
    let mut client = world.connect();
    let (channel, name) = stream(&mut client, &world, 1, 1);
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    client.send(channel, &queue, [9]);
    let from_stream = consume(&mut client, channel, &name);
    let from_queue = client.consume(channel, &from(&queue)).unwrap();
    let held = next(&mut client, &from_stream.deliveries, 0);
    let first = next(&mut client, &from_queue.deliveries, 9);
    client.on(channel, |view| view.nack(first.tag, true)).unwrap();
    let again = next(&mut client, &from_queue.deliveries, 9);
    assert!(again.redelivered);
    // That would be for the one from the stream too.
    refuse(&mut client, channel, &again, |core, tag| {
        core.nack_multiple(tag, true)
    });
    client.on(channel, |view| view.nack(again.tag, true)).unwrap();
    let again = next(&mut client, &from_queue.deliveries, 9);
    client.on(channel, |view| view.nack(again.tag, false)).unwrap();
    client.cancel(channel, from_queue.id);
    assert_eq!(client.get(channel, &queue), None);
    ack(&mut client, channel, &held);
    client.cancel(channel, from_stream.id);
    client.delete(channel, &name);
    client.close();
}

pub(crate) fn quorum_queues_and_streams_are_deleted_without_conditions(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    for queue_type in ["quorum", "stream"] {
        let name = world.name(queue_type);
        declare(&mut client, channel, &name, queue_type);
        client.send(channel, &name, [0]);
        let delete_if_empty = QueueDelete {
            queue: short(&name),
            if_empty: true,
            ..Default::default()
        };
        let mut other = world.connect();
        let asking = other.channel();
        let deleted = other.ask(asking, &delete_if_empty);
        if queue_type == "quorum" {
            deleted.unwrap_err();
            let reason = other.closed();
            assert_eq!(reason.peer().unwrap().code, ReplyCode::NOT_IMPLEMENTED);
            assert_eq!(client.delete(channel, &name), 1);
        } else {
            deleted.unwrap();
            let is_there = client.declare(channel, &passive(&name));
            assert_eq!(peer(is_there).code, ReplyCode::NOT_FOUND, "it is gone");
            other.close();
        }
    }
    client.close();
}

/// What was settled does not come again, and all else does.
pub(crate) fn after_an_operator_closed_it_a_stream_goes_on_without_gap_or_repeat(world: World) {
    let (report, before, after) = go_on_after(&world, |operator| {
        operator.close_all_connections("come again");
    });
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(before, after);
}

/// At first the broker knows nothing of its stream, so that it cannot be consumed from when all else is there again.
pub(crate) fn after_the_broker_was_killed_a_stream_goes_on_without_gap_or_repeat(world: World) {
    go_on_after(&world, |operator| operator.kill());
}

/// Reads a stream in its order.
struct Reader {
    channel: ChannelRef,
    name: String,
    deliveries: Told<Delivery>,
    /// Of the first message that is not settled; none before there is one that is.
    offset: Cell<Option<i64>>,
}

impl Reader {
    /// Reads on when the consumer has ended, and forgets what has come and was not looked at: it comes again.
    fn begin(client: &mut Client, channel: ChannelRef, name: &str) -> Rc<Self> {
        let reader = Rc::new(Self {
            channel,
            name: name.to_owned(),
            deliveries: Told::new(),
            offset: Cell::new(None),
        });
        let (lost, cancelled) = (Rc::clone(&reader), Rc::clone(&reader));
        client.connection(|view| {
            view.on_lost(move |_, _, _| lost.forget());
        });
        client.on(channel, |view| {
            view.on_cancel(move |ctx, _, _| {
                cancelled.forget();
                Rc::clone(&cancelled).go_on(ctx);
            })
            .unwrap();
        });
        reader.consume(&mut client.event_loop().context());
        reader
    }

    fn forget(&self) {
        while self.deliveries.pop().is_some() {}
    }

    fn consume(&self, ctx: &mut Ctx<'_, ()>) {
        let offset = match self.offset.get() {
            Some(offset) => FieldTable::new().with("x-stream-offset", offset).unwrap(),
            None => from_the_first(),
        };
        let consume = BasicConsume {
            arguments: offset.as_ref(),
            ..from(&self.name)
        };
        let delivery = self.deliveries.clone();
        let mut view = ctx.channel(self.channel).unwrap();
        view.consume(&consume, move |ctx, _, told| delivery.tell(ctx, told))
            .unwrap();
    }

    /// When the stream is there.
    fn go_on(self: Rc<Self>, ctx: &mut Ctx<'_, ()>) {
        let (connection, name) = (self.channel.connection(), self.name.clone());
        let is_there = move |ctx: &mut Ctx<'_, ()>| self.consume(ctx);
        until_declared(ctx, connection, passive, name, |_, _| {}, is_there);
    }

    fn next(&self, client: &mut Client, number: u8) -> Delivery {
        let delivery = next(client, &self.deliveries, number);
        let headers = delivery.message.properties().headers.unwrap();
        let offset = headers.get("x-stream-offset").unwrap().unwrap();
        assert_eq!(offset.as_i64(), Some(number.into()));
        delivery
    }

    /// Settles the next one.
    fn take(&self, client: &mut Client, number: u8) -> ConsumerId {
        let delivery = self.next(client, number);
        ack(client, self.channel, &delivery);
        self.offset.set(Some(i64::from(number) + 1));
        delivery.consumer
    }
}

/// What was not there again at once, and the consumers of the first message and of the last one.
fn go_on_after<T: Send + 'static>(
    world: &World,
    deed: impl FnOnce(Operator) -> T + Send + 'static,
) -> (RecoveryReport, ConsumerId, ConsumerId) {
    let connector = Connector::from_uri(&world.url).unwrap();
    let mut survivor = Survivor::connect(&connector, Recovery::default());
    let client = &mut survivor.client;
    let (channel, name) = stream(client, world, 10, 30);
    let reader = Reader::begin(client, channel, &name);
    let before = reader.take(client, 0);
    for number in 1..5 {
        reader.take(client, number);
    }
    // Settled behind a gap: it comes again, since a stream is read in order.
    let unsettled = reader.next(client, 5);
    let behind = reader.next(client, 6);
    ack(client, channel, &behind);

    let operator = world.operator.clone();
    let done = client.meanwhile(move || deed(operator));
    let report = client.wait(&survivor.recovered);
    client.meanwhile(move || drop(done));
    for unrestored in &report.unrestored {
        assert!(unrestored.what.contains(&name), "{unrestored:?}");
    }
    let settled = client.on(channel, |view| view.ack(unsettled.tag));
    assert_eq!(settled, Err(SendError::Stale));
    for number in 5..30 {
        reader.take(client, number);
    }
    client.send(channel, &name, [30]);
    let after = reader.take(client, 30);
    client.cancel(channel, after);
    assert_eq!(reader.deliveries.len(), 0);
    client.delete(channel, &name);
    client.close();
    (report, before, after)
}
