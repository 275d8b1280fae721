//! Messages and queues that live only so long.

use amqp_proto::wire::*;

use crate::dead_letters::dead_lettering;
use crate::session::{Session, auto_delete, consume, passive, publish, short};
use crate::world::World;

fn put_expiring(session: &mut Session, queue: &str, expiration: &str, body: &str) {
    let properties = Properties {
        expiration: Some(short(expiration)),
        ..Default::default()
    };
    session.publish_with(&publish("", queue), &properties, body);
}

pub(crate) fn a_queue_s_ttl(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, [("x-message-ttl", 100.into())]);
    session.consume(&dead, "dead");
    session.put(&queue, "m");
    assert_eq!(session.delivery(), ("dead".to_owned(), "m".to_owned()));
    session.expect_count(&queue, (0, 0));
    session.close();
}

pub(crate) fn a_message_s_own_ttl(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    session.consume(&dead, "dead");
    put_expiring(&mut session, &queue, "100", "m");
    session.put(&queue, "stays");
    let expired = session.next();
    assert_eq!(expired.body(), "m");
    // Or it would expire again.
    assert_eq!(expired.properties().expiration, None);
    assert_eq!(session.drain(&queue), ["stays"]);
    session.close();
}

pub(crate) fn the_smaller_ttl_counts(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, [("x-message-ttl", 100.into())]);
    session.consume(&dead, "dead");
    put_expiring(&mut session, &queue, "3600000", "of the queue");
    assert_eq!(session.delivery().1, "of the queue");
    let (queue, dead) = dead_lettering(world, &mut session, [("x-message-ttl", 3_600_000.into())]);
    session.consume(&dead, "other");
    put_expiring(&mut session, &queue, "100", "its own");
    assert_eq!(session.delivery().1, "its own");
    session.close();
}

pub(crate) fn only_the_head_of_a_queue_expires(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    let other = world.name("q");
    session.queue(&other);
    session.consume(&dead, "dead");
    put_expiring(&mut session, &queue, "300", "long");
    put_expiring(&mut session, &queue, "1", "short");
    assert_eq!(session.delivery().1, "long");
    assert_eq!(session.delivery().1, "short");
    session.close();
}

pub(crate) fn an_expiration_of_zero_is_for_waiting_consumers(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, []);
    put_expiring(&mut session, &queue, "0", "nobody waits");
    assert_eq!(session.take(&queue), None);
    session.consume(&queue, "t");
    put_expiring(&mut session, &queue, "0", "somebody waits");
    let delivered = session.next();
    assert_eq!(delivered.body(), "somebody waits");
    assert_eq!(delivered.properties().expiration, Some(short("0")));
    assert_eq!(session.take_soon(&dead).body(), "nobody waits");
    session.close();
}

pub(crate) fn a_ttl_of_zero_is_for_waiting_consumers(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, [("x-message-ttl", 0.into())]);
    session.put(&queue, "nobody waits");
    assert_eq!(session.take(&queue), None);
    session.consume(&queue, "t");
    session.put(&queue, "somebody waits");
    assert_eq!(session.delivery().1, "somebody waits");
    assert_eq!(session.take_soon(&dead).body(), "nobody waits");
    session.close();
}

pub(crate) fn what_is_unacknowledged_does_not_expire(world: &World) {
    let mut session = world.connect();
    let (queue, dead) = dead_lettering(world, &mut session, [("x-message-ttl", 100.into())]);
    session.put(&queue, "held");
    let held = session.get(&queue);
    session.put(&queue, "expires");
    session.consume(&dead, "dead");
    assert_eq!(session.delivery().1, "expires");
    // Its time is up by now.
    session.nack(held.delivery_tag(), false, true);
    assert_eq!(session.delivery().1, "held");
    session.close();
}

pub(crate) fn expirations_that_are_no_numbers(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    for (expiration, problem) in [
        ("soon", "no_integer"),
        ("", "no_integer"),
        ("1.5", "{leftover_string,\".5\"}"),
        ("10 ", "{leftover_string,\" \"}"),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        put_expiring(&mut session, &queue, expiration, "m");
        session.expect_close(
            406,
            &format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {problem}"),
            BasicPublish::SPEC,
        );
    }
    session.close();
}

/// A queue that expires, bound to an exchange that goes with it: asking for the queue itself would be using it. The names of both.
fn expiring(world: &World, session: &mut Session, milliseconds: i32) -> (String, String) {
    let (queue, exchange) = (world.name("q"), world.name("x"));
    session.exchange(&exchange, "fanout");
    session.queue_with(&queue, [("x-expires", milliseconds.into())]);
    session.bind(&queue, &exchange, "");
    (queue, exchange)
}

/// Waits until such an exchange is gone.
#[track_caller]
fn expect_expiry(session: &mut Session, exchange: &str) {
    let passive = true;
    session.becomes_missing(&ExchangeDeclare {
        passive,
        ..auto_delete(exchange, "fanout")
    });
}

pub(crate) fn a_queue_that_nobody_uses_expires(world: &World) {
    let mut session = world.connect();
    let (queue, exchange) = expiring(world, &mut session, 100);
    session.put(&queue, "goes with it");
    expect_expiry(&mut session, &exchange);
    session.becomes_missing(&passive(&queue));
    session.close();
}

pub(crate) fn a_queue_with_a_consumer_does_not_expire(world: &World) {
    let mut session = world.connect();
    let (used, _) = expiring(world, &mut session, 500);
    session.open(2);
    session.call_on(2, &consume(&used, "t"));
    let (unused, exchange) = expiring(world, &mut session, 700);
    session.consume(&unused, "u");
    // Its time begins when the last consumer goes.
    session.call(&BasicCancel {
        consumer_tag: short("u"),
        no_wait: false,
    });
    expect_expiry(&mut session, &exchange);
    session.expect_count(&used, (0, 1));
    session.close();
}
