//! Whole clients, doing the same against the same broker, each in a process of its own.

mod amqprs;
mod cases;
mod floor;
mod lapin;
mod measure;
mod ours;

use std::future::Future;

use anyhow::Result;
use bytes::Bytes;

pub use cases::{Ack, CASES, Case, PREFETCH, Work};
pub use measure::{Report, main};

use crate::QueueName;
use crate::clients::amqprs::Amqprs;
use crate::clients::floor::Floor;
use crate::clients::lapin::Lapin;
use crate::clients::measure::{Job, measure};
use crate::clients::ours::Ours;

/// What a client must be able to do. Each call has a channel of its own.
pub(crate) trait Client: Sized + Send + 'static {
    /// Connects to the null broker on this port.
    fn connect(port: u16) -> impl Future<Output = Result<Self>> + Send;

    /// Publishes `count` messages and waits until the broker has them all.
    fn publish(&mut self, body: &Bytes, count: u64) -> impl Future<Output = Result<()>> + Send;

    /// Publishes `count` messages, at most so many unconfirmed, and waits until all are confirmed.
    fn confirm(
        &mut self,
        body: &Bytes,
        outstanding: usize,
        count: u64,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Consumes all the messages of the queue, and sees to it that the acks are written.
    fn consume(&mut self, queue: QueueName, ack: Ack) -> impl Future<Output = Result<()>> + Send;
}

/// The clients' names, in the order of the table.
pub const PEERS: [&str; 5] = ["ours", "lapin", "lapin_joined", "amqprs", "floor"];

async fn measure_peer(peer: &str, job: Job) -> Result<Report> {
    match peer {
        "ours" => measure::<Ours>(job).await,
        "lapin" => measure::<Lapin<1>>(job).await,
        "lapin_joined" => measure::<Lapin<100>>(job).await,
        "amqprs" => measure::<Amqprs>(job).await,
        "floor" => measure::<Floor>(job).await,
        unknown => anyhow::bail!("there is no client {unknown}"),
    }
}
