//! amqp-tokio.

use std::collections::VecDeque;

use amqp_tokio::proto::CloseReason;
use amqp_tokio::{Channel, ChannelOptions, Confirm, Connection, ConsumeOptions, Message, Qos};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

pub(crate) struct Ours {
    connection: Connection,
}

impl Client for Ours {
    async fn connect(port: u16) -> Result<Self> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let connection = amqp_tokio::connect(&uri).await?;
        Ok(Self { connection })
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let options = ChannelOptions::default().without_confirms();
        let channel = self.connection.channel_with(options).await?;
        let exchange = channel.default_exchange();
        for _ in 0..count {
            let message = Message::new(body.clone());
            exchange
                .publish_unconfirmed(message, samples::ROUTING_KEY)
                .await?;
        }
        ensure!(swallowed(&channel).await? == count);
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.channel().await?;
        let exchange = channel.default_exchange();
        let mut unconfirmed: VecDeque<Confirm> = VecDeque::with_capacity(outstanding);
        for _ in 0..count {
            if unconfirmed.len() == outstanding {
                unconfirmed.pop_front().context("there are none")?.await?;
            }
            let message = Message::new(body.clone());
            let confirm = exchange.publish_deferred(message, samples::ROUTING_KEY).await?;
            unconfirmed.push_back(confirm);
        }
        for confirm in unconfirmed {
            confirm.await?;
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self
            .connection
            .channel_with(ChannelOptions::default().without_confirms())
            .await?;
        channel.set_qos(Qos::prefetch(PREFETCH)).await?;
        let options = ConsumeOptions::default()
            .no_ack(ack == Ack::None)
            .tag(samples::CONSUMER_TAG);
        let mut consumer = channel.queue(queue.to_string()).consume_with(options).await?;
        let mut number = 0;
        while number < queue.messages
            && let Some(delivery) = consumer.next().await
        {
            let delivery = delivery?;
            ensure!(delivery.body_len() == queue.size);
            number += 1;
            match ack {
                Ack::None => {}
                Ack::Every(1) => delivery.ack().await?,
                Ack::Every(interval) if number % interval == 0 => delivery.ack_multiple().await?,
                // One behind it settles it too.
                Ack::Every(_) => drop(delivery.into_message()),
            }
        }
        ensure!(number == queue.messages, "the consumer ended");
        swallowed(&channel).await?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let options = ChannelOptions::default().without_confirms();
        let channel = self.connection.channel_with(options).await?;
        let exchange = channel.default_exchange();
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = channel.queue(ECHO_QUEUE).consume_with(options).await?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            let message = Message::new(body.clone());
            exchange
                .publish_unconfirmed(message, samples::ROUTING_KEY)
                .await?;
            let delivery = consumer.next().await.context("the consumer ended")??;
            ensure!(delivery.body_len() == SMALL);
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let client = Self::connect(port).await?;
        let options = ChannelOptions::default().without_confirms();
        swallowed(&client.connection.channel_with(options).await?).await?;
        match client.connection.close().await.reason {
            CloseReason::Requested { .. } => Ok(()),
            reason => Err(reason.into()),
        }
    }
}

/// How many messages of this channel the null broker has.
async fn swallowed(channel: &Channel) -> Result<u64> {
    let queue = channel.declare_queue("").exclusive(true).await?;
    queue
        .message_count()
        .map(u64::from)
        .context("it was not declared")
}
