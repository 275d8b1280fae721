//! The handle of a connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::wire::ConnectionUpdateSecret;
use amqp_proto::{
    CloseReason, CloseReport, Config, ConnectionState, Counters, Negotiated, RequestId, Secret, ServerVersion,
};

use crate::call::{Call, Deadline, Place, retry};
use crate::channel::{Channel, ChannelOptions, refusal};
use crate::credentials::{self, CredentialsSource};
use crate::driver::Driver;
use crate::error::Error;
use crate::events::Events;
use crate::leaving::{Departure, Working};
use crate::recovery::{self, Connect, Connected, Recovering, Recovery};
use crate::shared::{Shared, State};
use crate::stats::Stats;
use crate::transport::{Spawner, Timer, Transport};

/// A connection to a broker. Clones are handles of the same one.
///
/// When the last handle is dropped, those of its channels, queues, exchanges, consumers and deliveries included, the connection is
/// closed in an orderly way, unless it was [detached](Self::detach).
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
}

impl Connection {
    /// Starts a connection over a stream that is there, for a runtime. The driver must be polled for anything to happen, and
    /// [`ready`](Self::ready) says when the broker has let us in. `spawner` runs what goes on in the background.
    pub fn start<T: Transport, C: Timer>(
        config: Arc<Config>,
        transport: T,
        timer: C,
        spawner: Spawner,
    ) -> (Self, Driver<T, C>) {
        let core = amqp_proto::Connection::new(config, timer.now(), 0);
        let shared = Shared::new(core, spawner);
        let driver = Driver::new(Arc::clone(&shared), transport, timer);
        let inner = Arc::new(Inner { shared });
        (Self { inner }, driver)
    }

    /// Starts one that is made again when it is lost. What it gives must be polled as the [`Driver`] of [`start`](Self::start); dropped,
    /// it ends the connection.
    pub fn start_recovering<T, C, K>(
        first: Connected<T>,
        timer: C,
        spawner: Spawner,
        connect: K,
        recovery: &Recovery,
    ) -> (Self, impl Future<Output = CloseReason> + use<T, C, K>)
    where
        T: Transport + Unpin,
        C: Timer + Unpin,
        K: Connect<Transport = T>,
    {
        let (connection, mut driver) = Self::start(first.config, first.transport, timer, spawner);
        if let Some((source, valid_for)) = first.renewal {
            connection.refresh_credentials(source, valid_for);
        }
        driver.set_filter(recovery.filter.clone());
        driver.set_judge(recovery.on_step.clone());
        connection.shared().lock().recovering = Some(Recovering::new(recovery.on_step.is_some()));
        let policy = recovery.reconnect.clone();
        (connection, recovery::run(driver, connect, policy))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Waits until the handshake is done.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn ready(&self) -> Result<(), CloseReason> {
        let mut place = Place::changed(self.shared());
        let look = |state: &mut State| match &state.closed {
            Some(reason) => Some(Err(reason.clone())),
            None => state.is_connected.then_some(Ok(())),
        };
        place.until(look).await
    }

    /// Opens a channel that confirms what is published on it.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`], [`SendError::NoFreeChannel`](amqp_proto::SendError::NoFreeChannel), [`Error::Timeout`].
    pub async fn channel(&self) -> Result<Channel, Error> {
        self.channel_with(ChannelOptions::default()).await
    }

    /// Opens a channel as those options say.
    ///
    /// # Errors
    /// As [`channel`](Self::channel); [`SendError::ChannelInUse`](amqp_proto::SendError::ChannelInUse), [`SendError::ChannelNumber`](amqp_proto::SendError::ChannelNumber) for a number that was chosen.
    pub async fn channel_with(&self, options: ChannelOptions) -> Result<Channel, Error> {
        Channel::open(self.clone(), options).await
    }

    /// Closes it without waiting for handlers: waits for confirms, for half of [`Config::close_timeout`] at most, then closes channels
    /// and connection, all within that time, and says what was left. Whoever waits for something on the connection learns that it ended;
    /// what was delivered and not settled goes back to its queue. To have that finished first there is [`shutdown`](Self::shutdown).
    ///
    /// It goes on in the background if this is dropped. Whoever asks later, or at the same time, gets the same report.
    pub async fn close(&self) -> CloseReport {
        self.leave(Departure::Close).await
    }

    /// Finishes what is under way, then closes it, all within `timeout`, and says what was abandoned:
    ///
    /// 1. All consumers are cancelled and end; what they have not taken goes back to its queue. New ones are refused
    ///    ([`SendError::ShuttingDown`](amqp_proto::SendError::ShuttingDown)). All else can be used as before: handlers may publish, declare
    ///    and open channels, and make [calls](crate::rpc) whose answers come the direct way.
    /// 2. Handlers end and deliveries that were taken are settled. One that is kept, or that was
    ///    [given away by its tag](crate::Delivery::into_message), is waited for as long as a handler, so a handler that calls this has to
    ///    settle its own first, or not to wait for it. Messages without acknowledgements, which nobody else will get, are waited for until
    ///    they are taken.
    /// 3. The broker confirms what was published.
    /// 4. Channels and connection are closed.
    ///
    /// Half of `timeout`, or of [`Config::close_timeout`] if that is less, is kept for the last step. Who is done sooner is not held up.
    /// A [`close`](Self::close) meanwhile, at a second Ctrl-C for example, is in a greater hurry, and then all who wait get the same report
    /// sooner.
    ///
    /// A connection that is lost, and not [there again](Recovery), is closed at once.
    ///
    /// It goes on in the background if this is dropped.
    pub async fn shutdown(&self, timeout: Duration) -> CloseReport {
        self.leave(Departure::Shutdown(timeout)).await
    }

    /// Something is under way that [`shutdown`](Self::shutdown) is to wait for, such as what a loop does that takes deliveries by itself.
    /// Deliveries that are not settled, and [handlers in the background](crate::Consumer::handle), are waited for anyway.
    pub fn working(&self) -> Working {
        Working::new(self.shared())
    }

    async fn leave(&self, how: Departure) -> CloseReport {
        let shared = self.shared();
        shared.leave(how);
        Place::changed(shared).until(|state| state.report.clone()).await
    }

    /// Waits for the end of the connection, and says why it came.
    pub async fn closed(&self) -> CloseReason {
        let mut place = Place::changed(self.shared());
        place.until(|state| state.closed.clone()).await
    }

    /// Calls a function when the connection ends, in the background; at once if it has ended. It does not keep the connection from
    /// being closed. [`closed`](Self::closed) and [`events`](Self::events) say the same to whoever waits.
    pub fn on_close(&self, call: impl FnOnce(CloseReason) + Send + 'static) {
        let shared = Arc::clone(self.shared());
        self.shared().spawn(Box::pin(async move {
            let reason = Place::changed(&shared).until(|state| state.closed.clone()).await;
            call(reason);
        }));
    }

    /// Waits until what was sent so far is written to the stream, for [`Config::request_timeout`] at most. Acknowledgements that wait for
    /// others ([`ChannelOptions::coalesce_acks`]) are sent. That the broker has read
    /// or done it is another matter: confirms and answers say that.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`], [`Error::Timeout`].
    pub async fn flush(&self) -> Result<(), Error> {
        let shared = self.shared();
        let timeout = shared.lock().connection.config().request_timeout;
        let deadline = Deadline::after(shared, Some(timeout));
        let ((handed_over, queued), life) = shared.command(|state| {
            state.flush_acks();
            (state.writing(), state.lives)
        });
        let wanted = handed_over.saturating_add(u64::try_from(queued).unwrap_or(u64::MAX));
        let is_written = |state: &mut State| {
            let is_lost = state.is_lost() || state.lives != life;
            let lost = state.last_loss.clone().filter(|_| is_lost);
            if let Some(reason) = state.closed.clone().or(lost) {
                return Some(Err(Error::ConnectionClosed(reason)));
            }
            let (handed_over, queued) = state.writing();
            let queued = u64::try_from(queued).unwrap_or(u64::MAX);
            // What is queued counts as if nothing of it had been handed over, so this is late rather than early.
            let is_over = queued == 0 || handed_over.saturating_sub(queued) >= wanted;
            is_over.then_some(Ok(()))
        };
        let written = Place::written(shared).until_deadline(&deadline, is_written).await;
        written.unwrap_or(Err(Error::Timeout))
    }

    /// What happens to it from now on.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.shared())
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().lock().closed.is_some()
    }

    /// Why it was lost, until everything is there again ([`Recovery`]).
    #[must_use]
    pub fn is_recovering(&self) -> Option<CloseReason> {
        let state = self.shared().lock();
        state.lost.clone()
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        self.shared().lock().connection.state()
    }

    /// How it stands, in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&mut self.shared().lock())
    }

    /// Why the broker takes no publishes at the moment, if it does not (RabbitMQ page "Blocked Connection Notifications").
    #[must_use]
    pub fn blocked(&self) -> Option<Arc<str>> {
        let state = self.shared().lock();
        state.connection.blocked().map(Arc::from)
    }

    /// Renews a token before it expires (RabbitMQ page "OAuth 2").
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`] if the broker refuses it.
    pub async fn update_secret(&self, secret: &Secret, reason: &str) -> Result<(), Error> {
        update_secret(self.shared(), secret, reason, None).await
    }

    /// Renews the secret that the connection was opened with, in the background, as long as it lives: asks for another one before it
    /// runs out, which is in `valid_for` from now on, and sends it to the broker. [`events`](Self::events) tell how that went. What is
    /// valid for ever (`None`) is not renewed. A connector that was given a provider does this by itself; who is asked for it again
    /// takes the place of who did it before.
    pub fn refresh_credentials(&self, source: CredentialsSource, valid_for: Option<Duration>) {
        credentials::start(self.shared(), source, valid_for);
    }

    /// The name of the authentication mechanism that the connection was opened with; `None` before that.
    #[must_use]
    pub fn mechanism(&self) -> Option<String> {
        self.shared().lock().connection.mechanism().map(str::to_owned)
    }

    /// The broker's release, if it is RabbitMQ.
    #[must_use]
    pub fn server_version(&self) -> Option<ServerVersion> {
        ServerVersion::of(self.shared().lock().connection.server_properties())
    }

    /// The limits that both sides agreed on.
    #[must_use]
    pub fn negotiated(&self) -> Negotiated {
        self.shared().lock().connection.negotiated()
    }

    /// What was counted so far; if it was lost and made again, since the beginning.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared().lock().counters()
    }

    /// How many octets wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.shared().lock().connection.queued_bytes()
    }

    /// The connection goes on without handles, until the broker or the driver ends it.
    pub fn detach(&self) {
        self.shared().lock().is_detached = true;
    }
}

/// Sends a new secret, and waits for the answer; for so long at most, if there is a limit.
pub(crate) async fn update_secret(
    shared: &Arc<Shared>,
    secret: &Secret,
    reason: &str,
    limit: Option<Duration>,
) -> Result<(), Error> {
    let deadline = Deadline::after(shared, limit);
    let command = |state: &mut State| {
        state.check_there()?;
        let request: RequestId<ConnectionUpdateSecret<'static>> =
            state.connection.update_secret(secret, reason)?;
        state.await_answer(request.untyped());
        Ok(request.untyped())
    };
    let request = retry(shared, &deadline, command, refusal(usize::MAX)).await?;
    Call::new(shared, request, &deadline).await.map(drop)
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.command(|state| {
            if !state.is_detached {
                state.close_unattended();
            }
        });
    }
}
