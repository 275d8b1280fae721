//! Once warm, the machines allocate nothing: not for a publish, its confirm, a delivery, or its ack.

use allocation_counter::measure;
use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Event};
use bytes::{Buf, Bytes};

use crate::peer::Peer;

const ROUNDS: u64 = 1000;
const BODY: &[u8] = b"sixteen octets !";

/// How often `run` allocates in so many rounds, after a few that do not count.
fn allocations(mut run: impl FnMut()) -> u64 {
    (0..100).for_each(|_| run());
    measure(|| (0..ROUNDS).for_each(|_| run())).count_total
}

/// Writes all there is, to nowhere.
fn write(peer: &mut Peer) {
    while peer.connection.poll_transmit(peer.now, &mut peer.output) {
        let count = peer.output.chunk().len();
        peer.output.advance(count);
    }
}

fn publish(peer: &mut Peer, channel: ChannelId, body: impl Into<amqp_proto::Payload<'static>>) {
    let method = BasicPublish {
        routing_key: ShortStr::new("hello").unwrap(),
        mandatory: true,
        ..BasicPublish::default()
    };
    let mut channel = peer.connection.channel(channel).unwrap();
    channel.publish(&method, &Properties::default(), body).unwrap();
}

#[test]
fn publishes_and_their_confirms() {
    let mut peer = Peer::open();
    let channel = peer.open_channel();
    let select = ConfirmSelect::default();
    peer.connection
        .channel(channel)
        .unwrap()
        .send_nowait(&select)
        .unwrap();
    let shared = Bytes::from(vec![7; 64 * 1024]);
    let (mut tag, mut confirmed) = (0, 0);
    let ack = Method::from(BasicAck {
        delivery_tag: 0,
        multiple: false,
    });
    let mut octets = Vec::new();
    ack.encode(&mut octets, channel.number(), u32::MAX).unwrap();
    let count = allocations(|| {
        publish(&mut peer, channel, BODY);
        publish(&mut peer, channel, shared.clone());
        write(&mut peer);
        // The second first, so that the window has a hole.
        for tag in [tag + 2, tag + 1] {
            octets[11..19].copy_from_slice(&u64::to_be_bytes(tag));
            peer.input.extend(&octets);
        }
        tag += 2;
        while let Some(event) = peer.connection.poll_event(peer.now, &mut peer.input) {
            if let Event::Confirmed { tags, .. } = event {
                confirmed += tags.count();
            }
        }
    });
    assert_eq!((count, confirmed), (0, tag));
}

#[test]
fn deliveries_and_their_acks() {
    let mut peer = Peer::open();
    let channel = peer.open_channel();
    let consume = BasicConsume {
        consumer_tag: ShortStr::new("me").unwrap(),
        ..BasicConsume::default()
    };
    peer.connection
        .channel(channel)
        .unwrap()
        .consume_nowait(&consume)
        .unwrap();
    let deliver = BasicDeliver {
        consumer_tag: ShortStr::new("me").unwrap(),
        delivery_tag: 1,
        routing_key: ShortStr::new("hello").unwrap(),
        ..BasicDeliver::default()
    };
    peer.send_content(channel.number(), deliver, BODY);
    let octets = peer.input.unread().to_vec();
    peer.input.consume(octets.len());
    let count = allocations(|| {
        assert_eq!(peer.input.extend(&octets), octets.len());
        let Some(Event::Delivery(delivery)) = peer.connection.poll_event(peer.now, &mut peer.input) else {
            panic!("no delivery")
        };
        assert_eq!(*delivery.message.body(), *BODY);
        assert_eq!(delivery.message.routing_key(), "hello");
        assert_eq!(delivery.message.properties(), Properties::default());
        peer.connection
            .channel(channel)
            .unwrap()
            .ack(delivery.tag)
            .unwrap();
        write(&mut peer);
    });
    let received = octets.len() as u64 * ROUNDS;
    assert!(
        count <= received.div_ceil(64 * 1024),
        "{count} allocations for {received} octets"
    );
}
