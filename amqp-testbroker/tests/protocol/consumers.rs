//! Consumers, prefetch, get.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_testbroker::{BrokerConfig, Release};

use crate::stage::{Stage, Who, close, name};

/// A queue `q` with messages `1`, `2`, … in it.
fn queue(stage: &mut Stage, count: usize) -> Who {
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    (1..=count).for_each(|n| stage.publish(who, 1, "q", n.to_string().as_bytes()));
    stage.received(who);
    who
}

fn consume(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: name("q"),
        consumer_tag: name(tag),
        ..Default::default()
    }
}

fn deliver(tag: &str, number: u64, body: &str) -> [String; 3] {
    [
        format!(
            "ch 1 basic.deliver consumer_tag={tag:?} delivery_tag={number} exchange=\"\" routing_key=\"q\""
        ),
        format!("ch 1 header body_size={}", body.len()),
        format!("ch 1 body {} octets {body:?}", body.len()),
    ]
}

fn bodies(lines: &[String]) -> Vec<&str> {
    let is_body = |line: &&String| line.contains(" body ");
    lines
        .iter()
        .filter(is_body)
        .filter_map(|line| line.split('"').nth(1))
        .collect()
}

#[test]
fn a_consumer_gets_what_is_there_after_its_answer_and_what_comes_later() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 1);
    stage.send(who, 1, consume("c"));
    let ok = [r#"ch 1 basic.consume-ok consumer_tag="c""#.to_owned()];
    assert_eq!(stage.received(who), [&ok[..], &deliver("c", 1, "1")].concat());
    let other = stage.open_channel();
    stage.publish(other, 1, "q", b"2");
    assert_eq!(stage.received(who), deliver("c", 2, "2"));
    stage.call(
        who,
        1,
        BasicCancel {
            consumer_tag: name("c"),
            no_wait: false,
        },
        r#"basic.cancel-ok consumer_tag="c""#,
    );
    stage.publish(other, 1, "q", b"3");
    assert!(stage.received(who).is_empty());
    let unknown = BasicCancel {
        consumer_tag: name("unknown"),
        no_wait: false,
    };
    stage.call(who, 1, unknown, r#"basic.cancel-ok consumer_tag="unknown""#);
}

#[test]
fn tags_are_made_up_and_must_not_be_used_twice() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 0);
    stage.send(who, 1, consume(""));
    stage.send(who, 1, consume(""));
    let received = stage.received(who);
    assert_ne!(received[0], received[1]);
    assert!(
        received
            .iter()
            .all(|line| line.contains(r#"consumer_tag="amq.ctag-"#)),
        "{received:?}"
    );
    stage.send(
        who,
        1,
        BasicConsume {
            no_wait: true,
            ..consume("c")
        },
    );
    stage.send(who, 1, consume("c"));
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    assert_eq!(stage.received(who), [close(0, 530, text, 60, 20)]);
}

#[test]
fn a_consumers_prefetch_holds_for_those_started_after_it() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 3);
    stage.send(
        who,
        1,
        BasicQos {
            prefetch_count: 1,
            ..Default::default()
        },
    );
    stage.send(who, 1, consume("c"));
    assert_eq!(bodies(&stage.received(who)), ["1"]);
    stage.call(
        who,
        1,
        BasicQos {
            prefetch_count: 9,
            ..Default::default()
        },
        "basic.qos-ok",
    );
    stage.send(
        who,
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    assert_eq!(bodies(&stage.received(who)), ["2"]);
    stage.send(
        who,
        1,
        BasicNack {
            delivery_tag: 2,
            multiple: false,
            requeue: false,
        },
    );
    assert_eq!(bodies(&stage.received(who)), ["3"]);
}

#[test]
fn a_channels_prefetch_holds_for_all_its_consumers_together_but_not_without_acks() {
    // In RabbitMQ 4 there is no such limit.
    let mut stage = Stage::with(BrokerConfig::of(Release::V3_10));
    let who = queue(&mut stage, 6);
    stage.send(
        who,
        1,
        BasicQos {
            prefetch_count: 2,
            global: true,
            ..Default::default()
        },
    );
    stage.send(who, 1, consume("a"));
    stage.send(who, 1, consume("b"));
    assert_eq!(bodies(&stage.received(who)), ["1", "2"]);
    stage.send(
        who,
        1,
        BasicQos {
            prefetch_count: 3,
            global: true,
            ..Default::default()
        },
    );
    assert_eq!(bodies(&stage.received(who)), ["3"]);
    stage.send(
        who,
        1,
        BasicConsume {
            no_ack: true,
            ..consume("c")
        },
    );
    assert_eq!(bodies(&stage.received(who)), ["4", "5", "6"]);
}

#[test]
fn a_prefetch_in_octets_is_not_implemented() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        BasicQos {
            prefetch_size: 7,
            ..Default::default()
        },
    );
    let text = "NOT_IMPLEMENTED - prefetch_size!=0 (7)";
    assert_eq!(stage.received(who), [close(0, 540, text, 60, 10)]);
}

#[test]
fn a_consumer_whose_queue_goes_is_told_if_it_can_be_told() {
    let mut stage = Stage::new();
    let owner = queue(&mut stage, 0);
    let told = stage.open_channel();
    let untold = stage.start("guest", "guest", &FieldTable::new());
    stage.tune(untold, 0);
    stage.call(untold, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(untold, 1);
    for who in [told, untold] {
        stage.call(who, 1, consume("c"), r#"basic.consume-ok consumer_tag="c""#);
    }
    let delete = QueueDelete {
        queue: name("q"),
        ..Default::default()
    };
    stage.call(owner, 1, delete, "queue.delete-ok message_count=0");
    assert_eq!(
        stage.received(told),
        [r#"ch 1 basic.cancel consumer_tag="c" no_wait"#]
    );
    assert!(stage.received(untold).is_empty());
    // The tag is free again.
    stage.send(
        owner,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.received(owner);
    stage.call(told, 1, consume("c"), r#"basic.consume-ok consumer_tag="c""#);
}

#[test]
fn what_is_not_settled_goes_back_when_the_channel_or_the_connection_ends() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 2);
    let other = stage.open_channel();
    stage.send(other, 1, consume("c"));
    assert_eq!(bodies(&stage.received(other)), ["1", "2"]);
    assert_eq!(stage.broker.queue_len("/", "q"), Some(0));
    stage.call(other, 1, ChannelClose::default(), "channel.close-ok");
    assert_eq!(stage.broker.queue_len("/", "q"), Some(2));
    stage.channel(other, 1);
    stage.send(other, 1, consume("c"));
    let received = stage.received(other);
    assert_eq!(bodies(&received), ["1", "2"]);
    assert!(received[1].contains("delivery_tag=1 redelivered"), "{received:?}");
    stage.disconnect(other);
    stage.send(
        who,
        1,
        BasicGet {
            queue: name("q"),
            no_ack: false,
        },
    );
    let received = stage.received(who);
    let get_ok =
        r#"ch 1 basic.get-ok delivery_tag=1 redelivered exchange="" routing_key="q" message_count=1"#;
    assert_eq!(received[0], get_ok);
}

#[test]
fn an_empty_queue_has_nothing_to_get() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 0);
    stage.call(
        who,
        1,
        BasicGet {
            queue: name("q"),
            no_ack: false,
        },
        "basic.get-empty",
    );
}

#[test]
fn who_reads_nothing_gets_at_most_a_mebibyte_and_a_message_and_is_not_read_either() {
    let mut stage = Stage::new();
    let who = queue(&mut stage, 0);
    stage.send(
        who,
        1,
        BasicConsume {
            no_ack: true,
            ..consume("c")
        },
    );
    stage.received(who);
    stage.stall(who, true);
    let publisher = stage.open_channel();
    for _ in 0..30 {
        stage.publish(publisher, 1, "q", &[b'x'; 100_000]);
        stage.run();
    }
    // The eleventh went over the limit of 1 MiB.
    assert_eq!(stage.broker.queue_len("/", "q"), Some(30 - 11));
    stage.send(who, 1, BasicQos::default());
    stage.run();
    assert_ne!(stage.unread(who), 0);
    stage.stall(who, false);
    let received = stage.received(who);
    let deliveries = received
        .iter()
        .filter(|line| line.contains("basic.deliver"))
        .count();
    assert_eq!(deliveries, 30);
    assert!(received.contains(&"ch 1 basic.qos-ok".to_owned()));
    assert_eq!(stage.broker.queue_len("/", "q"), Some(0));
}

#[test]
fn what_time_brings_about_reaches_consumers_at_once() {
    let mut stage = Stage::new();
    let (consumer, who) = (queue(&mut stage, 0), stage.open_channel());
    stage.call(consumer, 1, consume("c"), r#"basic.consume-ok consumer_tag="c""#);
    let arguments = FieldTable::new()
        .with("x-message-ttl", 1000)
        .and_then(|table| table.with("x-dead-letter-exchange", ""))
        .and_then(|table| table.with("x-dead-letter-routing-key", "q"))
        .unwrap();
    let method = QueueDeclare {
        queue: name("expiring"),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    stage.send(who, 1, method);
    stage.publish(who, 1, "expiring", b"1");
    stage.received(who);
    stage.advance(Duration::from_millis(999));
    assert!(stage.received(consumer).is_empty());
    stage.advance(Duration::from_millis(1));
    let received = stage.received(consumer);
    assert!(
        received[0].starts_with("ch 1 basic.deliver consumer_tag=\"c\""),
        "{received:?}"
    );
}
