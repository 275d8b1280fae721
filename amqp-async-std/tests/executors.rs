//! The executor is somebody else's: what pika's `TornadoConnection` is for. async-std has one for the whole process, which its connections
//! live on; who waits for them may be on any.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use amqp_async_std::proto::CloseReason;
use amqp_testbroker::TestBroker;
use async_std::task;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

type Told = (String, mpsc::Receiver<CloseReason>);

/// Connects, does the main job, and closes: the message, and where the end is told.
async fn session(url: String) -> Result<Told, Box<dyn Error + Send + Sync>> {
    let connection = amqp_async_std::connect(&url).await?;
    let (closed, is_closed) = mpsc::channel();
    connection.on_close(move |reason| drop(closed.send(reason)));
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("").exclusive(true).await?;
    channel.default_exchange().publish("Hello", queue.name()).await?;
    let mut consumer = queue.consume().await?;
    let delivery = consumer.next().await.ok_or("no message")??;
    let text = String::from_utf8(delivery.body().into_owned())?;
    delivery.ack().await?;
    connection.close().await;
    Ok((text, is_closed))
}

fn assert_told((text, closed): Told) {
    assert_eq!(text, "Hello");
    let reason = closed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(reason, CloseReason::Requested { acknowledged: true });
}

#[test]
fn that_of_async_std() {
    let broker = TestBroker::start().unwrap();
    let (done, is_done) = mpsc::channel();
    let session = session(broker.uri());
    task::spawn(async move { done.send(session.await).unwrap() });
    assert_told(is_done.recv_timeout(PATIENCE).unwrap().unwrap());
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor that knows nothing of async-std.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let left = PATIENCE.checked_sub(start.elapsed());
        thread::park_timeout(left.expect("it takes too long"));
    }
}

#[test]
fn one_that_knows_nothing_of_it() {
    let broker = TestBroker::start().unwrap();
    assert_told(block_on(session(broker.uri())).unwrap());
}
