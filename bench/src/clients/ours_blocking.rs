//! amqp-blocking.

use std::collections::VecDeque;

use amqp_blocking::proto::CloseReason;
use amqp_blocking::{
    BlockingChannel, BlockingConnection, ChannelOptions, Confirm, ConsumeOptions, Qos, QueueOptions,
};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

pub(crate) struct OursBlocking {
    connection: BlockingConnection,
}

impl Client for OursBlocking {
    async fn connect(port: u16) -> Result<Self> {
        let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
        let connection = BlockingConnection::connect(&uri)?;
        Ok(Self { connection })
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let channel = self.without_confirms()?;
        for _ in 0..count {
            channel.basic_publish_unconfirmed("", samples::ROUTING_KEY, body.clone())?;
        }
        ensure!(swallowed(&channel)? == count);
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.channel()?;
        let mut unconfirmed: VecDeque<Confirm> = VecDeque::with_capacity(outstanding);
        for _ in 0..count {
            if unconfirmed.len() == outstanding {
                unconfirmed.pop_front().context("there are none")?.wait()?;
            }
            let confirm = channel.basic_publish_deferred("", samples::ROUTING_KEY, body.clone())?;
            unconfirmed.push_back(confirm);
        }
        for confirm in unconfirmed {
            confirm.wait()?;
        }
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self.without_confirms()?;
        channel.basic_qos(Qos::prefetch(PREFETCH))?;
        let options = ConsumeOptions::default()
            .no_ack(ack == Ack::None)
            .tag(samples::CONSUMER_TAG);
        let mut consumer = channel.consume(&queue.to_string(), options)?;
        for number in 1..=queue.messages {
            let delivery = consumer.next().context("the consumer ended")??;
            ensure!(delivery.body_len() == queue.size);
            match ack {
                Ack::None => drop(delivery),
                Ack::Every(1) => delivery.ack()?,
                Ack::Every(interval) if number % interval == 0 => delivery.ack_multiple()?,
                // One behind it settles it too.
                Ack::Every(_) => drop(delivery.into_tag()),
            }
        }
        swallowed(&channel)?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let channel = self.without_confirms()?;
        let options = ConsumeOptions::default().no_ack(true);
        let mut consumer = channel.consume(ECHO_QUEUE, options)?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            channel.basic_publish_unconfirmed("", samples::ROUTING_KEY, body.clone())?;
            let delivery = consumer.next().context("the consumer ended")??;
            ensure!(delivery.body_len() == SMALL);
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let client = Self::connect(port).await?;
        swallowed(&client.without_confirms()?)?;
        match client.connection.close()?.reason {
            CloseReason::Requested { .. } => Ok(()),
            reason => Err(reason.into()),
        }
    }
}

impl OursBlocking {
    fn without_confirms(&self) -> Result<BlockingChannel> {
        let options = ChannelOptions::default().without_confirms();
        Ok(self.connection.channel_with(options)?)
    }
}

/// How many messages of this channel the null broker has.
fn swallowed(channel: &BlockingChannel) -> Result<u64> {
    let queue = channel.queue_declare("", QueueOptions::default().exclusive(true))?;
    Ok(queue.message_count.into())
}
