//! Which publish came back is told exactly: bodies carry a number, and a return names the tag that this number got.

use std::collections::BTreeSet;

use amqp_proto::wire::{BasicPublish, ConfirmSelect, ExchangeDeclare, Properties, QueueBind, QueueUnbind};
use amqp_proto::{ChannelId, ConfirmOutcome, ConfirmTag, Event, SendError};

use super::{Session, short, unique};

/// Publishes and keeps each publish's tag, at the place of its number.
struct Publisher {
    session: Session,
    channel: ChannelId,
    tags: Vec<ConfirmTag>,
}

impl Publisher {
    fn new() -> Self {
        let (mut session, channel) = Session::guest();
        session.call(channel, &ConfirmSelect::default());
        Self {
            session,
            channel,
            tags: Vec::new(),
        }
    }

    #[track_caller]
    fn publish(&mut self, exchange: &str, key: &str) {
        let publish = BasicPublish {
            exchange: short(exchange),
            routing_key: short(key),
            mandatory: true,
            ..Default::default()
        };
        let body = self.tags.len().to_string();
        let published =
            self.session
                .channel(self.channel)
                .publish(&publish, &Properties::default(), body.as_bytes());
        assert!(
            !matches!(published, Err(SendError::Full { .. })),
            "these are too few to be too many"
        );
        self.tags.push(published.unwrap().unwrap());
    }

    /// Waits for all outcomes; the numbers of those that came back.
    #[track_caller]
    fn returned(&mut self) -> BTreeSet<usize> {
        let outcomes = self.session.outcomes(self.channel, self.tags.len());
        let mut returned = BTreeSet::new();
        for event in self.session.unclaimed() {
            let Event::Returned(message) = event else { continue };
            let number: usize = String::from_utf8(message.message.body().into_owned())
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(message.tag, Some(self.tags[number]), "{event:?}");
            assert!(returned.insert(number), "{number} came back twice");
        }
        for (number, tag) in self.tags.iter().enumerate() {
            let expected = match returned.contains(&number) {
                true => ConfirmOutcome::Returned,
                false => ConfirmOutcome::Acked,
            };
            assert_eq!(outcomes[&tag.value()], expected, "number {number}");
        }
        assert_eq!(self.session.core.counters().returned, returned.len() as u64);
        returned
    }
}

/// 4000 of which every fifth leads nowhere.
fn every_fifth(number_publishes: bool, nowhere: impl Fn(usize) -> String) {
    let mut publisher = Publisher::new();
    let queue = publisher.session.queue(publisher.channel);
    publisher
        .session
        .channel(publisher.channel)
        .number_publishes(number_publishes);
    for number in 0..4000 {
        match number % 5 {
            3 => publisher.publish("", &nowhere(number)),
            _ => publisher.publish("", &queue),
        }
    }
    let expected: BTreeSet<_> = (0..4000).filter(|number| number % 5 == 3).collect();
    assert_eq!(publisher.returned(), expected);
    publisher.session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn eight_hundred_returns_of_different_routes_name_their_publish() {
    every_fifth(false, |number| format!("nowhere {number}"));
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn eight_hundred_returns_of_one_route_name_their_publish() {
    every_fifth(false, |_| "nowhere".to_owned());
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn eight_hundred_numbered_returns_of_one_route_name_their_publish() {
    every_fifth(true, |_| "nowhere".to_owned());
}

/// The one case where a return cannot be told by its route: it led to a queue while earlier publishes were in flight.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn numbered_returns_name_their_publish_even_if_the_route_was_lost_in_between() {
    let mut publisher = Publisher::new();
    let channel = publisher.channel;
    let queue = publisher.session.queue(channel);
    let exchange = unique("exchange");
    let declare = ExchangeDeclare {
        exchange: short(&exchange),
        ..Default::default()
    };
    publisher.session.call(channel, &declare);
    publisher.session.channel(channel).number_publishes(true);
    let bind = QueueBind {
        queue: short(&queue),
        exchange: short(&exchange),
        routing_key: short("key"),
        ..Default::default()
    };
    let unbind = QueueUnbind {
        queue: short(&queue),
        exchange: short(&exchange),
        routing_key: short("key"),
        ..Default::default()
    };
    for is_bound in [true, false, true, false] {
        let mut view = publisher.session.channel(channel);
        if is_bound {
            view.send_nowait(&bind).unwrap();
        } else {
            view.request(&unbind).unwrap();
        }
        for _ in 0..100 {
            publisher.publish(&exchange, "key");
        }
    }
    assert_eq!(publisher.returned(), (100..200).chain(300..400).collect());
    let delete = amqp_proto::wire::ExchangeDelete {
        exchange: short(&exchange),
        ..Default::default()
    };
    publisher.session.call(channel, &delete);
    publisher.session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_return_says_why_and_brings_the_message_back() {
    let (mut session, channel) = Session::guest();
    let nowhere = unique("nowhere");
    let publish = BasicPublish {
        routing_key: short(&nowhere),
        mandatory: true,
        ..Default::default()
    };
    let properties = Properties {
        message_id: Some(short("id")),
        ..Default::default()
    };
    let body = vec![b'x'; 200_000];
    session
        .channel(channel)
        .publish(&publish, &properties, &body[..])
        .unwrap();
    let returned = session.wait("the return", |event| match event {
        Event::Returned(returned) => Some(returned.clone()),
        _ => None,
    });
    assert_eq!((returned.code.0, &*returned.text), (312, "NO_ROUTE"));
    assert_eq!(returned.tag, None, "it is not in confirm mode");
    assert_eq!(returned.message.routing_key(), short(&nowhere));
    assert_eq!(returned.message.properties(), properties);
    assert!(returned.message.body() == body);
    session.close();
}
