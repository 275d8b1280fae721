//! Every phase of a channel with every frame that could arrive in it, and with every command: the table of
//! `docs/architecture.md`, spelled out.

use amqp_proto::wire::*;
use amqp_proto::{Channel, ChannelId, Config, ConsumerId, DeliveryTag, Event, SendError};
use std::time::Duration;

use crate::peer::Peer;
use crate::stage::{close_406, deliver, short};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Open,
    Closing,
    /// We closed it, and so did the peer, at once.
    ClosingBoth,
    /// `channel.open` was not answered in time.
    AbandonedOpening,
    /// As before, the answer came late, and we said close.
    AbandonedLate,
    /// `channel.close` was not answered in time.
    AbandonedClosing,
    /// Closed by the peer, which may say so again.
    Gone,
    Never,
}

use Phase::*;

const PHASES: [Phase; 9] = [
    Opening,
    Open,
    Closing,
    ClosingBoth,
    AbandonedOpening,
    AbandonedLate,
    AbandonedClosing,
    Gone,
    Never,
];

const LONG: Duration = Duration::from_secs(100);

/// Channel 1 in that phase, nothing left to be looked at.
fn in_phase(phase: Phase) -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    if phase == Never {
        return (peer, ChannelId::new(1, 0));
    }
    let id = peer.connection.open_channel().unwrap();
    if !matches!(phase, Opening | AbandonedOpening | AbandonedLate) {
        peer.send(1, ChannelOpenOk {});
    }
    if matches!(phase, Closing | ClosingBoth | AbandonedClosing) {
        peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    }
    if matches!(phase, Gone | ClosingBoth) {
        peer.send(1, close_406());
    }
    if matches!(phase, AbandonedOpening | AbandonedLate | AbandonedClosing) {
        peer.advance(LONG);
    }
    if phase == AbandonedLate {
        peer.send(1, ChannelOpenOk {});
    }
    peer.events();
    peer.sent();
    (peer, id)
}

/// A method frame whose arguments are all zero: empty texts, no bits set.
fn zeroed(spec: &MethodSpec) -> Vec<u8> {
    let mut payload = [spec.id.class.to_be_bytes(), spec.id.method.to_be_bytes()].concat();
    let mut after_bit = false;
    for argument in spec.arguments {
        let size = match argument.domain {
            Domain::bit if after_bit => 0,
            Domain::bit | Domain::octet | Domain::shortstr => 1,
            Domain::short | Domain::reply_code => 2,
            Domain::long | Domain::longstr | Domain::secret | Domain::table => 4,
            Domain::longlong => 8,
        };
        after_bit = argument.domain == Domain::bit;
        payload.resize(payload.len() + size, 0);
    }
    frame(1, &payload)
}

fn frame(frame_type: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[frame_type, 0, 1][..], &size, payload, &[0xCE]].concat()
}

/// What came of it, in words: events, then what was written.
fn outcome(peer: &mut Peer) -> String {
    let events = peer.events();
    if let Some(Event::Closed(_)) = events.last() {
        let reason = peer.connection.close_reason().unwrap().to_string();
        assert_eq!(peer.sent().len(), 1, "connection.close, and nothing else");
        return reason
            .trim_start_matches("protocol error: ")
            .split(" (in ")
            .next()
            .unwrap()
            .to_owned();
    }
    let name = |event: &Event| {
        let text = format!("{event:?}");
        text.split([' ', '(']).next().unwrap_or_default().to_owned()
    };
    let mut parts: Vec<String> = events.iter().map(name).collect();
    parts.extend(peer.sent().iter().map(|line| {
        let line = line.trim_start_matches("ch 1 ");
        line.split(' ').next().unwrap_or_default().to_owned()
    }));
    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join(", ")
    }
}

/// What a method must lead to, its content (empty) included.
fn expected(phase: Phase, spec: &MethodSpec) -> String {
    let name = spec.name;
    let special = match (phase, name) {
        (Gone, "channel.close") => "nothing",
        (Gone | Never, _) => "channel 1 is not open",

        (AbandonedOpening, "channel.open-ok") => "channel.close",
        (AbandonedOpening | AbandonedLate | AbandonedClosing, "channel.close") => "channel.close-ok",
        (AbandonedOpening | AbandonedLate | AbandonedClosing, _) => "nothing",

        (Opening, "channel.open-ok") => "ChannelOpened",
        (Opening | Open, "channel.close") => "ChannelClosed, channel.close-ok",
        (Opening | Open, "channel.flow") => "Flow, channel.flow-ok",
        (Opening | Open, "basic.cancel") => "basic.cancel-ok",

        (Closing, "channel.close") => "channel.close-ok",
        (ClosingBoth, "channel.close") => "nothing",
        (Closing | ClosingBoth, "channel.close-ok") => "ChannelClosed",
        (Closing | ClosingBoth, "channel.flow" | "basic.cancel") => "nothing",

        (Open, "basic.deliver") => "basic.nack",
        (Closing | ClosingBoth, "basic.deliver") => "nothing",
        (Open | Closing | ClosingBoth, "basic.return") => "Returned",
        (_, "basic.ack" | "basic.nack") => "confirm of publish 0, which was never made",
        (Opening, "basic.deliver" | "basic.return" | "basic.get-ok") => {
            return format!("{name} is not valid here");
        }
        (Opening, _) if spec.sender != Sender::Client => {
            return format!("{name} does not answer channel.open, which is the next to be answered");
        }
        _ if spec.sender != Sender::Client => {
            return format!("{name} answers nothing: no request is waiting");
        }
        _ => return format!("{name} is not valid here"),
    };
    special.to_owned()
}

#[test]
fn every_method_in_every_phase() {
    for phase in PHASES {
        for spec in METHODS {
            let (mut peer, _) = in_phase(phase);
            peer.send_octets(&zeroed(spec));
            if spec.has_content {
                peer.send_header(1, 0, Properties::default());
            }
            assert_eq!(
                outcome(&mut peer),
                expected(phase, spec),
                "{phase:?} {}",
                spec.name
            );
        }
    }
}

#[test]
fn content_without_a_method_is_a_violation_in_every_phase_that_listens() {
    for phase in PHASES {
        let expected = match phase {
            AbandonedOpening | AbandonedLate | AbandonedClosing => "nothing",
            Gone | Never => "channel 1 is not open",
            _ => "content without a method that carries it",
        };
        let (mut peer, _) = in_phase(phase);
        peer.send_header(1, 0, Properties::default());
        assert_eq!(outcome(&mut peer), expected, "{phase:?} header");
        let (mut peer, _) = in_phase(phase);
        peer.send_body(1, b"");
        assert_eq!(outcome(&mut peer), expected, "{phase:?} body");
    }
}

#[test]
fn a_heartbeat_on_a_channel_is_505_in_every_phase() {
    for phase in PHASES {
        let (mut peer, _) = in_phase(phase);
        peer.send_octets(&frame(8, b""));
        assert_eq!(peer.violation(), "505 heartbeat on channel 1", "{phase:?}");
    }
}

#[test]
fn an_unknown_method_is_503_in_every_phase_that_knows_the_channel() {
    for phase in PHASES {
        let (mut peer, _) = in_phase(phase);
        peer.send_octets(&frame(1, &[0, 60, 0, 99]));
        let expected = match phase {
            Gone | Never => "504 channel 1 is not open",
            _ => "503 unknown method 99 of class 60",
        };
        assert_eq!(peer.violation(), expected, "{phase:?}");
    }
}

type Command = fn(&mut Channel<'_>) -> Result<(), SendError>;

/// A delivery and a consumer that were there before the channel began to close.
fn tag(channel: &Channel<'_>) -> DeliveryTag {
    DeliveryTag::new(channel.id(), 1)
}

const COMMANDS: [(&str, Command); 15] = [
    ("request", |c| c.request(&QueueDeclare::default()).map(drop)),
    ("request confirm.select", |c| {
        c.request(&ConfirmSelect::default()).map(drop)
    }),
    ("send_nowait", |c| c.send_nowait(&QueueDeclare::default())),
    ("consume", |c| c.consume(&BasicConsume::default()).map(drop)),
    ("consume_nowait", |c| {
        c.consume_nowait(&BasicConsume::default()).map(drop)
    }),
    ("cancel", |c| {
        let consumer = ConsumerId::new(c.id(), 0);
        c.cancel(consumer).map(drop)
    }),
    ("get", |c| c.get(&BasicGet::default()).map(drop)),
    ("ack", |c| c.ack(tag(c))),
    ("ack_multiple", |c| c.ack_multiple(tag(c))),
    ("nack", |c| c.nack(tag(c), true)),
    ("nack_multiple", |c| c.nack_multiple(tag(c), true)),
    ("reject", |c| c.reject(tag(c), true)),
    ("recover_async", |c| {
        c.recover_async(&BasicRecoverAsync { requeue: true })
    }),
    ("publish", |c| {
        let properties = Properties::default();
        c.publish(&BasicPublish::default(), &properties, b"").map(drop)
    }),
    ("close", |c| c.close(ReplyCode::REPLY_SUCCESS, "")),
];

#[test]
fn every_command_in_every_phase() {
    for phase in PHASES {
        for (name, command) in COMMANDS {
            let (mut peer, id) = with_a_delivery(phase);
            let channel = peer.connection.channel(id);
            let result = channel.and_then(|mut channel| command(&mut channel));
            let is_settling = matches!(name, "ack" | "ack_multiple" | "nack" | "nack_multiple" | "reject");
            let expected = match phase {
                Opening if is_settling => Err(SendError::UnknownDelivery(1)),
                Opening | Open => Ok(()),
                _ => Err(SendError::Stale),
            };
            let is_written = !peer.sent().is_empty();
            assert_eq!(result, expected, "{phase:?} {name}");
            assert_eq!(is_written, expected == Ok(()), "{phase:?} {name}");
        }
    }
}

/// As `in_phase`, with a consumer; in the phases after `Open` with a delivery too, while it was open.
fn with_a_delivery(phase: Phase) -> (Peer, ChannelId) {
    if !matches!(phase, Opening | Open | Closing | ClosingBoth) {
        return in_phase(phase);
    }
    let (mut peer, id) = in_phase(if phase == Opening { Opening } else { Open });
    let consume = BasicConsume {
        consumer_tag: short("c"),
        ..BasicConsume::default()
    };
    peer.channel(id).consume_nowait(&consume).unwrap();
    if phase != Opening {
        peer.send_content(1, deliver("c", 1), b"hello");
    }
    if matches!(phase, Closing | ClosingBoth) {
        peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    }
    if phase == ClosingBoth {
        peer.send(1, close_406());
    }
    peer.events();
    peer.sent();
    (peer, id)
}

#[test]
fn ids_of_an_old_incarnation_are_stale_for_every_command() {
    let (mut peer, old) = in_phase(Gone);
    let new = peer.connection.open_channel_with_number(1).unwrap();
    peer.send(1, ChannelOpenOk {});
    assert_eq!(peer.event(), Event::ChannelOpened { channel: new });
    peer.sent();
    assert_ne!(old, new);
    assert!(peer.connection.channel(old).is_err());
    peer.consume(new, "c", false);
    peer.send_content(1, deliver("c", 1), b"");
    peer.events();
    let of_old = DeliveryTag::new(old, 1);
    let mut channel = peer.channel(new);
    assert_eq!(channel.ack(of_old), Err(SendError::Stale));
    assert_eq!(channel.ack_multiple(of_old), Err(SendError::Stale));
    assert_eq!(channel.nack(of_old, true), Err(SendError::Stale));
    assert_eq!(channel.nack_multiple(of_old, true), Err(SendError::Stale));
    assert_eq!(channel.reject(of_old, true), Err(SendError::Stale));
    let of_old = ConsumerId::new(old, 0);
    assert_eq!(channel.cancel(of_old), Err(SendError::UnknownConsumer));
    assert_eq!(
        channel.stream_bodies(of_old, true),
        Err(SendError::UnknownConsumer)
    );
    assert_eq!(channel.consumer_tag(of_old), None);
    assert_eq!(channel.wants_acks(of_old), None);
    peer.assert_quiet();
}

#[test]
fn no_channel_can_be_commanded_before_the_connection_is_open_or_after_it_closed() {
    let mut peer = Peer::new(Config::default());
    assert_eq!(peer.connection.open_channel(), Err(SendError::NotConnected));
    assert_eq!(
        peer.connection.open_channel_with_number(1),
        Err(SendError::NotConnected)
    );
    let (mut peer, id) = in_phase(Open);
    peer.connection.close(ReplyCode::REPLY_SUCCESS, "");
    assert!(peer.connection.channel(id).is_err());
    assert_eq!(peer.connection.open_channel(), Err(SendError::Closed));
    assert_eq!(
        peer.connection.open_channel_with_number(2),
        Err(SendError::Closed)
    );
}
