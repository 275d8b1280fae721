//! Any octets from the peer, in any pieces, in any state.

use super::ledger::{Asked, consume};
use super::machine::{Machine, method_frame};
use crate::trace::Direction;
use crate::wire::*;
use crate::{Channel, ChannelId, Config, Event, Instant, Secret};

/// How many states there are to begin in.
const STATES: u8 = 7;

/// What the peer sends from some state on.
///
/// ```text
/// 0       1                             2
/// +-------+--------------------+--------+--------+
/// | state | stalled, piece size | octets ...      |
/// +-------+--------------------+-----------------+
/// ```
/// Nothing panics or runs for ever; memory is bounded on both sides, and so is the number of events. At the end of the stream
/// everything that waited was resolved, each thing once; the connection was closed once, and nothing follows.
pub fn session(data: &[u8]) {
    let [state, cut, octets @ ..] = data else { return };
    let mut machine = begin(*state);
    machine.is_stalled = cut & 0x80 != 0;
    let piece = match cut & 0x7F {
        0 => octets.len().max(1),
        size => size.into(),
    };
    for piece in octets.chunks(piece) {
        let count = machine.feed(piece);
        machine.settle();
        if count < piece.len() {
            assert!(machine.is_stalled, "the buffer is full and nothing comes of it");
            break;
        }
    }
    if state & 0x80 != 0 {
        // The peer stays silent until every deadline has come.
        machine.sleep(24 * 3600 * 1_000_000_000);
        assert_eq!(machine.ledger.waiting(), 0);
    }
    machine.disconnect();
}

/// However the octets are cut, the same is told and the same is written; and a tap changes nothing.
pub fn session_chunks(data: &[u8]) {
    let [state, cut, octets @ ..] = data else { return };
    let whole = run(begin(*state), octets, octets.len().max(1));
    for size in [1, usize::from(cut & 0x7F) + 2] {
        assert_eq!(run(begin(*state), octets, size), whole, "in pieces of {size}");
    }
}

/// What is told of these octets, what is written after them, and how many frames they were.
fn run(mut machine: Machine, octets: &[u8], piece: usize) -> (Vec<Event>, Vec<u8>, u64) {
    for piece in octets.chunks(piece) {
        machine.feed(piece);
        machine.drain();
    }
    // What was written before a protocol error would not be taken back.
    machine.transmit();
    let frames = machine.connection.counters().frames_received;
    machine.disconnect();
    (machine.events, machine.written, frames)
}

fn begin(state: u8) -> Machine {
    let config = Config::default()
        .outbound_high_water(10_000)
        .outbound_limit(20_000)
        .max_message_size(100_000)
        .max_partial_content(150_000);
    let tune = ConnectionTune {
        channel_max: 7,
        frame_max: 4096,
        heartbeat: 10,
    };
    let state = state & 0x7F;
    let steps = match state % STATES {
        steps @ 0..=3 => steps.into(),
        _ => 3,
    };
    let mut machine = Machine::shaken(config, tune, steps);
    if state % STATES > 3 {
        busy(&mut machine);
    }
    match state % STATES {
        5 => machine.connection.close(ReplyCode::REPLY_SUCCESS, "bye"),
        6 => machine
            .connection
            .set_tap(Some(Box::new(|_: Instant, _: Direction, _: u16, _: &[u8]| {}))),
        _ => {}
    }
    machine.transmit();
    machine.events.clear();
    machine.written.clear();
    machine
}

/// Channels in all phases, each with something outstanding.
fn busy(machine: &mut Machine) {
    let channels = [(); 5].map(|()| {
        let channel = machine.connection.open_channel().expect("there are seven");
        machine.ledger.opened(channel);
        channel
    });
    let [confirming, consuming, asking, closing, _opening] = channels;
    for channel in [confirming, consuming, asking, closing] {
        machine.feed(&method_frame(channel.number(), ChannelOpenOk {}));
    }
    machine.settle();
    publish(machine, confirming);
    start_consumers(machine, consuming);
    ask(machine, asking);
    channel(machine, closing)
        .close(ReplyCode::REPLY_SUCCESS, "")
        .expect("it is open");
    let request = machine.connection.update_secret(&Secret::from("new"), "expires");
    let asked = Asked::Plain(ConnectionUpdateSecret::SPEC);
    machine.ledger.asked(request.expect("it is open"), asked);
}

fn channel(machine: &mut Machine, id: ChannelId) -> Channel<'_> {
    machine.connection.channel(id).expect("it is there")
}

/// Five publishes in confirm mode, of which three may come back.
fn publish(machine: &mut Machine, id: ChannelId) {
    channel(machine, id)
        .send_nowait(&ConfirmSelect::default())
        .expect("it is open");
    for number in 0..5 {
        let publish = BasicPublish {
            routing_key: ShortStr::delimited(b"q"),
            mandatory: number % 2 == 0,
            ..Default::default()
        };
        let tag = channel(machine, id).publish(&publish, &Properties::default(), &b"body"[..]);
        machine
            .ledger
            .published(tag.expect("it is open").expect("it confirms"));
    }
}

/// Consumers `a`, without acknowledgements `b`, `c` in pieces, `d` abandoned, `e` cancelled.
fn start_consumers(machine: &mut Machine, id: ChannelId) {
    for tag in [b"a", b"b", b"c", b"d", b"e"] {
        let method = BasicConsume {
            consumer_tag: ShortStr::delimited(tag),
            no_ack: tag == b"b",
            ..Default::default()
        };
        let started = channel(machine, id).consume(&method).expect("it is open");
        let (request, asked) = consume(started);
        machine.ledger.asked(request, asked);
        match tag {
            b"c" => channel(machine, id)
                .stream_bodies(started.0, true)
                .expect("it is there"),
            b"d" => {
                machine.connection.abandon(request);
                machine.ledger.abandoned(request);
            }
            b"e" => {
                let request = channel(machine, id).cancel(started.0).expect("it is there");
                machine.ledger.asked(request, Asked::Cancel(started.0));
            }
            _ => {}
        }
    }
}

/// A declare, two gets of which one is abandoned, a purge.
fn ask(machine: &mut Machine, id: ChannelId) {
    let declare = channel(machine, id).request(&QueueDeclare::default());
    let asked = Asked::Plain(QueueDeclare::SPEC);
    machine.ledger.asked(declare.expect("it is open"), asked);
    for is_abandoned in [false, true] {
        let get = channel(machine, id)
            .get(&BasicGet::default())
            .expect("it is open");
        if is_abandoned {
            machine.connection.abandon(get);
        } else {
            machine.ledger.asked(get, Asked::Get);
        }
    }
    let purge = channel(machine, id).request(&QueuePurge::default());
    machine
        .ledger
        .asked(purge.expect("it is open"), Asked::Plain(QueuePurge::SPEC));
}
