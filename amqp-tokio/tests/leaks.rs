//! Connections in numbers: whichever way they are left, the process is as it was before. (The large numbers: `cargo xtask scale`.)
#![allow(missing_docs, reason = "tests")]
#![cfg(target_os = "linux")] // Open files are counted in /proc.

#[path = "../../amqp-async/scenarios/leaving.rs"]
mod leaving;

use std::fs;
use std::future::Future;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amqp_testbroker::TestBroker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::leaving::{WAYS, connect_and_leave};

/// Longer than any of them takes.
const DEADLINE: Duration = Duration::from_secs(60);

mod runtime {
    use std::future::Future;

    use amqp_tokio::{ConnectError, Connection};

    pub(crate) async fn connect(url: &str) -> Result<Connection, ConnectError> {
        amqp_tokio::connect(url).await
    }

    /// Starts a task, and aborts it when the other one is done.
    pub(crate) async fn abort_after(
        task: impl Future<Output = ()> + Send + 'static,
        other: impl Future<Output = ()>,
    ) {
        let task = tokio::spawn(task);
        other.await;
        task.abort();
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

/// One test at a time: the open files are those of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Runtime::new().unwrap();
    let test = async { timeout(DEADLINE, test).await };
    runtime.block_on(test).expect("it takes too long");
}

/// Nobody tells when a task has ended that nobody waits for.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(1)).await;
    }
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_hundred_connections_leave_no_task_and_no_open_file_however_they_are_left() {
    let _alone = alone();
    let broker = TestBroker::start().unwrap();
    let url = broker.uri();
    run(async {
        // Names are resolved on threads that stay for a while.
        connect_and_leave(&url, 0).await;
        until(|| alive_tasks() == 0 && broker.connections().is_empty()).await;
        // Our end of the first may still be open, so there may be fewer later.
        let before = open_files();
        for number in 0..100 {
            connect_and_leave(&url, number % WAYS).await;
        }
        until(|| alive_tasks() == 0 && broker.connections().is_empty() && open_files() <= before).await;
    });
}

#[test]
fn a_thousand_channels_take_one_task() {
    let _alone = alone();
    let broker = TestBroker::start().unwrap();
    run(async {
        let connection = amqp_tokio::connect(&broker.uri()).await.unwrap();
        for number in 0..1000 {
            let channel = connection.channel().await.unwrap();
            match number % 3 {
                0 => channel.close().await.unwrap(),
                1 => drop(channel),
                _ => drop(
                    channel
                        .declare_queue("")
                        .exclusive(true)
                        .await
                        .unwrap()
                        .consume()
                        .await,
                ),
            }
            assert_eq!(alive_tasks(), 1);
        }
        until(|| {
            broker
                .connections()
                .iter()
                .map(|info| info.channels)
                .sum::<usize>()
                == 0
        })
        .await;
        connection.close().await;
        until(|| alive_tasks() == 0).await;
    });
}

/// What a broker says in a handshake, up to where it stays silent: nothing, `connection.start`, `connection.tune`.
fn stages() -> Vec<Vec<u8>> {
    use amqp_proto::wire::{ConnectionStart, ConnectionTune, LongStr, Method};

    let start = ConnectionStart {
        version_minor: 9,
        mechanisms: LongStr::new(b"PLAIN"),
        locales: LongStr::new(b"en_US"),
        ..ConnectionStart::default()
    };
    let mut stages = vec![Vec::new()];
    for method in [Method::from(start), Method::from(ConnectionTune::default())] {
        let mut octets = stages.last().unwrap().clone();
        method.encode(&mut octets, 0, u32::MAX).unwrap();
        stages.push(octets);
    }
    stages
}

#[test]
fn a_connect_dropped_at_each_stage_of_the_handshake_closes_its_socket() {
    let _alone = alone();
    for (number, octets) in stages().into_iter().enumerate() {
        run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("amqp://{}", listener.local_addr().unwrap());
            let connecting = tokio::spawn(async move { amqp_tokio::connect(&url).await });
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.write_all(&octets).await.unwrap();
            // The protocol header, then a frame for each method.
            let mut answers = [0; 8];
            peer.read_exact(&mut answers).await.unwrap();
            for _ in 0..number {
                read_frame(&mut peer).await;
            }
            connecting.abort();
            assert!(connecting.await.unwrap_err().is_cancelled());
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).await.unwrap();
            drop(peer);
            until(|| alive_tasks() == 0).await;
        });
    }
}

async fn read_frame(stream: &mut TcpStream) {
    let mut header = [0; 7];
    stream.read_exact(&mut header).await.unwrap();
    let size = u32::from_be_bytes(header[3..].try_into().unwrap());
    let mut rest = vec![0; size as usize + 1];
    stream.read_exact(&mut rest).await.unwrap();
}

/// It is part of every task that connects, for as long as that runs.
#[test]
fn the_future_of_a_connect_is_small() {
    let connecting = amqp_tokio::connect("amqp://localhost");
    assert!(
        size_of_val(&connecting) <= 2048,
        "{} octets",
        size_of_val(&connecting)
    );
}
