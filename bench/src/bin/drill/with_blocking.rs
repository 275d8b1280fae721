//! With `amqp-blocking`.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use amqp_blocking::{
    BlockingChannel, BlockingConnection, Confirm, Connector, ConsumeOptions, FieldTable, PublishError, Qos,
    QueueOptions, Recovery,
};
use anyhow::Result;

use crate::record::{Deliveries, Next, Outages, Record, message};
use crate::{BODY, Drill, PREFETCH, WINDOW};

/// How often who waits looks whether the drill has ended.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(drill: &Drill) -> Result<()> {
    let (connection, channel) = connect(drill, 0, "publisher")?;
    declare(&channel, &drill.queue)?;
    let (again, due) = self::channel();
    let (under_way, confirms) = sync_channel(WINDOW);
    let or_fail = |outcome: Result<()>| {
        if let Err(error) = outcome {
            drill.record.fail(format!("{error:#}"));
        }
    };
    thread::scope(|scope| {
        let publisher = channel.clone();
        scope.spawn(move || or_fail(send(drill, &publisher, &due, &under_way)));
        scope.spawn(move || or_fail(settle(&drill.record, &confirms, &again)));
        scope.spawn(move || or_fail(consume(drill, 1, "consumer 1")));
        scope.spawn(move || or_fail(consume(drill, 2, "consumer 2")));
        // What happens to the publisher's connection.
        while !drill.record.has_ended() {
            or_fail(connection.process_data_events(LOOK).map(drop).map_err(Into::into));
        }
    });
    channel.queue_delete(&drill.queue, false, false)?;
    connection.close()?;
    Ok(())
}

fn connect(
    drill: &Drill,
    number: usize,
    name: &'static str,
) -> Result<(BlockingConnection, BlockingChannel)> {
    let connector = Connector::new(drill.parameters(number)).recovery(Recovery::default());
    let connection = connector.connect()?;
    let mut outages = Outages::new(drill.record.clone(), name);
    connection.add_on_event_callback(move |_, event| outages.add(event));
    let channel = connection.channel()?;
    Ok((connection, channel))
}

fn declare(channel: &BlockingChannel, queue: &str) -> Result<()> {
    let arguments = FieldTable::new().with("x-queue-type", "quorum")?;
    let options = QueueOptions::default().durable(true).arguments(arguments);
    channel.queue_declare(queue, options)?;
    Ok(())
}

/// Publishes each message when it is due, and again what has to be.
fn send(
    drill: &Drill,
    channel: &BlockingChannel,
    again: &Receiver<usize>,
    under_way: &SyncSender<(usize, Confirm)>,
) -> Result<()> {
    let record = &drill.record;
    let mut fresh = 0;
    let mut unsent = None;
    while !record.has_ended() {
        let number = if let Some(number) = unsent.take() {
            number
        } else if fresh < record.messages() {
            let until_due = drill.pace.due(fresh).saturating_duration_since(Instant::now());
            match again.recv_timeout(until_due) {
                Ok(number) => number,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    fresh += 1;
                    fresh - 1
                }
            }
        } else {
            let Ok(number) = again.recv() else {
                break;
            };
            number
        };
        let message = message(number, record.publishing(number), BODY);
        match channel.basic_publish_deferred("", &drill.queue, message) {
            Ok(confirm) => under_way.send((number, confirm))?,
            Err(error) => {
                record.unsent(number, &error);
                unsent = Some(number);
            }
        }
    }
    Ok(())
}

/// Waits for each confirm.
fn settle(record: &Record, confirms: &Receiver<(usize, Confirm)>, again: &Sender<usize>) -> Result<()> {
    for (number, confirm) in confirms {
        let next = match confirm.wait() {
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
fn consume(drill: &Drill, number: usize, name: &'static str) -> Result<()> {
    let (connection, channel) = connect(drill, number, name)?;
    channel.basic_qos(Qos::prefetch(PREFETCH))?;
    declare(&channel, &drill.queue)?;
    let mut consumer = channel.consume(&drill.queue, ConsumeOptions::default())?;
    let record = &drill.record;
    let mut deliveries = Deliveries::new(drill.record.clone(), name);
    while !record.has_ended() {
        let Some(delivery) = consumer.next_within(LOOK)? else {
            continue;
        };
        deliveries.add(delivery.message(), delivery.is_redelivered());
        if delivery.ack().is_err() {
            record.stale();
        }
    }
    deliveries.end();
    connection.close()?;
    Ok(())
}
