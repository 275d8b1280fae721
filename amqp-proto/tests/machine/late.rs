//! Answers that RabbitMQ gives late: the queue gives them, not the channel, so what was asked behind is answered before.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, CloseReason, Event, RequestId};

use crate::peer::Peer;

fn tag(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

/// A channel with a consumer `a` asked for, then a consumer `b`, then a queue.
fn asked() -> (Peer, ChannelId, [RequestId; 3]) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let mut channel = peer.connection.channel(id).unwrap();
    let consumers = ["a", "b"].map(|name| {
        let consume = BasicConsume {
            consumer_tag: tag(name),
            ..Default::default()
        };
        channel.consume(&consume).unwrap().1.untyped()
    });
    let declare = channel.request(&QueueDeclare::default()).unwrap().untyped();
    peer.sent();
    (peer, id, [consumers[0], consumers[1], declare])
}

/// Which requests were answered, in order.
fn answered(peer: &mut Peer) -> Vec<RequestId> {
    let events = peer.events();
    let requests = events.iter().map(|event| match event {
        Event::Reply(reply) => reply.request(),
        other => panic!("{other:?}"),
    });
    requests.collect()
}

#[test]
fn what_was_asked_behind_a_consumer_may_be_answered_before() {
    let (mut peer, id, [a, b, declare]) = asked();
    peer.send(1, QueueDeclareOk::default());
    assert_eq!(answered(&mut peer), [declare]);
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: tag("b"),
        },
    );
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: tag("a"),
        },
    );
    assert_eq!(answered(&mut peer), [b, a]);
    let next = peer
        .connection
        .channel(id)
        .unwrap()
        .request(&QueueDeclare::default())
        .unwrap();
    peer.send(1, QueueDeclareOk::default());
    assert_eq!(answered(&mut peer), [next.untyped()]);
}

#[test]
fn each_consumer_s_end_is_known_by_its_tag() {
    let (mut peer, id, [a, b, declare]) = asked();
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: tag("a"),
        },
    );
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: tag("b"),
        },
    );
    peer.send(1, QueueDeclareOk::default());
    assert_eq!(answered(&mut peer), [a, b, declare]);
    let mut channel = peer.connection.channel(id).unwrap();
    let ends = [0, 1].map(|number| {
        channel
            .cancel(amqp_proto::ConsumerId::new(id, number))
            .unwrap()
            .untyped()
    });
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: tag("b"),
        },
    );
    assert_eq!(answered(&mut peer), [ends[1]]);
    // The server ends the other before it hears of it, and says so; it still answers.
    peer.send(
        1,
        BasicCancel {
            consumer_tag: tag("a"),
            no_wait: true,
        },
    );
    assert!(matches!(peer.event(), Event::ConsumerCancelled { .. }));
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: tag("a"),
        },
    );
    assert_eq!(answered(&mut peer), [ends[0]]);
}

/// Answered requests that wait behind a late one are neither answered, abandoned nor failed again.
#[test]
fn one_that_was_answered_early_is_done() {
    let (mut peer, id, [a, b, declare]) = asked();
    peer.send(1, QueueDeclareOk::default());
    assert_eq!(answered(&mut peer), [declare]);
    peer.connection.abandon(declare);
    peer.connection.handle_disconnect(peer.now, None);
    let failed: Vec<_> = peer
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::RequestFailed { request, .. } => Some(request),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [a, b]);
    assert_eq!(a.channel(), id);
}

#[test]
fn an_answer_out_of_order_to_anything_else_is_an_error() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let mut channel = peer.connection.channel(id).unwrap();
    channel.request(&QueueDeclare::default()).unwrap();
    channel.request(&QueuePurge::default()).unwrap();
    peer.send(1, QueuePurgeOk::default());
    let events = peer.events();
    assert!(
        matches!(events.last(), Some(Event::Closed(CloseReason::Protocol(_)))),
        "{events:?}"
    );
    let (mut peer, _, _) = asked();
    peer.send(1, QueuePurgeOk::default());
    let events = peer.events();
    assert!(
        matches!(events.last(), Some(Event::Closed(CloseReason::Protocol(_)))),
        "{events:?}"
    );
}

#[test]
fn a_consumer_whose_cancel_is_answered_first_is_over_and_not_ended_again() {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    let mut channel = peer.connection.channel(id).unwrap();
    let consume = BasicConsume {
        consumer_tag: tag("a"),
        ..Default::default()
    };
    let (consumer, begun) = channel.consume(&consume).unwrap();
    let cancel = channel.cancel(consumer).unwrap();
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: tag("a"),
        },
    );
    assert_eq!(answered(&mut peer), [cancel.untyped()]);
    let ended = BasicCancel {
        consumer_tag: tag("a"),
        no_wait: true,
    };
    peer.send(1, ended);
    assert_eq!(peer.events(), []);
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: tag("a"),
        },
    );
    assert_eq!(answered(&mut peer), [begun.untyped()]);
    let mut channel = peer.connection.channel(id).unwrap();
    assert!(channel.consume(&consume).is_ok(), "the tag is free");
}
