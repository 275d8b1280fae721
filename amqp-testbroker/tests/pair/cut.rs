//! The stream ends at every octet of a session.

use std::collections::BTreeSet;
use std::time::Duration;

use amqp_proto::CloseReason;
use amqp_testbroker::{Ending, LinkConfig, Side};

use crate::session::Session;

/// Everything that the session has, once each.
const STORY: [&str; 16] = [
    "connected",
    "channel opened",
    "reply",
    "reply",
    "got",
    "get empty",
    "returned",
    "confirmed",
    "confirmed",
    "confirmed",
    "confirmed",
    "reply",
    "delivery",
    "reply",
    "channel closed",
    "closed",
];

#[test]
fn the_session_is_what_it_is_meant_to_be_on_any_link() {
    let slow = LinkConfig::perfect()
        .latency(Duration::from_millis(30))
        .jitter(Duration::from_millis(20))
        .bandwidth(10_000);
    let mut links = vec![
        LinkConfig::perfect(),
        LinkConfig::perfect().segment(1),
        LinkConfig::perfect().window(1),
        slow.clone().window(50),
    ];
    links.extend((0..20).map(|seed| slow.clone().segment(usize::MAX).seed(seed)));
    for link in links {
        let (session, pair) = Session::run(link.clone());
        session.check();
        assert_eq!(session.story, STORY, "{link:?}");
        assert_eq!(session.counts(), (6, 4));
        assert_eq!(
            pair.client.close_reason(),
            Some(&CloseReason::Requested { acknowledged: true })
        );
        pair.server.finish().unwrap();
    }
}

/// Cuts behind every octet of one direction.
fn cut_everywhere(from: Side, ending: Ending, link: impl Fn(u64) -> LinkConfig) {
    let (_, pair) = Session::run(LinkConfig::perfect());
    let count = pair.client.link.written(from);
    assert!(count > 400, "{count}");
    let mut stories = BTreeSet::new();
    for after in 0..=count {
        let (session, pair) = Session::run(link(after).cut(from, after, ending));
        session.check();
        assert_eq!(pair.client.link.written(from), after, "it was cut there");
        stories.insert(session.story);
    }
    assert!(stories.len() >= 7, "{stories:#?}");
    assert!(stories.contains(&vec!["closed"]), "{stories:#?}");
}

#[test]
fn a_reset_behind_every_octet_of_the_server() {
    cut_everywhere(Side::Server, Ending::Reset, |_| LinkConfig::perfect());
}

#[test]
fn a_reset_behind_every_octet_of_the_client() {
    cut_everywhere(Side::Client, Ending::Reset, |_| LinkConfig::perfect());
}

#[test]
fn the_end_of_the_stream_behind_every_octet_of_the_server() {
    cut_everywhere(Side::Server, Ending::Ended, |_| LinkConfig::perfect());
}

#[test]
fn the_end_of_the_stream_behind_every_octet_of_the_client() {
    cut_everywhere(Side::Client, Ending::Ended, |_| LinkConfig::perfect());
}

#[test]
fn a_reset_behind_every_octet_of_a_slow_stream_in_small_pieces() {
    let link = |seed| {
        LinkConfig::perfect()
            .seed(seed)
            .segment(40)
            .latency(Duration::from_millis(10))
            .jitter(Duration::from_millis(5))
    };
    cut_everywhere(Side::Server, Ending::Reset, link);
    cut_everywhere(Side::Client, Ending::Reset, link);
}
