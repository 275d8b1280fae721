//! `basic.get`: a message, none, or something else.

use amqp_proto::wire::*;
use amqp_proto::{ChannelCloseReason, ChannelId, Config, DeliveryTag, Event, Got, RequestError, RequestId};

use crate::peer::Peer;
use crate::stage::{close_406, get_ok, short};

type Get = RequestId<BasicGet<'static>>;

fn asked_with(config: Config) -> (Peer, ChannelId, Get) {
    let tune = ConnectionTune {
        channel_max: 10,
        frame_max: 131_072,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(config, tune);
    let id = peer.open_channel();
    let get = BasicGet {
        queue: short("q"),
        ..BasicGet::default()
    };
    let request = peer.channel(id).get(&get).unwrap();
    assert_eq!(peer.sent(), [r#"ch 1 basic.get queue="q""#]);
    (peer, id, request)
}

fn asked() -> (Peer, ChannelId, Get) {
    asked_with(Config::default())
}

#[test]
fn a_message_says_what_it_answers_and_can_be_acknowledged() {
    let (mut peer, id, request) = asked();
    peer.send_content(1, get_ok(4), b"hello");
    let event = peer.event();
    let Event::Got(got) = event else {
        panic!("{event:?}")
    };
    assert_eq!(got.request, request);
    assert_eq!(got.tag, DeliveryTag::new(id, 4));
    assert!(got.redelivered);
    assert_eq!(got.message_count, 3);
    assert_eq!(got.message.exchange(), short("x"));
    assert_eq!(got.message.routing_key(), short("k"));
    assert_eq!(&*got.message.body(), b"hello");
    assert_eq!(
        got,
        Got::new(request, DeliveryTag::new(id, 4), true, 3, got.message.clone())
    );
    peer.channel(id).ack(got.tag).unwrap();
    assert_eq!(peer.sent(), ["ch 1 basic.ack delivery_tag=4"]);
    let counters = peer.connection.counters();
    assert_eq!((counters.got, counters.delivered), (1, 0));
}

#[test]
fn an_empty_queue_says_so() {
    let (mut peer, _, request) = asked();
    peer.send(1, BasicGetEmpty {});
    assert_eq!(peer.event(), Event::GetEmpty { request });
    assert_eq!(peer.connection.counters().got, 0);
}

#[test]
fn several_gets_are_answered_in_order() {
    let (mut peer, id, first) = asked();
    let second = peer
        .channel(id)
        .get(&BasicGet {
            no_ack: true,
            ..BasicGet::default()
        })
        .unwrap();
    let third = peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.send(1, BasicGetEmpty {});
    peer.send_content(1, get_ok(1), b"");
    peer.send_content(1, get_ok(2), b"two");
    let events = peer.events();
    let [Event::GetEmpty { request }, Event::Got(a), Event::Got(b)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!([*request, a.request, b.request], [first, second, third]);
    assert_eq!(a.message.body_len(), 0);
}

#[test]
fn another_answer_is_a_violation() {
    let (mut peer, ..) = asked();
    peer.send(1, QueuePurgeOk { message_count: 0 });
    assert_eq!(
        peer.violation(),
        "503 queue.purge-ok does not answer basic.get, which is the next to be answered"
    );
}

#[test]
fn a_message_that_was_not_asked_for_next_is_a_violation() {
    let (mut peer, id, _) = asked();
    peer.send(1, BasicGetEmpty {});
    peer.events();
    peer.channel(id).request(&BasicQos::default()).unwrap();
    peer.send_content(1, get_ok(1), b"");
    assert_eq!(
        peer.violation(),
        "503 basic.get-ok does not answer basic.qos, which is the next to be answered"
    );
}

/// The message is on its way: its method, and its header and half of its body if `there` is 2.
fn half_there(there: u32) -> (Peer, ChannelId, Get) {
    let (mut peer, id, request) = asked();
    peer.send(1, get_ok(1));
    peer.send_octets(&HEARTBEAT);
    if there == 2 {
        peer.send_header(1, 4, Properties::default());
        peer.send_body(1, b"ab");
    }
    assert_eq!(peer.events(), []);
    (peer, id, request)
}

#[test]
fn a_channel_that_ends_in_the_middle_of_the_message_fails_the_request() {
    for there in 1..=2 {
        let (mut peer, id, request) = half_there(there);
        let next = peer.channel(id).get(&BasicGet::default()).unwrap();
        peer.send(1, close_406());
        let events = peer.events();
        let [
            Event::RequestFailed {
                request: first,
                cause: RequestError::ChannelClosed(reason),
            },
            Event::RequestFailed { request: second, .. },
            Event::ChannelClosed { .. },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!([*first, *second], [request.untyped(), next.untyped()]);
        assert_eq!(reason.peer().map(|peer| peer.code.0), Some(406));
    }
}

#[test]
fn a_channel_closed_from_both_sides_in_the_middle_of_the_message_fails_the_request_once() {
    let (mut peer, id, request) = half_there(2);
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.send(1, close_406());
    peer.send(1, ChannelCloseOk {});
    let events = peer.events();
    assert!(
        matches!(
            &events[..],
            [Event::RequestFailed { request: failed, .. }, Event::ChannelClosed { .. }] if *failed == request
        ),
        "{events:?}"
    );
}

#[test]
fn a_violation_in_the_middle_of_the_message_fails_the_request() {
    type Break = fn(&mut Peer);
    let breaks: [(u32, Break); 5] = [
        (1, |peer| peer.send(1, BasicQosOk {})),
        (1, |peer| peer.send_body(1, b"ab")),
        (1, |peer| peer.send_octets(&[2, 0, 1, 0, 0, 0, 1, 0, 0xCE])),
        (2, |peer| peer.send_header(1, 1, Properties::default())),
        (2, |peer| peer.send_body(1, b"abc")),
    ];
    for (there, violate) in breaks {
        let (mut peer, _, request) = half_there(there);
        violate(&mut peer);
        let events = peer.events();
        assert!(
            matches!(
                &events[..],
                [Event::RequestFailed { request: failed, .. }, Event::ChannelClosed { .. }, Event::Closed(_)]
                if *failed == request
            ),
            "{events:?}"
        );
    }
}

#[test]
fn a_message_over_the_limit_fails_the_request() {
    let (mut peer, id, request) = asked_with(Config::default().max_message_size(3));
    peer.send_content(1, get_ok(1), b"four");
    let too_large = ChannelCloseReason::ContentTooLarge { size: 4, limit: 3 };
    let failed = Event::RequestFailed {
        request: request.untyped(),
        cause: RequestError::ChannelClosed(too_large.clone()),
    };
    assert_eq!(peer.events(), std::slice::from_ref(&failed));
    peer.send(1, ChannelCloseOk {});
    let reason = too_large;
    assert_eq!(peer.event(), Event::ChannelClosed { channel: id, reason });
}

#[test]
fn a_message_that_all_channels_together_cannot_hold_fails_the_request() {
    let (mut peer, _, request) = asked_with(Config::default().max_partial_content(3));
    peer.send(1, get_ok(1));
    peer.send_header(1, 8, Properties::default());
    peer.send_body(1, b"four");
    let event = peer.event();
    assert!(
        matches!(
            event,
            Event::RequestFailed {
                request: failed,
                cause: RequestError::ChannelClosed(ChannelCloseReason::ContentTooLarge { size: 8, limit: 3 })
            } if failed == request
        ),
        "{event:?}"
    );
}
