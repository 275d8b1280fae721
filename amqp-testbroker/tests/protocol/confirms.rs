//! Confirms, returns and refused publishes.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_testbroker::BrokerConfig;

use crate::stage::{Stage, Who, close, name};

fn confirming(stage: &mut Stage) -> Who {
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.received(who);
    stage.call(who, 1, ConfirmSelect::default(), "confirm.select-ok");
    who
}

fn mandatory(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        routing_key: name(queue),
        mandatory: true,
        ..Default::default()
    }
}

#[test]
fn publishes_that_come_together_are_confirmed_together() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    stage.publish(who, 1, "q", b"1");
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=1"]);
    (0..3).for_each(|_| stage.publish(who, 1, "q", b"2"));
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=4 multiple"]);
    stage.publish(who, 1, "q", b"5");
    stage.send(who, 1, ConfirmSelect::default());
    assert_eq!(
        stage.received(who),
        ["ch 1 basic.ack delivery_tag=5", "ch 1 confirm.select-ok"]
    );
}

#[test]
fn or_each_alone() {
    let mut config = BrokerConfig::default();
    config.joins_confirms = false;
    let mut stage = Stage::with(config);
    let who = confirming(&mut stage);
    (0..2).for_each(|_| stage.publish(who, 1, "q", b"2"));
    assert_eq!(
        stage.received(who),
        ["ch 1 basic.ack delivery_tag=1", "ch 1 basic.ack delivery_tag=2"]
    );
}

#[test]
fn a_mandatory_message_without_a_queue_comes_back_before_its_ack() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    let properties = Properties {
        message_id: Some(name("m")),
        ..Default::default()
    };
    stage.publish_with(who, 1, mandatory("nowhere"), properties, b"body");
    stage.publish_with(who, 1, mandatory("q"), properties, b"body");
    assert_eq!(
        stage.received(who),
        [
            r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="nowhere""#,
            r#"ch 1 header body_size=4 message_id="m""#,
            r#"ch 1 body 4 octets "body""#,
            "ch 1 basic.ack delivery_tag=2 multiple",
        ]
    );
}

#[test]
fn what_a_full_queue_rejects_is_nacked_with_multiple_even_if_it_is_one() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    let arguments = FieldTable::new()
        .with("x-max-length", 1)
        .unwrap()
        .with("x-overflow", "reject-publish")
        .unwrap();
    let full = QueueDeclare {
        queue: name("full"),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    stage.send(who, 1, full);
    stage.publish(who, 1, "full", b"1");
    stage.received(who);
    stage.publish(who, 1, "full", b"2");
    assert_eq!(
        stage.received(who),
        ["ch 1 basic.nack delivery_tag=2 multiple requeue"]
    );
    stage.publish(who, 1, "q", b"3");
    stage.publish(who, 1, "full", b"4");
    stage.publish(who, 1, "q", b"5");
    let received = [
        "ch 1 basic.nack delivery_tag=4 requeue",
        "ch 1 basic.ack delivery_tag=3 multiple",
        "ch 1 basic.ack delivery_tag=5",
    ];
    assert_eq!(stage.received(who), received);
}

#[test]
fn confirms_can_be_delayed_and_publishes_nacked() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    stage.broker.delay_confirms(Duration::from_secs(1));
    stage.publish(who, 1, "q", b"1");
    stage.advance(Duration::from_millis(999));
    assert!(stage.received(who).is_empty());
    stage.advance(Duration::from_millis(1));
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=1"]);
    stage.broker.delay_confirms(Duration::ZERO);
    stage.broker.nack_publishes(1);
    stage.publish(who, 1, "q", b"2");
    assert_eq!(
        stage.received(who),
        ["ch 1 basic.nack delivery_tag=2 multiple requeue"]
    );
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
    stage.publish(who, 1, "q", b"3");
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=3"]);
}

#[test]
fn confirms_can_come_the_wrong_way_round() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    stage.broker.delay_confirms(Duration::from_secs(1));
    stage.broker.reverse_confirms(true);
    for body in [b"1", b"2", b"3"] {
        stage.publish(who, 1, "q", body);
    }
    stage.advance(Duration::from_secs(1));
    assert_eq!(
        stage.received(who),
        [3, 2, 1].map(|tag| format!("ch 1 basic.ack delivery_tag={tag}"))
    );
}

#[test]
fn what_clients_have_published_is_counted() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    stage.publish(who, 1, "q", b"1");
    stage.publish(who, 1, "no queue", b"2");
    stage.received(who);
    assert_eq!(stage.broker.published(), 2);
    let nowhere = BasicPublish {
        exchange: name("missing"),
        ..Default::default()
    };
    stage.publish_with(who, 1, nowhere, Properties::default(), b"3");
    stage.received(who);
    assert_eq!(stage.broker.published(), 2);
}

#[track_caller]
fn refused(publish: BasicPublish<'_>, properties: Properties<'_>, channel: u16, code: u16, text: &str) {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    stage.publish_with(who, 1, publish, properties, b"body");
    assert_eq!(stage.received(who), [close(channel, code, text, 60, 40)]);
}

#[test]
fn publishes_that_are_refused() {
    let publish = mandatory("q");
    let missing = BasicPublish {
        exchange: name("missing"),
        ..publish
    };
    let none = Properties::default();
    let bob = Properties {
        user_id: Some(name("bob")),
        ..none
    };
    refused(
        BasicPublish {
            immediate: true,
            ..publish
        },
        none,
        0,
        540,
        "NOT_IMPLEMENTED - immediate=true",
    );
    refused(
        missing,
        none,
        1,
        404,
        "NOT_FOUND - no exchange 'missing' in vhost '/'",
    );
    refused(
        missing,
        bob,
        1,
        404,
        "NOT_FOUND - no exchange 'missing' in vhost '/'",
    );
    let text = "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'";
    refused(publish, bob, 1, 406, text);
    for (expiration, why) in [
        ("", "no_integer"),
        ("abc", "no_integer"),
        ("5s", "{leftover_string,\"s\"}"),
        ("-5", "{value_negative,-5}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        let properties = Properties {
            expiration: Some(name(expiration)),
            ..none
        };
        let text = format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {why}");
        refused(publish, properties, 1, 406, &text);
    }
}

#[test]
fn expirations_and_user_ids_that_are_taken() {
    let mut stage = Stage::new();
    let who = confirming(&mut stage);
    for expiration in ["0", "+5", "-0", "00005", "315360000000"] {
        let properties = Properties {
            expiration: Some(name(expiration)),
            user_id: Some(name("guest")),
            ..Default::default()
        };
        stage.publish_with(who, 1, mandatory("q"), properties, b"");
    }
    assert_eq!(stage.received(who), ["ch 1 basic.ack delivery_tag=5 multiple"]);
}
