//! Acknowledging, refusing and recovering deliveries.

use amqp_proto::wire::*;

use crate::session::{Session, consume, exclusive};
use crate::world::World;

/// A queue with these messages; its name.
fn filled(world: &World, session: &mut Session, bodies: &[&str]) -> String {
    let queue = world.name("q");
    session.queue(&queue);
    for body in bodies {
        session.put(&queue, body);
    }
    queue
}

const UNKNOWN_1: &str = "PRECONDITION_FAILED - unknown delivery tag 1";

pub(crate) fn what_is_acknowledged_is_gone(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    let got = session.get(&queue);
    session.ack(got.delivery_tag());
    session.close_channel();
    session.open(1);
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn an_ack_of_several(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b", "c"]);
    for tag in 1..=3 {
        assert_eq!(session.get(&queue).delivery_tag(), tag);
    }
    session.send(&BasicAck {
        delivery_tag: 2,
        multiple: true,
    });
    session.nack(3, false, true);
    assert_eq!(session.drain(&queue), ["c"]);
    session.close();
}

pub(crate) fn an_ack_of_all(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    session.get(&queue);
    session.get(&queue);
    session.send(&BasicAck {
        delivery_tag: 0,
        multiple: true,
    });
    session.expect_nothing();
    session.refused(
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
        406,
        UNKNOWN_1,
    );
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn an_ack_of_all_when_there_is_nothing(world: &World) {
    let mut session = world.connect();
    session.send(&BasicAck {
        delivery_tag: 0,
        multiple: true,
    });
    session.nack(0, true, true);
    session.expect_nothing();
    session.close();
}

pub(crate) fn an_ack_of_tag_0_alone(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    session.get(&queue);
    session.refused(
        &BasicAck {
            delivery_tag: 0,
            multiple: false,
        },
        406,
        "PRECONDITION_FAILED - unknown delivery tag 0",
    );
    session.close();
}

pub(crate) fn unknown_tags(world: &World) {
    let mut session = world.connect();
    let (delivery_tag, requeue) = (1, true);
    for multiple in [false, true] {
        session.refused(&BasicAck { delivery_tag, multiple }, 406, UNKNOWN_1);
        let nack = BasicNack {
            delivery_tag,
            multiple,
            requeue,
        };
        session.refused(&nack, 406, UNKNOWN_1);
    }
    let reject = BasicReject { delivery_tag, requeue };
    session.refused(&reject, 406, UNKNOWN_1);
    session.close();
}

pub(crate) fn acknowledging_twice(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    session.get(&queue);
    session.get(&queue);
    session.ack(1);
    session.refused(
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
        406,
        UNKNOWN_1,
    );
    // The other one came back with the channel's end.
    session.expect_count(&queue, (1, 0));
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn acknowledging_several_up_to_one_that_is_acknowledged(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b", "c"]);
    for _ in 0..3 {
        session.get(&queue);
    }
    session.ack(2);
    let up_to_2 = BasicAck {
        delivery_tag: 2,
        multiple: true,
    };
    let text = "PRECONDITION_FAILED - unknown delivery tag 2";
    session.refused(&up_to_2, 406, text);
    session.expect_count(&queue, (2, 0));
    session.close();
}

pub(crate) fn tags_beyond_what_was_delivered(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    session.get(&queue);
    session.refused(
        &BasicAck {
            delivery_tag: 2,
            multiple: true,
        },
        406,
        "PRECONDITION_FAILED - unknown delivery tag 2",
    );
    session.close();
}

pub(crate) fn what_needs_no_ack_has_a_tag_that_cannot_be_acknowledged(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    assert_eq!(session.take(&queue).unwrap().delivery_tag(), 1);
    session.refused(
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
        406,
        UNKNOWN_1,
    );
    session.close();
}

pub(crate) fn tags_belong_to_their_channel(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    session.open(2);
    session.get(&queue);
    session.send_on(
        2,
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    session.expect(&format!(
        r#"ch 2 channel.close reply_code=406 PRECONDITION_FAILED reply_text="{UNKNOWN_1}" class_id=60 method_id=80"#
    ));
    session.close();
}

pub(crate) fn requeued_messages_come_back_to_their_places(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b", "c", "d"]);
    for _ in 0..3 {
        session.get(&queue);
    }
    session.ack(2);
    session.nack(3, true, true);
    for (body, redelivered) in [("a", true), ("c", true), ("d", false)] {
        let got = session.take(&queue).unwrap();
        assert_eq!((got.body(), got.is_redelivered()), (body, redelivered));
    }
    session.close();
}

pub(crate) fn a_rejected_message_comes_back_or_not(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    for (delivery_tag, requeue) in [(1, true), (2, false)] {
        assert_eq!(session.get(&queue).body(), "a");
        session.send(&BasicReject { delivery_tag, requeue });
    }
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn closing_the_channel_requeues(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    session.get(&queue);
    session.close_channel();
    session.open(1);
    let got = session.take(&queue).unwrap();
    assert_eq!((got.body(), got.is_redelivered()), ("a", true));
    assert_eq!(got.delivery_tag(), 1);
    session.close();
}

pub(crate) fn losing_the_connection_requeues(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&QueueDeclare {
        exclusive: false,
        durable: true,
        ..exclusive(&queue)
    });
    session.put(&queue, "a");
    session.get(&queue);
    drop(session);
    let mut other = world.connect();
    other.consume(&queue, "t");
    let got = other.next();
    assert_eq!((got.body(), got.is_redelivered()), ("a", true));
    other.close();
}

pub(crate) fn recover_requeues_all_of_the_channel(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b", "c"]);
    session.get(&queue);
    session.get(&queue);
    let answer = session.call(&BasicRecover { requeue: true });
    assert_eq!(answer.to_string(), "ch 1 basic.recover-ok");
    for (body, redelivered) in [("a", true), ("b", true), ("c", false)] {
        let got = session.take(&queue).unwrap();
        assert_eq!((got.body(), got.is_redelivered()), (body, redelivered));
    }
    session.close();
}

pub(crate) fn recover_delivers_to_the_consumer_again(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    session.consume(&queue, "t");
    session.expect(&format!(
        r#"ch 1 basic.deliver consumer_tag="t" delivery_tag=1 exchange="" routing_key="{queue}" "a""#
    ));
    session.call(&BasicRecover { requeue: true });
    session.expect(&format!(
        r#"ch 1 basic.deliver consumer_tag="t" delivery_tag=2 redelivered exchange="" routing_key="{queue}" "a""#
    ));
    session.close();
}

pub(crate) fn recover_async_is_not_answered(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a"]);
    session.get(&queue);
    session.send(&BasicRecoverAsync { requeue: true });
    assert!(session.take(&queue).unwrap().is_redelivered());
    session.expect_nothing();
    session.close();
}

pub(crate) fn recover_without_requeue_is_not_implemented(world: &World) {
    for is_async in [false, true] {
        let mut session = world.connect();
        let text = "NOT_IMPLEMENTED - requeue=false";
        match is_async {
            false => session.fatal(&BasicRecover { requeue: false }, 540, text),
            true => session.fatal(&BasicRecoverAsync { requeue: false }, 540, text),
        }
    }
}

pub(crate) fn a_requeued_message_goes_to_another_consumer(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.consume(&queue, "a");
    session.open(2);
    session.call_on(2, &consume(&queue, "b"));
    session.put(&queue, "m");
    let first = session.delivery();
    session.nack(1, false, true);
    let second = session.delivery();
    assert_eq!((first.0.as_str(), second.0.as_str()), ("a", "b"));
    session.close();
}

pub(crate) fn get_says_how_many_are_left(world: &World) {
    let mut session = world.connect();
    let queue = filled(world, &mut session, &["a", "b"]);
    session.get(&queue);
    let got = session.get(&queue);
    assert_eq!(
        got.to_string(),
        format!(r#"ch 1 basic.get-ok delivery_tag=2 exchange="" routing_key="{queue}" message_count=0 "b""#)
    );
    let empty = session.get(&queue);
    assert_eq!(empty.to_string(), "ch 1 basic.get-empty");
    session.nack(2, true, true);
    let got = session.get(&queue);
    assert_eq!(
        got.to_string(),
        format!(
            r#"ch 1 basic.get-ok delivery_tag=3 redelivered exchange="" routing_key="{queue}" message_count=1 "a""#
        )
    );
    session.close();
}
