//! Frames and content that are not what they should be.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_testbroker::{BrokerConfig, Release};

use crate::stage::{Stage, all_capabilities, close, name};

fn header(class: u16, weight: u16, body_size: u64, rest: &[u8]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(weight.to_be_bytes());
    payload.extend(body_size.to_be_bytes());
    payload.extend(rest);
    frame(2, 1, &payload, 0xCE)
}

fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend(channel.to_be_bytes());
    octets.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend(payload);
    octets.push(end);
    octets
}

/// An open channel on which these octets end the connection.
#[track_caller]
fn ends_connection(octets: &[u8], code: u16, text: &str, id: (u16, u16)) -> (Stage, usize) {
    ends_connection_of(Release::V4, octets, code, text, id)
}

#[track_caller]
fn ends_connection_of(
    release: Release,
    octets: &[u8],
    code: u16,
    text: &str,
    id: (u16, u16),
) -> (Stage, usize) {
    let mut config = BrokerConfig::default();
    config.release = release;
    let mut stage = Stage::with(config);
    let who = stage.open_channel();
    stage.send_octets(who, octets);
    assert_eq!(stage.received(who), [close(0, code, text, id.0, id.1)]);
    (stage, who)
}

fn publish() -> Vec<u8> {
    let mut octets = Vec::new();
    Method::from(BasicPublish::default())
        .encode(&mut octets, 1, 4096)
        .unwrap();
    octets
}

#[test]
fn content_where_a_method_is_due_is_unexpected() {
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    for channel in [1, 2] {
        ends_connection(&frame(3, channel, b"x", 0xCE), 505, text, (0, 0));
    }
}

#[test]
fn another_frame_where_a_header_is_due_is_unexpected() {
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    for next in [publish(), frame(3, 1, b"x", 0xCE), header(60, 1, 0, &[0, 0])] {
        ends_connection(&[publish(), next].concat(), 505, text, (60, 40));
    }
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    ends_connection(
        &[publish(), header(50, 0, 0, &[0, 0])].concat(),
        505,
        text,
        (60, 40),
    );
}

#[test]
fn another_frame_where_a_body_is_due_is_unexpected() {
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let octets = [publish(), header(60, 0, 5, &[0, 0]), publish()].concat();
    ends_connection(&octets, 505, text, (60, 40));
}

#[test]
fn a_body_that_is_too_long_is_noticed_at_once_or_by_the_old_release_at_the_next_frame() {
    let octets = [publish(), header(60, 0, 1, &[0, 0]), frame(3, 1, b"xy", 0xCE)].concat();
    let mut stage = Stage::new();
    let who = stage.open_channel();
    stage.send_octets(who, &octets);
    let closed = stage.received(who);
    assert!(
        closed[0].starts_with("ch 0 connection.close reply_code=501 FRAME_ERROR"),
        "{closed:?}"
    );

    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let octets = [octets, frame(3, 1, b"z", 0xCE), publish()].concat();
    ends_connection_of(Release::V3_10, &octets, 505, text, (60, 40));
}

#[test]
fn properties_that_cannot_be_read_are_an_internal_error() {
    for rest in [&b"\x80\x00"[..], b"\0\0abc", b"\x20\x00\0\0\0\x03\x01kZ"] {
        let octets = [publish(), header(60, 0, 0, rest)].concat();
        ends_connection(&octets, 541, "INTERNAL_ERROR", (0, 0));
    }
}

#[test]
fn flags_without_a_meaning_are_ignored() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let queue = QueueDeclare {
        queue: name("q"),
        ..Default::default()
    };
    stage.send(who, 1, queue);
    stage.received(who);
    stage.send(
        who,
        1,
        BasicPublish {
            routing_key: name("q"),
            ..Default::default()
        },
    );
    stage.send_octets(who, &header(60, 0, 0, &[0x80, 3, 1, b't']));
    assert!(stage.received(who).is_empty());
    let messages = stage.broker.messages("/", "q").unwrap();
    assert_eq!(messages[0].properties().content_type, Some(name("t")));
}

#[test]
fn content_that_no_client_may_send_is_invalid() {
    let mut octets = Vec::new();
    Method::from(BasicDeliver::default())
        .encode(&mut octets, 1, 4096)
        .unwrap();
    octets.extend(header(60, 0, 0, &[0, 0]));
    ends_connection(&octets, 503, "COMMAND_INVALID - unimplemented method", (60, 60));
}

#[test]
fn malformed_frames_are_frame_errors() {
    let text = r#"FRAME_ERROR - type 9, all octets = <<"hello">>: unknown_frame"#;
    ends_connection(&frame(9, 1, b"hello", 0xCE), 501, text, (0, 0));
    let text = r#"FRAME_ERROR - type 8, all octets = <<"x">>: unknown_frame"#;
    ends_connection(&frame(8, 0, b"x", 0xCE), 501, text, (0, 0));
    let text = "FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame";
    ends_connection(&frame(1, 1, &[0, 60], 0xCE), 501, text, (0, 0));
    let text = "FRAME_ERROR - cannot decode <<0,0>>";
    ends_connection(&frame(1, 1, &[0, 50, 0, 10, 0, 0], 0xCE), 501, text, (50, 10));
    let text = "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,9>>";
    let trailing = [0, 60, 0, 10, 0, 0, 0, 0, 0, 0, 0, 9];
    ends_connection(&frame(1, 1, &trailing, 0xCE), 501, text, (60, 10));
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    let no_utf8 = [0, 50, 0, 40, 0, 0, 1, 0xFF, 0];
    ends_connection(&frame(1, 1, &no_utf8, 0xCE), 501, text, (0, 0));
    let text = "INTERNAL_ERROR";
    ends_connection(&frame(1, 0, &[0, 10, 0, 50, 0], 0xCE), 541, text, (0, 0));
}

#[test]
fn a_close_text_ends_in_an_ellipsis_at_255_octets() {
    let mut arguments = vec![0, 60, 0, 10];
    arguments.extend([200; 100]);
    let text = format!("FRAME_ERROR - cannot decode <<{}", "200,".repeat(100));
    let text = format!("{}...", &text[..252]);
    ends_connection(&frame(1, 1, &arguments, 0xCE), 501, &text, (60, 10));
}

#[test]
fn frames_that_have_no_place_are_unexpected() {
    let text = "UNEXPECTED_FRAME - type 8, all octets = <<>>";
    ends_connection(&frame(8, 1, b"", 0xCE), 505, text, (0, 0));
    let text = "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,0,0,0>>";
    let on_0 = frame(2, 0, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0xCE);
    ends_connection(&on_0, 505, text, (0, 0));
}

#[test]
fn when_frames_are_out_of_step_the_stream_ends_three_seconds_later() {
    let text =
        "FRAME_ERROR - type 3, first 16 octets = <<\"0123456789abcdef\">>: {invalid_frame_end_marker,0}";
    let wrong_end = frame(3, 1, b"0123456789abcdefg", 0);
    let (mut stage, who) = ends_connection(&wrong_end, 501, text, (0, 0));
    stage.send(who, 0, ConnectionCloseOk {});
    stage.advance(Duration::from_nanos(2_999_999_999));
    assert!(!stage.is_over(who));
    stage.advance(Duration::from_nanos(1));
    assert!(stage.is_over(who));

    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}";
    ends_connection(&[3, 0, 1, 0, 2, 0, 1], 501, text, (0, 0));
}

#[test]
fn eight_octets_over_frame_max_are_forgiven() {
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    ends_connection(&frame(3, 1, &[b'x'; 131_072], 0xCE), 505, text, (0, 0));
}

#[test]
fn without_a_limit_frames_are_as_large_as_messages_and_128_kib_at_least() {
    for (max_message_size, largest) in [(10, 131_072), (200_000, 200_000)] {
        for (size, code, text) in [
            (
                largest,
                505,
                "UNEXPECTED_FRAME - expected method frame, got non method frame instead".to_owned(),
            ),
            (
                largest + 1,
                501,
                format!(
                    "FRAME_ERROR - type 3, all octets = <<>>: {{frame_too_large,{},{}}}",
                    largest + 1,
                    largest - 8
                ),
            ),
        ] {
            let mut config = BrokerConfig::default();
            (config.frame_max, config.max_message_size) = (0, max_message_size);
            let mut stage = Stage::with(config);
            let who = stage.start("guest", "guest", &FieldTable::new());
            stage.received(who);
            stage.tune_ok(who, 2047, 0, 0);
            stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
            stage.channel(who, 1);
            stage.send_octets(who, &frame(3, 1, &vec![b'x'; size], 0xCE));
            assert_eq!(stage.received(who), [close(0, code, &text, 0, 0)]);
        }
    }
}

/// A client with frames of 8192 octets, and a publisher with larger ones.
fn small_and_large(stage: &mut Stage) -> (usize, usize) {
    let small = stage.start("guest", "guest", &all_capabilities());
    stage.received(small);
    stage.tune_ok(small, 2047, 8192, 0);
    stage.call(small, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(small, 1);
    (small, stage.open_channel())
}

fn large_headers() -> FieldTable {
    FieldTable::new().with("h", "x".repeat(9000).as_str()).unwrap()
}

const TOO_LARGE: &str =
    "INTERNAL_ERROR - content header makes a frame of 9033 octets, and the peer accepts 8192";

#[test]
fn properties_that_do_not_fit_its_frames_end_a_consumers_connection() {
    let mut stage = Stage::new();
    let (small, large) = small_and_large(&mut stage);
    let queue = name("q");
    let declare = QueueDeclare {
        queue,
        ..Default::default()
    };
    stage.send(small, 1, declare);
    let consume = BasicConsume {
        queue,
        ..Default::default()
    };
    stage.send(small, 1, consume);
    stage.received(small);
    let headers = large_headers();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    let publish = BasicPublish {
        routing_key: queue,
        ..Default::default()
    };
    stage.publish_with(large, 1, publish, properties, b"");
    assert_eq!(stage.received(small), [close(0, 541, TOO_LARGE, 0, 0)]);
    assert!(stage.is_over(small));
    stage.disconnect(small);
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
}

#[test]
fn so_do_those_of_a_direct_reply() {
    let mut stage = Stage::new();
    let (small, large) = small_and_large(&mut stage);
    let consume = BasicConsume {
        queue: name("amq.rabbitmq.reply-to"),
        no_ack: true,
        ..Default::default()
    };
    stage.send(small, 1, consume);
    let queue = name("q");
    let declare = QueueDeclare {
        queue,
        ..Default::default()
    };
    stage.send(small, 1, declare);
    let publish = BasicPublish {
        routing_key: queue,
        ..Default::default()
    };
    let properties = Properties {
        reply_to: Some(name("amq.rabbitmq.reply-to")),
        ..Default::default()
    };
    stage.publish_with(small, 1, publish, properties, b"");
    stage.received(small);
    let request = stage.broker.messages("/", "q").unwrap().remove(0);
    let publish = BasicPublish {
        routing_key: request.properties().reply_to.unwrap(),
        ..Default::default()
    };
    let headers = large_headers();
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    stage.publish_with(large, 1, publish, properties, b"");
    assert_eq!(stage.received(small), [close(0, 541, TOO_LARGE, 0, 0)]);
    assert!(stage.is_over(small));
}

#[test]
fn at_an_unknown_method_or_a_table_that_cannot_be_read_it_hangs_up_without_a_word() {
    let unknown = [0, 99, 0, 200];
    let table = [0, 50, 0, 10, 0, 0, 1, b'q', 0, 0, 0, 0, 3, 1, b'k', b'Z'];
    for (channel, payload) in [(0, &unknown[..]), (1, &unknown), (1, &table)] {
        let mut stage = Stage::new();
        let who = stage.open_channel();
        stage.send_octets(who, &frame(1, channel, payload, 0xCE));
        assert!(stage.received(who).is_empty());
        assert!(stage.is_over(who));
    }
}

#[test]
fn a_body_comes_in_as_many_frames_as_one_likes_and_leaves_in_few() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let queue = QueueDeclare {
        queue: name("q"),
        ..Default::default()
    };
    stage.send(who, 1, queue);
    stage.send(
        who,
        1,
        BasicPublish {
            routing_key: name("q"),
            ..Default::default()
        },
    );
    stage.send_header(
        who,
        1,
        6,
        Properties {
            priority: Some(3),
            ..Default::default()
        },
    );
    for octet in b"abcdef" {
        stage.send_body(who, 1, &[*octet]);
        stage.send_octets(who, &HEARTBEAT);
    }
    stage.received(who);
    stage.send(
        who,
        1,
        BasicGet {
            queue: name("q"),
            no_ack: true,
        },
    );
    assert_eq!(
        stage.received(who),
        [
            r#"ch 1 basic.get-ok delivery_tag=1 exchange="" routing_key="q" message_count=0"#,
            "ch 1 header body_size=6 priority=3",
            r#"ch 1 body 6 octets "abcdef""#,
        ]
    );
}

#[test]
fn bodies_leave_in_frames_of_the_negotiated_size() {
    let mut stage = Stage::new();
    let who = stage.start("guest", "guest", &FieldTable::new());
    stage.received(who);
    stage.tune_ok(who, 2047, 8192, 0);
    stage.call(who, 0, ConnectionOpen::default(), "connection.open-ok");
    stage.channel(who, 1);
    let queue = QueueDeclare {
        queue: name("q"),
        ..Default::default()
    };
    stage.send(who, 1, queue);
    stage.received(who);
    stage.send(
        who,
        1,
        BasicPublish {
            routing_key: name("q"),
            ..Default::default()
        },
    );
    stage.send_header(who, 1, 10_000, Properties::default());
    stage.send_body(who, 1, &[b'x'; 8184]);
    stage.send_body(who, 1, &[b'x'; 1816]);
    stage.send(
        who,
        1,
        BasicGet {
            queue: name("q"),
            no_ack: true,
        },
    );
    let received = stage.received(who);
    assert!(received[2].starts_with("ch 1 body 8184 octets"), "{received:?}");
    assert!(received[3].starts_with("ch 1 body 1816 octets"), "{received:?}");
}

#[test]
fn a_message_over_the_limit_ends_its_channel_and_nothing_of_it_is_kept() {
    let mut config = BrokerConfig::default();
    config.max_message_size = 10;
    config.max_memory = 10;
    let mut stage = Stage::with(config);
    let who = stage.open_channel();
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.received(who);
    stage.publish(who, 1, "q", b"0123456789a");
    let text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10";
    assert_eq!(stage.received(who), [close(1, 406, text, 60, 40)]);
    stage.send(who, 1, ChannelCloseOk {});
    stage.channel(who, 1);
    stage.publish(who, 1, "q", b"0123456789");
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(1));
}

#[test]
fn what_does_not_fit_in_memory_is_a_resource_error() {
    let mut config = BrokerConfig::default();
    // Each message counts a little more than its body.
    config.max_memory = 11_000;
    let half = [0; 5000];
    let mut stage = Stage::with(config);
    let (who, other) = (stage.open_channel(), stage.open_channel());
    stage.send(
        who,
        1,
        QueueDeclare {
            queue: name("q"),
            ..Default::default()
        },
    );
    stage.publish(who, 1, "q", &half);
    // Half a message counts.
    stage.send(
        who,
        1,
        BasicPublish {
            routing_key: name("q"),
            ..Default::default()
        },
    );
    stage.send_header(who, 1, 5000, Properties::default());
    stage.send_body(who, 1, &half[1..]);
    stage.received(who);
    let text = "RESOURCE_ERROR - memory limit of 11000 octets is reached";
    stage.publish(other, 1, "q", &half[..2000]);
    assert_eq!(stage.received(other), [close(0, 506, text, 60, 40)]);
    // And no more once nobody can end it.
    stage.disconnect(who);
    let who = stage.open_channel();
    stage.publish(who, 1, "q", &half);
    assert!(stage.received(who).is_empty());
    assert_eq!(stage.broker.queue_len("/", "q"), Some(2));
}
