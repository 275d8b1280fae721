//! Whole clients, doing the same against the same broker, each in a process of its own.

mod amiquip;
mod amqprs;
mod cases;
mod floor;
mod lapin;
mod measure;
mod ours;
mod ours_blocking;
mod ours_mio;
mod rabbitmq_c;
mod round_trips;

use std::future::Future;

use anyhow::Result;
use bytes::Bytes;

pub use cases::{Ack, CASES, Case, PREFETCH, Placement, SMALL, Work};
pub use measure::{Report, main};
pub use rabbitmq_c::{RABBITMQ_C, build as build_rabbitmq_c};

use crate::QueueName;
use crate::clients::amiquip::Amiquip;
use crate::clients::amqprs::Amqprs;
use crate::clients::floor::Floor;
use crate::clients::lapin::Lapin;
use crate::clients::measure::{Job, measure};
use crate::clients::ours::Ours;
use crate::clients::ours_blocking::OursBlocking;
use crate::clients::ours_mio::OursMio;
use crate::clients::round_trips::RoundTrips;

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

    /// Publishes `count` messages, each when the one before has come back, and says what that took.
    fn echo(&mut self, body: &Bytes, count: u64) -> impl Future<Output = Result<RoundTrips>> + Send;

    /// Connects, opens a channel, declares a queue and closes the connection.
    fn visit(port: u16) -> impl Future<Output = Result<()>> + Send;
}

/// The clients' names, in the order of the table.
pub const PEERS: [&str; 9] = [
    "ours",
    "ours_blocking",
    "ours_mio",
    "lapin",
    "lapin_joined",
    "amqprs",
    "amiquip",
    RABBITMQ_C,
    "floor",
];

async fn measure_peer(peer: &str, job: Job) -> Result<Report> {
    match peer {
        "ours" => measure::<Ours>(job).await,
        "ours_blocking" => measure::<OursBlocking>(job).await,
        "ours_mio" => measure::<OursMio>(job).await,
        "lapin" => measure::<Lapin<1>>(job).await,
        "lapin_joined" => measure::<Lapin<100>>(job).await,
        "amqprs" => measure::<Amqprs>(job).await,
        "amiquip" => measure::<Amiquip>(job).await,
        "floor" => measure::<Floor>(job).await,
        unknown => anyhow::bail!("there is no client {unknown}"),
    }
}
