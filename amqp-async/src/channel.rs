//! The handle of a channel: every operation of the protocol.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use amqp_proto::topology::ConsumerRecord;
use amqp_proto::wire::*;
use amqp_proto::{
    AckCoalescing, Answered, Backoff, ChannelCloseReason, ChannelId, ConfirmLimits, ConfirmTags, DeliveryTag,
    Lint, NoWait, OnLoss, Reply, Republish, Request, RequestId, SendError, ServerVersion,
};

use crate::batch::BatchReport;
use crate::call::{Call, Deadline, Place, is_idempotent, retry};
use crate::channels::Entry;
use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::error::Error;
use crate::events::ConnectionEvent;
use crate::exchange::{DeclareExchange, Exchange, ExchangeKind};
use crate::inbox::Inbox;
use crate::ledger::Wait;
use crate::observe;
use crate::queue::{DeclareQueue, Queue};
use crate::reopen::Reopen;
use crate::resubscribe;
use crate::returns::Returns;
use crate::shared::{Answer, Shared, State};

/// A channel. Clones are handles of the same one; when the last of them is dropped, those of its queues, exchanges, consumers and
/// deliveries included, it is closed.
///
/// Every call can be dropped at any time: what it asked for is undone or its answer discarded, and the next call gets its own.
#[derive(Debug, Clone)]
pub struct Channel {
    inner: Arc<Inner>,
    timeout: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    /// Its place among the channels.
    place: usize,
    blocked: BlockedPolicy,
    while_lost: BlockedPolicy,
    requeue_dropped: bool,
    repeat_calls: bool,
}

/// How a channel is to be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// Its number; `None`, the default, is the next free one.
    pub number: Option<u16>,
    /// Whether the broker confirms what is published (RabbitMQ page "Publisher Confirms"). Default: it does.
    pub confirms: bool,
    /// How much may be published before the broker has confirmed what went before; who publishes more waits. Default: no limit
    /// but [`Config::outbound_high_water`](amqp_proto::Config::outbound_high_water).
    pub limits: ConfirmLimits,
    /// What a publish does while the broker takes none. Default: it waits.
    pub blocked: BlockedPolicy,
    /// What a publish does while there is no connection and another one is to follow ([`Recovery`](crate::Recovery)). If it fails, then
    /// with [`Error::ConnectionClosed`] and the reason of the loss. Default: it waits until everything is there again.
    pub while_lost: BlockedPolicy,
    /// What becomes of publishes that were not confirmed when the channel was lost and begins again, with the next connection
    /// ([`Recovery`](crate::Recovery)) or alone ([`Reopen`]). Default: they are [`Lost`](crate::PublishError::Lost).
    pub on_loss: OnLoss,
    /// When it is opened again after the broker has closed it. Default: never.
    pub reopen: Reopen,
    /// Whether acknowledgements of single deliveries are joined, and how. Default: each is said at once.
    pub ack_coalescing: Option<AckCoalescing>,
    /// Whether a [`Delivery`](crate::Delivery) that is dropped without being settled goes back to its queue, to be delivered again at
    /// once. Otherwise it is dropped or dead-lettered. Default: it goes back.
    pub requeue_dropped: bool,
    /// Whether calls that wait for their answer when the connection is lost are made again on the next one
    /// ([`Recovery`](crate::Recovery)), if it does no harm that the broker may have done them already. Default: they fail.
    pub repeat_calls: bool,
}

/// What a publish does while the broker takes none (RabbitMQ page "Blocked Connection Notifications"), or while there is no connection.
/// All else goes on while the broker takes none: acknowledgements and heartbeats are written, and requests wait for their answer as long
/// as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BlockedPolicy {
    /// It waits until the broker takes publishes again.
    #[default]
    Wait,
    /// It fails at once, with [`Error::Blocked`] or [`Error::ConnectionClosed`].
    Fail,
    /// It waits for so long, then it fails in the same way.
    Timeout(Duration),
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            number: None,
            confirms: true,
            limits: ConfirmLimits::default(),
            blocked: BlockedPolicy::default(),
            while_lost: BlockedPolicy::default(),
            on_loss: OnLoss::default(),
            reopen: Reopen::default(),
            ack_coalescing: None,
            requeue_dropped: true,
            repeat_calls: false,
        }
    }
}

impl ChannelOptions {
    /// Most channels have the usual ones: those are kept once.
    fn shared(self) -> Arc<Self> {
        static USUAL: LazyLock<Arc<ChannelOptions>> = LazyLock::new(Arc::default);
        match self == **USUAL {
            true => Arc::clone(&USUAL),
            false => Arc::new(self),
        }
    }

    /// Sets [`number`](Self#structfield.number).
    #[must_use]
    pub const fn number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }

    /// The channel does not confirm: a publish is done when it is written.
    #[must_use]
    pub const fn without_confirms(mut self) -> Self {
        self.confirms = false;
        self
    }

    /// Sets [`limits`](Self#structfield.limits).
    #[must_use]
    pub const fn limits(mut self, limits: ConfirmLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets [`blocked`](Self#structfield.blocked).
    #[must_use]
    pub const fn blocked(mut self, policy: BlockedPolicy) -> Self {
        self.blocked = policy;
        self
    }

    /// Sets [`while_lost`](Self#structfield.while_lost).
    #[must_use]
    pub const fn while_lost(mut self, policy: BlockedPolicy) -> Self {
        self.while_lost = policy;
        self
    }

    /// Publishes that are not confirmed when the channel is lost are published again when it is there again, before anything new, in
    /// their order: each arrives once or more often. Those that come twice have the same id in a header. Whoever waits for a confirm
    /// learns the outcome of the last time.
    ///
    /// Each of them costs some memory until it is confirmed, within the limits that are given, and its headers are copied. Nothing is
    /// kept on a channel without confirms. They are [`Lost`](crate::PublishError::Lost) when the channel ends for good. One that the
    /// broker closes the channel for, such as one to an exchange that is not there, is lost then as well, and the others go on.
    ///
    /// ```
    /// use amqp_async::{ChannelOptions, Republish};
    /// let options = ChannelOptions::default().republish(Republish::default());
    /// ```
    #[must_use]
    pub fn republish(mut self, how: Republish) -> Self {
        self.on_loss = OnLoss::Republish(how);
        self
    }

    /// Sets [`reopen`](Self#structfield.reopen).
    #[must_use]
    pub fn reopen(mut self, reopen: Reopen) -> Self {
        self.reopen = reopen;
        self
    }

    /// What is acknowledged on this channel, in whatever order, is said to the broker in as few `basic.ack`s as possible: when `count`
    /// wait, or half of what the broker may deliver before it is settled ([`Qos`]), and after `delay` at the latest. It is said as
    /// well before anything is refused or asked on the channel, and by [`Connection::flush`]. See [`AckCoalescing`].
    ///
    /// This saves the broker and the network work with many small messages. The price is that more is delivered again if the connection
    /// or the channel is lost: what waited was dealt with here, and the broker does not know. So it suits handlers that can do a
    /// message twice. The success of [`Delivery::ack`](crate::Delivery::ack) never meant that the broker knows.
    ///
    /// ```
    /// use amqp_async::ChannelOptions;
    /// use std::time::Duration;
    /// let options = ChannelOptions::default().coalesce_acks(100, Duration::from_millis(20));
    /// ```
    #[must_use]
    pub const fn coalesce_acks(mut self, count: u16, delay: Duration) -> Self {
        self.ack_coalescing = Some(AckCoalescing::new(count, delay));
        self
    }

    /// Calls that wait for their answer when the connection is lost are made again on the next one, within their time: to declare (but
    /// a queue without a name), to bind and unbind, to delete without conditions, [`Qos`]. Of what a deleted queue had, nothing
    /// may be known then. All other calls fail.
    #[must_use]
    pub const fn repeat_calls(mut self) -> Self {
        self.repeat_calls = true;
        self
    }

    /// Sets [`requeue_dropped`](Self#structfield.requeue_dropped).
    #[must_use]
    pub const fn requeue_dropped(mut self, requeue: bool) -> Self {
        self.requeue_dropped = requeue;
        self
    }
}

impl ChannelOptions {
    /// Tells the core what it has to know of a channel that begins.
    pub(crate) fn apply(&self, core: &mut amqp_proto::Channel<'_>) -> Result<(), SendError> {
        core.set_confirm_limits(self.limits);
        core.set_ack_coalescing(self.ack_coalescing)
    }
}

/// What `basic.qos` asks for (RabbitMQ page "Consumer Prefetch").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Qos {
    /// How many deliveries may be unsettled; 0 is no limit.
    pub count: u16,
    /// How many octets of them; RabbitMQ refuses any but 0 (540, which ends the connection).
    pub size: u32,
    /// For the channel as a whole, and not for each consumer that starts from now on.
    pub global: bool,
}

impl Qos {
    /// So many unsettled deliveries for each consumer that starts from now on.
    #[must_use]
    pub const fn prefetch(count: u16) -> Self {
        Self {
            count,
            size: 0,
            global: false,
        }
    }

    /// For all consumers of the channel together.
    #[must_use]
    pub const fn global(mut self) -> Self {
        self.global = true;
        self
    }
}

impl Channel {
    pub(crate) async fn open(connection: Connection, options: ChannelOptions) -> Result<Self, Error> {
        let shared = Arc::clone(connection.shared());
        let deadline = Deadline::after(&shared, None);
        let options = options.shared();
        let open = |state: &mut State| {
            state.check_there()?;
            let id = match options.number {
                Some(number) => state.connection.open_channel_with_number(number)?,
                None => state.connection.open_channel()?,
            };
            let mut core = state.connection.channel(id)?;
            options.apply(&mut core)?;
            Ok(state.channels.insert(id, Arc::clone(&options)))
        };
        let place = retry(&shared, &deadline, open, refusal(usize::MAX)).await?;
        let inner = Arc::new(Inner {
            connection,
            place,
            blocked: options.blocked,
            while_lost: options.while_lost,
            requeue_dropped: options.requeue_dropped,
            repeat_calls: options.repeat_calls,
        });
        let channel = Self { inner, timeout: None };
        if options.confirms {
            // Its answer comes behind that to the opening.
            channel.request(&ConfirmSelect::default()).await?;
        }
        let mut opening = Place::channel_changed(&shared, place);
        opening
            .until(|state| {
                let entry = state.channels.get(place)?;
                match &entry.closed {
                    Some(reason) => Some(Err(Error::from(reason.clone()))),
                    None => entry.is_open.then_some(Ok(())),
                }
            })
            .await?;
        Ok(channel)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.inner.connection.shared()
    }

    pub(crate) fn place(&self) -> usize {
        self.inner.place
    }

    pub(crate) fn blocked_policy(&self) -> BlockedPolicy {
        self.inner.blocked
    }

    pub(crate) fn while_lost(&self) -> BlockedPolicy {
        self.inner.while_lost
    }

    pub(crate) fn requeues_dropped(&self) -> bool {
        self.inner.requeue_dropped
    }

    pub(crate) fn deadline(&self) -> Deadline<'_> {
        Deadline::after(self.shared(), self.timeout)
    }

    /// The connection that it is on.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Its number on the wire.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.look(Entry::id).map_or(0, ChannelId::number)
    }

    fn look<R>(&self, look: impl FnOnce(&Entry) -> R) -> Option<R> {
        let state = self.shared().lock();
        state.channels.get(self.place()).map(look)
    }

    /// The same channel, with calls that wait no longer than that. Without it, a call waits for
    /// [`Config::request_timeout`](amqp_proto::Config::request_timeout).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            timeout: Some(timeout),
        }
    }

    /// Sends any request and waits for its answer.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] with the broker's words if it refuses, [`Error::ConnectionClosed`], [`Error::Timeout`],
    /// [`Error::Refused`].
    pub async fn request<R: Request>(&self, method: &R) -> Result<Reply, Error> {
        self.request_noting(method, |_| {}).await
    }

    /// The same, with something to be known of the channel as soon as it is sent.
    async fn request_noting<R: Request>(
        &self,
        method: &R,
        note: impl Fn(&mut Entry),
    ) -> Result<Reply, Error> {
        let send = |channel: &mut amqp_proto::Channel<'_>| Ok(channel.request(method)?.untyped());
        let note = |state: &mut State, request: RequestId| {
            state.note_asked(self.place(), request, &method.as_method());
            if let Some(entry) = state.channels.get_mut(self.place()) {
                note_mode::<R>(entry);
                note(entry);
            }
        };
        let is_repeated = self.inner.repeat_calls && is_idempotent(&method.as_method());
        match self.call_noting(send, note, is_repeated).await? {
            Answer::Reply(reply) => Ok(reply),
            // The core matches answers to requests.
            Answer::Got(_) | Answer::GetEmpty => Err(Error::Timeout),
        }
    }

    /// Sends a request whose answer nobody needs. If the broker refuses it, it closes the channel.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn send_nowait<R: NoWait>(&self, method: &R) -> Result<(), Error> {
        let deadline = self.deadline();
        let send = |state: &mut State| {
            state.core(self.place())?.send_nowait(method)?;
            state.note_told(self.place(), &method.as_method());
            state.channels.get_mut(self.place()).map(note_mode::<R>);
            Ok(())
        };
        retry(self.shared(), &deadline, send, refusal(self.place())).await
    }

    /// Tells whoever watches if the broker's release does not like what is asked for.
    pub(crate) fn warn(&self, lint: impl FnOnce(ServerVersion) -> Option<Lint>) {
        self.shared().command(|state| {
            let version = ServerVersion::of(state.connection.server_properties());
            if let Some(lint) = version.and_then(lint) {
                state
                    .watchers
                    .tell(&ConnectionEvent::Warning(lint), &mut state.wakes);
            }
        });
    }

    /// Waits for a connection if there is none.
    pub(crate) async fn until_there(&self) -> Result<(), Error> {
        let there = |state: &mut State| state.check_there();
        retry(self.shared(), &self.deadline(), there, refusal(self.place())).await
    }

    /// Sends a request and waits for whatever answers it.
    pub(crate) async fn call(
        &self,
        send: impl Fn(&mut amqp_proto::Channel<'_>) -> Result<RequestId, SendError>,
    ) -> Result<Answer, Error> {
        self.call_noting(send, |_, _| {}, false).await
    }

    async fn call_noting(
        &self,
        send: impl Fn(&mut amqp_proto::Channel<'_>) -> Result<RequestId, SendError>,
        note: impl Fn(&mut State, RequestId),
        is_repeated: bool,
    ) -> Result<Answer, Error> {
        let deadline = self.deadline();
        let command = |state: &mut State| {
            let request = send(&mut state.core(self.place())?)?;
            state.await_answer(request);
            note(state, request);
            Ok(request)
        };
        loop {
            let request = retry(self.shared(), &deadline, command, refusal(self.place())).await?;
            match Call::new(self.shared(), request, &deadline).await {
                // If no other connection follows, it cannot be sent, and that says why.
                Err(Error::ConnectionClosed(_)) if is_repeated => {}
                answer => return answer,
            }
        }
    }

    /// Starts a consumer, and waits until the broker has done so. Dropped before, it is cancelled.
    pub(crate) async fn start_consumer(
        &self,
        method: &BasicConsume<'_>,
        resubscribe: Option<Backoff>,
    ) -> Result<Consumer, Error> {
        let deadline = self.deadline();
        let (mut is_unlimited, mut link) = (false, Arc::default());
        let command = |state: &mut State| {
            let mut core = state.core(self.place())?;
            let (id, request) = core.consume(method)?;
            let tag = core
                .consumer_tag(id)
                .map(|tag| tag.to_string())
                .unwrap_or_default();
            let takes_replies = core.takes_replies(id).unwrap_or_default();
            state.await_answer(request.untyped());
            if let Some(entry) = state.channels.get_mut(self.place()) {
                let has_prefetch = entry.has_prefetch();
                let is_limited = has_prefetch && !method.no_ack;
                is_unlimited = !has_prefetch && !method.no_ack;
                let mut inbox = Inbox::new(id, &tag, method.no_ack, is_limited);
                inbox.takes_replies = takes_replies;
                inbox.request = Some(request.untyped());
                let is_started_again = resubscribe.is_some() || entry.options.reopen.has_consumers();
                if is_started_again && !takes_replies && !method.queue.is_empty() {
                    let (queue, tag) = (method.queue.into(), ShortStr::new(&tag)?.into());
                    let record = ConsumerRecord::new(method, queue, tag, entry.qos[0]);
                    inbox.record = Some(Box::new(record));
                    resubscribe.iter().for_each(|_| inbox.set_kept());
                }
                link = Arc::clone(&inbox.link);
                entry.consumers.push(inbox);
            }
            state.note_consumer(self.place(), method, &tag);
            Ok((id, request.untyped(), tag))
        };
        let (id, request, tag) = retry(self.shared(), &deadline, command, refusal(self.place())).await?;
        let consumer = Consumer::new(self.clone(), id, tag, method.no_ack, link);
        Call::new(self.shared(), request, &deadline).await?;
        if is_unlimited {
            observe::unlimited(consumer.tag());
        }
        if let Some(backoff) = resubscribe {
            self.shared()
                .spawn(Box::pin(resubscribe::keep(self.clone(), id, backoff)));
        }
        Ok(consumer)
    }

    /// The exchange without a name: it leads to the queue that the routing key names.
    #[must_use]
    pub fn default_exchange(&self) -> Exchange {
        Exchange::new(self.clone(), "")
    }

    /// An exchange that is there already, without asking the broker.
    #[must_use]
    pub fn exchange(&self, name: impl Into<String>) -> Exchange {
        Exchange::new(self.clone(), name.into())
    }

    /// A queue that is there already, without asking the broker.
    #[must_use]
    pub fn queue(&self, name: impl Into<String>) -> Queue {
        Queue::new(self.clone(), name)
    }

    /// Declares an exchange, as what can still be said of it and `await` make it.
    pub fn declare_exchange(
        &self,
        name: impl Into<String>,
        kind: impl Into<ExchangeKind>,
    ) -> DeclareExchange {
        DeclareExchange::new(self.clone(), name.into(), kind.into())
    }

    /// Declares a queue, as what can still be said of it and `await` make it. Without a name the broker gives it one.
    pub fn declare_queue(&self, name: impl Into<String>) -> DeclareQueue {
        DeclareQueue::new(self.clone(), name.into())
    }

    /// Limits how many deliveries may be unsettled.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn set_qos(&self, qos: Qos) -> Result<(), Error> {
        let method = BasicQos {
            prefetch_size: qos.size,
            prefetch_count: qos.count,
            global: qos.global,
        };
        self.warn(|version| version.lint_qos(&method));
        // It counts for what is asked behind it, whether its answer is waited for or not.
        let note = |entry: &mut Entry| {
            let [each, all] = &mut entry.qos;
            let place = if qos.global { all } else { each };
            *place = Some(method);
        };
        self.request_noting(&method, note).await.map(drop)
    }

    /// Asks for a flow, or for none, of deliveries. RabbitMQ refuses to stop it (540).
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn flow(&self, active: bool) -> Result<bool, Error> {
        let reply = self.request(&ChannelFlow { active }).await?;
        let found = reply.method();
        Ok(matches!(found, Some(Method::ChannelFlowOk(ok)) if ok.active))
    }

    /// Gives back what this channel has not settled, to any consumer.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn recover(&self) -> Result<(), Error> {
        self.request(&BasicRecover { requeue: true }).await.map(drop)
    }

    /// Begins a transaction: what is published and settled from now on counts with its commit. Not on a channel that confirms.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn tx_select(&self) -> Result<(), Error> {
        self.request(&TxSelect::default()).await.map(drop)
    }

    /// Makes what was done since the last commit count, and begins the next transaction.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn tx_commit(&self) -> Result<(), Error> {
        self.request(&TxCommit::default()).await.map(drop)
    }

    /// Forgets what was done since the last commit, and begins the next transaction.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn tx_rollback(&self) -> Result<(), Error> {
        self.request(&TxRollback::default()).await.map(drop)
    }

    /// Settles a delivery by its tag, and with `multiple` all before it.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`SendError::Stale`] for a tag of another channel or of an earlier life of this one.
    pub fn basic_ack(&self, tag: DeliveryTag, multiple: bool) -> Result<(), Error> {
        self.settle(|channel| match multiple {
            true => channel.ack_multiple(tag),
            false => channel.ack(tag),
        })
    }

    /// Refuses a delivery by its tag, and with `multiple` all before it.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`SendError::StreamDelivery`] if it came from a [stream](Consumer), or with `multiple` if the channel has
    /// consumed from one; as [`basic_ack`](Self::basic_ack).
    pub fn basic_nack(&self, tag: DeliveryTag, multiple: bool, requeue: bool) -> Result<(), Error> {
        self.settle(|channel| match multiple {
            true => channel.nack_multiple(tag, requeue),
            false => channel.nack(tag, requeue),
        })
    }

    /// Refuses a delivery by its tag.
    ///
    /// # Errors
    /// As [`basic_nack`](Self::basic_nack).
    pub fn basic_reject(&self, tag: DeliveryTag, requeue: bool) -> Result<(), Error> {
        self.settle(|channel| channel.reject(tag, requeue))
    }

    pub(crate) fn settle(
        &self,
        settle: impl FnOnce(&mut amqp_proto::Channel<'_>) -> Result<(), SendError>,
    ) -> Result<(), Error> {
        let place = self.place();
        self.shared().command(|state| {
            let result = state
                .core_to_settle(place)
                .and_then(|mut channel| settle(&mut channel));
            result.map_err(|error| state.refusal(place, error))
        })
    }

    /// Waits until all that was published so far is settled, and tells of what was not settled yet and of what was settled since
    /// somebody asked last; this includes publishes whose [`Confirm`](crate::Confirm) was dropped or is waited for elsewhere. Tasks that
    /// share a channel and want to know of their own publishes only use a [`Batch`](crate::Batch), or
    /// [`wait_for_confirms_of`](Self::wait_for_confirms_of).
    ///
    /// It waits as long as the channel's timeout says; without one, as long as the channel lives. Nothing is waited for on a channel
    /// that does not confirm.
    ///
    /// ```no_run
    /// # async fn example(channel: amqp_async::Channel) -> Result<(), amqp_async::Error> {
    /// let exchange = channel.default_exchange();
    /// for number in 0..1000 {
    ///     exchange.publish_unconfirmed(number.to_string(), "numbers").await?;
    /// }
    /// let report = channel.wait_for_confirms().await;
    /// assert!(report.is_complete(), "{report:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for_confirms(&self) -> BatchReport {
        self.wait_for(|entry| {
            let id = entry.first_id();
            entry.ledger.ask_about_all(id)
        })
        .await
    }

    /// The same for some publishes, as far as they are published: whoever asks about the same ones is told the same. Those of another
    /// channel are [`unlisted`](BatchReport#structfield.unlisted).
    pub async fn wait_for_confirms_of(&self, tags: ConfirmTags) -> BatchReport {
        if self.look(Entry::first_id) != Some(tags.channel()) {
            return BatchReport {
                unlisted: usize::try_from(tags.count()).unwrap_or(usize::MAX),
                ..BatchReport::default()
            };
        }
        self.wait_for(|entry| entry.ledger.ask(tags)).await
    }

    async fn wait_for(&self, ask: impl FnOnce(&mut Entry) -> Option<u64>) -> BatchReport {
        let (shared, place) = (self.shared(), self.place());
        let deadline = self.deadline();
        let wait = shared.lock().channels.get_mut(place).and_then(ask);
        let Some(wait) = wait else {
            return BatchReport::default();
        };
        let asked = Asked { channel: self, wait };
        let is_answered = |entry: &Entry| entry.ledger.is_answered(wait);
        let look = |state: &mut State| {
            let entry = state.channels.get(place);
            entry.is_none_or(is_answered).then_some(())
        };
        // What is not answered in time is told as that.
        let _ = Place::settled(shared).until_deadline(&deadline, look).await;
        asked.take().map(Wait::report).unwrap_or_default()
    }

    /// What comes back from now on because no queue got it and nobody waits for its confirm: from a channel that does not confirm,
    /// from [`Exchange::publish_unconfirmed`], or if the [`Confirm`](crate::Confirm) was dropped. It keeps the channel open.
    pub fn returns(&self) -> Returns {
        Returns::new(self.clone())
    }

    /// Closes it: ends its consumers, and waits for the broker's answer.
    ///
    /// # Errors
    /// [`Error::ChannelClosed`] or [`Error::ConnectionClosed`] if it ended in another way.
    pub async fn close(&self) -> Result<(), Error> {
        let place = self.place();
        self.shared().command(|state| state.close_channel(place));
        match self.closed().await {
            ChannelCloseReason::Requested => Ok(()),
            reason => Err(reason.into()),
        }
    }

    /// Waits for the end of the channel, and says why it came.
    pub async fn closed(&self) -> ChannelCloseReason {
        let place = self.place();
        let mut waiting = Place::channel_changed(self.shared(), place);
        waiting
            .until(|state| state.channels.get(place)?.closed.clone())
            .await
    }

    /// Whether it can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let state = self.shared().lock();
        let entry = state.channels.get(self.place());
        entry.is_some_and(|entry| entry.is_open && entry.closed.is_none())
    }

    /// How many publishes wait for their confirm, those included that are still to be published again.
    #[must_use]
    pub fn unconfirmed(&self) -> usize {
        let mut state = self.shared().lock();
        let in_flight = state
            .core(self.place())
            .map_or(0, |channel| channel.unconfirmed());
        let entry = state.channels.get(self.place());
        in_flight + entry.map_or(0, Entry::unsent)
    }
}

/// A request that changes what a channel is for good.
fn note_mode<R: Request>(entry: &mut Entry) {
    let method = R::SPEC.id;
    entry.has_confirms |= method == ConfirmSelect::SPEC.id;
    entry.is_transactional |= method == TxSelect::SPEC.id;
}

/// Says what is known of a refusal on that channel.
pub(crate) fn refusal(place: usize) -> impl Fn(&State, SendError) -> Error {
    move |state, error| state.refusal(place, error)
}

/// The answer, read as what answers that request.
pub(crate) fn read<M: Answered, T>(reply: &Reply, read: impl FnOnce(M::Answer<'_>) -> T) -> Result<T, Error> {
    let request = RequestId::<M>::new(reply.request().channel(), reply.request().sequence());
    // The core has matched it.
    reply.read(request).map(read).ok_or(Error::Timeout)
}

/// Asks no more when it is dropped.
struct Asked<'c> {
    channel: &'c Channel,
    wait: u64,
}

impl Asked<'_> {
    fn take(&self) -> Option<Wait> {
        let mut state = self.channel.shared().lock();
        let entry = state.channels.get_mut(self.channel.place())?;
        entry.ledger.take(self.wait)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let place = self.place;
        self.connection.shared().command(|state| {
            state.close_channel(place);
            if let Some(entry) = state.channels.get_mut(place) {
                entry.is_orphaned = true;
                let id = entry.id();
                state.channels.remove_if_over(id);
            }
        });
    }
}
