//! Tasks, and threads that do them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use amqp_mio::proto::wire::{FieldTable, Properties, QueueDeclare, QueueDelete};
use amqp_mio::proto::{ConfirmOutcome, ConsumerId, Delivery};
use amqp_mio::{ChannelRef, Ctx};

use super::World;
use super::client::{Client, durable, from, mandatory, prefetch, short, table};
use super::poison::Policy;

/// What becomes of a task.
enum Outcome {
    Ack,
    Reject,
    Requeue,
}

/// Does tasks, on a channel of its own.
struct Worker {
    channel: ChannelRef,
    consumer: ConsumerId,
    work: Arc<Work>,
}

type Handler = Box<dyn Fn(&[u8]) -> Result<Outcome, String> + Send + Sync>;

struct Work {
    handler: Handler,
    policy: Policy,
    unsettled: AtomicUsize,
}

impl Worker {
    /// Does so many tasks at the same time, each on a thread.
    fn start(
        client: &mut Client,
        queue: &str,
        arguments: &FieldTable,
        concurrency: u16,
        policy: Policy,
        handler: impl Fn(&[u8]) -> Result<Outcome, String> + Send + Sync + 'static,
    ) -> Self {
        let channel = client.channel();
        let declare = QueueDeclare {
            arguments: arguments.as_ref(),
            ..durable(queue)
        };
        client.declare(channel, &declare).unwrap();
        client.ask(channel, &prefetch(concurrency)).unwrap();
        let work = Arc::new(Work {
            handler: Box::new(handler),
            policy,
            unsettled: AtomicUsize::new(0),
        });
        let works = Arc::clone(&work);
        let on_task = move |ctx: &mut Ctx<'_, ()>, channel, task: Delivery| {
            let (work, handle) = (Arc::clone(&works), ctx.handle());
            work.unsettled.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || {
                let result = (work.handler)(&task.message.body());
                handle
                    .call_soon(move |ctx| work.settle(ctx, channel, &task, result))
                    .unwrap();
            });
        };
        let consumer = client.consume_by(channel, &from(queue), on_task).unwrap();
        Self {
            channel,
            consumer,
            work,
        }
    }

    /// Takes nothing more, and waits until all that was taken is settled.
    fn stop(self, client: &mut Client) {
        client.cancel(self.channel, self.consumer);
        client.run_until(|| self.work.unsettled.load(Ordering::Relaxed) == 0);
        client.close_channel(self.channel);
    }
}

impl Work {
    fn settle(
        self: Arc<Self>,
        ctx: &mut Ctx<'_, ()>,
        channel: ChannelRef,
        task: &Delivery,
        result: Result<Outcome, String>,
    ) {
        let mut view = ctx.channel(channel).unwrap();
        let settled = match result {
            Ok(Outcome::Ack) => view.ack(task.tag),
            Ok(Outcome::Reject) => view.nack(task.tag, false),
            Ok(Outcome::Requeue) => view.nack(task.tag, true),
            Err(_) => {
                let work = Arc::clone(&self);
                return self
                    .policy
                    .failed(ctx, channel, task, move |ctx| work.note_settled(ctx));
            }
        };
        settled.unwrap();
        self.note_settled(ctx);
    }

    /// Whoever waits for it looks again.
    fn note_settled(&self, ctx: &mut Ctx<'_, ()>) {
        self.unsettled.fetch_sub(1, Ordering::Relaxed);
        ctx.stop();
    }
}

fn create_task(client: &mut Client, channel: ChannelRef, queue: &str, task: &str) -> ConfirmOutcome {
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        ..Default::default()
    };
    client.publish(channel, &mandatory(queue), &persistent, task)
}

pub(crate) fn tasks_are_done_and_settled_by_their_outcome(world: World) {
    let mut client = world.connect();
    let (channel, dead) = client.queue();
    let name = world.name("tasks");
    let arguments = table(&[
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
    ]);
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let done = Arc::clone(&done);
        let handler = move |body: &[u8]| {
            let task = String::from_utf8(body.to_vec()).unwrap();
            let mut done = done.lock().unwrap();
            let is_new = !done.contains(&task);
            done.push(task.clone());
            match task.as_str() {
                "later" if is_new => Ok(Outcome::Requeue),
                "never" => Ok(Outcome::Reject),
                "broken" => Err("it is broken".into()),
                _ => Ok(Outcome::Ack),
            }
        };
        let policy = Policy::after(u64::MAX);
        workers.push(Worker::start(&mut client, &name, &arguments, 2, policy, handler));
    }
    for task in ["one", "later", "never", "broken", "two"] {
        let created = create_task(&mut client, channel, &name, task);
        assert_eq!(created, ConfirmOutcome::Acked);
    }
    let consumer = client.consume(channel, &from(&dead)).unwrap();
    let mut failed = Vec::new();
    for _ in 0..2 {
        let delivery = client.wait(&consumer.deliveries);
        assert_eq!(delivery.message.properties().delivery_mode, Some(2));
        failed.push(String::from_utf8(delivery.message.body().to_vec()).unwrap());
        client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    }
    failed.sort();
    assert_eq!(failed, ["broken", "never"]);
    client.run_until(|| done.lock().unwrap().len() >= 6);
    for worker in workers {
        worker.stop(&mut client);
    }
    let mut done = done.lock().unwrap().clone();
    done.sort();
    assert_eq!(done, ["broken", "later", "later", "never", "one", "two"]);
    // Their channels say so to the queue, which has it a moment later.
    client.look_until(channel, &name, |declared| declared.consumer_count == 0);
    // All was settled: nothing comes back from the workers' channels.
    let delete = QueueDelete {
        queue: short(&name),
        if_unused: true,
        if_empty: true,
        ..Default::default()
    };
    let left = client.ask_for(channel, &delete, |ok| ok.message_count);
    assert_eq!(left, Ok(0));
    client.close();
}

pub(crate) fn a_task_that_nobody_ever_did_comes_back(world: World) {
    let mut client = world.connect();
    let channel = client.channel();
    let created = create_task(&mut client, channel, &world.name("unknown"), "task");
    assert_eq!(created, ConfirmOutcome::Returned);
    client.close();
}

pub(crate) fn a_task_that_always_fails_is_parked(world: World) {
    let mut client = world.connect();
    let (channel, parked) = client.queue();
    let name = world.name("tasks");
    let arguments = table(&[("x-queue-type", "quorum".into())]);
    let policy = Policy {
        requeue: true,
        counting_in: Some(name.clone()),
        parking: Some(parked.clone()),
        ..Policy::after(2)
    };
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let worker = Worker::start(&mut client, &name, &arguments, 1, policy, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Err("it always fails".into())
    });
    let created = create_task(&mut client, channel, &name, "task");
    assert_eq!(created, ConfirmOutcome::Acked);
    let consumer = client.consume(channel, &from(&parked)).unwrap();
    let delivery = client.wait(&consumer.deliveries);
    assert_eq!(delivery.message.body().to_vec(), b"task");
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    client.on(channel, |view| view.ack(delivery.tag)).unwrap();
    worker.stop(&mut client);
    assert_eq!(client.delete(channel, &name), 0);
    client.close();
}
