//! With `amqp-mio`: one loop for the three connections, which are made again with everything on them
//! ([`EventLoop::connect_recovering`]).

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{
    BasicConsume, BasicPublish, BasicQos, ConfirmSelect, FieldTable, Properties, QueueDeclare, QueueDelete,
    ReplyCode,
};
use amqp_mio::proto::{ConfirmOutcome, Delivery};
use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, EventLoop, Recovery};
use anyhow::{Context, Result};

use crate::record::{ATTEMPT, Deliveries, Next, Outages};
use crate::{BODY, Drill, PREFETCH, WINDOW};

/// How often the loop looks what is due.
const LOOK: Duration = Duration::from_millis(5);

/// The connections; the first one publishes.
const NAMES: [&str; 3] = ["publisher", "consumer 1", "consumer 2"];

/// What the callbacks share.
struct Program {
    drill: Drill,
    outages: [Outages; 3],
    /// Of the consumers; the publisher's stay empty.
    deliveries: [Deliveries; 3],
    /// Where to publish, when the queue is there.
    channel: Option<ChannelRef>,
    /// The publisher's connection was lost, and is not as it was.
    is_lost: bool,
    fresh: usize,
    again: VecDeque<usize>,
    under_way: usize,
}

pub(crate) fn run(drill: &Drill) -> Result<()> {
    let mut event_loop = EventLoop::new(Program {
        drill: drill.clone(),
        outages: NAMES.map(|name| Outages::new(drill.record.clone(), name)),
        deliveries: NAMES.map(|name| Deliveries::new(drill.record.clone(), name)),
        channel: None,
        is_lost: false,
        fresh: 0,
        again: VecDeque::new(),
        under_way: 0,
    })?;
    let mut connections = Vec::new();
    for number in 0..NAMES.len() {
        connections.push(connect(&mut event_loop.context(), number)?);
    }
    while !drill.record.has_ended() {
        event_loop.run_once(LOOK)?;
        publish_due(&mut event_loop.context());
    }
    let mut ctx = event_loop.context();
    for deliveries in &ctx.state().deliveries {
        deliveries.end();
    }
    let channel = ctx.state().channel.context("the queue was not declared")?;
    let queue = QueueDelete {
        queue: drill.queue.as_str().try_into()?,
        ..Default::default()
    };
    ctx.channel(channel)?.request(&queue, move |ctx, _, _| {
        for connection in connections {
            if let Ok(mut connection) = ctx.connection(connection) {
                connection.close(ReplyCode::REPLY_SUCCESS, "");
            }
        }
    })?;
    // Until they are closed.
    Ok(event_loop.run()?)
}

fn connect(ctx: &mut Ctx<'_, Program>, number: usize) -> Result<ConnectionId> {
    let connector = Connector::new(ctx.state().drill.parameters(number));
    let id = ctx.connect_recovering(&connector, Recovery::default())?;
    let mut connection = ctx.connection(id)?;
    connection.on_open_error(move |ctx, id, error| {
        // Later ones are tried again.
        if ctx
            .connection(id)
            .is_ok_and(|connection| !connection.is_recovering())
        {
            or_fail(ctx, Err(error.clone().into()));
        }
    });
    connection.on_open(move |ctx, id| {
        let opened = ctx.connection(id).and_then(|mut connection| {
            connection.open_channel(move |ctx, channel| {
                let declared = declare(ctx, channel, number);
                or_fail(ctx, declared);
            })
        });
        or_fail(ctx, opened.map(drop).map_err(Into::into));
    });
    connection.on_lost(move |ctx, _, reason| {
        let program = ctx.state();
        program.is_lost |= number == 0;
        program.outages[number].lost(reason);
    });
    connection.on_reconnect(move |ctx, _, delay| ctx.state().outages[number].retrying(delay));
    connection.on_recovered(move |ctx, _, report| {
        let program = ctx.state();
        program.is_lost &= number != 0;
        program.outages[number].restored(report);
    });
    connection.on_give_up(move |ctx, _, reason| ctx.state().outages[number].gave_up(reason));
    Ok(id)
}

fn or_fail(ctx: &mut Ctx<'_, Program>, outcome: Result<()>) {
    if let Err(error) = outcome {
        ctx.state().drill.record.fail(format!("{error:#}"));
    }
}

/// Declares the queue, and what follows when it is there.
fn declare(ctx: &mut Ctx<'_, Program>, channel: ChannelRef, number: usize) -> Result<()> {
    let name = ctx.state().drill.queue.clone();
    let arguments = FieldTable::new().with("x-queue-type", "quorum")?;
    let queue = QueueDeclare {
        queue: name.as_str().try_into()?,
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    let mut view = ctx.channel(channel)?;
    view.on_close(|ctx, _, reason| ended(ctx, reason));
    view.on_cancel(|ctx, _, _| ended(ctx, &"a consumer has ended"));
    view.request(&queue, move |ctx, channel, answer| match answer {
        Err(error) => or_fail(ctx, Err(error.into())),
        Ok(_) if number == 0 => ctx.state().channel = Some(channel),
        Ok(_) => {}
    })?;
    if number == 0 {
        view.send_nowait(&ConfirmSelect::default())?;
        return Ok(());
    }
    let qos = BasicQos {
        prefetch_count: PREFETCH,
        ..Default::default()
    };
    view.request(&qos, |_, _, _| {})?;
    let consume = BasicConsume {
        queue: name.as_str().try_into()?,
        ..Default::default()
    };
    view.consume(&consume, move |ctx, channel, delivery| {
        take(ctx, channel, &delivery, number);
    })?;
    Ok(())
}

/// Something does not go on; at the end of the drill all of it is.
fn ended(ctx: &mut Ctx<'_, Program>, what: &dyn Display) {
    let record = &ctx.state().drill.record;
    if !record.has_ended() {
        record.fail(what.to_string());
    }
}

fn take(ctx: &mut Ctx<'_, Program>, channel: ChannelRef, delivery: &Delivery, number: usize) {
    ctx.state().deliveries[number].add(&delivery.message, delivery.redelivered);
    let acked = ctx.channel(channel).and_then(|mut view| view.ack(delivery.tag));
    if acked.is_err() {
        ctx.state().drill.record.stale();
    }
}

/// Publishes what is due, and again what has to be.
fn publish_due(ctx: &mut Ctx<'_, Program>) {
    while let Some(channel) = ctx.state().channel
        && let Some(number) = ctx.state().next()
    {
        match publish(ctx, channel, number) {
            Ok(()) => ctx.state().under_way += 1,
            Err(error) => {
                let program = ctx.state();
                program.drill.record.unsent(number, &error);
                program.again.push_front(number);
                break;
            }
        }
    }
}

impl Program {
    /// Which message is to be published now.
    fn next(&mut self) -> Option<usize> {
        if self.is_lost || self.under_way >= WINDOW {
            return None;
        }
        let number = self.again.pop_front();
        let is_due =
            self.fresh < self.drill.record.messages() && self.drill.pace.due(self.fresh) <= Instant::now();
        number.or_else(|| {
            is_due.then(|| {
                self.fresh += 1;
                self.fresh - 1
            })
        })
    }
}

fn publish(ctx: &mut Ctx<'_, Program>, channel: ChannelRef, number: usize) -> Result<()> {
    let drill = &ctx.state().drill;
    let queue = drill.queue.clone();
    let before = drill.record.publishing(number);
    let id = number.to_string();
    let headers = match before {
        0 => FieldTable::new(),
        before => FieldTable::new().with(ATTEMPT, before)?,
    };
    let method = BasicPublish {
        routing_key: queue.as_str().try_into()?,
        mandatory: true,
        ..Default::default()
    };
    let properties = Properties {
        delivery_mode: Some(2),
        message_id: Some(id.as_str().try_into()?),
        headers: (before > 0).then(|| headers.as_ref()),
        ..Default::default()
    };
    let body = format!("{number:0BODY$}");
    let mut view = ctx.channel(channel)?;
    view.publish_confirmed(&method, &properties, body.as_bytes(), move |ctx, _, outcome| {
        settle(ctx, number, &outcome);
    })?;
    Ok(())
}

fn settle(ctx: &mut Ctx<'_, Program>, number: usize, outcome: &ConfirmOutcome) {
    let program = ctx.state();
    program.under_way -= 1;
    let record = &program.drill.record;
    let next = match outcome {
        ConfirmOutcome::Acked => record.confirmed(number),
        ConfirmOutcome::Lost(_) => record.lost(number),
        outcome => record.refused(number, outcome),
    };
    if let Next::Publish(number) = next {
        program.again.push_back(number);
    }
}
