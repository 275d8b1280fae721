//! A consumer that goes on after something came between, and what it is told of that.

use std::sync::{Arc, Mutex};

use amqp_async::{ConsumeOptions, Consumer, ConsumerEnd, Interruption, ProcessOptions};
use amqp_proto::{ChannelCloseReason, CloseReason};

use crate::recovery::{close, connect, recovered};
use crate::world::World;

/// What happened to a consumer, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Body(String),
    Gap(Interruption),
}

impl Log {
    pub(crate) fn on(&self, consumer: Consumer) -> Consumer {
        let log = self.clone();
        consumer.on_interruption(move |interruption| log.push(Seen::Gap(interruption.clone())))
    }

    fn push(&self, seen: Seen) {
        self.0.lock().unwrap().push(seen);
    }

    pub(crate) fn gaps(&self) -> Vec<Interruption> {
        let gap = |seen: &Seen| match seen {
            Seen::Gap(interruption) => Some(interruption.clone()),
            Seen::Body(_) => None,
        };
        self.0.lock().unwrap().iter().filter_map(gap).collect()
    }

    /// The bodies, and `|` for a gap.
    fn text(&self) -> String {
        let text = |seen: &Seen| match seen {
            Seen::Body(body) => body.clone(),
            Seen::Gap(_) => "|".to_owned(),
        };
        self.0.lock().unwrap().iter().map(text).collect()
    }
}

fn is_by_the_operator(end: &ConsumerEnd) -> bool {
    matches!(
        end,
        ConsumerEnd::Channel(ChannelCloseReason::Connection(CloseReason::Peer(_)))
    )
}

#[test]
fn a_consumer_is_told_before_the_first_delivery_behind_the_gap() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").durable(true).await.unwrap();
        let log = Log::default();
        let mut consumer = log.on(queue.consume().await.unwrap());
        for body in ["a", "b", "c"] {
            channel.default_exchange().publish(body, "q").await.unwrap();
        }
        let settled = consumer.next().await.unwrap().unwrap();
        let tag = settled.tag();
        settled.ack().await.unwrap();
        let held = consumer.next().await.unwrap().unwrap();
        assert!(!held.is_stale());
        world.idle().await;
        let mut events = connection.events();
        close(&world);
        while !held.is_stale() {
            events.next().await.unwrap();
        }
        assert!(recovered(&mut events).await.is_complete());
        assert_eq!(log.gaps(), [], "nobody has asked");
        let again = consumer.next().await.unwrap().unwrap();
        let gaps = log.gaps();
        let [gap] = &gaps[..] else { panic!("{gaps:?}") };
        assert!(is_by_the_operator(&gap.cause), "{gap:?}");
        assert!(gap.is_stale(held.tag()) && gap.is_stale(tag) && !gap.is_stale(again.tag()));
        assert!(held.is_stale() && !again.is_stale());
        assert!(again.is_redelivered() && *again.body() == *b"b");
        again.ack().await.unwrap();
        let last = consumer.next().await.unwrap().unwrap();
        assert_eq!(&*last.body(), b"c");
        assert_eq!(log.gaps().len(), 1, "it is told once");
    });
    world.wind_up();
}

#[test]
fn one_who_waits_is_told_at_once_and_a_handler_as_well() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").durable(true).await.unwrap();
        let log = Log::default();
        let consumer = log.on(queue.consume().await.unwrap());
        let bodies = log.clone();
        let handling = consumer.handle(1, ProcessOptions::default(), move |message| {
            bodies.push(Seen::Body(String::from_utf8_lossy(&message.body()).into_owned()));
            async { Ok(()) }
        });
        let exchange = channel.default_exchange();
        exchange.publish("a", "q").await.unwrap();
        world.idle().await;
        let mut events = connection.events();
        for _ in 0..2 {
            close(&world);
            assert!(recovered(&mut events).await.is_complete());
            world.idle().await;
        }
        assert_eq!(log.text(), "a||");
        exchange.publish("b", "q").await.unwrap();
        world.idle().await;
        assert_eq!(log.text(), "a||b");
        handling.stop().await.unwrap();
    });
    world.wind_up();
}

#[test]
fn what_waits_without_acknowledgements_is_taken_before_the_gap() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").durable(true).await.unwrap();
        let log = Log::default();
        let no_ack = ConsumeOptions::default().no_ack(true);
        let mut consumer = log.on(queue.consume_with(no_ack).await.unwrap());
        let exchange = channel.default_exchange();
        for body in ["a", "b"] {
            exchange.publish(body, "q").await.unwrap();
        }
        world.idle().await;
        let mut events = connection.events();
        close(&world);
        assert!(recovered(&mut events).await.is_complete());
        for body in ["c", "d"] {
            exchange.publish(body, "q").await.unwrap();
        }
        world.idle().await;
        for _ in 0..4 {
            let delivery = consumer.next().await.unwrap().unwrap();
            log.push(Seen::Body(String::from_utf8_lossy(&delivery.body()).into_owned()));
        }
        assert_eq!(log.text(), "ab|cd");
    });
    world.wind_up();
}

#[test]
fn one_that_ends_is_not_told_of_a_gap() {
    let world = World::new();
    world.run(async {
        let connection = connect(&world).await;
        let channel = connection.channel().await.unwrap();
        let queue = channel.declare_queue("q").await.unwrap();
        let log = Log::default();
        let mut consumer = log.on(queue.consume().await.unwrap());
        queue.delete().await.unwrap();
        let end = consumer.next().await.unwrap().unwrap_err();
        assert_eq!((end, log.gaps()), (ConsumerEnd::CancelledByBroker, Vec::new()));
    });
    world.wind_up();
}
