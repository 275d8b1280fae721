//! The measurement of one client in one case: what the process that does nothing else takes for it.

use std::env;
use std::fmt;
use std::fs;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use super::rabbitmq_c::become_it;
use super::round_trips::RoundTrips;
use super::{CASES, Client, RABBITMQ_C, SMALL, Work, measure_peer};
use crate::QueueName;

/// How long a process may take.
const DEADLINE: Duration = Duration::from_secs(300);

/// The threads of the runtime: the same on every machine.
const WORKERS: usize = 2;

/// What one process is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    work: Work,
    port: u16,
    /// Messages beforehand, which are not measured.
    warm_up: u64,
    messages: u64,
    allocations: fn() -> u64,
}

/// What it took. `Display` and `FromStr` are how it goes from one process to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Of all threads, in the program and in the kernel.
    pub cpu: Duration,
    /// From the first message to the last.
    pub elapsed: Duration,
    /// Calls of the allocator that gave memory: `alloc` and `realloc`. 0 where they are not counted.
    pub allocations: u64,
    /// The most memory the process ever held, in KiB.
    pub peak_rss: u64,
    /// The median of the round trips; zero where there are none.
    pub round_trip: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, elapsed, trip) = (self.cpu, self.elapsed, self.round_trip);
        write!(f, "report {} {} ", cpu.as_nanos(), elapsed.as_nanos())?;
        write!(f, "{} {} {}", self.allocations, self.peak_rss, trip.as_nanos())
    }
}

impl FromStr for Report {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let ["report", numbers @ ..] = &words[..] else {
            bail!("{line:?} is no report");
        };
        let numbers: Result<Vec<u64>, _> = numbers.iter().map(|number| number.parse()).collect();
        let [cpu, elapsed, allocations, peak_rss, round_trip] = numbers?[..] else {
            bail!("{line:?} is not a whole report");
        };
        Ok(Self {
            cpu: Duration::from_nanos(cpu),
            elapsed: Duration::from_nanos(elapsed),
            allocations,
            peak_rss,
            round_trip: Duration::from_nanos(round_trip),
        })
    }
}

/// The program that is measured: `client PEER CASE WARM_UP MESSAGES PORT`. It prints its report.
///
/// # Errors
/// Wrong arguments, whatever fails, and if it takes more than five minutes.
pub fn main(allocations: fn() -> u64) -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [peer, case, warm_up, messages, port] = &arguments[..] else {
        bail!("usage: client PEER CASE WARM_UP MESSAGES PORT");
    };
    if peer == RABBITMQ_C {
        become_it(&arguments[1..])?;
    }
    let case = CASES
        .iter()
        .find(|candidate| candidate.name == case)
        .with_context(|| format!("there is no case {case}"))?;
    let job = Job {
        work: case.work,
        port: port.parse().context("PORT")?,
        warm_up: warm_up.parse().context("WARM_UP")?,
        messages: messages.parse().context("MESSAGES")?,
        allocations,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()?;
    let peer = peer.clone();
    let report = runtime.block_on(async {
        // A task, as in most programs: what `block_on` itself runs is on a thread that is none of the runtime's.
        let task = tokio::spawn(async move { measure_peer(&peer, job).await });
        tokio::time::timeout(DEADLINE, task)
            .await
            .context("it takes too long")??
    })?;
    println!("{report}");
    Ok(())
}

/// Does the job.
pub(crate) async fn measure<C: Client>(job: Job) -> Result<Report> {
    let mut client = C::connect(job.port).await.context("connecting")?;
    let port = job.port;
    run(&mut client, job.work, job.warm_up, port)
        .await
        .context("warming up")?;
    let (start, cpu, allocations) = (Instant::now(), cpu_time(), (job.allocations)());
    let trips = run(&mut client, job.work, job.messages, port).await?;
    Ok(Report {
        cpu: cpu_time() - cpu,
        elapsed: start.elapsed(),
        allocations: (job.allocations)() - allocations,
        peak_rss: peak_rss()?,
        round_trip: trips.map(RoundTrips::median).unwrap_or_default(),
    })
}

/// Says how long the round trips took, if there are any.
async fn run<C: Client>(client: &mut C, work: Work, messages: u64, port: u16) -> Result<Option<RoundTrips>> {
    let body = |size| Bytes::from(vec![b'x'; size]);
    match work {
        Work::Publish { size } => client.publish(&body(size), messages).await?,
        Work::Confirm { outstanding } => client.confirm(&body(SMALL), outstanding, messages).await?,
        Work::Consume { ack } => {
            let queue = QueueName {
                messages,
                size: SMALL,
            };
            client.consume(queue, ack).await?;
        }
        Work::Echo => return client.echo(&body(SMALL), messages).await.map(Some),
        Work::Connect => {
            for _ in 0..messages {
                C::visit(port).await?;
            }
        }
    }
    Ok(None)
}

/// Of all threads of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// In KiB.
fn peak_rss() -> Result<u64> {
    let file = "/proc/self/status";
    let status = fs::read_to_string(file).context(file)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|size| size.parse().ok())
        .with_context(|| format!("{file} does not tell VmHWM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = Report {
            cpu: Duration::from_nanos(1),
            elapsed: Duration::from_secs(2),
            allocations: 3,
            peak_rss: 4,
            round_trip: Duration::from_nanos(5),
        };
        assert_eq!(
            report.to_string().parse::<Report>().expect("its own line"),
            report
        );
        assert!("report 1 2 3 4".parse::<Report>().is_err());
    }
}
