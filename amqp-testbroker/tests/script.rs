//! The scripted peer: what it sends is what was written down, and what it did not expect it tells.

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, Event, Instant, RecvBuf, RequestError};
use amqp_testbroker::{
    CraftedFrame, LinkConfig, Pair, Script, ScriptFailure, ScriptedPeer, Server, Simulation, StreamEnd,
};

const SECOND: Duration = Duration::from_secs(1);

fn pair(script: Script) -> Pair<ScriptedPeer> {
    Pair::new(
        Config::default(),
        ScriptedPeer::new(script),
        LinkConfig::perfect(),
    )
}

/// One that has shaken hands and asked for a channel.
fn connected(script: Script) -> Pair<ScriptedPeer> {
    let mut pair = pair(script);
    let events = pair.drive(|event| *event == Event::Connected).unwrap();
    assert_eq!(events, [Event::Connected]);
    pair.client.open_channel().unwrap();
    pair
}

fn closed(events: &[Event]) -> &CloseReason {
    match events {
        [.., Event::Closed(reason)] => reason,
        other => panic!("not closed: {other:?}"),
    }
}

fn declare(pair: &mut Pair<ScriptedPeer>) {
    let channel = pair.client.open_channel().unwrap();
    let declare = QueueDeclare {
        queue: "tasks".try_into().unwrap(),
        durable: true,
        ..Default::default()
    };
    pair.client.channel(channel).unwrap().request(&declare).unwrap();
}

/// What the peer does to octets, without a pair.
fn failure_of(script: Script, octets: &[u8]) -> ScriptFailure {
    let mut peer = ScriptedPeer::new(script);
    let key = peer.accept(Instant::EPOCH);
    let mut input = RecvBuf::new();
    input.extend(octets);
    peer.handle_input(key, Instant::EPOCH, &mut input);
    peer.finish().unwrap_err()
}

fn octets(frames: &[CraftedFrame]) -> Vec<u8> {
    frames.iter().flat_map(CraftedFrame::octets).collect()
}

#[test]
fn frames_are_right_until_they_are_told_not_to_be() {
    let method = CraftedFrame::method(3, ChannelFlow { active: true });
    let right = b"\x01\0\x03\0\0\0\x05\0\x14\0\x14\x01\xce";
    assert_eq!(method.octets(), right);
    assert_eq!(method.clone().channel(0x0102).octets()[1..3], [1, 2]);
    assert_eq!(method.clone().frame_type(9).octets()[0], 9);
    assert_eq!(method.clone().size(0x0102_0304).octets()[3..7], [1, 2, 3, 4]);
    assert_eq!(method.clone().end(0).octets()[12], 0);
    assert_eq!(method.clone().cut(4).octets(), right[..4]);
    assert_eq!(method.cut(99).octets(), right);
    assert_eq!(CraftedFrame::heartbeat().octets(), HEARTBEAT);
    assert_eq!(
        CraftedFrame::body(1, b"ab").octets(),
        b"\x03\0\x01\0\0\0\x02ab\xce"
    );
    assert_eq!(CraftedFrame::frame(4, 0, b"").octets(), b"\x04\0\0\0\0\0\0\xce");
    assert_eq!(CraftedFrame::raw(b"HTTP").end(1).octets(), b"HTTP");
    assert_eq!(CraftedFrame::protocol_header().octets(), PROTOCOL_HEADER);

    let content = CraftedFrame::content(1, BasicPublish::default(), Properties::default(), b"hi");
    let mut expected = amqp_proto::SendBuf::new();
    expected
        .content(1, &BasicPublish::default(), &Properties::default(), b"hi", 4096)
        .unwrap();
    assert_eq!(octets(&content), bytes::Buf::chunk(&expected));
    let empty = CraftedFrame::content(1, BasicPublish::default(), Properties::default(), b"");
    assert_eq!(empty.len(), 2);
}

#[test]
fn a_script_that_is_followed_is_finished() {
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect(r#"ch 1 queue.declare queue="tasks" durable"#)
        .reply(QueueDeclareOk::default())
        .expect("connection.close");
    let mut pair = pair(script);
    let failure = pair.server.finish().unwrap_err();
    assert_eq!((failure.step, failure.wanted.as_str()), (0, "protocol header"));
    assert_eq!(failure.found, "nothing came");
    pair.drive(|event| *event == Event::Connected).unwrap();
    declare(&mut pair);
    let events = pair.drive(|event| matches!(event, Event::Reply(_))).unwrap();
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(pair.server.finish().unwrap_err().wanted, "connection.close");
}

#[test]
fn what_was_not_expected_is_told_with_the_place_and_ends_the_stream() {
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("exchange.declare");
    let line = line!() - 1;
    let mut pair = pair(script);
    pair.drive(|event| *event == Event::Connected).unwrap();
    declare(&mut pair);
    let events = pair.drive_bounded(100).unwrap();
    assert!(matches!(closed(&events), CloseReason::Transport { .. }));
    let failure = pair.server.finish().unwrap_err();
    assert!(
        failure.location.contains(&format!("script.rs:{line}:")),
        "{failure}"
    );
    let text = failure.to_string();
    assert!(
        text.contains(
            r#"expected exchange.declare, but got ch 1 queue.declare queue="tasks" durable; before that: "#
        ),
        "{text}"
    );
    assert!(text.ends_with("; ch 1 channel.open"), "{text}");
    assert_eq!(failure.before.len(), 5);
}

#[test]
fn a_wrong_argument_a_wrong_size_and_a_wrong_body_are_not_what_was_expected() {
    let publish = |body: &[u8]| {
        octets(&CraftedFrame::content(
            1,
            BasicPublish::default(),
            Properties::default(),
            body,
        ))
    };
    let script = Script::new().expect_content("basic.publish", b"hello");
    assert_eq!(
        failure_of(script.clone(), &publish(b"hell")).wanted,
        "header body_size=5"
    );
    let failure = failure_of(script.clone(), &publish(b"hallo"));
    assert_eq!(
        (failure.wanted.as_str(), failure.found.as_str()),
        (r#"body "hello""#, r#"got ch 1 body 5 octets "hallo""#)
    );
    let failure = failure_of(Script::new().expect("ch 2 basic.publish"), &publish(b"hello"));
    assert_eq!(
        failure.found,
        r#"got ch 1 basic.publish exchange="" routing_key="""#
    );
    let failure = failure_of(script, b"\x05garbage");
    assert!(failure.found.starts_with("got something unreadable"), "{failure}");
}

#[test]
fn a_body_may_come_in_any_number_of_frames_and_not_in_more_than_it_has() {
    let begin = [
        CraftedFrame::method(1, BasicPublish::default()),
        CraftedFrame::header(1, 5, Properties::default()),
        CraftedFrame::body(1, b"he"),
    ];
    let script = Script::new()
        .expect_content("basic.publish", b"hello")
        .expect("basic.ack");
    let end = [CraftedFrame::body(1, b"llo")];
    let failure = failure_of(script.clone(), &[octets(&begin), octets(&end)].concat());
    assert_eq!(
        (failure.wanted.as_str(), failure.found.as_str()),
        ("basic.ack", "nothing came")
    );
    let end = [CraftedFrame::body(1, b"llo!")];
    let failure = failure_of(script, &[octets(&begin), octets(&end)].concat());
    assert_eq!(failure.wanted, r#"body "hello""#);
    let end = [CraftedFrame::body(1, b"llo")];
    let twice = Script::new()
        .expect_content("basic.publish", b"hello")
        .expect_content("basic.publish", b"hello")
        .expect("basic.ack");
    let octets_of_both = [octets(&begin), octets(&end)].concat().repeat(2);
    assert_eq!(failure_of(twice, &octets_of_both).wanted, "basic.ack");
    let empty = CraftedFrame::content(1, BasicPublish::default(), Properties::default(), b"");
    let script = Script::new()
        .expect_content("basic.publish", b"")
        .expect("basic.ack");
    assert_eq!(failure_of(script, &octets(&empty)).wanted, "basic.ack");
}

#[test]
fn a_script_may_begin_without_the_client() {
    let mut peer = ScriptedPeer::new(Script::new().send(CraftedFrame::heartbeat()));
    let key = peer.accept(Instant::EPOCH);
    let mut output = bytes::BytesMut::new();
    peer.poll_transmit(key, Instant::EPOCH, &mut output);
    assert_eq!(output, &HEARTBEAT[..]);
}

#[test]
fn what_comes_behind_a_failure_is_dropped() {
    let mut peer = ScriptedPeer::new(Script::new().expect("basic.ack"));
    let key = peer.accept(Instant::EPOCH);
    let mut input = RecvBuf::new();
    let body = CraftedFrame::body(1, b"x");
    input.extend(&octets(&[body.clone(), body]));
    peer.handle_input(key, Instant::EPOCH, &mut input);
    assert_eq!(peer.finish().unwrap_err().before, [""; 0]);
    assert_eq!(input.unread(), b"");
}

#[test]
fn heartbeats_are_read_while_it_waits() {
    let mut peer = ScriptedPeer::new(Script::new().wait(Duration::from_secs(1)));
    let key = peer.accept(Instant::EPOCH);
    let mut input = RecvBuf::new();
    input.extend(&HEARTBEAT);
    peer.handle_input(key, Instant::EPOCH, &mut input);
    assert_eq!(input.unread(), b"");
    input.extend(&CraftedFrame::body(1, b"x").octets());
    peer.handle_input(key, Instant::EPOCH, &mut input);
    assert_eq!(input.unread().len(), 9);
}

#[test]
fn a_frame_may_have_a_mebibyte() {
    const MEBIBYTE: usize = 1024 * 1024;
    for (size, found) in [
        (MEBIBYTE - 8, "nothing came"),
        (MEBIBYTE, "got something unreadable"),
    ] {
        let mut peer = ScriptedPeer::new(Script::new().expect("body").expect("heartbeat"));
        let key = peer.accept(Instant::EPOCH);
        let mut input = RecvBuf::with_limit(2 * MEBIBYTE);
        input.extend(&CraftedFrame::body(1, &vec![0; size]).octets());
        peer.handle_input(key, Instant::EPOCH, &mut input);
        let failure = peer.finish().unwrap_err();
        assert!(failure.found.starts_with(found), "{failure}");
    }
}

#[test]
fn skipping_takes_everything_up_to_a_frame() {
    let script = Script::new()
        .skip_to("connection.open")
        .reply(ConnectionOpenOk {})
        .expect("channel.open");
    let failure = failure_of(
        script,
        &[
            &PROTOCOL_HEADER[..],
            &CraftedFrame::heartbeat().octets(),
            &CraftedFrame::method(0, ConnectionOpen::default()).octets(),
        ]
        .concat(),
    );
    assert_eq!(
        (failure.wanted.as_str(), failure.found.as_str()),
        ("channel.open", "nothing came")
    );
}

#[test]
fn heartbeats_count_only_where_they_are_expected() {
    let beat = CraftedFrame::heartbeat;
    let flow = CraftedFrame::method(1, ChannelFlow { active: true });
    let script = Script::new()
        .expect("channel.flow")
        .expect("heartbeat")
        .expect("channel.flow");
    let came = octets(&[beat(), flow.clone(), beat(), beat()]);
    assert_eq!(failure_of(script.clone(), &came).found, "nothing came");
    let failure = failure_of(script, &octets(&[flow.clone(), flow]));
    assert_eq!((failure.step, failure.wanted.as_str()), (1, "heartbeat"));
}

#[test]
fn a_broken_frame_breaks_the_connection_as_the_protocol_has_it() {
    let open_ok = || CraftedFrame::method(1, ChannelOpenOk {});
    let broken = [
        (open_ok().end(0xCF), 501),
        (open_ok().size(3), 501),
        (open_ok().frame_type(5), 501),
        (open_ok().channel(9), 504),
        (CraftedFrame::frame(1, 1, b"\0\x14\0"), 501),
        (CraftedFrame::heartbeat().channel(1), 505),
    ];
    for (frame, code) in broken {
        let script = Script::new()
            .handshake()
            .expect("channel.open")
            .send(frame.clone())
            .expect("connection.close")
            .reply(ConnectionCloseOk {})
            .hang_up();
        let mut pair = connected(script);
        let events = pair.drive_bounded(1000).unwrap();
        let CloseReason::Protocol(error) = closed(&events) else {
            panic!("{frame:?}: {events:?}");
        };
        assert_eq!(error.reply_code().0, code, "{frame:?}: {error}");
        pair.server.finish().unwrap();
        assert!(pair.client.is_over());
    }
}

#[test]
fn a_frame_that_never_becomes_whole_is_waited_for() {
    let half = CraftedFrame::method(1, ChannelOpenOk {}).cut(5);
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .send(half)
        .hang_up();
    let events = connected(script).drive_bounded(100).unwrap();
    let [Event::ChannelClosed { .. }, Event::Closed(reason)] = &events[..] else {
        panic!("{events:?}");
    };
    assert!(
        matches!(reason, CloseReason::Transport { error, .. } if error.as_str() == "the peer closed the stream")
    );
}

#[test]
fn waiting_takes_time_and_reads_nothing() {
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .wait(SECOND * 7)
        .reply(ChannelOpenOk {});
    let mut pair = connected(script);
    let before = pair.elapsed();
    pair.drive(|event| matches!(event, Event::ChannelOpened { .. }))
        .unwrap();
    assert_eq!(pair.elapsed() - before, SECOND * 7);
    pair.server.finish().unwrap();
}

#[test]
fn hanging_up_ends_the_stream_and_drops_what_comes() {
    let script = Script::new().handshake().expect("channel.open").hang_up();
    let mut pair = connected(script);
    let events = pair.drive_bounded(100).unwrap();
    let CloseReason::Transport { error, .. } = closed(&events) else {
        panic!("{events:?}");
    };
    assert_eq!(error.as_str(), "the peer closed the stream");
    pair.server.finish().unwrap();
}

#[test]
fn a_reset_is_an_error_behind_what_was_sent() {
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .reset();
    let mut pair = connected(script);
    let events = pair.drive_bounded(100).unwrap();
    assert!(matches!(events[0], Event::ChannelOpened { .. }), "{events:?}");
    let CloseReason::Transport { error, .. } = closed(&events) else {
        panic!("{events:?}");
    };
    assert_eq!(error.as_str(), "connection reset");
    pair.server.finish().unwrap();
}

#[test]
fn half_a_close_leaves_the_other_direction_open() {
    let script = |end: fn(Script) -> Script| {
        let script = end(Script::new().handshake().wait(SECOND));
        let mut pair = connected(script.expect("channel.open").expect_end());
        let events = pair.drive_bounded(100).unwrap();
        assert!(matches!(closed(&events), CloseReason::Transport { .. }));
        assert!(pair.client.is_over());
        pair.server.finish()
    };
    assert_eq!(script(Script::half_close), Ok(()));
    assert_eq!(script(Script::hang_up).unwrap_err().wanted, "channel.open");
}

#[test]
fn the_end_of_the_stream_is_expected_or_a_failure() {
    let end = |script: Script| {
        let mut pair = connected(
            script
                .expect("channel.open")
                .expect("connection.close")
                .reply(ConnectionCloseOk {})
                .expect_end(),
        );
        pair.client.close(ReplyCode::REPLY_SUCCESS, "done");
        let events = pair.drive_bounded(1000);
        (events.unwrap(), pair.server.finish())
    };
    let slow = Script::new().handshake();
    let (events, finish) = end(slow.clone());
    assert_eq!(
        finish.unwrap_err().wanted,
        "connection.close",
        "a channel is closed first: {events:?}"
    );

    let mut pair = pair(slow.expect_end());
    pair.drive(|event| *event == Event::Connected).unwrap();
    pair.client.close(ReplyCode::REPLY_SUCCESS, "done");
    pair.drive_bounded(1000).unwrap();
    assert!(
        pair.server
            .finish()
            .unwrap_err()
            .found
            .contains("connection.close")
    );

    let mut peer = ScriptedPeer::new(Script::new().expect("channel.open"));
    let key = peer.accept(Instant::EPOCH);
    peer.handle_disconnect(key, Instant::EPOCH);
    assert_eq!(peer.finish().unwrap_err().found, "the stream ended");
    let mut peer = ScriptedPeer::new(Script::new().expect_end());
    let key = peer.accept(Instant::EPOCH);
    peer.handle_disconnect(key, Instant::EPOCH);
    assert_eq!(peer.finish(), Ok(()));
}

#[test]
fn it_sends_heartbeats_while_it_waits() {
    let tune = ConnectionTune {
        channel_max: 0,
        frame_max: 0,
        heartbeat: 10,
    };
    let script = Script::new()
        .handshake_with(tune)
        .heartbeats(SECOND * 5)
        .wait(SECOND * 102)
        .heartbeats(Duration::ZERO);
    let mut pair = pair(script);
    assert_eq!(pair.drive_for(SECOND * 119).unwrap(), [Event::Connected]);
    assert_eq!(pair.client.counters().heartbeats_received, 20);
    // The last one came at 100 s; two intervals later the client gives it up.
    let events = pair.drive_for(SECOND).unwrap();
    assert!(matches!(closed(&events), CloseReason::HeartbeatMissed { .. }));
    pair.server.finish().unwrap();
}

#[test]
fn only_the_first_stream_gets_the_script() {
    let mut simulation = Simulation::new(ScriptedPeer::new(Script::new().handshake()));
    let config = Arc::new(Config::default());
    for place in 0..2 {
        assert_eq!(
            simulation.connect(Arc::clone(&config), LinkConfig::perfect(), 0),
            place
        );
    }
    simulation.drive_bounded(1000).unwrap();
    let events: Vec<Vec<Event>> = simulation
        .clients
        .iter_mut()
        .map(|client| client.take_events())
        .collect();
    assert_eq!(events[0], [Event::Connected]);
    assert!(matches!(closed(&events[1]), CloseReason::Transport { .. }));
    assert_eq!(simulation.server.stream_end(1), Some(StreamEnd::Reset));
    simulation.server.finish().unwrap();
}

#[test]
fn a_request_fails_in_its_own_time_when_nobody_answers() {
    let script = Script::new()
        .handshake()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("queue.declare");
    let mut pair = pair(script);
    pair.drive(|event| *event == Event::Connected).unwrap();
    declare(&mut pair);
    let before = pair.elapsed();
    let timeout = Config::default().request_timeout;
    let events = pair
        .drive(|event| matches!(event, Event::RequestFailed { .. }))
        .unwrap();
    assert!(
        matches!(
            events.last(),
            Some(Event::RequestFailed {
                cause: RequestError::Timeout,
                ..
            })
        ),
        "{events:?}"
    );
    assert_eq!(pair.elapsed() - before, timeout);
}
