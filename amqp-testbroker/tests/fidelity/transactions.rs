//! Transactions.

use amqp_proto::wire::*;

use crate::session::{Session, args, exclusive, publish, short};
use crate::world::World;

/// A session whose channel 1 is transactional and whose channel 2 is not, and a queue.
fn transactional(world: &World) -> (Session, String) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.call(&TxSelect {});
    (session, queue)
}

pub(crate) fn what_is_published_comes_with_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.put(&queue, "b");
    assert_eq!(session.take(&queue), None);
    let answer = session.call(&TxCommit {});
    assert_eq!(answer.to_string(), "ch 1 tx.commit-ok");
    session.expect_count(&queue, (2, 0));
    session.close();
}

pub(crate) fn what_is_published_is_forgotten_by_the_rollback(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    let answer = session.call(&TxRollback {});
    assert_eq!(answer.to_string(), "ch 1 tx.rollback-ok");
    session.put(&queue, "b");
    session.call(&TxCommit {});
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn acks_count_with_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.put(&queue, "b");
    session.call(&TxCommit {});
    session.get(&queue);
    session.get(&queue);
    session.ack(1);
    session.call(&TxCommit {});
    session.ack(2);
    session.close_channel();
    session.open(1);
    assert_eq!(session.drain(&queue), ["b"]);
    session.close();
}

pub(crate) fn a_rollback_takes_acks_back(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.call(&TxCommit {});
    session.get(&queue);
    session.ack(1);
    session.call(&TxRollback {});
    // It is still with the channel: neither gone nor back.
    assert_eq!(session.take(&queue), None);
    session.ack(1);
    session.call(&TxCommit {});
    session.close_channel();
    session.open(1);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn a_nack_counts_with_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.call(&TxCommit {});
    session.get(&queue);
    session.nack(1, false, true);
    assert_eq!(session.take(&queue), None);
    session.call(&TxCommit {});
    assert_eq!(session.drain(&queue), ["a"]);
    session.close();
}

pub(crate) fn acknowledging_twice_in_a_transaction(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.call(&TxCommit {});
    session.get(&queue);
    session.ack(1);
    session.refused(
        &BasicAck {
            delivery_tag: 1,
            multiple: false,
        },
        406,
        "PRECONDITION_FAILED - unknown delivery tag 1",
    );
    session.close();
}

pub(crate) fn closing_the_channel_rolls_back(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "a");
    session.close_channel();
    session.open(1);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn a_mandatory_message_comes_back_before_commit_ok(world: &World) {
    let (mut session, _) = transactional(world);
    let key = world.name("nowhere");
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish("", &key)
    };
    session.publish_with(&mandatory, &Properties::default(), "m");
    session.expect_nothing();
    session.send(&TxCommit {});
    session.expect(&format!(
        r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="{key}" "m""#
    ));
    session.expect("ch 1 tx.commit-ok");
    session.close();
}

pub(crate) fn a_publish_to_no_exchange_fails_at_once(world: &World) {
    let (mut session, queue) = transactional(world);
    let missing = world.name("x");
    session.put(&queue, "a");
    session.publish(&missing, "", "m");
    let text = format!("NOT_FOUND - no exchange '{missing}' in vhost '/'");
    session.expect_close(404, &text, BasicPublish::SPEC);
    assert_eq!(session.take(&queue), None);
    session.close();
}

pub(crate) fn a_publish_that_is_refused_fails_at_once(world: &World) {
    let (mut session, _) = transactional(world);
    let headers = args([("CC", "no list".into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    session.publish_with(&publish("", "nowhere"), &properties, "m");
    let text = r#"PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}"#;
    session.expect_close(406, text, BasicPublish::SPEC);
    session.close();
}

pub(crate) fn a_publish_is_routed_at_once(world: &World) {
    let (mut session, queue) = transactional(world);
    let exchange = world.name("x");
    session.exchange(&exchange, "fanout");
    session.publish(&exchange, "", "before");
    session.bind(&queue, &exchange, "");
    session.publish(&exchange, "", "after");
    session.call(&TxCommit {});
    assert_eq!(session.drain(&queue), ["after"]);
    session.close();
}

pub(crate) fn an_exchange_may_be_gone_at_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    let exchange = world.name("x");
    session.exchange(&exchange, "fanout");
    session.bind(&queue, &exchange, "");
    session.publish(&exchange, "", "m");
    session.call(&ExchangeDelete {
        exchange: short(&exchange),
        ..Default::default()
    });
    session.call(&TxCommit {});
    assert_eq!(session.drain(&queue), ["m"]);
    session.close();
}

pub(crate) fn a_queue_that_is_gone_at_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    let (kept, exchange) = (world.lasting("q"), world.name("x"));
    session.call(&QueueDeclare {
        queue: short(&kept),
        durable: true,
        ..Default::default()
    });
    session.exchange(&exchange, "fanout");
    for queue in [&kept, &queue] {
        session.bind(queue, &exchange, "");
    }
    session.put(&kept, "to one");
    session.publish(&exchange, "", "to both");
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish("", &queue)
    };
    session.publish_with(&mandatory, &Properties::default(), "to the other");
    session.call(&QueueDelete {
        queue: short(&queue),
        ..Default::default()
    });
    session.send(&TxCommit {});
    // To RabbitMQ 3 it is none, and the rest is done. RabbitMQ 4 does what comes before.
    if world.by_release(true, false) {
        session.expect(&format!(
            r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="" routing_key="{queue}" "to the other""#
        ));
        session.expect("ch 1 tx.commit-ok");
        assert_eq!(session.drain(&kept), ["to one", "to both"]);
        session.close();
    } else {
        let closed = session.next();
        let Method::ConnectionClose(close) = closed.method() else {
            panic!("no connection.close: {closed}");
        };
        // RabbitMQ breaks the line.
        let text: Vec<_> = close.reply_text.to_str().unwrap().split_whitespace().collect();
        let expected = format!("failed to deliver message: {{not_found,{{resource,<<\"/\">>,queue,<<\"{queue}\">>}}}}");
        assert_eq!(text.concat(), format!("RESOURCE_ERROR - {expected}").replace(' ', ""));
        assert_eq!((close.reply_code.0, close.class_id, close.method_id), (506, 90, 20));
        session.send_on(0, &ConnectionCloseOk {});
        session.expect_end();
        let mut session = world.connect();
        assert_eq!(session.drain(&kept), ["to one"]);
        session.close();
    }
}

pub(crate) fn a_queue_that_is_there_again_at_the_commit(world: &World) {
    let (mut session, queue) = transactional(world);
    session.put(&queue, "n");
    session.call(&QueueDelete {
        queue: short(&queue),
        ..Default::default()
    });
    session.call(&exclusive(&queue));
    // RabbitMQ 4 may find the old one: what it does then depends on how fast it forgets that.
    if world.by_release(true, world.is_embedded()) {
        session.call(&TxCommit {});
        assert_eq!(session.drain(&queue), ["n"]);
    }
    session.close();
}

pub(crate) fn what_comes_back_has_no_bcc(world: &World) {
    let mut session = world.connect();
    let (mut copies, mut blind) = (FieldArray::new(), FieldArray::new());
    copies.push("nor here").unwrap();
    blind.push("nor there").unwrap();
    let headers = args([("CC", (&copies).into()), ("BCC", (&blind).into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish("", "nowhere")
    };
    session.publish_with(&mandatory, &properties, "m");
    let returned = session.next();
    assert!(returned.is::<BasicReturn<'_>>());
    assert!(returned.header("CC").is_some());
    assert_eq!(returned.header("BCC"), None);
    session.close();
}

pub(crate) fn without_a_transaction(world: &World) {
    let mut session = world.connect();
    let text = "PRECONDITION_FAILED - channel is not transactional";
    session.refused(&TxCommit {}, 406, text);
    session.refused(&TxRollback {}, 406, text);
    session.close();
}

pub(crate) fn selecting_twice(world: &World) {
    let (mut session, _) = transactional(world);
    session.call(&TxSelect {});
    session.close();
}

pub(crate) fn transactions_and_confirms_do_not_mix(world: &World) {
    let (mut session, _) = transactional(world);
    session.refused(
        &ConfirmSelect::default(),
        406,
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
    session.confirm();
    session.refused(
        &TxSelect {},
        406,
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
    session.close();
}
