//! Consumers: how much they get, and what becomes of what they do not keep.

use amqp_proto::wire::{
    BasicConsume, BasicGet, BasicQos, BasicRecover, BasicRecoverAsync, FieldTable, Properties, QueueDelete,
    ReplyCode,
};
use amqp_proto::{ChannelCloseReason, ChannelId, ConsumerId, Event, RequestError, SendError};

use super::{Session, consume, short, to};

/// Publishes that many messages whose bodies are their numbers.
fn publish(session: &mut Session, channel: ChannelId, queue: &str, count: usize) {
    for number in 0..count {
        session.publish(channel, queue, number.to_string().as_bytes());
    }
}

fn deliveries(session: &Session, consumer: ConsumerId) -> usize {
    let is_its = |event: &&Event| matches!(event, Event::Delivery(delivery) if delivery.consumer == consumer);
    session.unclaimed().filter(is_its).count()
}

fn prefetch(session: &mut Session, channel: ChannelId, prefetch_count: u16) {
    let qos = BasicQos {
        prefetch_count,
        ..Default::default()
    };
    session.call(channel, &qos);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn no_more_than_the_prefetch_comes_until_it_is_acknowledged() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    prefetch(&mut session, channel, 3);
    publish(&mut session, channel, &queue, 10);
    let consumer = session.consume(channel, &queue);
    for round in 0..3 {
        let tags: Vec<_> = (0..3).map(|_| session.delivery(consumer).tag).collect();
        assert_eq!(session.count(channel, &queue), (7 - 3 * round, 1));
        assert_eq!(deliveries(&session, consumer), 0, "more than the prefetch");
        session.channel(channel).ack_multiple(tags[2]).unwrap();
    }
    assert_eq!(&*session.delivery(consumer).message.body(), b"9");
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_is_put_back_comes_again_and_says_so() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    publish(&mut session, channel, &queue, 3);
    let consumer = session.consume(channel, &queue);
    let tags: Vec<_> = (0..3)
        .map(|_| session.delivery(consumer))
        .map(|delivery| delivery.tag)
        .collect();
    session.channel(channel).nack(tags[2], true).unwrap();
    let again = session.delivery(consumer);
    assert!(again.redelivered);
    assert_eq!(&*again.message.body(), b"2");
    session.channel(channel).reject(again.tag, true).unwrap();
    let again = session.delivery(consumer);
    assert!(again.redelivered);
    session.channel(channel).nack_multiple(again.tag, false).unwrap();
    assert_eq!(
        session
            .channel(channel)
            .ack(amqp_proto::DeliveryTag::new(channel, 99)),
        Err(SendError::UnknownDelivery(99))
    );
    let cancel = session.channel(channel).cancel(consumer).unwrap();
    session.answer(cancel).unwrap();
    assert_eq!(session.count(channel, &queue), (0, 0));
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_is_rejected_goes_to_the_dead_letters() {
    let (mut session, channel) = Session::guest();
    let letters = session.queue(channel);
    let arguments = FieldTable::new().with("x-dead-letter-exchange", "").unwrap();
    let arguments = arguments
        .with("x-dead-letter-routing-key", letters.as_str())
        .unwrap();
    let queue = session.queue_with(channel, &arguments);
    let reader = session.consume(channel, &letters);
    session.publish(channel, &queue, b"unwanted");
    let got = session.get(channel, &queue).unwrap();
    session.channel(channel).reject(got.tag, false).unwrap();
    let letter = session.delivery(reader);
    assert_eq!(&*letter.message.body(), b"unwanted");
    let headers = letter.message.properties().headers.unwrap();
    assert_eq!(
        headers.get("x-first-death-queue").unwrap().unwrap().as_str(),
        Some(&*queue)
    );
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn two_consumers_share_and_one_goes_on_alone() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let (first, second) = (session.consume(channel, &queue), session.consume(channel, &queue));
    assert_eq!(session.count(channel, &queue), (0, 2));
    publish(&mut session, channel, &queue, 10);
    for _ in 0..5 {
        session.delivery(first);
        session.delivery(second);
    }
    let cancel = session.channel(channel).cancel(first).unwrap();
    assert_eq!(
        session.channel(channel).cancel(first),
        Err(SendError::UnknownConsumer)
    );
    session.answer(cancel).unwrap();
    assert_eq!(session.count(channel, &queue), (0, 1));
    publish(&mut session, channel, &queue, 10);
    for _ in 0..10 {
        session.delivery(second);
    }
    assert_eq!(deliveries(&session, first), 0);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_exclusive_consumer_is_the_only_one() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let exclusive = BasicConsume {
        exclusive: true,
        ..consume(&queue)
    };
    session.consume_with(channel, &exclusive);
    let other = session.open();
    let (_, request) = session.channel(other).consume(&consume(&queue)).unwrap();
    let error = session.answer(request).map(drop).unwrap_err();
    let RequestError::ChannelClosed(ChannelCloseReason::Peer(peer)) = error else {
        panic!("{error}")
    };
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert!(peer.text.contains("exclusive"), "{peer}");
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn the_consumer_of_higher_priority_gets_all_it_takes() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let low = session.consume(channel, &queue);
    let arguments = FieldTable::new().with("x-priority", 10).unwrap();
    let high = BasicConsume {
        arguments: arguments.as_ref(),
        ..consume(&queue)
    };
    let high = session.consume_with(channel, &high);
    publish(&mut session, channel, &queue, 20);
    for _ in 0..20 {
        session.delivery(high);
    }
    assert_eq!(deliveries(&session, low), 0);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_needs_no_acknowledgement_is_gone_when_it_is_sent() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let other = session.open();
    let no_ack = BasicConsume {
        no_ack: true,
        ..consume(&queue)
    };
    let consumer = session.channel(other).consume_nowait(&no_ack).unwrap();
    publish(&mut session, channel, &queue, 10);
    for number in 0..10 {
        assert_eq!(
            session.delivery(consumer).message.body(),
            number.to_string().as_bytes()
        );
    }
    session
        .channel(other)
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    session.channel_end(other);
    assert_eq!(session.count(channel, &queue), (0, 0));
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_consumer_is_told_that_its_queue_was_deleted() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    let consumer = session.consume(channel, &queue);
    let other = session.open();
    let delete = QueueDelete {
        queue: short(&queue),
        ..Default::default()
    };
    session.call(other, &delete);
    session.wait("the consumer's end", |event| {
        matches!(event, Event::ConsumerCancelled { consumer: ended } if *ended == consumer).then_some(())
    });
    assert_eq!(session.channel(channel).consumer_tag(consumer), None);
    assert_eq!(
        session.channel(channel).cancel(consumer),
        Err(SendError::UnknownConsumer)
    );
    session.queue(channel);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_abandoned_consumer_is_cancelled_and_its_messages_go_back() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    publish(&mut session, channel, &queue, 5);
    let (consumer, request) = session.channel(channel).consume(&consume(&queue)).unwrap();
    session.core.abandon(request);
    // consume-ok may come behind the first answer, but before the second; cancel answers it.
    session.queue(channel);
    session.queue(channel);
    assert_eq!(session.count(channel, &queue).1, 0, "still consuming");
    assert_eq!(deliveries(&session, consumer), 0);
    for number in 0..5 {
        let got = session.get(channel, &queue).unwrap();
        assert_eq!(got.message.body(), number.to_string().as_bytes());
    }
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn the_message_of_an_abandoned_get_goes_back() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.publish(channel, &queue, b"again");
    let get = BasicGet {
        queue: short(&queue),
        ..Default::default()
    };
    let request = session.channel(channel).get(&get).unwrap();
    session.core.abandon(request);
    assert_eq!(session.count(channel, &queue).0, 0);
    assert_eq!(session.core.counters().undeliverable, 1);
    let got = session.get(channel, &queue).unwrap();
    assert!(got.redelivered);
    assert_eq!(&*got.message.body(), b"again");
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn what_is_recovered_comes_again() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.publish(channel, &queue, b"again");
    let consumer = session.consume(channel, &queue);
    assert!(!session.delivery(consumer).redelivered);
    session.call(channel, &BasicRecover { requeue: true });
    assert!(session.delivery(consumer).redelivered);
    session
        .channel(channel)
        .recover_async(&BasicRecoverAsync { requeue: true })
        .unwrap();
    let again = session.delivery(consumer);
    assert!(again.redelivered);
    session.channel(channel).ack(again.tag).unwrap();
    session.close();
}

/// RabbitMQ page "Direct Reply-to".
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_answer_comes_to_who_asked_without_a_queue() {
    let (mut session, asker) = Session::guest();
    let answerer = session.open();
    let queue = session.queue(answerer);
    let questions = session.consume(answerer, &queue);
    let direct = BasicConsume {
        no_ack: true,
        ..consume("amq.rabbitmq.reply-to")
    };
    let answers = session.consume_with(asker, &direct);
    let properties = Properties {
        reply_to: Some(short("amq.rabbitmq.reply-to")),
        ..Default::default()
    };
    session
        .channel(asker)
        .publish(&to(&queue), &properties, "question")
        .unwrap();
    let question = session.delivery(questions);
    let reply_to = question.message.properties().reply_to.unwrap().to_string();
    session.publish(answerer, &reply_to, b"answer");
    assert_eq!(&*session.delivery(answers).message.body(), b"answer");
    session.close();
}
