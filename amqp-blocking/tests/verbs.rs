//! Each verb reaches the broker as it is meant, on the embedded broker.

mod world;

use std::time::Duration;

use amqp_blocking::proto::Secret;
use amqp_blocking::proto::wire::ReplyCode;
use amqp_blocking::{
    ConsumeOptions, Delivery, Error, ExchangeOptions, FieldTable, GetMessage, PublishError, Qos, QueueOptions,
};
use world::{LONG, World};

/// So many of the queue's messages.
fn take(world: &World, count: usize) -> Vec<Delivery> {
    let get = || world.channel.basic_get("q", false).unwrap().unwrap();
    (0..count).map(|_| get().delivery).collect()
}

fn bodies(deliveries: &[Delivery]) -> Vec<u8> {
    deliveries.iter().map(|delivery| delivery.body()[0]).collect()
}

#[test]
fn one_settlement_can_be_for_all_before_it() {
    let world = World::new(6);
    let mut first = take(&world, 3);
    let last = first.pop().unwrap();
    // They are no longer their own to settle.
    let [_, _] = [0, 1].map(|_| first.pop().unwrap().into_tag());
    last.ack_multiple().unwrap();
    let mut next = take(&world, 3);
    assert_eq!(bodies(&next), [3, 4, 5]);
    let last = next.pop().unwrap().into_tag();
    let middle = next.pop().unwrap().into_tag();
    let _first = next.pop().unwrap().into_tag();
    world.channel.basic_nack(middle, true, true).unwrap();
    assert_eq!(bodies(&take(&world, 2)), [3, 4]);
    world.channel.basic_ack(last, false).unwrap();
    assert_eq!(world.left(), Some(2));
}

#[test]
fn what_is_refused_goes_back_or_is_gone() {
    let world = World::new(4);
    let [first, second, third, fourth] = take(&world, 4).try_into().unwrap();
    assert_eq!(first.message().routing_key().to_str(), Ok("q"));
    first.nack(true).unwrap();
    second.nack(false).unwrap();
    let tag = third.tag();
    assert_eq!(third.into_tag(), tag);
    world.channel.basic_reject(tag, false).unwrap();
    fourth.reject(true).unwrap();
    let back = take(&world, 2);
    assert_eq!(bodies(&back), [0, 3]);
    assert!(back.iter().all(Delivery::is_redelivered));
    drop(back);
    assert_eq!(world.left(), Some(2));
}

#[test]
fn what_is_not_settled_is_given_back_if_asked() {
    let world = World::new(2);
    for delivery in take(&world, 2) {
        let _kept = delivery.into_tag();
    }
    assert!(world.channel.basic_get("q", false).unwrap().is_none());
    world.channel.basic_recover().unwrap();
    assert_eq!(bodies(&take(&world, 2)), [0, 1]);
    assert_eq!(world.left(), Some(2));
}

#[test]
fn no_more_comes_than_the_prefetch_before_it_is_settled() {
    let world = World::new(3);
    world.channel.basic_qos(Qos::prefetch(2)).unwrap();
    let mut consumer = world.channel.consume("q", ConsumeOptions::default()).unwrap();
    assert_eq!(consumer.channel().number(), world.channel.number());
    let mut next = || consumer.next_within(LONG).unwrap().unwrap();
    let [first, second] = [next(), next()];
    // The answer to a request would come behind the third.
    world.channel.flow(true).unwrap();
    assert_eq!(world.broker.queue_len("/", "q"), Some(1));
    first.ack().unwrap();
    assert_eq!(*next().body(), [2]);
    drop(second);
    assert_eq!(world.left(), Some(2));
}

#[test]
fn a_binding_has_its_arguments() {
    let world = World::new(0);
    let table = |value: &str| {
        let mut table = FieldTable::new();
        table.insert("format", value).unwrap();
        table
    };
    let pdf = table("pdf");
    let channel = &world.channel;
    channel
        .exchange_declare("documents", "headers", ExchangeOptions::default())
        .unwrap();
    channel.queue_bind_with("q", "documents", "", &pdf).unwrap();
    let publish = |headers: FieldTable| {
        let message = amqp_blocking::Message::new("document").headers(headers);
        channel.basic_publish("documents", "", message)
    };
    publish(pdf.clone()).unwrap();
    let is_returned = |published| matches!(published, Err(PublishError::Returned(_)));
    assert!(is_returned(publish(table("zip"))));
    channel.queue_unbind("q", "documents", "", &pdf).unwrap();
    assert!(is_returned(publish(pdf)));
    assert_eq!(world.left(), Some(1));
}

#[test]
fn what_is_in_use_is_deleted_only_if_that_is_meant() {
    let world = World::new(1);
    let refused = |if_unused, if_empty| {
        let channel = world.connection.channel().unwrap();
        let error = channel.queue_delete("q", if_unused, if_empty).unwrap_err();
        assert_eq!(error.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);
        assert!(!channel.is_open());
    };
    refused(false, true);
    let consumer = world.channel.consume("q", ConsumeOptions::default()).unwrap();
    assert!(!consumer.tag().is_empty());
    refused(true, false);
    assert_eq!(consumer.cancel().unwrap(), 1);
    assert_eq!(world.channel.queue_delete("q", true, false), Ok(1));

    world
        .channel
        .exchange_declare("x", "fanout", ExchangeOptions::default())
        .unwrap();
    world.channel.queue_declare("q", QueueOptions::default()).unwrap();
    world.channel.queue_bind("q", "x", "").unwrap();
    let other = world.connection.channel().unwrap();
    let error = other.exchange_delete("x", true).unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::PRECONDITION_FAILED);
    world.channel.exchange_delete("x", false).unwrap();
    let lost = world.channel.basic_publish("x", "", "lost");
    assert!(
        matches!(lost, Err(PublishError::Lost(Error::ChannelClosed(_)))),
        "{lost:?}"
    );
    assert_eq!(world.left(), Some(0));
}

#[test]
fn an_exchange_is_as_it_was_declared() {
    let world = World::new(0);
    let options = ExchangeOptions::default;
    let mut arguments = FieldTable::new();
    arguments.insert("alternate-exchange", "amq.fanout").unwrap();
    for (name, declared) in [
        ("durable", options().durable(true)),
        ("passing", options().auto_delete(true)),
        ("internal", options().internal(true)),
        ("alternative", options().arguments(arguments)),
    ] {
        let again = || world.connection.channel().unwrap();
        world
            .channel
            .exchange_declare(name, "direct", declared.clone())
            .unwrap();
        again().exchange_declare(name, "direct", declared).unwrap();
        again()
            .exchange_declare(name, "direct", options().passive(true))
            .unwrap();
        let error = again().exchange_declare(name, "direct", options()).unwrap_err();
        assert_eq!(
            error.peer().unwrap().code,
            ReplyCode::PRECONDITION_FAILED,
            "{name}"
        );
    }
    let error = world
        .channel
        .exchange_declare("missing", "direct", options().passive(true))
        .unwrap_err();
    assert_eq!(error.peer().unwrap().code, ReplyCode::NOT_FOUND);
    assert_eq!(world.left(), Some(0));
}

#[test]
fn without_acknowledgements_nothing_is_left_to_settle() {
    let world = World::new(2);
    let GetMessage { delivery, .. } = world.channel.basic_get("q", true).unwrap().unwrap();
    drop(delivery);
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = world.channel.consume("q", options).unwrap();
    drop(consumer.next_within(LONG).unwrap().unwrap());
    assert_eq!(consumer.cancel().unwrap(), 0);
    assert_eq!(world.left(), Some(0));
}

#[test]
fn a_connection_says_what_it_agreed_on_and_what_it_did() {
    let world = World::new(0);
    let connection = &world.connection;
    assert_eq!(connection.negotiated(), connection.asynchronous().negotiated());
    let before = connection.counters();
    world.channel.basic_publish("", "q", "counted").unwrap();
    assert_ne!(connection.counters(), before);
    connection
        .update_secret(&Secret::from("renewed"), "it expires")
        .unwrap();
    assert_eq!(connection.queued_bytes(), 0);

    let now = world.broker.now();
    world.broker.with(|broker| {
        let key = broker.connections()[0].key;
        broker.set_deaf(key, now, true);
    });
    let hasty = world.channel.with_timeout(Duration::from_millis(100));
    while hasty.basic_publish_unconfirmed("", "q", vec![0; 100_000]).is_ok() {}
    assert!(connection.queued_bytes() > 100_000);
    assert!(connection.is_open());
}
