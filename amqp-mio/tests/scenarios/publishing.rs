//! Publishing, and learning what became of it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use amqp_mio::proto::wire::{
    BasicConsume, ConfirmSelect, FieldTable, Properties, QueueDeclare, ReplyCode, TxCommit, TxRollback,
    TxSelect,
};
use amqp_mio::proto::{ConfirmLimits, ConfirmOutcome, SendError};
use amqp_mio::{ChannelOptions, ChannelRef, Ctx, Handle};

use super::World;
use super::client::{Told, from, mandatory, own_queue, passive, short, to};

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
    client.cancel(channel, consumer.id);
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

/// How many publishes each of two threads asks for.
const COUNT: u32 = 20_000;

/// Asks the loop for mandatory publishes to that queue, of which no more than 500 wait for their outcome. Gives how many had another
/// outcome than that.
fn publish_all(handle: &Handle<()>, channel: ChannelRef, queue: &str, expected: &ConfirmOutcome) -> u32 {
    let (told, outcomes) = mpsc::channel();
    let (mut waiting, mut mismatches) = (BTreeSet::new(), 0);
    let mut learn = |waiting: &mut BTreeSet<u32>| {
        let (number, outcome) = outcomes.recv().unwrap();
        assert!(waiting.remove(&number), "{number} is told twice");
        mismatches += u32::from(outcome != *expected);
    };
    for number in 0..COUNT {
        if waiting.len() == 500 {
            learn(&mut waiting);
        }
        waiting.insert(number);
        let (told, queue) = (told.clone(), queue.to_owned());
        let publish = move |ctx: &mut Ctx<'_, ()>| {
            let mut view = ctx.channel(channel).unwrap();
            let (method, body) = (mandatory(&queue), number.to_be_bytes());
            view.publish_confirmed(
                &method,
                &Properties::default(),
                &body[..],
                move |_, _, outcome| {
                    told.send((number, outcome)).unwrap();
                },
            )
            .unwrap();
        };
        handle.call_soon(publish).unwrap();
    }
    while !waiting.is_empty() {
        learn(&mut waiting);
    }
    mismatches
}

/// One thread's messages fit its queue, the other one's queue is full and refuses them.
pub(crate) fn two_threads_on_one_channel_never_mix_up_their_confirms(world: World) {
    let mut client = world.connect();
    let (channel, taken) = client.queue();
    let full = FieldTable::new()
        .with("x-max-length", 1_i64)
        .and_then(|table| table.with("x-overflow", "reject-publish"))
        .unwrap();
    let declare = QueueDeclare {
        arguments: full.as_ref(),
        ..own_queue()
    };
    let full = client.declare(channel, &declare).unwrap().name;
    client.send(channel, &full, "the only one");

    let (handle, queue) = (client.event_loop().handle(), taken.clone());
    let mismatches = client.meanwhile(move || {
        let other = handle.clone();
        let nacked = thread::spawn(move || publish_all(&other, channel, &full, &ConfirmOutcome::Nacked));
        let acked = publish_all(&handle, channel, &queue, &ConfirmOutcome::Acked);
        (acked, nacked.join().unwrap())
    });
    assert_eq!(mismatches, (0, 0));
    assert_eq!(client.purge(channel, &taken), COUNT);
    client.close();
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

/// Publishes as many of those that are left as may wait for their confirm.
fn publish_more(ctx: &mut Ctx<'_, ()>, channel: ChannelRef, queue: &str, left: &Cell<u32>) {
    let mut view = ctx.channel(channel).unwrap();
    while left.get() > 0 {
        let result = view.publish(&to(queue), &Properties::default(), "one of many");
        let unconfirmed = view.core().unwrap().unconfirmed();
        match result {
            Ok(_) => assert!(unconfirmed <= 10),
            Err(error) => {
                assert_eq!((error, unconfirmed), (SendError::InFlight, 10));
                return;
            }
        }
        left.set(left.get() - 1);
    }
}

/// They are refused, and the program waits for what makes room.
pub(crate) fn the_limit_of_unconfirmed_publishes_makes_others_wait(world: World) {
    let mut client = world.connect();
    let limits = ConfirmLimits::default().count(10);
    let channel = client.channel_with(&ChannelOptions::default().limits(limits));
    client.ask(channel, &ConfirmSelect::default()).unwrap();
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    let (left, confirmed) = (Rc::new(Cell::new(1000)), Told::new());
    publish_more(&mut client.event_loop().context(), channel, &queue, &left);
    assert_eq!(left.get(), 990);
    let (told, name) = (confirmed.clone(), queue.clone());
    client.on(channel, |view| {
        view.on_confirm(move |ctx, channel, tags, outcome| {
            assert_eq!(*outcome, ConfirmOutcome::Acked);
            publish_more(ctx, channel, &name, &left);
            told.tell(ctx, tags.count());
        })
        .unwrap();
    });
    let mut count = 0;
    while count < 1000 {
        count += client.wait(&confirmed);
    }
    assert_eq!(client.purge(channel, &queue), 1000);
    client.close();
    assert_eq!((count, confirmed.len()), (1000, 0));
}

pub(crate) fn all_publishes_of_a_channel_are_waited_for(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let nowhere = world.name("nowhere");
    let (settled, returns) = (Told::new(), Told::new());
    let (settle, returned) = (settled.clone(), returns.clone());
    client.on(channel, |view| {
        view.on_confirm(move |ctx, _, tags, outcome| settle.tell(ctx, (tags, outcome.clone())))
            .unwrap();
        view.on_return(move |ctx, _, message| {
            let body = message.message.body().to_vec();
            returned.tell(ctx, (message.tag.unwrap().value(), body));
        })
        .unwrap();
        for number in 0..100_u8 {
            let target = if number % 10 == 7 { &nowhere } else { &queue };
            view.publish(&mandatory(target), &Properties::default(), &[number][..])
                .unwrap();
        }
        assert_eq!(view.core().unwrap().unconfirmed(), 100);
    });
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 100 {
        let (tags, outcome) = client.wait(&settled);
        for tag in tags.iter() {
            let before = outcomes.insert(tag.value(), outcome.clone());
            assert_eq!(before, None, "{tag:?} is told twice");
        }
    }
    assert_eq!(client.on(channel, |view| view.core().unwrap().unconfirmed()), 0);
    let expected = (1..=100).map(|tag| match tag % 10 {
        8 => (tag, ConfirmOutcome::Returned),
        _ => (tag, ConfirmOutcome::Acked),
    });
    assert_eq!(outcomes, expected.collect());
    let returned: Vec<_> = std::iter::from_fn(|| returns.pop()).collect();
    let expected = (0..10_u8).map(|ten| (u64::from(ten) * 10 + 8, vec![ten * 10 + 7]));
    assert_eq!(returned, expected.collect::<Vec<_>>());
    assert_eq!(
        client.declare(channel, &passive(&queue)).unwrap().message_count,
        90
    );
    client.close();
    assert_eq!((settled.len(), returns.len()), (0, 0));
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

/// What is left until then, as a message says it: in milliseconds.
fn time_left(until: SystemTime) -> String {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    left.as_millis().to_string()
}

pub(crate) fn a_message_expires_at_its_moment(world: World) {
    let mut client = world.connect();
    let (channel, queue) = client.queue();
    let late = SystemTime::now() + Duration::from_secs(1000);
    for at in [SystemTime::UNIX_EPOCH, late] {
        let expiration = time_left(at);
        let properties = Properties {
            expiration: Some(short(&expiration)),
            timestamp: Some(7),
            ..Default::default()
        };
        let outcome = client.publish(channel, &to(&queue), &properties, "x");
        assert_eq!(outcome, ConfirmOutcome::Acked);
    }
    // The first one had no time left.
    let got = client.get(channel, &queue).unwrap();
    let arrived = got.message.properties();
    let left: u64 = arrived.expiration.unwrap().to_string().parse().unwrap();
    assert!((900_000..=1_000_000).contains(&left), "{left}");
    assert_eq!(arrived.timestamp, Some(7));
    client.on(channel, |view| view.ack(got.tag)).unwrap();
    assert_eq!(client.get(channel, &queue), None);
    client.close();
}
