//! A consumer: the stream of what comes to it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use amqp_proto::{ConsumerId, Message, SendError};
use futures_core::Stream;

use crate::call::{Call, Deadline, retry};
use crate::channel::{Channel, refusal};
use crate::delivery::{Delivery, Origin, ProcessOptions};
use crate::error::Error;
use crate::handling::{self, HandlerError, Handling};
use crate::idle::UntilIdle;
use crate::inbox::{ConsumerEnd, Link, SOFT_LIMIT};
use crate::interruption::{Interruption, OnInterruption};
use crate::shared::State;

/// What comes to a consumer. The stream ends when the consumer was [cancelled](Self::cancel) here; if anything else ended it, that is
/// its last item.
///
/// Dropped, it is cancelled, and what was not taken goes back to the queue.
///
/// It holds as much as the prefetch limit of its channel allows ([`Channel::set_qos`]). Without such a limit, or without
/// acknowledgements, the connection is hardly read while 512 KiB wait to be taken: 1 MiB every 5 s, since RabbitMQ gives up on who reads
/// nothing for long. If somebody waits for an answer it is read on all the same. All that ends when 64 MiB wait. With acknowledgements the consumer ends there ([`ConsumerEnd::Overflow`]). Without them nothing more is
/// read as long as deliveries are taken, however slowly. If none is taken for 5 to 10 s and somebody still waits for an answer, or a
/// confirm, which is behind the messages on their way, it ends as well: after what waits in it, and what was on its way is lost.
///
/// A **stream** (RabbitMQ page "Streams") keeps what is read from it, and takes nothing back: RabbitMQ ends the connection of who tries
/// (540). So what would go back to a queue, or be rejected because its handler failed, is acknowledged if it came from a stream, which only
/// asks for more. A consumer is known to be a stream's if its [arguments](crate::ConsumeOptions::arguments) have `x-stream-offset`, or if
/// its [`Queue`](crate::Queue) was declared by that handle with `x-queue-type` = `stream`. Streams want a prefetch limit.
#[derive(Debug)]
pub struct Consumer {
    /// What its deliveries have in common.
    origin: Arc<Origin>,
    /// Its first, by which its inbox is found.
    id: ConsumerId,
    /// Taken from the inbox, all at once.
    ready: VecDeque<amqp_proto::Delivery>,
    has_ended: bool,
    link: Arc<Link>,
    /// How many losses it knows of.
    losses: u32,
    on_interruption: Option<OnInterruption>,
}

/// What a consumer that waits for so long and no longer comes to ([`Consumer::next_within`]).
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "dropped, a delivery goes back to its queue"]
pub enum Next {
    /// A message came.
    Delivery(Delivery),
    /// Nothing came in that time. More may come.
    Idle,
    /// Nothing more comes, and why.
    Ended(ConsumerEnd),
}

impl Consumer {
    pub(crate) fn new(channel: Channel, id: ConsumerId, tag: String, no_ack: bool, link: Arc<Link>) -> Self {
        let origin = Origin {
            channel,
            consumer: Some(tag),
            no_ack,
        };
        Self {
            origin: Arc::new(origin),
            id,
            ready: VecDeque::new(),
            has_ended: false,
            link,
            losses: 0,
            on_interruption: None,
        }
    }

    /// Has that called when it goes on after an interruption: before the first delivery that came behind it is given away, and where
    /// deliveries are waited for, a [handler](Self::handle)'s included. It is not called when the consumer ends. There is one such
    /// function; a later one takes its place.
    ///
    /// ```no_run
    /// # async fn example(queue: amqp_async::Queue) -> Result<(), amqp_async::Error> {
    /// let consumer = queue.consume().await?.on_interruption(|interruption| {
    ///     println!("what is not settled comes again: {}", interruption.cause);
    /// });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_interruption(mut self, call: impl Fn(&Interruption) + Send + Sync + 'static) -> Self {
        self.on_interruption = Some(OnInterruption(Arc::new(call)));
        self
    }

    /// Its tag, which is the broker's name for it.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.origin.consumer.as_deref().unwrap_or_default()
    }

    /// The channel that it is on.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.origin.channel
    }

    /// The next delivery; `None` when it was cancelled here.
    ///
    /// # Errors
    /// What else ended it; told once.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumerEnd>> {
        std::future::poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The next delivery, if it comes within that time.
    pub async fn next_within(&mut self, idle: Duration) -> Next {
        let origin = Arc::clone(&self.origin);
        let mut deadline = None;
        std::future::poll_fn(|cx| match self.poll_delivery(cx) {
            Poll::Ready(Some(Ok(delivery))) => Poll::Ready(Next::Delivery(delivery)),
            Poll::Ready(Some(Err(end))) => Poll::Ready(Next::Ended(end)),
            Poll::Ready(None) => Poll::Ready(Next::Ended(ConsumerEnd::Requested)),
            Poll::Pending => {
                let begin = || Deadline::after(origin.channel.shared(), Some(idle));
                deadline.get_or_insert_with(begin).poll(cx).map(|()| Next::Idle)
            }
        })
        .await
    }

    /// What comes until nothing has come for that time: a stream that ends then, of a consumer that goes on
    /// ([`UntilIdle::into_consumer`]).
    pub const fn until_idle(self, idle: Duration) -> UntilIdle {
        UntilIdle::new(self, idle)
    }

    /// Ends it. What had come and was not taken goes back to the queue: says how many that were. Without acknowledgements they are
    /// lost, and not counted.
    ///
    /// # Errors
    /// As [`Channel::request`].
    pub async fn cancel(mut self) -> Result<usize, Error> {
        let answer = self.ask_to_cancel().await;
        let count = self.give_back();
        match answer {
            // It is being ended by somebody else.
            Err(Error::Refused(SendError::UnknownConsumer)) => Ok(count),
            answer => answer.map(|()| count),
        }
    }

    /// Cancels it in the life that its channel has then, and waits for the answer.
    async fn ask_to_cancel(&self) -> Result<(), Error> {
        let (shared, place) = (self.channel().shared(), self.channel().place());
        let deadline = self.channel().deadline();
        let ask = |state: &mut State| {
            state.core(place)?;
            let entry = state.channels.get_mut(place);
            let inbox = entry.and_then(|entry| entry.inbox_of(self.id));
            let id = inbox.map_or(self.id, |inbox| inbox.id);
            if state.has_asked_again(id) {
                return Err(SendError::UnknownConsumer);
            }
            let request = state.core(place)?.cancel(id)?.untyped();
            state.await_answer(request);
            Ok(request)
        };
        let request = retry(shared, &deadline, ask, refusal(place)).await?;
        Call::new(shared, request, &deadline).await.map(drop)
    }

    /// Calls a handler for each delivery, in the background and up to `limit` at a time, at least one: acknowledges those that succeed and
    /// rejects the others as `options` say ([`Delivery::process`]).
    pub fn handle<F, Fut>(self, limit: usize, options: ProcessOptions, handler: F) -> Handling
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        handling::start(self, limit, move |delivery| {
            let (handler, options) = (Arc::clone(&handler), options.clone());
            async move {
                // A failure was answered by settling, which is what can be done about it here.
                let _ = delivery.process(options, |message| handler(message)).await;
            }
        })
    }

    #[inline]
    pub(crate) fn poll_delivery(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Delivery, ConsumerEnd>>> {
        if self.link.losses() != self.losses {
            self.note_loss();
        }
        if self.link.is_revoked() {
            self.give_back_ready();
        }
        match self.take_ready() {
            Some(delivery) => Poll::Ready(Some(Ok(delivery))),
            None => self.poll_inbox(cx),
        }
    }

    /// Nothing is taken at the moment: what was taken out of the inbox must go back all the same if it is time for that.
    pub(crate) fn watch(&mut self, cx: &Context<'_>) {
        let channel = &self.origin.channel;
        let mut locked = channel.shared().lock();
        let state = &mut *locked;
        let entry = state.channels.get_mut(channel.place());
        if let Some(inbox) = entry.and_then(|entry| entry.inbox_of(self.id)) {
            state.retired.extend(inbox.watch(cx));
        }
        drop(locked);
        if self.link.is_revoked() {
            self.give_back_ready();
        }
    }

    /// The connection is about to be closed.
    #[cold]
    fn give_back_ready(&mut self) {
        if let Some(first) = self.ready.front() {
            let channel = first.tag.channel();
            let ready = std::mem::take(&mut self.ready);
            let command = |state: &mut State| state.give_back_ahead(channel, ready, &self.link);
            self.channel().shared().command(command);
        }
    }

    /// What was not handed out comes again, if it wants acknowledgements.
    #[cold]
    fn note_loss(&mut self) {
        self.losses = self.link.losses();
        if !self.origin.no_ack {
            self.ready.clear();
            self.link.set(0);
        }
    }

    /// Takes all that came since the last time.
    #[inline(never)]
    fn poll_inbox(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery, ConsumerEnd>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let channel = &self.origin.channel;
        let mut locked = channel.shared().lock();
        let state = &mut *locked;
        let entry = state.channels.get_mut(channel.place());
        let Some(inbox) = entry.and_then(|entry| entry.inbox_of(self.id)) else {
            return Poll::Ready(None);
        };
        // What comes from here on is of this life.
        self.losses = self.link.losses();
        let interruption = inbox.take_interruption();
        let was_over = inbox.is_over(SOFT_LIMIT);
        let taken = inbox.take(&mut self.ready, cx, &mut state.retired);
        self.link.set(self.ready.len());
        // The driver may have stopped reading for it.
        let driver = was_over.then(|| state.take_driver()).flatten();
        drop(locked);
        if let Some(driver) = driver {
            driver.wake();
        }
        if let (Some(interruption), Some(call)) = (&interruption, &self.on_interruption) {
            (call.0)(interruption);
        }
        match taken {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(end)) => {
                self.has_ended = true;
                Poll::Ready(match end {
                    ConsumerEnd::Requested => None,
                    end => Some(Err(end)),
                })
            }
            Poll::Ready(None) => Poll::Ready(self.take_ready().map(Ok)),
        }
    }

    #[inline(always)]
    fn take_ready(&mut self) -> Option<Delivery> {
        let left = self.ready.len().checked_sub(1)?;
        // All this comes first, so that the delivery is moved once.
        let origin = Arc::clone(&self.origin);
        self.link.note_taken();
        self.link.set(left);
        let delivery = self.ready.pop_front()?;
        Some(Delivery::consumed(origin, delivery))
    }

    /// Gives back what nobody will take, and leaves the channel's list. Says how many went back.
    fn give_back(&mut self) -> usize {
        let (handle, place) = (self.id, self.channel().place());
        let is_stale = self.link.losses() != self.losses;
        let ready = std::mem::take(&mut self.ready);
        self.channel().shared().command(|state| {
            let entry = state.channels.get_mut(place);
            let inbox = entry.and_then(|entry| entry.inbox_of(handle));
            let Some((id, waiting, tag)) = inbox.map(|inbox| (inbox.id, inbox.len(), inbox.tag.clone()))
            else {
                return 0;
            };
            let taken = if is_stale { 0 } else { ready.len() };
            let count = taken + waiting;
            // Another one may have its tag by now.
            let entry = state.channels.get_mut(place);
            let current = entry.and_then(|entry| entry.inbox_of_tag(&tag));
            if current.is_none_or(|inbox| inbox.handle == handle) {
                state.forget_consumer(place, &tag);
            }
            if !self.origin.no_ack {
                self.link.take();
                state.note_given_back(id.channel(), count);
            }
            state.end_consumer(id, ConsumerEnd::Requested);
            if let Some(entry) = state.channels.get_mut(place) {
                if let Some(inbox) = entry.inbox_of(handle) {
                    state.retired.extend(inbox.take_waker());
                    inbox.end(ConsumerEnd::Requested, &mut state.wakes);
                }
                entry.consumers.retain(|inbox| inbox.handle != handle);
            }
            if self.origin.no_ack {
                return 0;
            }
            state.give_back(ready);
            count
        })
    }
}

impl Stream for Consumer {
    type Item = Result<Delivery, ConsumerEnd>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_delivery(cx)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.give_back();
    }
}
