//! From the protocol header to `connection.open-ok`.

use amqp_proto::wire::*;
use amqp_proto::{Config, ConnectionState, Event};

use crate::peer::Peer;

#[test]
fn it_goes_through_start_tune_and_open() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.connection.state(), ConnectionState::WaitingForStart);
    assert_eq!(peer.sent(), ["protocol header"]);
    peer.send(0, ConnectionStart::default());
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.state(), ConnectionState::WaitingForTune);
    let start_ok = peer.sent();
    assert!(
        start_ok[0].starts_with("ch 0 connection.start-ok"),
        "{start_ok:?}"
    );
    peer.send(
        0,
        ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        },
    );
    assert_eq!(peer.events(), []);
    assert_eq!(
        peer.sent(),
        [
            "ch 0 connection.tune-ok channel_max=2047 frame_max=131072 heartbeat=60",
            r#"ch 0 connection.open virtual_host="/""#,
        ]
    );
    peer.send(0, ConnectionOpenOk {});
    assert_eq!(peer.event(), Event::Connected);
    assert!(peer.connection.is_open());
}
