//! What is done in large numbers, and what it may take.

use std::future::Future;
use std::time::{Duration, Instant};

use amqp_tokio::ConsumeOptions;
use anyhow::{Context, Result, ensure};
use tokio::runtime::{Handle, Runtime};
use tokio::time::{sleep, timeout};

use crate::leaving::{WAYS, connect_and_leave};
use crate::processes;
use crate::usage::Usage;

/// Longer than any of them takes.
const DEADLINE: Duration = Duration::from_secs(3600);

/// How long what was dropped may take to be gone.
const TO_SETTLE: Duration = Duration::from_secs(20);

/// How long connections do nothing before they are measured.
const IDLE: Duration = Duration::from_secs(10);

/// The budget of a connection that does nothing, in octets.
const IDLE_CONNECTION: u64 = 24 << 10;

/// The same of a channel.
const IDLE_CHANNEL: u64 = 1536;

/// How many of these a connection has; brokers allow about 2000.
const CHANNELS_EACH: u64 = 1000;

/// How much memory may be more afterwards than before, in KiB: what an allocator keeps, and not eight octets for each of a million.
const GROWTH: u64 = 7 << 10;

/// How much memory may be more in between, in KiB.
const PEAK: u64 = 8 << 10;

/// The same where messages come in a flood: what waits in a consumer, and what waits for it in a buffer.
const FLOOD_PEAK: u64 = 96 << 10;

/// How many messages are in the queue at once, where they are not all there from the beginning: so many that the consumer's inbox
/// stays below its 64 MiB, even if the broker writes all of them before the first confirm. Above, a handler that awaits a confirm takes
/// nothing, and the client ends such a consumer (`ConsumerEnd::Overflow`) to get at the confirm.
const PORTION: u64 = 100_000;

/// A case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) count: u64,
    /// The number is one of repetitions, which nothing may be left of.
    pub(crate) is_repeated: bool,
    run: fn(u64, &str) -> Result<()>,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "confirm_in_handler",
        count: 1_000_000,
        is_repeated: true,
        run: |count, uri| {
            // A whole portion at once is what takes most memory.
            let warm_up = PORTION.min(count);
            repeated(count, uri, warm_up, FLOOD_PEAK, async |count| {
                handle_with_confirms(count, PORTION, uri).await
            })
        },
    },
    Case {
        name: "channels",
        count: 100_000,
        is_repeated: true,
        run: |count, uri| {
            repeated(count, uri, count / 100, PEAK, async |count| {
                open_channels(count, uri).await
            })
        },
    },
    Case {
        name: "connections",
        count: 10_000,
        is_repeated: true,
        run: |count, uri| {
            repeated(count, uri, count / 100, PEAK, async |count| {
                for number in 0..count {
                    connect_and_leave(uri, usize::try_from(number)? % WAYS).await;
                }
                Ok(())
            })
        },
    },
    Case {
        name: "idle_tokio",
        count: 1000,
        is_repeated: false,
        run: idle_tokio,
    },
    Case {
        name: "idle_async_std",
        count: 1000,
        is_repeated: false,
        run: idle_async_std,
    },
    Case {
        name: "idle_channels",
        count: 10_000,
        is_repeated: false,
        run: idle_channels,
    },
];

/// The queue of the messages that are handled.
const SOURCE: &str = "amqp-bench.scale";

/// Two threads on every machine.
fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

impl Case {
    /// Does it in this process.
    pub(crate) fn measure(&self, count: u64, uri: &str) -> Result<()> {
        print!("{:20} {count:>9}  ", self.name);
        let start = Instant::now();
        (self.run)(count, uri)?;
        println!("  {:>6.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Some to warm up, then all of it: nothing may be left of that, and no more than `most` KiB be taken in between.
fn repeated(
    count: u64,
    uri: &str,
    warm_up: u64,
    most: u64,
    work: impl AsyncFn(u64) -> Result<()>,
) -> Result<()> {
    runtime()?.block_on(async {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        // What names take to be resolved stays for a while.
        drop(amqp_tokio::connect(uri).await?.close().await);
        work(warm_up).await.context("warming up")?;
        settle(|| tasks() == 0).await;
        let before = Usage::now()?;
        timeout(DEADLINE, work(count))
            .await
            .context("it takes too long")??;
        settle(|| tasks() == 0 && Usage::now().is_ok_and(|now| now.files <= before.files)).await;
        let after = Usage::now()?;
        print!(
            "RSS {} KiB, then {}, at most {}; tasks {}; threads {}, then {}; open files {}, then {}",
            before.rss,
            after.rss,
            after.peak,
            tasks(),
            before.threads,
            after.threads,
            before.files,
            after.files
        );
        ensure!(tasks() == 0, "{} tasks are left", tasks());
        ensure!(after.files <= before.files, "files are left open");
        ensure!(after.threads <= before.threads, "threads are left");
        ensure!(
            after.rss <= before.rss + GROWTH,
            "it grew by more than {GROWTH} KiB"
        );
        ensure!(
            after.peak <= before.peak + most,
            "it took more than {most} KiB at a time"
        );
        Ok(())
    })
}

/// What is dropped ends by itself, which nobody is told of.
async fn settle(is_settled: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_settled() && start.elapsed() < TO_SETTLE {
        sleep(Duration::from_millis(10)).await;
    }
}

/// Fills the queue.
pub(crate) fn feed(count: u64, uri: &str) -> Result<()> {
    runtime()?.block_on(async {
        let connection = amqp_tokio::connect(uri).await?;
        let channel = connection.channel().await?;
        channel.declare_queue(SOURCE).await?;
        let exchange = channel.default_exchange();
        let mut confirms = std::collections::VecDeque::new();
        for number in 0..count {
            let body = number.to_be_bytes().to_vec();
            confirms.push_back(exchange.publish_deferred(body, SOURCE).await?);
            if confirms.len() == 1000
                && let Some(confirm) = confirms.pop_front()
            {
                confirm.await?;
            }
        }
        for confirm in confirms {
            confirm.await?;
        }
        drop(connection.close().await);
        Ok(())
    })
}

/// Takes the messages of a full queue without acknowledgements, and waits for the confirm of a publish for each, on the same connection.
async fn handle_with_confirms(count: u64, portion: u64, uri: &str) -> Result<()> {
    let connection = amqp_tokio::connect(uri).await?;
    let channel = connection.channel().await?;
    let publisher = connection.channel().await?;
    // It has no queue: the broker confirms and forgets.
    let exchange = publisher.exchange("amq.fanout");
    let queue = channel.declare_queue(SOURCE).await?;
    // A run that failed may have left something.
    queue.purge().await?;
    let options = ConsumeOptions::default().no_ack(true);
    let mut consumer = queue.consume_with(options).await?;
    for number in 0..count {
        if number % portion == 0 {
            // By another process: it is not to be measured.
            let portion = portion.min(count - number);
            tokio::task::block_in_place(|| processes::feed(portion, uri))?;
        }
        let delivery = consumer.next().await.context("the consumer has ended")??;
        exchange
            .publish_optional(delivery.body().into_owned(), "")
            .await?;
    }
    drop(connection.close().await);
    Ok(())
}

/// One after the other, closed and dropped in turn.
async fn open_channels(count: u64, uri: &str) -> Result<()> {
    let connection = amqp_tokio::connect(uri).await?;
    for number in 0..count {
        let channel = connection.channel().await?;
        if number % 2 == 0 {
            channel.close().await?;
        }
    }
    drop(connection.close().await);
    Ok(())
}

fn idle_tokio(count: u64, uri: &str) -> Result<()> {
    let connect = async || {
        let connection = amqp_tokio::connect(uri).await?;
        Ok((connection.channel().await?, connection))
    };
    runtime()?.block_on(idle(count, IDLE_CONNECTION, connect, sleep))
}

fn idle_channels(count: u64, uri: &str) -> Result<()> {
    runtime()?.block_on(async {
        let mut connections = Vec::new();
        // One more for the first.
        for _ in 0..=count.div_ceil(CHANNELS_EACH) {
            connections.push(amqp_tokio::connect(uri).await?);
        }
        let mut turns = connections.iter().cycle();
        let open = async || {
            let connection = turns.next().context("there are no connections")?;
            Ok(connection.channel().await?)
        };
        idle(count, IDLE_CHANNEL, open, sleep).await
    })
}

fn idle_async_std(count: u64, uri: &str) -> Result<()> {
    let connect = async || {
        let connection = amqp_async_std::connect(uri).await?;
        Ok((connection.channel().await?, connection))
    };
    async_std::task::block_on(idle(count, IDLE_CONNECTION, connect, async_std::task::sleep))
}

/// Connections with a channel each, or channels, that do nothing, and take so many octets at most.
async fn idle<C, S: Future<Output = ()>>(
    count: u64,
    most: u64,
    mut open: impl AsyncFnMut() -> Result<C>,
    sleep: fn(Duration) -> S,
) -> Result<()> {
    let first = open().await?;
    sleep(IDLE).await;
    let before = Usage::now()?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(open().await?);
    }
    sleep(IDLE).await;
    let after = Usage::now()?;
    let octets = after.rss.saturating_sub(before.rss) * 1024 / count;
    print!(
        "{octets} octets each; threads {}, then {}; open files {}, then {}",
        before.threads, after.threads, before.files, after.files
    );
    drop((first, all));
    ensure!(octets <= most, "more than {most} octets each");
    ensure!(after.threads <= before.threads, "they take threads");
    Ok(())
}
