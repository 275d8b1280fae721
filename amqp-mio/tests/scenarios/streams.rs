//! Streams, whose consumers go on where they were. The embedded broker has none.

use amqp_mio::proto::wire::{BasicConsume, BasicQos, FieldTable, QueueDeclare, QueueDelete};
use amqp_mio::proto::{ChannelId, Delivery, SendError};
use amqp_mio::{ChannelRef, Connector, Recovery};

use super::World;
use super::client::{Client, Consumer, short};
use super::recovery::Survivor;

fn publish(client: &mut Client, channel: ChannelRef, stream: &str, number: u8) {
    client.send(channel, stream, [number]);
}

/// The next one that is not of that channel's life.
fn next_but(client: &mut Client, stale: Option<ChannelId>, consumer: &Consumer, number: u8) -> Delivery {
    let delivery = loop {
        let delivery = client.wait(&consumer.deliveries);
        if stale != Some(delivery.tag.channel()) {
            break delivery;
        }
    };
    assert_eq!(delivery.message.body().to_vec(), [number]);
    assert_eq!(delivery.consumer, consumer.id);
    delivery
}

/// What was settled does not come again, and all else does.
pub(crate) fn after_an_operator_closed_it_a_stream_goes_on_without_gap_or_repeat(world: World) {
    let connector = Connector::from_uri(&world.url).unwrap();
    let mut survivor = Survivor::connect(&connector, Recovery::default());
    let client = &mut survivor.client;
    let (channel, name) = (client.channel(), world.name("stream"));
    let qos = BasicQos {
        prefetch_count: 10,
        ..Default::default()
    };
    client.ask(channel, &qos).unwrap();
    let arguments = FieldTable::new().with("x-queue-type", "stream").unwrap();
    let declare = QueueDeclare {
        queue: short(&name),
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    client.declare(channel, &declare).unwrap();
    for number in 0..30 {
        publish(client, channel, &name, number);
    }
    let arguments = FieldTable::new().with("x-stream-offset", "first").unwrap();
    let consume = BasicConsume {
        queue: short(&name),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    let consumer = client.consume(channel, &consume).unwrap();
    for number in 0..5 {
        let delivery = next_but(client, None, &consumer, number);
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    // Settled behind a gap: it comes again, since a stream is read in order.
    let unsettled = next_but(client, None, &consumer, 5);
    let behind = next_but(client, None, &consumer, 6);
    client.on(channel, |view| view.ack(behind.tag)).unwrap();

    survivor.suffer(&world, |operator| operator.close_all_connections("come again"));
    let client = &mut survivor.client;
    let settled = client.on(channel, |view| view.ack(unsettled.tag));
    assert_eq!(settled, Err(SendError::Stale));
    publish(client, channel, &name, 30);
    // More had come before that than was looked at.
    let stale = Some(unsettled.tag.channel());
    for number in 5..=30 {
        let delivery = next_but(client, stale, &consumer, number);
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    client.cancel(channel, &consumer);
    let delete = QueueDelete {
        queue: short(&name),
        ..Default::default()
    };
    client.ask(channel, &delete).unwrap();
    client.close();
}
