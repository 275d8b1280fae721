//! Publishes that were not confirmed when their channel was lost, and are published again.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use amqp_mio::proto::wire::{BasicConsume, ConfirmSelect, Properties, QueueDeclare, QueueDelete};
use amqp_mio::proto::{ConfirmLimits, ConfirmOutcome, Republish, SendError};
use amqp_mio::{ChannelOptions, ChannelRef, Connector, Recovery};

use super::World;
use super::client::{Client, PATIENCE, Told, from, passive, short, to};
use super::recovery::Survivor;

/// How many are published at least.
const BURST: usize = 5000;

/// Takes everything from the queue. Gives the bodies with their ids, and how many messages there were.
fn drain(client: &mut Client, channel: ChannelRef, queue: &str) -> (BTreeMap<String, String>, usize) {
    let count = client.declare(channel, &passive(queue)).unwrap().message_count;
    let no_ack = BasicConsume {
        no_ack: true,
        ..from(queue)
    };
    let consumer = client.consume(channel, &no_ack).unwrap();
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let delivery = client.wait(&consumer.deliveries);
        let headers = delivery.message.properties().headers.unwrap();
        let id = headers.get("x-deduplication-header").unwrap().unwrap();
        let id = id.as_str().unwrap().to_owned();
        let body = String::from_utf8(delivery.message.body().to_vec()).unwrap();
        let before = found.insert(body, id.clone());
        assert!(before.is_none_or(|before| before == id), "another id");
    }
    (found, usize::try_from(count).unwrap())
}

pub(crate) fn of_a_burst_that_an_operator_interrupts_everything_arrives_with_its_id(world: World) {
    let connector = Connector::from_uri(&world.url).unwrap();
    let mut survivor = Survivor::connect(&connector, Recovery::default());
    let client = &mut survivor.client;
    let limits = ConfirmLimits::default().count(1000);
    let options = ChannelOptions::default().republish(Republish::default().limits(limits));
    let channel = client.channel_with(&options);
    client.ask(channel, &ConfirmSelect::default()).unwrap();
    let name = world.name("burst");
    let declare = QueueDeclare {
        queue: short(&name),
        durable: true,
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    let mut ctx = client.event_loop().context();
    let late = ctx.call_later(PATIENCE, |_| panic!("it takes too long")).unwrap();
    let (outcomes, mut published, mut closing) = (Told::new(), 0, None);
    while published < BURST || survivor.recovered.len() == 0 {
        let (outcome, body) = (outcomes.clone(), published.to_string());
        let result = client.on(channel, |view| {
            view.publish_confirmed(&to(&name), &persistent, body.as_bytes(), move |ctx, _, told| {
                outcome.tell(ctx, (published, told));
            })
        });
        match result {
            Ok(tag) => {
                published += 1;
                assert_eq!(tag.unwrap().value(), published as u64);
            }
            // Whatever is waited for stops the loop.
            Err(SendError::InFlight | SendError::NotConnected | SendError::Full { .. }) => {
                client.event_loop().run().unwrap();
            }
            Err(error) => panic!("{error}"),
        }
        if published == BURST / 2 && closing.is_none() {
            let operator = world.operator.clone();
            closing = Some(thread::spawn(move || {
                operator.close_all_connections("come again")
            }));
        }
    }
    closing.unwrap().join().unwrap();
    client.event_loop().context().remove_timeout(late);
    let mut settled = BTreeSet::new();
    while settled.len() < published {
        let (number, outcome) = client.wait(&outcomes);
        assert_eq!(outcome, ConfirmOutcome::Acked);
        assert!(settled.insert(number), "{number} is told twice");
    }
    let report = survivor.recovered.pop().unwrap();
    assert!(report.is_complete(), "{report:?}");

    let (found, arrived) = drain(client, channel, &name);
    assert!(arrived >= published);
    assert_eq!(found.len(), published);
    assert!((0..published).all(|number| found.contains_key(&number.to_string())));
    let mut ids: Vec<&String> = found.values().collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), published);
    let delete = QueueDelete {
        queue: short(&name),
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    client.close();
}
