//! A stream that takes no more octets, while the peer's words may still come.

use std::io::copy;
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::spawn;
use std::time::{Duration, Instant};

use amqp_mio::Connector;
use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{CloseReason, Event};
use amqp_testbroker::TestBroker;

use crate::round::Round;

/// An open connection over a bridge to the broker, and the bridge.
fn over_a_bridge(broker: &TestBroker) -> (Round, UnixStream) {
    let (ours, bridge) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    let (mut there, mut back) = (stream.try_clone().unwrap(), bridge.try_clone().unwrap());
    let source = bridge.try_clone().unwrap();
    spawn(move || copy(&mut &source, &mut there));
    spawn(move || copy(&mut &stream, &mut back));
    let connector = Connector::from_uri(&broker.uri()).unwrap();
    let ours = mio::net::UnixStream::from_std(ours);
    let round = Round::new(connector.connect_unix(ours).unwrap()).connected();
    (round, bridge)
}

fn closed(round: &mut Round) -> CloseReason {
    match round.until_event(|event| matches!(event, Event::Closed(_))) {
        Event::Closed(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_peer_s_words_are_waited_for() {
    let broker = TestBroker::start().unwrap();
    let (mut round, bridge) = over_a_bridge(&broker);
    bridge.shutdown(Shutdown::Read).unwrap();
    round.connection.open_channel().unwrap();
    round.connection.flush();
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "maintenance"));
    let reason = closed(&mut round);
    assert!(reason.to_string().contains("maintenance"), "{reason}");
}

#[test]
fn but_not_for_long() {
    let broker = TestBroker::start().unwrap();
    let (mut round, bridge) = over_a_bridge(&broker);
    bridge.shutdown(Shutdown::Read).unwrap();
    let start = Instant::now();
    round.connection.open_channel().unwrap();
    let reason = closed(&mut round);
    assert!(
        reason.to_string().contains("the stream takes no more octets"),
        "{reason}"
    );
    let taken = start.elapsed();
    assert!(taken >= Duration::from_secs(2), "{taken:?}");
    assert!(round.wakes < 30, "{} wakes", round.wakes);
}
