//! Tasks, and who does them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use amqp_async::worker::{Master, Outcome, WorkerOptions};
use amqp_async::{PoisonPolicy, PublishError};

use super::{World, close, table};

pub(crate) async fn tasks_are_done_and_settled_by_their_outcome(world: World) {
    let (dead, name) = (world.queue().await, world.name("tasks"));
    let channel = dead.channel();
    let master = Master::new(channel);
    let arguments = table(&[
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", (&dead.name()).into()),
    ]);
    let options = WorkerOptions::default().concurrency(2).arguments(arguments);
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let done = Arc::clone(&done);
        let worker = master.start_worker(&name, options.clone(), move |task| {
            let body = String::from_utf8(task.body().into_owned());
            let done = Arc::clone(&done);
            async move {
                let body = body?;
                let is_new = {
                    let mut done = done.lock().unwrap();
                    let is_new = !done.contains(&body);
                    done.push(body.clone());
                    is_new
                };
                match &*body {
                    "later" if is_new => Ok(Outcome::Requeue),
                    "never" => Ok(Outcome::Reject),
                    "broken" => Err("it is broken".into()),
                    _ => Ok(Outcome::Ack),
                }
            }
        });
        workers.push(worker.await.unwrap());
    }
    for task in ["one", "later", "never", "broken", "two"] {
        master.create_task(&name, task).await.unwrap();
    }
    let mut failed = Vec::new();
    let mut consumer = dead.consume().await.unwrap();
    for _ in 0..2 {
        let delivery = consumer.next().await.unwrap().unwrap();
        assert_eq!(delivery.properties().delivery_mode, Some(2));
        failed.push(String::from_utf8(delivery.body().into_owned()).unwrap());
        delivery.ack().await.unwrap();
    }
    failed.sort();
    assert_eq!(failed, ["broken", "never"]);
    while done.lock().unwrap().len() < 6 {
        // A round trip, while which others go on.
        channel.declare_queue(dead.name()).passive(true).await.unwrap();
    }
    for worker in workers {
        worker.stop().await.unwrap();
    }
    let mut done = done.lock().unwrap().clone();
    done.sort();
    assert_eq!(done, ["broken", "later", "later", "never", "one", "two"]);
    // Their channels say so to the queue, which has it a moment later.
    while channel
        .declare_queue(&*name)
        .passive(true)
        .await
        .unwrap()
        .consumer_count()
        != Some(0)
    {}
    // All was settled: nothing comes back from the workers' channels.
    assert_eq!(channel.queue(&*name).delete_if(true, true).await, Ok(0));
    close(channel.connection()).await;
}

pub(crate) async fn a_task_that_nobody_ever_did_comes_back(world: World) {
    let channel = world.channel().await;
    let created = Master::new(&channel)
        .create_task(&world.name("unknown"), "task")
        .await;
    assert!(matches!(created, Err(PublishError::Returned(_))), "{created:?}");
    close(channel.connection()).await;
}

pub(crate) async fn a_task_that_always_fails_is_parked(world: World) {
    let (parked, name) = (world.queue().await, world.name("tasks"));
    let channel = parked.channel();
    let master = Master::new(channel);
    let options = WorkerOptions::default()
        .requeue(true)
        .arguments(table(&[("x-queue-type", "quorum".into())]))
        .poison(PoisonPolicy::after(2).parked_in(parked.name()));
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let worker = master.start_worker(&name, options, move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        async { Err("it always fails".into()) }
    });
    let worker = worker.await.unwrap();
    master.create_task(&name, "task").await.unwrap();
    let mut consumer = parked.consume().await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
    delivery.ack().await.unwrap();
    worker.stop().await.unwrap();
    assert_eq!(channel.queue(&*name).delete().await, Ok(0));
    close(channel.connection()).await;
}
