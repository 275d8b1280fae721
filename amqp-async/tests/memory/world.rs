//! A broker, clients, a clock and an executor in one thread. Nothing here waits: when nobody can go on, the clock jumps.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use amqp_async::{BoxFuture, Channel, Connect, Connected, Connection, Recovery, Spawner, Task, Timer};
use amqp_proto::{CloseReason, Config, Heartbeat, Instant};
use amqp_testbroker::{Broker, BrokerConfig, ConnectionKey, Random, Script, ScriptedPeer, Server};

use crate::pipe::{Clock, Common, End, Stuck, lock};

/// The number of the future that [`World::run`] was given.
const ROOT: usize = usize::MAX;

/// How many steps there may be without a move of the clock.
const MOST_STEPS: usize = 1_000_000;

/// How far the clock may go.
const MOST_TIME: Duration = Duration::from_secs(3 * 24 * 3600);

/// A place where everything that a test needs happens in one thread, in an order that a number determines.
pub(crate) struct World<S: Server = Broker> {
    common: Arc<Mutex<Common<S>>>,
    executor: Arc<Mutex<Executor>>,
    ready: Arc<Mutex<VecDeque<usize>>>,
    /// Who waits for that, and whether it has come: they may be woken for other reasons.
    idle: Mutex<Vec<(Arc<AtomicBool>, Waker)>>,
    random: Mutex<Option<Random>>,
    window: usize,
    /// Handles that outlive the test, to look whether anything was left behind.
    kept: Mutex<Vec<Connection>>,
}

#[derive(Default)]
struct Executor {
    tasks: Vec<Option<Running>>,
    /// Spawned, and not looked at yet.
    spawned: Vec<Task>,
    /// How many spawned tasks have panicked.
    panics: usize,
    /// Of each connection.
    ends: Vec<Option<CloseReason>>,
    drivers: Vec<usize>,
}

struct Running {
    task: Task,
    name: &'static str,
    flag: Arc<Flag>,
}

/// Wakes a task: once, until it is polled.
struct Flag {
    number: usize,
    is_woken: AtomicBool,
    ready: Arc<Mutex<VecDeque<usize>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push_back(self.number);
        }
    }
}

enum Step<T> {
    Done(T),
    Worked,
    Idle,
}

impl World {
    /// With a broker of its defaults, and everything in the order in which it comes up.
    pub(crate) fn new() -> Self {
        Self::with_broker(BrokerConfig::default())
    }

    pub(crate) fn with_broker(config: BrokerConfig) -> Self {
        Self::of(Broker::new(config), 0)
    }

    /// To look at the broker, or to do something to it.
    pub(crate) fn broker<R>(&self, look: impl FnOnce(&mut Broker, Instant) -> R) -> R {
        let mut common = lock(&self.common);
        let now = common.now;
        look(&mut common.server, now)
    }

    /// The broker's end of the only connection, or of the last one.
    pub(crate) fn key(&self) -> ConnectionKey {
        lock(&self.common).streams.last().expect("there is one").key
    }

    /// Whether the broker says nothing on the last connection.
    pub(crate) fn set_mute(&self, is_mute: bool) {
        let key = self.key();
        self.broker(|broker, now| broker.set_mute(key, now, is_mute));
    }

    /// Whether the broker reads nothing from the last connection.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        let key = self.key();
        self.broker(|broker, now| broker.set_deaf(key, now, is_deaf));
    }

    /// How many channels the broker knows of, on all connections.
    pub(crate) fn broker_channels(&self) -> usize {
        self.broker(|broker, _| broker.connections().iter().map(|info| info.channels).sum())
    }

    pub(crate) fn queue_len(&self, queue: &str) -> usize {
        self.broker(|broker, _| broker.queue_len("/", queue))
            .expect("there is that queue")
    }

    pub(crate) fn consumer_count(&self, queue: &str) -> usize {
        let count = self.broker(|broker, _| broker.consumer_count("/", queue));
        count.expect("there is that queue")
    }
}

/// Where the streams of a connection come from that is made again and again.
struct Streams<S: Server> {
    common: Arc<Mutex<Common<S>>>,
    executor: Arc<Mutex<Executor>>,
    config: Arc<Config>,
    window: usize,
    change: Box<Change<S>>,
}

type Change<S> = dyn FnMut(Connected<End<S>>) -> Connected<End<S>> + Send;

impl<S: Server> Streams<S> {
    fn open(&mut self) -> Connected<End<S>> {
        let mut common = lock(&self.common);
        let window = match common.stuck {
            Some(Stuck::Handshake) => 0,
            _ => self.window,
        };
        let stream = common.open(window);
        drop(common);
        lock(&self.executor).ends.push(None);
        let end = End {
            common: Arc::clone(&self.common),
            stream,
        };
        (self.change)(Connected::new(end, Arc::clone(&self.config)))
    }
}

impl<S: Server + Send + 'static> Connect for Streams<S>
where
    S::Key: Send,
    S::Output: Send,
{
    type Transport = End<S>;

    fn hosts(&self) -> usize {
        1
    }

    fn connect(&mut self, _: usize) -> BoxFuture<Result<Connected<End<S>>, CloseReason>> {
        if lock(&self.common).stuck == Some(Stuck::Connecting) {
            return Box::pin(std::future::pending());
        }
        let connected = self.open();
        Box::pin(std::future::ready(Ok(connected)))
    }
}

impl World<ScriptedPeer> {
    pub(crate) fn scripted(script: Script) -> Self {
        Self::of(ScriptedPeer::new(script), 0)
    }

    /// Whether the peer got what its script expects, to its end.
    pub(crate) fn finish_script(&self) {
        if let Err(failure) = lock(&self.common).server.finish() {
            panic!("{failure}");
        }
    }
}

impl<S: Server + Send + 'static> World<S>
where
    S::Key: Send,
    S::Output: Send,
{
    fn of(server: S, seed: u64) -> Self {
        Self {
            common: Arc::new(Mutex::new(Common::new(server))),
            executor: Arc::default(),
            ready: Arc::default(),
            idle: Mutex::default(),
            random: Mutex::new((seed != 0).then(|| Random::new(seed))),
            window: 64 * 1024,
            kept: Mutex::default(),
        }
    }

    /// Who goes on next is drawn from that seed; 0 is the order in which they were woken.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.random = Mutex::new((seed != 0).then(|| Random::new(seed)));
    }

    /// The next stream breaks after so many octets that are read, or written.
    pub(crate) fn cut_next(&self, read: usize, written: usize) {
        lock(&self.common).cuts.push_back((read, written));
    }

    /// From now on who connects again gets no further than that.
    pub(crate) fn get_stuck(&self, stuck: Stuck) {
        lock(&self.common).stuck = Some(stuck);
    }

    /// How many octets a stream holds in each direction, for those that are opened from now on.
    pub(crate) fn set_window(&mut self, octets: usize) {
        self.window = octets;
    }

    /// A connection, driven by a task; its handshake has not begun. It stays open until the test is over.
    pub(crate) fn start(&self, config: Config) -> Connection {
        let connection = self.start_unkept(config);
        lock(&self.kept).push(connection.clone());
        connection
    }

    /// The same, which closes when the test drops its last handle.
    pub(crate) fn start_unkept(&self, config: Config) -> Connection {
        let stream = lock(&self.common).open(self.window);
        let end = End {
            common: Arc::clone(&self.common),
            stream,
        };
        let (connection, driver) = Connection::start(Arc::new(config), end, self.clock(), self.spawner());
        let executor = Arc::clone(&self.executor);
        let task = async move {
            let reason = driver.await;
            lock(&executor).ends[stream] = Some(reason);
        };
        let number = self.add(Box::pin(task), "driver");
        let mut executor = lock(&self.executor);
        executor.ends.push(None);
        executor.drivers.push(number);
        drop(executor);
        connection
    }

    /// A connection that is made again when it is lost, each time with that configuration.
    pub(crate) fn start_recovering(&self, config: Config, recovery: &Recovery) -> Connection {
        self.start_recovering_with(config, recovery, |connected| connected)
    }

    /// The same, with a change to what it takes each time.
    pub(crate) fn start_recovering_with(
        &self,
        config: Config,
        recovery: &Recovery,
        change: impl FnMut(Connected<End<S>>) -> Connected<End<S>> + Send + 'static,
    ) -> Connection {
        let mut streams = Streams {
            common: Arc::clone(&self.common),
            executor: Arc::clone(&self.executor),
            config: Arc::new(config),
            window: self.window,
            change: Box::new(change),
        };
        let first = streams.open();
        let stream = first.transport.stream;
        let (connection, driver) =
            Connection::start_recovering(first, self.clock(), self.spawner(), streams, recovery);
        let executor = Arc::clone(&self.executor);
        let task = async move {
            let reason = driver.await;
            lock(&executor).ends[stream] = Some(reason);
        };
        let number = self.add(Box::pin(task), "driver");
        lock(&self.executor).drivers.push(number);
        lock(&self.kept).push(connection.clone());
        connection
    }

    /// A connection that is open.
    pub(crate) async fn connect_with(&self, config: Config) -> Connection {
        let connection = self.start(config);
        connection.ready().await.expect("the broker lets us in");
        connection
    }

    /// A connection that is open, without heartbeats: the clock stands still unless a test is about time.
    pub(crate) async fn connect(&self) -> Connection {
        self.connect_with(config()).await
    }

    /// A connection and a channel that confirms.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let connection = self.connect().await;
        let channel = connection.channel().await.expect("there is a channel");
        (connection, channel)
    }

    fn clock(&self) -> Clock<S> {
        let alarm = lock(&self.common).new_alarm();
        Clock {
            common: Arc::clone(&self.common),
            alarm,
        }
    }

    fn spawner(&self) -> Spawner {
        let executor = Arc::downgrade(&self.executor);
        Arc::new(move |task| {
            if let Some(executor) = executor.upgrade() {
                lock(&executor).spawned.push(task);
            }
        })
    }

    /// Runs a task beside the test; it may panic.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.executor).spawned.push(Box::pin(task));
    }

    /// Runs a task beside the test, and shows what it ended with.
    pub(crate) fn spawn_with_result<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Arc<Mutex<Option<T>>> {
        let result = Arc::new(Mutex::new(None));
        let place = Arc::clone(&result);
        self.spawn(async move {
            let value = task.await;
            *lock(&place) = Some(value);
        });
        result
    }

    /// Polls a future once, and drops it.
    pub(crate) async fn poll_once<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn add(&self, task: Task, name: &'static str) -> usize {
        let mut executor = lock(&self.executor);
        let number = executor.tasks.len();
        let flag = self.flag(number);
        executor.tasks.push(Some(Running {
            task,
            name,
            flag: Arc::clone(&flag),
        }));
        drop(executor);
        flag.wake();
        number
    }

    fn flag(&self, number: usize) -> Arc<Flag> {
        Arc::new(Flag {
            number,
            is_woken: AtomicBool::new(false),
            ready: Arc::clone(&self.ready),
        })
    }

    /// How much time has passed.
    pub(crate) fn elapsed(&self) -> Duration {
        lock(&self.common).now.duration_since(Instant::EPOCH)
    }

    /// When somebody is to wake up next, since the beginning.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let next = lock(&self.common).next_deadline();
        next.map(|at| at.duration_since(Instant::EPOCH))
    }

    /// From now on writing fails for the last connection, and that is all.
    pub(crate) fn break_writing(&self) {
        lock(&self.common).break_writing();
    }

    /// Waits for so much virtual time.
    pub(crate) async fn sleep(&self, duration: Duration) {
        let mut clock = self.clock();
        let at = clock.now() + duration;
        poll_fn(|cx| clock.poll_until(cx, at)).await;
    }

    /// The same for tasks, which cannot borrow.
    pub(crate) fn sleeper(&self) -> impl Fn(Duration) -> BoxFuture<()> + Clone + Send + Sync + 'static {
        let common = Arc::clone(&self.common);
        move |duration| {
            let alarm = lock(&common).new_alarm();
            let common = Arc::clone(&common);
            let mut clock = Clock { common, alarm };
            let at = clock.now() + duration;
            Box::pin(async move { poll_fn(|cx| clock.poll_until(cx, at)).await })
        }
    }

    /// Waits until there is nothing more to be done at this moment.
    pub(crate) async fn idle(&self) {
        let is_idle = Arc::new(AtomicBool::new(false));
        poll_fn(|cx| {
            if is_idle.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            lock(&self.idle).push((Arc::clone(&is_idle), cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// How many spawned tasks have panicked so far.
    pub(crate) fn panics(&self) -> usize {
        lock(&self.executor).panics
    }

    /// Why that connection's driver has ended, in the order in which they were started.
    pub(crate) fn driver_end(&self, connection: usize) -> Option<CloseReason> {
        lock(&self.executor).ends[connection].clone()
    }

    /// Drops a connection's driver, as a runtime does that is shut down.
    pub(crate) fn drop_driver(&self, connection: usize) {
        let mut executor = lock(&self.executor);
        let number = executor.drivers[connection];
        let task = executor.tasks[number].take();
        drop(executor);
        assert!(task.is_some(), "the driver is running");
    }

    /// Runs a future to its end, and all else meanwhile.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        match self.run_steps(pin!(future), usize::MAX) {
            Some(output) => output,
            None => unreachable!("so many steps"),
        }
    }

    /// Runs a future for so many steps at most; the future is still there afterwards if that was not enough.
    pub(crate) fn run_steps<F: Future>(&self, mut future: Pin<&mut F>, steps: usize) -> Option<F::Output> {
        lock(&self.ready).retain(|number| *number != ROOT);
        let flag = self.flag(ROOT);
        flag.clone().wake();
        let mut steps_of_this_moment = 0;
        for _ in 0..steps {
            match self.step(&flag, &mut future) {
                Step::Done(output) => return Some(output),
                Step::Worked => steps_of_this_moment += 1,
                Step::Idle => {
                    self.jump();
                    steps_of_this_moment = 0;
                }
            }
            assert!(
                steps_of_this_moment < MOST_STEPS,
                "no end of it: {}",
                self.account()
            );
        }
        None
    }

    /// Whether nothing is kept of what the test did: channels, requests, alarms, tasks to wake.
    fn check_nothing_is_kept(&self) {
        for connection in &*lock(&self.kept) {
            let state = format!("{connection:?}");
            let nothing = "entries: 0, consumers: 0, publishes: 0, calls: 0, alarms: 0, waiting: 0";
            assert!(state.contains(nothing), "something is left: {state}");
        }
    }

    /// Closes what is open, and goes on until every task has ended.
    pub(crate) fn wind_up(&self) {
        self.run(self.idle());
        let is_strict = self.elapsed().is_zero();
        if is_strict {
            self.check_nothing_is_kept();
        }
        let kept = lock(&self.kept).clone();
        for connection in kept {
            self.run(connection.close());
        }
        // Tasks that end with their connection may be woken after whoever closed it.
        self.run(self.idle());
        self.check_nothing_is_kept();
        lock(&self.kept).clear();
        self.wait_for_tasks();
    }

    fn wait_for_tasks(&self) {
        self.run(async {
            while lock(&self.executor).tasks.iter().any(Option::is_some) {
                self.idle().await;
                if lock(&self.executor).tasks.iter().any(Option::is_some) {
                    let next = lock(&self.common).next_deadline();
                    let Some(next) = next else {
                        panic!("tasks are left: {}", self.account());
                    };
                    let now = lock(&self.common).now;
                    self.sleep(next.duration_since(now)).await;
                }
            }
            self.idle().await;
        });
    }

    fn step<F: Future>(&self, flag: &Arc<Flag>, future: &mut Pin<&mut F>) -> Step<F::Output> {
        self.adopt();
        let Some(number) = self.choose() else {
            if lock(&self.common).turn() {
                return Step::Worked;
            }
            return match lock(&self.ready).is_empty() {
                true => Step::Idle,
                false => Step::Worked,
            };
        };
        if number != ROOT {
            self.poll_task(number);
            return Step::Worked;
        }
        flag.is_woken.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(flag));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => Step::Done(output),
            Poll::Pending => Step::Worked,
        }
    }

    /// Looks at what was spawned.
    fn adopt(&self) {
        let spawned = std::mem::take(&mut lock(&self.executor).spawned);
        for task in spawned {
            self.add(task, "spawned");
        }
    }

    /// Who goes on: a task, or, without a number, the server.
    fn choose(&self) -> Option<usize> {
        let mut ready = lock(&self.ready);
        let Some(random) = &mut *lock(&self.random) else {
            return ready.pop_front();
        };
        let drawn = usize::try_from(random.up_to(ready.len() as u64)).expect("it is small");
        ready.remove(drawn)
    }

    fn poll_task(&self, number: usize) {
        let running = lock(&self.executor).tasks[number].take();
        let Some(mut running) = running else {
            return;
        };
        running.flag.is_woken.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&running.flag));
        let mut cx = Context::from_waker(&waker);
        match catch_unwind(AssertUnwindSafe(|| running.task.as_mut().poll(&mut cx))) {
            Ok(Poll::Pending) => lock(&self.executor).tasks[number] = Some(running),
            Ok(Poll::Ready(())) => {}
            Err(panic) if running.name == "driver" => resume_unwind(panic),
            // As an executor does it: the task is gone, and all goes on.
            Err(_) => lock(&self.executor).panics += 1,
        }
    }

    /// Nobody can go on at this moment.
    fn jump(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        if !idle.is_empty() {
            for (is_idle, waker) in idle {
                is_idle.store(true, Ordering::Relaxed);
                waker.wake();
            }
            return;
        }
        let mut common = lock(&self.common);
        let next = common.next_deadline();
        let Some(next) = next.filter(|next| next.duration_since(Instant::EPOCH) < MOST_TIME) else {
            drop(common);
            panic!("nobody can go on: {}", self.account());
        };
        common.advance(next);
    }

    /// Who waits, and where the octets are.
    fn account(&self) -> String {
        let mut text = String::new();
        let common = lock(&self.common);
        let _ = write!(
            text,
            "it is {:?}, the next deadline is {:?}; ",
            common.now,
            common.next_deadline()
        );
        for stream in &common.streams {
            let _ = write!(text, "{:?} {}; ", stream.key, stream.account());
        }
        let executor = lock(&self.executor);
        let left = executor.tasks.iter().enumerate();
        for (number, running) in left.filter_map(|(number, task)| Some((number, task.as_ref()?))) {
            let _ = write!(text, "task {number} ({}) waits; ", running.name);
        }
        text
    }
}

/// The defaults, without heartbeats.
pub(crate) fn config() -> Config {
    Config::default().heartbeat(Heartbeat::Off)
}

/// Runs a test in many orders, with narrow and wide streams. Afterwards everything must end by itself, the broker must know of no
/// connection, and no time must have passed: a wake-up that is lost would be made up for by some deadline.
pub(crate) fn everywhere(test: impl AsyncFn(&World)) {
    let elapsed = in_time(test);
    assert_eq!(elapsed, Duration::ZERO, "something waited for a deadline");
}

/// How many orders a test is run in; the environment may ask for more.
fn seeds() -> u64 {
    let wanted = std::env::var("AMQP_MEMORY_SEEDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// The same for a test that lets time pass; says how much at most.
pub(crate) fn in_time(test: impl AsyncFn(&World)) -> Duration {
    let mut longest = Duration::ZERO;
    for seed in 0..seeds() {
        let mut world = World::new();
        world.set_seed(seed);
        world.set_window(if seed % 3 == 1 { 61 } else { 64 * 1024 });
        world.run(test(&world));
        world.wind_up();
        let left = world.broker(|broker, _| broker.connections());
        assert_eq!(left, [], "of seed {seed}");
        longest = longest.max(world.elapsed());
    }
    longest
}
