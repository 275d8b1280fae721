//! Tasks, and who does them (RabbitMQ tutorial 2 "Work Queues"; aio-pika's `Master` and `Worker`).
//!
//! ```no_run
//! # async fn example(connection: amqp_async::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! use amqp_async::PoisonPolicy;
//! use amqp_async::worker::{Master, Outcome, WorkerOptions};
//!
//! let master = Master::new(&connection.channel().await?);
//! let options = WorkerOptions::default().poison(PoisonPolicy::after(5));
//! let worker = master.start_worker("thumbnails", options, |task| async move {
//!     let path = String::from_utf8(task.body().into_owned())?;
//!     println!("{path}");
//!     Ok(Outcome::Ack)
//! }).await?;
//!
//! master.create_task("thumbnails", "images/cat.png").await?;
//! worker.stop().await?;
//! # Ok(())
//! # }
//! ```

use std::future::Future;
use std::sync::Arc;

use amqp_proto::wire::FieldTable;

use crate::channel::{Channel, Qos};
use crate::delivery::{ProcessOptions, Verdict};
use crate::error::{Error, PublishError};
use crate::handling::{self, HandlerError, Handling};
use crate::message::Message;
use crate::poison::PoisonPolicy;
use crate::proto;

/// Who has tasks to be done, and starts workers that do them. A task is a message in a durable queue, whose name is the kind of task.
#[derive(Debug, Clone)]
pub struct Master {
    channel: Channel,
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    #[default]
    Ack,
    /// It cannot be done: it is dropped, or dead-lettered.
    Reject,
    /// It is to be done later, or by somebody else: it goes back to its queue.
    Requeue,
}

/// How a worker is to be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// How many tasks are done at the same time, and as many are fetched; 0 counts as 1, the default.
    pub concurrency: u16,
    /// How the queue is declared, besides durable, such as `x-queue-type`. It must be the same for all its workers.
    pub arguments: FieldTable,
    /// A task whose worker fails goes back to its queue; otherwise, and that is the default, it is dropped or dead-lettered.
    pub requeue: bool,
    /// What is done with a task that was tried too often. Rejections in its own queue count. Default: nothing.
    pub poison: Option<PoisonPolicy>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 1,
            arguments: FieldTable::new(),
            requeue: false,
            poison: None,
        }
    }
}

impl WorkerOptions {
    /// Sets [`concurrency`](Self#structfield.concurrency).
    #[must_use]
    pub const fn concurrency(mut self, concurrency: u16) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets [`arguments`](Self#structfield.arguments).
    #[must_use]
    pub fn arguments(mut self, arguments: FieldTable) -> Self {
        self.arguments = arguments;
        self
    }

    /// Sets [`requeue`](Self#structfield.requeue).
    #[must_use]
    pub const fn requeue(mut self, requeue: bool) -> Self {
        self.requeue = requeue;
        self
    }

    /// Sets [`poison`](Self#structfield.poison).
    #[must_use]
    pub fn poison(mut self, policy: PoisonPolicy) -> Self {
        self.poison = Some(policy);
        self
    }
}

impl Master {
    /// Creates tasks on that channel, which should confirm. Workers get channels of their own on its connection.
    #[must_use]
    pub fn new(channel: &Channel) -> Self {
        Self {
            channel: channel.clone(),
        }
    }

    /// Has a task done: puts it into the queue of that name, persistent, and waits until the broker has it.
    ///
    /// # Errors
    /// [`PublishError::Returned`] if there is no such queue, because no worker was ever started; as
    /// [`Exchange::publish`](crate::Exchange::publish).
    pub async fn create_task(&self, queue: &str, task: impl Into<Message>) -> Result<(), PublishError> {
        let task = task.into().persistent();
        self.channel.default_exchange().publish(task, queue).await
    }

    /// Declares the queue of that name, if it is not there yet, and does its tasks in the background. A task is settled as the
    /// handler says; if it fails or panics, as `options` say.
    ///
    /// # Errors
    /// As [`Channel::request`]; 406 if the queue is there and has other arguments.
    pub async fn start_worker<F, Fut>(
        &self,
        queue: &str,
        options: WorkerOptions,
        handler: F,
    ) -> Result<Handling, Error>
    where
        F: Fn(proto::Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Outcome, HandlerError>> + Send + 'static,
    {
        let channel = self.channel.connection().channel().await?;
        let declare = channel.declare_queue(queue).durable(true);
        let queue = declare.arguments(options.arguments).await?;
        let concurrency = options.concurrency.max(1);
        channel.set_qos(Qos::prefetch(concurrency)).await?;
        let consumer = queue.consume().await?;

        let mut process = ProcessOptions::default().requeue(options.requeue);
        process.poison = options.poison.map(|policy| match policy.queue {
            None => policy.counting_in(queue.name()),
            Some(_) => policy,
        });
        let handler = Arc::new(handler);
        Ok(handling::start(consumer, usize::from(concurrency), move |task| {
            let (handler, process) = (Arc::clone(&handler), process.clone());
            async move {
                let requeue = process.requeue;
                let verdict = |result: &Result<Outcome, HandlerError>| match result {
                    Ok(Outcome::Ack) => Verdict::Ack,
                    Ok(Outcome::Reject) => Verdict::Reject,
                    Ok(Outcome::Requeue) => Verdict::Retry { requeue: true },
                    Err(_) => Verdict::Retry { requeue },
                };
                // What went wrong was answered by settling, which is what can be done about it here.
                let _ = task.settle_after(process, |task| handler(task), verdict).await;
            }
        }))
    }
}
