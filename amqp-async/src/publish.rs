//! A publish, and what becomes of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use amqp_proto::wire::{BasicPublish, ShortStr};
use amqp_proto::{CloseReason, ConfirmOutcome, ConfirmTag, SendError};

use crate::call::Deadline;
use crate::channel::{BlockedPolicy, Channel};
use crate::channels::Entry;
use crate::confirms::Settled;
use crate::error::{Error, PublishError};
use crate::message::Message;
use crate::queue::Queue;
use crate::shared::State;
use crate::wakers::WakerKey;

/// What becomes of a publish: resolves when the broker has confirmed or refused it, or when the channel has ended. On a channel that
/// does not confirm it resolves at once. To drop it changes nothing but that nobody learns it.
#[derive(Debug)]
#[must_use = "it says whether the broker has the message"]
pub struct Confirm {
    channel: Channel,
    /// None if there is nothing to wait for any more.
    tag: Option<ConfirmTag>,
}

impl Confirm {
    /// The publish's number on its channel, from 1, however often that was opened again; none on a channel that does not confirm, or
    /// when it is settled.
    #[must_use]
    pub const fn tag(&self) -> Option<ConfirmTag> {
        self.tag
    }
}

impl Future for Confirm {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(tag) = self.tag else {
            return Poll::Ready(Ok(()));
        };
        let mut locked = self.channel.shared().lock();
        let state = &mut *locked;
        let entry = state.channels.get_mut(self.channel.place());
        let settled = match entry {
            Some(entry) => entry.confirms.poll(tag.value(), cx, &mut state.retired),
            None => Poll::Ready(None),
        };
        if settled.is_pending() {
            state.driver_wakes = 0;
        }
        drop(locked);
        settled.map(|settled| {
            self.tag = None;
            // That nothing is known of it cannot be; it must not look like a confirm.
            settled.map_or(Err(PublishError::Lost(Error::Timeout)), outcome)
        })
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        let Some(tag) = self.tag else {
            return;
        };
        let mut state = self.channel.shared().lock();
        if let Some(entry) = state.channels.get_mut(self.channel.place()) {
            let retired = entry.confirms.abandon(tag.value());
            state.retired.extend(retired);
        }
    }
}

fn outcome((outcome, returned): Settled) -> Result<(), PublishError> {
    match (outcome, returned) {
        (ConfirmOutcome::Acked, _) => Ok(()),
        (ConfirmOutcome::Returned, Some(returned)) => Err(PublishError::Returned(returned)),
        (ConfirmOutcome::Lost(reason), _) => Err(PublishError::Lost(reason.into())),
        _ => Err(PublishError::Nacked),
    }
}

/// What came of trying to write a publish. The task is woken when it is worth another try.
enum Attempt {
    Done(Result<Option<ConfirmTag>, Error>),
    NoRoom,
    /// Others get their turn first.
    GiveWay,
    /// The broker takes none, and why.
    Blocked(Arc<str>),
    /// There is no connection, and why.
    Lost(CloseReason),
}

/// What is to be published, and where to.
pub(crate) struct Publish<'p> {
    pub(crate) channel: &'p Channel,
    pub(crate) exchange: &'p str,
    pub(crate) routing_key: &'p str,
    pub(crate) message: &'p Message,
    pub(crate) mandatory: bool,
    /// Where the answer is to go, in place of what the message says: the queue may have another name when it is written.
    pub(crate) reply_to: Option<&'p Queue>,
}

impl Publish<'_> {
    /// Writes it as soon as there is room, and gives what to wait for its confirm with.
    pub(crate) async fn send_awaited(&self) -> Result<Confirm, Error> {
        let tag = self.send(true).await?;
        Ok(Confirm {
            channel: self.channel.clone(),
            tag,
        })
    }

    /// Writes it as soon as there is room, and says under which number.
    pub(crate) async fn send(&self, is_awaited: bool) -> Result<Option<ConfirmTag>, Error> {
        let deadline = self.channel.deadline();
        let mut waiting = Waiting {
            channel: self.channel,
            key: WakerKey::new(),
        };
        let mut patience = [None, None];
        std::future::poll_fn(|cx| {
            match self.try_send(cx, &mut waiting.key, is_awaited) {
                Attempt::Done(result) => return Poll::Ready(result),
                Attempt::NoRoom => {}
                Attempt::GiveWay => cx.waker().wake_by_ref(),
                Attempt::Blocked(reason) => {
                    let [patience, _] = &mut patience;
                    if self.is_too_long(cx, self.channel.blocked_policy(), patience) {
                        return Poll::Ready(Err(Error::Blocked { reason }));
                    }
                }
                Attempt::Lost(reason) => {
                    let [_, patience] = &mut patience;
                    if self.is_too_long(cx, self.channel.while_lost(), patience) {
                        return Poll::Ready(Err(Error::ConnectionClosed(reason)));
                    }
                }
            }
            deadline.poll(cx).map(|()| Err(Error::Timeout))
        })
        .await
    }

    fn is_too_long<'s>(
        &'s self,
        cx: &Context<'_>,
        policy: BlockedPolicy,
        patience: &mut Option<Deadline<'s>>,
    ) -> bool {
        match policy {
            BlockedPolicy::Wait => false,
            BlockedPolicy::Fail => true,
            BlockedPolicy::Timeout(duration) => {
                let begin = || Deadline::after(self.channel.shared(), Some(duration));
                patience.get_or_insert_with(begin).poll(cx).is_ready()
            }
        }
    }

    fn try_send(&self, cx: &Context<'_>, key: &mut WakerKey, is_awaited: bool) -> Attempt {
        let place = self.channel.place();
        self.channel.shared().command(|state| {
            if state.driver_wakes == MOST_DRIVER_WAKES {
                state.driver_wakes = 0;
                return Attempt::GiveWay;
            }
            if let Some(reason) = state.connection.blocked().map(Arc::from)
                && state.core(place).is_ok()
            {
                state.retired.extend(state.unblocked.register(key, cx));
                return Attempt::Blocked(reason);
            }
            match self.write(state, is_awaited) {
                Ok(tag) => {
                    let mut number = None;
                    if let Some(tag) = tag
                        && let Some(entry) = state.channels.get_mut(place)
                    {
                        number = Some(entry.published(is_awaited));
                        state.notes.measured.published(&mut entry.sample, tag);
                    }
                    state.driver_wakes += u8::from(state.is_asleep);
                    Attempt::Done(Ok(number))
                }
                Err(SendError::Full { .. }) => {
                    state.retired.extend(state.writable.register(key, cx));
                    state.lost.clone().map_or(Attempt::NoRoom, Attempt::Lost)
                }
                Err(SendError::Committing) => {
                    state.retired.extend(state.answered.register(key, cx));
                    Attempt::NoRoom
                }
                Err(SendError::InFlight | SendError::FlowStopped) => {
                    if let Some(entry) = state.channels.get_mut(place) {
                        state.retired.extend(entry.room.register(key, cx));
                    }
                    Attempt::NoRoom
                }
                Err(error) => Attempt::Done(Err(state.refusal(place, error))),
            }
        })
    }

    fn write(&self, state: &mut State, is_awaited: bool) -> Result<Option<ConfirmTag>, SendError> {
        let place = self.channel.place();
        // Nobody would learn that it came back, but for those who listen.
        let look = |entry: &Entry| (entry.outbox.is_some(), !entry.listeners.is_empty());
        let (is_kept, is_listened_to) = state.channels.get(place).map(look).unwrap_or_default();
        let method = BasicPublish {
            exchange: ShortStr::new(self.exchange)?,
            routing_key: ShortStr::new(self.routing_key)?,
            mandatory: self.mandatory || !is_awaited && is_listened_to,
            ..BasicPublish::default()
        };
        let expiration = self.message.expiration_digits();
        let mut properties = self.message.properties(expiration.as_deref())?;
        let reply_to = self.reply_to.map(Queue::name);
        if let Some(name) = &reply_to {
            properties.reply_to = Some(ShortStr::new(name)?);
        }
        let body = self.message.shared_body();
        if is_kept {
            return state.publish_kept(place, &method, &properties, body);
        }
        let mut core = state.core(place)?;
        if body.len() < SHARED_FROM {
            core.publish(&method, &properties, &body[..])
        } else {
            core.publish(&method, &properties, body.clone())
        }
    }
}

/// From how many octets on a body is shared with the core instead of copied.
const SHARED_FROM: usize = 4096;

/// After how many publishes that woke the driver a task waits for the others, if it has not waited for anything itself. On a runtime
/// with several threads the driver may be keeping up with it message by message, each with its own write and wake-up, which costs
/// more than the message. Afterwards the driver mostly gets its turn when the publisher has filled the buffer.
const MOST_DRIVER_WAKES: u8 = 16;

/// Waits for room, in one list of tasks after the other, and leaves them when dropped.
struct Waiting<'c> {
    channel: &'c Channel,
    key: WakerKey,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.key.is_registered() {
            return;
        }
        let mut locked = self.channel.shared().lock();
        let state = &mut *locked;
        for set in [&mut state.writable, &mut state.answered, &mut state.unblocked] {
            state.retired.extend(set.remove(&self.key));
        }
        if let Some(entry) = state.channels.get_mut(self.channel.place()) {
            state.retired.extend(entry.room.remove(&self.key));
        }
    }
}
