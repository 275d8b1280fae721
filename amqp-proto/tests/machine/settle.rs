//! Settling deliveries: what is written, and what is refused because the broker would close the channel over it.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, DeliveryTag, SendError};

use crate::peer::Peer;
use crate::stage::{close_406, deliver, delivery, get_ok};

/// Channel 1 with deliveries 1 to 5.
fn with_deliveries() -> (Peer, ChannelId) {
    let mut peer = Peer::open();
    let id = peer.open_channel();
    peer.consume(id, "c", false);
    for tag in 1..=5 {
        peer.send_content(1, deliver("c", tag), b"m");
        assert_eq!(delivery(peer.event()).tag, DeliveryTag::new(id, tag));
    }
    peer.sent();
    (peer, id)
}

/// Every way to settle.
fn settle_all_ways(peer: &mut Peer, id: ChannelId, tag: DeliveryTag) -> Vec<Result<(), SendError>> {
    let mut channel = peer.channel(id);
    vec![
        channel.ack(tag),
        channel.ack_multiple(tag),
        channel.nack(tag, true),
        channel.nack(tag, false),
        channel.nack_multiple(tag, true),
        channel.nack_multiple(tag, false),
        channel.reject(tag, true),
        channel.reject(tag, false),
    ]
}

#[test]
fn each_way_to_settle_is_written_at_once() {
    let (mut peer, id) = with_deliveries();
    let results = settle_all_ways(&mut peer, id, DeliveryTag::new(id, 3));
    assert_eq!(results, vec![Ok(()); 8]);
    assert_eq!(
        peer.sent(),
        [
            "ch 1 basic.ack delivery_tag=3",
            "ch 1 basic.ack delivery_tag=3 multiple",
            "ch 1 basic.nack delivery_tag=3 requeue",
            "ch 1 basic.nack delivery_tag=3",
            "ch 1 basic.nack delivery_tag=3 multiple requeue",
            "ch 1 basic.nack delivery_tag=3 multiple",
            "ch 1 basic.reject delivery_tag=3 requeue",
            "ch 1 basic.reject delivery_tag=3",
        ]
    );
}

#[track_caller]
fn assert_refused(peer: &mut Peer, id: ChannelId, tag: DeliveryTag, error: SendError) {
    assert_eq!(settle_all_ways(peer, id, tag), vec![Err(error); 8]);
    peer.assert_quiet();
}

#[test]
fn only_what_was_delivered_can_be_settled() {
    let (mut peer, id) = with_deliveries();
    for unknown in [0, 6, u64::MAX] {
        let tag = DeliveryTag::new(id, unknown);
        assert_refused(&mut peer, id, tag, SendError::UnknownDelivery(unknown));
    }
    peer.channel(id).ack(DeliveryTag::new(id, 5)).unwrap();
    peer.channel(id).ack(DeliveryTag::new(id, 1)).unwrap();
}

#[test]
fn a_message_that_was_got_counts_as_delivered() {
    let (mut peer, id) = with_deliveries();
    peer.channel(id).get(&BasicGet::default()).unwrap();
    peer.send_content(1, get_ok(6), b"");
    peer.event();
    assert_eq!(peer.channel(id).ack(DeliveryTag::new(id, 6)), Ok(()));
}

#[test]
fn the_delivery_of_another_channel_is_stale() {
    let (mut peer, _) = with_deliveries();
    let other = peer.open_channel();
    let tag = DeliveryTag::new(ChannelId::new(1, 0), 1);
    assert_refused(&mut peer, other, tag, SendError::Stale);
}

#[test]
fn the_delivery_of_an_old_incarnation_is_stale() {
    let (mut peer, old) = with_deliveries();
    peer.send(1, close_406());
    peer.events();
    let new = peer.connection.open_channel_with_number(1).unwrap();
    peer.send(1, ChannelOpenOk {});
    peer.events();
    peer.sent();
    peer.consume(new, "c", false);
    peer.send_content(1, deliver("c", 1), b"m");
    peer.events();
    assert_refused(&mut peer, new, DeliveryTag::new(old, 1), SendError::Stale);
    assert_eq!(peer.channel(new).ack(DeliveryTag::new(new, 1)), Ok(()));
}

#[test]
fn nothing_is_settled_on_a_channel_that_is_closing() {
    let (mut peer, id) = with_deliveries();
    peer.channel(id).close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    peer.sent();
    assert_refused(&mut peer, id, DeliveryTag::new(id, 1), SendError::Stale);
}
