//! Replies without a queue: `amq.rabbitmq.reply-to`.

use amqp_proto::wire::*;

use crate::session::{Session, consume, exclusive, passive, publish, short};
use crate::world::World;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn consume_replies(session: &mut Session) {
    session.call(&BasicConsume {
        no_ack: true,
        ..consume(REPLY_TO, "replies")
    });
}

/// Sends a request; the address that its receiver sees.
#[track_caller]
fn request(session: &mut Session, queue: &str) -> String {
    let properties = Properties {
        reply_to: Some(short(REPLY_TO)),
        correlation_id: Some(short("7")),
        ..Default::default()
    };
    session.publish_with(&publish("", queue), &properties, "ping");
    let got = session.take(queue).unwrap();
    got.properties().reply_to.unwrap().to_str().unwrap().to_owned()
}

pub(crate) fn a_request_and_its_reply(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    consume_replies(&mut session);
    let address = request(&mut session, &queue);
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    session.put(&address, "pong");
    session.expect(&format!(
        r#"ch 1 basic.deliver consumer_tag="replies" delivery_tag=2 exchange="" routing_key="{address}" "pong""#
    ));
    session.close();
}

pub(crate) fn a_reply_from_another_connection(world: &World) {
    let mut client = world.connect();
    let mut server = world.connect();
    let queue = world.lasting("q");
    server.call(&QueueDeclare {
        exclusive: false,
        durable: true,
        ..exclusive(&queue)
    });
    server.consume(&queue, "requests");
    consume_replies(&mut client);
    let properties = Properties {
        reply_to: Some(short(REPLY_TO)),
        ..Default::default()
    };
    client.publish_with(&publish("", &queue), &properties, "ping");
    client.flush();
    let asked = server.next();
    server.put(asked.properties().reply_to.unwrap().to_str().unwrap(), "pong");
    server.flush();
    assert_eq!(client.delivery(), ("replies".to_owned(), "pong".to_owned()));
    client.close();
    server.close();
}

pub(crate) fn replies_cannot_be_acknowledged(world: &World) {
    let mut session = world.connect();
    session.refused(
        &consume(REPLY_TO, "replies"),
        406,
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    );
    session.close();
}

pub(crate) fn only_one_consumes_replies(world: &World) {
    let mut session = world.connect();
    consume_replies(&mut session);
    session.refused(
        &BasicConsume {
            no_ack: true,
            ..consume(REPLY_TO, "again")
        },
        406,
        "PRECONDITION_FAILED - reply consumer already set",
    );
    session.close();
}

pub(crate) fn a_request_without_a_consumer_of_replies(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    let properties = Properties {
        reply_to: Some(short(REPLY_TO)),
        ..Default::default()
    };
    session.publish_with(&publish("", &queue), &properties, "ping");
    session.expect_close(
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
        BasicPublish::SPEC,
    );
    session.close();
}

pub(crate) fn asking_whether_somebody_waits_for_a_reply(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    consume_replies(&mut session);
    let address = request(&mut session, &queue);
    let mut other = world.connect();
    let answer = other.call(&passive(&address));
    assert_eq!(
        answer.to_string(),
        format!(r#"ch 1 queue.declare-ok queue="{address}" message_count=0 consumer_count=1"#)
    );
    session.call(&BasicCancel {
        consumer_tag: short("replies"),
        no_wait: false,
    });
    let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
    other.refused(&passive(&address), 404, &text);
    other.refused(&exclusive(&address), 404, &text);
    other.close();
    session.close();
}

pub(crate) fn a_reply_to_nobody(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    consume_replies(&mut session);
    let address = request(&mut session, &queue);
    session.call(&BasicCancel {
        consumer_tag: short("replies"),
        no_wait: false,
    });
    session.put(&address, "too late");
    session.expect_nothing();
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish("", &address)
    };
    session.publish_with(&mandatory, &Properties::default(), "too late");
    if world.by_release(true, false) {
        session.expect(&format!(
            r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="{address}" "too late""#
        ));
    }
    session.expect_nothing();
    session.close();
}

pub(crate) fn the_pseudo_queue_itself(world: &World) {
    let mut session = world.connect();
    let answer = session.call(&passive(REPLY_TO));
    assert_eq!(
        answer.to_string(),
        r#"ch 1 queue.declare-ok queue="amq.rabbitmq.reply-to" message_count=0 consumer_count=1"#
    );
    let answer = session.call(&exclusive(REPLY_TO));
    assert_eq!(
        answer.to_string(),
        r#"ch 1 queue.declare-ok queue="amq.rabbitmq.reply-to" message_count=0 consumer_count=1"#
    );
    session.close();
}
