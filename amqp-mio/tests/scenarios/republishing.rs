//! Publishes that were not confirmed when their channel was lost, and are published again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::thread;

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, FieldTable, Properties, ReplyCode};
use amqp_mio::proto::{ChannelCloseReason, ConfirmLimits, ConfirmOutcome, Republish, SendError};
use amqp_mio::{ChannelOptions, ChannelRef, Connector, Ctx, Recovery};

use super::World;
use super::client::{Client, PATIENCE, Told, durable, from, own_queue, passive, short, to};
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
    client.declare(channel, &durable(&name)).unwrap();
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
    client.delete(channel, &name);
    client.close();
}

/// Publishes, and keeps what has no outcome yet, to publish it again on the next channel.
#[derive(Clone)]
struct Publisher {
    /// Exchange and routing key, by numbers in the order of their publishes.
    kept: Rc<RefCell<BTreeMap<u32, (String, String)>>>,
    outcomes: Told<(u32, ConfirmOutcome)>,
}

impl Publisher {
    fn publish(&self, ctx: &mut Ctx<'_, ()>, channel: ChannelRef, number: u32, to: &(String, String)) {
        self.kept.borrow_mut().insert(number, to.clone());
        let number_text = number.to_string();
        let headers = FieldTable::new()
            .with("x-deduplication-header", &*number_text)
            .unwrap();
        let method = BasicPublish {
            exchange: short(&to.0),
            routing_key: short(&to.1),
            mandatory: true,
            ..Default::default()
        };
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        let here = self.clone();
        let mut view = ctx.channel(channel).unwrap();
        view.publish_confirmed(&method, &properties, &*number_text, move |ctx, _, outcome| {
            here.learn(ctx, number, outcome);
        })
        .unwrap();
    }

    /// What was lost with its channel stays here, but not that for which the channel was closed.
    fn learn(&self, ctx: &mut Ctx<'_, ()>, number: u32, outcome: ConfirmOutcome) {
        let mut kept = self.kept.borrow_mut();
        if let ConfirmOutcome::Lost(ChannelCloseReason::Peer(peer)) = &outcome {
            let (exchange, _) = &kept[&number];
            let blamed = format!("NOT_FOUND - no exchange '{exchange}'");
            if !peer.text.starts_with(&blamed) {
                return;
            }
        }
        kept.remove(&number);
        self.outcomes.tell(ctx, (number, outcome));
    }

    fn begin(&self, ctx: &mut Ctx<'_, ()>, channel: ChannelRef) {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&ConfirmSelect::default()).unwrap();
        let kept = self.kept.borrow().clone();
        for (number, to) in kept {
            self.publish(ctx, channel, number, &to);
        }
    }
}

/// Which of the publishes goes to no exchange.
const REFUSED: u32 = 1;

pub(crate) fn a_publish_that_closes_its_channel_is_lost_and_those_behind_it_are_not(world: World) {
    let mut client = world.connect();
    let publisher = Publisher {
        kept: Rc::default(),
        outcomes: Told::new(),
    };
    let next = publisher.clone();
    let channels = client.channel_and_successors(move |ctx, channel| next.begin(ctx, channel));
    let channel = client.wait(&channels);
    let queue = client.declare(channel, &own_queue()).unwrap().name;
    let somewhere = (String::new(), queue.clone());
    let nowhere = (world.name("none"), String::new());
    let mut ctx = client.event_loop().context();
    for number in 0..=100 {
        let to = if number == REFUSED { &nowhere } else { &somewhere };
        publisher.publish(&mut ctx, channel, number, to);
    }
    let mut settled = BTreeSet::new();
    while settled.len() <= 100 {
        let (number, outcome) = client.wait(&publisher.outcomes);
        assert!(settled.insert(number), "{number} is told twice");
        match outcome {
            ConfirmOutcome::Lost(ChannelCloseReason::Peer(peer)) if number == REFUSED => {
                assert_eq!(peer.code, ReplyCode::NOT_FOUND);
            }
            outcome => assert_eq!(outcome, ConfirmOutcome::Acked, "{number}"),
        }
    }
    assert!(publisher.kept.borrow().is_empty());
    let channel = client.wait(&channels);
    let (found, _) = drain(&mut client, channel, &queue);
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|(body, id)| body == id));
    assert!(!found.contains_key(&REFUSED.to_string()));
    client.close();
    assert_eq!((publisher.outcomes.len(), channels.len()), (0, 0));
}
