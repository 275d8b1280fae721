//! A session as its tap saw it.

use std::sync::{Arc, Mutex};

use amqp_proto::trace::{Direction, FrameTap, TraceReader, TraceWriter};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{Instant, Secret};

use super::Session;
use crate::connect::parameters;

/// A trace of a session, in memory.
#[derive(Clone)]
pub(super) struct Tap(Arc<Mutex<TraceWriter>>);

impl Tap {
    /// Traces that session from now on.
    pub(super) fn on(session: &mut Session) -> Self {
        let tap = Self(Arc::new(Mutex::new(TraceWriter::new(16 * 1024 * 1024))));
        session.core.set_tap(Some(Box::new(tap.clone())));
        tap
    }

    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap().take()
    }
}

impl FrameTap for Tap {
    fn frame(&mut self, now: Instant, direction: Direction, channel: u16, octets: &[u8]) {
        self.0.lock().unwrap().frame(now, direction, channel, octets);
    }
}

/// What was traced, a line each.
pub(super) fn lines(tap: &Tap) -> Vec<String> {
    let trace = tap.take();
    TraceReader::new(&trace)
        .unwrap()
        .map(|record| record.unwrap().to_string())
        .collect()
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn a_whole_session_is_traced_frame_by_frame_without_its_secrets() {
    let mut session = Session::new(parameters().config);
    let tap = Tap::on(&mut session);
    let mut session = session.connected();
    let channel = session.open();
    let queue = session.queue(channel);
    let consumer = session.consume(channel, &queue);
    session.publish(channel, &queue, &vec![b'x'; 200_000]);
    let delivery = session.delivery(consumer);
    session.channel(channel).ack(delivery.tag).unwrap();
    let update = session
        .core
        .update_secret(&Secret::new("s3cret"), "test")
        .unwrap();
    session.answer(update).unwrap();
    session.core.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    session.end();
    let received = session.core.counters().frames_received;

    let trace = tap.take();
    assert!(
        !trace
            .windows(6)
            .any(|octets| octets == b"s3cret" || octets == b"\0guest")
    );
    let records: Vec<_> = TraceReader::new(&trace).unwrap().map(Result::unwrap).collect();
    assert!(records.is_sorted_by_key(|record| record.now));
    let lines: Vec<_> = records.iter().map(|record| record.to_string()).collect();
    let from_broker = records
        .iter()
        .filter(|record| record.direction == Direction::Received)
        .count();
    assert_eq!(from_broker as u64, received, "{lines:#?}");
    let is_there = |part: &str| lines.iter().any(|line| line.contains(part));
    for part in [
        "-> protocol header",
        "<- ch 0 connection.start ",
        "-> ch 0 connection.start-ok ",
        "<- ch 0 connection.tune ",
        "<- ch 1 channel.open-ok",
        "<- ch 1 queue.declare-ok queue=\"amq.gen-",
        "-> ch 1 basic.publish exchange=\"\" routing_key=\"amq.gen-",
        "-> ch 1 header body_size=200000",
        "-> ch 1 body 131064 octets",
        "<- ch 1 basic.deliver ",
        "<- ch 1 header body_size=200000",
        "<- ch 1 body 68936 octets",
        "-> ch 1 basic.ack delivery_tag=1",
        "<- ch 0 connection.update-secret-ok",
        "<- ch 0 connection.close-ok",
    ] {
        assert!(is_there(part), "no {part} in {lines:#?}");
    }
}
