//! A `basic.get` whose message begins to arrive is not answered yet.

use std::time::Duration;

use amqp_proto::wire::*;
use amqp_proto::{ChannelCloseReason, ChannelId, Config, Event, RequestError, RequestId};

use super::transcript::content;
use crate::peer::Peer;

/// A message of two body frames is asked for, and comes but for the last frame.
fn begun(config: Config) -> (Peer, ChannelId, RequestId<BasicGet<'static>>, Vec<u8>) {
    let tune = ConnectionTune {
        channel_max: 1,
        frame_max: 4096,
        heartbeat: 0,
    };
    let mut peer = Peer::open_with(config, tune);
    let channel = peer.open_channel();
    let mut view = peer.connection.channel(channel).unwrap();
    let request = view.get(&BasicGet::default()).unwrap();
    peer.sent();
    let got = BasicGetOk {
        delivery_tag: 1,
        ..Default::default()
    };
    let mut frames = content(channel.number(), got, &[b'x'; 5000]);
    let last = frames.pop().unwrap();
    peer.send_octets(&frames.concat());
    (peer, channel, request, last)
}

#[test]
fn a_channel_that_ends_in_the_middle_of_the_message_fails_the_request() {
    let (mut peer, channel, request, _) = begun(Config::default());
    peer.send(channel.number(), ChannelClose::default());
    let [
        Event::RequestFailed { request: failed, .. },
        Event::ChannelClosed { .. },
    ] = &peer.events()[..]
    else {
        panic!("the request is forgotten");
    };
    assert_eq!(*failed, request);
}

#[test]
fn a_message_that_stops_arriving_times_out_and_goes_back_if_it_is_completed_later() {
    let (mut peer, _, request, last) = begun(Config::default());
    let request = request.untyped();
    let cause = RequestError::Timeout;
    assert_eq!(
        peer.advance(Duration::from_secs(60)),
        [Event::RequestFailed { request, cause }]
    );
    peer.send_octets(&last);
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
}

#[test]
fn a_message_that_is_abandoned_in_the_middle_goes_back() {
    let (mut peer, _, request, last) = begun(Config::default());
    assert_eq!(peer.events(), []);
    peer.connection.abandon(request);
    peer.send_octets(&last);
    assert_eq!(peer.events(), []);
    assert_eq!(peer.sent(), ["ch 1 basic.nack delivery_tag=1 requeue"]);
}

#[test]
fn a_message_that_is_too_large_fails_the_request() {
    for (limit, config) in [
        (4999, Config::default().max_message_size(4999)),
        (1000, Config::default().max_partial_content(1000)),
    ] {
        let (mut peer, channel, request, last) = begun(config);
        peer.send_octets(&last);
        let request = request.untyped();
        let too_large = ChannelCloseReason::ContentTooLarge { size: 5000, limit };
        let cause = RequestError::ChannelClosed(too_large);
        assert_eq!(peer.event(), Event::RequestFailed { request, cause });
        assert!(peer.sent()[0].starts_with("ch 1 channel.close reply_code=311"));
        peer.send(channel.number(), ChannelCloseOk {});
        assert!(matches!(peer.event(), Event::ChannelClosed { .. }));
    }
}
