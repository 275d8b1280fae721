//! Every state of a connection with every input, and the way into each state.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{
    ChannelCloseReason, ChannelId, CloseReason, Config, ConnectionState, Credentials, Event, Secret,
    SendError, TransportError,
};

use crate::peer::Peer;

/// The states of [`ConnectionState`], closing in two: while channels are closed, and once `connection.close` was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    Start,
    Tune,
    OpenOk,
    Open,
    Blocked,
    ClosingChannels,
    CloseSaid,
    Closed,
}

pub(crate) const STATES: [At; 8] = [
    At::Start,
    At::Tune,
    At::OpenOk,
    At::Open,
    At::Blocked,
    At::ClosingChannels,
    At::CloseSaid,
    At::Closed,
];

/// The channel that is there from `Open` on.
pub(crate) const CHANNEL: ChannelId = ChannelId::new(1, 0);

pub(crate) const START: ConnectionStart<'_> = ConnectionStart {
    version_major: 0,
    version_minor: 9,
    server_properties: FieldTableRef::from_encoded(b""),
    mechanisms: LongStr::new(b"AMQPLAIN RABBIT-CR-DEMO"),
    locales: LongStr::new(b"en_US"),
};

pub(crate) const TUNE: ConnectionTune = ConnectionTune {
    channel_max: 2047,
    frame_max: 131_072,
    heartbeat: 0,
};

impl At {
    /// A connection in that state, with one channel if it can have any, and nothing left to be looked at.
    pub(crate) fn reach(self) -> Peer {
        self.reach_with(config(), TUNE)
    }

    pub(crate) fn reach_with(self, config: Config, tune: ConnectionTune) -> Peer {
        let mut peer = Peer::new(config);
        if self >= Self::Tune {
            peer.send(0, START);
        }
        if self >= Self::OpenOk {
            peer.send(0, tune);
        }
        if self >= Self::Open {
            peer.send(0, ConnectionOpenOk {});
            assert_eq!(peer.event(), Event::Connected);
            assert_eq!(peer.open_channel(), CHANNEL);
        }
        if self == Self::Blocked {
            peer.send(0, blocked("low on memory"));
        }
        if self >= Self::ClosingChannels {
            peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye");
        }
        if self >= Self::CloseSaid {
            peer.send(1, ChannelCloseOk {});
        }
        if self == Self::Closed {
            peer.send(0, ConnectionCloseOk {});
        }
        peer.events();
        peer.sent();
        assert_eq!(peer.connection.state(), self.summary());
        peer
    }

    pub(crate) const fn summary(self) -> ConnectionState {
        match self {
            Self::Start => ConnectionState::WaitingForStart,
            Self::Tune => ConnectionState::WaitingForTune,
            Self::OpenOk => ConnectionState::WaitingForOpenOk,
            Self::Open => ConnectionState::Open,
            Self::Blocked => ConnectionState::Blocked,
            Self::ClosingChannels | Self::CloseSaid => ConnectionState::Closing,
            Self::Closed => ConnectionState::Closed,
        }
    }
}

/// With a mechanism that has a second round, and a deadline for a peer that blocks.
pub(crate) fn config() -> Config {
    Config::default()
        .credentials(Credentials::rabbit_cr_demo("ann", "s3cret"))
        .blocked_connection_timeout(Some(Duration::from_secs(60)))
}

pub(crate) fn blocked(reason: &str) -> ConnectionBlocked<'_> {
    ConnectionBlocked {
        reason: ShortStr::new(reason).unwrap(),
    }
}

pub(crate) fn close(code: u16, text: &str) -> ConnectionClose<'_> {
    ConnectionClose {
        reply_code: ReplyCode(code),
        reply_text: ShortStr::new(text).unwrap(),
        class_id: 0,
        method_id: 0,
    }
}

/// A frame of any type and payload.
pub(crate) fn frame(frame_type: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![frame_type];
    octets.extend(channel.to_be_bytes());
    octets.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend(payload);
    octets.push(0xCE);
    octets
}

/// That it has ended and stays so, whatever comes.
#[track_caller]
pub(crate) fn assert_closed_for_good(peer: &mut Peer) {
    let reason = peer.connection.close_reason().cloned();
    assert!(reason.is_some());
    peer.sent();
    peer.send_octets(b"anything");
    peer.connection
        .handle_timeout(peer.now + Duration::from_secs(1000));
    let error = TransportError::new("reset");
    peer.connection.handle_disconnect(peer.now, Some(error));
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "again");
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), Vec::<String>::new());
    assert!(peer.input.unread().is_empty());
    assert_eq!(peer.connection.poll_timeout(), None);
    assert_eq!(peer.connection.timeout_reason(), None);
    assert_eq!(peer.connection.open_channel(), Err(SendError::Closed));
    assert_eq!(
        peer.connection.open_channel_with_number(1),
        Err(SendError::Closed)
    );
    let secret = peer.connection.update_secret(&Secret::from("x"), "");
    assert_eq!(secret, Err(SendError::Closed));
    assert!(peer.connection.channel(CHANNEL).is_err());
    assert_eq!(peer.connection.channel_count(), 0);
    assert_eq!(peer.connection.blocked(), None);
    assert_eq!(peer.connection.state(), ConnectionState::Closed);
    assert_eq!(peer.connection.close_reason(), reason.as_ref());
    assert!(peer.connection.is_drained());
    assert!(!peer.connection.is_open());
}

/// An input and what comes of it in each of [`STATES`]: nothing if it is empty; a reply code alone is a protocol error that
/// the peer is told. Otherwise events, then `>` and what is written, then `=` and the new state.
type Row = (&'static str, fn(&mut Peer), [&'static str; 8]);

fn check(rows: &[Row]) {
    for (input, act, outcomes) in rows {
        for (at, expected) in STATES.into_iter().zip(outcomes) {
            let mut peer = at.reach();
            act(&mut peer);
            let expected = if expected.parse::<u16>().is_ok() {
                format!("protocol error > connection.close {expected}")
            } else {
                (*expected).to_owned()
            };
            assert_eq!(outcome(&mut peer, at), expected, "{input} at {at:?}");
        }
    }
}

/// What came of it, as in a [`Row`].
fn outcome(peer: &mut Peer, before: At) -> String {
    let mut words = Vec::new();
    let events = peer.events();
    let ends = events
        .iter()
        .filter(|event| matches!(event, Event::Closed(_)))
        .count();
    assert_eq!(ends, usize::from(matches!(events.last(), Some(Event::Closed(_)))));
    for event in &events {
        match event {
            Event::ChannelClosed {
                channel: CHANNEL,
                reason: ChannelCloseReason::Connection(reason),
            } => assert_eq!(events.last(), Some(&Event::Closed(reason.clone()))),
            Event::ChannelClosed {
                channel: CHANNEL,
                reason: ChannelCloseReason::Timeout(method),
            } if *method == ChannelClose::SPEC.id => words.push("channel not closed in time".to_owned()),
            Event::Closed(reason) => words.push(describe(reason)),
            Event::Blocked { reason } => words.push(format!("blocked: {reason}")),
            other => words.push(format!("{other:?}")),
        }
    }
    for line in peer.sent() {
        let mut parts = line.split(' ').skip(2);
        words.push(format!("> {}", parts.next().unwrap()));
        let code = parts.find_map(|part| part.strip_prefix("reply_code="));
        words.extend(code.map(str::to_owned));
    }
    let state = peer.connection.state();
    if state == ConnectionState::Closed {
        assert_closed_for_good(peer);
        assert!(before == At::Closed || ends == 1);
    } else if state != before.summary() {
        words.push(format!("= {state}"));
    }
    words.join(" ")
}

fn describe(reason: &CloseReason) -> String {
    let words = match reason {
        CloseReason::Requested { acknowledged: true } => "closed, confirmed",
        CloseReason::Requested { acknowledged: false } => "closed, not confirmed",
        CloseReason::Peer(_) => "closed by the peer",
        CloseReason::AuthRefused { peer: Some(_) } => "refused, with its word",
        CloseReason::AuthRefused { peer: None } => "refused, it seems",
        CloseReason::Protocol(error) if error.is_other_protocol() => "another protocol",
        CloseReason::Protocol(_) => "protocol error",
        CloseReason::Transport { .. } => "lost",
        CloseReason::HandshakeTimeout { .. } => "handshake timeout",
        CloseReason::BlockedTimeout { .. } => "blocked for too long",
        other => return format!("{other:?}"),
    };
    words.to_owned()
}

/// The same outcome wherever the connection still listens, but for some; once we said `connection.close`, what is no answer to
/// that is discarded.
fn all(outcome: &'static str, but: &[(At, &'static str)]) -> [&'static str; 8] {
    STATES.map(|at| match but.iter().find(|(state, _)| *state == at) {
        Some((_, outcome)) => outcome,
        None if at >= At::CloseSaid => "",
        None => outcome,
    })
}

#[test]
fn every_method_of_the_handshake_is_taken_in_its_state_only() {
    let start_ok = "> connection.start-ok = waiting for connection.tune";
    let tune_ok = "> connection.tune-ok > connection.open = waiting for connection.open-ok";
    let rows: [Row; 9] = [
        (
            "connection.start",
            |peer| peer.send(0, START),
            all("503", &[(At::Start, start_ok)]),
        ),
        (
            "connection.secure",
            |peer| peer.send(0, ConnectionSecure::default()),
            all("503", &[(At::Tune, "> connection.secure-ok")]),
        ),
        (
            "connection.tune",
            |peer| peer.send(0, TUNE),
            all("503", &[(At::Tune, tune_ok)]),
        ),
        (
            "connection.open-ok",
            |peer| peer.send(0, ConnectionOpenOk {}),
            all("503", &[(At::OpenOk, "Connected = open")]),
        ),
        (
            "connection.start-ok",
            |peer| peer.send(0, ConnectionStartOk::default()),
            all("503", &[]),
        ),
        (
            "connection.secure-ok",
            |peer| peer.send(0, ConnectionSecureOk::default()),
            all("503", &[]),
        ),
        (
            "connection.tune-ok",
            |peer| peer.send(0, ConnectionTuneOk::default()),
            all("503", &[]),
        ),
        (
            "connection.open",
            |peer| peer.send(0, ConnectionOpen::default()),
            all("503", &[]),
        ),
        (
            "queue.declare-ok on channel 0",
            |peer| peer.send(0, QueueDeclareOk::default()),
            all("503", &[]),
        ),
    ];
    check(&rows);
}

#[test]
fn every_other_connection_method_has_an_outcome_in_every_state() {
    let by_peer = "closed by the peer > connection.close-ok";
    let refused = "refused, with its word > connection.close-ok";
    let low = "blocked: low on disk";
    let rows: [Row; 7] = [
        ("connection.close 320", |peer| peer.send(0, close(320, "bye")), {
            all(by_peer, &[(At::CloseSaid, by_peer)])
        }),
        ("connection.close 403", |peer| peer.send(0, close(403, "no")), {
            all(by_peer, &[(At::Tune, refused), (At::CloseSaid, by_peer)])
        }),
        (
            "connection.close-ok",
            |peer| peer.send(0, ConnectionCloseOk {}),
            all("503", &[(At::CloseSaid, "closed, confirmed")]),
        ),
        (
            "connection.blocked",
            |peer| peer.send(0, blocked("low on disk")),
            [
                "503",
                "503",
                "503",
                "blocked: low on disk = blocked",
                low,
                low,
                low,
                "",
            ],
        ),
        (
            "connection.unblocked",
            |peer| peer.send(0, ConnectionUnblocked {}),
            ["503", "503", "503", "", "Unblocked = open", "", "", ""],
        ),
        (
            "connection.update-secret",
            |peer| peer.send(0, ConnectionUpdateSecret::default()),
            { all("503", &[]) },
        ),
        (
            "connection.update-secret-ok",
            |peer| peer.send(0, ConnectionUpdateSecretOk {}),
            { all("503", &[]) },
        ),
    ];
    check(&rows);
}

#[test]
fn every_frame_that_should_not_be_has_an_outcome_in_every_state() {
    let rows: [Row; 11] = [
        ("heartbeat", |peer| peer.send_frame(Frame::Heartbeat), [""; 8]),
        (
            "heartbeat on channel 1",
            |peer| peer.send_octets(&frame(8, 1, b"")),
            { all("505", &[(At::CloseSaid, "505")]) },
        ),
        (
            "header on channel 0",
            |peer| peer.send_header(0, 5, Properties::default()),
            all("505", &[]),
        ),
        (
            "body on channel 0",
            |peer| peer.send_body(0, b"x"),
            all("505", &[]),
        ),
        (
            "method on channel 9",
            |peer| peer.send(9, BasicQosOk {}),
            all("504", &[]),
        ),
        (
            "close of channel 9",
            |peer| peer.send(9, ChannelClose::default()),
            all("504", &[]),
        ),
        (
            "header on channel 9",
            |peer| peer.send_header(9, 5, Properties::default()),
            all("504", &[]),
        ),
        (
            "body on channel 9",
            |peer| peer.send_body(9, b"x"),
            all("504", &[]),
        ),
        (
            "unknown method",
            |peer| peer.send_octets(&frame(1, 0, &[0, 10, 0, 99])),
            all("503", &[]),
        ),
        (
            "half a method",
            |peer| peer.send_octets(&frame(1, 0, &[0, 10, 0])),
            all("501", &[]),
        ),
        (
            "wrong frame end",
            |peer| peer.send_octets(&[1, 0, 0, 0, 0, 0, 0, 0]),
            { all("501", &[(At::CloseSaid, "501")]) },
        ),
    ];
    check(&rows);
}

#[test]
fn every_state_ends_when_the_stream_does_and_knows_another_protocol_at_the_start_only() {
    let lost = [
        "lost",
        "refused, it seems",
        "lost",
        "lost",
        "lost",
        "closed, not confirmed",
        "closed, not confirmed",
        "",
    ];
    let other = all("501", &[(At::Start, "another protocol"), (At::CloseSaid, "501")]);
    let rows: [Row; 4] = [
        (
            "end of stream",
            |peer| peer.connection.handle_disconnect(peer.now, None),
            lost,
        ),
        (
            "reset",
            |peer| {
                let error = TransportError::new("connection reset");
                peer.connection.handle_disconnect(peer.now, Some(error));
            },
            lost,
        ),
        (
            "protocol header",
            |peer| peer.send_octets(b"AMQP\0\0\x09\x01"),
            other,
        ),
        (
            "HTTP",
            |peer| peer.send_octets(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            other,
        ),
    ];
    check(&rows);
}

/// All deadlines that a state has lie 5, 10 or 60 seconds ahead.
#[test]
fn every_state_lets_its_deadline_pass_and_no_moment_before() {
    let late = "handshake timeout";
    let unconfirmed = "closed, not confirmed";
    let given_up = "channel not closed in time > connection.close 200";
    let rows: [Row; 4] = [
        (
            "a timeout that is none",
            |peer| peer.connection.handle_timeout(peer.now),
            [""; 8],
        ),
        ("a nanosecond before the deadline", |peer| wait(peer, -1), [""; 8]),
        ("the deadline", |peer| wait(peer, 0), {
            [
                late,
                late,
                late,
                "",
                "blocked for too long",
                given_up,
                unconfirmed,
                "",
            ]
        }),
        (
            "silence for ten minutes",
            |peer| {
                peer.now = peer.now + Duration::from_secs(600);
                peer.connection.handle_timeout(peer.now);
            },
            [
                late,
                late,
                late,
                "",
                "blocked for too long",
                given_up,
                unconfirmed,
                "",
            ],
        ),
    ];
    check(&rows);
}

/// Until the deadline of that state, and so many nanoseconds more.
fn wait(peer: &mut Peer, nanos: i64) {
    let seconds: u64 = match (peer.connection.state(), peer.connection.channel_count()) {
        (ConnectionState::Blocked, _) => 60,
        (ConnectionState::Closing, 1) => 5,
        _ => 10,
    };
    let after = Duration::from_nanos((seconds * 1_000_000_000).checked_add_signed(nanos).unwrap());
    peer.now = peer.now + after;
    peer.connection.handle_timeout(peer.now);
}

#[test]
fn close_has_an_outcome_in_every_state() {
    let channel_first = "> channel.close 200 = closing";
    let unconfirmed = "closed, not confirmed";
    check(&[(
        "close()",
        |peer| peer.connection.close(ReplyCode::REPLY_SUCCESS, "bye"),
        [
            unconfirmed,
            unconfirmed,
            unconfirmed,
            channel_first,
            channel_first,
            "",
            "",
            "",
        ],
    )]);
}

#[test]
fn other_commands_are_taken_while_it_is_open_and_refused_with_a_reason_otherwise() {
    for at in STATES {
        let expected = match at {
            At::Start | At::Tune | At::OpenOk => Err(SendError::NotConnected),
            At::Open | At::Blocked => Ok(()),
            At::ClosingChannels | At::CloseSaid | At::Closed => Err(SendError::Closed),
        };
        let written = |names: &[&str]| match expected {
            Ok(()) => names.iter().map(|name| (*name).to_owned()).collect(),
            Err(_) => Vec::new(),
        };
        let mut peer = at.reach();
        assert_eq!(
            peer.connection.channel(CHANNEL).is_ok(),
            expected.is_ok(),
            "{at:?}"
        );
        assert!(peer.connection.channel(ChannelId::new(1, 7)).is_err(), "{at:?}");
        assert_eq!(peer.connection.is_open(), expected.is_ok(), "{at:?}");
        assert_eq!(peer.connection.open_channel().map(|_| ()), expected, "{at:?}");
        assert_eq!(
            peer.connection.open_channel_with_number(9).map(|_| ()),
            expected,
            "{at:?}"
        );
        assert_eq!(peer.events(), []);
        assert_eq!(peer.sent(), written(&["ch 2 channel.open", "ch 9 channel.open"]));
        let secret = peer.connection.update_secret(&Secret::from("new"), "expiry");
        assert_eq!(secret.map(|_| ()), expected, "{at:?}");
        assert_eq!(peer.events(), []);
        let update = r#"ch 0 connection.update-secret new_secret=<3 secret octets> reason="expiry""#;
        assert_eq!(peer.sent(), written(&[update]));
        assert_eq!(peer.connection.state(), at.summary());
    }
}
