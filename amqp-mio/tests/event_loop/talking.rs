//! Callbacks on a connection that works.

use std::time::Duration;

use amqp_mio::proto::wire::{BasicGet, BasicPublish, BasicQos, ConfirmSelect, Properties, QueueDelete};
use amqp_mio::proto::{ChannelCloseReason, ConfirmOutcome, Delivery, RequestError, SendError};
use amqp_mio::{Ctx, EventLoop, PostError, RunError};

use crate::world::{CLOSED, Log, World, close, from, note, passive, queue, short, to, unique};

everywhere! {
    one_callback_leads_to_the_next after_close_it_runs_until_it_is_closed other_threads_call_into_the_loop
    callbacks_may_remove_and_add_callbacks a_panic_closes_its_connection_and_is_told
    a_closed_channel_says_why_and_fails_what_waits a_get_brings_a_message_or_nothing what_no_queue_takes_comes_back
    a_consumer_ends_with_its_queue_or_when_it_is_cancelled channels_have_the_next_number_or_a_chosen_one
    a_consumer_s_callback_ends_it what_is_refused_comes_again
}

fn one_callback_leads_to_the_next(world: &World) {
    let name = unique("steps");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.request(&ConfirmSelect::default(), |ctx, _, ok| {
            note(ctx, format!("{:?}", ok.is_ok()))
        })
        .unwrap();
        view.request(&queue(&name), move |ctx, channel, answer| {
            let ok = answer.unwrap();
            let name = ok.queue.to_string();
            let text = format!("declared with {}", ok.message_count);
            note(ctx, text);
            let mut view = ctx.channel(channel).unwrap();
            let again = name.clone();
            view.consume(&from(&name), move |ctx, channel, delivery| {
                note(ctx, String::from_utf8(delivery.message.body().to_vec()).unwrap());
                let mut view = ctx.channel(channel).unwrap();
                view.ack(delivery.tag).unwrap();
                view.request(&passive(&again), |ctx, channel, answer| {
                    note(ctx, format!("{} left", answer.unwrap().message_count));
                    close(ctx, channel.connection());
                })
                .unwrap();
            })
            .unwrap();
            view.publish_confirmed(
                &to(&name),
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
    // The broker may say these in any order.
    seen[2..5].sort();
    assert_eq!(
        seen,
        ["true", "declared with 0", "0 left", "confirmed", "hello", CLOSED]
    );
}

fn after_close_it_runs_until_it_is_closed(world: &World) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&world.connector).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    assert!(!view.is_open());
    view.on_open(|ctx, connection| {
        assert!(ctx.connection(connection).unwrap().is_open());
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

fn other_threads_call_into_the_loop(world: &World) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&world.connector).unwrap();
    let handle = event_loop.handle();
    let (open, is_open) = std::sync::mpsc::channel();
    event_loop
        .context()
        .connection(connection)
        .unwrap()
        .on_open(move |_, _| open.send(()).unwrap());
    let thread = std::thread::spawn(move || {
        is_open.recv().unwrap();
        handle
            .call_soon(move |ctx| {
                note(ctx, "called");
                close(ctx, connection);
            })
            .unwrap();
        handle
    });
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["called"]);
    let handle = thread.join().unwrap();
    drop(event_loop);
    assert_eq!(handle.call_soon(|_| ()), Err(PostError::Gone));
}

fn callbacks_may_remove_and_add_callbacks(world: &World) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&world.connector).unwrap();
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

fn a_panic_closes_its_connection_and_is_told(world: &World) {
    let (log, result) = world.run(|_, _| panic!("oh no"));
    assert!(matches!(result, Err(RunError::Panicked(message)) if message == "oh no"));
    assert_eq!(log, [CLOSED]);
}

fn a_closed_channel_says_why_and_fails_what_waits(world: &World) {
    let name = unique("missing");
    let expected = format!("no queue '{name}' in vhost '/'");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.on_close(|ctx, channel, reason| {
            assert!(matches!(reason, ChannelCloseReason::Peer(_)));
            note(ctx, reason.to_string());
            close(ctx, channel.connection());
        })
        .unwrap();
        view.request(&passive(&name), |ctx, _, answer| {
            assert!(matches!(answer, Err(RequestError::ChannelClosed(_))));
            note(ctx, "failed");
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log[0], "failed");
    assert!(log[1].contains(&expected), "{}", log[1]);
    assert_eq!(log[2], CLOSED);
}

fn a_get_brings_a_message_or_nothing(world: &World) {
    let name = unique("gets");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue(&name)).unwrap();
        let get = BasicGet {
            queue: short(&name),
            no_ack: true,
        };
        view.get(&get, |ctx, _, got| {
            note(ctx, format!("{:?}", got.unwrap().is_some()))
        })
        .unwrap();
        view.publish(&to(&name), &Properties::default(), &b"m"[..])
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

fn what_no_queue_takes_comes_back(world: &World) {
    let name = unique("nowhere");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.on_return(|ctx, _, returned| note(ctx, returned.text.clone()))
            .unwrap();
        view.on_confirm(|ctx, _, tags, outcome| note(ctx, format!("{} {outcome}", tags.count())))
            .unwrap();
        view.send_nowait(&ConfirmSelect::default()).unwrap();
        let mandatory = BasicPublish {
            mandatory: true,
            ..to(&name)
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

fn a_consumer_ends_with_its_queue_or_when_it_is_cancelled(world: &World) {
    let (one, two) = (unique("one"), unique("two"));
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue(&one)).unwrap();
        view.send_nowait(&queue(&two)).unwrap();
        view.consume(&from(&two), |_, _, _| panic!("nothing comes"))
            .unwrap();
        let source = one.clone();
        let cancelled = move |ctx: &mut Ctx<'_, Log>, channel, result: Result<(), RequestError>| {
            result.unwrap();
            note(ctx, "cancelled");
            let mut view = ctx.channel(channel).unwrap();
            view.publish(&to(&one), &Properties::default(), &b"m"[..])
                .unwrap();
            let get = BasicGet {
                queue: short(&one),
                no_ack: true,
            };
            view.get(&get, move |ctx, channel, got| {
                assert!(got.unwrap().is_some());
                note(ctx, "kept");
                let delete = QueueDelete {
                    queue: short(&two),
                    ..Default::default()
                };
                ctx.channel(channel).unwrap().send_nowait(&delete).unwrap();
            })
            .unwrap();
        };
        let never = |_: &mut Ctx<'_, Log>, _, _| panic!("nothing comes");
        view.consume_then(&from(&source), never, |ctx, channel, started| {
            let mine = started.unwrap();
            let mut view = ctx.channel(channel).unwrap();
            view.on_cancel(move |ctx, channel, consumer| {
                assert_ne!(consumer, mine);
                note(ctx, "its queue is gone");
                close(ctx, channel.connection());
            })
            .unwrap();
            view.cancel(mine, cancelled).unwrap();
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log, ["cancelled", "kept", "its queue is gone", CLOSED]);
}

fn channels_have_the_next_number_or_a_chosen_one(world: &World) {
    let (log, result) = world.run(|ctx, first| {
        assert_eq!(first.id().number(), 1);
        let mut view = ctx.connection(first.connection()).unwrap();
        assert_eq!(view.id(), first.connection());
        let in_use = view.open_channel_with_number(1, |_, _| panic!("it is in use"));
        assert_eq!(in_use, Err(SendError::ChannelInUse(1)));
        view.open_channel_with_number(7, |ctx, chosen| {
            assert_eq!(chosen.id().number(), 7);
            let view = ctx.channel(chosen).unwrap();
            assert_eq!(view.channel(), chosen);
            note(ctx, "chosen");
            let mut view = ctx.connection(chosen.connection()).unwrap();
            view.open_channel(|ctx, next| {
                note(ctx, format!("the next is {}", next.id().number()));
                close(ctx, next.connection());
            })
            .unwrap();
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log, ["chosen", "the next is 8", CLOSED]);
}

/// pika's example, which counts to ten.
fn a_consumer_s_callback_ends_it(world: &World) {
    let name = unique("ten");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue(&name)).unwrap();
        let one = BasicQos {
            prefetch_count: 1,
            ..Default::default()
        };
        view.request(&one, |_, _, answer| assert!(answer.is_ok()))
            .unwrap();
        for number in 1..=12 {
            let text = number.to_string();
            view.publish(&to(&name), &Properties::default(), text.as_str())
                .unwrap();
        }
        let source = name.clone();
        let on_message = move |ctx: &mut Ctx<'_, Log>, channel, delivery: Delivery| {
            note(ctx, String::from_utf8(delivery.message.body().to_vec()).unwrap());
            let is_tenth = ctx.state().len() == 10;
            let mut view = ctx.channel(channel).unwrap();
            if !is_tenth {
                view.ack(delivery.tag).unwrap();
                return;
            }
            let rest = name.clone();
            view.cancel(delivery.consumer, move |ctx, channel, result| {
                result.unwrap();
                let mut view = ctx.channel(channel).unwrap();
                view.ack(delivery.tag).unwrap();
                let get = BasicGet {
                    queue: short(&rest),
                    no_ack: true,
                };
                view.get(&get, |ctx, channel, got| {
                    let got = got.unwrap().unwrap();
                    assert_eq!(got.message.body().to_vec(), b"11");
                    close(ctx, channel.connection());
                })
                .unwrap();
            })
            .unwrap();
        };
        view.consume(&from(&source), on_message).unwrap();
    });
    result.unwrap();
    let expected = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", CLOSED];
    assert_eq!(log, expected);
}

fn what_is_refused_comes_again(world: &World) {
    let name = unique("again");
    let (log, result) = world.run(move |ctx, channel| {
        let mut view = ctx.channel(channel).unwrap();
        view.send_nowait(&queue(&name)).unwrap();
        view.publish(&to(&name), &Properties::default(), &b"m"[..])
            .unwrap();
        view.consume(&from(&name), |ctx, channel, delivery| {
            note(ctx, format!("{}", delivery.redelivered));
            let mut view = ctx.channel(channel).unwrap();
            view.nack(delivery.tag, !delivery.redelivered).unwrap();
            if delivery.redelivered {
                close(ctx, channel.connection());
            }
        })
        .unwrap();
    });
    result.unwrap();
    assert_eq!(log, ["false", "true", CLOSED]);
}

#[test]
fn timers_come_in_their_order_and_can_be_removed() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let mut ctx = event_loop.context();
    let at = Duration::from_millis;
    ctx.call_later(at(300), |ctx| note(ctx, "third"));
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
    assert_eq!(event_loop.state(), &["first", "second", "soon after", "third"]);
}
