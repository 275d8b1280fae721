//! Declaring, deleting and purging queues.

use amqp_proto::wire::*;

use crate::session::{Session, consume, exclusive, passive, short};
use crate::world::World;

/// A queue that other connections see.
fn shared(queue: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(queue),
        durable: true,
        ..Default::default()
    }
}

fn delete(queue: &str) -> QueueDelete<'_> {
    QueueDelete {
        queue: short(queue),
        ..Default::default()
    }
}

#[track_caller]
fn assert_missing(session: &mut Session, queue: &str) {
    let text = format!("NOT_FOUND - no queue '{queue}' in vhost '/'");
    session.refused(&passive(queue), 404, &text);
}

pub(crate) fn a_declare_tells_name_messages_and_consumers(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    let answer = session.call(&exclusive(&queue));
    assert_eq!(
        answer.to_string(),
        format!(r#"ch 1 queue.declare-ok queue="{queue}" message_count=0 consumer_count=0"#)
    );
    session.put(&queue, "m");
    session.put(&queue, "n");
    session.expect_count(&queue, (2, 0));
    session.get(&queue);
    session.expect_count(&queue, (1, 0));
    session.consume(&queue, "t");
    session.expect_count(&queue, (0, 1));
    session.close();
}

pub(crate) fn declaring_a_queue_of_other_properties(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    let same = shared(&queue);
    session.call(&same);
    let text = |name: &str, received: &str, current: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue}' in vhost '/': received '{received}' \
             but current is '{current}'"
        )
    };
    session.refused(
        &QueueDeclare { durable: false, auto_delete: true, ..same },
        406,
        &text("durable", "false", "true"),
    );
    session.refused(
        &QueueDeclare {
            auto_delete: true,
            ..same
        },
        406,
        &text("auto_delete", "true", "false"),
    );
    session.refused(
        &QueueDeclare { exclusive: true, ..same },
        405,
        &format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration."
        ),
    );
    session.close();
}

pub(crate) fn declaring_an_exclusive_queue_as_a_shared_one(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.refused(
        &QueueDeclare {
            exclusive: false,
            ..exclusive(&queue)
        },
        405,
        &locked(&queue),
    );
    session.close();
}

pub(crate) fn the_broker_names_a_queue(world: &World) {
    let mut session = world.connect();
    let mut names = Vec::new();
    for _ in 0..2 {
        let answer = session.call(&exclusive(""));
        let Method::QueueDeclareOk(ok) = answer.method() else {
            unreachable!("the only answer")
        };
        names.push(ok.queue.to_str().unwrap().to_owned());
    }
    for name in &names {
        let random = name.strip_prefix("amq.gen-").unwrap();
        assert_eq!(random.len(), 22, "{name}");
        assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{name}");
        // Not even the connection that has it may declare it again, but for asking.
        let text = format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'");
        session.refused(&exclusive(name), 403, &text);
        session.call(&passive(name));
    }
    assert_ne!(names[0], names[1]);
    session.close();
}

pub(crate) fn an_empty_name_is_the_queue_declared_last(world: &World) {
    let mut session = world.connect();
    let (first, last) = (world.name("q"), world.name("q"));
    session.queue(&first);
    session.queue(&last);
    session.put(&last, "m");
    let key = world.name("k");
    session.bind("", "amq.direct", &key);
    session.publish("amq.direct", &key, "n");
    assert_eq!(session.take("").unwrap().body(), "m");
    // A passive declare counts too, but takes no empty name itself.
    session.call(&passive(&first));
    session.put(&first, "first");
    assert_eq!(session.take("").unwrap().body(), "first");
    session.call(&passive(&last));
    let purged = session.call(&QueuePurge::default());
    assert_eq!(purged.to_string(), "ch 1 queue.purge-ok message_count=1");
    let answer = session.call(&BasicConsume {
        consumer_tag: short("t"),
        ..Default::default()
    });
    assert_eq!(answer.to_string(), r#"ch 1 basic.consume-ok consumer_tag="t""#);
    session.call(&BasicCancel {
        consumer_tag: short("t"),
        no_wait: false,
    });
    session.put(&last, "m");
    let deleted = session.call(&QueueDelete::default());
    assert_eq!(deleted.to_string(), "ch 1 queue.delete-ok message_count=1");
    assert_missing(&mut session, &last);
    session.refused(&passive(""), 404, "NOT_FOUND - no queue '' in vhost '/'");
    session.close();
}

pub(crate) fn a_bind_without_queue_and_key_takes_the_queues_name_as_the_key(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.bind("", "amq.direct", "");
    session.publish("amq.direct", &queue, "by name");
    assert_eq!(session.drain(&queue), ["by name"]);
    // One that is named has the key that it says, even if that is empty.
    let exchange = world.name("x");
    session.exchange(&exchange, "direct");
    session.bind(&queue, &exchange, "");
    session.publish(&exchange, &queue, "by name");
    session.publish(&exchange, "", "by nothing");
    assert_eq!(session.drain(&queue), ["by nothing"]);
    session.close();
}

pub(crate) fn an_empty_name_before_any_declare(world: &World) {
    let mut session = world.connect();
    let text = "NOT_FOUND - no previously declared queue";
    session.refused(&QueuePurge::default(), 404, text);
    session.refused(&QueueDelete::default(), 404, text);
    session.refused(&BasicGet::default(), 404, text);
    session.refused(&BasicConsume::default(), 404, text);
    session.refused(
        &QueueBind {
            exchange: short("amq.direct"),
            routing_key: short("k"),
            ..Default::default()
        },
        404,
        text,
    );
    session.close();
}

pub(crate) fn queue_names_that_begin_with_amq_are_reserved(world: &World) {
    let mut session = world.connect();
    session.refused(
        &exclusive("amq.fidelity"),
        403,
        "ACCESS_REFUSED - queue name 'amq.fidelity' contains reserved prefix 'amq.*'",
    );
    assert_missing(&mut session, "amq.fidelity");
    session.close();
}

pub(crate) fn what_is_not_there_is_a_404(world: &World) {
    let mut session = world.connect();
    let missing = world.name("missing");
    let text = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    let queue = short(&missing);
    session.refused(&passive(&missing), 404, &text);
    session.refused(
        &QueuePurge {
            queue,
            ..Default::default()
        },
        404,
        &text,
    );
    session.refused(&BasicGet { queue, no_ack: false }, 404, &text);
    session.refused(&consume(&missing, "t"), 404, &text);
    session.close();
}

pub(crate) fn deleting_what_is_not_there_succeeds(world: &World) {
    let mut session = world.connect();
    let missing = world.name("missing");
    let conditional = QueueDelete {
        if_empty: true,
        if_unused: true,
        ..delete(&missing)
    };
    for delete in [delete(&missing), conditional] {
        let deleted = session.call(&delete);
        assert_eq!(deleted.to_string(), "ch 1 queue.delete-ok message_count=0");
    }
    session.close();
}

pub(crate) fn a_delete_tells_how_many_messages_went(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    for body in ["a", "b", "c"] {
        session.put(&queue, body);
    }
    session.get(&queue);
    let deleted = session.call(&delete(&queue));
    assert_eq!(deleted.to_string(), "ch 1 queue.delete-ok message_count=2");
    assert_missing(&mut session, &queue);
    session.close();
}

pub(crate) fn deleting_only_if_empty(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&shared(&queue));
    session.put(&queue, "m");
    let delete = QueueDelete {
        if_empty: true,
        ..delete(&queue)
    };
    let text = format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty");
    session.refused(&delete, 406, &text);
    session.get(&queue);
    // What is not settled does not count.
    session.call(&delete);
    session.close();
}

pub(crate) fn deleting_only_if_unused(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&shared(&queue));
    let delete = QueueDelete {
        if_unused: true,
        ..delete(&queue)
    };
    session.open(2);
    session.call_on(2, &consume(&queue, "t"));
    let text = format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use");
    session.refused(&delete, 406, &text);
    let consumer_tag = short("t");
    let no_wait = false;
    session.call_on(2, &BasicCancel { consumer_tag, no_wait });
    session.call(&delete);
    session.close();
}

pub(crate) fn a_purge_leaves_what_is_unacknowledged(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    for body in ["a", "b", "c"] {
        session.put(&queue, body);
    }
    let got = session.get(&queue);
    let purge = QueuePurge {
        queue: short(&queue),
        ..Default::default()
    };
    let purged = session.call(&purge);
    assert_eq!(purged.to_string(), "ch 1 queue.purge-ok message_count=2");
    session.nack(got.delivery_tag(), false, true);
    assert_eq!(session.drain(&queue), ["a"]);
    session.close();
}

fn locked(queue: &str) -> String {
    format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration."
    )
}

pub(crate) fn an_exclusive_queue_is_locked_for_other_connections(world: &World) {
    let mut owner = world.connect();
    let name = world.name("q");
    owner.queue(&name);
    owner.put(&name, "m");
    owner.bind(&name, "amq.direct", &name);
    let mut other = world.connect();
    let text = locked(&name);
    let queue = short(&name);
    other.refused(&exclusive(&name), 405, &text);
    other.refused(&passive(&name), 405, &text);
    other.refused(&delete(&name), 405, &text);
    other.refused(
        &QueuePurge {
            queue,
            ..Default::default()
        },
        405,
        &text,
    );
    other.refused(&BasicGet { queue, no_ack: false }, 405, &text);
    other.refused(&consume(&name, "t"), 405, &text);
    other.refused(
        &QueueBind {
            queue,
            exchange: short("amq.direct"),
            ..Default::default()
        },
        405,
        &text,
    );
    other.refused(
        &QueueUnbind {
            queue,
            exchange: short("amq.direct"),
            routing_key: queue,
            ..Default::default()
        },
        405,
        &text,
    );
    // Publishing is not touching it.
    other.put(&name, "n");
    other.expect_nothing();
    owner.expect_count(&name, (2, 0));
    other.close();
    owner.close();
}

pub(crate) fn an_exclusive_queue_belongs_to_the_whole_connection(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.open(2);
    session.call_on(2, &exclusive(&queue));
    session.close_channel();
    session.open(1);
    session.call(&exclusive(&queue));
    session.close();
}

pub(crate) fn an_exclusive_queue_goes_with_its_connection(world: &World) {
    let mut owner = world.connect();
    let queue = world.name("q");
    owner.queue(&queue);
    owner.close();
    // RabbitMQ does that soon after its answer.
    let mut other = world.connect();
    other.becomes_missing(&passive(&queue));
    other.close();
}

pub(crate) fn an_exclusive_durable_queue_goes_too(world: &World) {
    let mut owner = world.connect();
    let queue = world.name("q");
    owner.call(&QueueDeclare {
        durable: true,
        ..exclusive(&queue)
    });
    drop(owner);
    let mut other = world.connect();
    other.becomes_missing(&passive(&queue));
    other.close();
}

pub(crate) fn an_auto_delete_queue_goes_with_its_last_consumer(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&QueueDeclare {
        queue: short(&queue),
        auto_delete: true,
        durable: true,
        ..Default::default()
    });
    session.consume(&queue, "a");
    session.consume(&queue, "b");
    let cancel = |tag| BasicCancel {
        consumer_tag: short(tag),
        no_wait: false,
    };
    session.call(&cancel("a"));
    session.expect_count(&queue, (0, 1));
    session.call(&cancel("b"));
    session.becomes_missing(&passive(&queue));
    session.close();
}

pub(crate) fn an_auto_delete_queue_goes_with_the_channel_that_consumes(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&QueueDeclare {
        auto_delete: true,
        durable: true,
        queue: short(&queue),
        ..Default::default()
    });
    session.consume(&queue, "a");
    session.close_channel();
    session.open(1);
    session.becomes_missing(&passive(&queue));
    session.close();
}

pub(crate) fn an_auto_delete_queue_without_consumers_stays(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&QueueDeclare {
        auto_delete: true,
        ..exclusive(&queue)
    });
    session.put(&queue, "m");
    assert_eq!(session.drain(&queue), ["m"]);
    session.expect_count(&queue, (0, 0));
    session.close();
}

pub(crate) fn names_may_have_any_characters(world: &World) {
    let mut session = world.connect();
    let queue = format!("{} ü 'quoted' <>", world.name("q"));
    session.queue(&queue);
    session.put(&queue, "m");
    assert_eq!(session.drain(&queue), ["m"]);
    session.call(&delete(&queue));
    assert_missing(&mut session, &queue);
    session.close();
}

pub(crate) fn queues_that_are_neither_durable_nor_exclusive(world: &World) {
    let mut session = world.connect();
    let queue = world.lasting("q");
    session.call(&QueueDeclare {
        durable: false,
        ..shared(&queue)
    });
    session.put(&queue, "m");
    assert_eq!(session.drain(&queue), ["m"]);
    session.close();
}
