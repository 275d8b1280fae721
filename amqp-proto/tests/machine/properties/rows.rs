//! Deliveries in a row: whoever takes them by `poll_deliveries` gets what `poll_event` would have told, and nothing else.

use amqp_proto::wire::*;
use amqp_proto::{ChannelId, Event};
use proptest::prelude::*;

use super::transcript::method_frame;
use crate::peer::Peer;
use crate::stage::{deliver, returned, short};

/// The consumers of each channel, and one that nobody knows: with acknowledgements, without, of a stream, with bodies in pieces.
const TAGS: [&str; 5] = ["acks", "no-ack", "stream", "pieces", "nobody"];

/// What the broker sends.
#[derive(Debug, Clone)]
enum Sent {
    Delivery {
        channel: u16,
        tag: usize,
        size: usize,
        /// How many octets of it one body frame has.
        piece: usize,
        properties: usize,
        redelivered: bool,
    },
    Heartbeat,
    Return,
    Cancel(usize),
    /// An ack of a publish.
    Ack,
    /// A delivery whose octet of that place is another one.
    Broken(usize),
}

fn sent() -> impl Strategy<Value = Sent> {
    let size = prop_oneof![4 => 0..40_usize, 1 => 4000..4200_usize, 1 => 16_300..16_500_usize];
    let piece = prop_oneof![6 => Just(usize::MAX), 1 => 1..30_usize];
    let delivery = (1..=2_u16, 0..TAGS.len(), size, piece, 0..4_usize, any::<bool>());
    let delivery = delivery.prop_map(
        |(channel, tag, size, piece, properties, redelivered)| Sent::Delivery {
            channel,
            tag,
            size,
            piece,
            properties,
            redelivered,
        },
    );
    prop_oneof![
        40 => delivery,
        2 => Just(Sent::Heartbeat),
        2 => Just(Sent::Return),
        1 => (0..3_usize).prop_map(Sent::Cancel),
        2 => Just(Sent::Ack),
        1 => (0..70_usize).prop_map(Sent::Broken),
    ]
}

fn properties(kind: usize, headers: &FieldTable) -> Properties<'_> {
    let headers = Some(headers.as_ref());
    let content_type = Some(short("text/plain"));
    let message_id = Some(short("7"));
    match kind {
        0 => Properties::default(),
        1 => Properties {
            headers,
            ..Properties::default()
        },
        2 => Properties {
            content_type,
            delivery_mode: Some(Properties::PERSISTENT),
            ..Properties::default()
        },
        _ => Properties {
            headers,
            message_id,
            cluster_id: message_id,
            ..Properties::default()
        },
    }
}

/// The octets of that, with that delivery tag.
fn octets(sent: &Sent, number: u64) -> Vec<u8> {
    match *sent {
        Sent::Delivery {
            channel,
            tag,
            size,
            piece,
            properties: kind,
            redelivered,
        } => {
            let body: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            let headers = FieldTable::new().with("x-stream-offset", number as i64).unwrap();
            let method = BasicDeliver {
                redelivered,
                ..deliver(TAGS[tag], number)
            };
            let mut octets = method_frame(channel, method);
            let header = ContentHeader {
                body_size: size as u64,
                properties: properties(kind, &headers),
            };
            let frames = [Frame::Header { channel, header }];
            let bodies = body.chunks(piece).map(|payload| Frame::Body { channel, payload });
            for frame in frames.into_iter().chain(bodies) {
                frame.encode(&mut octets, u32::MAX).unwrap();
            }
            octets
        }
        Sent::Heartbeat => HEARTBEAT.to_vec(),
        Sent::Return => {
            let mut octets = method_frame(1, returned("nowhere"));
            let header = ContentHeader::default();
            Frame::Header { channel: 1, header }
                .encode(&mut octets, u32::MAX)
                .unwrap();
            octets
        }
        Sent::Cancel(tag) => {
            let cancel = BasicCancel {
                consumer_tag: short(TAGS[tag]),
                no_wait: true,
            };
            method_frame(1, cancel)
        }
        Sent::Ack => method_frame(
            1,
            BasicAck {
                delivery_tag: number,
                multiple: false,
            },
        ),
        Sent::Broken(place) => {
            let whole = Sent::Delivery {
                channel: 1,
                tag: 0,
                size: 16,
                piece: usize::MAX,
                properties: 2,
                redelivered: false,
            };
            let mut octets = octets(&whole, number);
            let place = place % octets.len();
            octets[place] ^= 0x41;
            octets
        }
    }
}

/// A client with the consumers on both channels.
fn consuming() -> Peer {
    let mut peer = Peer::open();
    let channels: [ChannelId; 2] = [peer.open_channel(), peer.open_channel()];
    peer.select_confirms(channels[0]);
    for id in channels {
        for tag in ["acks", "no-ack", "pieces"] {
            let consumer = peer.consume(id, tag, tag == "no-ack");
            if tag == "pieces" {
                peer.channel(id).stream_bodies(consumer, true).unwrap();
            }
        }
        let arguments = FieldTable::new().with("x-stream-offset", "first").unwrap();
        let consume = BasicConsume {
            consumer_tag: short("stream"),
            arguments: arguments.as_ref(),
            ..BasicConsume::default()
        };
        peer.channel(id).consume(&consume).unwrap();
        let consumer_tag = short("stream");
        peer.send(id.number(), BasicConsumeOk { consumer_tag });
        assert!(matches!(peer.event(), Event::Reply(_)));
    }
    peer.sent();
    for _ in 0..100 {
        peer.publish(channels[0], "k", b"m");
    }
    peer.sent();
    peer
}

/// What that client tells of these arrivals; deliveries in a row, `most` at most, taken out at once if that is asked for.
fn told(arrivals: &[&[u8]], most: Option<usize>) -> (Vec<Event>, String, Vec<String>) {
    let (mut peer, mut events) = (consuming(), Vec::new());
    for octets in arrivals {
        peer.send_octets(octets);
        while let Some(event) = peer.connection.poll_event(peer.now, &mut peer.input) {
            let first = match &event {
                Event::Delivery(delivery) => Some(delivery.consumer),
                _ => None,
            };
            events.push(event);
            if let (Some(most), Some(consumer)) = (most, first) {
                let mut row = Vec::new();
                let count = peer
                    .connection
                    .poll_deliveries(consumer, &mut peer.input, most, &mut row);
                assert_eq!(count, row.len());
                assert!(count <= most && row.iter().all(|next| next.consumer == consumer));
                events.extend(row.into_iter().map(Event::Delivery));
            }
        }
    }
    // What is settled shows how far streams have come.
    for event in &events {
        if let Event::Delivery(delivery) = event
            && let Ok(mut channel) = peer.connection.channel(delivery.tag.channel())
        {
            let _ = channel.ack(delivery.tag);
        }
    }
    let counters = format!(
        "{:?} {:?}",
        peer.connection.counters(),
        peer.connection.in_flight()
    );
    peer.connection.handle_disconnect(peer.now, None);
    events.extend(peer.events());
    (events, counters, peer.sent())
}

proptest! {
    #[test]
    fn a_row_is_what_its_events_would_have_been(
        sent in prop::collection::vec(sent(), 1..40),
        cut in prop_oneof![Just(usize::MAX), 1..4000_usize],
        most in 0..8_usize,
    ) {
        let sent: Vec<u8> = (1..).zip(&sent).flat_map(|(number, sent)| octets(sent, number)).collect();
        let arrivals: Vec<&[u8]> = sent.chunks(cut.min(100_000)).collect();
        prop_assert_eq!(told(&arrivals, Some(most)), told(&arrivals, None));
    }
}

/// As many as were asked for, up to what is for another one or is no small delivery.
#[test]
fn a_row_ends_where_something_else_begins() {
    let delivery = |tag: usize, size: usize| Sent::Delivery {
        channel: 1,
        tag,
        size,
        piece: usize::MAX,
        properties: 0,
        redelivered: false,
    };
    let row = |behind: &[Sent], most: usize| {
        let mut peer = consuming();
        let mut all = vec![delivery(0, 1), delivery(0, 2), delivery(0, 3)];
        all.extend_from_slice(behind);
        for (number, sent) in (1..).zip(&all) {
            peer.send_octets(&octets(sent, number));
        }
        let Some(Event::Delivery(first)) = peer.connection.poll_event(peer.now, &mut peer.input) else {
            panic!("there is a delivery");
        };
        let mut row = vec![first];
        let consumer = row[0].consumer;
        let count = peer
            .connection
            .poll_deliveries(consumer, &mut peer.input, most, &mut row);
        (count, row.last().map(|last| last.tag.value()))
    };
    assert_eq!(row(&[], 0), (0, Some(1)));
    assert_eq!(row(&[], 1), (1, Some(2)));
    assert_eq!(row(&[], 9), (2, Some(3)));
    for other in [
        delivery(1, 4),
        delivery(0, 0),
        delivery(0, 20_000),
        Sent::Heartbeat,
    ] {
        assert_eq!(
            row(&[other.clone(), delivery(0, 5)], 9),
            (2, Some(3)),
            "{other:?}"
        );
    }
    assert_eq!(row(&[delivery(0, 4)], 9), (3, Some(4)));
    let on_the_other_channel = Sent::Delivery {
        channel: 2,
        tag: 0,
        size: 4,
        piece: usize::MAX,
        properties: 0,
        redelivered: false,
    };
    assert_eq!(row(&[on_the_other_channel], 9), (2, Some(3)));
}
