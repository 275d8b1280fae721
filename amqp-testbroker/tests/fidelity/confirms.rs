//! What the broker says about publishes.

use amqp_proto::wire::*;

use crate::session::{Session, args, publish, short};
use crate::world::World;

fn confirming(world: &World) -> (Session, String) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.confirm();
    (session, queue)
}

#[track_caller]
fn publish_mandatory(session: &mut Session, exchange: &str, key: &str, body: &str) {
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish(exchange, key)
    };
    session.publish_with(&mandatory, &Properties::default(), body);
}

pub(crate) fn publishes_are_numbered_from_1(world: &World) {
    let (mut session, queue) = confirming(world);
    for tag in 1..=3 {
        session.put(&queue, "m");
        session.expect(&format!("ch 1 basic.ack delivery_tag={tag}"));
    }
    session.close();
}

pub(crate) fn what_was_published_before_does_not_count(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.put(&queue, "before");
    session.confirm();
    session.put(&queue, "after");
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.close();
}

pub(crate) fn selecting_again_changes_nothing(world: &World) {
    let (mut session, queue) = confirming(world);
    session.put(&queue, "m");
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.confirm();
    session.put(&queue, "m");
    session.expect("ch 1 basic.ack delivery_tag=2");
    session.close();
}

pub(crate) fn all_are_confirmed_in_one_way_or_another(world: &World) {
    let (mut session, queue) = confirming(world);
    for _ in 0..50 {
        session.put(&queue, "m");
    }
    let mut confirmed = std::collections::BTreeSet::new();
    while confirmed.len() < 50 {
        let received = session.next();
        let Method::BasicAck(ack) = received.method() else {
            panic!("no ack: {received}");
        };
        match ack.multiple {
            true => confirmed.extend(1..=ack.delivery_tag),
            false => assert!(confirmed.insert(ack.delivery_tag)),
        }
    }
    assert_eq!(confirmed.last(), Some(&50));
    session.close();
}

pub(crate) fn what_no_queue_gets_is_confirmed(world: &World) {
    let (mut session, _) = confirming(world);
    session.publish("amq.direct", &world.name("nowhere"), "m");
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.close();
}

pub(crate) fn a_return_comes_before_its_confirm(world: &World) {
    let (mut session, _) = confirming(world);
    let key = world.name("nowhere");
    publish_mandatory(&mut session, "amq.direct", &key, "m");
    session.expect(&format!(
        r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="amq.direct" routing_key="{key}" "m""#
    ));
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.close();
}

pub(crate) fn a_return_without_confirms(world: &World) {
    let mut session = world.connect();
    let key = world.name("nowhere");
    publish_mandatory(&mut session, "", &key, "m");
    session.expect(&format!(
        r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="{key}" "m""#
    ));
    session.close();
}

pub(crate) fn a_return_has_its_properties(world: &World) {
    let mut session = world.connect();
    let key = world.name("nowhere");
    let headers = args([("a", 1.into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        message_id: Some(short("id")),
        ..Default::default()
    };
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish("amq.fanout", &key)
    };
    session.publish_with(&mandatory, &properties, "");
    let returned = session.next();
    assert!(returned.is::<BasicReturn>(), "{returned}");
    assert_eq!(returned.properties(), properties);
    assert_eq!(returned.body(), "");
    session.close();
}

pub(crate) fn a_mandatory_message_that_is_routed(world: &World) {
    let (mut session, queue) = confirming(world);
    publish_mandatory(&mut session, "", &queue, "m");
    session.expect("ch 1 basic.ack delivery_tag=1");
    assert_eq!(session.drain(&queue), ["m"]);
    session.close();
}

pub(crate) fn immediate_is_not_implemented(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    let immediate = BasicPublish {
        immediate: true,
        ..publish("", &queue)
    };
    session.publish_with(&immediate, &Properties::default(), "m");
    session.expect_connection_close(540, "NOT_IMPLEMENTED - immediate=true", BasicPublish::SPEC.id);
}

pub(crate) fn a_refused_publish_is_not_confirmed(world: &World) {
    let (mut session, _) = confirming(world);
    let missing = world.name("x");
    session.publish(&missing, "", "m");
    let text = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
    session.expect_close(404, &text, BasicPublish::SPEC);
    // The new channel does not confirm.
    session.publish("amq.direct", &missing, "m");
    session.expect_nothing();
    session.close();
}

pub(crate) fn a_confirmed_message_is_in_the_queue(world: &World) {
    let (mut session, queue) = confirming(world);
    session.put(&queue, "m");
    session.expect("ch 1 basic.ack delivery_tag=1");
    session.open(2);
    let got = session.call_on(
        2,
        &BasicGet {
            queue: short(&queue),
            no_ack: true,
        },
    );
    assert_eq!(got.body(), "m");
    session.close();
}

pub(crate) fn a_foreign_user_id(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    for (user, is_refused) in [("guest", false), ("somebody", true)] {
        let properties = Properties {
            user_id: Some(short(user)),
            ..Default::default()
        };
        session.publish_with(&publish("", &queue), &properties, user);
        if is_refused {
            session.expect_close(
                406,
                "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
                BasicPublish::SPEC,
            );
        }
    }
    assert_eq!(session.drain(&queue), ["guest"]);
    session.close();
}

pub(crate) fn a_message_keeps_all_its_properties(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    let nested = args([("deep", FieldValue::F64(0.5))]);
    // In the order of their names: RabbitMQ 4 sorts them.
    let headers = args([
        ("flag", true.into()),
        ("long", FieldValue::I64(1 << 40)),
        ("table", (&nested).into()),
        ("time", FieldValue::Timestamp(7)),
        ("void", FieldValue::Void),
    ]);
    let properties = Properties {
        content_type: Some(short("text/plain")),
        content_encoding: Some(short("identity")),
        headers: Some(headers.as_ref()),
        delivery_mode: Some(1),
        priority: Some(3),
        correlation_id: Some(short("c")),
        reply_to: Some(short("r")),
        expiration: Some(short("60000")),
        message_id: Some(short("m")),
        timestamp: Some(123),
        message_type: Some(short("t")),
        user_id: Some(short("guest")),
        app_id: Some(short("a")),
        cluster_id: Some(short("x")),
    };
    session.publish_with(&publish("", &queue), &properties, "m");
    assert_eq!(session.take(&queue).unwrap().properties(), properties);
    session.close();
}
