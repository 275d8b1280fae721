//! The loop with callbacks, on the embedded broker.

use std::time::Duration;

use amqp_mio::proto::wire::{
    BasicConsume, BasicGet, BasicPublish, ConfirmSelect, Properties, QueueDeclare, QueueDelete, ReplyCode,
    ShortStr,
};
use amqp_mio::proto::{ChannelCloseReason, CloseReason, ConfirmOutcome, RequestError, SendError};
use amqp_mio::{ChannelRef, ConnectionId, Connector, Ctx, EventLoop, PostError, RunError};
use amqp_testbroker::TestBroker;

/// What happened, in its order.
type Log = Vec<String>;

fn connector(broker: &TestBroker) -> Connector {
    Connector::from_uri(&broker.uri()).unwrap()
}

fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}

fn queue(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(name),
        durable: true,
        ..Default::default()
    }
}

fn to(queue: &str) -> BasicPublish<'_> {
    BasicPublish {
        routing_key: short(queue),
        ..Default::default()
    }
}

fn from(queue: &str) -> BasicConsume<'_> {
    BasicConsume {
        queue: short(queue),
        ..Default::default()
    }
}

fn note(ctx: &mut Ctx<'_, Log>, what: impl Into<String>) {
    ctx.state().push(what.into());
}

fn close(ctx: &mut Ctx<'_, Log>, connection: ConnectionId) {
    ctx.connection(connection)
        .unwrap()
        .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
}

/// A loop with a connection and a channel, where `job` is done when that is open. Runs until the connection is closed.
fn run(
    broker: &TestBroker,
    job: impl FnMut(&mut Ctx<'_, Log>, ChannelRef) + Clone + 'static,
) -> (Log, Result<(), RunError>) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(broker)).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(move |ctx, connection| {
        let mut job = job.clone();
        let mut view = ctx.connection(connection).unwrap();
        view.open_channel(move |ctx, channel| job(ctx, channel)).unwrap();
    });
    view.on_close(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
    let result = event_loop.run();
    (event_loop.state().clone(), result)
}

const CLOSED: &str = "closed: closed on request";

#[test]
fn one_callback_leads_to_the_next() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.request(&ConfirmSelect::default(), |ctx, _, ok| {
            note(ctx, format!("{:?}", ok.is_ok()))
        })
        .unwrap();
        view.request(&queue("test"), |ctx, channel, answer| {
            let ok = answer.unwrap();
            let text = format!("declared {} with {}", ok.queue, ok.message_count);
            note(ctx, text);
            let mut view = ctx.channel(channel).unwrap();
            view.consume(&from("test"), |ctx, channel, delivery| {
                note(ctx, String::from_utf8(delivery.message.body().to_vec()).unwrap());
                ctx.channel(channel).unwrap().ack(delivery.tag).unwrap();
                close(ctx, channel.connection());
            })
            .unwrap();
            view.publish_confirmed(
                &to("test"),
                &Properties::default(),
                &b"hello"[..],
                |ctx, _, outcome| {
                    assert_eq!(outcome, ConfirmOutcome::Acked);
                    note(ctx, "confirmed");
                },
            )
            .unwrap();
        })
        .unwrap();
    });
    result.unwrap();
    let mut seen = log;
    // The broker may say these in either order.
    seen[2..4].sort();
    assert_eq!(
        seen,
        ["true", "declared test with 0", "confirmed", "hello", CLOSED]
    );
    assert_eq!(broker.queue_len("/", "test"), Some(0));
}

#[test]
fn after_close_it_runs_until_it_is_closed() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(|ctx, _| {
        note(ctx, "open");
        ctx.stop();
    });
    view.on_close(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["open"]);

    close(&mut event_loop.context(), connection);
    assert_eq!(event_loop.state(), &["open"], "closing takes its time");
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["open", CLOSED]);
    let gone = event_loop.context().connection(connection).map(drop);
    assert_eq!(gone, Err(SendError::Closed));
    event_loop.run().unwrap();
}

#[test]
fn several_connections_share_a_loop() {
    let brokers = [TestBroker::start().unwrap(), TestBroker::start().unwrap()];
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    for (number, broker) in brokers.iter().enumerate() {
        let connection = event_loop.connect(&connector(broker)).unwrap();
        let mut ctx = event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        view.on_open(move |ctx, connection| {
            let mut view = ctx.connection(connection).unwrap();
            view.open_channel(move |ctx, channel| {
                let name = format!("only.{number}");
                let mut view = ctx.channel(channel).unwrap();
                view.request(&queue(&name), |ctx, channel, answer| {
                    answer.unwrap();
                    close(ctx, channel.connection());
                })
                .unwrap();
            })
            .unwrap();
        });
    }
    event_loop.run().unwrap();
    assert_eq!(brokers[0].queue_len("/", "only.0"), Some(0));
    assert_eq!(brokers[0].queue_len("/", "only.1"), None);
    assert_eq!(brokers[1].queue_len("/", "only.1"), Some(0));
}

#[test]
fn timers_come_in_their_order_and_can_be_removed() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let mut ctx = event_loop.context();
    let at = Duration::from_millis;
    ctx.call_later(at(20), |ctx| note(ctx, "third"));
    ctx.call_later(at(10), |ctx| note(ctx, "first"));
    ctx.call_later(at(10), |ctx| {
        note(ctx, "second");
        ctx.call_later(Duration::ZERO, |ctx| note(ctx, "soon after"));
    });
    let removed = ctx.call_later(at(5), |ctx| note(ctx, "never")).unwrap();
    assert!(ctx.remove_timeout(removed));
    assert!(!ctx.remove_timeout(removed));
    assert_eq!(ctx.call_later(Duration::MAX, |_| ()), None);
    event_loop.run().unwrap();
    let log = event_loop.state();
    let place = |name: &str| log.iter().position(|told| told == name);
    let in_order = [place("first"), place("second"), place("third")];
    assert_eq!(log.len(), 4, "{log:?}");
    assert!(in_order.is_sorted() && in_order[0].is_some(), "{log:?}");
    // Before or after the third: that depends on how late the second was.
    assert!(place("soon after") > place("second"), "{log:?}");
}

#[test]
fn other_threads_call_into_the_loop() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    let handle = event_loop.handle();
    let (open, is_open) = std::sync::mpsc::channel();
    event_loop
        .context()
        .connection(connection)
        .unwrap()
        .on_open(move |_, _| open.send(()).unwrap());
    let thread = std::thread::spawn(move || {
        is_open.recv().unwrap();
        handle.call_soon(move |ctx| close(ctx, connection)).unwrap();
        handle
    });
    event_loop.run().unwrap();
    let handle = thread.join().unwrap();
    drop(event_loop);
    assert_eq!(handle.call_soon(|_| ()), Err(PostError::Gone));
}

#[test]
fn callbacks_may_remove_and_add_callbacks() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    let removed = view.on_close(|ctx, _, _| note(ctx, "never"));
    view.on_open(move |ctx, connection| {
        let mut view = ctx.connection(connection).unwrap();
        assert!(view.remove_callback(removed));
        assert!(!view.remove_callback(removed));
        let own = view.on_close(|_, _, _| ());
        assert!(view.remove_callback(own));
        let late = std::rc::Rc::new(std::cell::Cell::new(None));
        let mine = late.clone();
        late.set(Some(view.on_close(move |ctx, connection, _| {
            note(ctx, "once");
            let mut view = ctx.connection(connection).unwrap();
            assert!(view.remove_callback(mine.get().unwrap()), "itself");
            view.on_close(|ctx, _, _| note(ctx, "too late"));
        })));
        view.on_close(|ctx, _, _| note(ctx, "after it"));
        close(ctx, connection);
    });
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["once", "after it"]);
}

#[test]
fn a_panic_closes_its_connection_and_is_told() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |_, _| panic!("oh no"));
    assert!(matches!(result, Err(RunError::Panicked(message)) if message == "oh no"));
    assert_eq!(log, [CLOSED]);
}

#[test]
fn a_closed_channel_says_why_and_fails_what_waits() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.on_close(|ctx, channel, reason| {
            assert!(matches!(reason, ChannelCloseReason::Peer(_)));
            note(ctx, reason.to_string());
            close(ctx, channel.connection());
        })
        .unwrap();
        let missing = QueueDeclare {
            passive: true,
            ..queue("missing")
        };
        view.request(&missing, |ctx, _, answer| {
            assert!(matches!(answer, Err(RequestError::ChannelClosed(_))));
            note(ctx, "failed");
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log[0], "failed");
    assert!(log[1].contains("no queue 'missing' in vhost '/'"), "{}", log[1]);
    assert_eq!(log[2], CLOSED);
}

#[test]
fn a_get_brings_a_message_or_nothing() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue("test")).unwrap();
        let get = BasicGet {
            queue: short("test"),
            no_ack: true,
        };
        view.get(&get, |ctx, _, got| {
            note(ctx, format!("{:?}", got.unwrap().is_some()))
        })
        .unwrap();
        view.publish(&to("test"), &Properties::default(), &b"m"[..])
            .unwrap();
        view.get(&get, |ctx, _, got| {
            let got = got.unwrap().unwrap();
            note(ctx, format!("{} left", got.message_count));
        })
        .unwrap();
        view.get(&get, |ctx, channel, got| {
            note(ctx, format!("{:?}", got.unwrap().is_some()));
            close(ctx, channel.connection());
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log, ["false", "0 left", "false", CLOSED]);
}

#[test]
fn what_no_queue_takes_comes_back() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.on_return(|ctx, _, returned| note(ctx, returned.text.clone()))
            .unwrap();
        view.on_confirm(|ctx, _, tags, outcome| note(ctx, format!("{} {outcome}", tags.count())))
            .unwrap();
        view.send_nowait(&ConfirmSelect::default()).unwrap();
        let mandatory = BasicPublish {
            mandatory: true,
            ..to("nowhere")
        };
        view.publish_confirmed(
            &mandatory,
            &Properties::default(),
            &b"m"[..],
            move |ctx, _, outcome| {
                assert_eq!(outcome, ConfirmOutcome::Returned);
                close(ctx, channel.connection());
            },
        )
        .unwrap();
    });
    result.unwrap();
    assert_eq!(
        log,
        ["NO_ROUTE", "1 returned by the broker: no queue got it", CLOSED]
    );
}

#[test]
fn a_consumer_ends_with_its_queue_or_when_it_is_cancelled() {
    let broker = TestBroker::start().unwrap();
    let (log, result) = run(&broker, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue("one")).unwrap();
        view.send_nowait(&queue("two")).unwrap();
        let mine = view
            .consume(&from("one"), |_, _, _| panic!("nothing comes"))
            .unwrap();
        view.consume(&from("two"), |_, _, _| panic!("nothing comes"))
            .unwrap();
        view.on_cancel(move |ctx, channel, consumer| {
            assert_ne!(consumer, mine);
            note(ctx, "its queue is gone");
            close(ctx, channel.connection());
        })
        .unwrap();
        view.cancel(mine, |ctx, channel, result| {
            result.unwrap();
            note(ctx, "cancelled");
            let mut view = ctx.channel(channel).unwrap();
            view.publish(&to("one"), &Properties::default(), &b"m"[..])
                .unwrap();
            let delete = QueueDelete {
                queue: short("two"),
                ..Default::default()
            };
            view.send_nowait(&delete).unwrap();
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log, ["cancelled", "its queue is gone", CLOSED]);
    assert_eq!(broker.queue_len("/", "one"), Some(1));
}

#[test]
fn no_broker_is_told_with_what_was_tried() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connector = Connector::from_uri("amqp://no.such.name.invalid").unwrap();
    let connection = event_loop.connect(&connector).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open_error(|ctx, _, error| note(ctx, error.to_string()));
    view.on_close(|ctx, _, _| note(ctx, "never"));
    event_loop.run().unwrap();
    let [text] = &event_loop.state()[..] else {
        panic!("{:?}", event_loop.state());
    };
    assert!(text.contains("no.such.name.invalid"), "{text}");
}

#[test]
fn a_broker_that_closes_it_says_why() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(move |ctx, _| {
        note(ctx, "open");
        ctx.stop();
    });
    view.on_close(|ctx, _, reason| {
        assert!(matches!(reason, CloseReason::Peer(_)), "{reason:?}");
        note(ctx, reason.to_string());
    });
    event_loop.run().unwrap();
    let now = broker.now();
    let key = broker.connections()[0].key;
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "maintenance"));
    event_loop.run().unwrap();
    assert!(
        event_loop.state()[1].contains("maintenance"),
        "{:?}",
        event_loop.state()
    );
}
