//! A consumer that is taken from until nothing comes any more.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::consumer::Consumer;
use crate::delivery::Delivery;
use crate::inbox::ConsumerEnd;
use crate::shared::Shared;

/// What comes to a consumer until nothing has come for some time ([`Consumer::until_idle`]). Time counts while somebody waits for the
/// next delivery. The stream ends then, or when the consumer has; if anything but a cancel ended it, that is the last item.
///
/// Dropped, it cancels the consumer.
#[derive(Debug)]
#[must_use = "dropped, the consumer is cancelled"]
pub struct UntilIdle {
    consumer: Consumer,
    idle: Duration,
    /// Of the wait for the next delivery.
    alarm: Option<Alarm>,
    is_idle: bool,
}

/// Goes with whoever waits.
#[derive(Debug)]
struct Alarm {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.lock().remove_alarm(self.number);
    }
}

impl UntilIdle {
    pub(crate) const fn new(consumer: Consumer, idle: Duration) -> Self {
        Self {
            consumer,
            idle,
            alarm: None,
            is_idle: false,
        }
    }

    /// The next delivery; `None` when none has come for so long, or when the consumer was cancelled here.
    ///
    /// # Errors
    /// What else ended the consumer; told once.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumerEnd>> {
        std::future::poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// Whether it ended because nothing came.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// The consumer itself, for what comes later.
    pub fn into_consumer(self) -> Consumer {
        self.consumer
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumerEnd>>> {
        if self.is_idle {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = self.consumer.poll_delivery(cx) {
            self.alarm = None;
            return Poll::Ready(next);
        }
        let (shared, idle) = (self.consumer.channel().shared(), self.idle);
        let set = || Alarm {
            shared: Arc::clone(shared),
            number: shared.command(|state| state.alarms.set(idle)),
        };
        let number = self.alarm.get_or_insert_with(set).number;
        let is_over = shared.lock().poll_alarm(number, cx).is_ready();
        if !is_over {
            return Poll::Pending;
        }
        self.alarm = None;
        self.is_idle = true;
        Poll::Ready(None)
    }
}

impl Stream for UntilIdle {
    type Item = Result<Delivery, ConsumerEnd>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}
