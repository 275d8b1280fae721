//! A loop that has nothing to do does nothing.

use std::time::{Duration, Instant};

use amqp_mio::EventLoop;
use amqp_mio::proto::Heartbeat;

use crate::world::{CLOSED, Log, World, close, note};

everywhere! {
    it_wakes_for_heartbeats_only
}

/// Longer than a heartbeat, and shorter than what is taken for a dead broker.
const LIMIT: Duration = Duration::from_secs(30);

fn it_wakes_for_heartbeats_only(world: &World) {
    let mut connector = world.connector.clone();
    connector.parameters_mut().config.heartbeat = Heartbeat::Seconds(2);
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(|ctx, _| ctx.stop());
    view.on_close(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
    event_loop.run().unwrap();

    let heartbeats = |event_loop: &mut EventLoop<Log>| {
        let mut ctx = event_loop.context();
        let view = ctx.connection(connection).unwrap();
        let counters = view.core().unwrap().counters();
        counters.heartbeats_sent + counters.heartbeats_received
    };
    // The last words of the handshake may be on their way.
    while heartbeats(&mut event_loop) == 0 {
        event_loop.run_once(LIMIT).unwrap();
    }
    let (start, before) = (Instant::now(), heartbeats(&mut event_loop));
    let mut polls = 0;
    while heartbeats(&mut event_loop) < before + 6 {
        event_loop.run_once(LIMIT).unwrap();
        polls += 1;
    }
    assert!(polls <= 6, "{polls} polls for 6 heartbeats");
    // We send one each second, and so does the broker.
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());

    close(&mut event_loop.context(), connection);
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &[CLOSED]);
}
