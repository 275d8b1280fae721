//! Long times and silent networks.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{CloseReason, Config, Event, Instant, RecvBuf};
use amqp_testbroker::{
    Broker, BrokerConfig, LinkConfig, Pair, ReadOutcome, Script, ScriptedPeer, Side, Step,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn tune(heartbeat: u16) -> ConnectionTune {
    ConnectionTune {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat,
    }
}

fn pair(script: Script, link: LinkConfig) -> Pair<ScriptedPeer> {
    let mut pair = Pair::new(Config::default(), ScriptedPeer::new(script), link);
    pair.drive(|event| *event == Event::Connected).unwrap();
    pair
}

#[test]
fn a_year_of_idling_takes_few_steps() {
    let year = HOUR * 24 * 365;
    let script = Script::new()
        .handshake_with(tune(3600))
        .heartbeats(HOUR / 2)
        .wait(year * 2);
    let mut pair = pair(script, LinkConfig::perfect().latency(SECOND));
    let mut steps = 0;
    while pair.elapsed() < year {
        assert_ne!(pair.step(), Step::Idle);
        steps += 1;
    }
    let beats = year.as_secs() / 1800;
    let counters = pair.client.counters();
    assert!(counters.heartbeats_sent.abs_diff(beats) <= 1, "{counters:?}");
    assert!(counters.heartbeats_received.abs_diff(beats) <= 1, "{counters:?}");
    // A beat is due, it arrives: two moments each, and two steps for a moment.
    assert!(steps <= 10 * beats, "{steps}");
    assert_eq!(pair.client.take_events(), []);
}

#[test]
fn a_year_without_heartbeats_is_one_step() {
    let mut pair = pair(Script::new().handshake(), LinkConfig::perfect());
    assert_eq!(pair.drive_for(HOUR * 24 * 365).unwrap(), []);
    assert_eq!(pair.step(), Step::Idle);
    assert_eq!(pair.elapsed(), HOUR * 24 * 365);
}

#[test]
fn a_network_that_swallows_everything_is_noticed_and_left() {
    for sides in [&[Side::Client, Side::Server][..], &[Side::Server]] {
        let script = Script::new().handshake_with(tune(10)).heartbeats(SECOND * 5);
        let mut pair = pair(script, LinkConfig::perfect());
        let since = pair.now();
        for side in sides {
            pair.client.link.stall(*side, since, Duration::MAX);
        }
        let events = pair.drive(|event| matches!(event, Event::Closed(_))).unwrap();
        let [Event::Closed(CloseReason::HeartbeatMissed { silence, .. })] = events[..] else {
            panic!("{events:?}");
        };
        assert_eq!(
            (silence, pair.now().duration_since(since)),
            (SECOND * 20, SECOND * 20)
        );
        pair.drive_for(SECOND * 60).unwrap();
        // It waited for the end of the stream, and then for nothing more.
        let is_heard = sides.len() == 1;
        assert_eq!(pair.client.is_over(), is_heard);
        assert_eq!(pair.client.poll_timeout(), None);
        for side in sides {
            pair.client.link.release(*side);
        }
        pair.drive_bounded(1000).unwrap();
        assert!(pair.client.is_over());
        pair.server.finish().unwrap();
    }
}

#[test]
fn a_stall_that_passes_in_time_does_no_harm() {
    let script = Script::new().handshake_with(tune(10)).heartbeats(SECOND * 5);
    let mut pair = pair(script, LinkConfig::perfect());
    let since = Instant::EPOCH + SECOND * 3;
    pair.client.link.stall(Side::Server, since, SECOND * 16);
    assert_eq!(pair.drive_for(SECOND * 120).unwrap(), []);
    assert_eq!(pair.client.counters().heartbeats_received, 24);
    assert!(pair.client.is_open());
}

#[test]
fn a_client_that_is_closed_waits_two_seconds_for_the_end_of_the_stream() {
    let script = Script::new()
        .handshake()
        .expect("connection.close")
        .reply(ConnectionCloseOk {});
    let mut pair = pair(script, LinkConfig::perfect().latency(SECOND));
    pair.client.close(ReplyCode::REPLY_SUCCESS, "done");
    // What the client says last takes ten seconds more.
    let closed = pair.now() + SECOND * 2;
    pair.client.link.stall(Side::Client, closed, SECOND * 10);
    pair.drive(|event| *event == Event::Closed(CloseReason::Requested { acknowledged: true }))
        .unwrap();
    assert_eq!(pair.now(), closed);
    let mut input = RecvBuf::new();
    pair.drive_for(SECOND * 2 - Duration::from_nanos(1)).unwrap();
    let now = pair.now();
    assert_eq!(
        pair.client.link.read(Side::Client, now, &mut input),
        ReadOutcome::Nothing
    );
    pair.drive_for(Duration::from_nanos(1)).unwrap();
    let now = pair.now();
    assert_eq!(
        pair.client.link.read(Side::Client, now, &mut input),
        ReadOutcome::Reset
    );
    assert!(!pair.client.is_over(), "the server does not know yet");
    pair.drive_bounded(100).unwrap();
    assert_eq!(pair.now(), closed + SECOND * 10);
    assert!(pair.client.is_over());
    pair.server.finish().unwrap();
}

#[test]
fn a_broker_does_not_wait_for_ever_for_its_client() {
    let mut config = BrokerConfig::default();
    config.handshake_timeout = SECOND;
    let broker = Broker::new(config);
    let mut pair = Pair::new(Config::default(), broker, LinkConfig::perfect());
    pair.client
        .link
        .stall(Side::Client, Instant::EPOCH, Duration::MAX);
    let events = pair.drive(|event| matches!(event, Event::Closed(_))).unwrap();
    assert!(
        matches!(events[..], [Event::Closed(CloseReason::Transport { .. })]),
        "{events:?}"
    );
    assert_eq!(pair.elapsed(), SECOND);
}
