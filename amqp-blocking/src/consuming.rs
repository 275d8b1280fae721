//! Consumers with handlers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;

use amqp_async::{ConsumeOptions, ConsumerEnd, Error, HandlerError};

use crate::channel::BlockingChannel;
use crate::connection::Step;
use crate::delivery::Delivery;
use crate::dispatch::{Dispatch, Registered, Taken};
use crate::error::DispatchError;
use crate::iterator::Consumer;
use crate::wait::ask;

/// Stops a channel's consuming, from any thread. It keeps neither the channel nor the connection open.
#[derive(Debug, Clone)]
pub struct StopHandle {
    is_stopped: Arc<AtomicBool>,
    dispatch: Weak<Dispatch>,
}

impl StopHandle {
    /// [`BlockingChannel::stop_consuming`]
    pub fn stop_consuming(&self) {
        if let Some(dispatch) = self.dispatch.upgrade() {
            dispatch.change(|_| self.is_stopped.store(true, Ordering::Release));
        }
    }
}

/// What there is to do for somebody who consumes.
enum Work {
    Taken(Taken),
    Stopped,
    /// There is no consumer any more.
    Over,
}

/// Consumers.
impl BlockingChannel {
    /// Starts a consumer, and gives its tag. What comes is given to the handler by
    /// [`start_consuming`](Self::start_consuming) and [`process_data_events`](crate::BlockingConnection::process_data_events), on
    /// the thread that calls them. A handler may use the channel, this consumer's cancelling included, and take its time.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare); a tag that is in use on the channel.
    pub fn basic_consume(
        &self,
        queue: &str,
        options: ConsumeOptions,
        handler: impl FnMut(&Self, Delivery) -> Result<(), HandlerError> + Send + 'static,
    ) -> Result<String, Error> {
        let queue = self.asynchronous().queue(queue);
        let consumer = self.wait(queue.consume_with(options))?;
        let tag = consumer.tag().to_owned();
        self.connection().dispatch().add_consumer(Box::new(Registered {
            channel: Arc::clone(&self.inner),
            tag: tag.as_str().into(),
            consumer,
            handler: Box::new(handler),
        }));
        Ok(tag)
    }

    /// Starts a consumer whose deliveries are asked for, one after the other.
    ///
    /// # Errors
    /// As [`basic_consume`](Self::basic_consume).
    pub fn consume(&self, queue: &str, options: ConsumeOptions) -> Result<Consumer, Error> {
        let queue = self.asynchronous().queue(queue);
        let consumer = self.wait(queue.consume_with(options))?;
        Ok(Consumer::new(self.clone(), consumer))
    }

    /// Ends a consumer that has a handler. What had come and was not handled goes back to the queue: says how many that were. Within
    /// its own handler it ends when that is done, and nothing is said. One that is not known is ended already.
    ///
    /// # Errors
    /// As [`queue_declare`](Self::queue_declare).
    pub fn basic_cancel(&self, tag: &str) -> Result<usize, Error> {
        match self.connection().dispatch().take_consumer(self.inner.key, tag) {
            Some(registered) => self.wait(registered.consumer.cancel()),
            None => Ok(0),
        }
    }

    /// Gives deliveries to the handlers of this channel's consumers, and runs the connection's callbacks and timers, until
    /// [`stop_consuming`](Self::stop_consuming) is called or no consumer is left. Then the consumers are cancelled, and what had
    /// come and was not handled goes back to the queue. Ends without an error too when the connection is closed from here.
    ///
    /// One thread for each channel: several may consume from different channels of a connection.
    ///
    /// # Errors
    /// [`DispatchError`]. After [`DispatchError::Handler`] it may be called again.
    pub fn start_consuming(&self) -> Result<(), DispatchError> {
        let key = self.inner.key;
        let mut end = ConsumerEnd::Requested;
        loop {
            let step = self.connection().step(None, |state, cx| {
                if self.inner.is_stopped.swap(false, Ordering::AcqRel) {
                    return Poll::Ready(Work::Stopped);
                }
                match state.poll_consumers(Some(key), cx) {
                    Poll::Ready(taken) => Poll::Ready(Work::Taken(taken)),
                    Poll::Pending if state.has_consumers(key) => Poll::Pending,
                    Poll::Pending => Poll::Ready(Work::Over),
                }
            });
            let error = match step {
                Ok(Step::Found(Work::Taken(Taken::Delivery(registered, delivery)))) => {
                    self.connection().deliver(registered, delivery)?;
                    continue;
                }
                Ok(Step::Found(Work::Taken(Taken::End(ended, reason)))) => {
                    self.connection().tell_of_end(*ended, &reason)?;
                    end = reason;
                    continue;
                }
                Ok(Step::Handled | Step::Unheard | Step::Late) => continue,
                Ok(Step::Found(Work::Stopped)) => {
                    self.cancel_all();
                    return Ok(());
                }
                Ok(Step::Found(Work::Over)) => DispatchError::Consumer(end),
                Err(error) => error,
            };
            return if error.is_requested() { Ok(()) } else { Err(error) };
        }
    }

    /// Ends [`start_consuming`](Self::start_consuming), as soon as the handler that runs is done. If nobody consumes, the next one
    /// ends at once.
    pub fn stop_consuming(&self) {
        self.stop_handle().stop_consuming();
    }

    /// What other threads, such as a signal's, stop this channel's consuming with.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle {
            is_stopped: Arc::clone(&self.inner.is_stopped),
            dispatch: Arc::downgrade(self.connection().dispatch()),
        }
    }

    fn cancel_all(&self) {
        for registered in self.connection().dispatch().take_consumers(self.inner.key) {
            // One that cannot be cancelled has ended.
            let _ = ask(self.timeout(), registered.consumer.cancel());
        }
    }
}
