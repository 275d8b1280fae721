//! A connection that is shut down finishes what is under way, and gives back the rest.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use amqp_async::proto::SendError;
use amqp_async::{Connection, Consumer, Error, Message, ProcessOptions, Queue};

use super::{World, close};

/// What handlers wait for.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        gate.1.drain(..).for_each(Waker::wake);
    }

    fn passed(&self) -> impl Future<Output = ()> + Send + use<> {
        let gate = Arc::clone(&self.0);
        poll_fn(move |cx| {
            let mut gate = gate.lock().unwrap();
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
    }
}

/// A queue with so many messages, that outlives the connection that is shut down.
async fn work(world: &World, watcher: &Connection, count: usize) -> Queue {
    let channel = watcher.channel().await.unwrap();
    let declare = channel.declare_queue(world.name("work")).durable(true);
    let queue = declare.await.unwrap();
    let exchange = channel.default_exchange();
    for _ in 0..count {
        exchange.publish("x", queue.name()).await.unwrap();
    }
    queue
}

async fn take(consumer: &mut Consumer, count: usize) {
    for _ in 0..count {
        consumer.next().await.unwrap().unwrap().ack().await.unwrap();
    }
}

/// Asks until so many messages are ready and so many consumers are there.
async fn until(queue: &Queue, messages: u32, consumers: u32) {
    loop {
        let seen = queue.declare().passive(true).await.unwrap();
        if (seen.message_count(), seen.consumer_count()) == (Some(messages), Some(consumers)) {
            return;
        }
    }
}

pub(crate) async fn handlers_finish_and_what_was_not_taken_goes_back(world: World) {
    const COUNT: usize = 100;
    const LIMIT: usize = 4;
    let watcher = world.connect().await;
    let queue = work(&world, &watcher, COUNT).await;
    let channel = queue.channel();
    let news = channel.declare_queue("").exclusive(true).await.unwrap();
    let mut heard = news.consume().await.unwrap();

    let connection = world.connect().await;
    let worker = connection.channel().await.unwrap();
    let (gate, exchange) = (Gate::default(), channel.default_exchange());
    let results = worker.default_exchange();
    let (passed, news) = (gate.clone(), news.name().to_owned());
    let consumer = worker.queue(queue.name()).consume().await.unwrap();
    let handling = consumer.handle(LIMIT, ProcessOptions::default(), move |_| {
        let (passed, news) = (passed.passed(), news.clone());
        let (exchange, results) = (exchange.clone(), results.clone());
        async move {
            exchange.publish("started", &news).await?;
            passed.await;
            results.publish(Message::new("done"), &news).await?;
            Ok(())
        }
    });
    take(&mut heard, LIMIT).await;

    let report = crate::runtime::thread({
        let connection = connection.clone();
        async move { connection.shutdown(Duration::from_secs(60)).await }
    });
    // While the handlers run.
    let left = u32::try_from(COUNT - LIMIT).unwrap();
    until(&queue, left, 0).await;
    let refused = worker.queue(queue.name()).consume().await.unwrap_err();
    assert_eq!(refused, Error::Refused(SendError::ShuttingDown));
    assert!(!connection.is_closed());

    gate.open();
    let report = report.await;
    assert!(report.is_complete(), "{report:?}");
    assert!(report.given_back <= COUNT - LIMIT, "{report:?}");
    handling.ended().await.unwrap();
    take(&mut heard, LIMIT).await;
    assert_eq!(queue.delete().await.unwrap(), left);
    assert_eq!(connection.close().await, report);
    close(&watcher).await;
}

pub(crate) async fn what_hangs_is_given_up_in_time_and_comes_again(world: World) {
    const HELD: usize = 3;
    let watcher = world.connect().await;
    let queue = work(&world, &watcher, 10).await;
    let connection = world.connect().await;
    let worker = connection.channel().await.unwrap();
    let mut consumer = worker.queue(queue.name()).consume().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..HELD {
        held.push(consumer.next().await.unwrap().unwrap());
    }
    let (timeout, begin) = (Duration::from_millis(400), Instant::now());
    let report = connection.shutdown(timeout).await;
    // A half of it is for the close, which takes next to nothing.
    assert!(begin.elapsed() >= timeout / 2);
    assert_eq!(
        (report.unsettled, report.unconfirmed, report.consumers),
        (HELD, 0, 0)
    );
    for delivery in held {
        delivery.ack().await.unwrap_err();
    }
    until(&queue, 10, 0).await;
    let mut again = queue.consume().await.unwrap();
    for _ in 0..HELD {
        let delivery = again.next().await.unwrap().unwrap();
        assert!(delivery.is_redelivered());
        delivery.ack().await.unwrap();
    }
    again.cancel().await.unwrap();
    queue.delete().await.unwrap();
    close(&watcher).await;
}
