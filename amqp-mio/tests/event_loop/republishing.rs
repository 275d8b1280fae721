//! Publishes that are published again behind a recovery.

use std::time::Duration;

use amqp_mio::proto::wire::{BasicPublish, ConfirmSelect, Properties, ReplyCode};
use amqp_mio::proto::{Backoff, ConfirmLimits, ConfirmOutcome, Republish, SendError};
use amqp_mio::{ChannelOptions, ChannelRef, ChannelView, Ctx};
use amqp_testbroker::TestBroker;

use crate::recovering::{Life, after, durable, lose, soon, tell};
use crate::world::{Log, close, connector, from, short, to};

/// A channel that keeps its publishes, and notes what is told of them.
fn open(life: &mut Life, republish: Republish) -> ChannelRef {
    let channel = life.open(&ChannelOptions::default().republish(republish));
    life.on(channel, |view| {
        view.request(&ConfirmSelect::default(), |ctx, _, _| tell(ctx, "confirms"))
            .unwrap();
        view.on_confirm(|ctx, channel, tags, outcome| {
            assert_eq!(tags.channel(), channel.id());
            for number in tags.first()..=tags.last() {
                tell(ctx, format!("{number} {}", word(outcome)));
            }
        });
        view.on_return(|ctx, _, returned| {
            tell(ctx, format!("{} returned", returned.tag.unwrap().value()));
        });
    });
    life.until("confirms");
    channel
}

fn word(outcome: &ConfirmOutcome) -> &'static str {
    match outcome {
        ConfirmOutcome::Acked => "acked",
        ConfirmOutcome::Lost(_) => "lost",
        _ => "unroutable",
    }
}

/// Gives its number.
fn publish(life: &mut Life, channel: ChannelRef, method: &BasicPublish<'_>, body: &'static str) -> u64 {
    let confirmed = move |ctx: &mut Ctx<'_, Log>, _, outcome| tell(ctx, format!("{body} {}", word(&outcome)));
    let tag = life.on(channel, |view| {
        view.publish_confirmed(method, &Properties::default(), body.as_bytes(), confirmed)
    });
    let tag = tag.unwrap().unwrap();
    assert_eq!(tag.channel(), channel.id());
    tag.value()
}

/// The broker hears nothing any more of the connection that there is.
fn deafen(broker: &TestBroker) {
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.set_deaf(key, now, true));
}

#[test]
fn what_was_not_confirmed_comes_in_its_order_before_anything_new_and_is_told_once() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let channel = open(&mut life, Republish::default());
    life.declare(channel, &durable("q"));
    assert_eq!(publish(&mut life, channel, &to("q"), "a"), 1);
    life.until("1 acked");
    for number in [2, 4] {
        deafen(&broker);
        let mandatory = BasicPublish {
            mandatory: true,
            ..to("nowhere")
        };
        assert_eq!(publish(&mut life, channel, &to("q"), "b"), number);
        assert_eq!(publish(&mut life, channel, &mandatory, "c"), number + 1);
        lose(&broker);
        assert_eq!(life.until("recovered"), ["lost"]);
        let mut noted = life.until(&format!("{} unroutable", number + 1));
        noted.sort();
        assert_eq!(
            noted,
            [
                &format!("{number} acked"),
                &format!("{} returned", number + 1),
                "b acked",
                "c unroutable"
            ]
        );
    }
    assert_eq!(publish(&mut life, channel, &to("q"), "d"), 6);
    life.until("6 acked");
    life.consume(channel, &from("q"));
    assert_eq!(life.until("d"), ["a", "b", "b"]);
    life.end();
}

#[test]
fn what_is_new_is_refused_while_too_much_is_kept() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let limits = ConfirmLimits::default().count(2);
    let channel = open(&mut life, Republish::default().limits(limits));
    life.declare(channel, &durable("q"));
    deafen(&broker);
    for body in ["a", "b"] {
        publish(&mut life, channel, &to("q"), body);
    }
    let refused = |life: &mut Life| {
        life.on(channel, |view| {
            view.publish(&to("q"), &Properties::default(), &b"c"[..])
        })
    };
    assert_eq!(refused(&mut life), Err(SendError::InFlight));
    lose(&broker);
    life.until("lost");
    assert_eq!(refused(&mut life), Err(SendError::NotConnected));
    life.until("2 acked");
    assert_eq!(publish(&mut life, channel, &to("q"), "c"), 3);
    life.until("3 acked");
    life.end();
}

#[test]
fn it_is_lost_when_the_channel_ends_for_good() {
    let slow = || after(Backoff::new(1).initial(Duration::from_secs(600)).jitter(0.0));
    // By the connection, while it is lost.
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), slow());
    let channel = open(&mut life, Republish::default());
    deafen(&broker);
    publish(&mut life, channel, &to("q"), "a");
    lose(&broker);
    assert_eq!(life.until("lost"), [""; 0]);
    let connection = life.connection;
    close(&mut life.event_loop.context(), connection);
    assert_eq!(life.until("channel closed"), ["a lost", "1 lost"]);

    // By the broker, and by the program.
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), slow());
    let channel = open(&mut life, Republish::default());
    let nowhere = BasicPublish {
        exchange: short("nowhere"),
        ..Default::default()
    };
    publish(&mut life, channel, &nowhere, "a");
    assert_eq!(life.until("channel closed"), ["a lost", "1 lost"]);
    let channel = open(&mut life, Republish::default());
    deafen(&broker);
    publish(&mut life, channel, &to("q"), "a");
    let close_it = |view: &mut ChannelView<'_, Log>| view.close(ReplyCode::REPLY_SUCCESS, "enough");
    life.on(channel, close_it).unwrap();
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::INTERNAL_ERROR, "oh"));
    assert_eq!(life.until("channel closed"), ["a lost", "1 lost"]);
    life.until("lost");
    let connection = life.connection;
    close(&mut life.event_loop.context(), connection);
    life.until("closed: closed on request, and the peer did not confirm that");
}

#[test]
fn nothing_is_kept_without_confirms() {
    let broker = TestBroker::start().unwrap();
    let mut life = Life::new(&connector(&broker), soon());
    let options = ChannelOptions::default().republish(Republish::default());
    let channel = life.open(&options);
    life.declare(channel, &durable("q"));
    deafen(&broker);
    life.publish(channel, "q", "gone");
    lose(&broker);
    life.until("recovered");
    life.publish(channel, "q", "new");
    life.consume(channel, &from("q"));
    assert_eq!(life.until("new"), [""; 0]);
    life.end();
}
