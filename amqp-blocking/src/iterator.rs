//! A consumer whose deliveries are asked for.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use amqp_async::{ConsumerEnd, Error, Interruption};

use crate::channel::BlockingChannel;
use crate::connection::Step;
use crate::delivery::Delivery;
use crate::error::DispatchError;

/// What comes to a consumer, one after the other. While it waits, the connection's callbacks and timers run.
///
/// It ends when its channel or connection was closed from here, and when nothing came for the
/// [inactivity timeout](Self::inactivity_timeout); it can be asked again then. If anything else ended it, that is its last item.
///
/// Dropped, it is cancelled, and what was not taken goes back to the queue; [`cancel`](Self::cancel) says how many that were.
#[derive(Debug)]
pub struct Consumer {
    channel: BlockingChannel,
    consumer: amqp_async::Consumer,
    inactivity: Option<Duration>,
    interruptions: Option<Interruptions>,
}

/// Interruptions come up where a lock is held, and are told where none is.
struct Interruptions {
    waiting: Arc<Mutex<Option<Interruption>>>,
    call: Box<dyn FnMut(&Interruption) + Send>,
}

impl fmt::Debug for Interruptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruptions")
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

impl Interruptions {
    fn tell(&mut self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(interruption) = waiting {
            (self.call)(&interruption);
        }
    }
}

impl Consumer {
    pub(crate) const fn new(channel: BlockingChannel, consumer: amqp_async::Consumer) -> Self {
        Self {
            channel,
            consumer,
            inactivity: None,
            interruptions: None,
        }
    }

    /// Has that called, on the thread that asks for deliveries, when it went on after an interruption: before the first delivery that
    /// came behind it is given.
    #[must_use]
    pub fn on_interruption(mut self, call: impl FnMut(&Interruption) + Send + 'static) -> Self {
        let waiting: Arc<Mutex<Option<Interruption>>> = Arc::default();
        let place = Arc::clone(&waiting);
        self.consumer = self.consumer.on_interruption(move |interruption| {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(interruption.clone());
        });
        let call = Box::new(call);
        self.interruptions = Some(Interruptions { waiting, call });
        self
    }

    /// For how long the next delivery is waited for. Default: as long as the connection lasts.
    #[must_use]
    pub const fn inactivity_timeout(mut self, timeout: Duration) -> Self {
        self.inactivity = Some(timeout);
        self
    }

    /// Its tag, which is the broker's name for it.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.consumer.tag()
    }

    /// The channel that it is on.
    #[must_use]
    pub const fn channel(&self) -> &BlockingChannel {
        &self.channel
    }

    /// The next delivery; `None` if nothing comes for so long.
    ///
    /// # Errors
    /// What ended it, or a callback that panicked.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Delivery>, DispatchError> {
        self.next_until(Instant::now().checked_add(limit))
    }

    /// Ends it. What had come and was not taken goes back to the queue: says how many that were. Without acknowledgements they are
    /// lost, and not counted.
    ///
    /// # Errors
    /// As [`BlockingChannel::queue_declare`].
    pub fn cancel(self) -> Result<usize, Error> {
        self.channel.wait(self.consumer.cancel())
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Delivery>, DispatchError> {
        loop {
            let consumer = &mut self.consumer;
            let connection = self.channel.connection();
            let step = connection.step(deadline, |_, cx| pin!(consumer.next()).poll(cx));
            if let Some(interruptions) = &mut self.interruptions {
                interruptions.tell();
            }
            match step? {
                Step::Found(Some(Ok(delivery))) => {
                    return Ok(Some(Delivery::new(delivery, self.channel.timeout())));
                }
                Step::Found(Some(Err(end))) => return Err(DispatchError::Consumer(end)),
                Step::Found(None) => return Err(DispatchError::Consumer(ConsumerEnd::Requested)),
                Step::Handled | Step::Unheard => {}
                Step::Late => return Ok(None),
            }
        }
    }
}

impl Iterator for Consumer {
    type Item = Result<Delivery, DispatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let deadline = self
            .inactivity
            .and_then(|timeout| Instant::now().checked_add(timeout));
        match self.next_until(deadline) {
            Ok(delivery) => delivery.map(Ok),
            Err(error) if error.is_requested() => None,
            Err(error) => Some(Err(error)),
        }
    }
}
