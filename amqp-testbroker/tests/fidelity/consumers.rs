//! Who gets the messages of a queue.

use amqp_proto::wire::*;

use crate::session::{CAPABILITIES, Login, Session, args, consume, exclusive, short};
use crate::world::World;

fn queue(world: &World, session: &mut Session) -> String {
    let queue = world.name("q");
    session.queue(&queue);
    queue
}

fn cancel(tag: &str) -> BasicCancel<'_> {
    BasicCancel {
        consumer_tag: short(tag),
        no_wait: false,
    }
}

/// The tags of the consumers that get the next messages.
fn tags(session: &mut Session, count: usize) -> Vec<String> {
    (0..count).map(|_| session.delivery().0).collect()
}

pub(crate) fn a_delivery(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    let answer = session.call(&consume(&queue, "my tag"));
    assert_eq!(answer.to_string(), r#"ch 1 basic.consume-ok consumer_tag="my tag""#);
    session.put(&queue, "m");
    session.expect(&format!(
        r#"ch 1 basic.deliver consumer_tag="my tag" delivery_tag=1 exchange="" routing_key="{queue}" "m""#
    ));
    session.close();
}

pub(crate) fn the_broker_names_a_consumer(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    let answer = session.call(&consume(&queue, ""));
    let Method::BasicConsumeOk(ok) = answer.method() else {
        unreachable!("the only answer")
    };
    let tag = ok.consumer_tag.to_str().unwrap();
    let random = tag.strip_prefix("amq.ctag-").unwrap();
    assert_eq!(random.len(), 22, "{tag}");
    session.close();
}

pub(crate) fn consume_ok_comes_before_what_is_there_already(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.put(&queue, "m");
    session.send(&consume(&queue, "t"));
    session.expect(r#"ch 1 basic.consume-ok consumer_tag="t""#);
    assert_eq!(session.delivery().1, "m");
    session.close();
}

pub(crate) fn consume_without_an_answer(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.send(&BasicConsume {
        no_wait: true,
        ..consume(&queue, "t")
    });
    session.put(&queue, "m");
    assert_eq!(session.delivery().0, "t");
    session.close();
}

pub(crate) fn a_tag_that_is_in_use(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.consume(&queue, "t");
    session.fatal(
        &consume(&queue, "t"),
        530,
        "NOT_ALLOWED - attempt to reuse consumer tag 't'",
    );
}

pub(crate) fn a_tag_on_two_channels(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.consume(&queue, "t");
    session.open(2);
    session.call_on(2, &consume(&queue, "t"));
    session.close();
}

pub(crate) fn a_tag_after_its_consumer_was_cancelled(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.consume(&queue, "t");
    let answer = session.call(&cancel("t"));
    assert_eq!(answer.to_string(), r#"ch 1 basic.cancel-ok consumer_tag="t""#);
    session.consume(&queue, "t");
    session.close();
}

pub(crate) fn cancelling_what_is_not_there(world: &World) {
    let mut session = world.connect();
    let answer = session.call(&cancel("nobody"));
    assert_eq!(answer.to_string(), r#"ch 1 basic.cancel-ok consumer_tag="nobody""#);
    session.close();
}

pub(crate) fn what_a_cancelled_consumer_got_can_be_acknowledged(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.put(&queue, "a");
    session.put(&queue, "b");
    session.consume(&queue, "t");
    session.delivery();
    session.delivery();
    session.call(&cancel("t"));
    session.ack(1);
    // Cancelling requeues nothing.
    assert_eq!(session.take(&queue), None);
    session.nack(2, false, true);
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn an_exclusive_consumer_lets_nobody_else(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.open(2);
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(&queue, "alone")
    };
    session.call_on(2, &exclusive);
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    session.refused(&consume(&queue, "t"), 403, &text);
    // Getting is not consuming.
    assert_eq!(session.take(&queue), None);
    session.call_on(2, &cancel("alone"));
    session.consume(&queue, "t");
    session.close();
}

pub(crate) fn an_exclusive_consumer_does_not_join_others(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.open(2);
    session.call_on(2, &consume(&queue, "first"));
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(&queue, "alone")
    };
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    session.refused(&exclusive, 403, &text);
    session.close();
}

pub(crate) fn consumers_take_turns(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    for tag in ["a", "b", "c"] {
        session.consume(&queue, tag);
    }
    for _ in 0..6 {
        session.put(&queue, "m");
    }
    assert_eq!(tags(&mut session, 6), ["a", "b", "c", "a", "b", "c"]);
    session.close();
}

#[track_caller]
fn consume_with_priority(session: &mut Session, queue: &str, tag: &str, priority: FieldValue<'_>) {
    let arguments = args([("x-priority", priority)]);
    session.call(&BasicConsume {
        arguments: arguments.as_ref(),
        ..consume(queue, tag)
    });
}

pub(crate) fn higher_consumers_come_first(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.call(&BasicQos {
        prefetch_count: 2,
        ..Default::default()
    });
    session.consume(&queue, "zero");
    consume_with_priority(&mut session, &queue, "low", (-1).into());
    consume_with_priority(&mut session, &queue, "high", 5.into());
    for _ in 0..6 {
        session.put(&queue, "m");
    }
    assert_eq!(
        tags(&mut session, 6),
        ["high", "high", "zero", "zero", "low", "low"]
    );
    session.close();
}

pub(crate) fn a_consumer_s_priority_must_be_a_number(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    let arguments = args([("x-priority", "high".into())]);
    session.refused(
        &BasicConsume {
            arguments: arguments.as_ref(),
            ..consume(&queue, "t")
        },
        406,
        &format!(
            "PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': \"expected integer, got \
             longstr\""
        ),
    );
    session.close();
}

pub(crate) fn a_single_active_consumer_is_the_first_one(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-single-active-consumer", true.into())]);
    for tag in ["a", "b", "c"] {
        session.consume(&queue, tag);
    }
    for _ in 0..3 {
        session.put(&queue, "m");
    }
    assert_eq!(tags(&mut session, 3), ["a", "a", "a"]);
    session.call(&cancel("a"));
    session.put(&queue, "m");
    assert_eq!(tags(&mut session, 1), ["b"]);
    session.call(&cancel("b"));
    session.put(&queue, "m");
    assert_eq!(tags(&mut session, 1), ["c"]);
    session.close();
}

pub(crate) fn a_single_active_consumer_that_is_full_keeps_its_place(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-single-active-consumer", true.into())]);
    session.call(&BasicQos {
        prefetch_count: 1,
        ..Default::default()
    });
    session.consume(&queue, "a");
    session.consume(&queue, "b");
    session.put(&queue, "1");
    session.put(&queue, "2");
    assert_eq!(session.delivery(), ("a".to_owned(), "1".to_owned()));
    session.ack(1);
    assert_eq!(session.delivery(), ("a".to_owned(), "2".to_owned()));
    session.close();
}

pub(crate) fn a_single_active_consumer_cannot_be_exclusive(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-single-active-consumer", true.into())]);
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(&queue, "t")
    };
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    session.refused(&exclusive, 403, &text);
    session.close();
}

pub(crate) fn deleting_the_queue_cancels_its_consumers(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.consume(&queue, "t");
    session.call(&QueueDelete {
        queue: short(&queue),
        ..Default::default()
    });
    session.expect(r#"ch 1 basic.cancel consumer_tag="t" no_wait"#);
    session.close();
}

pub(crate) fn deleting_the_queue_tells_nobody_who_does_not_know_of_it(world: &World) {
    let without: Vec<_> = CAPABILITIES
        .into_iter()
        .filter(|name| *name != "consumer_cancel_notify")
        .collect();
    let mut session = world.connect_with(&Login {
        capabilities: &without,
        ..Default::default()
    });
    let (deleted, queue) = (queue(world, &mut session), queue(world, &mut session));
    session.consume(&deleted, "t");
    session.consume(&queue, "u");
    session.call(&QueueDelete {
        queue: short(&deleted),
        ..Default::default()
    });
    session.put(&queue, "m");
    assert_eq!(session.delivery().0, "u");
    session.close();
}

pub(crate) fn a_consumer_goes_with_its_channel(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.consume(&queue, "t");
    session.put(&queue, "m");
    session.delivery();
    session.close_channel();
    session.open(1);
    session.expect_count(&queue, (1, 0));
    session.close();
}

pub(crate) fn a_consumer_that_does_not_acknowledge(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.call(&BasicConsume {
        no_ack: true,
        ..consume(&queue, "t")
    });
    for body in ["a", "b"] {
        session.put(&queue, body);
    }
    for tag in [1, 2] {
        let delivered = session.next();
        assert_eq!(delivered.delivery_tag(), tag);
    }
    session.close_channel();
    session.open(1);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn no_local_means_nothing(world: &World) {
    let mut session = world.connect();
    let queue = queue(world, &mut session);
    session.call(&BasicConsume {
        no_local: true,
        ..consume(&queue, "t")
    });
    session.put(&queue, "m");
    assert_eq!(session.delivery().1, "m");
    session.close();
}

pub(crate) fn another_connection_consumes(world: &World) {
    let mut publisher = world.connect();
    let queue = world.lasting("q");
    publisher.call(&QueueDeclare {
        durable: true,
        exclusive: false,
        ..exclusive(&queue)
    });
    let mut consumer = world.connect();
    consumer.consume(&queue, "t");
    publisher.put(&queue, "m");
    publisher.flush();
    assert_eq!(consumer.delivery().1, "m");
    publisher.expect_count(&queue, (0, 1));
    consumer.close();
    publisher.expect_count(&queue, (1, 0));
    publisher.close();
}
