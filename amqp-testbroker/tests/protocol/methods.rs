//! The classes exchange and queue, as far as the connection has a say; and faults on demand.

use amqp_proto::wire::*;

use crate::stage::{Stage, close, name};

#[test]
fn an_empty_name_is_the_queue_that_was_declared_last() {
    let mut stage = Stage::new();
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
    let bind = QueueBind {
        exchange: name("amq.direct"),
        ..Default::default()
    };
    stage.call(who, 1, bind, "queue.bind-ok");
    // Its name is the key too.
    let publish = BasicPublish {
        exchange: name("amq.direct"),
        routing_key: name("q"),
        ..Default::default()
    };
    stage.publish_with(who, 1, publish, Properties::default(), b"x");
    stage.call(who, 1, QueuePurge::default(), "queue.purge-ok message_count=1");
    let unbind = QueueUnbind {
        exchange: name("amq.direct"),
        ..Default::default()
    };
    stage.call(who, 1, unbind, "queue.unbind-ok");
    stage.publish_with(who, 1, publish, Properties::default(), b"x");
    stage.call(who, 1, BasicGet::default(), "basic.get-empty");
    let consume = BasicConsume {
        consumer_tag: name("c"),
        ..Default::default()
    };
    stage.call(who, 1, consume, r#"basic.consume-ok consumer_tag="c""#);
    stage.send(who, 1, QueueDelete::default());
    let received = stage.received(who);
    assert!(
        received.contains(&"ch 1 queue.delete-ok message_count=0".to_owned()),
        "{received:?}"
    );
}

#[test]
fn without_a_declared_queue_an_empty_name_is_not_found() {
    let methods: [Method<'_>; 6] = [
        QueueBind::default().into(),
        QueueUnbind::default().into(),
        QueuePurge::default().into(),
        QueueDelete::default().into(),
        BasicConsume::default().into(),
        BasicGet::default().into(),
    ];
    for method in methods {
        let mut stage = Stage::new();
        let who = stage.open_channel();
        stage.send(who, 1, method);
        let MethodId {
            class,
            method: number,
        } = method.spec().id;
        let text = "NOT_FOUND - no previously declared queue";
        assert_eq!(stage.received(who), [close(1, 404, text, class, number)]);
    }
}

#[test]
fn a_passive_declare_needs_a_name() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            passive: true,
            ..Default::default()
        },
    );
    assert_eq!(
        stage.received(who),
        [close(1, 404, "NOT_FOUND - no queue '' in vhost '/'", 50, 10)]
    );
}

#[test]
fn nothing_answers_without_waiting() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let (exchange, queue) = (name("x"), name("q"));
    let no_wait = true;
    stage.send(
        who,
        1,
        ExchangeDeclare {
            exchange,
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        QueueDeclare {
            queue,
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        QueueBind {
            queue,
            exchange,
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        ExchangeBind {
            source: exchange,
            destination: exchange,
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        ExchangeUnbind {
            source: exchange,
            destination: exchange,
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        BasicConsume {
            queue,
            consumer_tag: name("c"),
            no_wait,
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        BasicCancel {
            consumer_tag: name("c"),
            no_wait,
        },
    );
    stage.send(who, 1, QueuePurge { queue, no_wait });
    stage.send(who, 1, ConfirmSelect { no_wait });
    stage.send(
        who,
        1,
        ExchangeDelete {
            exchange,
            no_wait,
            ..Default::default()
        },
    );
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(0));
    stage.send(
        who,
        1,
        QueueDelete {
            queue,
            no_wait,
            ..Default::default()
        },
    );
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), None);
}

#[test]
fn exchanges_are_declared_bound_and_deleted() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let exchange = name("x");
    stage.call(
        who,
        1,
        ExchangeDeclare {
            exchange,
            ..Default::default()
        },
        "exchange.declare-ok",
    );
    let (source, destination) = (exchange, name("amq.direct"));
    stage.call(
        who,
        1,
        ExchangeBind {
            source,
            destination,
            ..Default::default()
        },
        "exchange.bind-ok",
    );
    stage.call(
        who,
        1,
        ExchangeUnbind {
            source,
            destination,
            ..Default::default()
        },
        "exchange.unbind-ok",
    );
    stage.call(
        who,
        1,
        ExchangeDelete {
            exchange,
            ..Default::default()
        },
        "exchange.delete-ok",
    );
    stage.send(
        who,
        1,
        ExchangeDeclare {
            exchange,
            passive: true,
            ..Default::default()
        },
    );
    let text = "NOT_FOUND - no exchange 'x' in vhost '/'";
    assert_eq!(stage.received(who), [close(1, 404, text, 40, 10)]);
}

#[test]
fn faults_on_demand() {
    let mut stage = Stage::new();
    stage.broker.refuse_connections(1);
    let refused = stage.connect();
    assert!(stage.is_over(refused));
    let who = stage.open_channel();
    let (key, now) = (stage.key(who), stage.now);
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.send(
        who,
        1,
        BasicConsume {
            consumer_tag: name("c"),
            ..Default::default()
        },
    );
    stage.received(who);
    assert!(stage.broker.cancel_consumer(key, now, 1, "c"));
    assert_eq!(
        stage.received(who),
        [r#"ch 1 basic.cancel consumer_tag="c" no_wait"#]
    );
    assert!(!stage.broker.cancel_consumer(key, now, 1, "c"));
    assert!(stage.received(who).is_empty());

    stage.broker.set_deaf(key, now, true);
    stage.send(who, 1, BasicQos::default());
    assert!(stage.received(who).is_empty());
    stage.broker.set_mute(key, now, true);
    stage.broker.set_deaf(key, now, false);
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.unread(who), 0);
    stage.broker.set_mute(key, now, false);
    assert_eq!(stage.received(who), ["ch 1 basic.qos-ok"]);

    assert!(
        stage
            .broker
            .close_channel(key, now, 1, ReplyCode::NOT_FOUND, "gone")
    );
    assert!(
        !stage
            .broker
            .close_channel(key, now, 1, ReplyCode::NOT_FOUND, "gone")
    );
    assert_eq!(stage.received(who), [close(1, 404, "gone", 0, 0)]);
    stage
        .broker
        .close_connection(key, now, ReplyCode::CONNECTION_FORCED, "enough");
    assert_eq!(stage.received(who), [close(0, 320, "enough", 0, 0)]);

    let who = stage.open_channel();
    stage.broker.hang_up_after(stage.key(who), now, 13);
    stage.call(who, 1, BasicQos::default(), "basic.qos-ok");
    assert!(!stage.is_over(who));
    stage.call(who, 1, BasicQos::default(), "basic.qos-ok");
    assert!(stage.is_over(who));
}

#[test]
fn a_restart_breaks_every_stream_off() {
    let mut stage = Stage::new();
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
    // The first answer is on its way, the second is not.
    stage.stall(who, true);
    for _ in 0..2 {
        stage.send(who, 1, BasicQos::default());
        stage.run();
    }
    stage.broker.restart(stage.now);
    assert!(stage.is_over(who));
    stage.stall(who, false);
    assert_eq!(stage.received(who), ["ch 1 basic.qos-ok"]);
    assert_eq!(stage.broker.queue_len("/", "q"), None);
}
