//! Transactions.

use amqp_proto::wire::*;
use amqp_testbroker::BrokerConfig;

use crate::stage::{Stage, Who, close, name};

/// A transactional channel with message `1` got from the queue and `2` left.
fn transactional(stage: &mut Stage) -> Who {
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.publish(who, 1, "q", b"1");
    stage.publish(who, 1, "q", b"2");
    stage.send(
        who,
        1,
        BasicGet {
            queue: name("q"),
            no_ack: false,
        },
    );
    stage.received(who);
    stage.call(who, 1, TxSelect {}, "tx.select-ok");
    who
}

#[test]
fn publishes_and_acks_are_done_at_commit() {
    let mut stage = Stage::new();
    let who = transactional(&mut stage);
    stage.publish(who, 1, "q", b"3");
    let nowhere = BasicPublish {
        routing_key: name("nowhere"),
        mandatory: true,
        ..Default::default()
    };
    stage.publish_with(who, 1, nowhere, Properties::default(), b"");
    stage.send(
        who,
        1,
        BasicNack {
            delivery_tag: 1,
            multiple: false,
            requeue: true,
        },
    );
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
    stage.send(who, 1, TxCommit {});
    let returned = r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="nowhere""#;
    assert_eq!(
        stage.received(who),
        [returned, "ch 1 header body_size=0", "ch 1 tx.commit-ok"]
    );
    assert_eq!(stage.broker.queue_len("/", "q"), Some(3));
    stage.call(who, 1, TxCommit {}, "tx.commit-ok");
    assert_eq!(stage.broker.queue_len("/", "q"), Some(3));
}

#[test]
fn a_rollback_forgets_publishes_and_takes_acks_back() {
    let mut stage = Stage::new();
    let who = transactional(&mut stage);
    stage.publish(who, 1, "q", b"3");
    stage.send(
        who,
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    stage.call(who, 1, TxRollback {}, "tx.rollback-ok");
    stage.call(who, 1, TxCommit {}, "tx.commit-ok");
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
    stage.call(who, 1, BasicRecover { requeue: true }, "basic.recover-ok");
    assert_eq!(stage.broker.queue_len("/", "q"), Some(2));
}

#[test]
fn what_was_not_committed_goes_back_when_the_channel_ends() {
    let mut stage = Stage::new();
    let who = transactional(&mut stage);
    stage.publish(who, 1, "q", b"3");
    stage.send(
        who,
        1,
        BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
    );
    stage.call(who, 1, ChannelClose::default(), "channel.close-ok");
    assert_eq!(stage.broker.queue_len("/", "q"), Some(2));
}

#[test]
fn a_missing_exchange_is_noticed_before_the_commit() {
    let mut stage = Stage::new();
    let who = transactional(&mut stage);
    let publish = BasicPublish {
        exchange: name("missing"),
        ..Default::default()
    };
    stage.publish_with(who, 1, publish, Properties::default(), b"");
    let text = "NOT_FOUND - no exchange 'missing' in vhost '/'";
    assert_eq!(stage.received(who), [close(1, 404, text, 60, 40)]);
}

#[test]
fn the_modes_exclude_each_other_and_need_a_select() {
    let tx: Method<'_> = TxSelect {}.into();
    let confirm: Method<'_> = ConfirmSelect::default().into();
    let cases = [
        (
            Some(tx),
            confirm,
            "cannot switch from tx to confirm mode",
            (85, 10),
        ),
        (
            Some(confirm),
            tx,
            "cannot switch from confirm to tx mode",
            (90, 10),
        ),
        (
            None,
            Method::from(TxCommit {}),
            "channel is not transactional",
            (90, 20),
        ),
        (
            None,
            TxRollback {}.into(),
            "channel is not transactional",
            (90, 30),
        ),
    ];
    for (before, method, text, (class, number)) in cases {
        let mut stage = Stage::new();
        let who = stage.open_channel();
        if let Some(before) = before {
            stage.send(who, 1, before);
            stage.received(who);
        }
        stage.send(who, 1, method);
        let text = format!("PRECONDITION_FAILED - {text}");
        assert_eq!(stage.received(who), [close(1, 406, &text, class, number)]);
    }
}

#[test]
fn what_waits_for_its_commit_counts_in_memory() {
    let mut config = BrokerConfig::default();
    config.max_memory = 10_000;
    let mut stage = Stage::with(config);
    let who = transactional(&mut stage);
    // Even without a body it is something.
    (0..100).for_each(|_| stage.publish(who, 1, "q", b""));
    let text = "RESOURCE_ERROR - memory limit of 10000 octets is reached";
    assert_eq!(stage.received(who), [close(0, 506, text, 60, 40)]);
    // And nothing when nobody can commit it.
    let who = stage.open_channel();
    stage.publish(who, 1, "q", &[0; 9000]);
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(3));
}

#[test]
fn nor_does_what_was_rolled_back_or_failed_in_the_commit() {
    let mut config = BrokerConfig::default();
    config.max_memory = 20_000;
    let mut stage = Stage::with(config);
    let who = stage.open_channel();
    for queue in ["a", "b", "c"] {
        let (queue, exchange) = (name(queue), name("amq.fanout"));
        let declare = QueueDeclare {
            queue,
            ..Default::default()
        };
        stage.send(who, 1, declare);
        let bind = QueueBind {
            queue,
            exchange,
            ..Default::default()
        };
        stage.send(who, 1, bind);
    }
    stage.received(who);
    stage.call(who, 1, TxSelect {}, "tx.select-ok");
    let to_all = BasicPublish {
        exchange: name("amq.fanout"),
        ..Default::default()
    };
    for _ in 0..2 {
        for _ in 0..3 {
            stage.publish_with(who, 1, to_all, Properties::default(), &[0; 5000]);
        }
        stage.call(who, 1, TxRollback {}, "tx.rollback-ok");
    }
    for _ in 0..3 {
        stage.publish_with(who, 1, to_all, Properties::default(), &[0; 5000]);
    }
    stage.send(who, 1, TxCommit {});
    let text = "RESOURCE_ERROR - memory limit of 20000 octets is reached";
    assert_eq!(stage.received(who), [close(0, 506, text, 90, 20)]);
    let who = stage.open_channel();
    stage.publish(who, 1, "a", &[0; 4000]);
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "a"), Some(2));
}
