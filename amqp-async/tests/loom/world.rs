//! What the models share: a broker at the other end of a stream that never waits, a clock that stands still, and tasks that are
//! threads of loom's.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use amqp_async::{Channel, ChannelOptions, Connection, Driver, Timer, Transport};
use amqp_proto::wire::ReplyCode;
use amqp_proto::{CloseReason, Config, Heartbeat, Instant, RecvBuf, SendBuf};
use amqp_testbroker::{Broker, BrokerConfig, ConnectionKey};
use bytes::Buf;
use loom::model::Builder;
use loom::sync::Condvar;
use loom::thread::{self, JoinHandle};

/// Of each thread, in words. Loom's own measure is too small for a debug build of all that happens in a poll.
const STACK: usize = 128 * 1024;

/// How often loom may have a choice in one run, the handshake included: it only ends runs that do not end by themselves.
const MOST_BRANCHES: usize = 20_000;

/// Runs a model in the orders that loom finds to differ if a thread that could go on is stopped so many times at most, or as often as
/// `LOOM_MAX_PREEMPTIONS` says. A lost wake-up takes one: stopped between the look and the wait, or the wake and the change. But loom
/// chooses nothing more behind the last stop, not even who goes on when a thread waits, so it is two at least.
/// Nobody wakes who waits for ever, and time stands still: loom calls that a deadlock, and the model fails. What is dropped after that
/// takes the lock as well, so that the process mostly ends there: the first message is the one that counts.
pub(crate) fn model(preemptions: usize, run: impl Fn(World) + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = MOST_BRANCHES;
    let run = Arc::new(run);
    let orders = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&orders);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        let run = Arc::clone(&run);
        // The first thread of a model has a small stack.
        join(spawn(move || run(World::new())));
    });
    let orders = orders.load(Ordering::Relaxed);
    println!(
        "{orders} orders: {}",
        std::thread::current().name().unwrap_or_default()
    );
    assert!(orders > 1, "the threads do not meet");
}

pub(crate) fn spawn<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let builder = thread::Builder::new().stack_size(STACK);
    builder.spawn(run).expect("loom has room for a thread")
}

pub(crate) fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().expect("it has not panicked")
}

/// A connection that is open, and a driver that nobody polls yet.
pub(crate) struct World {
    pub(crate) connection: Connection,
    pub(crate) peer: Peer,
    driver: Driver<End, Clock>,
    tasks: Tasks,
}

/// What was spawned.
type Tasks = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl World {
    fn new() -> Self {
        let peer = Peer::new();
        let config = Arc::new(Config::default().heartbeat(Heartbeat::Off));
        let end = End { peer: peer.clone() };
        let tasks = Tasks::default();
        let spawned = Arc::clone(&tasks);
        let spawner = move |task| lock(&spawned).push(spawn(|| block_on(task)));
        let (connection, driver) = Connection::start(config, end, Clock, Arc::new(spawner));
        let mut world = Self {
            connection: connection.clone(),
            peer,
            driver,
            tasks,
        };
        world.run(connection.ready()).expect("the broker lets us in");
        world
    }

    /// Does that in this thread, with what the driver does for it; no other one goes on meanwhile.
    pub(crate) fn run<F: Future>(&mut self, future: F) -> F::Output {
        loom::stop_exploring();
        let output = self.drive_here(future);
        loom::explore();
        output
    }

    fn drive_here<F: Future>(&mut self, future: F) -> F::Output {
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = pin!(future);
        for _ in 0..100 {
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
            assert!(pin!(&mut self.driver).poll(&mut cx).is_pending());
        }
        panic!("the broker does not answer");
    }

    pub(crate) fn channel(&mut self) -> Channel {
        self.channel_with(ChannelOptions::default())
    }

    pub(crate) fn channel_with(&mut self, options: ChannelOptions) -> Channel {
        let connection = self.connection.clone();
        self.run(connection.channel_with(options)).expect("it is opened")
    }

    /// Waits until all tasks are done that were spawned.
    pub(crate) fn join_tasks(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.into_iter().for_each(join);
    }

    /// The driver gets its thread, and this one keeps no handle.
    pub(crate) fn drive(self) -> JoinHandle<CloseReason> {
        let Self { driver, .. } = self;
        spawn(|| block_on(driver))
    }

    /// The driver gets a thread for one poll, and is dropped.
    pub(crate) fn drive_once(self) -> JoinHandle<()> {
        let Self { driver, .. } = self;
        spawn(|| drop(poll_once(driver)))
    }

    /// The same, but the driver's waker keeps a handle, and looks at the connection.
    pub(crate) fn drive_looking(self) -> JoinHandle<CloseReason> {
        let Self {
            connection, driver, ..
        } = self;
        spawn(move || block_on_looking(driver, &connection))
    }
}

/// A thread that polls a future.
struct Task {
    is_woken: loom::sync::Mutex<bool>,
    changed: Condvar,
    /// Whoever wakes this task must be able to use it.
    connection: Option<Connection>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if let Some(connection) = &self.connection {
            // Loom finds it if the lock is held here, since this would take it twice.
            let _ = connection.is_closed();
        }
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

impl Task {
    fn wait(&self) {
        let mut is_woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_woken {
            is_woken = self
                .changed
                .wait(is_woken)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *is_woken = false;
    }
}

/// Polls the future when it is woken, and never otherwise.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    run_task(future, None)
}

/// The same; and whoever wakes it looks at the connection, which takes its lock.
pub(crate) fn block_on_looking<F: Future>(future: F, connection: &Connection) -> F::Output {
    run_task(future, Some(connection.clone()))
}

fn run_task<F: Future>(future: F, connection: Option<Connection>) -> F::Output {
    let task = Arc::new(Task {
        is_woken: loom::sync::Mutex::new(false),
        changed: Condvar::new(),
        connection,
    });
    let waker = Waker::from(Arc::clone(&task));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        task.wait();
    }
}

/// Polls a future once, with a waker that wakes nobody, and drops it.
pub(crate) fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A future that is ready at once.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match poll_once(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Of std, not loom's: it is only held where no thread is stopped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The broker, and what is on its way to and from it.
#[derive(Clone)]
pub(crate) struct Peer {
    inner: Arc<Mutex<PeerState>>,
}

struct PeerState {
    broker: Broker,
    key: ConnectionKey,
    input: RecvBuf,
    output: SendBuf,
    /// The stream ends as soon as something more is written to it.
    is_to_end: bool,
    is_ended: bool,
    reader: Option<Waker>,
    /// Who waits for a change of the broker's.
    watcher: Option<Waker>,
}

impl Peer {
    fn new() -> Self {
        let mut broker = Broker::new(BrokerConfig::default());
        let key = broker.accept(Instant::EPOCH);
        let inner = PeerState {
            broker,
            key,
            input: RecvBuf::new(),
            output: SendBuf::new(),
            is_to_end: false,
            is_ended: false,
            reader: None,
            watcher: None,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn with<R>(&self, look: impl FnOnce(&mut PeerState) -> R) -> R {
        look(&mut lock(&self.inner))
    }

    /// Does something to the broker, or looks at it.
    pub(crate) fn broker<R>(&self, act: impl FnOnce(&mut Broker, ConnectionKey) -> R) -> R {
        let (result, reader) = self.with(|peer| (act(&mut peer.broker, peer.key), peer.reader.take()));
        reader.into_iter().for_each(Waker::wake);
        result
    }

    /// The broker closes the connection, if it is not over.
    pub(crate) fn close(&self) {
        let (code, text) = (ReplyCode::CONNECTION_FORCED, "so it is");
        self.broker(|broker, key| broker.close_connection(key, Instant::EPOCH, code, text));
    }

    /// How many messages wait in a queue.
    pub(crate) fn queue_len(&self, queue: &str) -> usize {
        let len = self.broker(|broker, _| broker.queue_len("/", queue));
        len.expect("there is that queue")
    }

    /// Waits until a queue has so many messages.
    pub(crate) async fn filled(&self, queue: &str, count: usize) {
        std::future::poll_fn(|cx| {
            self.with(|peer| {
                if peer.broker.queue_len("/", queue) == Some(count) {
                    return Poll::Ready(());
                }
                peer.watcher = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// The next octets that are written to the stream are its last, and answered by nothing.
    pub(crate) fn end_at_next_write(&self) {
        self.with(|peer| peer.is_to_end = true);
    }
}

/// The client's end of the stream.
struct End {
    peer: Peer,
}

impl Transport for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.peer.with(|peer| {
            if !peer.output.has_remaining() && !peer.is_ended {
                peer.broker
                    .poll_transmit(peer.key, Instant::EPOCH, &mut peer.output);
            }
            let count = peer.output.remaining().min(buffer.len());
            peer.output.copy_to_slice(&mut buffer[..count]);
            if count == 0 && !peer.is_ended && !peer.broker.is_over(peer.key) {
                peer.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        })
    }

    fn poll_write(&mut self, _: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let (count, watcher) = self.peer.with(|peer| {
            peer.is_ended |= peer.is_to_end;
            let mut count = 0;
            for buffer in buffers {
                count += peer.input.extend(buffer);
            }
            if peer.is_ended {
                peer.input.consume(count);
            } else {
                peer.broker
                    .handle_input(peer.key, Instant::EPOCH, &mut peer.input);
            }
            (count, peer.watcher.take())
        });
        watcher.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.peer.with(|peer| {
            peer.broker.handle_disconnect(peer.key, Instant::EPOCH);
            peer.is_ended = true;
        });
        Poll::Ready(Ok(()))
    }
}

/// Stands still.
struct Clock;

impl Timer for Clock {
    fn now(&self) -> Instant {
        Instant::EPOCH
    }

    fn poll_until(&mut self, _: &mut Context<'_>, _: Instant) -> Poll<()> {
        Poll::Pending
    }
}
