//! Limits: how they are negotiated, and that both sides keep to them.

use amqp_proto::wire::*;
use amqp_proto::{
    CloseReason, Config, ConnectionState, Event, Heartbeat, Negotiated, RecvBuf, Secret, SendError,
};

use crate::peer::Peer;
use crate::states::{At, TUNE, assert_closed_for_good};

/// What we answer to that proposal.
fn negotiate(config: Config, tune: ConnectionTune) -> (Negotiated, ConnectionTuneOk) {
    let mut peer = Peer::new(config);
    peer.send(0, ConnectionStart::default());
    assert_eq!(peer.events(), []);
    assert_eq!(peer.connection.negotiated(), Negotiated::default());
    peer.sent();
    peer.send(0, tune);
    assert_eq!(peer.events(), []);
    let octets = peer.sent_octets();
    let raw = RawFrame::parse(&octets, &FrameLimits::default())
        .unwrap()
        .unwrap();
    let Ok(Method::ConnectionTuneOk(tune_ok)) = Method::decode(raw.payload) else {
        panic!("{raw:?}");
    };
    (peer.connection.negotiated(), tune_ok)
}

/// The smaller of two limits, where 0 is none.
fn smaller(ours: u32, offered: u32) -> u32 {
    [ours, offered]
        .into_iter()
        .filter(|limit| *limit > 0)
        .min()
        .unwrap_or(0)
}

#[test]
fn the_smaller_limit_counts_and_no_limit_only_if_both_have_none() {
    for ours in [0, 1, 2047, u16::MAX] {
        for offered in [0, 1, 100, 2047, u16::MAX] {
            let tune = ConnectionTune {
                channel_max: offered,
                ..TUNE
            };
            let (negotiated, tune_ok) = negotiate(Config::default().channel_max(ours), tune);
            let expected = smaller(ours.into(), offered.into());
            assert_eq!(u32::from(tune_ok.channel_max), expected, "{ours} {offered}");
            assert_eq!(negotiated.channel_max, tune_ok.channel_max);
        }
    }
    for ours in [0, 4096, 8192, 131_072, u32::MAX] {
        for offered in [0, 4096, 8192, 131_072, u32::MAX] {
            let tune = ConnectionTune {
                frame_max: offered,
                ..TUNE
            };
            let (negotiated, tune_ok) = negotiate(Config::default().frame_max(ours), tune);
            assert_eq!(tune_ok.frame_max, smaller(ours, offered), "{ours} {offered}");
            assert_eq!(negotiated.frame_max, tune_ok.frame_max);
        }
    }
}

#[test]
fn the_heartbeat_is_the_servers_proposal_unless_it_is_set() {
    for (heartbeat, of_0, of_60) in [
        (Heartbeat::ServerProposal, 0, 60),
        (Heartbeat::Off, 0, 0),
        (Heartbeat::Seconds(0), 0, 0),
        (Heartbeat::Seconds(20), 20, 20),
        (Heartbeat::Seconds(600), 600, 600),
        (Heartbeat::custom(|proposal| proposal / 2), 0, 30),
    ] {
        for (proposal, expected) in [(0, of_0), (60, of_60)] {
            let tune = ConnectionTune {
                heartbeat: proposal,
                ..TUNE
            };
            let (negotiated, tune_ok) = negotiate(Config::default().heartbeat(heartbeat.clone()), tune);
            assert_eq!(tune_ok.heartbeat, expected, "{heartbeat:?} {proposal}");
            assert_eq!(negotiated.heartbeat, expected);
        }
    }
}

#[test]
fn a_frame_max_below_the_minimum_is_refused() {
    for frame_max in [1, 4095] {
        let mut peer = At::Tune.reach();
        peer.send(0, ConnectionTune { frame_max, ..TUNE });
        let Event::Closed(CloseReason::Protocol(error)) = peer.event() else {
            panic!("{frame_max} was taken");
        };
        assert_eq!(error.problem, Problem::FrameMaxTooSmall(frame_max));
        let sent = peer.sent();
        let words = format!("frame_max of {frame_max} octets is below the minimum");
        assert!(sent[0].contains("connection.close reply_code=502 "), "{sent:?}");
        assert!(sent[0].contains(&words), "{sent:?}");
        assert_eq!(sent.len(), 1);
        assert_closed_for_good(&mut peer);
    }
}

/// The first octets of a frame of that size.
fn frame_header(frame_type: u8, frame_size: u32) -> Vec<u8> {
    let channel = [0, 1];
    [
        &[frame_type],
        &channel[..],
        &(frame_size - FRAME_OVERHEAD).to_be_bytes(),
    ]
    .concat()
}

/// That frames of that type and `limit` octets are taken and larger ones refused before their payload arrives.
fn check_limit(open: impl Fn() -> Peer, frame_type: u8, limit: u32) {
    let mut peer = open();
    peer.send_octets(&frame_header(frame_type, limit));
    assert_eq!(peer.events(), [], "type {frame_type}, {limit} octets");
    let mut peer = open();
    peer.send_octets(&frame_header(frame_type, limit + 1));
    let Some(Event::Closed(CloseReason::Protocol(error))) = peer.events().pop() else {
        panic!("type {frame_type}, {limit} octets and one more");
    };
    let size = u64::from(limit) + 1;
    assert_eq!(error.problem, Problem::FrameTooLarge { size, limit });
    let sent = peer.sent();
    assert!(sent[0].contains("connection.close reply_code=501 "), "{sent:?}");
    assert!(
        sent[0].contains(&format!("frame of {size} octets is over the limit of {limit}")),
        "{sent:?}"
    );
}

#[test]
fn before_tune_bodies_have_the_minimum_and_methods_their_own_limit() {
    let at = |at: At, config: Config| move || at.reach_with(config.clone(), TUNE);
    for state in [At::Start, At::Tune] {
        check_limit(at(state, crate::states::config()), 3, 4096);
        check_limit(at(state, crate::states::config()), 1, 131_072);
        check_limit(
            at(state, crate::states::config().max_method_frame(200_000)),
            1,
            200_000,
        );
    }
}

#[test]
fn after_tune_bodies_keep_to_frame_max_and_methods_to_the_larger_of_two_limits() {
    for (frame_max, max_method_frame, of_methods) in [
        (4096, 131_072, 131_072),
        (4096, 200_000, 200_000),
        (262_144, 131_072, 262_144),
        (262_144, 300_000, 300_000),
    ] {
        let config = Config::default()
            .frame_max(frame_max)
            .max_method_frame(max_method_frame);
        let tune = ConnectionTune { frame_max: 0, ..TUNE };
        let open = || Peer::open_with(config.clone(), tune);
        check_limit(open, 3, frame_max);
        check_limit(open, 1, of_methods);
        check_limit(open, 2, of_methods);
    }
}

/// How large the frames are that were written.
fn sizes(octets: &[u8]) -> Vec<usize> {
    let limits = FrameLimits {
        body: u32::MAX,
        other: u32::MAX,
    };
    let mut rest = octets;
    let mut sizes = Vec::new();
    while let Some(raw) = RawFrame::parse(rest, &limits).unwrap() {
        sizes.push(raw.size());
        rest = &rest[raw.size()..];
    }
    sizes
}

#[test]
fn what_we_send_keeps_to_frame_max() {
    let mut peer = Peer::open_with(
        Config::default(),
        ConnectionTune {
            frame_max: 4096,
            ..TUNE
        },
    );
    let channel = peer.open_channel();
    let mut channel = peer.connection.channel(channel).unwrap();
    channel
        .publish(&BasicPublish::default(), &Properties::default(), &[0; 10_000])
        .unwrap();
    let arguments = FieldTable::new()
        .with("x", FieldValue::LongStr(&[0; 5000]))
        .unwrap();
    let declare = QueueDeclare {
        arguments: arguments.as_ref(),
        ..QueueDeclare::default()
    };
    let refused = channel.request(&declare);
    assert!(matches!(
        refused,
        Err(SendError::Encode(EncodeError::FrameTooLarge { limit: 4096, .. }))
    ));
    assert_eq!(
        sizes(&peer.sent_octets())[2..],
        [4096, 4096, 10_000 - 2 * 4088 + 8]
    );
    assert_eq!(peer.connection.state(), ConnectionState::Open);
}

#[test]
fn a_new_secret_must_fit_a_frame() {
    for (frame_max, fits) in [(4096, false), (8192, true), (0, true)] {
        let config = Config::default().frame_max(0);
        let mut peer = Peer::open_with(config, ConnectionTune { frame_max, ..TUNE });
        let result = peer.connection.update_secret(&Secret::new(vec![b'x'; 5000]), "");
        assert_eq!(result.is_ok(), fits, "{frame_max}: {result:?}");
        assert_eq!(peer.sent().len(), usize::from(fits));
    }
    let mut peer = Peer::open();
    let result = peer
        .connection
        .update_secret(&Secret::from("x"), &"r".repeat(256));
    assert!(matches!(result, Err(SendError::TooLong(_))));
    assert!(peer.sent().is_empty());
}

#[test]
fn no_limit_is_no_limit() {
    let config = Config::default().frame_max(0);
    let tune = ConnectionTune {
        channel_max: 0,
        frame_max: 0,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(config, tune);
    let channel = peer.connection.open_channel_with_number(u16::MAX).unwrap();
    let mut channel = peer.connection.channel(channel).unwrap();
    channel
        .publish(
            &BasicPublish::default(),
            &Properties::default(),
            vec![0; 1_000_000],
        )
        .unwrap();
    assert_eq!(sizes(&peer.sent_octets()).last(), Some(&1_000_008));
    peer.send_octets(&frame_header(3, 100_000_000));
    assert_eq!(peer.events(), []);
    // After the last number comes the first.
    assert_eq!(peer.connection.open_channel().unwrap().number(), 1);
}

#[test]
fn the_buffer_takes_the_largest_frame_that_was_agreed_on() {
    let mut peer = Peer::new(Config::default().frame_max(1_000_000));
    peer.input = RecvBuf::with_limit(4096);
    peer.send(0, ConnectionStart::default());
    peer.events();
    peer.send(0, ConnectionTune { frame_max: 0, ..TUNE });
    peer.events();
    peer.send(0, ConnectionOpenOk {});
    assert_eq!(peer.event(), Event::Connected);
    let room = vec![0; 2_000_000];
    let taken = peer.input.extend(&room);
    assert!((1_000_000..1_100_000).contains(&taken), "{taken}");
}

#[test]
fn channels_end_at_channel_max_and_their_numbers_come_round() {
    for channel_max in [1, 2, 5] {
        let mut peer = Peer::open_with(Config::default(), ConnectionTune { channel_max, ..TUNE });
        let full = Err(SendError::NoFreeChannel { channel_max });
        for number in 1..=channel_max {
            assert_eq!(peer.open_channel().number(), number);
        }
        assert_eq!(peer.connection.open_channel(), full);
        for number in (1..=channel_max).rev() {
            peer.send(number, ChannelClose::default());
            assert_eq!(peer.events().len(), 1);
            assert_eq!(peer.open_channel().number(), number);
            assert_eq!(peer.connection.open_channel(), full);
        }
    }
}

#[test]
fn channels_can_be_opened_by_number() {
    let mut peer = Peer::open_with(
        Config::default(),
        ConnectionTune {
            channel_max: 5,
            ..TUNE
        },
    );
    for number in [0, 6, u16::MAX] {
        let refused = peer.connection.open_channel_with_number(number);
        assert_eq!(
            refused,
            Err(SendError::ChannelNumber {
                number,
                channel_max: 5
            })
        );
    }
    let fifth = peer.connection.open_channel_with_number(5).unwrap();
    assert_eq!((fifth.number(), fifth.incarnation()), (5, 0));
    let again = peer.connection.open_channel_with_number(5);
    assert_eq!(again, Err(SendError::ChannelInUse(5)));
    let next = peer.connection.open_channel().unwrap();
    assert_eq!((next.number(), next.incarnation()), (1, 1));
    assert_eq!(peer.connection.next_incarnation(), 2);
    assert_eq!(peer.connection.channel_count(), 2);
    assert_eq!(peer.sent(), ["ch 5 channel.open", "ch 1 channel.open"]);
}

#[test]
fn without_a_limit_a_body_frame_is_as_large_as_a_message_may_be_or_16_mib() {
    const MIB_16: u32 = 16 * 1024 * 1024;
    let tune = ConnectionTune { frame_max: 0, ..TUNE };
    for (max_message_size, largest) in [(1000, MIB_16), (100_000_000, 100_000_008)] {
        let config = Config::default().frame_max(0).max_message_size(max_message_size);
        let mut peer = Peer::open_with(config.clone(), tune);
        peer.open_channel();
        peer.send_octets(&frame_header(3, largest));
        assert_eq!(peer.events(), []);
        let mut peer = Peer::open_with(config, tune);
        peer.open_channel();
        peer.send_octets(&frame_header(3, largest + 1));
        assert!(peer.violation().starts_with("501 "), "{max_message_size}");
    }
}
