//! amiquip: one thread of ours, and its own for the socket.

use amiquip::{
    Channel, Confirm, ConfirmSmoother, Connection, Consumer, ConsumerMessage, ConsumerOptions, Delivery,
    Exchange, Publish, QueueDeclareOptions,
};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

/// A connection, until it is closed.
pub(crate) struct Amiquip {
    connection: Connection,
}

impl Client for Amiquip {
    async fn connect(port: u16) -> Result<Self> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let connection = Connection::insecure_open(&uri)?;
        Ok(Self { connection })
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let channel = self.connection.open_channel(None)?;
        let exchange = Exchange::direct(&channel);
        for _ in 0..count {
            exchange.publish(Publish::new(body, samples::ROUTING_KEY))?;
        }
        let swallowed = swallowed(&channel)?;
        ensure!(swallowed == count, "the broker has {swallowed} of {count}");
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.open_channel(None)?;
        let exchange = Exchange::direct(&channel);
        let confirms = channel.listen_for_publisher_confirms()?;
        channel.enable_publisher_confirms()?;
        let mut smoother = ConfirmSmoother::new();
        let outstanding = outstanding as u64;
        let (mut published, mut confirmed) = (0, 0);
        while confirmed < count {
            while published < count.min(confirmed + outstanding) {
                exchange.publish(Publish::new(body, samples::ROUTING_KEY))?;
                published += 1;
            }
            for confirm in smoother.process(confirms.recv()?) {
                ensure!(matches!(confirm, Confirm::Ack(_)), "not confirmed: {confirm:?}");
                confirmed += 1;
            }
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self.connection.open_channel(None)?;
        channel.qos(0, PREFETCH, false)?;
        let consumer = start_consumer(&channel, &queue.to_string(), ack == Ack::None)?;
        for number in 1..=queue.messages {
            let delivery = next(&consumer)?;
            ensure!(delivery.body.len() == queue.size);
            match ack {
                Ack::Every(1) => consumer.ack(delivery)?,
                Ack::Every(interval) if number % interval == 0 => consumer.ack_multiple(delivery)?,
                Ack::None | Ack::Every(_) => {}
            }
        }
        swallowed(&channel)?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let channel = self.connection.open_channel(None)?;
        let exchange = Exchange::direct(&channel);
        let consumer = start_consumer(&channel, ECHO_QUEUE, true)?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            exchange.publish(Publish::new(body, samples::ROUTING_KEY))?;
            ensure!(next(&consumer)?.body.len() == SMALL);
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let mut client = Self::connect(port).await?;
        swallowed(&client.connection.open_channel(None)?)?;
        Ok(client.connection.close()?)
    }
}

fn start_consumer<'a>(channel: &'a Channel, queue: &str, no_ack: bool) -> Result<Consumer<'a>> {
    let options = ConsumerOptions {
        no_ack,
        ..ConsumerOptions::default()
    };
    Ok(channel.basic_consume(queue, options)?)
}

fn next(consumer: &Consumer<'_>) -> Result<Delivery> {
    match consumer.receiver().recv()? {
        ConsumerMessage::Delivery(delivery) => Ok(delivery),
        other => bail!("the consumer ended: {other:?}"),
    }
}

/// How many messages of this channel the null broker has.
fn swallowed(channel: &Channel) -> Result<u64> {
    let queue = channel.queue_declare("", QueueDeclareOptions::default())?;
    Ok(queue.declared_message_count().unwrap_or_default().into())
}
