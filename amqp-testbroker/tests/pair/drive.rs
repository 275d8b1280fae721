//! Driving: what comes to an end, what does not, and what is told of that.

use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, Event, Instant, RecvBuf, SendBuf, SendError};
use amqp_testbroker::{
    CraftedFrame, LinkConfig, Pair, Script, ScriptedPeer, Server, Side, Simulation, Step, StreamEnd,
    StuckReason,
};

use crate::session::short;

const MS: Duration = Duration::from_millis(1);

fn pair(script: Script, link: LinkConfig) -> Pair<ScriptedPeer> {
    Pair::new(Config::default(), ScriptedPeer::new(script), link)
}

fn connected(script: Script, link: LinkConfig) -> Pair<ScriptedPeer> {
    let mut pair = pair(Script::new().handshake().then(script), link);
    let events = pair.drive(|event| *event == Event::Connected).unwrap();
    assert_eq!(events, [Event::Connected]);
    pair
}

/// A server that shakes no hands and does what its mood is.
#[derive(Debug)]
enum Mood {
    /// It always has a deadline that has passed, and counts how often it was told.
    Restless(usize),
    /// It always has something to say.
    Talkative,
}

impl Server for Mood {
    type Key = ();
    type Output = SendBuf;

    fn accept(&mut self, _now: Instant) {}

    fn handle_input(&mut self, (): (), _now: Instant, input: &mut RecvBuf) {
        input.consume(usize::MAX);
    }

    fn handle_disconnect(&mut self, (): (), _now: Instant) {}

    fn poll_transmit(&mut self, (): (), _now: Instant, out: &mut SendBuf) {
        if matches!(self, Self::Talkative) {
            out.heartbeat();
        }
    }

    fn stream_end(&self, (): ()) -> Option<StreamEnd> {
        None
    }

    fn poll_timeout(&self) -> Option<Instant> {
        matches!(self, Self::Restless(_)).then_some(Instant::EPOCH)
    }

    fn handle_timeout(&mut self, _now: Instant) {
        if let Self::Restless(count) = self {
            *count += 1;
        }
    }
}

#[test]
fn a_server_that_never_rests_is_found_out() {
    for (mood, sign) in [
        (Mood::Restless(0), ": 1 deadlines"),
        (Mood::Talkative, "written by the server"),
    ] {
        let mut pair = Pair::new(Config::default(), mood, LinkConfig::perfect());
        let stuck = pair.drive_bounded(500).unwrap_err();
        assert_eq!((stuck.reason, stuck.steps), (StuckReason::Livelock, 500));
        assert_eq!(
            (stuck.now, pair.now()),
            (Instant::EPOCH, Instant::EPOCH),
            "the clock stands still"
        );
        let text = stuck.to_string();
        assert!(text.starts_with("it comes to no end, at Instant(0ns) after 500 steps\n  client 0: waiting for connection.start"), "{text}");
        assert_eq!(text.matches(sign).count(), 8, "{text}");
        assert_eq!(pair.drive_for(MS).unwrap_err().reason, StuckReason::Livelock);

        let mut simulation = Simulation::new(pair.server);
        simulation.connect(Arc::new(Config::default()), LinkConfig::perfect(), 0);
        assert_eq!(
            simulation.drive_bounded(10).unwrap_err().reason,
            StuckReason::Livelock
        );
        assert_eq!(
            simulation.drive_for(MS).unwrap_err().reason,
            StuckReason::Livelock
        );
    }
}

#[test]
fn a_moment_has_a_hundred_thousand_steps_at_most() {
    // And a server that goes on is no end, even if it has no client.
    let mut simulation = Simulation::new(Mood::Restless(0));
    assert!(simulation.drive_bounded(10).is_err());
    assert!(matches!(simulation.server, Mood::Restless(10)));
    assert!(simulation.drive_for(MS).is_err());
    assert!(matches!(simulation.server, Mood::Restless(100_010)));
}

#[test]
fn waiting_for_what_never_comes_is_told() {
    let mut pair = pair(Script::new(), LinkConfig::perfect());
    let stuck = pair.drive(|event| *event == Event::Connected).unwrap_err();
    assert_eq!(stuck.reason, StuckReason::Idle);
    assert!(matches!(
        stuck.events[..],
        [Event::Closed(CloseReason::HandshakeTimeout { .. })]
    ));
    let text = stuck.to_string();
    assert!(text.starts_with("nothing is left to do"), "{text}");
    assert!(
        text.contains("client 0: closed") && text.contains("event: Closed(HandshakeTimeout"),
        "{text}"
    );
}

#[test]
fn how_much_is_where_is_told() {
    let script = Script::new().send(CraftedFrame::raw(&[1, 0, 0, 0]));
    let mut pair = pair(script, LinkConfig::perfect().latency(MS).window(5));
    pair.client
        .link
        .stall(Side::Client, Instant::EPOCH, Duration::MAX);
    // Written, arrived, read.
    let text = pair.drive_bounded(3).unwrap_err().to_string();
    assert!(
        text.contains("3 unwritten, 4 untaken; under way 5 to the server, 0 to the client"),
        "{text}"
    );
}

#[test]
fn what_was_done_lately_is_told() {
    let hang_up = [
        "Instant(0ns): 8 octets written by clients",
        "Instant(1ms): 8 read by the server, 8 taken by the server, 1 ends",
        "Instant(2ms): 1 deadlines, 1 ends",
        "Instant(2ms): 1 events, 1 ends",
        "Instant(3ms): 1 ends",
    ];
    let silence = [
        "Instant(0ns): 8 octets written by clients",
        "Instant(1ms): 8 read by the server, 8 taken by the server",
        "Instant(10s): 1 deadlines",
        "Instant(10s): 1 events, 1 ends",
        "Instant(10.001s): 1 ends",
        "Instant(10.002s): 1 ends",
    ];
    let header = Script::new().expect("protocol header");
    for (script, told) in [(header.hang_up(), &hang_up[..]), (Script::new(), &silence)] {
        let mut pair = pair(script, LinkConfig::perfect().latency(MS));
        let text = pair.drive(|_| false).unwrap_err().to_string();
        let lines = text.lines().map(str::trim);
        let recent: Vec<&str> = lines.filter(|line| line.starts_with("Instant(")).collect();
        assert_eq!(recent, told);
    }
}

#[test]
fn a_bounded_drive_is_not_cut_short_by_its_bound() {
    let script = || Script::new().handshake().hang_up();
    let mut counted = pair(script(), LinkConfig::perfect().segment(1));
    let mut steps = 0;
    while !counted.client.is_over() {
        counted.step();
        steps += 1;
    }
    let events = pair(script(), LinkConfig::perfect().segment(1)).drive_bounded(steps + 1);
    assert!(matches!(
        events.unwrap()[..],
        [Event::Connected, Event::Closed(_)]
    ));
    let stuck = pair(script(), LinkConfig::perfect().segment(1)).drive_bounded(steps - 1);
    assert_eq!(stuck.unwrap_err().reason, StuckReason::Livelock);
}

#[test]
fn a_drive_to_the_end_tells_the_end() {
    let mut pair = pair(Script::new(), LinkConfig::perfect());
    pair.client.link.reset(Side::Client, pair.now());
    assert_eq!(pair.step(), Step::Worked);
    // The stream is at its end for both sides. Now the client is closed, and has not told so.
    pair.client.close(ReplyCode::REPLY_SUCCESS, "bye");
    assert!(pair.client.close_reason().is_some());
    assert!(!pair.client.is_over());
    let events = pair.drive_bounded(10).unwrap();
    assert!(matches!(events[..], [Event::Closed(_)]), "{events:?}");
    assert!(pair.client.is_over());
}

#[test]
fn steps_work_then_jump_then_rest() {
    let mut pair = pair(
        Script::new().expect("protocol header").hang_up(),
        LinkConfig::perfect().latency(MS),
    );
    assert_eq!(pair.step(), Step::Worked);
    assert_eq!((pair.step(), pair.elapsed()), (Step::Jumped, MS));
    assert_eq!(pair.step(), Step::Worked);
    assert_eq!((pair.step(), pair.elapsed()), (Step::Jumped, MS * 2));
    while pair.step() != Step::Idle {
        assert!(pair.elapsed() < MS * 10);
    }
    assert!(pair.client.is_over());
    assert_eq!(pair.step(), Step::Idle);
}

#[test]
fn a_session_octet_by_octet_over_a_slow_link() {
    let script = Script::new()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .expect("queue.declare")
        .reply(QueueDeclareOk::default())
        .expect("confirm.select")
        .reply(ConfirmSelectOk {})
        .expect_content("basic.publish", b"hello")
        .reply(BasicAck {
            delivery_tag: 1,
            multiple: false,
        });
    let latency = MS * 40;
    let mut pair = connected(script, LinkConfig::perfect().segment(1).latency(latency));
    assert_eq!(
        pair.elapsed(),
        latency * 6,
        "header, start-ok and open go there, three answers come"
    );
    let id = pair.client.open_channel().unwrap();
    let mut channel = pair.client.channel(id).unwrap();
    channel.request(&QueueDeclare::default()).unwrap();
    channel.request(&ConfirmSelect::default()).unwrap();
    let publish = BasicPublish::default();
    let tag = channel
        .publish(&publish, &Properties::default(), b"hello")
        .unwrap()
        .unwrap();
    let before = pair.elapsed();
    let events = pair
        .drive(|event| matches!(event, Event::Confirmed { .. }))
        .unwrap();
    assert_eq!(pair.elapsed() - before, latency * 2, "all of it is pipelined");
    let [
        Event::ChannelOpened { .. },
        Event::Reply(_),
        Event::Reply(_),
        Event::Confirmed { tags, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert!(tags.contains(tag));
    pair.server.finish().unwrap();
}

#[test]
fn a_server_that_reads_nothing_holds_the_client_back_until_it_reads() {
    let script = Script::new()
        .expect("channel.open")
        .reply(ChannelOpenOk {})
        .wait(MS * 5000);
    let mut pair = connected(script, LinkConfig::perfect().window(10_000));
    let id = pair.client.open_channel().unwrap();
    pair.drive(|event| matches!(event, Event::ChannelOpened { .. }))
        .unwrap();
    let body = bytes::Bytes::from(vec![0; 100_000]);
    let refused = loop {
        let mut channel = pair.client.channel(id).unwrap();
        match channel.publish(&BasicPublish::default(), &Properties::default(), body.clone()) {
            Ok(_) => pair.drive_for(MS).unwrap(),
            Err(error) => break error,
        };
        assert!(pair.client.link.unread(Side::Client) <= 10_000);
    };
    assert!(matches!(refused, SendError::Full { .. }), "{refused}");
    assert!(pair.elapsed() < MS * 5000);
    let events = pair.drive(|event| *event == Event::Writable).unwrap();
    assert_eq!(pair.elapsed(), MS * 5000);
    assert!(
        !events.iter().any(|event| matches!(event, Event::Closed(_))),
        "{events:?}"
    );
    pair.drive_bounded(100_000).unwrap();
    assert_eq!(pair.client.queued_bytes(), 0);
}

#[test]
fn clients_of_one_server_live_on_one_clock() {
    let mut simulation = Simulation::new(Counter::default());
    let config = Arc::new(Config::default());
    for latency in [30, 10, 20] {
        simulation.connect(
            Arc::clone(&config),
            LinkConfig::perfect().latency(MS * latency).segment(1),
            0,
        );
    }
    simulation.drive_for(MS * 25).unwrap();
    assert_eq!(simulation.now().duration_since(Instant::EPOCH), MS * 25);
    assert_eq!(simulation.server.order, [1, 2], "by latency, not by place");
    let late = simulation.connect(config, LinkConfig::perfect(), 7);
    assert_eq!(simulation.clients[late].next_incarnation(), 7);
    simulation.drive_for(MS * 100).unwrap();
    assert_eq!(simulation.server.order, [1, 2, 3, 0]);
    simulation.drive_bounded(1000).unwrap();
    for client in &mut simulation.clients {
        let events = client.take_events();
        assert!(matches!(events[..], [Event::Closed(_)]), "{events:?}");
        assert!(client.is_over());
    }
    assert_eq!(simulation.server.gone, 4);
}

/// Notes in which order its streams speak, and hangs up after their first word.
#[derive(Debug, Default)]
struct Counter {
    accepted: usize,
    order: Vec<usize>,
    gone: usize,
}

impl Server for Counter {
    type Key = usize;
    type Output = SendBuf;

    fn accept(&mut self, _now: Instant) -> usize {
        self.accepted += 1;
        self.accepted - 1
    }

    fn handle_input(&mut self, key: usize, _now: Instant, input: &mut RecvBuf) {
        input.consume(usize::MAX);
        self.order.push(key);
    }

    fn handle_disconnect(&mut self, key: usize, _now: Instant) {
        assert!(self.order.contains(&key), "it was not heard before");
        self.gone += 1;
    }

    fn poll_transmit(&mut self, _key: usize, _now: Instant, _out: &mut SendBuf) {}

    fn stream_end(&self, key: usize) -> Option<StreamEnd> {
        self.order.contains(&key).then_some(StreamEnd::HangUp)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_timeout(&mut self, _now: Instant) {}
}

#[test]
fn what_the_server_says_last_is_heard_before_its_end() {
    let close = ConnectionClose {
        reply_code: ReplyCode::CONNECTION_FORCED,
        reply_text: short("CONNECTION_FORCED - bye"),
        class_id: 0,
        method_id: 0,
    };
    for (end, link) in [
        (Script::reset as fn(Script) -> Script, LinkConfig::perfect()),
        (Script::reset, LinkConfig::perfect().latency(MS).segment(1)),
        (Script::hang_up, LinkConfig::perfect().latency(MS).window(1)),
    ] {
        let script = end(Script::new().send(CraftedFrame::method(0, close)));
        let mut pair = connected(script, link);
        let events = pair.drive_bounded(10_000).unwrap();
        assert!(
            matches!(&events[..], [Event::Closed(CloseReason::Peer(peer))] if peer.code == ReplyCode::CONNECTION_FORCED),
            "{events:?}"
        );
    }
}
