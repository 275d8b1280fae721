//! With `amqp-tokio`.

use std::time::Duration;

use amqp_tokio::{
    Channel, Confirm, Connection, Connector, Exchange, FieldTable, PublishError, Qos, Queue, Recovery,
};
use anyhow::{Context, Result, bail};
use tokio::runtime;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::record::{Deliveries, Next, Outages, Record, message};
use crate::{BODY, Drill, PREFETCH, WINDOW};

/// How often a consumer to which nothing comes looks whether the drill has ended.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(drill: &Drill) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(all(drill))
}

async fn all(drill: &Drill) -> Result<()> {
    let (connection, channel) = connect(drill, 0, "publisher").await?;
    let queue = declare(&channel, &drill.queue).await?;
    let mut tasks = JoinSet::new();
    for (number, name) in [(1, "consumer 1"), (2, "consumer 2")] {
        let drill = drill.clone();
        tasks.spawn(async move { consume(&drill, number, name).await });
    }
    let (again, due) = unbounded_channel();
    let (under_way, confirms) = self::channel(WINDOW);
    let sender = drill.clone();
    tasks.spawn(async move { send(&sender, &channel.default_exchange(), due, under_way).await });
    let settler = drill.clone();
    tasks.spawn(async move { settle(&settler.record, confirms, again).await });
    while let Some(outcome) = tasks.join_next().await {
        if let Err(error) = outcome? {
            drill.record.fail(format!("{error:#}"));
        }
    }
    queue.delete().await?;
    connection.close().await;
    Ok(())
}

async fn connect(drill: &Drill, number: usize, name: &'static str) -> Result<(Connection, Channel)> {
    let connector = Connector::new(drill.parameters(number)).recovery(Recovery::default());
    let connection = connector.connect().await?;
    let (mut events, record) = (connection.events(), drill.record.clone());
    tokio::spawn(async move {
        let mut outages = Outages::new(record, name);
        while let Some(event) = events.next().await {
            outages.add(&event);
        }
    });
    let channel = connection.channel().await?;
    Ok((connection, channel))
}

async fn declare(channel: &Channel, queue: &str) -> Result<Queue> {
    let arguments = FieldTable::new().with("x-queue-type", "quorum")?;
    let declaration = channel.declare_queue(queue).durable(true);
    Ok(declaration.arguments(arguments).await?)
}

/// Publishes each message when it is due, and again what has to be.
async fn send(
    drill: &Drill,
    exchange: &Exchange,
    mut again: UnboundedReceiver<usize>,
    under_way: Sender<(usize, Confirm)>,
) -> Result<()> {
    let record = &drill.record;
    let mut fresh = 0;
    let mut unsent = None;
    while !record.has_ended() {
        let number = if let Some(number) = unsent.take() {
            number
        } else if fresh < record.messages() {
            match timeout_at(Instant::from_std(drill.pace.due(fresh)), again.recv()).await {
                Ok(Some(number)) => number,
                Ok(None) => break,
                Err(_) => {
                    fresh += 1;
                    fresh - 1
                }
            }
        } else {
            let Some(number) = again.recv().await else {
                break;
            };
            number
        };
        let message = message(number, record.publishing(number), BODY);
        match exchange.publish_deferred(message, &drill.queue).await {
            Ok(confirm) => under_way.send((number, confirm)).await?,
            Err(error) => {
                record.unsent(number, &error);
                unsent = Some(number);
            }
        }
    }
    Ok(())
}

/// Waits for each confirm.
async fn settle(
    record: &Record,
    mut confirms: Receiver<(usize, Confirm)>,
    again: UnboundedSender<usize>,
) -> Result<()> {
    while let Some((number, confirm)) = confirms.recv().await {
        let next = match confirm.await {
            Ok(()) => record.confirmed(number),
            Err(PublishError::Lost(_)) => record.lost(number),
            Err(error) => record.refused(number, &error),
        };
        match next {
            Next::Nothing => {}
            Next::Publish(number) => again.send(number)?,
            Next::End => break,
        }
    }
    Ok(())
}

/// Consumes until the drill has ended.
async fn consume(drill: &Drill, number: usize, name: &'static str) -> Result<()> {
    let (connection, channel) = connect(drill, number, name).await?;
    channel.set_qos(Qos::prefetch(PREFETCH)).await?;
    let mut consumer = declare(&channel, &drill.queue).await?.consume().await?;
    let record = &drill.record;
    let mut deliveries = Deliveries::new(drill.record.clone(), name);
    while !record.has_ended() {
        let Ok(next) = timeout(LOOK, consumer.next()).await else {
            continue;
        };
        let Some(delivery) = next else {
            bail!("{name} ended");
        };
        let delivery = delivery.with_context(|| format!("{name} ended"))?;
        deliveries.add(delivery.message(), delivery.is_redelivered());
        if delivery.ack().await.is_err() {
            record.stale();
        }
    }
    deliveries.end();
    connection.close().await;
    Ok(())
}
