//! Who may do what. `limited` may read and write everything, and configure nothing.

use amqp_proto::wire::*;

use crate::session::{Login, auto_delete, consume, exclusive, passive, short};
use crate::world::World;

/// Permission to configure that resource is missing.
fn denied(world: &World, kind: &str, name: &str) -> String {
    match world.by_release(true, false) {
        true => format!("ACCESS_REFUSED - access to {kind} '{name}' in vhost '/' refused for user 'limited'"),
        false => format!(
            "ACCESS_REFUSED - configure access to {kind} '{name}' in vhost '/' refused for user 'limited'"
        ),
    }
}

pub(crate) fn declaring_and_deleting_queues(world: &World) {
    let mut session = world.connect_as("limited");
    let name = world.name("q");
    let text = denied(world, "queue", &name);
    session.refused(&exclusive(&name), 403, &text);
    let delete = QueueDelete {
        queue: short(&name),
        ..Default::default()
    };
    session.refused(&delete, 403, &text);
    session.close();
}

pub(crate) fn declaring_and_deleting_exchanges(world: &World) {
    let mut session = world.connect_as("limited");
    let name = world.name("x");
    let text = denied(world, "exchange", &name);
    session.refused(&auto_delete(&name, "direct"), 403, &text);
    let delete = ExchangeDelete {
        exchange: short(&name),
        ..Default::default()
    };
    session.refused(&delete, 403, &text);
    session.close();
}

pub(crate) fn what_nobody_may_do_is_said_first(world: &World) {
    let mut session = world.connect_as("limited");
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    session.refused(&ExchangeDeclare::default(), 403, text);
    session.refused(&ExchangeDelete::default(), 403, text);
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

pub(crate) fn asking_passively_needs_no_permission(world: &World) {
    let mut session = world.connect_as("limited");
    session.call(&ExchangeDeclare {
        exchange: short("amq.direct"),
        passive: true,
        ..Default::default()
    });
    let missing = world.name("q");
    let text = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    session.refused(&passive(&missing), 404, &text);
    session.close();
}

pub(crate) fn a_queue_named_by_the_broker(world: &World) {
    let mut session = world.connect_as("limited");
    session.send(&exclusive(""));
    let received = session.next();
    let Method::ChannelClose(close) = received.method() else {
        panic!("not refused: {received}");
    };
    let text = close.reply_text.to_str().unwrap();
    assert_eq!(close.reply_code, ReplyCode::ACCESS_REFUSED);
    let name = text.split('\'').nth(1).unwrap();
    assert!(name.starts_with("amq.gen-"), "{text}");
    assert_eq!(text, denied(world, "queue", name));
    session.send(&ChannelCloseOk {});
    session.open(1);
    session.close();
}

pub(crate) fn reading_and_writing_are_other_permissions(world: &World) {
    let mut owner = world.connect();
    let name = world.lasting("q");
    let queue = short(&name);
    owner.call(&QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    });
    let mut session = world.connect_as("limited");
    session.bind(&name, "amq.direct", &name);
    session.publish("amq.direct", &name, "m");
    assert_eq!(session.take(&name).unwrap().body(), "m");
    session.call(&QueuePurge {
        queue,
        ..Default::default()
    });
    session.call(&consume(&name, "t"));
    session.close();
    owner.close();
}

pub(crate) fn a_user_without_permissions_cannot_enter(world: &World) {
    let mut session = world.dial();
    session.log_in(&Login {
        user: "nobody",
        password: "nobody",
        ..Default::default()
    });
    session.send_on(
        0,
        &ConnectionOpen {
            virtual_host: short("/"),
        },
    );
    session.expect_connection_close(
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'nobody'",
        ConnectionOpen::SPEC.id,
    );
}

pub(crate) fn a_user_of_another_virtual_host(world: &World) {
    let mut session = world.dial();
    session.log_in(&Login {
        user: "limited",
        password: "limited",
        ..Default::default()
    });
    session.send_on(
        0,
        &ConnectionOpen {
            virtual_host: short("a|b"),
        },
    );
    session.expect_connection_close(
        530,
        "NOT_ALLOWED - access to vhost 'a|b' refused for user 'limited'",
        ConnectionOpen::SPEC.id,
    );
}
