//! Requests and their answers: every kind of them, in order, too late, given up.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Config, Event, NoWait, Reply, Request, RequestError, RequestId, SendError};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, get_ok, short};

const SECOND: Duration = Duration::from_secs(1);

/// A peer whose requests time out after ten seconds, and its channel 1.
fn open() -> (Peer, ChannelId) {
    open_with_frame_max(131_072)
}

fn open_with_frame_max(frame_max: u32) -> (Peer, ChannelId) {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(Config::default().request_timeout(10 * SECOND), tune);
    let id = peer.open_channel();
    (peer, id)
}

/// Sends it and answers it; the answer must come back as its own type.
macro_rules! ask {
    ($($method:ident { $($field:ident: $value:expr),* } => $answer:expr;)+) => {
        $({
            let (mut peer, id) = open();
            let method = $method { $($field: $value,)* ..$method::default() };
            let request = peer.channel(id).request(&method).unwrap();
            let sent = peer.sent();
            assert_eq!(sent.len(), 1);
            assert!(sent[0].starts_with("ch 1 "), "{sent:?}");
            assert!(sent[0].contains($method::SPEC.name) && !sent[0].contains("no_wait"), "{sent:?}");
            peer.send(1, $answer);
            let event = peer.event();
            let Event::Reply(reply) = &event else { panic!("{event:?}") };
            assert_eq!(reply.request(), request.untyped());
            assert_eq!(reply.read(request), Some($answer));
            assert_eq!(reply.method(), Some(Method::from($answer)));
        })+
    };
}

#[test]
#[expect(
    clippy::needless_update,
    reason = "some methods have no more fields than are given"
)]
fn every_request_asks_for_an_answer_and_gets_its_own() {
    ask! {
        AccessRequest { active: true } => AccessRequestOk::default();
        ExchangeDeclare { no_wait: true, durable: true } => ExchangeDeclareOk {};
        ExchangeDelete { no_wait: true } => ExchangeDeleteOk {};
        ExchangeBind { no_wait: true } => ExchangeBindOk {};
        ExchangeUnbind { no_wait: true } => ExchangeUnbindOk {};
        QueueDeclare { no_wait: true } =>
            QueueDeclareOk { queue: short("amq.gen-1"), message_count: 2, consumer_count: 1 };
        QueueBind { no_wait: true } => QueueBindOk {};
        QueueUnbind { routing_key: short("k") } => QueueUnbindOk {};
        QueuePurge { no_wait: true } => QueuePurgeOk { message_count: 7 };
        QueueDelete { no_wait: true } => QueueDeleteOk { message_count: 8 };
        ChannelFlow { active: true } => ChannelFlowOk { active: true };
        BasicQos { prefetch_count: 10 } => BasicQosOk {};
        BasicRecover { requeue: true } => BasicRecoverOk {};
        ConfirmSelect { no_wait: true } => ConfirmSelectOk {};
        TxSelect {} => TxSelectOk {};
        TxCommit {} => TxCommitOk {};
        TxRollback {} => TxRollbackOk {};
    }
}

fn send_nowait<R: NoWait>(method: R) {
    let (mut peer, id) = open();
    peer.channel(id).send_nowait(&method).unwrap();
    let sent = peer.sent();
    assert!(sent.len() == 1 && sent[0].contains(" no_wait"), "{sent:?}");
    assert_eq!(peer.advance(100 * SECOND), [], "nobody waits");
    peer.send(1, BasicQosOk {});
    let name = "503 basic.qos-ok answers nothing: no request is waiting";
    assert_eq!(peer.violation(), name);
}

#[test]
fn what_is_sent_without_wish_for_an_answer_says_so_and_waits_for_none() {
    send_nowait(ExchangeDeclare::default());
    send_nowait(ExchangeDelete::default());
    send_nowait(ExchangeBind::default());
    send_nowait(ExchangeUnbind::default());
    send_nowait(QueueDeclare::default());
    send_nowait(QueueBind::default());
    send_nowait(QueuePurge::default());
    send_nowait(QueueDelete::default());
    send_nowait(ConfirmSelect::default());
}

#[test]
fn consume_cancel_and_get_ask_for_an_answer_whatever_the_caller_filled_in() {
    let (mut peer, id) = open();
    let consume = BasicConsume {
        consumer_tag: short("c"),
        no_wait: true,
        ..BasicConsume::default()
    };
    let (consumer, request) = peer.channel(id).consume(&consume).unwrap();
    let cancel = peer.channel(id).cancel(consumer).unwrap();
    assert_eq!(
        peer.sent(),
        [
            r#"ch 1 basic.consume queue="" consumer_tag="c""#,
            r#"ch 1 basic.cancel consumer_tag="c""#,
        ]
    );
    let consumer_tag = short("c");
    peer.send(1, BasicConsumeOk { consumer_tag });
    peer.send(1, BasicCancelOk { consumer_tag });
    let events = peer.events();
    let [Event::Reply(first), Event::Reply(second)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(first.read(request), Some(BasicConsumeOk { consumer_tag }));
    assert_eq!(second.read(cancel), Some(BasicCancelOk { consumer_tag }));
}

#[test]
fn consume_without_wish_for_an_answer_says_so() {
    let (mut peer, id) = open();
    peer.channel(id).consume_nowait(&BasicConsume::default()).unwrap();
    assert_eq!(
        peer.sent(),
        [r#"ch 1 basic.consume queue="" consumer_tag="ctag0.0" no_wait"#]
    );
}

#[test]
fn recover_async_is_not_answered() {
    let (mut peer, id) = open();
    peer.channel(id)
        .recover_async(&BasicRecoverAsync { requeue: true })
        .unwrap();
    assert_eq!(peer.sent(), ["ch 1 basic.recover-async requeue"]);
    assert_eq!(peer.advance(100 * SECOND), []);
}

#[test]
fn another_answer_than_the_next_one_due_is_503_and_names_both() {
    let (mut peer, id) = open();
    peer.channel(id).request(&QueueDeclare::default()).unwrap();
    peer.channel(id).request(&BasicQos::default()).unwrap();
    peer.sent();
    peer.send(1, BasicQosOk {});
    assert_eq!(
        peer.violation(),
        "503 basic.qos-ok does not answer queue.declare, which is the next to be answered"
    );
}

#[test]
fn a_violation_fails_what_waits_and_closed_comes_last() {
    let (mut peer, id) = open();
    let request = peer.channel(id).request(&QueueDeclare::default()).unwrap();
    peer.sent();
    peer.send(1, QueueBindOk {});
    let events = peer.events();
    assert!(
        matches!(
            &events[..],
            [Event::RequestFailed { request: failed, cause: RequestError::ChannelClosed(_) },
             Event::ChannelClosed { .. }, Event::Closed(_)] if *failed == request
        ),
        "{events:?}"
    );
}

#[test]
fn a_thousand_requests_at_once_are_answered_in_order() {
    let (mut peer, id) = open();
    let requests: Vec<_> = (0..1000)
        .map(|_| peer.channel(id).request(&QueuePurge::default()).unwrap())
        .collect();
    assert_eq!(peer.sent().len(), 1000);
    for message_count in 0..1000 {
        peer.send(1, QueuePurgeOk { message_count });
    }
    let events = peer.events();
    assert_eq!(events.len(), 1000);
    for ((count, request), event) in (0..).zip(requests).zip(events) {
        let Event::Reply(reply) = event else {
            panic!("{event:?}")
        };
        assert_eq!(reply.read(request).map(|ok| ok.message_count), Some(count));
    }
}

#[test]
fn requests_of_two_channels_do_not_wait_for_each_other() {
    let (mut peer, one) = open();
    let two = peer.open_channel();
    let first = peer.channel(one).request(&QueuePurge::default()).unwrap();
    let second = peer.channel(two).request(&BasicQos::default()).unwrap();
    peer.send(2, BasicQosOk {});
    peer.send(1, QueuePurgeOk { message_count: 0 });
    let events = peer.events();
    let [Event::Reply(a), Event::Reply(b)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(a.read(second).is_some() && b.read(first).is_some());
}

/// The only event is that this request failed by its deadline.
#[track_caller]
fn assert_timed_out<T>(events: &[Event], request: RequestId<T>) {
    let request = request.untyped();
    let cause = RequestError::Timeout;
    assert_eq!(events, [Event::RequestFailed { request, cause }]);
}

#[test]
fn a_late_answer_is_discarded_and_the_next_request_gets_its_own() {
    let (mut peer, id) = open();
    let late = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.transmit();
    assert_eq!(peer.advance(9 * SECOND), []);
    let next = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.transmit();
    assert_timed_out(&peer.advance(SECOND), late);
    assert_eq!(peer.connection.counters().timed_out, 1);
    peer.send(1, QueuePurgeOk { message_count: 1 });
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.counters().discarded_replies, 1);
    peer.send(1, QueuePurgeOk { message_count: 2 });
    let event = peer.event();
    let Event::Reply(reply) = event else {
        panic!("{event:?}")
    };
    assert_eq!(reply.read(next).map(|ok| ok.message_count), Some(2));
    assert_eq!(peer.advance(100 * SECOND), [], "it was answered");
}

#[test]
fn each_request_has_a_deadline_of_its_own_from_when_it_was_handed_over() {
    let (mut peer, id) = open();
    let first = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.advance(4 * SECOND);
    let second = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.transmit();
    assert_timed_out(&peer.advance(6 * SECOND), first);
    assert_eq!(peer.advance(4 * SECOND - Duration::from_nanos(1)), []);
    assert_timed_out(&peer.advance(Duration::from_nanos(1)), second);
}

#[test]
fn an_answer_that_lies_unread_when_the_deadline_comes_counts() {
    let (mut peer, id) = open();
    let request = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.transmit();
    peer.now = peer.now + 11 * SECOND;
    peer.send(1, QueuePurgeOk { message_count: 1 });
    peer.connection.handle_timeout(peer.now);
    let event = peer.event();
    let Event::Reply(reply) = event else {
        panic!("{event:?}")
    };
    assert!(reply.read(request).is_some());
}

#[test]
fn an_abandoned_request_keeps_its_place_in_the_row() {
    let (mut peer, id) = open();
    let mut ask = || peer.channel(id).request(&QueuePurge::default()).unwrap();
    let [first, second, third] = [ask(), ask(), ask()];
    peer.connection.abandon(first);
    peer.connection.abandon(second);
    peer.connection.abandon(second);
    for message_count in 1..=3 {
        peer.send(1, QueuePurgeOk { message_count });
    }
    let event = peer.event();
    let Event::Reply(reply) = event else {
        panic!("{event:?}")
    };
    assert_eq!(reply.read(third).map(|ok| ok.message_count), Some(3));
    assert_eq!(peer.connection.counters().discarded_replies, 2);
    assert_eq!(peer.connection.counters().timed_out, 0);
}

#[test]
fn an_abandoned_request_neither_times_out_nor_fails_with_its_channel() {
    let (mut peer, id) = open();
    let first = peer.channel(id).request(&QueuePurge::default()).unwrap();
    let second = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.connection.abandon(first);
    peer.transmit();
    assert_timed_out(&peer.advance(100 * SECOND), second);
    peer.send(1, close_406());
    assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
}

#[test]
fn to_abandon_what_is_unknown_or_answered_changes_nothing() {
    let (mut peer, id) = open();
    let answered = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.send(1, QueuePurgeOk { message_count: 1 });
    peer.events();
    let waiting = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.sent();
    peer.connection.abandon(answered);
    peer.connection.abandon(RequestId::<()>::new(id, 77));
    peer.connection
        .abandon(RequestId::<()>::new(ChannelId::new(1, 9), waiting.sequence()));
    peer.connection
        .abandon(RequestId::<()>::new(ChannelId::new(5, 0), 0));
    peer.assert_quiet();
    peer.send(1, QueuePurgeOk { message_count: 2 });
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(waiting).is_some()));
}

/// A consumer with the tag "c" whose request was given up, by hand or by the clock.
fn consume_given_up(no_ack: bool, by_clock: bool) -> (Peer, ChannelId) {
    let (mut peer, id) = open();
    let consume = BasicConsume {
        consumer_tag: short("c"),
        no_ack,
        ..BasicConsume::default()
    };
    let (_, request) = peer.channel(id).consume(&consume).unwrap();
    if by_clock {
        assert_timed_out(&peer.advance(10 * SECOND), request);
    } else {
        peer.connection.abandon(request);
    }
    peer.sent();
    (peer, id)
}

#[test]
fn a_consumer_nobody_waits_for_is_cancelled_and_what_it_got_goes_back() {
    for by_clock in [false, true] {
        let (mut peer, _) = consume_given_up(false, by_clock);
        peer.send_content(1, deliver("c", 1), b"early");
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
        peer.send(
            1,
            BasicConsumeOk {
                consumer_tag: short("c"),
            },
        );
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), [r#"ch 1 basic.cancel consumer_tag="c""#]);
        peer.send_content(1, deliver("c", 2), b"on its way");
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=2 requeue"]);
        peer.send(
            1,
            BasicCancelOk {
                consumer_tag: short("c"),
            },
        );
        peer.assert_quiet();
        let counters = peer.connection.counters();
        assert_eq!((counters.undeliverable, counters.discarded_replies), (2, 2));
        assert_eq!(peer.advance(100 * SECOND), []);
    }
}

#[test]
fn what_an_unwanted_consumer_got_without_acknowledgement_is_dropped() {
    let (mut peer, _) = consume_given_up(true, false);
    peer.send_content(1, deliver("c", 1), b"gone");
    peer.assert_quiet();
    assert_eq!(peer.connection.counters().undeliverable, 1);
}

#[test]
fn the_tag_of_an_unwanted_consumer_is_free_when_it_is_cancelled() {
    let (mut peer, id) = consume_given_up(false, false);
    let consume = BasicConsume {
        consumer_tag: short("c"),
        ..BasicConsume::default()
    };
    let again = |peer: &mut Peer| peer.channel(id).consume(&consume).map(drop);
    assert_eq!(again(&mut peer), Err(SendError::ConsumerTagInUse));
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: short("c"),
        },
    );
    peer.events();
    assert_eq!(again(&mut peer), Err(SendError::ConsumerTagInUse));
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("c"),
        },
    );
    peer.events();
    assert_eq!(again(&mut peer), Ok(()));
}

#[test]
fn an_unwanted_consumer_that_was_cancelled_already_is_not_cancelled_again() {
    let (mut peer, id) = open();
    let (consumer, request) = peer.channel(id).consume(&BasicConsume::default()).unwrap();
    peer.channel(id).cancel(consumer).unwrap();
    peer.connection.abandon(request);
    peer.sent();
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: short("ctag0.0"),
        },
    );
    peer.assert_quiet();
}

#[test]
fn an_unwanted_consumer_that_the_server_ended_is_nobodys_concern() {
    let (mut peer, _) = consume_given_up(false, false);
    peer.send(
        1,
        BasicCancel {
            consumer_tag: short("c"),
            no_wait: true,
        },
    );
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: short("c"),
        },
    );
    peer.assert_quiet();
}

#[test]
fn an_unwanted_consumer_ends_with_a_channel_that_is_closing() {
    let (mut peer, id) = open();
    let (_, request) = peer.channel(id).consume(&BasicConsume::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.connection.abandon(request);
    peer.sent();
    peer.send(
        1,
        BasicConsumeOk {
            consumer_tag: short("ctag0.0"),
        },
    );
    peer.assert_quiet();
}

#[test]
fn a_message_nobody_waits_for_goes_back_to_its_queue() {
    for by_clock in [false, true] {
        for no_ack in [false, true] {
            let (mut peer, id) = open();
            let get = BasicGet {
                no_ack,
                ..BasicGet::default()
            };
            let request = peer.channel(id).get(&get).unwrap();
            if by_clock {
                assert_timed_out(&peer.advance(10 * SECOND), request);
            } else {
                peer.connection.abandon(request);
            }
            peer.sent();
            peer.send_content(1, get_ok(5), b"unwanted");
            assert_eq!(peer.events(), []);
            let sent = peer.sent();
            if no_ack {
                assert_eq!(sent, [""; 0]);
            } else {
                assert_eq!(sent, ["ch 1 basic.nack delivery_tag=5 requeue"]);
            }
            let counters = peer.connection.counters();
            assert_eq!((counters.undeliverable, counters.discarded_replies), (1, 1));
        }
    }
}

#[test]
fn a_message_abandoned_while_it_arrives_goes_back_too() {
    // How much of it is there by then, in frames.
    for there in 1..=2 {
        for no_ack in [false, true] {
            let (mut peer, id) = open();
            let get = BasicGet {
                no_ack,
                ..BasicGet::default()
            };
            let request = peer.channel(id).get(&get).unwrap();
            peer.sent();
            peer.send(1, get_ok(5));
            peer.send_octets(&HEARTBEAT);
            if there == 2 {
                peer.send_header(1, 4, Properties::default());
                peer.send_body(1, b"ab");
            }
            assert_eq!(peer.events(), []);
            peer.connection.abandon(request);
            peer.connection.abandon(request);
            if there == 1 {
                peer.send_header(1, 4, Properties::default());
                peer.send_body(1, b"ab");
            }
            assert_eq!(peer.events(), []);
            assert!(peer.sent().is_empty(), "it is not complete");
            peer.send_body(1, b"cd");
            assert_eq!(peer.events(), []);
            let nack = ["ch 1 basic.nack delivery_tag=5 requeue"];
            assert_eq!(peer.sent(), if no_ack { &nack[1..] } else { &nack[..] });
            assert_eq!(peer.connection.counters().undeliverable, 1);
            assert_eq!(peer.connection.counters().discarded_replies, 1);
        }
    }
}

#[test]
fn an_empty_queue_nobody_waits_for_is_discarded() {
    let (mut peer, id) = open();
    let request = peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.connection.abandon(request);
    peer.sent();
    peer.send(1, BasicGetEmpty {});
    peer.assert_quiet();
    assert_eq!(peer.connection.counters().discarded_replies, 1);
}

#[test]
fn a_cancel_nobody_waits_for_ends_the_consumer_all_the_same() {
    let (mut peer, id) = open();
    let consumer = peer.consume(id, "c", false);
    let request = peer.channel(id).cancel(consumer).unwrap();
    peer.connection.abandon(request);
    peer.send(
        1,
        BasicCancelOk {
            consumer_tag: short("c"),
        },
    );
    assert_eq!(peer.events(), []);
    assert_eq!(peer.channel(id).consumer_tag(consumer), None);
    assert_eq!(peer.channel(id).wants_acks(consumer), None);
}

#[test]
fn a_peer_that_reads_and_never_answers_is_asked_65536_times() {
    let (mut peer, id) = open();
    for _ in 0..65_536 {
        if peer.connection.queued_bytes() > 100_000 {
            peer.sent();
        }
        peer.channel(id).request(&BasicQos::default()).unwrap();
    }
    peer.sent();
    let mut channel = peer.channel(id);
    assert_eq!(
        channel.request(&BasicQos::default()),
        Err(SendError::TooManyRequests)
    );
    assert_eq!(channel.get(&BasicGet::default()), Err(SendError::TooManyRequests));
    assert_eq!(
        channel.consume(&BasicConsume::default()).map(drop),
        Err(SendError::TooManyRequests)
    );
    assert_eq!(channel.send_nowait(&QueuePurge::default()), Ok(()));
    assert_eq!(peer.sent().len(), 1);
    peer.send(1, BasicQosOk {});
    peer.event();
    assert!(peer.channel(id).request(&BasicQos::default()).is_ok());
}

/// Asks with a table that fits no frame of 4096 octets.
fn too_large<R>(ask: impl FnOnce(&mut Peer, ChannelId, FieldTableRef<'_>) -> Result<R, SendError>) {
    let (mut peer, id) = open_with_frame_max(4096);
    let arguments = FieldTable::new().with("x", "y".repeat(4096).as_str()).unwrap();
    let waiting = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.sent();
    let refused = ask(&mut peer, id, arguments.as_ref()).map(drop);
    assert!(matches!(refused, Err(SendError::Encode(_))), "{refused:?}");
    peer.assert_quiet();
    let next = peer.channel(id).request(&BasicQos::default()).unwrap();
    peer.send(1, QueuePurgeOk { message_count: 1 });
    peer.send(1, BasicQosOk {});
    let events = peer.events();
    let [Event::Reply(a), Event::Reply(b)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(a.read(waiting).is_some() && b.read(next).is_some());
}

#[test]
fn a_method_that_fits_no_frame_is_refused_and_disturbs_nothing() {
    too_large(|peer, id, arguments| {
        peer.channel(id).request(&QueueDeclare {
            arguments,
            ..QueueDeclare::default()
        })
    });
    too_large(|peer, id, arguments| {
        peer.channel(id).send_nowait(&QueueDeclare {
            arguments,
            ..QueueDeclare::default()
        })
    });
    too_large(|peer, id, arguments| {
        let consumer_tag = short("c");
        let refused = peer.channel(id).consume(&BasicConsume {
            arguments,
            consumer_tag,
            ..BasicConsume::default()
        });
        peer.send_content(1, deliver("c", 1), b"for nobody");
        peer.events();
        assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
        refused
    });
}

#[test]
fn the_closing_channels_requests_are_still_answered() {
    let (mut peer, id) = open();
    let request: RequestId<QueuePurge<'static>> = peer.channel(id).request(&QueuePurge::default()).unwrap();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.send(1, QueuePurgeOk { message_count: 4 });
    assert!(matches!(peer.event(), Event::Reply(reply) if reply.read(request).is_some()));
}

/// That it takes whatever it is: a type parameter is enough to write one's own helper.
#[test]
fn requests_can_be_made_by_generic_code() {
    fn ask<R: Request>(peer: &mut Peer, id: ChannelId, method: &R) -> u64 {
        peer.channel(id).request(method).unwrap().sequence()
    }
    let (mut peer, id) = open();
    assert_eq!(ask(&mut peer, id, &BasicQos::default()), 1, "channel.open was 0");
    assert_eq!(ask(&mut peer, id, &TxSelect {}), 2);
}

#[test]
fn behind_a_commit_everything_is_refused_until_it_is_answered() {
    let (mut peer, id) = open();
    peer.channel(id).request(&TxSelect {}).unwrap();
    let commit = peer.channel(id).request(&TxCommit {}).unwrap();
    peer.send(1, TxSelectOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    peer.sent();
    let publish = |peer: &mut Peer| {
        let mut channel = peer.channel(id);
        channel.publish(&BasicPublish::default(), &Properties::default(), "x")
    };
    assert_eq!(publish(&mut peer), Err(SendError::Committing));
    assert_eq!(
        peer.channel(id).request(&TxRollback {}),
        Err(SendError::Committing)
    );
    assert!(peer.sent().is_empty());
    // Nobody waiting for the answer does not make it unnecessary.
    peer.connection.abandon(commit);
    assert_eq!(publish(&mut peer), Err(SendError::Committing));
    peer.send(1, TxCommitOk {});
    assert_eq!(peer.events(), []);
    assert_eq!(publish(&mut peer), Ok(None));
}

/// A channel that commits, with a consumer `c` that it has and `late` that it gave up before it was there.
fn committing() -> (Peer, ChannelId) {
    let (mut peer, id) = open();
    peer.consume(id, "c", false);
    peer.channel(id).request(&TxSelect {}).unwrap();
    peer.send(1, TxSelectOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    let late = BasicConsume {
        consumer_tag: short("late"),
        ..BasicConsume::default()
    };
    let (_, request) = peer.channel(id).consume(&late).unwrap();
    peer.connection.abandon(request);
    peer.channel(id).request(&TxCommit {}).unwrap();
    peer.sent();
    (peer, id)
}

#[test]
fn what_nobody_wants_goes_back_behind_the_commit() {
    let (mut peer, _) = committing();
    let consumer_tag = short("late");
    peer.send_content(1, deliver("late", 1), b"");
    peer.send(1, BasicConsumeOk { consumer_tag });
    peer.send_content(1, deliver("unknown", 2), b"x");
    peer.assert_quiet();
    assert_eq!(peer.connection.counters().undeliverable, 2);
    peer.send(1, TxCommitOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert_eq!(
        peer.sent(),
        [
            "ch 1 basic.nack delivery_tag=1 requeue",
            "ch 1 basic.nack delivery_tag=2 requeue",
            r#"ch 1 basic.cancel consumer_tag="late""#,
        ]
    );
    // Once.
    peer.send(1, BasicCancelOk { consumer_tag });
    peer.send_content(1, deliver("c", 3), b"x");
    assert!(matches!(peer.event(), Event::Delivery(_)));
    assert!(peer.sent().is_empty());
}

#[test]
fn a_consumer_that_is_not_there_yet_is_not_cancelled_behind_the_commit() {
    let (mut peer, _) = committing();
    peer.send(1, TxCommitOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert!(peer.sent().is_empty());
    let consumer_tag = short("late");
    peer.send(1, BasicConsumeOk { consumer_tag });
    peer.events();
    assert_eq!(peer.sent(), [r#"ch 1 basic.cancel consumer_tag="late""#]);
}

#[test]
fn nothing_is_published_for_two_reasons_as_for_one() {
    let publish = |peer: &mut Peer, id| {
        let mut channel = peer.channel(id);
        channel.publish(&BasicPublish::default(), &Properties::default(), "x")
    };
    let (mut peer, id) = committing();
    peer.send(1, ChannelFlow { active: false });
    peer.events();
    assert!(publish(&mut peer, id).is_err(), "committing, and stopped");
    peer.send(1, TxCommitOk {});
    peer.events();
    assert_eq!(publish(&mut peer, id), Err(SendError::FlowStopped));
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    assert_eq!(
        publish(&mut peer, id),
        Err(SendError::Stale),
        "closing, and stopped"
    );
    let (mut peer, id) = committing();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    assert_eq!(
        publish(&mut peer, id),
        Err(SendError::Stale),
        "closing, and committing"
    );
}

#[test]
fn nothing_goes_back_on_a_channel_that_closes_while_it_commits() {
    let (mut peer, id) = committing();
    let consumer_tag = short("late");
    peer.send(1, BasicConsumeOk { consumer_tag });
    peer.send_content(1, deliver("unknown", 1), b"x");
    peer.events();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.sent();
    peer.send(1, TxCommitOk {});
    assert!(matches!(peer.event(), Event::Reply(_)));
    assert!(peer.sent().is_empty());
}

#[test]
fn no_more_than_4096_deliveries_wait_to_go_back() {
    let (mut peer, _) = committing();
    for tag in 1..=4097 {
        peer.send_content(1, deliver("unknown", tag), b"");
        peer.assert_quiet();
    }
    peer.send(1, TxCommitOk {});
    peer.event();
    assert_eq!(peer.sent().len(), 4096);
}

#[test]
fn an_answer_that_never_comes_takes_one_place() {
    let (mut peer, id) = open();
    peer.channel(id).consume(&BasicConsume::default()).unwrap();
    for _ in 0..70_000 {
        let request = peer.channel(id).request(&BasicQos::default()).unwrap();
        peer.send(1, BasicQosOk {});
        let event = peer.connection.poll_event(peer.now, &mut peer.input);
        let Some(Event::Reply(reply)) = event else {
            panic!("{event:?}");
        };
        assert!(reply.read(request).is_some());
        peer.transmit();
    }
}

#[test]
fn an_answer_shows_what_it_is() {
    let request = RequestId::<QueuePurge<'_>>::new(ChannelId::new(1, 2), 3).untyped();
    let reply = Reply::new(request, QueuePurgeOk { message_count: 7 }).unwrap();
    assert_eq!(
        format!("{reply:?}"),
        "Reply { request: RequestId(3 of 1#2), method: queue.purge-ok message_count=7 }"
    );
}
