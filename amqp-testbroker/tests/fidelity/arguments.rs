//! The optional arguments of a queue: which are taken, and what is said when they change.

use amqp_proto::wire::*;

use crate::session::{Session, args, exclusive, short};
use crate::world::World;

/// Declares a queue with that argument, and then with others: what is said about each.
#[track_caller]
fn redeclare(session: &mut Session, queue: &str, name: &str, value: Option<FieldValue<'_>>, text: &str) {
    let mut arguments = FieldTable::new();
    if let Some(value) = value {
        arguments.insert(name, value).unwrap();
    }
    let declare = QueueDeclare {
        arguments: arguments.as_ref(),
        ..exclusive(queue)
    };
    let text =
        format!("PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue}' in vhost '/': received {text}");
    session.refused(&declare, 406, &text);
}

/// For each argument that a queue is known by: one value, and another.
pub(crate) fn numbers_that_differ(world: &World) {
    let mut session = world.connect();
    for name in [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
    ] {
        let queue = world.name("q");
        session.queue_with(&queue, [(name, 100.into())]);
        session.queue_with(&queue, [(name, 100.into())]);
        redeclare(
            &mut session,
            &queue,
            name,
            Some(101.into()),
            "'101' but current is '100'",
        );
        redeclare(
            &mut session,
            &queue,
            name,
            None,
            "none but current is the value '100' of type 'signedint'",
        );
    }
    session.close();
}

pub(crate) fn numbers_of_another_type_are_the_same(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-max-length", 100.into())]);
    session.queue_with(&queue, [("x-max-length", FieldValue::I64(100))]);
    session.queue_with(&queue, [("x-max-length", FieldValue::I16(100))]);
    redeclare(
        &mut session,
        &queue,
        "x-max-length",
        Some(FieldValue::I64(101)),
        "'101' but current is '100'",
    );
    session.close();
}

pub(crate) fn texts_that_differ(world: &World) {
    let mut session = world.connect();
    for (name, one, other) in [
        ("x-dead-letter-exchange", "one", "other"),
        ("x-overflow", "drop-head", "reject-publish"),
        ("x-queue-mode", "default", "lazy"),
    ] {
        if name == "x-queue-mode" && world.by_release(false, true) {
            continue; // Not looked at any more.
        }
        let queue = world.name("q");
        session.queue_with(&queue, [(name, one.into())]);
        redeclare(
            &mut session,
            &queue,
            name,
            Some(other.into()),
            &format!("'{other}' but current is '{one}'"),
        );
        redeclare(
            &mut session,
            &queue,
            name,
            None,
            &format!("none but current is the value '{one}' of type 'longstr'"),
        );
    }
    session.close();
}

pub(crate) fn a_dead_letter_key_that_differs(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let exchange = ("x-dead-letter-exchange", "".into());
    session.queue_with(&queue, [exchange, ("x-dead-letter-routing-key", "one".into())]);
    let arguments = args([exchange, ("x-dead-letter-routing-key", "other".into())]);
    session.refused(
        &QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(&queue)
        },
        406,
        &format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '/': \
             received 'other' but current is 'one'"
        ),
    );
    session.close();
}

pub(crate) fn a_single_active_consumer_that_differs(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-single-active-consumer", true.into())]);
    redeclare(
        &mut session,
        &queue,
        "x-single-active-consumer",
        Some(false.into()),
        "'false' but current is 'true'",
    );
    session.close();
}

pub(crate) fn an_argument_where_there_was_none(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    redeclare(
        &mut session,
        &queue,
        "x-message-ttl",
        Some(100.into()),
        "the value '100' of type 'signedint' but current is none",
    );
    session.close();
}

pub(crate) fn unknown_arguments_do_not_matter(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue_with(&queue, [("x-unknown", 1.into()), ("other", "text".into())]);
    session.queue(&queue);
    session.queue_with(&queue, [("x-unknown", 2.into())]);
    session.close();
}

pub(crate) fn queue_types_that_differ(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    let (classic, quorum) = (
        args([("x-queue-type", "classic".into())]),
        args([("x-queue-type", "quorum".into())]),
    );
    let declare = QueueDeclare {
        queue: short(&queue),
        durable: true,
        arguments: classic.as_ref(),
        ..Default::default()
    };
    session.call(&declare);
    session.refused(
        &QueueDeclare {
            arguments: quorum.as_ref(),
            ..declare
        },
        406,
        &format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{queue}' in vhost '/': received \
             'quorum' but current is 'classic'"
        ),
    );
    // None is classic.
    session.call(&QueueDeclare {
        arguments: FieldTableRef::default(),
        ..declare
    });
    session.close();
}

#[track_caller]
fn invalid(world: &World, name: &str, value: FieldValue<'_>, on_3: &str, on_4: &str) {
    let mut session = world.connect();
    let queue = world.name("q");
    let arguments = args([(name, value)]);
    let text = world.by_release(on_3, on_4);
    session.refused(
        &QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(&queue)
        },
        406,
        &format!("PRECONDITION_FAILED - invalid arg '{name}' for queue '{queue}' in vhost '/': {text}"),
    );
    session.close();
}

pub(crate) fn negative_numbers(world: &World) {
    let text = "{value_negative,-1}";
    for name in ["x-message-ttl", "x-max-length", "x-max-length-bytes"] {
        invalid(world, name, (-1).into(), text, text);
    }
    invalid(world, "x-expires", (-1).into(), text, text);
    invalid(world, "x-max-priority", (-1).into(), text, text);
}

pub(crate) fn an_expiry_of_nothing(world: &World) {
    invalid(world, "x-expires", 0.into(), "{value_zero,0}", "{value_zero,0}");
}

pub(crate) fn too_many_priorities(world: &World) {
    let text = "{max_value_exceeded,256}";
    invalid(world, "x-max-priority", 256.into(), text, text);
}

pub(crate) fn numbers_that_are_too_large(world: &World) {
    let text = "{value_too_large,315360000001}";
    for name in ["x-message-ttl", "x-expires"] {
        invalid(world, name, FieldValue::I64(315_360_000_001), text, text);
    }
}

pub(crate) fn texts_where_numbers_are_wanted(world: &World) {
    for name in ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-max-priority"] {
        let text = "\"expected integer, got longstr\"";
        invalid(world, name, "1".into(), text, text);
    }
}

pub(crate) fn numbers_where_texts_are_wanted(world: &World) {
    for name in ["x-overflow", "x-queue-type"] {
        let text = "{unacceptable_type,signedint}";
        invalid(world, name, 1.into(), text, text);
    }
    let text = "{unacceptable_type,longstr}";
    invalid(world, "x-single-active-consumer", "true".into(), text, text);
}

pub(crate) fn a_dead_letter_exchange_that_is_no_text(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let arguments = args([("x-dead-letter-exchange", 1.into())]);
    session.refused(
        &QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(&queue)
        },
        406,
        &format!(
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{queue}' in vhost \
             '/'"
        ),
    );
    session.close();
}

pub(crate) fn unknown_words(world: &World) {
    let text = "invalid_overflow";
    invalid(world, "x-overflow", "nothing".into(), text, text);
}

/// RabbitMQ 4 has no queue modes any more.
pub(crate) fn an_unknown_queue_mode(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    match world.by_release(true, false) {
        true => {
            let text = "\"unsupported queue mode 'fast'\"";
            invalid(world, "x-queue-mode", "fast".into(), text, text);
        }
        false => session.queue_with(&queue, [("x-queue-mode", "fast".into())]),
    }
    session.close();
}

pub(crate) fn an_unknown_queue_type(world: &World) {
    let text = "\"unsupported queue type 'fast'\"";
    invalid(world, "x-queue-type", "fast".into(), text, text);
}

pub(crate) fn a_dead_letter_key_without_an_exchange(world: &World) {
    invalid(
        world,
        "x-dead-letter-routing-key",
        "k".into(),
        "routing_key_but_no_dlx_defined",
        "routing_key_but_no_dlx_defined",
    );
}

pub(crate) fn a_quorum_queue_must_be_durable(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let arguments = args([("x-queue-type", "quorum".into())]);
    let declare = QueueDeclare {
        queue: short(&queue),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    session.refused(
        &declare,
        406,
        &format!("PRECONDITION_FAILED - invalid property 'non-durable' for queue '{queue}' in vhost '/'"),
    );
    session.refused(
        &QueueDeclare {
            durable: true,
            exclusive: true,
            ..declare
        },
        406,
        &format!("PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue '{queue}' in vhost '/'"),
    );
    session.refused(
        &QueueDeclare {
            durable: true,
            auto_delete: true,
            ..declare
        },
        406,
        &format!("PRECONDITION_FAILED - invalid property 'auto-delete' for queue '{queue}' in vhost '/'"),
    );
    session.close();
}

pub(crate) fn a_quorum_queue_has_no_priorities(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let arguments = args([("x-queue-type", "quorum".into()), ("x-max-priority", 5.into())]);
    session.refused(
        &QueueDeclare {
            queue: short(&queue),
            durable: true,
            arguments: arguments.as_ref(),
            ..Default::default()
        },
        406,
        &format!("PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue '{queue}' in vhost '/' of queue type rabbit_quorum_queue"),
    );
    session.close();
}

pub(crate) fn a_delivery_limit_is_for_quorum_queues(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let arguments = args([("x-delivery-limit", 2.into())]);
    session.refused(
        &QueueDeclare {
            arguments: arguments.as_ref(),
            ..exclusive(&queue)
        },
        406,
        &format!(
            "PRECONDITION_FAILED - invalid arg 'x-delivery-limit' for queue '{queue}' in vhost '/' of queue type \
             rabbit_classic_queue"
        ),
    );
    session.close();
}
