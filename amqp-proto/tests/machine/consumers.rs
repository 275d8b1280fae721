//! Consumers: tags, the ends they come to, deliveries for those that are gone, bodies in pieces.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, ConsumerId, DeliveryTag, Event, SendError};
use bytes::Bytes;

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, short};

fn open() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    (peer, id)
}

fn with_tag(tag: &str) -> BasicConsume<'_> {
    BasicConsume {
        consumer_tag: short(tag),
        ..BasicConsume::default()
    }
}

/// The server ends that consumer, and wants no answer.
fn server_ends(peer: &mut Peer, tag: &str) {
    let ended = BasicCancel {
        consumer_tag: short(tag),
        no_wait: true,
    };
    peer.send(1, ended);
}

/// The text of a consumer's tag.
fn tag_of(peer: &mut Peer, consumer: ConsumerId) -> Option<String> {
    let mut channel = peer.connection.channel(consumer.channel()).ok()?;
    let tag = channel.consumer_tag(consumer)?;
    Some(tag.to_str().unwrap().to_owned())
}

#[test]
fn what_the_caller_fills_in_is_what_is_sent() {
    let (mut peer, id) = open();
    let arguments = FieldTable::new().with("x-priority", 5).unwrap();
    let consume = BasicConsume {
        queue: short("q"),
        consumer_tag: short("mine"),
        no_local: true,
        no_ack: true,
        exclusive: true,
        no_wait: true,
        arguments: arguments.as_ref(),
    };
    let (consumer, _) = peer.channel(id).consume(&consume).unwrap();
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.consume queue="q" consumer_tag="mine" no_local no_ack exclusive arguments={"x-priority": 5}"#
        ]
    );
    assert_eq!(tag_of(&mut peer, consumer).as_deref(), Some("mine"));
    assert_eq!(peer.channel(id).wants_acks(consumer), Some(false));
    let (other, _) = peer.channel(id).consume(&BasicConsume::default()).unwrap();
    assert_eq!(peer.channel(id).wants_acks(other), Some(true));
}

#[test]
fn a_consumer_without_a_tag_gets_one_that_no_other_had() {
    let (mut peer, one) = open();
    let two = peer.open_channel();
    let mut tags = Vec::new();
    for id in [one, one, two] {
        let (consumer, _) = peer.channel(id).consume(&BasicConsume::default()).unwrap();
        tags.extend(tag_of(&mut peer, consumer));
    }
    peer.send(1, close_406());
    peer.events();
    let again = peer.connection.open_channel_with_number(1).unwrap();
    let (consumer, _) = peer.channel(again).consume(&BasicConsume::default()).unwrap();
    tags.extend(tag_of(&mut peer, consumer));
    assert_eq!(tags, ["ctag0.0", "ctag0.1", "ctag1.0", "ctag2.0"]);
}

#[test]
fn a_tag_of_the_callers_that_looks_like_a_generated_one_is_no_obstacle() {
    let (mut peer, id) = open();
    let (taken, _) = peer.channel(id).consume(&with_tag("ctag0.1")).unwrap();
    let (other, _) = peer.channel(id).consume(&BasicConsume::default()).unwrap();
    assert_eq!(tag_of(&mut peer, taken).as_deref(), Some("ctag0.1"));
    assert_eq!(tag_of(&mut peer, other).as_deref(), Some("ctag0.2"));
}

#[test]
fn a_tag_can_be_used_once_on_a_channel_and_again_on_another() {
    let (mut peer, one) = open();
    let two = peer.open_channel();
    peer.channel(one).consume(&with_tag("c")).unwrap();
    peer.sent();
    let mut channel = peer.channel(one);
    assert_eq!(
        channel.consume(&with_tag("c")).map(drop),
        Err(SendError::ConsumerTagInUse)
    );
    assert_eq!(
        channel.consume_nowait(&with_tag("c")).map(drop),
        Err(SendError::ConsumerTagInUse)
    );
    peer.assert_quiet();
    assert!(peer.channel(two).consume(&with_tag("c")).is_ok());
}

#[test]
fn each_delivery_names_its_consumer() {
    let (mut peer, id) = open();
    let a = peer.consume(id, "a", false);
    let b = peer.consume(id, "b", true);
    peer.send_content(1, deliver("b", 1), b"");
    peer.send_content(1, deliver("a", 2), b"");
    let consumers: Vec<_> = peer
        .events()
        .into_iter()
        .map(|event| delivery(event).consumer)
        .collect();
    assert_eq!(consumers, [b, a]);
    assert_ne!(a, b);
}

#[test]
fn deliveries_may_come_before_the_consumers_answer_is_looked_at() {
    let (mut peer, id) = open();
    let (consumer, _) = peer.channel(id).consume(&with_tag("c")).unwrap();
    peer.send_content(1, deliver("c", 1), b"");
    assert_eq!(delivery(peer.event()).consumer, consumer);
}

#[test]
fn a_cancelled_consumer_gets_deliveries_until_the_answer_and_none_after() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    let request = peer.channel(id).cancel(consumer).unwrap();
    assert_eq!(peer.sent(), [r#"ch 1 basic.cancel consumer_tag="c""#]);
    peer.send_content(1, deliver("c", 1), b"on its way");
    assert_eq!(delivery(peer.event()).consumer, consumer);
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("c"),
        },
    );
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(request).is_some()));
    assert_eq!(tag_of(&mut peer, consumer), None);
    peer.send_content(1, deliver("c", 2), b"too late");
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=2 requeue"]);
    assert_eq!(peer.connection.counters().undeliverable, 1);
    assert_eq!(peer.connection.counters().delivered, 1);
    assert!(
        peer.channel(id).consume(&with_tag("c")).is_ok(),
        "the tag is free"
    );
}

#[test]
fn a_consumer_can_be_cancelled_once() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    peer.channel(id).cancel(consumer).unwrap();
    peer.sent();
    let unknown = [
        consumer,
        ConsumerId::new(id, 9),
        ConsumerId::new(ChannelId::new(1, 7), 0),
    ];
    for consumer in unknown {
        assert_eq!(
            peer.channel(id).cancel(consumer).map(drop),
            Err(SendError::UnknownConsumer)
        );
    }
    peer.assert_quiet();
}

/// RabbitMQ 3 ends the connection (541) if `basic.cancel` overtakes `basic.consume-ok`.
#[test]
fn a_consumer_given_up_before_it_is_there_is_cancelled_when_it_is_and_not_before() {
    let (mut peer, id) = open();
    let (consumer, request) = peer.channel(id).consume(&with_tag("c")).unwrap();
    peer.connection.abandon(request.untyped());
    assert_eq!(peer.channel(id).cancel(consumer), Err(SendError::UnknownConsumer));
    assert_eq!(peer.sent().len(), 1);
    let consumer_tag = short("c");
    peer.send(1, BasicConsumeOk { consumer_tag });
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), [r#"ch 1 basic.cancel consumer_tag="c""#]);
    peer.send(1, BasicCancelOk { consumer_tag });
    assert_eq!(peer.events(), []);
}

#[test]
fn the_server_can_end_a_consumer_and_is_answered_if_it_wants() {
    for no_wait in [true, false] {
        let (mut peer, id) = open();
        let consumer = peer.consume(id, "c", false);
        let other = peer.consume(id, "d", false);
        let consumer_tag = short("c");
        peer.send(
            1,
            BasicCancel {
                consumer_tag,
                no_wait,
            },
        );
        assert_eq!(peer.event(), Event::ConsumerCancelled { consumer });
        let answer = [
            r#"ch 1 basic.cancel-ok consumer_tag="c""#,
            r#"ch 1 basic.cancel consumer_tag="c" no_wait"#,
        ];
        assert_eq!(peer.sent(), answer[usize::from(no_wait)..]);
        assert_eq!(tag_of(&mut peer, consumer), None);
        assert_eq!(tag_of(&mut peer, other).as_deref(), Some("d"));
        assert_eq!(
            peer.channel(id).cancel(consumer).map(drop),
            Err(SendError::UnknownConsumer)
        );
        // RabbitMQ 4.3 revives it after a late acknowledgement.
        peer.send_content(1, deliver("c", 4), b"again");
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=4 requeue"]);
        server_ends(&mut peer, "c");
        peer.assert_quiet();
    }
}

/// RabbitMQ 4.3 would end the connection over a tag that it still has.
#[test]
fn a_tag_is_free_as_soon_as_the_server_has_ended_its_consumer() {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    server_ends(&mut peer, "c");
    assert!(matches!(peer.event(), Event::ConsumerCancelled { .. }));
    peer.channel(id).consume(&with_tag("c")).unwrap();
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.cancel consumer_tag="c" no_wait"#,
            r#"ch 1 basic.consume queue="" consumer_tag="c""#,
        ]
    );
}

#[test]
fn a_consumer_that_the_server_ends_during_a_commit_is_cancelled_behind_it() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    let select = peer.channel(id).request(&TxSelect {}).unwrap();
    peer.send(1, TxSelectOk {});
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(select).is_some()));
    let commit = peer.channel(id).request(&TxCommit {}).unwrap();
    peer.sent();
    let consumer_tag = short("c");
    server_ends(&mut peer, "c");
    assert_eq!(peer.event(), Event::ConsumerCancelled { consumer });
    assert_eq!(peer.sent(), [""; 0]);
    peer.send(1, TxCommitOk {});
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(commit).is_some()));
    assert_eq!(peer.sent(), [r#"ch 1 basic.cancel consumer_tag="c""#]);
    peer.send(1, BasicCancelOk { consumer_tag });
    peer.assert_quiet();
    peer.channel(id).consume(&with_tag("c")).unwrap();
}

#[test]
fn a_consumer_ended_from_both_sides_at_once_is_told_and_the_answer_too() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    let request = peer.channel(id).cancel(consumer).unwrap();
    let consumer_tag = short("c");
    server_ends(&mut peer, "c");
    assert_eq!(peer.event(), Event::ConsumerCancelled { consumer });
    peer.send(1, BasicCancelOk { consumer_tag });
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(request).is_some()));
}

#[test]
fn a_consumer_that_the_server_ends_while_the_channel_closes_is_not_answered() {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.sent();
    let consumer_tag = short("c");
    peer.send(
        1,
        BasicCancel {
            consumer_tag,
            no_wait: false,
        },
    );
    peer.events();
    assert_eq!(peer.sent(), [""; 0]);
}

#[test]
fn a_delivery_for_nobody_goes_back_with_its_body_swallowed() {
    let (mut peer, _) = open();
    peer.send(1, deliver("nobody", 3));
    peer.send_header(1, 4, Properties::default());
    peer.send_body(1, b"ab");
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=3 requeue"]);
    peer.send_body(1, b"cd");
    peer.assert_quiet();
    peer.send_content(1, deliver("nobody", 4), b"x");
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=4 requeue"]);
    assert_eq!(peer.connection.counters().undeliverable, 2);
}

/// A consumer of bodies in pieces.
fn streaming() -> (Peer, ChannelId, ConsumerId) {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    peer.channel(id).stream_bodies(consumer, true).unwrap();
    (peer, id, consumer)
}

/// What is told of a streamed message, in short.
fn told(events: Vec<Event>) -> Vec<String> {
    events
        .into_iter()
        .map(|event| match event {
            Event::DeliveryStarted { delivery, body_size } => {
                assert_eq!(delivery.message.body_len(), 0);
                assert_eq!(delivery.message.routing_key(), short("k"));
                format!("{} started {body_size}", delivery.tag.value())
            }
            Event::DeliveryChunk { tag, chunk } => {
                format!("{} {}", tag.value(), String::from_utf8_lossy(&chunk))
            }
            Event::DeliveryEnded { tag } => format!("{} ended", tag.value()),
            Event::Delivery(delivery) => format!("{} whole", delivery.tag.value()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_streamed_body_is_told_piece_by_piece() {
    for at_once in [true, false] {
        for pieces in [&[][..], &["hello"], &["he", "ll", "o"], &["", "he", "", "llo"]] {
            let (mut peer, ..) = streaming();
            let mut events = Vec::new();
            let mut look = |peer: &mut Peer| {
                if !at_once {
                    events.extend(peer.events());
                }
            };
            let size: usize = pieces.iter().map(|piece| piece.len()).sum();
            peer.send(1, deliver("c", 1));
            look(&mut peer);
            peer.send_header(1, size as u64, Properties::default());
            look(&mut peer);
            for piece in pieces {
                peer.send_body(1, piece.as_bytes());
                look(&mut peer);
            }
            events.extend(peer.events());
            let mut expected = vec![format!("1 started {size}")];
            let chunks = pieces.iter().filter(|piece| !piece.is_empty());
            expected.extend(chunks.map(|piece| format!("1 {piece}")));
            expected.push("1 ended".to_owned());
            assert_eq!(told(events), expected, "{pieces:?} {at_once}");
            assert_eq!(peer.connection.counters().delivered, 1);
        }
    }
}

#[test]
fn a_streamed_delivery_can_be_settled_while_it_arrives() {
    let (mut peer, id, consumer) = streaming();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 5, Properties::default());
    let event = peer.event();
    let Event::DeliveryStarted { delivery, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(delivery.consumer, consumer);
    assert_eq!(delivery.tag, DeliveryTag::new(id, 1));
    assert_eq!(peer.channel(id).nack(delivery.tag, false), Ok(()));
}

#[test]
fn streaming_begins_and_ends_with_the_next_message() {
    let (mut peer, id, consumer) = streaming();
    peer.send_content(1, deliver("c", 1), b"one");
    peer.send(1, deliver("c", 2));
    peer.send_header(1, 3, Properties::default());
    assert_eq!(
        told(peer.events()),
        ["1 started 3", "1 one", "1 ended", "2 started 3"]
    );
    peer.channel(id).stream_bodies(consumer, false).unwrap();
    peer.send_body(1, b"two");
    peer.send(1, deliver("c", 3));
    peer.send_header(1, 5, Properties::default());
    assert_eq!(told(peer.events()), ["2 two", "2 ended"]);
    peer.channel(id).stream_bodies(consumer, true).unwrap();
    peer.send_body(1, b"three");
    peer.send_content(1, deliver("c", 4), b"");
    assert_eq!(told(peer.events()), ["3 whole", "4 started 0", "4 ended"]);
}

#[test]
fn only_the_consumer_that_asked_for_it_is_streamed() {
    let (mut peer, id, _) = streaming();
    peer.consume(id, "d", false);
    peer.send_content(1, deliver("d", 1), b"one");
    assert_eq!(told(peer.events()), ["1 whole"]);
    let stranger = ConsumerId::new(id, 7);
    assert_eq!(
        peer.channel(id).stream_bodies(stranger, true),
        Err(SendError::UnknownConsumer)
    );
}

#[test]
fn a_streamed_message_ends_with_its_channel_without_a_word() {
    let (mut peer, id, _) = streaming();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 5, Properties::default());
    peer.send_body(1, b"he");
    assert_eq!(told(peer.events()), ["1 started 5", "1 he"]);
    peer.send(1, close_406());
    assert!(matches!(peer.event(), Event::ChannelClosed { channel, .. } if channel == id));
}

#[test]
fn a_streamed_message_goes_on_when_its_consumer_is_cancelled() {
    let (mut peer, id, consumer) = streaming();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 5, Properties::default());
    peer.send_body(1, b"he");
    assert_eq!(told(peer.events()), ["1 started 5", "1 he"]);
    peer.channel(id).cancel(consumer).unwrap();
    peer.send_body(1, b"llo");
    assert_eq!(told(peer.events()), ["1 llo", "1 ended"]);
}

#[test]
fn a_streamed_body_past_its_size_is_a_violation() {
    let (mut peer, ..) = streaming();
    peer.send(1, deliver("c", 1));
    peer.send_header(1, 2, Properties::default());
    peer.events();
    peer.send_body(1, b"abc");
    assert_eq!(
        peer.violation(),
        "501 body frame of 3 octets where at most 2 are left"
    );
}

#[test]
fn a_chunk_shares_the_memory_it_came_in() {
    let (mut peer, ..) = streaming();
    peer.send_content(1, deliver("c", 1), &[5; 100]);
    let memory = peer.input.unread().as_ptr_range();
    let chunks: Vec<Bytes> = peer
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::DeliveryChunk { chunk, .. } => Some(chunk),
            _ => None,
        })
        .collect();
    assert_eq!(chunks.len(), 1);
    assert!(memory.contains(&chunks[0].as_ptr()));
}

#[test]
fn a_tag_is_free_again_when_what_was_asked_about_its_consumer_is_answered() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    let cancel = peer.channel(id).cancel(consumer).unwrap();
    peer.sent();
    let consumer_tag = ShortStr::new("c").unwrap();
    server_ends(&mut peer, "c");
    assert_eq!(peer.events(), [Event::ConsumerCancelled { consumer }]);
    let again = BasicConsume {
        consumer_tag,
        ..BasicConsume::default()
    };
    let in_use = peer.channel(id).consume(&again);
    assert_eq!(in_use, Err(SendError::ConsumerTagInUse));
    peer.send(1, BasicCancelOk { consumer_tag });
    let Event::Reply(reply) = peer.event() else {
        panic!("the cancel is not answered")
    };
    assert!(reply.read(cancel).is_some());
    let (next, _) = peer.channel(id).consume(&again).unwrap();
    assert_ne!(next, consumer);
}
