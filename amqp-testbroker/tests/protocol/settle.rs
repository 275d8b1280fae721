//! Acknowledgements.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_testbroker::{BrokerConfig, Release};

use crate::stage::{Stage, Who, close, name};

/// Five messages, delivered with the tags 1 to 5.
fn delivered(stage: &mut Stage) -> Who {
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    for body in ["1", "2", "3", "4", "5"] {
        stage.publish(who, 1, "q", body.as_bytes());
        stage.send(
            who,
            1,
            BasicGet {
                queue: name("q"),
                no_ack: false,
            },
        );
    }
    stage.received(who);
    assert_eq!(ready(stage), [""; 0]);
    who
}

fn ready(stage: &Stage) -> Vec<String> {
    let messages = stage.broker.messages("/", "q").unwrap();
    messages
        .iter()
        .map(|message| String::from_utf8(message.body().into_owned()).unwrap())
        .collect()
}

#[test]
fn each_way_to_settle_and_what_goes_back() {
    let cases: [(Method<'_>, &[&str]); 7] = [
        (
            BasicAck {
                delivery_tag: 2,
                multiple: false,
            }
            .into(),
            &["1", "3", "4", "5"],
        ),
        (
            BasicAck {
                delivery_tag: 2,
                multiple: true,
            }
            .into(),
            &["3", "4", "5"],
        ),
        (
            BasicAck {
                delivery_tag: 0,
                multiple: true,
            }
            .into(),
            &[],
        ),
        (
            BasicNack {
                delivery_tag: 4,
                multiple: true,
                requeue: false,
            }
            .into(),
            &["5"],
        ),
        (
            BasicNack {
                delivery_tag: 0,
                multiple: true,
                requeue: false,
            }
            .into(),
            &[],
        ),
        (
            BasicReject {
                delivery_tag: 1,
                requeue: false,
            }
            .into(),
            &["2", "3", "4", "5"],
        ),
        (
            BasicReject {
                delivery_tag: 1,
                requeue: true,
            }
            .into(),
            &["1", "2", "3", "4", "5"],
        ),
    ];
    for (method, back) in cases {
        let mut stage = Stage::new();
        let who = delivered(&mut stage);
        stage.send(who, 1, method);
        assert!(stage.received(who).is_empty());
        stage.call(who, 1, BasicRecover { requeue: true }, "basic.recover-ok");
        assert_eq!(ready(&stage), back, "{method}");
    }
}

#[test]
fn requeued_messages_go_back_at_once() {
    let mut stage = Stage::new();
    let who = delivered(&mut stage);
    stage.send(
        who,
        1,
        BasicNack {
            delivery_tag: 2,
            multiple: true,
            requeue: true,
        },
    );
    stage.run();
    assert_eq!(ready(&stage), ["1", "2"]);
    stage.send(who, 1, BasicRecoverAsync { requeue: true });
    assert!(stage.received(who).is_empty());
    assert_eq!(ready(&stage), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_tag_that_is_unknown_or_settled_ends_the_channel() {
    let cases: [(Method<'_>, u16, u64); 6] = [
        (
            BasicAck {
                delivery_tag: 6,
                multiple: false,
            }
            .into(),
            80,
            6,
        ),
        (
            BasicAck {
                delivery_tag: 6,
                multiple: true,
            }
            .into(),
            80,
            6,
        ),
        (
            BasicAck {
                delivery_tag: 0,
                multiple: false,
            }
            .into(),
            80,
            0,
        ),
        (
            BasicAck {
                delivery_tag: 3,
                multiple: false,
            }
            .into(),
            80,
            3,
        ),
        (
            BasicNack {
                delivery_tag: 7,
                multiple: false,
                requeue: true,
            }
            .into(),
            120,
            7,
        ),
        (
            BasicReject {
                delivery_tag: 8,
                requeue: true,
            }
            .into(),
            90,
            8,
        ),
    ];
    for (method, id, tag) in cases {
        let mut stage = Stage::new();
        let who = delivered(&mut stage);
        stage.send(
            who,
            1,
            BasicAck {
                delivery_tag: 3,
                multiple: false,
            },
        );
        stage.send(who, 1, method);
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        assert_eq!(stage.received(who), [close(1, 406, &text, 60, id)]);
        assert_eq!(ready(&stage), ["1", "2", "4", "5"]);
    }
}

#[test]
fn recovering_without_requeueing_is_not_implemented() {
    let cases: [(Method<'_>, u16); 2] = [
        (BasicRecover { requeue: false }.into(), 110),
        (BasicRecoverAsync { requeue: false }.into(), 100),
    ];
    for (method, id) in cases {
        let mut stage = Stage::new();
        let who = stage.open_channel();
        stage.send(who, 1, method);
        assert_eq!(
            stage.received(who),
            [close(0, 540, "NOT_IMPLEMENTED - requeue=false", 60, id)]
        );
    }
}

/// Waits a minute for deliveries to be settled.
fn impatient(release: Release) -> BrokerConfig {
    let mut config = BrokerConfig::of(release);
    config.consumer_timeout = Some(Duration::from_secs(60));
    config
}

#[test]
fn what_is_not_settled_in_time_closes_its_channel_in_3_10_and_goes_back() {
    let mut stage = Stage::with(impatient(Release::V3_10));
    let who = delivered(&mut stage);
    stage.advance(Duration::from_secs(59));
    let ack = BasicAck {
        delivery_tag: 3,
        multiple: true,
    };
    stage.send(who, 1, ack);
    stage.channel(who, 2);
    stage.advance(Duration::from_secs(1));
    let text = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 60000 ms. This timeout \
                value can be configured, see consumers doc guide to learn more";
    assert_eq!(stage.received(who), [close(1, 406, text, 0, 0)]);
    assert_eq!(ready(&stage), ["4", "5"]);
    stage.send(who, 1, ChannelCloseOk {});
    // The rest goes on, with a delivery that is settled.
    let consume = BasicConsume {
        queue: name("q"),
        ..Default::default()
    };
    stage.send(who, 2, consume);
    stage.run();
    assert_eq!(ready(&stage), [""; 0]);
    let ack = BasicAck {
        delivery_tag: 2,
        multiple: true,
    };
    stage.send(who, 2, ack);
    stage.received(who);
    stage.advance(Duration::from_secs(3600));
    assert_eq!(stage.received(who), [""; 0]);
}

/// A consumer `c` of a queue of that type, and its delivery, which was not settled for 59 seconds.
fn late_in_4(queue_type: &str) -> (Stage, Who) {
    let mut stage = Stage::with(impatient(Release::V4));
    let who = stage.open_channel();
    let arguments = FieldTable::new().with("x-queue-type", queue_type).unwrap();
    let declare = QueueDeclare {
        queue: name("q"),
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    stage.send(who, 1, declare);
    stage.publish(who, 1, "q", b"1");
    stage.send(who, 1, consume_c());
    stage.run();
    let received = stage.received(who);
    assert!(
        received.iter().any(|frame| frame.contains("basic.deliver")),
        "{received:?}"
    );
    stage.advance(Duration::from_secs(59));
    assert_eq!((stage.received(who), ready(&stage)), (vec![], vec![]));
    (stage, who)
}

fn consume_c() -> BasicConsume<'static> {
    BasicConsume {
        queue: name("q"),
        consumer_tag: name("c"),
        ..Default::default()
    }
}

const ACK: BasicAck = BasicAck {
    delivery_tag: 1,
    multiple: false,
};

#[test]
fn a_classic_queue_of_4_3_waits_for_ever() {
    let (mut stage, who) = late_in_4("classic");
    stage.advance(Duration::from_secs(3600));
    assert_eq!((stage.received(who), ready(&stage)), (vec![], vec![]));
}

#[test]
fn a_quorum_queue_of_4_3_takes_back_what_is_not_settled_in_time_and_cancels_the_consumer_until_it_is() {
    let (mut stage, who) = late_in_4("quorum");
    stage.advance(Duration::from_secs(1));
    assert_eq!(
        stage.received(who),
        [r#"ch 1 basic.cancel consumer_tag="c" no_wait"#]
    );
    assert_eq!(ready(&stage), ["1"]);
    stage.publish(who, 1, "q", b"2");
    stage.advance(Duration::from_secs(3600));
    assert_eq!(stage.received(who), [""; 0]);
    assert_eq!(ready(&stage), ["1", "2"]);
    // It begins again.
    stage.send(who, 1, ACK);
    stage.run();
    let received = stage.received(who);
    let is_delivery = |frame: &&String| frame.contains(r#"basic.deliver consumer_tag="c""#);
    assert_eq!(received.iter().filter(is_delivery).count(), 2, "{received:?}");
    assert!(received[0].contains("delivery_tag=2 redelivered"), "{received:?}");
    assert_eq!(ready(&stage), [""; 0]);
}

#[test]
fn the_tag_of_such_a_consumer_is_free_when_it_was_cancelled_by_the_client_too() {
    let (mut stage, who) = late_in_4("quorum");
    stage.advance(Duration::from_secs(1));
    let cancel = BasicCancel {
        consumer_tag: name("c"),
        no_wait: true,
    };
    stage.send(who, 1, cancel);
    stage.received(who);
    stage.send(who, 1, consume_c());
    stage.run();
    let received = stage.received(who);
    assert!(
        received[1].contains(r#"basic.deliver consumer_tag="c" delivery_tag=2 redelivered"#),
        "{received:?}"
    );
    // What was late means nothing any more, and is no mistake.
    stage.send(who, 1, ACK);
    assert_eq!((stage.received(who), ready(&stage)), (vec![], vec![]));

    let (mut stage, who) = late_in_4("quorum");
    stage.advance(Duration::from_secs(1));
    stage.received(who);
    stage.send(who, 1, consume_c());
    let text = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    assert_eq!(stage.received(who), [close(0, 530, text, 60, 20)]);
}
