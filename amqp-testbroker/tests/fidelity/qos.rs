//! How much is sent ahead of acknowledgements.

use amqp_proto::wire::*;

use crate::session::{Session, consume};
use crate::world::World;

/// A queue with messages `1` to `9`.
fn filled(world: &World, session: &mut Session) -> String {
    let queue = world.name("q");
    session.queue(&queue);
    for number in 1..=9 {
        session.put(&queue, number.to_string());
    }
    queue
}

#[track_caller]
fn qos(session: &mut Session, prefetch_count: u16, global: bool) {
    session.call(&BasicQos {
        prefetch_size: 0,
        prefetch_count,
        global,
    });
}

/// Exactly these come.
#[track_caller]
fn expect_bodies(session: &mut Session, queue: &str, bodies: &[&str], left: u32, consumers: u32) {
    for body in bodies {
        assert_eq!(session.delivery().1, *body);
    }
    session.expect_count(queue, (left, consumers));
    session.expect_nothing();
}

pub(crate) fn a_consumer_s_limit(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 2, false);
    session.consume(&queue, "t");
    expect_bodies(&mut session, &queue, &["1", "2"], 7, 1);
    session.ack(1);
    expect_bodies(&mut session, &queue, &["3"], 6, 1);
    session.send(&BasicAck {
        delivery_tag: 3,
        multiple: true,
    });
    expect_bodies(&mut session, &queue, &["4", "5"], 4, 1);
    session.close();
}

pub(crate) fn each_consumer_has_its_own_limit(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 2, false);
    session.consume(&queue, "a");
    expect_bodies(&mut session, &queue, &["1", "2"], 7, 1);
    qos(&mut session, 3, false);
    session.consume(&queue, "b");
    expect_bodies(&mut session, &queue, &["3", "4", "5"], 4, 2);
    // The first one keeps its limit.
    session.ack(1);
    assert_eq!(session.delivery(), ("a".to_owned(), "6".to_owned()));
    session.expect_count(&queue, (3, 2));
    session.close();
}

pub(crate) fn a_channel_s_limit(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 3, true);
    session.consume(&queue, "a");
    expect_bodies(&mut session, &queue, &["1", "2", "3"], 6, 1);
    session.consume(&queue, "b");
    // RabbitMQ 4 takes it for a limit of each consumer.
    let (more, left) = world.by_release((&[][..], 6), (&["4", "5", "6"][..], 3));
    expect_bodies(&mut session, &queue, more, left, 2);
    session.ack(2);
    let next = world.by_release("4", "7");
    expect_bodies(&mut session, &queue, &[next], left - 1, 2);
    session.close();
}

pub(crate) fn a_channel_s_limit_counts_over_queues(world: &World) {
    let mut session = world.connect();
    let (first, second) = (world.name("q"), world.name("q"));
    for queue in [&first, &second] {
        session.queue(queue);
        session.put(queue, queue);
    }
    qos(&mut session, 1, true);
    session.consume(&first, "a");
    assert_eq!(session.delivery(), ("a".to_owned(), first.clone()));
    session.consume(&second, "b");
    // RabbitMQ 4 takes it for a limit of each consumer.
    if world.by_release(true, false) {
        session.expect_count(&second, (1, 1));
        session.expect_nothing();
        session.ack(1);
    }
    assert_eq!(session.delivery(), ("b".to_owned(), second));
    session.close();
}

pub(crate) fn both_limits_count(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 2, false);
    qos(&mut session, 3, true);
    session.consume(&queue, "a");
    // RabbitMQ 4 has only one of them: the last.
    let (first, left) = world.by_release((&["1", "2"][..], 7), (&["1", "2", "3"][..], 6));
    expect_bodies(&mut session, &queue, first, left, 1);
    session.consume(&queue, "b");
    let (second, left) = world.by_release((&["3"][..], 6), (&["4", "5", "6"][..], 3));
    expect_bodies(&mut session, &queue, second, left, 2);
    session.close();
}

pub(crate) fn a_consumer_s_limit_lifts_the_channel_s(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, true);
    qos(&mut session, 3, false);
    session.consume(&queue, "t");
    expect_bodies(&mut session, &queue, &["1", "2", "3"], 6, 1);
    session.close();
}

pub(crate) fn a_channel_s_limit_can_grow(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, true);
    session.consume(&queue, "t");
    expect_bodies(&mut session, &queue, &["1"], 8, 1);
    // In RabbitMQ 4 it is for consumers that come later.
    let is_live = world.by_release(true, false);
    qos(&mut session, 3, true);
    let (more, left) = if is_live { (&["2", "3"][..], 6) } else { (&[][..], 8) };
    expect_bodies(&mut session, &queue, more, left, 1);
    qos(&mut session, 0, true);
    let (more, left) = if is_live { (&["4", "5", "6", "7", "8", "9"][..], 0) } else { (&[][..], 8) };
    expect_bodies(&mut session, &queue, more, left, 1);
    session.close();
}

pub(crate) fn zero_is_no_limit(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, false);
    qos(&mut session, 0, false);
    session.consume(&queue, "t");
    for number in 1..=9 {
        assert_eq!(session.delivery().1, number.to_string());
    }
    session.close();
}

pub(crate) fn what_needs_no_ack_has_no_limit(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, false);
    session.call(&BasicConsume {
        no_ack: true,
        ..consume(&queue, "t")
    });
    for number in 1..=9 {
        assert_eq!(session.delivery().1, number.to_string());
    }
    session.close();
}

pub(crate) fn a_get_does_not_count_for_a_consumer(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    session.get(&queue);
    qos(&mut session, 1, false);
    session.consume(&queue, "t");
    expect_bodies(&mut session, &queue, &["2"], 7, 1);
    session.get(&queue);
    session.expect_count(&queue, (6, 1));
    session.close();
}

pub(crate) fn a_requeue_makes_room(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, false);
    session.consume(&queue, "t");
    expect_bodies(&mut session, &queue, &["1"], 8, 1);
    session.nack(1, false, true);
    let again = session.next();
    assert_eq!((again.body(), again.is_redelivered()), ("1", true));
    session.close();
}

pub(crate) fn one_that_is_full_does_not_hold_up_others(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session);
    qos(&mut session, 1, false);
    session.consume(&queue, "a");
    assert_eq!(session.delivery().0, "a");
    qos(&mut session, 4, false);
    session.consume(&queue, "b");
    for _ in 0..4 {
        assert_eq!(session.delivery().0, "b");
    }
    session.expect_count(&queue, (4, 2));
    session.close();
}

pub(crate) fn a_limit_in_octets_is_not_implemented(world: &World) {
    let mut session = world.connect();
    let qos = BasicQos {
        prefetch_size: 1,
        ..Default::default()
    };
    session.fatal(&qos, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)");
}
