//! The ways in which a program leaves a connection. Nothing may be left of it in the process: no task, no socket, no memory.
//!
//! Whoever compiles this brings `crate::runtime` with `connect` and `abort_after`.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use amqp_async::{Confirm, Connection, ProcessOptions};

/// How many ways there are.
pub(crate) const WAYS: usize = 9;

/// Longer than a shutdown takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Makes a connection and leaves it in that way.
pub(crate) async fn connect_and_leave(url: &str, way: usize) {
    match way {
        0 => close(&connect(url).await).await,
        1 => drop(connect(url).await),
        2 => drop(connect(url).await.channel().await.unwrap()),
        3 => Busy::new(url).await.leave().await,
        4 => {
            let url = url.to_owned();
            let other = url.clone();
            let task = async move { Busy::new(&other).await.stay().await };
            // Somewhere on its way, or at its end.
            crate::runtime::abort_after(task, async move { close(&connect(&url).await).await }).await;
        }
        5 => drop(Busy::new(url).await.shut_down().await),
        // Dropped in the middle: while TCP connects, in the handshake, or just when it is done.
        _ => give_up(crate::runtime::connect(url), way + 1 - 6).await,
    }
}

async fn connect(url: &str) -> Connection {
    crate::runtime::connect(url).await.unwrap()
}

async fn close(connection: &Connection) {
    drop(connection.close().await);
}

/// Polls it so many times, and drops it.
async fn give_up<F: Future>(future: F, polls: usize) {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|cx| {
        polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if polled < polls => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

/// A connection on which everything is under way.
struct Busy {
    queue: amqp_async::Queue,
    consumer: amqp_async::Consumer,
    confirms: Vec<Confirm>,
}

impl Busy {
    async fn new(url: &str) -> Self {
        let channel = connect(url).await.channel().await.unwrap();
        let queue = channel.declare_queue("").exclusive(true).await.unwrap();
        let consumer = queue.consume().await.unwrap();
        let mut confirms = Vec::new();
        for _ in 0..20 {
            let publish = channel.default_exchange();
            confirms.push(publish.publish_deferred("x", queue.name()).await.unwrap());
        }
        Self {
            queue,
            consumer,
            confirms,
        }
    }

    /// With a delivery that is not settled, publishes that are not confirmed and a call that is not answered.
    async fn leave(mut self) {
        let delivery = self.consumer.next().await.unwrap().unwrap();
        let channel = self.queue.channel().clone();
        give_up(channel.declare_queue("").exclusive(true).into_future(), 1).await;
        drop((self, delivery));
    }

    /// With a delivery that is settled, and handlers that finish.
    async fn shut_down(mut self) -> Connection {
        let delivery = self.consumer.next().await.unwrap().unwrap();
        let handling = self
            .consumer
            .handle(3, ProcessOptions::default(), |_| async { Ok(()) });
        let connection = self.queue.channel().connection().clone();
        let mut shutdown = Box::pin(connection.shutdown(TIMEOUT));
        give_up(shutdown.as_mut(), 1).await;
        delivery.ack().await.unwrap();
        assert!(shutdown.await.is_complete());
        handling.ended().await.unwrap();
        drop(self.confirms);
        connection
    }

    /// Until it is stopped.
    async fn stay(mut self) {
        while self.consumer.next().await.is_some() {}
        drop(self.confirms);
    }
}
