//! amqprs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use amqprs::callbacks::ChannelCallback;
use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConfirmSelectArguments, QueueDeclareArguments,
};
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::{Ack as Confirm, BasicProperties, Cancel, CloseChannel, Nack, Return};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::round_trips::RoundTrips;
use super::{Ack, Client, PREFETCH, SMALL};
use crate::{ECHO_QUEUE, QueueName, samples};

/// A connection.
pub(crate) struct Amqprs {
    connection: Connection,
}

impl Client for Amqprs {
    async fn connect(port: u16) -> Result<Self> {
        let arguments = OpenConnectionArguments::new("127.0.0.1", port, "guest", "guest");
        let connection = Connection::open(&arguments).await?;
        Ok(Self { connection })
    }

    async fn publish(&mut self, body: &Bytes, count: u64) -> Result<()> {
        let channel = self.connection.open_channel(None).await?;
        for _ in 0..count {
            publish(&channel, body).await?;
        }
        let swallowed = swallowed(&channel).await?;
        ensure!(swallowed == count, "the broker has {swallowed} of {count}");
        Ok(())
    }

    async fn confirm(&mut self, body: &Bytes, outstanding: usize, count: u64) -> Result<()> {
        let channel = self.connection.open_channel(None).await?;
        let confirms = Confirms::default();
        channel.register_callback(confirms.clone()).await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
        for published in 1..=count {
            publish(&channel, body).await?;
            confirms
                .wait_for((published + 1).saturating_sub(outstanding as u64))
                .await;
        }
        confirms.wait_for(count).await;
        Ok(())
    }

    async fn consume(&mut self, queue: QueueName, ack: Ack) -> Result<()> {
        let channel = self.connection.open_channel(None).await?;
        channel
            .basic_qos(BasicQosArguments::new(0, PREFETCH, false))
            .await?;
        let arguments = BasicConsumeArguments::new(&queue.to_string(), samples::CONSUMER_TAG)
            .manual_ack(ack != Ack::None)
            .finish();
        let (_, mut messages) = channel.basic_consume_rx(arguments).await?;
        for number in 1..=queue.messages {
            let message = messages.recv().await.context("the consumer ended")?;
            let (deliver, content) = message.deliver.zip(message.content).context("half a message")?;
            ensure!(content.len() == queue.size);
            if let Ack::Every(interval) = ack
                && number % interval == 0
            {
                let ack = BasicAckArguments::new(deliver.delivery_tag(), interval > 1);
                channel.basic_ack(ack).await?;
            }
        }
        swallowed(&channel).await?;
        Ok(())
    }

    async fn echo(&mut self, body: &Bytes, count: u64) -> Result<RoundTrips> {
        let channel = self.connection.open_channel(None).await?;
        let arguments = BasicConsumeArguments::new(ECHO_QUEUE, samples::CONSUMER_TAG)
            .manual_ack(false)
            .finish();
        let (_, mut messages) = channel.basic_consume_rx(arguments).await?;
        let mut trips = RoundTrips::begin(count);
        for _ in 0..count {
            publish(&channel, body).await?;
            let message = messages.recv().await.context("the consumer ended")?;
            ensure!(message.content.is_some_and(|content| content.len() == SMALL));
            trips.end_one();
        }
        Ok(trips)
    }

    async fn visit(port: u16) -> Result<()> {
        let client = Self::connect(port).await?;
        // If it is dropped it closes itself, and gets in the way of the connection's close.
        let channel = client.connection.open_channel(None).await?;
        swallowed(&channel).await?;
        Ok(client.connection.close().await?)
    }
}

/// Publishes one and waits until it is in the queue of those that are to be written.
async fn publish(channel: &Channel, body: &[u8]) -> Result<()> {
    let arguments = BasicPublishArguments::new("", samples::ROUTING_KEY);
    channel
        .basic_publish(BasicProperties::default(), body.to_vec(), arguments)
        .await?;
    Ok(())
}

/// How many messages of this channel the null broker has; asked behind all that was sent before.
async fn swallowed(channel: &Channel) -> Result<u64> {
    let declared = channel.queue_declare(QueueDeclareArguments::new("")).await?;
    let (_, count, _) = declared.context("no answer to queue.declare")?;
    Ok(count.into())
}

/// How far a channel is confirmed. The null broker confirms in order, so one number says it.
#[derive(Clone, Default)]
struct Confirms(Arc<(AtomicU64, Notify)>);

impl Confirms {
    /// Waits until this message is confirmed, and all before it.
    async fn wait_for(&self, tag: u64) {
        let (confirmed, changed) = &*self.0;
        while confirmed.load(Ordering::Acquire) < tag {
            // There is one waiter, for which `notify_one` keeps what happens before this line.
            changed.notified().await;
        }
    }
}

#[async_trait]
impl ChannelCallback for Confirms {
    async fn publish_ack(&mut self, _: &Channel, ack: Confirm) {
        let (confirmed, changed) = &*self.0;
        confirmed.store(ack.delivery_tag(), Ordering::Release);
        changed.notify_one();
    }

    async fn publish_nack(&mut self, _: &Channel, nack: Nack) {
        panic!("the null broker refuses {}", nack.delivery_tag());
    }

    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {}
}
