//! Queues that hold only so much, and queues with priorities.

use amqp_proto::wire::*;

use crate::session::{Session, publish};
use crate::world::World;

fn put_all(session: &mut Session, queue: &str, bodies: &[&str]) {
    for body in bodies {
        session.put(queue, body);
    }
}

pub(crate) fn the_oldest_goes_by_default(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length", 2.into())]);
    put_all(&mut session, &queue, &["a", "b", "c", "d"]);
    assert_eq!(session.drain(&queue), ["c", "d"]);
    session.close();
}

pub(crate) fn drop_head(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length", 2.into()), ("x-overflow", "drop-head".into())]);
    put_all(&mut session, &queue, &["a", "b", "c"]);
    assert_eq!(session.drain(&queue), ["b", "c"]);
    session.close();
}

pub(crate) fn a_length_of_zero_holds_nothing(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length", 0.into())]);
    put_all(&mut session, &queue, &["a"]);
    assert_eq!(session.take(&queue), None);
    // A consumer gets it past the queue.
    session.consume(&queue, "t");
    put_all(&mut session, &queue, &["b"]);
    assert_eq!(session.delivery().1, "b");
    session.close();
}

pub(crate) fn what_is_unacknowledged_does_not_count(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length", 1.into())]);
    put_all(&mut session, &queue, &["a"]);
    let got = session.get(&queue);
    put_all(&mut session, &queue, &["b"]);
    session.expect_count(&queue, (1, 0));
    // Back at the head, it is the one that is too much.
    session.nack(got.delivery_tag(), false, true);
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn octets_of_bodies_are_counted(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length-bytes", 10.into())]);
    put_all(&mut session, &queue, &["aaaa", "bbbb", "cc"]);
    session.expect_count(&queue, (3, 0));
    put_all(&mut session, &queue, &["d"]);
    assert_eq!(session.drain(&queue), ["bbbb", "cc", "d"]);
    put_all(&mut session, &queue, &["a", "more than ten"]);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn reject_publish_refuses_what_is_too_much(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(
        &queue,
        [("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())],
    );
    session.confirm();
    session.put(&queue, "a");
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.put(&queue, "b");
    session.expect("ch 1 basic.nack delivery_tag=2 multiple requeue");
    assert_eq!(session.drain(&queue), ["a"]);
    session.put(&queue, "c");
    session.expect("ch 1 basic.ack delivery_tag=3");
    session.close();
}

pub(crate) fn reject_publish_is_silent_without_confirms(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(
        &queue,
        [("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())],
    );
    put_all(&mut session, &queue, &["a", "b"]);
    assert_eq!(session.drain(&queue), ["a"]);
    session.expect_nothing();
    session.close();
}

/// A full queue with that overflow, to which one more is published: what the dead letters are.
fn overflow_dead_letters(world: &World, overflow: &str, is_any: bool) -> Vec<String> {
    let mut session = world.connect();
    let (queue, dead) = (world.name("q"), world.name("dead"));
    session.queue(&dead);
    session.queue_with(
        &queue,
        [
            ("x-max-length", 1.into()),
            ("x-overflow", overflow.into()),
            ("x-dead-letter-exchange", "".into()),
            ("x-dead-letter-routing-key", dead.as_str().into()),
        ],
    );
    put_all(&mut session, &queue, &["old", "new"]);
    session.get(&queue);
    let mut letters = Vec::new();
    if is_any {
        letters.push(session.take_soon(&dead).body().to_owned());
    }
    letters.extend(session.drain(&dead));
    session.close();
    letters
}

pub(crate) fn drop_head_dead_letters_the_old(world: &World) {
    assert_eq!(overflow_dead_letters(world, "drop-head", true), ["old"]);
}

pub(crate) fn reject_publish_dead_letters_nothing(world: &World) {
    assert_eq!(overflow_dead_letters(world, "reject-publish", false), [""; 0]);
}

pub(crate) fn reject_publish_dlx_dead_letters_the_new(world: &World) {
    assert_eq!(overflow_dead_letters(world, "reject-publish-dlx", true), ["new"]);
}

pub(crate) fn one_of_two_queues_is_full(world: &World) {
    let mut session = world.connect();
    let (exchange, full, other) = (world.name("x"), world.name("q"), world.name("q"));
    session.exchange(&exchange, "fanout");
    session.queue_with(
        &full,
        [("x-max-length", 0.into()), ("x-overflow", "reject-publish".into())],
    );
    session.queue(&other);
    session.bind(&full, &exchange, "");
    session.bind(&other, &exchange, "");
    session.confirm();
    session.publish(&exchange, "", "m");
    session.expect("ch 1 basic.nack delivery_tag=1 multiple requeue");
    assert_eq!(session.drain(&other), ["m"]);
    session.close();
}

fn put_with_priority(session: &mut Session, queue: &str, priority: u8, body: &str) {
    let properties = Properties {
        priority: Some(priority),
        ..Default::default()
    };
    session.publish_with(&publish("", queue), &properties, body);
}

pub(crate) fn higher_priorities_come_first(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-priority", 5.into())]);
    session.put(&queue, "none");
    put_with_priority(&mut session, &queue, 1, "1");
    put_with_priority(&mut session, &queue, 5, "5");
    put_with_priority(&mut session, &queue, 200, "more than 5 is 5");
    put_with_priority(&mut session, &queue, 0, "0");
    put_with_priority(&mut session, &queue, 1, "1 again");
    assert_eq!(
        session.drain(&queue),
        ["5", "more than 5 is 5", "1", "1 again", "none", "0"]
    );
    session.close();
}

pub(crate) fn priorities_mean_nothing_without_the_argument(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    put_with_priority(&mut session, &queue, 1, "a");
    put_with_priority(&mut session, &queue, 9, "b");
    assert_eq!(session.drain(&queue), ["a", "b"]);
    session.close();
}

pub(crate) fn a_requeued_message_keeps_its_priority(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-priority", 5.into())]);
    put_with_priority(&mut session, &queue, 1, "low");
    let low = session.get(&queue);
    put_with_priority(&mut session, &queue, 3, "high");
    put_with_priority(&mut session, &queue, 1, "low too");
    session.nack(low.delivery_tag(), false, true);
    assert_eq!(session.drain(&queue), ["high", "low", "low too"]);
    session.close();
}

pub(crate) fn a_full_queue_with_priorities_drops_the_highest(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-priority", 5.into()), ("x-max-length", 2.into())]);
    put_with_priority(&mut session, &queue, 3, "high");
    put_with_priority(&mut session, &queue, 1, "low");
    put_with_priority(&mut session, &queue, 2, "middle");
    assert_eq!(session.drain(&queue), ["middle", "low"]);
    session.close();
}
