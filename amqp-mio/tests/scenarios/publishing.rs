//! Publishing, and learning what became of it.

use amqp_mio::proto::ConfirmOutcome;
use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, FieldTable, Properties, QueueDeclare, ReplyCode, TxCommit, TxRollback,
    TxSelect,
};

use super::World;
use super::client::{Told, from, short, to};

fn mandatory(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        mandatory: true,
        ..to(queue)
    }
}

pub(crate) fn a_message_is_confirmed_delivered_and_acknowledged(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    client.send(channel, &queue, "Hello");

    let consumer = client.consume(channel, &from(&queue)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"Hello");
    assert_eq!(delivery.message.routing_key().to_string(), queue);
    assert!(delivery.message.exchange().is_empty());
    assert!(!delivery.redelivered);
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    client.cancel(channel, &consumer);
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}

pub(crate) fn a_mandatory_message_that_no_queue_gets_comes_back(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let returns = Told::new();
    let returned = returns.clone();
    client.on(channel, |view| {
        view.on_return(move |ctx, _, message| returned.tell(ctx, message.clone()))
            .unwrap();
    });
    let nowhere = world.name("nowhere");
    let outcome = client.publish(channel, &mandatory(&nowhere), &Properties::default(), "nobody");
    assert_eq!(outcome, ConfirmOutcome::Returned);
    let returned = client.wait(&returns);
    assert_eq!(
        (returned.code, &*returned.text),
        (ReplyCode::NO_ROUTE, "NO_ROUTE")
    );
    assert_eq!(returned.message.body().to_vec(), b"nobody");
    // And the channel goes on.
    let outcome = client.publish(channel, &mandatory(&queue), &Properties::default(), "somebody");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    client.close();
}

pub(crate) fn an_optional_message_that_no_queue_gets_is_confirmed(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let nowhere = world.name("nowhere");
    let outcome = client.publish(channel, &to(&nowhere), &Properties::default(), "nobody");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    client.close();
}

pub(crate) fn every_property_arrives(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let headers = FieldTable::new()
        .with("text", "value")
        .and_then(|table| table.with("number", 7_i64))
        .unwrap();
    let properties = Properties {
        content_type: Some(short("text/plain")),
        content_encoding: Some(short("identity")),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(Properties::PERSISTENT),
        priority: Some(3),
        correlation_id: Some(short("correlation")),
        reply_to: Some(short("reply")),
        expiration: Some(short("3600000")),
        message_id: Some(short("id")),
        timestamp: Some(1_700_000_000),
        message_type: Some(short("kind")),
        user_id: Some(short("guest")),
        app_id: Some(short("app")),
        cluster_id: Some(short("cluster")),
    };
    let outcome = client.publish(channel, &to(&queue), &properties, "body");
    assert_eq!(outcome, ConfirmOutcome::Acked);
    let got = client.get(channel, &queue).unwrap();
    let arrived = got.message.properties();
    // RabbitMQ 4 sends headers in an order of its own.
    let table = arrived.headers.unwrap();
    assert_eq!(table.get("text").unwrap().unwrap().as_str(), Some("value"));
    assert_eq!(table.get("number").unwrap().unwrap().as_i64(), Some(7));
    let without_headers = |properties| Properties {
        headers: None,
        ..properties
    };
    assert_eq!(without_headers(arrived), without_headers(properties));
    client.on(channel, |view| view.ack(got.tag)).unwrap();
    client.close();
}

pub(crate) fn bodies_of_any_size_arrive(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let frame = client.connection(|view| view.core().unwrap().negotiated().frame_max);
    let frame = usize::try_from(frame).unwrap();
    for size in [0, 1, 4095, 4096, frame - 8, frame - 7, 1_000_000] {
        let octet = |place: usize| u8::try_from(place % 251).unwrap();
        let body: Vec<u8> = (0..size).map(octet).collect();
        client.send(channel, &queue, &body);
        let got = client.get(channel, &queue).unwrap();
        assert!(got.message.body().to_vec() == body, "{size} octets");
        client.on(channel, |view| view.ack(got.tag)).unwrap();
    }
    client.close();
}

/// Every fifth goes nowhere and comes back.
pub(crate) fn of_4000_pipelined_publishes_each_learns_its_own_outcome(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let nowhere = world.name("nowhere");
    let outcomes = Told::new();
    for number in 0..4000_u32 {
        let target = if number % 5 == 4 { &nowhere } else { &queue };
        let outcome = outcomes.clone();
        client.on(channel, |view| {
            let body = number.to_be_bytes();
            let properties = Properties::default();
            view.publish_confirmed(&mandatory(target), &properties, &body[..], move |ctx, _, told| {
                outcome.tell(ctx, (number, told));
            })
            .unwrap();
        });
    }
    let mut told = vec![0; 4000];
    let mut returned = 0;
    for _ in 0..4000 {
        let (number, outcome) = client.wait(&outcomes);
        told[usize::try_from(number).unwrap()] += 1;
        returned += u32::from(outcome == ConfirmOutcome::Returned);
        let expected = if number % 5 == 4 {
            ConfirmOutcome::Returned
        } else {
            ConfirmOutcome::Acked
        };
        assert_eq!(outcome, expected, "{number}");
    }
    assert_eq!((told, returned), (vec![1; 4000], 800));
    assert_eq!(client.purge(channel, &queue), 3200);
    client.close();
}

fn own_queue() -> QueueDeclare<'static> {
    QueueDeclare {
        exclusive: true,
        ..Default::default()
    }
}

pub(crate) fn a_publish_without_confirms_is_done_when_it_is_written(world: World) {
    let mut client = world.connect();
    let channel = client.channel_without_confirms();
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    for _ in 0..1000 {
        let tag = client.on(channel, |view| {
            view.publish(&to(&queue), &Properties::default(), &b"quick"[..])
        });
        assert_eq!(tag, Ok(None));
    }
    let consume = BasicConsume {
        no_ack: true,
        ..from(&queue)
    };
    let consumer = client.consume(channel, &consume).unwrap();
    for _ in 0..1000 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), b"quick");
    }
    client.close();
}

pub(crate) fn a_transaction_counts_when_it_is_committed(world: World) {
    let mut client = world.connect();
    let channel = client.channel_without_confirms();
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    client.ask(channel, &TxSelect::default()).unwrap();
    let properties = Properties::default();
    let publish = |client: &mut super::client::Client, body: &str| {
        client
            .on(channel, |view| view.publish(&to(&queue), &properties, body))
            .unwrap();
    };
    publish(&mut client, "taken back");
    client.ask(channel, &TxRollback::default()).unwrap();
    publish(&mut client, "counts");
    assert_eq!(client.get(channel, &queue), None);
    client.ask(channel, &TxCommit::default()).unwrap();
    let got = client.get(channel, &queue).unwrap();
    assert_eq!(got.message.body().to_vec(), b"counts");
    client.on(channel, |view| view.ack(got.tag)).unwrap();
    client.ask(channel, &TxCommit::default()).unwrap();
    client.close();
}

pub(crate) fn what_comes_back_is_told_to_those_who_listen(world: World) {
    let mut client = world.connect();
    let channel = client.channel_without_confirms();
    let returns = Told::new();
    let told = returns.clone();
    client.on(channel, |view| {
        view.on_return(move |ctx, _, message| told.tell(ctx, message.clone()))
            .unwrap();
    });
    let nowhere = world.name("nowhere");
    let properties = Properties {
        message_id: Some(short("id")),
        ..Default::default()
    };
    client
        .on(channel, |view| {
            view.publish(&mandatory(&nowhere), &properties, "nobody")
        })
        .unwrap();
    let returned = client.wait(&returns);
    assert_eq!(
        (returned.code, &*returned.text, returned.tag),
        (ReplyCode::NO_ROUTE, "NO_ROUTE", None)
    );
    assert_eq!(returned.message.routing_key().to_string(), nowhere);
    assert_eq!(returned.message.body().to_vec(), b"nobody");
    assert_eq!(returned.message.properties().message_id, Some(short("id")));
    client.close();
    assert_eq!(returns.len(), 0);
}
