//! A loop without connections.

use amqp_mio::{EventLoop, PostError, RunError};

use crate::world::{Log, note};

fn panic_of(event_loop: &mut EventLoop<Log>) -> String {
    match event_loop.run() {
        Err(RunError::Panicked(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_is_told_with_its_message_and_the_loop_goes_on() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let mut ctx = event_loop.context();
    ctx.call_later(Default::default(), |ctx| {
        note(ctx, "before");
        panic!("in a timer");
    });
    assert_eq!(panic_of(&mut event_loop), "in a timer");
    let handle = event_loop.handle();
    handle
        .call_soon(|ctx| {
            let number = ctx.state().len();
            panic!("{number} note");
        })
        .unwrap();
    assert_eq!(panic_of(&mut event_loop), "1 note");
    handle.call_soon(|_| std::panic::panic_any(7)).unwrap();
    handle.call_soon(|ctx| note(ctx, "after")).unwrap();
    assert_eq!(panic_of(&mut event_loop), "without a message");
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["before", "after"]);
}

#[test]
fn calls_that_nobody_makes_do_not_take_all_the_memory() {
    let mut event_loop = EventLoop::new(0_u32).unwrap();
    let handle = event_loop.handle();
    for _ in 0..65_536 {
        handle.call_soon(|ctx| *ctx.state() += 1).unwrap();
    }
    assert_eq!(handle.call_soon(|_| ()), Err(PostError::Full));
    event_loop.run().unwrap();
    assert_eq!(*event_loop.state(), 65_536);
    handle.call_soon(|ctx| ctx.stop()).unwrap();
}

#[test]
fn a_loop_that_is_stopped_leaves_its_timers_for_the_next_run() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let handle = event_loop.context().handle();
    event_loop
        .context()
        .call_later(std::time::Duration::from_millis(300), |ctx| note(ctx, "timer"));
    handle.call_soon(|ctx| ctx.stop()).unwrap();
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &[""; 0]);
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["timer"]);
}

#[test]
fn debug_says_how_many_there_are() {
    let mut event_loop = EventLoop::new(()).unwrap();
    let connector = amqp_mio::Connector::from_uri("amqp://ann:s3cret@no.such.name.invalid").unwrap();
    let connection = event_loop.connect(&connector).unwrap();
    let mut ctx = event_loop.context();
    ctx.call_later(std::time::Duration::from_secs(1), |_| ());
    ctx.connection(connection).unwrap().on_open(|_, _| ());
    let text = format!("{event_loop:?}");
    for part in [
        "1 timers",
        "on_open: 1 callbacks",
        "on_close: 0 callbacks",
        "Handle",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}
