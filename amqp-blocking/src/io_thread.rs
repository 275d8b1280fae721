//! The thread that reads, writes and keeps time for connections, whatever their users are doing.
//!
//! It runs futures: drivers, and what handles leave to the background. A future is polled when its socket has an edge, its alarm is
//! due or its waker was called; otherwise the thread sleeps.
//!
//! To wake it for each of a thousand publishes in a row would cost more than the publishes. So a command wakes it at once only if there
//! was none for [`LINGER`]; another one waits for as long, or until the socket has something, or whoever gave it waits for something.
//! Behind a command whose sender waits for the answer it does not linger: nothing follows before that, and a timer for so little is dear.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use amqp_async::{Spawner, Task};
use amqp_mio::Stream;
use amqp_proto::Instant;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::transport::Socket;
use crate::wait::For;

/// The poll's own waker; tasks have the numbers above.
const WAKER: Token = Token(0);

/// How many sockets are looked at in one round.
const MOST_READY: usize = 256;

/// How long a command may wait that follows another one, if nobody waits for what comes of it. A poll counts in milliseconds.
const LINGER: Duration = Duration::from_millis(1);

/// A thread that reads, writes and keeps time for connections. Those of a process share one, which is started when it is first needed,
/// unless a [`Connector`](crate::Connector) is given another.
///
/// A thread of its own ends when neither a handle like this nor a connection needs it any more.
#[derive(Debug, Clone)]
pub struct IoThread {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    waker: mio::Waker,
    registry: Registry,
    epoch: std::time::Instant,
    next: AtomicUsize,
    wake_ups: AtomicU64,
}

/// What others have for the thread.
#[derive(Default)]
struct Queue {
    woken: Vec<usize>,
    new: Vec<(Arc<Signal>, Task)>,
    /// What is woken does not wait.
    is_urgent: bool,
    /// Whoever gave the last command waits for its answer.
    is_answer_awaited: bool,
    rest: Rest,
    /// No handle is left.
    is_abandoned: bool,
    /// The thread has ended, or is about to.
    is_over: bool,
}

/// What the thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rest {
    /// It looks into the queue before it sleeps.
    #[default]
    Awake,
    /// It sleeps, for [`LINGER`] at most.
    Lingering,
    Asleep,
}

thread_local! {
    /// The I/O thread that this thread had something for since it waited last; it may have been left at what it does.
    static TOLD: Cell<Option<Arc<Shared>>> = const { Cell::new(None) };

    static IS_IO_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// This thread is about to wait: what it had for an I/O thread is not left lying.
pub(crate) fn hurry(what: For) {
    // A thread that is ending has none any more.
    let shared = TOLD.try_with(Cell::take).ok().flatten();
    if let Some(shared) = shared {
        let mut queue = shared.lock();
        queue.is_answer_awaited = what == For::Answer;
        if !queue.woken.is_empty() {
            shared.wake(queue);
        }
    }
}

/// Tells of one task and its socket.
#[derive(Debug)]
pub(crate) struct Signal {
    number: usize,
    shared: Arc<Shared>,
    is_queued: AtomicBool,
    /// The socket may have something. Only the thread looks at these.
    pub(crate) is_readable: AtomicBool,
    /// Nothing will come behind what there is: no edge tells of more.
    is_last: AtomicBool,
    /// The socket may take something.
    pub(crate) is_writable: AtomicBool,
    /// When to poll the task, unless it is woken before; [`Instant::MAX`] is never.
    alarm: AtomicU64,
}

impl IoThread {
    /// Starts one, to be given to connectors.
    ///
    /// # Errors
    /// The system has no poll or no thread to give.
    pub fn start() -> io::Result<Self> {
        let poll = Poll::new()?;
        let shared = Arc::new(Shared::new(&poll)?);
        let handle = Handle {
            shared: Arc::clone(&shared),
        };
        let executor = Executor::new(shared);
        thread::Builder::new()
            .name("amqp-io".into())
            .spawn(move || executor.run(poll))?;
        Ok(Self {
            handle: Arc::new(handle),
        })
    }

    /// The one that this process shares.
    pub(crate) fn of_process() -> io::Result<Self> {
        static SHARED: Mutex<Option<IoThread>> = Mutex::new(None);
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match &*shared {
            Some(thread) if !thread.shared().lock().is_over => Ok(thread.clone()),
            _ => Ok(shared.insert(Self::start()?).clone()),
        }
    }

    /// How often it was woken so far: by sockets, by time, by commands.
    #[must_use]
    pub fn wake_ups(&self) -> u64 {
        self.shared().wake_ups.load(Ordering::Relaxed)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.is_abandoned = true;
        self.shared.wake(queue);
    }
}

impl Shared {
    fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::default(),
            waker: mio::Waker::new(poll.registry(), WAKER)?,
            registry: poll.registry().try_clone()?,
            epoch: std::time::Instant::now(),
            next: AtomicUsize::new(WAKER.0 + 1),
            wake_ups: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is something in the queue.
    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        queue.is_urgent = true;
        let rest = std::mem::take(&mut queue.rest);
        drop(queue);
        if rest != Rest::Awake {
            // If this fails, the poll is broken and the thread learns it there.
            let _ = self.waker.wake();
        }
    }

    /// There is something in the queue that can wait a moment, unless this thread comes to wait for it.
    fn wake_soon(self: &Arc<Self>, queue: MutexGuard<'_, Queue>) {
        if IS_IO_THREAD.try_with(Cell::get).unwrap_or(true) {
            return self.wake(queue);
        }
        match queue.rest {
            Rest::Asleep => self.wake(queue),
            Rest::Awake | Rest::Lingering => drop(queue),
        }
        let told = Some(Arc::clone(self));
        // What there was for another one is looked at when its time is over.
        drop(TOLD.try_with(|before| before.replace(told)));
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    fn new_signal(self: &Arc<Self>) -> Arc<Signal> {
        Arc::new(Signal {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            shared: Arc::clone(self),
            is_queued: AtomicBool::new(true),
            is_readable: AtomicBool::new(true),
            is_last: AtomicBool::new(false),
            is_writable: AtomicBool::new(true),
            alarm: AtomicU64::new(Instant::MAX.as_nanos()),
        })
    }

    /// For a stream and the task that will be [run](Self::run) with the socket's signal.
    pub(crate) fn socket(self: &Arc<Self>, stream: Stream) -> Socket {
        Socket::new(stream, self.new_signal())
    }

    /// Runs a task. When the thread has ended the task is dropped, and whoever waits for it learns that.
    pub(crate) fn run(&self, signal: Arc<Signal>, task: Task) {
        let mut queue = self.lock();
        if queue.is_over {
            drop(queue);
            return;
        }
        queue.new.push((signal, task));
        self.wake(queue);
    }

    /// For what goes on in the background of a connection.
    pub(crate) fn spawner(self: &Arc<Self>) -> Spawner {
        let shared = Arc::clone(self);
        Arc::new(move |task| shared.run(shared.new_signal(), task))
    }
}

impl Signal {
    /// Tells the task of this stream from now on; the one before is gone.
    pub(crate) fn watch(&self, stream: &mut Stream) -> io::Result<()> {
        let interests = Interest::READABLE | Interest::WRITABLE;
        self.shared
            .registry
            .register(stream, Token(self.number), interests)?;
        // What there is to read is told, but for what TLS has in hand.
        self.is_readable.store(stream.is_tls(), Ordering::Relaxed);
        self.is_last.store(false, Ordering::Relaxed);
        self.is_writable.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// All that had come was read.
    pub(crate) fn note_drained(&self) {
        if !self.is_last.load(Ordering::Relaxed) {
            self.is_readable.store(false, Ordering::Relaxed);
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.now()
    }

    /// Sets the alarm, which counts until the task is polled.
    pub(crate) fn set_alarm(&self, at: Instant) {
        self.alarm.store(at.as_nanos(), Ordering::Relaxed);
    }

    fn alarm(&self) -> Option<Instant> {
        let at = Instant::from_nanos(self.alarm.load(Ordering::Relaxed));
        (at != Instant::MAX).then_some(at)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            let mut queue = self.shared.lock();
            queue.woken.push(self.number);
            self.shared.wake_soon(queue);
        }
    }
}

struct Executor {
    shared: Arc<Shared>,
    tasks: HashMap<usize, Slot>,
    /// When to poll which of them, if nothing else happens.
    alarms: BTreeSet<(Instant, usize)>,
    /// Whose turn it is; empty between rounds.
    ready: Vec<usize>,
    /// Until when more commands may follow the last one.
    lingers_until: Instant,
}

struct Slot {
    task: Task,
    signal: Arc<Signal>,
    waker: Waker,
    /// Its entry among the alarms.
    alarm: Option<Instant>,
}

impl Executor {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            tasks: HashMap::new(),
            alarms: BTreeSet::new(),
            ready: Vec::new(),
            lingers_until: Instant::EPOCH,
        }
    }

    fn run(mut self, mut poll: Poll) {
        IS_IO_THREAD.set(true);
        let mut events = Events::with_capacity(MOST_READY);
        while let Some(timeout) = self.sleep() {
            match poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                // Without a poll nothing goes on: all tasks are dropped, which ends their connections.
                Err(_) => return,
                Ok(()) => {}
            }
            if timeout != Some(Duration::ZERO) {
                self.shared.wake_ups.fetch_add(1, Ordering::Relaxed);
            }
            for event in &events {
                self.on_event(event);
            }
            self.on_time();
            self.take_woken();
            let mut ready = std::mem::take(&mut self.ready);
            for number in ready.drain(..) {
                self.poll_task(number);
            }
            // Kept for its room.
            self.ready = ready;
        }
    }

    /// How long the poll may wait, which is for ever if it is none; nothing at all when the thread is not needed any more.
    fn sleep(&mut self) -> Option<Option<Duration>> {
        let mut queue = self.shared.lock();
        if queue.is_urgent {
            return Some(Some(Duration::ZERO));
        }
        if queue.is_abandoned && self.tasks.is_empty() {
            queue.is_over = true;
            return None;
        }
        let now = self.shared.now();
        if std::mem::take(&mut queue.is_answer_awaited) {
            self.lingers_until = now;
        }
        let lingers = now < self.lingers_until || !queue.woken.is_empty();
        queue.rest = match lingers {
            true => Rest::Lingering,
            false => Rest::Asleep,
        };
        drop(queue);
        let alarm = self.alarms.first().map(|(at, _)| at.duration_since(now));
        Some(alarm.into_iter().chain(lingers.then_some(LINGER)).min())
    }

    fn on_event(&mut self, event: &mio::event::Event) {
        let Token(number) = event.token();
        let Some(slot) = self.tasks.get(&number) else {
            return;
        };
        let is_over = event.is_error() || event.is_read_closed() || event.is_write_closed();
        if is_over {
            slot.signal.is_last.store(true, Ordering::Relaxed);
        }
        if event.is_readable() || is_over {
            slot.signal.is_readable.store(true, Ordering::Relaxed);
        }
        if event.is_writable() || is_over {
            slot.signal.is_writable.store(true, Ordering::Relaxed);
        }
        if !slot.signal.is_queued.swap(true, Ordering::AcqRel) {
            self.ready.push(number);
        }
    }

    fn on_time(&mut self) {
        let Some(&(first, _)) = self.alarms.first() else {
            return;
        };
        let now = self.shared.now();
        if first > now {
            return;
        }
        for &(_, number) in self.alarms.iter().take_while(|(at, _)| *at <= now) {
            let slot = self.tasks.get(&number);
            if slot.is_some_and(|slot| !slot.signal.is_queued.swap(true, Ordering::AcqRel)) {
                self.ready.push(number);
            }
        }
    }

    fn take_woken(&mut self) {
        let mut queue = self.shared.lock();
        queue.rest = Rest::Awake;
        queue.is_urgent = false;
        if !queue.woken.is_empty() {
            self.lingers_until = self.shared.now() + LINGER;
        }
        self.ready.append(&mut queue.woken);
        let new = std::mem::take(&mut queue.new);
        drop(queue);
        for (signal, task) in new {
            let number = signal.number;
            let slot = Slot {
                task,
                waker: Waker::from(Arc::clone(&signal)),
                signal,
                alarm: None,
            };
            self.tasks.insert(number, slot);
            self.ready.push(number);
        }
    }

    fn poll_task(&mut self, number: usize) {
        let Some(slot) = self.tasks.get_mut(&number) else {
            return;
        };
        slot.signal.is_queued.store(false, Ordering::Release);
        slot.signal.set_alarm(Instant::MAX);
        let mut cx = Context::from_waker(&slot.waker);
        // Drivers do not panic. What others leave to the background may, which is their end and nobody else's.
        let polled = catch_unwind(AssertUnwindSafe(|| slot.task.as_mut().poll(&mut cx)));
        let is_over = polled.map_or(true, |poll| poll.is_ready());
        let alarm = slot.signal.alarm().filter(|_| !is_over);
        if slot.alarm != alarm {
            if let Some(at) = slot.alarm {
                self.alarms.remove(&(at, number));
            }
            self.alarms.extend(alarm.map(|at| (at, number)));
            slot.alarm = alarm;
        }
        if is_over {
            let slot = self.tasks.remove(&number);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(slot)));
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.is_over = true;
        let new = std::mem::take(&mut queue.new);
        drop(queue);
        drop(new);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("woken", &self.woken)
            .field("new", &self.new.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::task::Poll;

    /// Longer than anything takes.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_task_that_panics_is_gone_and_the_others_go_on() {
        let thread = IoThread::start().unwrap();
        let spawn = thread.shared().spawner();
        let (dropped, was_dropped) = channel::<()>();
        spawn(Box::pin(async move {
            let _dropped = dropped;
            panic!("a test's panic");
        }));
        assert_eq!(
            was_dropped.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
        let (sender, done) = channel();
        spawn(Box::pin(async move { sender.send(()).unwrap() }));
        done.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn an_alarm_wakes_its_task_once() {
        let thread = IoThread::start().unwrap();
        let shared = thread.shared();
        let (signal, at) = (shared.new_signal(), shared.now() + Duration::from_millis(30));
        let (sender, polled) = channel();
        let task = {
            let signal = Arc::clone(&signal);
            poll_fn(move |_| {
                let now = signal.now();
                sender.send(now).unwrap();
                if now >= at {
                    return Poll::Ready(());
                }
                signal.set_alarm(at);
                Poll::Pending
            })
        };
        shared.run(signal, Box::pin(task));
        assert!(polled.recv_timeout(LONG).unwrap() < at);
        assert!(polled.recv_timeout(LONG).unwrap() >= at);
        assert_eq!(polled.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn an_alarm_counts_until_the_task_is_polled() {
        let thread = IoThread::start().unwrap();
        let shared = thread.shared();
        let signal = shared.new_signal();
        let (sender, polled) = channel();
        let task = {
            let signal = Arc::clone(&signal);
            let mut is_first = true;
            poll_fn(move |_| {
                if std::mem::take(&mut is_first) {
                    signal.set_alarm(signal.now() + Duration::from_millis(50));
                }
                sender.send(()).unwrap();
                Poll::<()>::Pending
            })
        };
        shared.run(Arc::clone(&signal), Box::pin(task));
        polled.recv_timeout(LONG).unwrap();
        signal.wake_by_ref();
        polled.recv_timeout(LONG).unwrap();
        let nothing = polled.recv_timeout(Duration::from_millis(150));
        assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
    }

    /// However often it is called.
    #[test]
    fn a_waker_polls_its_task_once() {
        let thread = IoThread::start().unwrap();
        let (sender, polled) = channel();
        let mut turns = 0;
        thread.shared().spawner()(Box::pin(poll_fn(move |cx| {
            turns += 1;
            sender.send(turns).unwrap();
            if turns < 3 {
                cx.waker().wake_by_ref();
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })));
        let all: Vec<_> = (0..3).map(|_| polled.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(all, [1, 2, 3]);
        let nothing = polled.recv_timeout(Duration::from_millis(20));
        assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
    }

    /// Nobody hurries: they are noticed all the same.
    #[test]
    fn commands_in_a_row_are_noticed() {
        let thread = IoThread::start().unwrap();
        let (sender, polled) = channel();
        thread.shared().spawner()(Box::pin(poll_fn(move |cx| {
            sender.send(cx.waker().clone()).unwrap();
            Poll::<()>::Pending
        })));
        let waker = polled.recv_timeout(LONG).unwrap();
        for _ in 0..100 {
            waker.wake_by_ref();
            polled.recv_timeout(LONG).unwrap();
        }
    }

    /// What the thread itself would do is done here: only its queue is looked at.
    #[test]
    fn a_command_wakes_a_thread_that_sleeps_and_one_that_lingers_only_in_a_hurry() {
        let poll = mio::Poll::new().unwrap();
        let shared = Arc::new(Shared::new(&poll).unwrap());
        let command_while = |rest| {
            let signal = shared.new_signal();
            signal.is_queued.store(false, Ordering::Relaxed);
            let mut queue = shared.lock();
            *queue = Queue::default();
            queue.rest = rest;
            drop(queue);
            signal.wake_by_ref();
            assert_eq!(shared.lock().woken, [signal.number]);
        };
        let seen = || {
            let queue = shared.lock();
            (queue.rest, queue.is_urgent)
        };
        hurry(For::Any);
        assert_eq!(seen(), (Rest::Awake, false), "there is nothing to hurry for");
        command_while(Rest::Asleep);
        assert_eq!(seen(), (Rest::Awake, true));
        command_while(Rest::Lingering);
        assert_eq!(seen(), (Rest::Lingering, false));
        hurry(For::Any);
        assert_eq!(seen(), (Rest::Awake, true));
        command_while(Rest::Awake);
        assert_eq!(seen(), (Rest::Awake, false));
        hurry(For::Any);
        assert_eq!(seen(), (Rest::Awake, true), "it must not sleep over it");
        command_while(Rest::Lingering);
        shared.lock().woken.clear();
        hurry(For::Any);
        assert_eq!(seen(), (Rest::Lingering, false), "it has noticed by itself");
    }

    #[test]
    fn it_lingers_behind_a_command_unless_somebody_waits_for_the_answer() {
        let poll = mio::Poll::new().unwrap();
        let shared = Arc::new(Shared::new(&poll).unwrap());
        for (what, timeout, rest) in [
            (For::Any, Some(LINGER), Rest::Lingering),
            (For::Answer, None, Rest::Asleep),
            // It forgets that.
            (For::Any, Some(LINGER), Rest::Lingering),
        ] {
            let mut executor = Executor::new(Arc::clone(&shared));
            *shared.lock() = Queue::default();
            shared.lock().rest = Rest::Asleep;
            let signal = shared.new_signal();
            signal.is_queued.store(false, Ordering::Relaxed);
            signal.wake_by_ref();
            executor.take_woken();
            hurry(what);
            assert_eq!(executor.sleep(), Some(timeout), "{what:?}");
            assert_eq!(shared.lock().rest, rest, "{what:?}");
        }
    }

    #[test]
    fn a_thread_that_nobody_needs_ends_and_takes_no_more() {
        let thread = IoThread::start().unwrap();
        let shared = Arc::clone(thread.shared());
        let (sender, go_on) = channel::<Waker>();
        let mut is_first = true;
        let task = poll_fn(move |cx| match std::mem::take(&mut is_first) {
            true => {
                sender.send(cx.waker().clone()).unwrap();
                Poll::Pending
            }
            false => Poll::Ready(()),
        });
        shared.spawner()(Box::pin(task));
        let waker = go_on.recv_timeout(LONG).unwrap();
        drop(thread);
        assert!(!shared.lock().is_over, "a task needs it");
        waker.wake();
        let deadline = std::time::Instant::now() + LONG;
        while !shared.lock().is_over {
            assert!(std::time::Instant::now() < deadline, "it goes on");
            thread::yield_now();
        }
        let (sender, dropped) = channel::<()>();
        shared.spawner()(Box::pin(async move { drop(sender) }));
        assert_eq!(dropped.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn the_process_shares_one() {
        let (one, other) = (IoThread::of_process().unwrap(), IoThread::of_process().unwrap());
        assert!(Arc::ptr_eq(one.shared(), other.shared()));
        assert!(!Arc::ptr_eq(one.shared(), IoThread::start().unwrap().shared()));
    }
}
