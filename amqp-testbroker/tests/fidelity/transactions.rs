//! Transactions.

use amqp_proto::wire::*;

use crate::session::{Session, publish};
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
