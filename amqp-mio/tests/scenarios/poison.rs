//! Messages that fail again and again.

use std::cell::Cell;
use std::rc::Rc;

use amqp_mio::proto::wire::{FieldTable, FieldTableRef, FieldValue, Properties, QueueDeclare};
use amqp_mio::proto::{ConfirmOutcome, ConsumerId, Delivery, Message};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{Client, Told, durable, exclusive, from, mandatory, short, table, to};

/// How often a message may be tried here.
const MOST: u64 = 3;

/// What becomes of deliveries whose handler fails.
#[derive(Clone)]
pub(super) struct Policy {
    /// How often a message may be delivered.
    pub(super) most: u64,
    /// Until then it goes back to its queue; otherwise it is dead-lettered each time.
    pub(super) requeue: bool,
    /// Of its deaths, only those in this queue count.
    pub(super) counting_in: Option<String>,
    /// Where it goes in the end, instead of being dead-lettered.
    pub(super) parking: Option<String>,
}

/// What became of a delivery.
#[derive(Debug, PartialEq)]
enum Processed {
    Failed,
    /// It was put away, and the handler was not called.
    Poison,
    /// Nor was it here.
    NotPutAway(ConfirmOutcome),
}

impl Policy {
    pub(super) const fn after(most: u64) -> Self {
        Self {
            most,
            requeue: false,
            counting_in: None,
            parking: None,
        }
    }

    /// How often it was delivered before, by all that brokers tell.
    fn earlier(&self, delivery: &Delivery) -> u64 {
        let message = &delivery.message;
        let counted = count(message, "x-delivery-count").max(count(message, "x-acquired-count"));
        let told = counted.unwrap_or(0) + deaths(message, self.counting_in.as_deref());
        told.max(u64::from(delivery.redelivered))
    }

    fn is_poison(&self, delivery: &Delivery) -> bool {
        self.earlier(delivery) >= self.most
    }

    /// Calls the handler, which fails, unless it was delivered often enough before.
    fn process(
        &self,
        ctx: &mut Ctx<'_, ()>,
        channel: ChannelRef,
        delivery: &Delivery,
        handler: impl FnOnce(),
        done: impl FnOnce(&mut Ctx<'_, ()>, Processed) + 'static,
    ) {
        if self.is_poison(delivery) {
            self.put_away(ctx, channel, delivery, |ctx, result| {
                let processed = result.map_or_else(Processed::NotPutAway, |()| Processed::Poison);
                done(ctx, processed);
            });
        } else {
            handler();
            self.failed(ctx, channel, delivery, |ctx| done(ctx, Processed::Failed));
        }
    }

    /// Its handler has failed.
    pub(super) fn failed(
        &self,
        ctx: &mut Ctx<'_, ()>,
        channel: ChannelRef,
        delivery: &Delivery,
        done: impl FnOnce(&mut Ctx<'_, ()>) + 'static,
    ) {
        if self.earlier(delivery) + 1 >= self.most {
            self.put_away(ctx, channel, delivery, |ctx, _| done(ctx));
        } else {
            let mut view = ctx.channel(channel).unwrap();
            view.nack(delivery.tag, self.requeue).unwrap();
            done(ctx);
        }
    }

    /// What cannot be parked goes back.
    fn put_away(
        &self,
        ctx: &mut Ctx<'_, ()>,
        channel: ChannelRef,
        delivery: &Delivery,
        done: impl FnOnce(&mut Ctx<'_, ()>, Result<(), ConfirmOutcome>) + 'static,
    ) {
        let (tag, mut view) = (delivery.tag, ctx.channel(channel).unwrap());
        let Some(parking) = &self.parking else {
            view.nack(tag, false).unwrap();
            return done(ctx, Ok(()));
        };
        let headers = headers_to_be_parked(&delivery.message);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..delivery.message.properties()
        };
        let body = delivery.message.body();
        // First it is in the other queue: a failure in between leaves two of them, never none.
        let confirmed = move |ctx: &mut Ctx<'_, ()>, channel, outcome| {
            let mut view = ctx.channel(channel).unwrap();
            if outcome == ConfirmOutcome::Acked {
                view.ack(tag).unwrap();
                done(ctx, Ok(()));
            } else {
                view.nack(tag, true).unwrap();
                done(ctx, Err(outcome));
            }
        };
        view.publish_confirmed(&mandatory(parking), &properties, &*body, confirmed)
            .unwrap();
    }
}

/// Without what counts in its queue, and with the key it came by.
fn headers_to_be_parked(message: &Message) -> FieldTable {
    let headers = message.properties().headers.unwrap_or_default();
    let mut headers = headers.to_owned().unwrap();
    headers.remove("x-delivery-count");
    headers.remove("x-acquired-count");
    let key = FieldValue::LongStr(message.routing_key().as_bytes());
    headers.with("x-original-routing-key", key).unwrap()
}

fn count(message: &Message, header: &str) -> Option<u64> {
    let count = message.properties().headers?.get(header).unwrap()?;
    Some(u64::try_from(count.as_i64().unwrap()).unwrap())
}

/// How often it died of having failed, in that queue or in all.
fn deaths(message: &Message, queue: Option<&str>) -> u64 {
    let headers = message.properties().headers.unwrap_or_default();
    let Some(FieldValue::Array(deaths)) = headers.get("x-death").unwrap() else {
        return 0;
    };
    let counts = deaths.iter().map(|death| {
        let death = death.unwrap().as_table().unwrap();
        let is_failure = ["rejected", "delivery_limit"].contains(&text(death, "reason"));
        let is_here = queue.is_none_or(|queue| text(death, "queue") == queue);
        let count = death.get("count").unwrap().unwrap().as_i64().unwrap();
        u64::from(is_failure && is_here) * u64::try_from(count).unwrap()
    });
    counts.sum()
}

fn text<'t>(table: FieldTableRef<'t>, key: &str) -> &'t str {
    table.get(key).unwrap().unwrap().as_str().unwrap()
}

/// A handler that always fails, on a channel of its own.
struct Failing {
    channel: ChannelRef,
    consumer: ConsumerId,
    calls: Rc<Cell<u64>>,
    /// What was settled.
    processed: Told<Processed>,
}

fn fail(client: &mut Client, queue: &str, policy: Policy) -> Failing {
    let (channel, calls, processed) = (client.channel(), Rc::new(Cell::new(0)), Told::new());
    let (count, told) = (Rc::clone(&calls), processed.clone());
    let on_message = move |ctx: &mut Ctx<'_, ()>, channel, delivery| {
        let handler = || count.set(count.get() + 1);
        let told = told.clone();
        policy.process(ctx, channel, &delivery, handler, move |ctx, what| {
            told.tell(ctx, what);
        });
    };
    let consumer = client.consume_by(channel, &from(queue), on_message).unwrap();
    Failing {
        channel,
        consumer,
        calls,
        processed,
    }
}

impl Failing {
    /// Takes nothing more, and waits until all that was taken is settled.
    fn stop(self, client: &mut Client) {
        client.cancel(self.channel, self.consumer);
        for _ in 0..self.calls.get() {
            assert_eq!(client.wait(&self.processed), Processed::Failed);
        }
        client.close_channel(self.channel);
        assert_eq!(self.processed.len(), 0);
    }
}

/// A queue that counts, and that dead-letters into the other one.
fn declare_quorum(client: &mut Client, channel: ChannelRef, queue: &str, dead: &str, limit: i64) {
    let arguments = table(&[
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", limit.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.into()),
    ]);
    let declare = QueueDeclare {
        arguments: arguments.as_ref(),
        ..durable(queue)
    };
    client.declare(channel, &declare).unwrap();
}

pub(crate) fn what_fails_too_often_is_dead_lettered(world: World) {
    let mut client = world.connect();
    let (channel, dead) = client.queue();
    let queue = world.name("work");
    declare_quorum(&mut client, channel, &queue, &dead, 10);
    let policy = Policy {
        requeue: true,
        ..Policy::after(MOST)
    };
    let failing = fail(&mut client, &queue, policy);
    client.send(channel, &queue, "poison");

    let consumer = client.consume(channel, &from(&dead)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(failing.calls.get(), 3);
    assert_eq!(delivery.message.body().to_vec(), b"poison");
    assert_eq!(deaths(&delivery.message, None), 1);
    assert_eq!(deaths(&delivery.message, Some(&queue)), 1);
    assert_eq!(deaths(&delivery.message, Some(&dead)), 0);
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    failing.stop(&mut client);
    assert_eq!(client.delete(channel, &queue), 0);
    client.close();
}

pub(crate) fn what_fails_too_often_is_parked_and_then_acknowledged(world: World) {
    let mut client = world.connect();
    let (channel, parked) = client.queue();
    let queue = world.name("work");
    declare_quorum(&mut client, channel, &queue, &world.name("nowhere"), 10);
    let policy = Policy {
        requeue: true,
        parking: Some(parked.clone()),
        ..Policy::after(MOST)
    };
    let failing = fail(&mut client, &queue, policy);
    let headers = table(&[("mine", 7_i64.into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        content_type: Some(short("text/plain")),
        ..Default::default()
    };
    let outcome = client.publish(channel, &to(&queue), &properties, "poison");
    assert_eq!(outcome, ConfirmOutcome::Acked);

    let consumer = client.consume(channel, &from(&parked)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(failing.calls.get(), 3);
    let message = &delivery.message;
    assert_eq!(message.body().to_vec(), b"poison");
    assert_eq!(
        (count(message, "x-delivery-count"), deaths(message, None)),
        (None, 0)
    );
    let properties = message.properties();
    assert_eq!(properties.content_type, Some(short("text/plain")));
    let headers = properties.headers.unwrap();
    assert_eq!(headers.get("mine").unwrap().unwrap().as_i64(), Some(7));
    assert_eq!(text(headers, "x-original-routing-key"), queue);
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    failing.stop(&mut client);
    // The closed channel has given back all that was not settled.
    assert_eq!(client.get(channel, &queue), None);
    assert_eq!(client.delete(channel, &queue), 0);
    client.close();
}

pub(crate) fn a_cycle_of_dead_letters_ends_after_so_many_rounds(world: World) {
    let mut client = world.connect();
    let (channel, parked) = client.queue();
    let (work, retry) = (world.name("work"), world.name("retry"));
    let to_work = table(&[
        ("x-message-ttl", 1_i64.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", work.as_str().into()),
    ]);
    let to_retry = table(&[
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", retry.as_str().into()),
    ]);
    for (queue, arguments) in [(&retry, &to_work), (&work, &to_retry)] {
        let declare = QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(queue)
        };
        client.declare(channel, &declare).unwrap();
    }
    let policy = Policy {
        counting_in: Some(work.clone()),
        parking: Some(parked.clone()),
        ..Policy::after(MOST)
    };
    let failing = fail(&mut client, &work, policy);
    client.send(channel, &work, "poison");

    let consumer = client.consume(channel, &from(&parked)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(failing.calls.get(), 3);
    // It was parked instead of being rejected for the third time.
    assert_eq!(deaths(&delivery.message, Some(&work)), 2);
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    failing.stop(&mut client);
    client.close();
}

pub(crate) fn what_a_queue_gave_up_says_so(world: World) {
    let mut client = world.connect();
    let (channel, dead) = client.queue();
    let queue = world.name("work");
    declare_quorum(&mut client, channel, &queue, &dead, 2);
    client.send(channel, &queue, "poison");

    let consumer = client.consume(channel, &from(&queue)).unwrap();
    for earlier in 0..=2_u64 {
        let delivery = client.wait(&consumer.deliveries);
        let told = count(&delivery.message, "x-delivery-count");
        assert_eq!(told.unwrap_or(0), earlier);
        assert!(!Policy::after(MOST).is_poison(&delivery));
        client
            .on(channel, |view| view.core()?.reject(delivery.tag, true))
            .unwrap();
    }
    let consumer = client.consume(channel, &from(&dead)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(deaths(&delivery.message, Some(&queue)), 1);
    assert!(Policy::after(1).is_poison(&delivery));
    assert!(!Policy::after(2).is_poison(&delivery));
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    client.delete(channel, &queue);
    client.close();
}

pub(crate) fn what_cannot_be_parked_goes_back(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    client.send(channel, &queue, "poison");
    let got = client.get(channel, &queue).unwrap();
    client
        .on(channel, |view| view.core()?.reject(got.tag, true))
        .unwrap();

    let nowhere = Policy {
        parking: Some(world.name("nowhere")),
        ..Policy::after(1)
    };
    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let expected = [
        (&nowhere, Processed::NotPutAway(ConfirmOutcome::Returned)),
        (&nowhere, Processed::NotPutAway(ConfirmOutcome::Returned)),
        (&Policy::after(1), Processed::Poison),
    ];
    for (policy, expected) in expected {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), b"poison");
        let processed = Told::new();
        let (told, handler) = (processed.clone(), || panic!("it is not to be called"));
        let mut ctx = client.event_loop().context();
        policy.process(&mut ctx, channel, &delivery, handler, move |ctx, what| {
            told.tell(ctx, what);
        });
        assert_eq!(client.wait(&processed), expected);
    }
    assert_eq!(client.purge(channel, &queue), 0);
    assert_eq!(consumer.deliveries.len(), 0);
    client.close();
}
