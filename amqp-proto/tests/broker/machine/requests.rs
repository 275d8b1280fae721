//! Every request and its answer.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Secret, SendError};

use super::{Session, short, unique};

fn exchange<'a>(name: &'a str, exchange_type: &'a str) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        exchange: short(name),
        exchange_type: short(exchange_type),
        auto_delete: true,
        ..Default::default()
    }
}

/// A publish to an exchange, and how many messages the queue has then.
fn arrives(session: &mut Session, channel: ChannelId, exchange: &str, queue: &str) -> u32 {
    let publish = BasicPublish {
        exchange: short(exchange),
        routing_key: short("key"),
        ..Default::default()
    };
    session
        .channel(channel)
        .publish(&publish, &Properties::default(), "x")
        .unwrap();
    let purge = QueuePurge {
        queue: short(queue),
        ..Default::default()
    };
    session.call(channel, &purge).get().message_count
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn exchanges_and_queues_are_declared_bound_unbound_and_deleted() {
    let (mut session, channel) = Session::guest();
    let (source, destination) = (unique("source"), unique("destination"));
    session.call(channel, &exchange(&source, "direct"));
    session.call(channel, &exchange(&destination, "fanout"));
    let queue = session.queue(channel);
    assert!(queue.starts_with("amq.gen-"), "{queue}");

    let bind_exchange = ExchangeBind {
        destination: short(&destination),
        source: short(&source),
        routing_key: short("key"),
        ..Default::default()
    };
    let bind_queue = QueueBind {
        queue: short(&queue),
        exchange: short(&destination),
        ..Default::default()
    };
    session.call(channel, &bind_queue);
    assert_eq!(arrives(&mut session, channel, &source, &queue), 0);
    session.call(channel, &bind_exchange);
    assert_eq!(arrives(&mut session, channel, &source, &queue), 1);

    // Another binding keeps the auto-delete source from going with the one that is removed.
    let keep = ExchangeBind {
        routing_key: short("other"),
        ..bind_exchange
    };
    session.call(channel, &keep);
    let unbind_exchange = ExchangeUnbind {
        destination: short(&destination),
        source: short(&source),
        routing_key: short("key"),
        ..Default::default()
    };
    session.call(channel, &unbind_exchange);
    assert_eq!(arrives(&mut session, channel, &source, &queue), 0);

    let delete_source = ExchangeDelete {
        exchange: short(&source),
        ..Default::default()
    };
    session.call(channel, &delete_source);
    let unbind_queue = QueueUnbind {
        queue: short(&queue),
        exchange: short(&destination),
        ..Default::default()
    };
    session.call(channel, &unbind_queue);
    session.publish(channel, &queue, b"goes with the queue");
    let delete_queue = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    assert_eq!(session.call(channel, &delete_queue).get().message_count, 1);
    assert_eq!(session.call(channel, &delete_queue).get().message_count, 0);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_needs_no_answer_is_done_in_order_without_one() {
    let (mut session, channel) = Session::guest();
    let (source, destination, queue) = (unique("source"), unique("destination"), unique("queue"));
    let frames = session.core.counters().frames_received;
    let mut nowait = session.channel(channel);
    nowait.send_nowait(&exchange(&source, "direct")).unwrap();
    nowait.send_nowait(&exchange(&destination, "fanout")).unwrap();
    let declare = QueueDeclare {
        queue: short(&queue),
        exclusive: true,
        ..Default::default()
    };
    nowait.send_nowait(&declare).unwrap();
    let bind = QueueBind {
        queue: short(&queue),
        exchange: short(&destination),
        ..Default::default()
    };
    nowait.send_nowait(&bind).unwrap();
    let bind = ExchangeBind {
        destination: short(&destination),
        source: short(&source),
        routing_key: short("key"),
        ..Default::default()
    };
    nowait.send_nowait(&bind).unwrap();
    assert_eq!(arrives(&mut session, channel, &source, &queue), 1);

    let mut nowait = session.channel(channel);
    let publish = super::to(&queue);
    nowait
        .publish(&publish, &Properties::default(), "purged")
        .unwrap();
    let purge = QueuePurge {
        queue: short(&queue),
        ..Default::default()
    };
    nowait.send_nowait(&purge).unwrap();
    let unbind = ExchangeUnbind {
        destination: short(&destination),
        source: short(&source),
        routing_key: short("key"),
        ..Default::default()
    };
    nowait.send_nowait(&unbind).unwrap();
    let delete = ExchangeDelete {
        exchange: short(&destination),
        ..Default::default()
    };
    nowait.send_nowait(&delete).unwrap();
    assert_eq!(session.count(channel, &queue), (0, 0));
    assert_eq!(
        session.core.counters().frames_received - frames,
        2,
        "more than two answers"
    );
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_queue_s_end_and_confirm_mode_need_no_answer() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let frames = session.core.counters().frames_received;
    let delete = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    session.channel(channel).send_nowait(&delete).unwrap();
    session
        .channel(channel)
        .send_nowait(&ConfirmSelect::default())
        .unwrap();
    assert!(session.channel(channel).is_confirming());
    // That the queue is gone is known from the return, which says that confirm mode is on by its tag too.
    let publish = BasicPublish {
        mandatory: true,
        ..super::to(&queue)
    };
    session
        .channel(channel)
        .publish(&publish, &Properties::default(), "x")
        .unwrap();
    let outcomes = session.outcomes(channel, 1);
    assert_eq!(outcomes[&1], amqp_proto::ConfirmOutcome::Returned);
    // The return with its header and body, and the confirm.
    assert_eq!(session.core.counters().frames_received - frames, 3 + 1);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn the_other_requests_are_answered_too() {
    let (mut session, channel) = Session::guest();
    session.call(channel, &AccessRequest::default());
    session.call(channel, &ChannelFlow { active: true });
    let qos = BasicQos {
        prefetch_count: 5,
        ..Default::default()
    };
    session.call(channel, &qos);
    session.call(channel, &BasicRecover { requeue: true });
    session.call(channel, &ConfirmSelect::default());
    let transactional = session.open();
    session.call(transactional, &TxSelect {});
    session.call(transactional, &TxCommit {});
    session.call(transactional, &TxRollback {});
    let secret = session
        .core
        .update_secret(
            &Secret::new("a password is no token, and RabbitMQ takes it all the same"),
            "test",
        )
        .unwrap();
    session.answer(secret).unwrap();
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn pipelined_requests_are_answered_each_with_its_own() {
    let (mut session, channel) = Session::guest();
    let names: Vec<_> = (0..200).map(|_| unique("pipelined")).collect();
    let requests: Vec<_> = names
        .iter()
        .map(|name| {
            let declare = QueueDeclare {
                queue: short(name),
                exclusive: true,
                ..Default::default()
            };
            session.channel(channel).request(&declare).unwrap()
        })
        .collect();
    for (name, request) in names.iter().zip(requests) {
        assert_eq!(session.answer(request).unwrap().get().queue, short(name));
    }
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_abandoned_request_does_not_take_another_s_answer() {
    let (mut session, channel) = Session::guest();
    let exclusive = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    let first = session.channel(channel).request(&exclusive).unwrap();
    session.core.abandon(first);
    let queue = session.queue(channel);
    assert_eq!(session.core.counters().discarded_replies, 1);
    assert_eq!(session.count(channel, &queue), (0, 0));
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_a_transaction_holds_arrives_when_it_is_committed() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.call(channel, &TxSelect {});
    session.publish(channel, &queue, b"rolled back");
    session.call(channel, &TxRollback {});
    assert_eq!(session.count(channel, &queue).0, 0);
    session.publish(channel, &queue, b"committed");
    assert_eq!(session.count(channel, &queue).0, 0);
    session.call(channel, &TxCommit {});
    assert_eq!(session.count(channel, &queue).0, 1);
    session.close();
}

/// RabbitMQ answers consume and cancel when the queue has, so what was asked behind is answered before.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_is_asked_behind_consumers_is_answered_whatever_the_order() {
    let (mut session, channel) = Session::guest();
    let queues: Vec<_> = (0..20).map(|_| session.queue(channel)).collect();
    let mut consumers = Vec::new();
    let mut declares = Vec::new();
    for queue in &queues {
        consumers.push(session.channel(channel).consume(&super::consume(queue)).unwrap());
        let declare = QueueDeclare {
            queue: short(queue),
            passive: true,
            ..Default::default()
        };
        declares.push(session.channel(channel).request(&declare).unwrap());
    }
    for (queue, declare) in queues.iter().zip(declares) {
        assert_eq!(session.answer(declare).unwrap().get().queue, short(queue));
    }
    let mut cancels = Vec::new();
    for (consumer, request) in consumers {
        let tag = session
            .channel(channel)
            .consumer_tag(consumer)
            .unwrap()
            .to_string();
        assert_eq!(session.answer(request).unwrap().get().consumer_tag, short(&tag));
        cancels.push((tag, session.channel(channel).cancel(consumer).unwrap()));
    }
    for (tag, cancel) in cancels.into_iter().rev() {
        assert_eq!(session.answer(cancel).unwrap().get().consumer_tag, short(&tag));
    }
    session.close();
}

/// A commit of a persistent message is answered when the message is on disk. RabbitMQ takes nothing before that (`unexpected command
/// while processing 'tx.commit'`, 504), so nothing is sent.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn nothing_is_sent_behind_a_commit_before_it_is_answered() {
    let (mut session, channel) = Session::guest();
    let queue = unique("durable");
    let declare = QueueDeclare {
        queue: short(&queue),
        durable: true,
        ..Default::default()
    };
    session.call(channel, &declare);
    session.call(channel, &TxSelect {});
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    session
        .channel(channel)
        .publish(&super::to(&queue), &persistent, "x")
        .unwrap();
    session.call(channel, &TxCommit {});
    assert_eq!(session.count(channel, &queue).0, 1);
    session
        .channel(channel)
        .publish(&super::to(&queue), &persistent, "x")
        .unwrap();
    let commit = session.channel(channel).request(&TxCommit {}).unwrap();
    let refused = session.channel(channel).request(&declare);
    assert_eq!(refused, Err(SendError::Committing));
    session.answer(commit).unwrap();
    assert_eq!(session.count(channel, &queue).0, 2);
    session.close();
    let (mut session, channel) = Session::guest();
    let delete = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    session.call(channel, &delete);
    session.close();
}
