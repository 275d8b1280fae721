//! A connection that is shut down finishes what is under way, and gives back the rest.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::{ConfirmSelect, Properties};
use amqp_mio::proto::{CloseReason, Delivery, DeliveryTag, SendError};
use amqp_mio::{ChannelRef, Connector, Ctx, Handle};

use super::World;
use super::client::{Client, Consumer, PATIENCE, Told, durable, from, to};

/// A queue with so many messages, that outlives the connection that is shut down.
fn work(world: &World, client: &mut Client, count: usize) -> (ChannelRef, String) {
    let (channel, name) = (client.channel(), world.name("work"));
    client.declare(channel, &durable(&name)).unwrap();
    for _ in 0..count {
        client.send(channel, &name, "x");
    }
    (channel, name)
}

fn take(client: &mut Client, consumer: &Consumer, count: usize, body: &str) {
    for _ in 0..count {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.body().to_vec(), body.as_bytes());
    }
}

/// Asks until so many messages are ready and nobody consumes.
fn until_left(client: &mut Client, channel: ChannelRef, queue: &str, messages: u32) {
    client.look_until(channel, queue, |seen| {
        (seen.message_count, seen.consumer_count) == (messages, 0)
    });
}

/// A channel in confirm mode of another connection on the same loop.
fn other_channel(client: &mut Client, world: &World) -> ChannelRef {
    let connector = Connector::from_uri(&world.url).unwrap();
    let connection = client.event_loop().connect(&connector).unwrap();
    let opened = Told::new();
    let open = opened.clone();
    let mut ctx = client.event_loop().context();
    ctx.connection(connection)
        .unwrap()
        .on_open(move |ctx, connection| {
            let open = open.clone();
            let mut view = ctx.connection(connection).unwrap();
            view.open_channel(move |ctx, channel| open.tell(ctx, channel))
                .unwrap();
        });
    let channel = client.wait(&opened);
    client.ask(channel, &ConfirmSelect::default()).unwrap();
    channel
}

/// What waits for a thread.
type Tasks = Mutex<mpsc::Receiver<DeliveryTag>>;

/// Waits for one; there is none when the consumer is gone.
fn next(tasks: &Tasks) -> Option<DeliveryTag> {
    tasks.lock().unwrap().recv().ok()
}

/// Has the loop publish that.
fn say(handle: &Handle<()>, channel: ChannelRef, queue: &str, word: &'static str) {
    let queue = queue.to_owned();
    let publish = move |ctx: &mut Ctx<'_, ()>| {
        let mut view = ctx.channel(channel).unwrap();
        view.publish(&to(&queue), &Properties::default(), word.as_bytes())
            .unwrap();
    };
    handle.call_soon(publish).unwrap();
}

pub(crate) fn handlers_finish_and_what_was_not_taken_goes_back(world: World) {
    const COUNT: usize = 100;
    const LIMIT: usize = 4;
    let mut client = world.connect();
    let (watcher, queue) = work(&world, &mut client, COUNT);
    let (_, news) = client.queue();
    let heard = client.consume(watcher, &from(&news)).unwrap();

    let worker = other_channel(&mut client, &world);
    let (task, tasks) = mpsc::channel();
    let (tasks, gate) = (Arc::new(Mutex::new(tasks)), Arc::new(Mutex::new(())));
    let is_shut = gate.lock().unwrap();
    let handlers = [(); LIMIT].map(|()| {
        let (tasks, gate) = (Arc::clone(&tasks), Arc::clone(&gate));
        let (handle, news) = (client.event_loop().handle(), news.clone());
        thread::spawn(move || {
            while let Some(tag) = next(&tasks) {
                say(&handle, watcher, &news, "started");
                drop(gate.lock().unwrap());
                say(&handle, worker, &news, "done");
                let ack = move |ctx: &mut Ctx<'_, ()>| ctx.channel(worker).unwrap().ack(tag).unwrap();
                handle.call_soon(ack).unwrap();
            }
        })
    });
    let leaving = Rc::new(Cell::new(false));
    let is_leaving = Rc::clone(&leaving);
    let on_message = move |ctx: &mut Ctx<'_, ()>, channel, delivery: Delivery| {
        if is_leaving.get() {
            // It was on its way.
            ctx.channel(channel).unwrap().nack(delivery.tag, true).unwrap();
        } else {
            task.send(delivery.tag).unwrap();
        }
    };
    client
        .on(worker, |view| view.consume(&from(&queue), on_message))
        .unwrap();
    take(&mut client, &heard, LIMIT, "started");

    let reports = Told::new();
    let report = reports.clone();
    let mut ctx = client.event_loop().context();
    let mut view = ctx.connection(worker.connection()).unwrap();
    view.shutdown(PATIENCE, move |ctx, _, told| report.tell(ctx, told.clone()));
    leaving.set(true);
    for tag in tasks.lock().unwrap().try_iter() {
        ctx.channel(worker).unwrap().nack(tag, true).unwrap();
    }
    // While the handlers run.
    let left = u32::try_from(COUNT - LIMIT).unwrap();
    until_left(&mut client, watcher, &queue, left);
    let refused = client.on(worker, |view| view.consume(&from(&queue), |_, _, _| {}));
    assert_eq!(refused, Err(SendError::ShuttingDown));
    assert_eq!(reports.len(), 0);

    drop(is_shut);
    let report = client.wait(&reports);
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    assert!(report.given_back <= COUNT - LIMIT, "{report:?}");
    for handler in handlers {
        handler.join().unwrap();
    }
    take(&mut client, &heard, LIMIT, "done");
    assert_eq!(client.delete(watcher, &queue), left);
    assert_eq!((heard.deliveries.len(), reports.len()), (0, 0));
    let mut ctx = client.event_loop().context();
    let is_there = ctx.connection(worker.connection()).map(drop);
    assert_eq!(is_there, Err(SendError::Closed));
    client.close();
}

pub(crate) fn what_hangs_is_given_up_in_time_and_comes_again(world: World) {
    const COUNT: usize = 10;
    const HELD: usize = 3;
    let mut client = world.connect();
    let (watcher, queue) = work(&world, &mut client, COUNT);
    let mut worker = world.connect();
    let channel = worker.channel();
    let consumer = worker.consume(channel, &from(&queue)).unwrap();
    let deliveries: Vec<_> = (0..COUNT).map(|_| worker.wait(&consumer.deliveries)).collect();
    for delivery in deliveries.iter().skip(HELD) {
        worker.on(channel, |view| view.nack(delivery.tag, true)).unwrap();
    }
    let (timeout, begin) = (Duration::from_millis(400), Instant::now());
    let report = worker.shut_down(timeout);
    // A half of it is for the close, which takes next to nothing.
    assert!(begin.elapsed() >= timeout / 2);
    assert_eq!(
        (report.unsettled, report.unconfirmed, report.consumers),
        (HELD, 0, 0)
    );
    let mut ctx = worker.event_loop().context();
    assert_eq!(ctx.channel(channel).map(drop), Err(SendError::Closed));
    until_left(&mut client, watcher, &queue, u32::try_from(COUNT).unwrap());
    let again = client.consume(watcher, &from(&queue)).unwrap();
    for _ in 0..HELD {
        let delivery = client.wait(&again.deliveries);
        assert!(delivery.redelivered);
        client.on(watcher, |view| view.ack(delivery.tag)).unwrap();
    }
    client.cancel(watcher, again.id);
    client.delete(watcher, &queue);
    client.close();
}
