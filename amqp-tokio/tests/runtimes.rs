//! The runtime is somebody else's: what pika's `TornadoConnection` is for. The connection lives there and brings no thread nor loop.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use amqp_testbroker::TestBroker;
use amqp_tokio::proto::CloseReason;
use amqp_tokio::{Connection, ConnectionEvent, connect};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an `on_open_callback` would begin.
async fn do_the_main_job(connection: &Connection) -> Result<String, Box<dyn Error + Send + Sync>> {
    let channel = connection.channel().await?;
    let queue = channel.declare_queue("").exclusive(true).await?;
    channel.default_exchange().publish("Hello", queue.name()).await?;
    let mut consumer = queue.consume().await?;
    let delivery = consumer.next().await.ok_or("no message")??;
    let text = String::from_utf8(delivery.body().into_owned())?;
    delivery.ack().await?;
    Ok(text)
}

const REQUESTED: CloseReason = CloseReason::Requested { acknowledged: true };

/// A runtime on a thread of its own, which ends when what comes with it is dropped.
fn runtime_of_another_thread() -> (Handle, oneshot::Sender<()>, thread::JoinHandle<()>) {
    let (give, handle) = mpsc::channel();
    let (keep, kept) = oneshot::channel::<()>();
    let thread = thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        give.send(runtime.handle().clone()).unwrap();
        runtime.block_on(kept).unwrap_err();
    });
    (handle.recv_timeout(PATIENCE).unwrap(), keep, thread)
}

#[test]
fn of_another_thread() {
    let broker = TestBroker::start().unwrap();
    let (runtime, keep, thread) = runtime_of_another_thread();
    let url = broker.uri();
    let (open, is_open) = mpsc::channel();
    let (closed, is_closed) = mpsc::channel();
    runtime.spawn(async move {
        let connection = connect(&url).await.unwrap();
        connection.on_close(move |reason| closed.send(reason).unwrap());
        open.send(connection).unwrap();
    });
    // This thread has no runtime. The handles work here all the same.
    let connection = is_open.recv_timeout(PATIENCE).unwrap();
    let (done, is_done) = mpsc::channel();
    let working = connection.clone();
    runtime.spawn(async move { done.send(do_the_main_job(&working).await).unwrap() });
    assert_eq!(is_done.recv_timeout(PATIENCE).unwrap().unwrap(), "Hello");
    assert!(is_closed.try_recv().is_err());
    runtime.spawn(async move { connection.close().await });
    assert_eq!(is_closed.recv_timeout(PATIENCE), Ok(REQUESTED));
    drop(keep);
    thread.join().unwrap();
}

/// Two runtimes: the connection lives on one, and is used from the other, which has neither its sockets nor its timers.
#[test]
fn of_another_thread_than_that_of_its_handles() {
    let broker = TestBroker::start().unwrap();
    let (theirs, keep, thread) = runtime_of_another_thread();
    let ours = Builder::new_current_thread().enable_time().build().unwrap();
    ours.block_on(async {
        let url = broker.uri();
        let connecting = theirs.spawn(async move { connect(&url).await });
        let connection = timeout(PATIENCE, connecting).await.unwrap().unwrap().unwrap();
        let text = timeout(PATIENCE, do_the_main_job(&connection)).await;
        assert_eq!(text.unwrap().unwrap(), "Hello");
        let report = timeout(PATIENCE, connection.close()).await.unwrap();
        assert_eq!(report.reason, REQUESTED);
    });
    drop(keep);
    thread.join().unwrap();
}

/// Everything on one thread, as in Tornado: tasks share what is not `Send`, and callbacks are called between them.
#[test]
fn of_one_thread_with_a_local_set() {
    let broker = TestBroker::start().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    let log = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&log);
    let url = broker.uri();
    local.spawn_local(async move {
        let connection = connect(&url).await.unwrap();
        noted.borrow_mut().push("open".to_owned());
        let mut events = connection.events();
        let watching = Rc::clone(&noted);
        let watch = tokio::task::spawn_local(async move {
            while let Some(event) = events.next().await {
                if let ConnectionEvent::Closed(reason) = event {
                    watching.borrow_mut().push(reason.to_string());
                }
            }
        });
        let text = do_the_main_job(&connection).await.unwrap();
        noted.borrow_mut().push(text);
        connection.close().await;
        watch.await.unwrap();
    });
    // It ends when all of its tasks have.
    runtime.block_on(async { timeout(PATIENCE, local).await.unwrap() });
    assert_eq!(*log.borrow(), ["open", "Hello", "closed on request"]);
}
