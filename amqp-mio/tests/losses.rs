//! A connection that is lost a thousand times, in a process of its own: nothing may be left of the lives before.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, Properties, QueueDeclare, ReplyCode, ShortStr};
use amqp_mio::proto::{Backoff, ReconnectPolicy};
use amqp_mio::{ChannelRef, Connector, Ctx, EventLoop, Recovery};
use amqp_testbroker::TestBroker;

const LOSSES: u32 = 1000;

/// Of the process, in KiB: what it has in memory.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn count(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// How far it is.
#[derive(Debug, Default)]
struct State {
    delivered: u32,
    recovered: u32,
}

fn publish(ctx: &mut Ctx<'_, State>, channel: ChannelRef, queue: &str) {
    let to = BasicPublish {
        routing_key: ShortStr::new(queue).unwrap(),
        ..Default::default()
    };
    let mut view = ctx.channel(channel).unwrap();
    view.publish(&to, &Properties::default(), &b"hello"[..]).unwrap();
}

/// A consumer of a queue that the broker names; to each of its names something is published when it has it.
fn consume(ctx: &mut Ctx<'_, State>, channel: ChannelRef) {
    let name = Rc::new(RefCell::new(String::new()));
    let (declared, renamed, recovered) = (Rc::clone(&name), Rc::clone(&name), name);
    let mut view = ctx.connection(channel.connection()).unwrap();
    view.on_queue_renamed(move |_, _, old, new| {
        assert_eq!(*renamed.borrow(), old.to_string());
        *renamed.borrow_mut() = new.to_string();
    });
    view.on_recovered(move |ctx, _, report| {
        assert!(report.is_complete(), "{report:?}");
        ctx.state().recovered += 1;
        publish(ctx, channel, &recovered.borrow());
    });
    let mut view = ctx.channel(channel).unwrap();
    let declare = QueueDeclare {
        exclusive: true,
        ..Default::default()
    };
    view.request(&declare, move |ctx, channel, answer| {
        *declared.borrow_mut() = answer.unwrap().queue.to_string();
        publish(ctx, channel, &declared.borrow());
    })
    .unwrap();
    view.consume(&BasicConsume::default(), |ctx, channel, delivery| {
        ctx.channel(channel).unwrap().ack(delivery.tag).unwrap();
        ctx.state().delivered += 1;
        ctx.stop();
    })
    .unwrap();
}

#[test]
fn a_thousand_losses_leave_nothing_behind() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(State::default()).unwrap();
    let backoff = Backoff::new(1).initial(Duration::ZERO).jitter(0.0);
    let recovery = Recovery::new(ReconnectPolicy::new(backoff));
    // A name is looked up on a thread.
    let uri = format!("amqp://guest:guest@localhost:{}", broker.port());
    let connector = Connector::from_uri(&uri).unwrap();
    let connection = event_loop.connect_recovering(&connector, recovery).unwrap();
    let mut ctx = event_loop.context();
    ctx.call_later(Duration::from_secs(120), |_| panic!("it takes too long"));
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(|ctx, connection| {
        ctx.connection(connection).unwrap().open_channel(consume).unwrap();
    });
    let mut before = None;
    for loss in 0..LOSSES {
        event_loop.run().unwrap();
        assert_eq!(event_loop.state().delivered, loss + 1);
        // After as many as fill what is kept for later.
        if loss == LOSSES / 4 {
            before = Some((resident(), count("/proc/self/fd")));
        }
        let now = broker.now();
        broker.with(|broker| {
            for info in broker.connections() {
                broker.close_connection(info.key, now, ReplyCode::CONNECTION_FORCED, "again");
            }
        });
    }
    event_loop.run().unwrap();
    assert_eq!(event_loop.state().recovered, LOSSES);
    let (memory, files) = before.unwrap();
    let grown = resident().saturating_sub(memory);
    assert!(grown < 1024, "{grown} KiB more than the {memory} KiB before");
    // The broker closes its ends a little later.
    assert!(count("/proc/self/fd") <= files + 8, "{files} before");
    assert!(count("/proc/self/task") < 16);
    println!("{memory} KiB, {grown} more after {LOSSES} losses");
}
