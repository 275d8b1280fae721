//! Where messages go that nobody wants any more, and what is written on them.

use amqp_proto::wire::*;

use crate::session::{Received, Session, args, exclusive, publish, short};
use crate::world::World;

/// A queue whose dead letters go to another one; the names of both.
pub(crate) fn dead_lettering<const N: usize>(
    world: &World,
    session: &mut Session,
    arguments: [(&str, FieldValue<'_>); N],
) -> (String, String) {
    let (queue, dead) = (world.name("q"), world.name("dead"));
    session.queue(&dead);
    let mut table = args(arguments);
    table.insert("x-dead-letter-exchange", "").unwrap();
    table.insert("x-dead-letter-routing-key", dead.as_str()).unwrap();
    session.call(&QueueDeclare {
        arguments: table.as_ref(),
        ..exclusive(&queue)
    });
    (queue, dead)
}

/// The entries of `x-death`, their fields by name and without the time.
fn deaths(message: &Received) -> Vec<String> {
    let Some(FieldValue::Array(deaths)) = message.header("x-death") else {
        panic!("no x-death: {:?}", message.properties());
    };
    let entry = |death: FieldValue<'_>| {
        let mut fields = Vec::new();
        for entry in death.as_table().unwrap() {
            let (name, value) = entry.unwrap();
            if name == "time" {
                assert!(matches!(value, FieldValue::Timestamp(_)), "{value:?}");
                fields.push("time".to_owned());
            } else {
                fields.push(format!("{name}={value:?}"));
            }
        }
        fields.sort();
        fields.join(" ")
    };
    deaths.iter().map(|death| entry(death.unwrap())).collect()
}

/// Exchange and routing key.
fn envelope(message: &Received) -> (&str, &str) {
    let Method::BasicGetOk(got) = message.method() else {
        panic!("no basic.get-ok: {message}");
    };
    (got.exchange.to_str().unwrap(), got.routing_key.to_str().unwrap())
}

/// The headers about the first death.
fn first_death(message: &Received) -> [String; 3] {
    ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"].map(|name| {
        let value = message.header(name).unwrap();
        value.as_str().unwrap().to_owned()
    })
}

pub(crate) fn a_rejected_message(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.put(&queue, "m");
    let got = session.get(&queue);
    session.send(&BasicReject {
        delivery_tag: got.delivery_tag(),
        requeue: false,
    });
    let letter = session.take_soon(&dead);
    assert_eq!(envelope(&letter), ("", &*dead));
    // RabbitMQ 4 says so after a reject, not after a nack. Not imitated.
    assert_eq!(letter.is_redelivered(), world.by_release(false, true) && !world.is_embedded());
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="" queue="{queue}" reason="rejected" routing-keys=["{queue}"] time"#
        )]
    );
    assert_eq!(first_death(&letter), ["", &queue, "rejected"]);
    session.close();
}

pub(crate) fn a_nacked_message(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    for body in ["a", "b", "c"] {
        session.put(&queue, body);
    }
    session.get(&queue);
    let second = session.get(&queue);
    session.nack(second.delivery_tag(), true, false);
    for body in ["a", "b"] {
        assert_eq!(session.take_soon(&dead).body(), body);
    }
    assert_eq!(session.drain(&queue), ["c"]);
    session.close();
}

pub(crate) fn an_acknowledged_or_requeued_message_is_none(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.put(&queue, "a");
    session.put(&queue, "b");
    let got = session.get(&queue);
    session.ack(got.delivery_tag());
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, true);
    assert_eq!(session.drain(&queue), ["b"]);
    assert_eq!(session.take(&dead), None);
    session.close();
}

pub(crate) fn an_expired_message(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.consume(&dead, "dead");
    let properties = Properties {
        expiration: Some(short("100")),
        ..Default::default()
    };
    session.publish_with(&publish("", &queue), &properties, "m");
    let letter = session.next();
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="" original-expiration="100" queue="{queue}" reason="expired" routing-keys=["{queue}"] time"#
        )]
    );
    assert_eq!(first_death(&letter), ["", &queue, "expired"]);
    assert_eq!(letter.properties().expiration, None);
    session.close();
}

pub(crate) fn a_message_that_was_too_much(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, [("x-max-length", 1.into())]);
    session.put(&queue, "a");
    session.put(&queue, "b");
    session.get(&queue);
    let letter = session.take_soon(&dead);
    assert_eq!(letter.body(), "a");
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="" queue="{queue}" reason="maxlen" routing-keys=["{queue}"] time"#
        )]
    );
    assert_eq!(first_death(&letter), ["", &queue, "maxlen"]);
    session.close();
}

pub(crate) fn without_a_key_of_its_own_it_keeps_the_messages(world: &World) {
    let mut session = world.connect();
    let (exchange, queue, dead) = (world.name("x"), world.name("q"), world.name("dead"));
    session.exchange(&exchange, "direct");
    session.queue(&dead);
    session.bind(&dead, &exchange, "key");
    session.queue_with(&queue, [("x-dead-letter-exchange", exchange.as_str().into())]);
    session.bind(&queue, "amq.direct", &queue);
    session.bind(&dead, &exchange, &queue);
    session.publish("amq.direct", &queue, "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    let letter = session.take_soon(&dead);
    assert_eq!(envelope(&letter), (&*exchange, &*queue));
    assert!(!letter.is_redelivered());
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="amq.direct" queue="{queue}" reason="rejected" routing-keys=["{queue}"] time"#
        )]
    );
    session.close();
}

pub(crate) fn without_an_exchange_it_is_lost(world: &World) {
    let mut session = world.connect();
    let (queue, missing) = (world.name("q"), world.name("missing"));
    session.queue_with(&queue, [("x-dead-letter-exchange", missing.as_str().into())]);
    session.put(&queue, "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    assert_eq!(session.take(&queue), None);
    session.expect_nothing();
    session.close();
}

pub(crate) fn its_properties_stay(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    let headers = args([("mine", "kept".into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        delivery_mode: Some(2),
        correlation_id: Some(short("c")),
        ..Default::default()
    };
    session.publish_with(&publish("", &queue), &properties, "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    let letter = session.take_soon(&dead);
    assert_eq!(letter.header("mine").unwrap().as_str(), Some("kept"));
    assert_eq!(letter.properties().delivery_mode, Some(2));
    assert_eq!(letter.properties().correlation_id, Some(short("c")));
    session.close();
}

pub(crate) fn deaths_in_another_queue_come_in_front(world: &World) {
    let mut session = world.connect();
    let (second, dead) = dead_lettering(world, &mut session, []);
    let first = world.name("q");
    session.queue_with(
        &first,
        [
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", second.as_str().into()),
        ],
    );
    session.put(&first, "m");
    for queue in [&first, &second] {
        let got = session.get_soon(queue);
        session.nack(got.delivery_tag(), false, false);
    }
    let letter = session.take_soon(&dead);
    assert_eq!(
        deaths(&letter),
        [
            format!(r#"count=1 exchange="" queue="{second}" reason="rejected" routing-keys=["{second}"] time"#),
            format!(r#"count=1 exchange="" queue="{first}" reason="rejected" routing-keys=["{first}"] time"#),
        ]
    );
    assert_eq!(first_death(&letter), ["", &first, "rejected"]);
    session.close();
}

pub(crate) fn deaths_in_the_same_queue_are_counted(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.put(&queue, "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    let letter = session.take_soon(&dead);
    // Sent again by a client, with its headers.
    session.publish_with(&publish("", &queue), &letter.properties(), "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    let letter = session.take_soon(&dead);
    let again = format!(r#"count=2 exchange="" queue="{queue}" reason="rejected" routing-keys=["{queue}"] time"#);
    let once = again.replace("count=2", "count=1");
    assert_eq!(deaths(&letter), [world.by_release(again, once)]);
    session.close();
}

pub(crate) fn a_circle_of_expiries_ends(world: &World) {
    let mut session = world.connect();
    let (one, two) = (world.name("q"), world.name("q"));
    for (queue, next) in [(&one, &two), (&two, &one)] {
        session.queue_with(
            queue,
            [
                ("x-message-ttl", 50.into()),
                ("x-dead-letter-exchange", "".into()),
                ("x-dead-letter-routing-key", next.as_str().into()),
            ],
        );
    }
    let (watch, watched) = dead_lettering(world, &mut session, [("x-message-ttl", 500.into())]);
    session.consume(&watched, "t");
    session.put(&one, "goes round once");
    session.put(&watch, "long after");
    assert_eq!(session.delivery().1, "long after");
    session.expect_count(&one, (0, 0));
    session.expect_count(&two, (0, 0));
    session.close();
}

pub(crate) fn a_circle_with_a_rejection_goes_on(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(
        &queue,
        [
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", queue.as_str().into()),
        ],
    );
    session.put(&queue, "m");
    for round in 1..=3 {
        let got = session.get_soon(&queue);
        assert!(!got.is_redelivered());
        if round > 1 {
            let count = round - 1;
            assert_eq!(
                deaths(&got),
                [format!(
                    r#"count={count} exchange="" queue="{queue}" reason="rejected" routing-keys=["{queue}"] time"#
                )]
            );
        }
        session.nack(got.delivery_tag(), false, false);
    }
    session.close();
}

pub(crate) fn copies_are_in_the_routing_keys(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    let mut copies = FieldArray::new();
    copies.push("copy").unwrap();
    let mut blind = FieldArray::new();
    blind.push("blind").unwrap();
    let headers = args([("CC", (&copies).into()), ("BCC", (&blind).into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    session.publish_with(&publish("", &queue), &properties, "m");
    let got = session.get(&queue);
    session.nack(got.delivery_tag(), false, false);
    let letter = session.take_soon(&dead);
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="" queue="{queue}" reason="rejected" routing-keys=["{queue}", "copy"] time"#
        )]
    );
    let kept = letter.header("CC").is_some();
    assert_eq!(kept, world.by_release(false, true));
    session.close();
}

pub(crate) fn purged_and_deleted_messages_are_no_dead_letters(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.put(&queue, "purged");
    session.call(&QueuePurge {
        queue: short(&queue),
        ..Default::default()
    });
    session.put(&queue, "deleted");
    session.call(&QueueDelete {
        queue: short(&queue),
        ..Default::default()
    });
    assert_eq!(session.take(&dead), None);
    session.close();
}

/// A durable quorum queue with a delivery limit of 2 and a queue for its dead letters.
fn quorum_queue(world: &World, session: &mut Session) -> (String, String) {
    let (queue, dead) = (world.lasting("q"), world.name("dead"));
    session.queue(&dead);
    let arguments = args([
        ("x-queue-type", "quorum".into()),
        ("x-delivery-limit", 2.into()),
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
    ]);
    session.call(&QueueDeclare {
        queue: short(&queue),
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    });
    (queue, dead)
}

pub(crate) fn a_message_delivered_too_often(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = quorum_queue(world, &mut session);
    session.consume(&dead, "dead");
    session.put(&queue, "m");
    session.flush();
    let mut counts = Vec::new();
    for _ in 0..3 {
        let mut other = world.connect();
        other.consume(&queue, "t");
        let message = other.next();
        counts.push(message.header("x-delivery-count").map(|count| count.as_i64().unwrap()));
        // Requeueing it does not count in RabbitMQ 4.
        drop(other);
    }
    let letter = session.next();
    assert_eq!(counts, [None, Some(1), Some(2)]);
    assert_eq!(
        deaths(&letter),
        [format!(
            r#"count=1 exchange="" queue="{queue}" reason="delivery_limit" routing-keys=["{queue}"] time"#
        )]
    );
    assert_eq!(first_death(&letter), ["", &queue, "delivery_limit"]);
    session.close();
}
