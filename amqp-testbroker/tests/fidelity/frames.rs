//! Frames as no good client sends them.

use amqp_proto::wire::*;

use crate::session::{Session, exclusive, publish};
use crate::world::World;

/// A frame of any kind.
fn frame(frame_type: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![frame_type];
    octets.extend(channel.to_be_bytes());
    octets.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend(payload);
    octets.push(0xCE);
    octets
}

/// A content header of that body size, without properties.
fn header(body_size: u64) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(body_size.to_be_bytes());
    payload.extend([0, 0]);
    frame(2, 1, &payload)
}

fn publishing(world: &World) -> (Session, BasicPublish<'static>) {
    (world.connect(), publish("amq.fanout", ""))
}

const NONE: MethodId = MethodId { class: 0, method: 0 };

pub(crate) fn a_wrong_end_octet(world: &World) {
    let mut session = world.connect();
    let mut octets = frame(1, 1, &[0, 20, 0, 40]);
    *octets.last_mut().unwrap() = 0;
    session.send_octets(&octets);
    session.expect_connection_close(501, "FRAME_ERROR - type 1, all octets = <<0,20,0,40>>: {invalid_frame_end_marker,0}", NONE);
}

pub(crate) fn an_unknown_frame_type(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(9, 1, b"what"));
    session.expect_connection_close(501, r#"FRAME_ERROR - type 9, all octets = <<"what">>: unknown_frame"#, NONE);
}

pub(crate) fn how_much_of_a_frame_is_quoted(world: &World) {
    let text = |octets: &'static [u8], on_3, on_4| (octets, world.by_release(on_3, on_4));
    world.connect().close();
    for (payload, quoted) in [
        (&b"sixteen letters."[..], r#"all octets = <<"sixteen letters.">>"#),
        (b"seventeen letters", r#"first 16 octets = <<"seventeen letter">>"#),
        (b"", "all octets = <<>>"),
        (b"a\t\n\r\"\\'", r#"all octets = <<"a\t\n\r\"\\'">>"#),
        (b"\x08\x0b\x0c\x1b", r#"all octets = <<"\b\v\f\e">>"#),
        text("café\t".as_bytes(), r#"all octets = <<"café\t">>"#, r#"all octets = <<"café\t"/utf8>>"#),
        text("€".as_bytes(), "all octets = <<226,130,172>>", r#"all octets = <<"€"/utf8>>"#),
        ("\u{85}".as_bytes(), "all octets = <<194,133>>"),
        (b"\x7f", "all octets = <<127>>"),
        (b"a\x07", "all octets = <<97,7>>"),
        (b"a\x0e", "all octets = <<97,14>>"),
    ] {
        let mut session = world.connect();
        session.send_octets(&frame(9, 1, payload));
        session.expect_connection_close(501, &format!("FRAME_ERROR - type 9, {quoted}: unknown_frame"), NONE);
    }
}

pub(crate) fn a_content_header_that_is_too_short(world: &World) {
    // Class, weight and size are looked at first, the properties when all is there.
    for (length, code, text) in [
        (11, 501, "FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0>>: unknown_frame"),
        (12, 541, "INTERNAL_ERROR"),
    ] {
        let (mut session, publish) = publishing(world);
        session.send(&publish);
        let mut payload = vec![0; length];
        payload[1] = 60;
        session.send_octets(&frame(2, 1, &payload));
        session.expect_connection_close(code, text, NONE);
    }
}

pub(crate) fn arguments_that_are_too_short(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(1, 1, &[0, 50, 0, 10, 0]));
    session.expect_connection_close(501, "FRAME_ERROR - cannot decode <<0>>", QueueDeclare::SPEC.id);

    let mut session = world.connect();
    session.send_octets(&frame(1, 1, b"\0\x32\0\x0aabc"));
    session.expect_connection_close(501, "FRAME_ERROR - cannot decode <<97,98,99>>", QueueDeclare::SPEC.id);
}

pub(crate) fn a_name_that_is_no_text(world: &World) {
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    let mut session = world.connect();
    session.send_octets(&frame(1, 1, &[0, 50, 0, 40, 0, 0, 1, 0xFF, 0]));
    session.expect_connection_close(501, text, NONE);

    let mut session = world.connect();
    let close = [0, 10, 0, 50, 0, 200, 1, 0xFF, 0, 0, 0, 0];
    session.send_octets(&frame(1, 0, &close));
    session.expect_connection_close(501, text, ConnectionClose::SPEC.id);
}

pub(crate) fn a_frame_that_is_too_large(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(3, 1, &vec![0; 131_073]));
    session.expect_connection_close(501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}", NONE);
}

pub(crate) fn a_method_on_channel_0(world: &World) {
    let mut session = world.connect();
    session.send_on(0, &exclusive(""));
    session.expect_connection_close(504, "CHANNEL_ERROR - unexpected method in connection state running", QueueDeclare::SPEC.id);
}

pub(crate) fn a_connection_method_on_a_channel(world: &World) {
    let mut session = world.connect();
    session.send_on(1, &ConnectionOpen::default());
    session.expect_connection_close(503, "COMMAND_INVALID - unimplemented method", ConnectionOpen::SPEC.id);
}

pub(crate) fn opening_a_connection_twice(world: &World) {
    let mut session = world.connect();
    session.send_on(0, &ConnectionOpen::default());
    session.expect_connection_close(504, "CHANNEL_ERROR - unexpected method in connection state running", ConnectionOpen::SPEC.id);
}

pub(crate) fn a_heartbeat_on_a_channel(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(8, 1, &[]));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", NONE);
}

pub(crate) fn a_content_header_without_a_publish(world: &World) {
    let mut session = world.connect();
    session.send_octets(&header(0));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", NONE);
}

pub(crate) fn a_body_without_a_publish(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(3, 1, b"body"));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead", NONE);
}

pub(crate) fn a_method_instead_of_a_content_header(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    session.send(&exclusive(""));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", BasicPublish::SPEC.id);
}

pub(crate) fn a_body_instead_of_a_content_header(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    session.send_octets(&frame(3, 1, b"body"));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead", BasicPublish::SPEC.id);
}

pub(crate) fn a_content_header_instead_of_a_body(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    session.send_octets(&header(4));
    session.send_octets(&header(4));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", BasicPublish::SPEC.id);
}

pub(crate) fn a_method_instead_of_a_body(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    session.send_octets(&header(4));
    session.send(&exclusive(""));
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", BasicPublish::SPEC.id);
}

pub(crate) fn a_content_header_of_another_class(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    let mut octets = header(0);
    octets[8] = 50;
    session.send_octets(&octets);
    session.expect_connection_close(505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead", BasicPublish::SPEC.id);
}

pub(crate) fn a_body_that_is_longer_than_said(world: &World) {
    let (mut session, publish) = publishing(world);
    session.send(&publish);
    session.send_octets(&header(4));
    session.send_octets(&frame(3, 1, b"more than four"));
    if world.by_release(true, false) {
        session.send_octets(&frame(3, 1, b"and yet more"));
        session.open(2);
        session.call_on(2, &exclusive(""));
    }
    session.send(&exclusive(""));
    let (code, text) = world.by_release(
        (
            505,
            "UNEXPECTED_FRAME - expected content body, got non content body frame instead",
        ),
        (
            501,
            "FRAME_ERROR - content body frame exceeds remaining content size",
        ),
    );
    session.expect_connection_close(code, text, BasicPublish::SPEC.id);
}

pub(crate) fn a_body_in_pieces_between_other_channels(world: &World) {
    let (mut session, _) = publishing(world);
    let queue = world.name("q");
    session.queue(&queue);
    session.open(2);
    session.send(&publish("", &queue));
    session.send_octets(&header(4));
    session.send_octets(&frame(3, 1, b"bo"));
    session.call_on(2, &exclusive(""));
    session.send_octets(&frame(3, 1, b""));
    session.send_octets(&frame(3, 1, b"dy"));
    assert_eq!(session.drain(&queue), ["body"]);
    session.close();
}

pub(crate) fn an_unknown_method(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(1, 1, &[0, 60, 0, 250]));
    session.expect_end();
}

pub(crate) fn an_unknown_class(world: &World) {
    let mut session = world.connect();
    session.send_octets(&frame(1, 1, &[0, 99, 0, 10]));
    session.expect_end();
}

pub(crate) fn another_protocol(world: &World) {
    let mut session = world.dial();
    session.send_octets(b"GET / HTTP/1.1\r\n");
    let header = session.octets_until_end();
    world.connect().close();
    // RabbitMQ 4 proposes AMQP 1.0 with SASL. The embedded broker does not speak that, and does not say so.
    let proposed = match world.is_embedded() {
        true => [0, 0, 9, 1],
        false => world.by_release([0, 0, 9, 1], [3, 1, 0, 0]),
    };
    assert_eq!(header, [*b"AMQP", proposed].concat());
}

pub(crate) fn another_version(world: &World) {
    let mut session = world.dial();
    session.send_octets(b"AMQP\0\0\x09\x02");
    let header = session.octets_until_end();
    assert_eq!(header, b"AMQP\0\0\x09\x01");
}
