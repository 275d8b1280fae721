//! Resource alarms.

use std::time::Duration;

use amqp_proto::wire::*;

use crate::stage::{Stage, name};

#[test]
fn a_publisher_is_told_at_its_next_publish_and_then_not_even_close_is_read() {
    let mut stage = Stage::new();
    let (publisher, other) = (stage.open_channel(), stage.open_channel());
    stage.send(
        publisher,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.publish(publisher, 1, "q", b"before");
    stage.received(publisher);
    stage.broker.block("low on memory");
    assert!(stage.received(publisher).is_empty());
    stage.call(publisher, 1, BasicQos::default(), "basic.qos-ok");

    stage.publish(publisher, 1, "q", b"while");
    let blocked = r#"ch 0 connection.blocked reason="low on memory""#;
    assert_eq!(stage.received(publisher), [blocked]);
    stage.send(publisher, 1, ChannelClose::default());
    stage.send(publisher, 0, ConnectionClose::default());
    assert!(stage.received(publisher).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
    stage.call(other, 1, BasicQos::default(), "basic.qos-ok");

    stage.broker.unblock(stage.now);
    let received = [
        "ch 0 connection.unblocked",
        "ch 1 channel.close-ok",
        "ch 0 connection.close-ok",
    ];
    assert_eq!(stage.received(publisher), received);
    assert_eq!(stage.broker.queue_len("/", "q"), Some(2));
    assert!(stage.received(other).is_empty());
}

#[test]
fn who_cannot_be_told_is_blocked_all_the_same() {
    let mut stage = Stage::new();
    let who = stage.start("guest", "guest", &FieldTable::new());
    stage.tune(who, 0);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(who, 1);
    stage.broker.block("low on disk");
    stage.publish(who, 1, "q", b"");
    stage.send(who, 1, BasicQos::default());
    assert!(stage.received(who).is_empty());
    stage.broker.unblock(stage.now);
    assert_eq!(stage.received(who), ["ch 1 basic.qos-ok"]);
}

#[test]
fn heartbeats_go_on_while_it_is_blocked_and_its_silence_is_forgiven() {
    let mut stage = Stage::new();
    let who = stage.start("guest", "guest", &crate::stage::all_capabilities());
    stage.tune(who, 2);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(who, 1);
    stage.broker.block("low on disk");
    stage.publish(who, 1, "q", b"");
    stage.received(who);
    stage.advance(Duration::from_secs(60));
    assert_eq!(stage.received(who), vec!["ch 0 heartbeat"; 60]);
    stage.broker.unblock(stage.now);
    assert_eq!(stage.received(who), ["ch 0 connection.unblocked"]);
    stage.advance(Duration::from_millis(5999));
    assert!(!stage.is_over(who));
    stage.advance(Duration::from_millis(1));
    assert!(stage.is_over(who));
}
