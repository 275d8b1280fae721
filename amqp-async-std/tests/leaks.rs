//! Connections in numbers: whichever way they are left, the process is as it was before. (The large numbers: `cargo xtask scale`.)
#![allow(missing_docs, reason = "tests")]
#![cfg(target_os = "linux")] // Open files are counted in /proc.

#[path = "../../amqp-async/scenarios/leaving.rs"]
mod leaving;

use std::fs;
use std::time::Duration;

use amqp_testbroker::TestBroker;
use async_std::future::timeout;
use async_std::task;

use crate::leaving::{WAYS, connect_and_leave};

/// Longer than it takes.
const DEADLINE: Duration = Duration::from_secs(60);

mod runtime {
    use std::future::Future;

    use amqp_async_std::{ConnectError, Connection};
    use async_std::task;

    pub(crate) async fn connect(url: &str) -> Result<Connection, ConnectError> {
        amqp_async_std::connect(url).await
    }

    /// Starts a task, and aborts it when the other one is done.
    pub(crate) async fn abort_after(
        task: impl Future<Output = ()> + Send + 'static,
        other: impl Future<Output = ()>,
    ) {
        let task = task::spawn(task);
        other.await;
        task.cancel().await;
    }
}

/// Nobody tells when a task has ended that nobody waits for.
async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        task::sleep(Duration::from_millis(1)).await;
    }
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

// The only test here with files: those that are open are the whole process's.
#[test]
fn a_hundred_connections_leave_no_open_file_however_they_are_left() {
    let broker = TestBroker::start().unwrap();
    let url = broker.uri();
    let test = async {
        connect_and_leave(&url, 0).await;
        until(|| broker.connections().is_empty()).await;
        // Our end of the first may still be open, so there may be fewer later.
        let before = open_files();
        for number in 0..100 {
            connect_and_leave(&url, number % WAYS).await;
        }
        until(|| broker.connections().is_empty() && open_files() <= before).await;
    };
    task::block_on(timeout(DEADLINE, test)).expect("it takes too long");
}

/// It is part of every task that connects, for as long as that runs.
#[test]
fn the_future_of_a_connect_is_small() {
    let connecting = amqp_async_std::connect("amqp://localhost");
    assert!(
        size_of_val(&connecting) <= 2048,
        "{} octets",
        size_of_val(&connecting)
    );
}
