//! Connections that are shut down: what is under way is finished first, in time.

use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{ConfirmSelect, Properties, ReplyCode};
use amqp_mio::proto::{Backoff, CloseReason, ConfirmOutcome, ReconnectPolicy, SendError};
use amqp_mio::{ChannelRef, ConnectionId, Ctx, EventLoop};
use amqp_testbroker::TestBroker;

use crate::world::{CLOSED, Log, World, connector, from, note, queue, to, unique};

everywhere! {
    what_was_delivered_is_settled_and_results_are_confirmed_before_it_closes
    what_is_not_settled_in_time_is_told
    with_nothing_under_way_it_closes_at_once
}

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);

/// As long as something takes that is under way.
const SHORT: Duration = Duration::from_millis(20);

/// Shuts it down, and notes what came of it.
fn shut_down(ctx: &mut Ctx<'_, Log>, connection: ConnectionId, timeout: Duration) {
    ctx.connection(connection)
        .unwrap()
        .shutdown(timeout, |ctx, _, report| {
            let (unsettled, unconfirmed) = (report.unsettled, report.unconfirmed);
            note(
                ctx,
                format!(
                    "{} consumers, {unsettled} unsettled, {unconfirmed} unconfirmed",
                    report.consumers
                ),
            );
            if unsettled + unconfirmed + report.consumers == 0 {
                assert!(report.is_complete());
            }
        });
}

/// A queue with three messages, and a consumer.
fn consume(
    ctx: &mut Ctx<'_, Log>,
    channel: ChannelRef,
    name: &str,
    on_message: impl FnMut(&mut Ctx<'_, Log>, ChannelRef, amqp_mio::proto::Delivery) + 'static,
) {
    let mut view = ctx.channel(channel).unwrap();
    view.request(&ConfirmSelect::default(), |_, _, answer| assert!(answer.is_ok()))
        .unwrap();
    view.request(&queue(name), |_, _, answer| assert!(answer.is_ok()))
        .unwrap();
    for _ in 0..3 {
        view.publish(&to(name), &Properties::default(), b"task").unwrap();
    }
    view.consume(&from(name), on_message).unwrap();
}

fn what_was_delivered_is_settled_and_results_are_confirmed_before_it_closes(world: &World) {
    let (log, result) = world.run(|ctx, channel| {
        let name = unique("finished");
        let mut is_first = true;
        consume(ctx, channel, &name.clone(), move |ctx, channel, delivery| {
            if std::mem::take(&mut is_first) {
                shut_down(ctx, channel.connection(), LONG);
            }
            let name = name.clone();
            // What a callback has begun.
            ctx.call_later(SHORT, move |ctx| {
                let mut view = ctx.channel(channel).unwrap();
                let refused = view.consume(&from(&name), |_, _, _| unreachable!("it was refused"));
                assert_eq!(refused, Err(SendError::ShuttingDown));
                let confirmed = |ctx: &mut Ctx<'_, Log>, _, outcome| {
                    assert_eq!(outcome, ConfirmOutcome::Acked);
                    note(ctx, "confirmed");
                };
                let result = to(&name);
                view.publish_confirmed(&result, &Properties::default(), b"result", confirmed)
                    .unwrap();
                view.ack(delivery.tag).unwrap();
            })
            .unwrap();
        });
    });
    result.unwrap();
    let (last, before) = log.split_last().unwrap();
    assert_eq!(last, "0 consumers, 0 unsettled, 0 unconfirmed");
    let (closed, before) = before.split_last().unwrap();
    assert_eq!(closed, CLOSED);
    assert!(
        (1..=3).contains(&before.len()) && before.iter().all(|what| what == "confirmed"),
        "{log:?}"
    );
}

fn what_is_not_settled_in_time_is_told(world: &World) {
    let begin = Instant::now();
    let (log, result) = world.run(|ctx, channel| {
        let mut is_first = true;
        consume(ctx, channel, &unique("held"), move |ctx, channel, delivery| {
            if std::mem::take(&mut is_first) {
                shut_down(ctx, channel.connection(), 5 * SHORT);
            } else {
                ctx.channel(channel).unwrap().ack(delivery.tag).unwrap();
            }
        });
    });
    result.unwrap();
    assert_eq!(log, [CLOSED, "0 consumers, 1 unsettled, 0 unconfirmed"]);
    assert!(begin.elapsed() >= 5 * SHORT / 2);
}

fn with_nothing_under_way_it_closes_at_once(world: &World) {
    let begin = Instant::now();
    let (log, result) = world.run(|ctx, channel| {
        shut_down(ctx, channel.connection(), LONG);
        // Whoever else wants it learns the same.
        shut_down(ctx, channel.connection(), 2 * LONG);
    });
    result.unwrap();
    let report = "0 consumers, 0 unsettled, 0 unconfirmed";
    assert_eq!(log, [CLOSED, report, report]);
    assert!(begin.elapsed() < LONG / 2);
}

/// A loop with an open connection, and a delivery of `q` that nobody settles.
fn holding(broker: &TestBroker) -> (EventLoop<Log>, ConnectionId) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let policy = ReconnectPolicy::new(Backoff::new(1).initial(Duration::ZERO));
    let connection = event_loop.connect_with(&connector(broker), policy).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(|ctx, connection| {
        note(ctx, "open");
        let mut view = ctx.connection(connection).unwrap();
        view.open_channel(|ctx, channel| {
            consume(ctx, channel, "q", |ctx, _, _| ctx.stop());
        })
        .unwrap();
    });
    view.on_close(|ctx, _, reason| {
        let what = match reason {
            CloseReason::Peer(peer) => peer.text.to_string(),
            reason => format!("{reason:?}"),
        };
        note(ctx, what);
    });
    event_loop.run().unwrap();
    (event_loop, connection)
}

#[test]
fn one_that_is_lost_meanwhile_is_not_made_again() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = holding(&broker);
    shut_down(&mut event_loop.context(), connection, LONG);
    let (key, now) = (broker.connections()[0].key, broker.now());
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "bye"));
    event_loop.run().unwrap();
    let [open, closed, report] = &event_loop.state()[..] else {
        panic!("{:?}", event_loop.state());
    };
    assert_eq!([open.as_str(), closed], ["open", "bye"]);
    assert!(
        report.contains(" unsettled, 0 unconfirmed") && !report.contains("0 unsettled"),
        "{report}"
    );
}

#[test]
fn a_broker_that_falls_silent_is_left_in_time() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = holding(&broker);
    let (key, now) = (broker.connections()[0].key, broker.now());
    broker.with(|broker| broker.set_mute(key, now, true));
    let begin = Instant::now();
    shut_down(&mut event_loop.context(), connection, 10 * SHORT);
    event_loop.run().unwrap();
    assert!(begin.elapsed() >= 10 * SHORT);
    let [_, closed, report] = &event_loop.state()[..] else {
        panic!("{:?}", event_loop.state());
    };
    let reason = CloseReason::Requested { acknowledged: false };
    assert_eq!(*closed, format!("{reason:?}"));
    assert!(report.starts_with("1 consumers, "), "{report}");
}

#[test]
fn one_that_is_not_open_yet_is_closed() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    shut_down(&mut event_loop.context(), connection, LONG);
    event_loop.run().unwrap();
    assert_eq!(
        event_loop.state()[..],
        ["0 consumers, 0 unsettled, 0 unconfirmed"]
    );
}
