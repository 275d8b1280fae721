//! Who connects, asked for when it is needed: before each attempt, and again before a secret runs out.

use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use amqp_proto::{
    Backoff, Credentials, Instant, ProvidedCredentials, ProviderError, Refresh, RefreshPolicy, RefreshStep,
};

use crate::BoxFuture;
use crate::call::{Deadline, Place};
use crate::connection::update_secret;
use crate::error::Error;
use crate::events::ConnectionEvent;
use crate::handling::HandlerError;
use crate::observe;
use crate::shared::{Shared, State};

/// What `connection.update-secret` gives as its reason, for the broker's log.
const REASON: &str = "it is about to expire";

/// Who knows with what to connect, such as a client of an OAuth 2 server.
///
/// It is asked before each attempt to connect; and, if what it gave runs out, again before that: then the broker gets the new secret
/// by `connection.update-secret` (RabbitMQ page "OAuth 2"), and the connection goes on. All this is bounded by
/// [`RefreshPolicy::timeout`]. A failure or a panic is told as [`ConnectionEvent::CredentialsNotRefreshed`], and followed by another
/// attempt as the policy says.
///
/// A function that gives a future is a provider:
///
/// ```
/// use amqp_async::proto::Credentials;
/// use amqp_async::{CredentialsProvider, HandlerError, ProvidedCredentials};
/// use std::time::Duration;
///
/// fn provider() -> impl CredentialsProvider {
///     || async {
///         let token = fetch().await?; // A `String` that is given away leaves no copy behind.
///         // The certificate where the broker takes it, else the token.
///         let credentials = Credentials::external().or(Credentials::token(token));
///         Ok(ProvidedCredentials::from(credentials).valid_for(Duration::from_secs(300)))
///     }
/// }
/// # async fn fetch() -> Result<String, HandlerError> { Ok("token".to_owned()) }
/// # let _ = provider();
/// ```
pub trait CredentialsProvider: Send + Sync {
    /// Credentials to connect with now, and how long they are valid. They may list several mechanisms; the first one that the server
    /// offers is used.
    ///
    /// # Errors
    /// Whatever it is, in words without a secret: they are told to whoever watches the connection.
    fn credentials(&self) -> BoxFuture<Result<ProvidedCredentials, HandlerError>>;
}

impl<F, Fut> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<ProvidedCredentials, HandlerError>> + Send + 'static,
{
    fn credentials(&self) -> BoxFuture<Result<ProvidedCredentials, HandlerError>> {
        Box::pin(self())
    }
}

impl fmt::Debug for dyn CredentialsProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialsProvider(..)")
    }
}

/// A provider and when it is asked. For whoever brings another runtime: the connectors make it of what they are given.
#[derive(Debug, Clone)]
pub struct CredentialsSource {
    provider: Arc<dyn CredentialsProvider>,
    policy: Option<RefreshPolicy>,
}

impl CredentialsSource {
    /// Asks that provider by the default policy, at moments that are each connection's own.
    #[must_use]
    pub fn new(provider: impl CredentialsProvider + 'static) -> Self {
        Self {
            provider: Arc::new(provider),
            policy: None,
        }
    }

    /// Asks it by this policy.
    #[must_use]
    pub fn policy(mut self, policy: RefreshPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// How long the provider may take, [`RefreshPolicy::timeout`]. Whoever calls [`ask`](Self::ask) keeps to it.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.make_policy().timeout
    }

    /// Asks the provider, without a deadline.
    ///
    /// # Errors
    /// [`ProviderError::Failed`], [`ProviderError::Panicked`].
    pub async fn ask(&self) -> Result<ProvidedCredentials, ProviderError> {
        let asked = catch(|| self.provider.credentials())?;
        let mut asked = pin!(asked);
        let answer = poll_fn(|cx| match catch(|| asked.as_mut().poll(cx)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(panicked) => Poll::Ready(Err(panicked)),
        });
        let answer = answer.await?;
        let failed = |error: HandlerError| match catch(|| error.to_string()) {
            Ok(words) => ProviderError::Failed(words.into()),
            Err(panicked) => panicked,
        };
        answer.map_err(failed)
    }

    fn make_policy(&self) -> RefreshPolicy {
        let new = || RefreshPolicy::new(Backoff::new(RandomState::new().hash_one(0)));
        self.policy.clone().unwrap_or_else(new)
    }
}

/// Runs the provider's code. A panic tells nothing: its message may have a secret in it.
fn catch<T>(code: impl FnOnce() -> T) -> Result<T, ProviderError> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|_| ProviderError::Panicked)
}

/// Why a connection's secret was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// There was none to send.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It was not sent, or the broker did not answer in time. That it refuses one ends the connection (530); RabbitMQ's own users,
    /// whose passwords do not run out, may send what they like.
    #[error("the new secret is not known to be with the broker: {0}")]
    NotUpdated(#[from] Error),
}

/// Renews a connection's secret until the connection ends. It holds no handle: it keeps nobody from closing the connection.
struct Refreshing {
    shared: Arc<Shared>,
    source: CredentialsSource,
    timeout: Duration,
    /// Which one it is of those that began.
    number: u32,
}

/// There is nothing more to be done: mostly the connection has ended.
struct Ended;

/// Renews the secret of a connection, whose present one is valid for so long from now on. Who did that before ends.
pub(crate) fn start(shared: &Arc<Shared>, source: CredentialsSource, valid_for: Option<Duration>) {
    let policy = source.make_policy();
    let number = shared.command(|state| {
        state.renewals = state.renewals.wrapping_add(1);
        state.changed.drain_into(&mut state.wakes);
        state.renewals
    });
    if valid_for.is_none() {
        return;
    }
    let refreshing = Refreshing {
        shared: Arc::clone(shared),
        source,
        timeout: policy.timeout,
        number,
    };
    shared.spawn(Box::pin(async move {
        // It ends with the connection, or when nothing is left to be done.
        let _ = refreshing.run(Refresh::new(policy), valid_for).await;
    }));
}

impl Refreshing {
    async fn run(&self, mut refresh: Refresh, valid_for: Option<Duration>) -> Result<(), Ended> {
        let mut now = self.after(Duration::ZERO).await?;
        refresh.handle_renewed(now, valid_for);
        // It may be that another connection has just begun.
        let mut place = Place::changed(&self.shared);
        let connected = place.until(|state| state.is_connected.then_some(()));
        self.unless_ended(Duration::MAX, connected).await?;
        if self.has_nothing_to_renew() {
            return Ok(());
        }
        while let Some(at) = refresh.poll_timeout() {
            now = self.after(at.duration_since(now)).await?;
            while let Some(step) = refresh.poll_step(now) {
                match step {
                    RefreshStep::Ask => now = self.renew(&mut refresh).await?,
                    _ => self.tell(ConnectionEvent::CredentialsExpired)?,
                }
            }
        }
        Ok(())
    }

    /// Gets a new secret to the broker, and says how that went.
    async fn renew(&self, refresh: &mut Refresh) -> Result<Instant, Ended> {
        let result = match self.ask().await? {
            Ok(provided) => {
                // What the broker takes to answer is a part of its life.
                let asked = self.after(Duration::ZERO).await?;
                let updated = self.update(&provided.credentials).await;
                updated.map(|()| (asked, provided.valid_for))
            }
            Err(error) => Err(error.into()),
        };
        let now = self.after(Duration::ZERO).await?;
        let event = match result {
            Ok((since, valid_for)) => {
                refresh.handle_renewed(since, valid_for);
                ConnectionEvent::CredentialsRefreshed { valid_for }
            }
            Err(error @ RefreshError::Provider(ProviderError::NothingToRenew { .. })) => {
                let retry_in = None;
                self.tell(ConnectionEvent::CredentialsNotRefreshed { error, retry_in })?;
                return Err(Ended);
            }
            Err(error) => {
                let retry_in = refresh.handle_failed(now);
                ConnectionEvent::CredentialsNotRefreshed { error, retry_in }
            }
        };
        self.tell(event)?;
        Ok(now)
    }

    async fn ask(&self) -> Result<Result<ProvidedCredentials, ProviderError>, Ended> {
        let asking = self.source.ask();
        let limit = self.timeout;
        let answer = self.unless_ended(limit, asking).await?;
        Ok(answer.unwrap_or(Err(ProviderError::TimedOut { limit })))
    }

    /// Such as when the broker took the certificate, not the token that runs out. Credentials that were erased do not tell.
    fn has_nothing_to_renew(&self) -> bool {
        let config = Arc::clone(self.shared.lock().connection.config());
        let secret = config.credentials.secret_to_renew(&self.mechanism());
        matches!(secret, Err(ProviderError::NothingToRenew { .. }))
    }

    fn mechanism(&self) -> String {
        let state = self.shared.lock();
        state.connection.mechanism().unwrap_or_default().to_owned()
    }

    async fn update(&self, credentials: &Credentials) -> Result<(), RefreshError> {
        // No lock is held: mechanisms may be the user's.
        let secret = credentials.secret_to_renew(&self.mechanism())?;
        update_secret(&self.shared, &secret, REASON, Some(self.timeout)).await?;
        if credentials.is_erase_on_connect() {
            credentials.erase();
        }
        Ok(())
    }

    /// Waits for so long, and says what the driver's clock says then.
    async fn after(&self, duration: Duration) -> Result<Instant, Ended> {
        let never = std::future::pending::<()>();
        self.unless_ended(duration, never).await?;
        Ok(self.shared.lock().alarms.now())
    }

    /// Waits for a future, for so long at most.
    async fn unless_ended<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, Ended> {
        let mut future = pin!(future);
        let deadline = Deadline::after(&self.shared, Some(limit));
        let mut place = Place::changed(&self.shared);
        let mut ended = pin!(place.until(|state| self.has_ended(state)));
        poll_fn(|cx: &mut Context<'_>| {
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Ended));
            }
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => Poll::Ready(Ok(Some(value))),
                Poll::Pending => deadline.poll(cx).map(|()| Ok(None)),
            }
        })
        .await
    }

    fn has_ended(&self, state: &State) -> Option<()> {
        let is_over = state.closed.is_some() || state.is_closing || state.renewals != self.number;
        is_over.then_some(())
    }

    fn tell(&self, event: ConnectionEvent) -> Result<(), Ended> {
        self.shared.command(|state| {
            // The end is told last.
            if self.has_ended(state).is_some() {
                return Err(Ended);
            }
            state.watchers.tell(&event, &mut state.wakes);
            Ok(())
        })?;
        observe::refreshing(&event);
        Ok(())
    }
}
