//! How the broker refuses, and what goes down with it: one channel, and what waits there.

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ConfirmOutcome, Credentials, Event, PeerClose, RequestError, SendError,
};

use super::{Session, consume, short, to, unique};
use crate::connect::parameters;

/// What the broker said when it refused that request.
#[track_caller]
fn refusal<T>(result: Result<T, RequestError>) -> PeerClose {
    match result {
        Err(RequestError::ChannelClosed(ChannelCloseReason::Peer(peer))) => peer,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

fn durable(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(name),
        durable: true,
        exclusive: true,
        ..Default::default()
    }
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn other_arguments_are_a_406_that_ends_one_channel_of_eleven() {
    let (mut session, channel) = Session::guest();
    let others: Vec<_> = (0..10).map(|_| session.open()).collect();
    let name = unique("queue");
    session.call(channel, &durable(&name));
    let other = QueueDeclare {
        auto_delete: true,
        ..durable(&name)
    };
    let behind = session.channel(channel).request(&other).unwrap();
    let further = session.channel(channel).request(&durable(&name)).unwrap();
    let peer = refusal(session.answer(behind));
    assert_eq!(peer.code, ReplyCode::PRECONDITION_FAILED);
    assert_eq!(
        &*peer.text,
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{name}' in vhost '/': received 'true' but \
             current is 'false'"
        )
    );
    assert_eq!(peer.method, Some(QueueDeclare::SPEC.id));
    assert_eq!(refusal(session.answer(further)), peer);
    assert_eq!(session.channel_end(channel), ChannelCloseReason::Peer(peer));
    assert!(session.core.channel(channel).is_err());
    for other in others {
        assert_eq!(session.count(other, &name), (0, 0));
    }
    assert_eq!(session.unclaimed().next(), None);
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_publish_to_no_exchange_loses_what_is_unconfirmed_with_the_cause() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.call(channel, &ConfirmSelect::default());
    let nowhere = unique("no exchange");
    let publish = BasicPublish {
        exchange: short(&nowhere),
        ..Default::default()
    };
    session.publish(channel, &queue, b"may arrive");
    session
        .channel(channel)
        .publish(&publish, &Properties::default(), "lost")
        .unwrap();
    session.publish(channel, &queue, b"lost");
    let outcomes = session.outcomes(channel, 3);
    let reason = session.channel_end(channel);
    let peer = reason.peer().unwrap();
    assert_eq!(peer.code, ReplyCode::NOT_FOUND);
    assert_eq!(
        &*peer.text,
        format!("NOT_FOUND - no exchange '{nowhere}' in vhost '/'")
    );
    assert_eq!(peer.method, Some(BasicPublish::SPEC.id));
    for tag in [2, 3] {
        assert_eq!(outcomes[&tag], ConfirmOutcome::Lost(reason.clone()));
    }
    // The channel's number is free again.
    assert!(session.core.open_channel_with_number(channel.number()).is_ok());
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn who_may_not_configure_gets_a_403() {
    let config = parameters()
        .config
        .credentials(Credentials::plain("limited", "limited"));
    let mut session = Session::connect(config);
    let channel = session.open();
    let name = unique("forbidden");
    let peer = refusal(session.try_call(channel, &durable(&name)));
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert!(
        peer.text.contains(&name) && peer.text.contains("user 'limited'"),
        "{peer}"
    );
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_exclusive_queue_of_another_connection_is_a_405() {
    let (mut owner, channel) = Session::guest();
    let queue = owner.queue(channel);
    let (mut other, channel) = Session::guest();
    let (_, request) = other.channel(channel).consume(&consume(&queue)).unwrap();
    let peer = refusal(other.answer(request));
    assert_eq!(peer.code, ReplyCode::RESOURCE_LOCKED);
    assert!(peer.text.contains(&queue), "{peer}");
    assert_eq!(peer.method, Some(BasicConsume::SPEC.id));
    other.close();
    owner.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_second_acknowledgement_is_a_406() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.publish(channel, &queue, b"once");
    let got = session.get(channel, &queue).unwrap();
    session.channel(channel).ack(got.tag).unwrap();
    session.channel(channel).ack(got.tag).unwrap();
    let reason = session.channel_end(channel);
    let peer = reason.peer().unwrap();
    assert_eq!(&*peer.text, "PRECONDITION_FAILED - unknown delivery tag 1");
    assert_eq!(peer.method, Some(BasicAck::SPEC.id));
    session.close();
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn tags_from_before_a_channel_was_reopened_are_stale() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.publish(channel, &queue, b"again");
    let got = session.get(channel, &queue).unwrap();
    session
        .channel(channel)
        .close(ReplyCode::REPLY_SUCCESS, "")
        .unwrap();
    assert_eq!(session.channel_end(channel), ChannelCloseReason::Requested);

    let reopened = session.core.open_channel_with_number(channel.number()).unwrap();
    assert_eq!(reopened.number(), channel.number());
    let consumer = session.consume(reopened, &queue);
    let again = session.delivery(consumer);
    assert!(again.redelivered);
    assert_eq!(again.tag.value(), got.tag.value());
    assert_eq!(session.channel(reopened).ack(got.tag), Err(SendError::Stale));
    assert_eq!(
        session.channel(reopened).nack_multiple(got.tag, true),
        Err(SendError::Stale)
    );
    session.channel(reopened).ack(again.tag).unwrap();
    assert_eq!(session.count(reopened, &queue), (0, 1));
    session.close();
}

/// RabbitMQ closes the whole connection; nothing is left waiting.
#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn an_immediate_publish_ends_the_connection_and_all_that_waits() {
    let (mut session, channel) = Session::guest();
    let queue = session.queue(channel);
    session.call(channel, &ConfirmSelect::default());
    let publish = BasicPublish {
        immediate: true,
        ..to(&queue)
    };
    session
        .channel(channel)
        .publish(&publish, &Properties::default(), "x")
        .unwrap();
    let request = session
        .channel(channel)
        .request(&durable(&unique("unanswered")))
        .unwrap();
    let outcomes = session.outcomes(channel, 1);
    let failed = session.answer(request).map(drop).unwrap_err();
    let reason = ChannelCloseReason::Connection(session.end());
    assert_eq!(reason.peer().unwrap().code, ReplyCode::NOT_IMPLEMENTED);
    assert_eq!(outcomes[&1], ConfirmOutcome::Lost(reason.clone()));
    assert_eq!(failed, RequestError::ChannelClosed(reason.clone()));
    assert_eq!(session.channel_end(channel), reason);
    assert_eq!(session.core.open_channel(), Err(SendError::Closed));
    let left: Vec<&Event> = session.unclaimed().collect();
    assert!(left.is_empty(), "{left:?}");
}
