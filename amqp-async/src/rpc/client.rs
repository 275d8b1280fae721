//! Who calls.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::{ERROR_TYPE, RpcError};
use crate::call::Deadline;
use crate::channel::Channel;
use crate::consumer::Consumer;
use crate::error::{Error, PublishError};
use crate::inbox::ConsumerEnd;
use crate::message::Message;
use crate::proto;
use crate::queue::{ConsumeOptions, Queue};
use crate::sync::{Mutex, MutexGuard};
use crate::wakers;

/// The queue of RabbitMQ's that leads back to whoever publishes.
const DIRECT: &str = "amq.rabbitmq.reply-to";

/// How long a call waits for its answer unless told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes calls. Clones share a channel, and any number of calls may be under way.
#[derive(Debug, Clone)]
pub struct RpcClient {
    inner: Arc<Inner>,
}

/// How an [`RpcClient`] is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcClientOptions {
    /// Answers come by an exclusive queue instead of RabbitMQ's direct way: for brokers that do not have that.
    pub exclusive_queue: bool,
    /// How long a call waits for its answer, and lives in a queue that nobody takes it from. Default 30 s.
    pub timeout: Duration,
}

impl Default for RpcClientOptions {
    fn default() -> Self {
        Self {
            exclusive_queue: false,
            timeout: TIMEOUT,
        }
    }
}

impl RpcClientOptions {
    /// Sets [`exclusive_queue`](Self#structfield.exclusive_queue).
    #[must_use]
    pub const fn exclusive_queue(mut self, exclusive_queue: bool) -> Self {
        self.exclusive_queue = exclusive_queue;
        self
    }

    /// Sets [`timeout`](Self#structfield.timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

#[derive(Debug)]
struct Inner {
    channel: Channel,
    /// Its name may change when the connection is made again.
    reply_to: Queue,
    timeout: Duration,
    calls: Arc<Calls>,
}

/// The calls that wait for their answers, by the number that is their correlation id.
#[derive(Debug, Default)]
struct Calls {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: HashMap<u64, Waiting>,
    /// Why no more answers come.
    end: Option<ConsumerEnd>,
    /// No call is made any more: the task that takes answers ends.
    is_over: bool,
    taker: Option<Waker>,
    dropped_replies: u64,
}

#[derive(Debug, Default)]
struct Waiting {
    answer: Option<proto::Message>,
    waker: Option<Waker>,
}

impl RpcClient {
    /// Calls on that channel, answered by RabbitMQ's direct way.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn new(channel: &Channel) -> Result<Self, Error> {
        Self::with_options(channel, RpcClientOptions::default()).await
    }

    /// Calls on that channel, as those options say.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn with_options(channel: &Channel, options: RpcClientOptions) -> Result<Self, Error> {
        let queue = if options.exclusive_queue {
            channel.declare_queue("").exclusive(true).await?
        } else {
            channel.queue(DIRECT)
        };
        let no_ack = ConsumeOptions::default().no_ack(true);
        let consumer = queue.consume_with(no_ack).await?;
        let calls = Arc::new(Calls::default());
        let inner = Inner {
            channel: channel.clone(),
            reply_to: queue,
            timeout: options.timeout,
            calls: Arc::clone(&calls),
        };
        // Made here: the task may be dropped before it is polled.
        let ending = Ending {
            calls,
            end: ConsumerEnd::Requested,
        };
        channel.shared().spawn(Box::pin(take(consumer, ending)));
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Calls whoever takes from that queue, and waits for the answer.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call(&self, queue: &str, message: impl Into<Message>) -> Result<proto::Message, RpcError> {
        self.call_within(queue, message, self.inner.timeout).await
    }

    /// The same, with a time limit of its own. It is the call's `expiration` too, so that nobody carries out what nobody waits for.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call_within(
        &self,
        queue: &str,
        message: impl Into<Message>,
        timeout: Duration,
    ) -> Result<proto::Message, RpcError> {
        let Inner {
            channel,
            reply_to,
            calls,
            ..
        } = &*self.inner;
        let deadline = Deadline::after(channel.shared(), Some(timeout));
        let call = Call::new(calls);
        let message = message
            .into()
            .correlation_id(call.number.to_string())
            .expiration(timeout);
        // The answer may come before the confirm, and the confirm need not come at all then.
        let exchange = channel.default_exchange();
        let confirm = exchange.publish_call(&message, queue, reply_to).await;
        let mut confirm = Some(confirm.map_err(|error| RpcError::Publish(error.into()))?);
        let answer = poll_fn(|cx| {
            if let Poll::Ready(answer) = call.poll(cx.waker()) {
                return Poll::Ready(answer);
            }
            if let Some(pending) = &mut confirm
                && let Poll::Ready(outcome) = Pin::new(pending).poll(cx)
            {
                confirm = None;
                if let Err(error) = outcome {
                    return Poll::Ready(Err(match error {
                        PublishError::Returned(_) => RpcError::NoServer,
                        error => RpcError::Publish(error),
                    }));
                }
            }
            deadline.poll(cx).map(|()| Err(RpcError::Timeout(timeout)))
        })
        .await?;
        let kind = answer.properties().message_type;
        if kind.is_some_and(|kind| kind.as_bytes() == ERROR_TYPE.as_bytes()) {
            return Err(RpcError::Server(Box::new(answer)));
        }
        Ok(answer)
    }

    /// How many answers came for no call: too late, or more than once.
    #[must_use]
    pub fn dropped_replies(&self) -> u64 {
        self.inner.calls.lock().dropped_replies
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        state.is_over = true;
        let taker = state.taker.take();
        drop(state);
        if let Some(taker) = taker {
            taker.wake();
        }
    }
}

/// Brings answers to their calls, until no client is left or the consumer ends.
async fn take(mut consumer: Consumer, mut ending: Ending) {
    let calls = Arc::clone(&ending.calls);
    ending.end = loop {
        let next = poll_fn(|cx| {
            let mut state = calls.lock();
            if state.is_over {
                return Poll::Ready(None);
            }
            let retired = wakers::replace(&mut state.taker, cx);
            drop(state);
            drop(retired);
            consumer.poll_delivery(cx)
        });
        match next.await {
            Some(Ok(delivery)) => calls.answer(delivery.into_message().1),
            Some(Err(end)) => break end,
            None => break ConsumerEnd::Requested,
        }
    };
}

/// No more answers come when this is dropped, be it with a task whose runtime ends.
struct Ending {
    calls: Arc<Calls>,
    end: ConsumerEnd,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.calls.lock();
        state.end = Some(self.end.clone());
        let wakers: Vec<_> = state
            .waiting
            .values_mut()
            .filter_map(|call| call.waker.take())
            .collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Calls {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, message: proto::Message) {
        let number = message.properties().correlation_id;
        let number = number.and_then(|number| number.to_str().ok()?.parse().ok());
        let mut state = self.lock();
        let call = number.and_then(|number: u64| state.waiting.get_mut(&number));
        let waker = match call.filter(|call| call.answer.is_none()) {
            Some(call) => {
                call.answer = Some(message);
                call.waker.take()
            }
            None => {
                state.dropped_replies += 1;
                None
            }
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A call under way; forgotten when dropped.
struct Call<'c> {
    calls: &'c Calls,
    number: u64,
}

impl<'c> Call<'c> {
    fn new(calls: &'c Calls) -> Self {
        let mut state = calls.lock();
        state.next += 1;
        let number = state.next;
        state.waiting.insert(number, Waiting::default());
        Self { calls, number }
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<proto::Message, RpcError>> {
        let mut state = self.calls.lock();
        let end = state.end.clone();
        let Some(call) = state.waiting.get_mut(&self.number) else {
            return Poll::Pending; // It is there as long as this is.
        };
        if let Some(answer) = call.answer.take() {
            return Poll::Ready(Ok(answer));
        }
        if let Some(end) = end {
            return Poll::Ready(Err(RpcError::Ended(end)));
        }
        let retired = call.waker.replace(waker.clone());
        drop(state);
        drop(retired);
        Poll::Pending
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let retired = self.calls.lock().waiting.remove(&self.number);
        // Its waker may run anything.
        drop(retired);
    }
}
