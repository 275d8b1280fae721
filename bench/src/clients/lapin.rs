//! lapin, on tokio.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

/// How many octets of bodies are written at once.
const OCTETS_AT_ONCE: usize = 1024 * 1024;

/// A connection that waits for the writing of `AT_ONCE` messages together. 1 is what lapin's documentation shows; each is
/// then written alone.
pub(crate) struct Lapin<const AT_ONCE: usize> {
    connection: Connection,
}

impl<const AT_ONCE: usize> Client for Lapin<AT_ONCE> {
    async fn connect(port: u16) -> Result<Self> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
        Ok(Self { connection })
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        let at_once = AT_ONCE.min(OCTETS_AT_ONCE / body.len()).max(1);
        let mut left = count;
        while left > 0 {
            let now = at_once.min(usize::try_from(left)?);
            publish(&channel, body, now).await?;
            left -= now as u64;
        }
        // A request overtakes what is published before it, so one question is not always enough.
        while swallowed(&channel).await? < count {}
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut unconfirmed = VecDeque::new();
        let mut left = count;
        while left > 0 {
            let now = AT_ONCE.min(outstanding).min(usize::try_from(left)?);
            while unconfirmed.len() + now > outstanding {
                wait_for(unconfirmed.pop_front()).await?;
            }
            unconfirmed.extend(publish(&channel, body, now).await?);
            left -= now as u64;
        }
        while !unconfirmed.is_empty() {
            wait_for(unconfirmed.pop_front()).await?;
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions {
            no_ack: ack == Ack::None,
            ..BasicConsumeOptions::default()
        };
        let name = queue.to_string().into();
        let mut consumer = channel
            .basic_consume(name, samples::CONSUMER_TAG.into(), options, FieldTable::default())
            .await?;
        for number in 1..=queue.messages {
            let delivery = consumer.next().await.context("the consumer ended")??;
            ensure!(delivery.data.len() == queue.size);
            if let Ack::Every(interval) = ack
                && number % interval == 0
            {
                let multiple = interval > 1;
                delivery.ack(BasicAckOptions { multiple }).await?;
            }
        }
        swallowed(&channel).await?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let channel = self.connection.create_channel().await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumer = channel
            .basic_consume(
                ECHO_QUEUE.into(),
                samples::CONSUMER_TAG.into(),
                options,
                FieldTable::default(),
            )
            .await?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            publish(&channel, body, 1).await?;
            let delivery = consumer.next().await.context("the consumer ended")??;
            ensure!(delivery.data.len() == SMALL);
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let client = Self::connect(port).await?;
        // If it is dropped it closes itself, and the connection cannot close it then.
        let channel = client.connection.create_channel().await?;
        swallowed(&channel).await?;
        Ok(client.connection.close(200, "Goodbye".into()).await?)
    }
}

/// Publishes so many and waits until they are written.
async fn publish(channel: &Channel, body: &[u8], count: usize) -> Result<Vec<PublisherConfirm>> {
    let publish = || {
        channel.basic_publish(
            "".into(),
            samples::ROUTING_KEY.into(),
            BasicPublishOptions::default(),
            body,
            BasicProperties::default(),
        )
    };
    Ok(match count {
        1 => vec![publish().await?],
        _ => try_join_all((0..count).map(|_| publish())).await?,
    })
}

async fn wait_for(confirm: Option<PublisherConfirm>) -> Result<()> {
    let confirmation = confirm.context("there is none to wait for")?.await?;
    ensure!(confirmation.is_ack(), "not confirmed: {confirmation:?}");
    Ok(())
}

/// How many messages of this channel the null broker has.
async fn swallowed(channel: &Channel) -> Result<u64> {
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await?;
    Ok(queue.message_count().into())
}
