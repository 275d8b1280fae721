//! What a test may ask a broker.

use amqp_proto::wire::*;

use crate::stage::{Stage, Who, name};

fn declare(stage: &mut Stage, who: Who, queue: &str) {
    let method = QueueDeclare {
        queue: name(queue),
        ..Default::default()
    };
    let ok = format!("queue.declare-ok queue={queue:?} message_count=0 consumer_count=0");
    stage.call(who, 1, method, &ok);
}

fn consume(stage: &mut Stage, who: Who, queue: &str, tag: &str) {
    let method = BasicConsume {
        queue: name(queue),
        consumer_tag: name(tag),
        ..Default::default()
    };
    stage.call(who, 1, method, &format!("basic.consume-ok consumer_tag={tag:?}"));
}

#[test]
fn queues_and_how_much_is_in_them() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    declare(&mut stage, who, "b");
    declare(&mut stage, who, "a");
    stage.publish(who, 1, "b", b"1");
    stage.publish(who, 1, "b", b"2");
    stage.run();
    assert_eq!(stage.broker.queues("/"), ["a", "b"]);
    assert_eq!(stage.broker.queues("other"), [""; 0]);
    let len = |queue| stage.broker.queue_len("/", queue);
    assert_eq!((len("a"), len("b"), len("c")), (Some(0), Some(2), None));
    assert_eq!(stage.broker.queue_len("other", "a"), None);
}

#[test]
fn how_many_consumers_a_queue_has() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    declare(&mut stage, who, "a");
    declare(&mut stage, who, "b");
    consume(&mut stage, who, "b", "first");
    consume(&mut stage, who, "b", "second");
    let count = |queue| stage.broker.consumer_count("/", queue);
    assert_eq!((count("a"), count("b"), count("c")), (Some(0), Some(2), None));
    assert_eq!(stage.broker.consumer_count("other", "a"), None);
}

#[test]
fn connections_and_their_channels() {
    let mut stage = Stage::new();
    let silent = stage.connect();
    let who = stage.open_channel();
    stage.channel(who, 7);
    let connections = stage.broker.connections();
    let shown = connections.iter().map(|info| {
        let (user, host) = (info.user.as_deref(), info.virtual_host.as_deref());
        (info.key, user, host, info.channels)
    });
    let expected = [
        (stage.key(silent), None, None, 0),
        (stage.key(who), Some("guest"), Some("/"), 2),
    ];
    assert!(shown.eq(expected), "{connections:?}");
}
