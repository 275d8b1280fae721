//! What takes a broker of our own.

use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{Properties, ReplyCode};
use amqp_mio::proto::{CloseReason, Secret, SendError};
use amqp_mio::{Backpressure, ChannelRef, Connector, Ctx, EventLoop, RunError};
use amqp_testbroker::TestBroker;

use crate::world::{CLOSED, Log, close, connector, from, note, queue, to};

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
                let mut lasting = queue(&name);
                lasting.exclusive = false;
                let mut view = ctx.channel(channel).unwrap();
                view.request(&lasting, |ctx, channel, answer| {
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

/// What its queue had for it is there again, and the loop's other connection goes on.
#[test]
fn a_handler_that_panics_is_called_no_more() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let start = |event_loop: &mut EventLoop<Log>, on_channel_open: fn(&mut Ctx<'_, Log>, ChannelRef)| {
        let connection = event_loop.connect(&connector(&broker)).unwrap();
        let mut ctx = event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        view.on_open(move |ctx, connection| {
            let mut view = ctx.connection(connection).unwrap();
            view.open_channel(on_channel_open).unwrap();
        });
        view.on_close(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
        connection
    };
    let other = start(&mut event_loop, |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue("own")).unwrap();
        let on_message = |ctx: &mut Ctx<'_, Log>, channel: ChannelRef, _| {
            note(ctx, "the other one goes on");
            close(ctx, channel.connection());
        };
        view.consume_then(&from("own"), on_message, |ctx, _, _| ctx.stop())
            .unwrap();
    });
    event_loop.run().unwrap();
    start(&mut event_loop, |ctx, channel| {
        let mut lasting = queue("lasting");
        lasting.exclusive = false;
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&lasting).unwrap();
        for _ in 0..3 {
            view.publish(&to("lasting"), &Properties::default(), "task")
                .unwrap();
        }
        view.consume(&from("lasting"), |ctx, _, _| {
            note(ctx, "called");
            panic!("no good");
        })
        .unwrap();
    });
    let result = event_loop.run();
    assert!(matches!(result, Err(RunError::Panicked(message)) if message == "no good"));
    let log = event_loop.state();
    let count = |what| log.iter().filter(|line| *line == what).count();
    assert_eq!((count("called"), count(CLOSED)), (1, 1));
    assert_eq!(broker.queue_len("/", "lasting"), Some(3));

    let mut ctx = event_loop.context();
    let mut view = ctx.connection(other).unwrap();
    view.open_channel(|ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.publish(&to("own"), &Properties::default(), "").unwrap();
    })
    .unwrap();
    event_loop.run().unwrap();
    let last = event_loop.state().len() - 2;
    assert_eq!(event_loop.state()[last..], ["the other one goes on", CLOSED]);
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

/// A loop with an open connection and channel, stopped.
fn opened(connector: &Connector) -> (EventLoop<Log>, ChannelRef) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(connector).unwrap();
    let mut ctx = event_loop.context();
    ctx.connection(connection).unwrap().on_open(|ctx, _| ctx.stop());
    event_loop.run().unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    let channel = view.open_channel(|ctx, _| ctx.stop()).unwrap();
    event_loop.run().unwrap();
    (event_loop, channel)
}

#[test]
fn a_broker_short_of_memory_says_so_and_says_when_that_is_over() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, channel) = opened(&connector(&broker));
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(channel.connection()).unwrap();
    view.on_blocked(|ctx, _, reason| {
        note(ctx, format!("blocked: {reason}"));
        ctx.stop();
    });
    view.on_unblocked(|ctx, connection| {
        note(ctx, "unblocked");
        close(ctx, connection);
    });
    broker.with(|broker| broker.block("low on memory"));
    // The broker says so to those that publish.
    ctx.channel(channel)
        .unwrap()
        .publish(&to("nowhere"), &Properties::default(), &b"m"[..])
        .unwrap();
    event_loop.run().unwrap();
    let now = broker.now();
    broker.with(|broker| broker.unblock(now));
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["blocked: low on memory", "unblocked"]);
}

/// One message that is more than the sockets take, for a broker that does not read.
#[test]
fn too_much_is_told_once_and_so_is_the_room_after_it() {
    let broker = TestBroker::start().unwrap();
    let mut connector = connector(&broker);
    let config = &mut connector.parameters_mut().config;
    config.outbound_high_water = 1000;
    config.outbound_limit = 64 * 1024 * 1024;
    let (mut event_loop, channel) = opened(&connector);
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(channel.connection()).unwrap();
    view.set_backpressure_multiplier(2);
    view.on_backpressure(|ctx, _, edge| match edge {
        Backpressure::On { queued, limit } => {
            note(ctx, format!("too much: {}", queued > limit));
            ctx.stop();
        }
        Backpressure::Off { .. } => note(ctx, "less"),
        other => note(ctx, format!("{other:?}")),
    });
    view.on_writable(|ctx, connection| {
        note(ctx, "room");
        close(ctx, connection);
    });
    broker.with(|broker| broker.block("low on memory"));
    let mut view = ctx.channel(channel).unwrap();
    let body = vec![b'.'; 24 * 1024 * 1024];
    view.publish(&to("nowhere"), &Properties::default(), body)
        .unwrap();
    let full = view.publish(&to("nowhere"), &Properties::default(), &b"m"[..]);
    assert!(
        matches!(full, Err(SendError::Full { limit: 1000, .. })),
        "{full:?}"
    );
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["too much: true"]);
    let now = broker.now();
    broker.with(|broker| broker.unblock(now));
    event_loop.run().unwrap();
    // In either order.
    let rest = &mut event_loop.state_mut()[1..];
    rest.sort();
    assert_eq!(rest, ["less", "room"]);
}

#[test]
fn a_token_is_renewed() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, channel) = opened(&connector(&broker));
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(channel.connection()).unwrap();
    view.update_secret(&Secret::from("guest"), "it expires", |ctx, connection, answer| {
        answer.unwrap();
        note(ctx, "renewed");
        close(ctx, connection);
    })
    .unwrap();
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["renewed"]);
}

#[test]
fn a_loop_can_be_run_by_one_s_own() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, channel) = opened(&connector(&broker));
    let mut ctx = event_loop.context();
    ctx.call_later(Duration::from_millis(20), |ctx| note(ctx, "timer"));
    let start = Instant::now();
    event_loop.run_once(Duration::from_millis(5)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(5));
    while event_loop.state().is_empty() {
        event_loop.run_once(Duration::from_secs(30)).unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(20));
    *event_loop.state_mut() = vec!["mine".to_owned()];
    let mut ctx = event_loop.context();
    close(&mut ctx, channel.connection());
    while ctx.connection(channel.connection()).is_ok() {
        event_loop.run_once(Duration::from_secs(30)).unwrap();
        ctx = event_loop.context();
    }
    assert_eq!(event_loop.state(), &["mine"]);
}

#[test]
fn callbacks_of_a_channel_can_be_removed() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, channel) = opened(&connector(&broker));
    let mut ctx = event_loop.context();
    let mut view = ctx.channel(channel).unwrap();
    let added = [
        view.on_close(|ctx, _, _| note(ctx, "never")),
        view.on_return(|ctx, _, _| note(ctx, "never")),
        view.on_cancel(|ctx, _, _| note(ctx, "never")),
        view.on_confirm(|ctx, _, _, _| note(ctx, "never")),
    ];
    for callback in added {
        assert!(view.remove_callback(callback.unwrap()));
        assert!(!view.remove_callback(callback.unwrap()));
    }
    view.on_close(|ctx, channel, _| {
        note(ctx, "closed");
        close(ctx, channel.connection());
    })
    .unwrap();
    view.close(ReplyCode::REPLY_SUCCESS, "done").unwrap();
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["closed"]);
}
