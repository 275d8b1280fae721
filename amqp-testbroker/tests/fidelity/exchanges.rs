//! Declaring, deleting and binding exchanges.

use amqp_proto::wire::*;

use crate::session::{args, auto_delete, exclusive, short};
use crate::world::World;

fn direct(exchange: &str) -> ExchangeDeclare<'_> {
    ExchangeDeclare {
        exchange: short(exchange),
        ..Default::default()
    }
}

pub(crate) fn declaring_the_same_exchange_again(world: &World) {
    let mut session = world.connect();
    let exchange = world.lasting("x");
    let declare = direct(&exchange);
    session.call(&declare);
    session.call(&declare);
    session.close();
}

pub(crate) fn declaring_an_exchange_of_other_properties(world: &World) {
    let mut session = world.connect();
    let exchange = world.lasting("x");
    let same = direct(&exchange);
    session.call(&same);
    let text = |name: &str, received: &str, current: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{name}' for exchange '{exchange}' in vhost '/': received \
             '{received}' but current is '{current}'"
        )
    };
    let exchange_type = short("fanout");
    session.refused(
        &ExchangeDeclare { exchange_type, ..same },
        406,
        &text("type", "fanout", "direct"),
    );
    for (other, name) in [
        (ExchangeDeclare { durable: true, ..same }, "durable"),
        (
            ExchangeDeclare {
                auto_delete: true,
                ..same
            },
            "auto_delete",
        ),
        (ExchangeDeclare { internal: true, ..same }, "internal"),
    ] {
        session.refused(&other, 406, &text(name, "true", "false"));
    }
    session.close();
}

pub(crate) fn declaring_an_exchange_of_another_alternate(world: &World) {
    let mut session = world.connect();
    let exchange = world.lasting("x");
    let plain = direct(&exchange);
    session.call(&plain);
    let arguments = args([("alternate-exchange", "other".into())]);
    session.refused(
        &ExchangeDeclare {
            arguments: arguments.as_ref(),
            ..plain
        },
        406,
        &format!(
            "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{exchange}' in vhost '/': \
             received the value 'other' of type 'longstr' but current is none"
        ),
    );
    let unknown = args([("x-unknown", 1.into())]);
    session.call(&ExchangeDeclare {
        arguments: unknown.as_ref(),
        ..plain
    });
    session.close();
}

pub(crate) fn an_alternate_exchange_must_be_text(world: &World) {
    let mut session = world.connect();
    let exchange = world.name("x");
    let (array, table) = (FieldArray::new(), FieldTable::new());
    for (value, of) in [
        (FieldValue::Bool(true), "bool"),
        (FieldValue::I8(1), "byte"),
        (FieldValue::U8(1), "unsignedbyte"),
        (FieldValue::I16(1), "short"),
        (FieldValue::U16(1), "unsignedshort"),
        (FieldValue::I32(1), "signedint"),
        (FieldValue::U32(1), "unsignedint"),
        (FieldValue::I64(1), "long"),
        (FieldValue::F32(1.0), "float"),
        (FieldValue::F64(1.0), "double"),
        (FieldValue::Decimal(Decimal { scale: 1, raw: 1 }), "decimal"),
        (FieldValue::ByteArray(b"x"), "binary"),
        (FieldValue::Timestamp(1), "timestamp"),
        ((&array).into(), "array"),
        ((&table).into(), "table"),
        (FieldValue::Void, "void"),
    ] {
        let arguments = args([("alternate-exchange", value)]);
        session.refused(
            &ExchangeDeclare {
                arguments: arguments.as_ref(),
                ..direct(&exchange)
            },
            406,
            &format!(
                "PRECONDITION_FAILED - invalid type '{of}' for arg 'alternate-exchange' in exchange '{exchange}' in vhost '/'"
            ),
        );
    }
    session.close();
}

pub(crate) fn passive_asks_only_for_the_name(world: &World) {
    let mut session = world.connect();
    let exchange = world.lasting("x");
    let passive = ExchangeDeclare {
        passive: true,
        durable: true,
        exchange_type: short("no such type"),
        ..direct(&exchange)
    };
    let text = format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'");
    session.refused(&passive, 404, &text);
    session.call(&direct(&exchange));
    session.call(&passive);
    session.close();
}

pub(crate) fn an_unknown_exchange_type(world: &World) {
    let mut session = world.connect();
    let exchange = world.name("x");
    let declare = ExchangeDeclare {
        exchange_type: short("no-such-type"),
        ..direct(&exchange)
    };
    match world.by_release(true, false) {
        true => session.fatal(
            &declare,
            503,
            "COMMAND_INVALID - unknown exchange type 'no-such-type'",
        ),
        false => session.refused(
            &declare,
            406,
            "PRECONDITION_FAILED - unknown exchange type 'no-such-type'",
        ),
    }
}

pub(crate) fn predeclared_exchanges(world: &World) {
    let mut session = world.connect();
    for (exchange, exchange_type) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        session.call(&ExchangeDeclare {
            exchange_type: short(exchange_type),
            durable: true,
            ..direct(exchange)
        });
    }
    session.close();
}

pub(crate) fn names_that_begin_with_amq_are_reserved(world: &World) {
    let mut session = world.connect();
    let name = "amq.fidelity";
    let text = "ACCESS_REFUSED - exchange name 'amq.fidelity' contains reserved prefix 'amq.*'";
    session.refused(&direct(name), 403, text);
    let passive = ExchangeDeclare {
        passive: true,
        ..direct(name)
    };
    session.refused(
        &passive,
        404,
        "NOT_FOUND - no exchange 'amq.fidelity' in vhost '/'",
    );
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    let exchange = short("amq.direct");
    session.refused(
        &ExchangeDelete {
            exchange,
            ..Default::default()
        },
        403,
        text,
    );
    session.close();
}

pub(crate) fn the_default_exchange_cannot_be_touched(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    session.refused(&direct(""), 403, text);
    let passive = ExchangeDeclare {
        passive: true,
        ..direct("")
    };
    session.refused(&passive, 403, text);
    session.refused(&ExchangeDelete::default(), 403, text);
    session.refused(
        &QueueBind {
            queue: short(&queue),
            routing_key: short("k"),
            ..Default::default()
        },
        403,
        text,
    );
    session.refused(
        &QueueUnbind {
            queue: short(&queue),
            routing_key: short(&queue),
            ..Default::default()
        },
        403,
        text,
    );
    session.refused(
        &ExchangeBind {
            source: short("amq.direct"),
            ..Default::default()
        },
        403,
        text,
    );
    session.refused(
        &ExchangeUnbind {
            destination: short("amq.direct"),
            ..Default::default()
        },
        403,
        text,
    );
    session.close();
}

pub(crate) fn deleting_an_exchange(world: &World) {
    let mut session = world.connect();
    let exchange = world.lasting("x");
    let delete = ExchangeDelete {
        exchange: short(&exchange),
        ..Default::default()
    };
    // What is not there can be deleted.
    session.call(&delete);
    session.call(&direct(&exchange));
    session.call(&delete);
    let passive = ExchangeDeclare {
        passive: true,
        ..direct(&exchange)
    };
    let text = format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'");
    session.refused(&passive, 404, &text);
    session.close();
}

pub(crate) fn deleting_an_exchange_only_if_unused(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = (world.lasting("x"), world.name("q"));
    session.call(&direct(&exchange));
    session.queue(&queue);
    session.bind(&queue, &exchange, "k");
    let delete = ExchangeDelete {
        exchange: short(&exchange),
        if_unused: true,
        ..Default::default()
    };
    let text = format!("PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use");
    session.refused(&delete, 406, &text);
    session.call(&QueueUnbind {
        queue: short(&queue),
        exchange: short(&exchange),
        routing_key: short("k"),
        ..Default::default()
    });
    session.call(&delete);
    session.close();
}

pub(crate) fn an_auto_delete_exchange_goes_with_its_last_binding(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = (world.lasting("x"), world.name("q"));
    let declare = auto_delete(&exchange, "direct");
    session.call(&declare);
    // It needs one first.
    session.call(&declare);
    session.queue(&queue);
    session.bind(&queue, &exchange, "a");
    session.bind(&queue, &exchange, "b");
    let unbind = QueueUnbind {
        queue: short(&queue),
        exchange: short(&exchange),
        routing_key: short("a"),
        ..Default::default()
    };
    let passive = ExchangeDeclare {
        passive: true,
        ..declare
    };
    session.call(&unbind);
    session.call(&passive);
    session.call(&QueueUnbind {
        routing_key: short("b"),
        ..unbind
    });
    let text = format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'");
    session.refused(&passive, 404, &text);
    session.close();
}

pub(crate) fn an_auto_delete_exchange_goes_with_the_queue_bound_to_it(world: &World) {
    let mut session = world.connect();
    let (exchange, unused) = (world.lasting("x"), world.lasting("x"));
    let declare = auto_delete(&exchange, "direct");
    session.call(&declare);
    session.call(&auto_delete(&unused, "direct"));
    let queues = [world.name("q"), world.name("q")];
    for queue in &queues {
        session.queue(queue);
        session.bind(queue, &exchange, "a");
    }
    let passive = ExchangeDeclare {
        passive: true,
        ..declare
    };
    for queue in &queues {
        session.call(&passive);
        session.call(&QueueDelete {
            queue: short(queue),
            ..Default::default()
        });
    }
    let text = format!("NOT_FOUND - no exchange '{exchange}' in vhost '/'");
    session.refused(&passive, 404, &text);
    // What was never used does not go.
    session.call(&ExchangeDeclare {
        exchange: short(&unused),
        ..passive
    });
    session.close();
}

pub(crate) fn binding_what_is_not_there(world: &World) {
    let mut session = world.connect();
    let (queue, missing) = (world.name("q"), world.name("missing"));
    session.queue(&queue);
    let no_exchange = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
    let no_queue = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    let to_missing = QueueBind {
        queue: short(&queue),
        exchange: short(&missing),
        ..Default::default()
    };
    session.refused(&to_missing, 404, &no_exchange);
    let of_missing = QueueBind {
        queue: short(&missing),
        exchange: short("amq.direct"),
        ..Default::default()
    };
    session.refused(&of_missing, 404, &no_queue);
    let of_both = QueueBind {
        queue: short(&missing),
        exchange: short(&missing),
        ..Default::default()
    };
    session.refused(&of_both, 404, &no_exchange);
    for (destination, source) in [("amq.direct", &*missing), (&missing, "amq.direct")] {
        let bind = ExchangeBind {
            destination: short(destination),
            source: short(source),
            ..Default::default()
        };
        session.refused(&bind, 404, &no_exchange);
    }
    session.close();
}

pub(crate) fn unbinding_what_is_not_bound(world: &World) {
    let mut session = world.connect();
    let (queue, missing) = (world.name("q"), world.name("missing"));
    session.queue(&queue);
    let unbind = QueueUnbind {
        queue: short(&queue),
        exchange: short("amq.direct"),
        routing_key: short(&missing),
        ..Default::default()
    };
    session.call(&unbind);
    session.call(&QueueUnbind {
        queue: short(&missing),
        ..unbind
    });
    session.call(&QueueUnbind {
        exchange: short(&missing),
        ..unbind
    });
    session.call(&ExchangeUnbind {
        destination: short(&missing),
        source: short("amq.direct"),
        ..Default::default()
    });
    session.close();
}

pub(crate) fn no_wait_is_not_answered(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = (world.lasting("x"), world.name("q"));
    let no_wait = true;
    session.send(&ExchangeDeclare {
        no_wait,
        ..direct(&exchange)
    });
    session.send(&QueueDeclare {
        no_wait,
        ..exclusive(&queue)
    });
    session.send(&QueueBind {
        queue: short(&queue),
        exchange: short(&exchange),
        no_wait,
        ..Default::default()
    });
    session.publish(&exchange, "", "m");
    session.send(&QueuePurge {
        queue: short(&queue),
        no_wait,
    });
    session.publish(&exchange, "", "n");
    assert_eq!(session.drain(&queue), ["n"]);
    session.send(&QueueDelete {
        queue: short(&queue),
        no_wait,
        ..Default::default()
    });
    session.send(&ExchangeDelete {
        exchange: short(&exchange),
        no_wait,
        ..Default::default()
    });
    session.expect_nothing();
    session.close();
}
