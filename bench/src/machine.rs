//! The machines: what a message costs from the application's call to octets that can be written, and from octets that were
//! read to an event.

use std::hint::black_box;
use std::sync::Arc;

use amqp_proto::wire::{
    BasicAck, BasicConsume, BasicPublish, ChannelOpenOk, ConfirmSelect, ConnectionOpenOk, ConnectionStart,
    ConnectionTune, Method, Properties,
};
use amqp_proto::{ChannelId, Config, Connection, DeliveryTag, Event, Instant, RecvBuf, SendBuf};
use bytes::Buf;

use crate::cases::{Run, repeated};
use crate::samples;

/// How many messages are written at once.
const WINDOW: usize = 64;

const NOW: Instant = Instant::from_nanos(1);

/// An open connection with one channel, and its buffers.
struct Client {
    connection: Connection,
    channel: ChannelId,
    input: RecvBuf,
    output: SendBuf,
}

impl Client {
    fn new() -> Self {
        let mut client = Self {
            connection: Connection::new(Arc::new(Config::default()), NOW, 0),
            channel: ChannelId::CONNECTION,
            input: RecvBuf::new(),
            output: SendBuf::new(),
        };
        client.receive(0, ConnectionStart::default());
        let tune = ConnectionTune {
            channel_max: 2047,
            frame_max: samples::FRAME_MAX,
            heartbeat: 60,
        };
        client.receive(0, tune);
        client.receive(0, ConnectionOpenOk {});
        client.channel = client.connection.open_channel().expect("open");
        assert_eq!(client.channel.number(), samples::CHANNEL);
        client.receive(samples::CHANNEL, ChannelOpenOk {});
        client.write();
        client
    }

    /// In confirm mode.
    fn confirming() -> Self {
        let mut client = Self::new();
        let mut channel = client.connection.channel(client.channel).expect("open");
        channel.send_nowait(&ConfirmSelect::default()).expect("open");
        client
    }

    /// With the consumer of the sample deliveries, and that many of them.
    fn consuming(deliveries: usize) -> Self {
        let mut client = Self::new();
        let mut channel = client.connection.channel(client.channel).expect("open");
        let consume = BasicConsume {
            consumer_tag: samples::CONSUMER_TAG.try_into().expect("short"),
            ..BasicConsume::default()
        };
        channel.consume_nowait(&consume).expect("open");
        client.write();
        let octets = samples::delivery().repeat(deliveries);
        client.input = RecvBuf::with_limit(octets.len());
        assert_eq!(client.input.extend(&octets), octets.len());
        client
    }

    fn receive<'m>(&mut self, channel: u16, method: impl Into<Method<'m>>) {
        let mut octets = Vec::new();
        method
            .into()
            .encode(&mut octets, channel, u32::MAX)
            .expect("fits");
        self.input.extend(&octets);
        while self.connection.poll_event(NOW, &mut self.input).is_some() {}
    }

    /// Writes all there is, to nowhere.
    fn write(&mut self) {
        while self.connection.poll_transmit(NOW, &mut self.output) {
            let count = black_box(self.output.chunk()).len();
            self.output.advance(count);
        }
    }

    /// Method and properties are ready made, as for the codecs.
    #[inline(always)]
    fn publish(&mut self, method: &BasicPublish<'_>, properties: &Properties<'_>) {
        let mut channel = self.connection.channel(self.channel).expect("open");
        let tag = channel.publish(
            black_box(method),
            black_box(properties),
            black_box(samples::BODY.as_slice()),
        );
        black_box(tag.expect("there is room"));
    }
}

fn message() -> (BasicPublish<'static>, Properties<'static>) {
    let method = BasicPublish {
        routing_key: samples::ROUTING_KEY.try_into().expect("short"),
        ..BasicPublish::default()
    };
    (method, Properties::default())
}

/// A publish without confirms. They are written 64 at a time, as under load.
pub(crate) fn publish() -> Run {
    let (mut client, (method, properties)) = (Client::new(), message());
    let mut published = 0;
    repeated(move || {
        client.publish(&method, &properties);
        published += 1;
        if published % WINDOW == 0 {
            client.write();
        }
    })
}

/// A publish in confirm mode, and its share of an ack for many.
pub(crate) fn publish_confirm() -> Run {
    publish_and_ack(64, true)
}

/// A publish in confirm mode, and an ack of its own.
pub(crate) fn publish_ack() -> Run {
    publish_and_ack(1, false)
}

/// Publishes; after 64 of them come the acks, of `share` publishes each.
fn publish_and_ack(share: usize, multiple: bool) -> Run {
    let (mut client, (method, properties)) = (Client::confirming(), message());
    let mut published = 0;
    let mut ack = Vec::new();
    let method_ack = Method::from(BasicAck {
        delivery_tag: 0,
        multiple,
    });
    method_ack
        .encode(&mut ack, samples::CHANNEL, u32::MAX)
        .expect("fits");
    repeated(move || {
        client.publish(&method, &properties);
        published += 1;
        if published % WINDOW == 0 {
            client.write();
            for tag in (published - WINDOW + share..=published).step_by(share) {
                ack[11..19].copy_from_slice(&u64::to_be_bytes(tag as u64));
                client.input.extend(&ack);
            }
            while let Some(event) = client.connection.poll_event(NOW, &mut client.input) {
                assert!(matches!(black_box(&event), Event::Confirmed { .. }));
            }
        }
    })
}

/// A small delivery to an event, dropped at once, out of a buffer that holds enough of them: what it costs that they come
/// into it is another case.
pub(crate) fn deliver(rounds: usize) -> Run {
    let mut client = Client::consuming(rounds);
    repeated(move || {
        client.next_delivery();
    })
}

/// The same, and acknowledged.
pub(crate) fn deliver_ack(rounds: usize) -> Run {
    let mut client = Client::consuming(rounds);
    repeated(move || {
        let tag = client.next_delivery();
        let mut channel = client.connection.channel(client.channel).expect("open");
        channel.ack(black_box(tag)).expect("open");
        if client.connection.queued_bytes() >= 4096 {
            client.write();
        }
    })
}

impl Client {
    #[inline(always)]
    fn next_delivery(&mut self) -> DeliveryTag {
        match self.connection.poll_event(NOW, &mut self.input) {
            Some(Event::Delivery(delivery)) => black_box(&delivery).tag,
            other => panic!("{other:?}"),
        }
    }
}

/// Nothing has arrived.
pub(crate) fn idle_event() -> Run {
    let mut client = Client::new();
    repeated(move || {
        black_box(&client.connection.poll_event(black_box(NOW), &mut client.input));
    })
}

/// Nothing is to be written.
pub(crate) fn idle_transmit() -> Run {
    let mut client = Client::new();
    repeated(move || {
        black_box(
            client
                .connection
                .poll_transmit(black_box(NOW), &mut client.output),
        );
    })
}

/// When to wake.
pub(crate) fn idle_timeout() -> Run {
    let client = Client::new();
    repeated(move || {
        black_box(black_box(&client.connection).poll_timeout());
    })
}
