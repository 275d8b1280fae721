//! Every method of the protocol between the client and the broker, and the end of the stream at every octet of that.

mod ledger;
mod replay;
mod story;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_proto::trace::Direction;
use amqp_proto::wire::{FrameLimits, METHODS, Method, RawFrame, Sender};
use amqp_proto::{CloseReason, Connection, Instant};
use amqp_testbroker::{Broker, Ending, LinkConfig, Pair, Side};

use replay::Replay;
use story::{End, Story};

/// What neither of them ever sends, seen from the client.
const NEVER: [(&str, &str); 3] = [
    // RabbitMQ, and so the broker, holds a publisher back by not reading.
    ("<-", "channel.flow"),
    // It answers the former.
    ("->", "channel.flow-ok"),
    // RabbitMQ wants no answer to its `basic.cancel`.
    ("->", "basic.cancel-ok"),
];

type Seen = Arc<Mutex<BTreeSet<(String, &'static str)>>>;

/// Notes which methods go which way.
fn tap(client: &mut Connection, seen: &Seen) {
    let seen = Arc::clone(seen);
    let limits = FrameLimits {
        body: u32::MAX,
        other: u32::MAX,
    };
    let tap = move |_: Instant, direction: Direction, _: u16, octets: &[u8]| {
        if octets[0] == 1 {
            let frame = RawFrame::parse(octets, &limits).unwrap().unwrap();
            let method = Method::decode(frame.payload).unwrap();
            let row = (direction.to_string(), method.spec().name);
            seen.lock().unwrap().insert(row);
        }
    };
    client.set_tap(Some(Box::new(tap)));
}

fn ignore(_: &mut Connection) {}

#[test]
fn the_session_has_every_method_of_the_protocol() {
    let seen = Seen::default();
    for end in [End::ByClient, End::ByServer] {
        let (story, _) = Story::run(LinkConfig::perfect(), end, |client| tap(client, &seen));
        assert!(story.is_complete());
    }
    let ways = |sender| match sender {
        Sender::Client => vec!["->"],
        Sender::Server => vec!["<-"],
        Sender::Both => vec!["->", "<-"],
    };
    let all = METHODS
        .iter()
        .flat_map(|spec| ways(spec.sender).into_iter().map(|way| (way, spec.name)));
    let expected: BTreeSet<_> = all.filter(|row| !NEVER.contains(row)).collect();
    let seen = seen.lock().unwrap();
    let seen: BTreeSet<_> = seen.iter().map(|(way, name)| (way.as_str(), *name)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn the_session_on_the_broker_is_what_it_is_meant_to_be_on_any_link() {
    let mut links = vec![
        LinkConfig::perfect(),
        LinkConfig::perfect().segment(1),
        LinkConfig::perfect().window(1),
    ];
    links.extend((0..10).map(slow));
    for link in links {
        for end in [End::ByClient, End::ByServer] {
            let (story, pair) = Story::run(link.clone(), end, ignore);
            assert!(story.is_complete(), "{link:?}: {story:#?}");
            assert_eq!(story.ledger.counts(), (42, 13));
            let reason = pair.client.close_reason().unwrap();
            match end {
                End::ByClient => assert_eq!(*reason, CloseReason::Requested { acknowledged: true }),
                End::ByServer => assert!(reason.peer().is_some(), "{reason}"),
            }
            // What was not settled, what was confirmed last.
            assert_eq!(story.ledger.check_letters(&pair.server), [5, 6, 7, 9]);
            // What was got and not settled, what was committed.
            let scratch = pair.server.messages("/", "scratch").unwrap();
            let scratch: Vec<_> = scratch
                .iter()
                .map(|message| message.body().into_owned())
                .collect();
            assert_eq!(scratch, [&b"two"[..], b"committed"]);
            check_aftermath(story, pair);
        }
    }
}

fn slow(seed: u64) -> LinkConfig {
    LinkConfig::perfect()
        .seed(seed)
        .segment(40)
        .window(200)
        .latency(Duration::from_millis(10))
        .jitter(Duration::from_millis(5))
}

/// Nothing is open at either end, and a second client can put everything back.
#[track_caller]
fn check_aftermath(story: Story, pair: Pair<Broker>) {
    story.ledger.check();
    assert_eq!(story.told.last(), Some(&"closed"));
    assert!(pair.client.is_drained());
    assert_eq!(pair.client.channel_count(), 0);
    assert_eq!(pair.client.poll_timeout(), None);

    let now = pair.now();
    let mut broker = pair.server;
    // What the session had no time to undo or to use.
    broker.unblock(now);
    broker.nack_publishes(0);
    assert_eq!(broker.connections(), []);
    assert_eq!(broker.poll_ready(), None);
    assert_eq!(broker.poll_timeout(), None);
    for queue in broker.queues("/") {
        let lasts = ["tasks", "scratch", "passing"].contains(&queue.as_str());
        assert!(lasts, "{queue} was exclusive");
        assert_eq!(broker.consumer_count("/", &queue), Some(0));
    }
    let ready = story.ledger.check_letters(&broker);

    let ledger = story.ledger;
    let mut replay = Replay::run(broker, ledger.topology.clone());
    replay.check();
    for (delivery, letter) in replay.deliveries.iter().zip(&ready) {
        assert_eq!(ledger::number(&delivery.message), *letter);
        assert!(delivery.redelivered || !ledger.was_seen(*letter), "{letter}");
    }
}

/// Cuts behind every `step`th octet of one direction, the last one included.
fn cut_everywhere(from: Side, ending: Ending, step: usize, link: impl Fn(u64) -> LinkConfig) {
    let (_, pair) = Story::run(LinkConfig::perfect(), End::ByClient, ignore);
    let count = pair.client.link.written(from);
    assert!(count > 1000, "{count}");
    let mut stories = BTreeSet::new();
    for after in (0..=count).rev().step_by(step) {
        let (story, pair) = Story::run(link(after).cut(from, after, ending), End::ByClient, ignore);
        if step == 1 {
            assert_eq!(pair.client.link.written(from), after, "it was cut there");
        }
        stories.insert(story.told.clone());
        check_aftermath(story, pair);
    }
    assert!(stories.len() >= 13, "{}: {stories:#?}", stories.len());
}

#[test]
fn a_reset_behind_every_octet_of_the_broker() {
    cut_everywhere(Side::Server, Ending::Reset, 1, |_| LinkConfig::perfect());
}

#[test]
fn a_reset_behind_every_octet_of_the_broker_s_client() {
    cut_everywhere(Side::Client, Ending::Reset, 1, |_| LinkConfig::perfect());
}

#[test]
fn the_end_of_the_stream_behind_every_octet_of_the_broker() {
    cut_everywhere(Side::Server, Ending::Ended, 1, |_| LinkConfig::perfect());
}

#[test]
fn the_end_of_the_stream_behind_every_octet_of_the_broker_s_client() {
    cut_everywhere(Side::Client, Ending::Ended, 1, |_| LinkConfig::perfect());
}

#[test]
fn a_reset_on_a_slow_stream_in_small_pieces() {
    cut_everywhere(Side::Server, Ending::Reset, 7, slow);
    cut_everywhere(Side::Client, Ending::Reset, 7, slow);
}

/// The last octets of a session that the broker ends: its `connection.close`, and the answer.
#[test]
fn a_cut_where_the_broker_closes_the_connection() {
    let (_, pair) = Story::run(LinkConfig::perfect(), End::ByServer, ignore);
    for from in [Side::Server, Side::Client] {
        let count = pair.client.link.written(from);
        for ending in [Ending::Reset, Ending::Ended] {
            for after in count - 60..=count {
                let link = LinkConfig::perfect().cut(from, after, ending);
                let (story, pair) = Story::run(link, End::ByServer, ignore);
                check_aftermath(story, pair);
            }
        }
    }
}
