//! Who connects, asked for when it is needed: before each attempt, and again before a secret runs out.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use amqp_proto::{
    Backoff, Connection, Event, Instant, ProvidedCredentials, ProviderError, Refresh, RefreshPolicy,
    RefreshStep, RequestError, RequestId, SendError,
};

use crate::offload::{Offload, Panicked};
use crate::session::Session;

/// What `connection.update-secret` gives as its reason, for the broker's log.
const REASON: &str = "it is about to expire";

/// How many events wait for whoever takes them; the oldest ones go first.
const MOST_EVENTS: usize = 16;

type Answer = Result<ProvidedCredentials, Box<dyn Error + Send + Sync>>;

/// Who knows with what to connect, such as a client of an OAuth 2 server, and when it is asked.
///
/// It is a function that may wait: each call is on a thread of its own, and there is no other one before it has come back. It is asked
/// before each attempt to connect; and, if what it gave runs out, again before that: then the broker gets the new secret by
/// `connection.update-secret` (RabbitMQ page "OAuth 2"), and the connection goes on. All this is bounded by
/// [`RefreshPolicy::timeout`]. [`CredentialsEvent`]s tell how it went.
///
/// ```no_run
/// # fn example() -> Result<(), amqp_mio::ConnectError> {
/// use amqp_mio::proto::{Backoff, Credentials, RefreshPolicy};
/// use amqp_mio::{Connector, CredentialsSource, ProvidedCredentials};
/// use std::time::Duration;
///
/// let source = CredentialsSource::new(|| {
///     let token = std::fs::read_to_string("/run/secrets/token")?;
///     Ok(ProvidedCredentials::from(Credentials::token(token)).valid_for(Duration::from_secs(300)))
/// });
/// let policy = RefreshPolicy::new(Backoff::new(std::process::id().into())).at(0.5);
/// let connector = Connector::from_uri("amqps://broker.example/orders")?.credentials_source(source.policy(policy));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct CredentialsSource {
    provider: Arc<Provider>,
    policy: Option<RefreshPolicy>,
}

struct Provider {
    provide: Box<dyn Fn() -> Answer + Send + Sync>,
    is_running: AtomicBool,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("is_running", &self.is_running)
            .finish_non_exhaustive()
    }
}

/// A call of the provider.
type Call = Offload<Result<ProvidedCredentials, ProviderError>>;

/// The provider is being asked.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) call: Call,
    limit: Duration,
    pub(crate) late: Instant,
}

impl CredentialsSource {
    /// Asks that function by the default policy, at moments that are each connection's own. Its errors are told to whoever watches the
    /// connection, and must not have a secret in them.
    #[must_use]
    pub fn new(provide: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        let provider = Provider {
            provide: Box::new(provide),
            is_running: AtomicBool::new(false),
        };
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

    fn make_policy(&self) -> RefreshPolicy {
        let new = || RefreshPolicy::new(Backoff::new(RandomState::new().hash_one(0)));
        self.policy.clone().unwrap_or_else(new)
    }

    pub(crate) fn ask(&self, now: Instant) -> Result<Asking, ProviderError> {
        let limit = self.make_policy().timeout;
        if self.provider.is_running.swap(true, Ordering::AcqRel) {
            let words = "the call before this one has not come back";
            return Err(ProviderError::Failed(words.into()));
        }
        let running = Running(Arc::clone(&self.provider));
        let ask = move || {
            let answer = (running.0.provide)();
            answer.map_err(|error| ProviderError::Failed(error.to_string().into()))
        };
        let call = Offload::start("amqp-credentials", ask);
        let call = call.map_err(|error| ProviderError::Failed(error.to_string().into()))?;
        let late = now + limit;
        Ok(Asking { call, limit, late })
    }
}

/// A call is under way; whatever becomes of it, the next one may be made behind it.
struct Running(Arc<Provider>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
    }
}

impl Asking {
    /// What came of it, as soon as something has.
    pub(crate) fn poll(&self, now: Instant) -> Option<Result<ProvidedCredentials, ProviderError>> {
        match self.call.poll() {
            Some(answer) => Some(answer.unwrap_or_else(|Panicked| Err(ProviderError::Panicked))),
            None if self.late <= now => Some(Err(ProviderError::TimedOut { limit: self.limit })),
            None => None,
        }
    }
}

/// What became of the secret of a connection that has a provider of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialsEvent {
    /// The broker has a new secret.
    Refreshed {
        /// How long it is valid from when the provider gave it; `None` is for ever: no other one will be asked for.
        valid_for: Option<Duration>,
    },
    /// There was no new secret, or the broker did not take it over. The connection goes on with the one it has.
    NotRefreshed {
        /// Why.
        error: RefreshError,
        /// When another one is asked for; `None` if the attempts are used up.
        retry_in: Option<Duration>,
    },
    /// The secret has run out without having been renewed. RabbitMQ 3.10 with OAuth 2 then refuses what is asked for (403, which ends
    /// channels) until it has another one. Told once; new ones are asked for as before.
    Expired,
}

/// Why a connection's secret was not renewed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// There was none to send.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// It could not be sent.
    #[error("the new secret was not sent: {0}")]
    NotSent(#[from] SendError),
    /// The broker did not answer in time. That it refuses one ends the connection (530); RabbitMQ's own users, whose passwords do not
    /// run out, may send what they like.
    #[error("the new secret is not known to be with the broker: {0}")]
    NotUpdated(#[from] RequestError),
}

/// Renews a connection's secret for as long as it is open.
#[derive(Debug)]
pub(crate) struct Refreshing {
    source: CredentialsSource,
    schedule: Refresh,
    timeout: Duration,
    mechanism: String,
    renewal: Renewal,
    events: VecDeque<CredentialsEvent>,
}

#[derive(Debug)]
enum Renewal {
    /// The schedule says when.
    Idle,
    Asking(Asking),
    /// The broker is to answer.
    Updating {
        request: RequestId,
        provided: ProvidedCredentials,
        since: Instant,
        late: Instant,
    },
}

impl Refreshing {
    /// For a connection that was just opened with those credentials; `None` if there is nothing to renew, such as when the broker took the
    /// certificate, not the token that runs out. Credentials that were erased do not tell.
    pub(crate) fn new(
        source: &CredentialsSource,
        core: &Connection,
        now: Instant,
        valid_until: Instant,
    ) -> Option<Self> {
        let mechanism = core.mechanism().unwrap_or_default().to_owned();
        let secret = core.config().credentials.secret_to_renew(&mechanism);
        if matches!(secret, Err(ProviderError::NothingToRenew { .. })) {
            return None;
        }
        let policy = source.make_policy();
        let timeout = policy.timeout;
        let mut schedule = Refresh::new(policy);
        schedule.handle_renewed(now, Some(valid_until.duration_since(now)));
        Some(Self {
            source: source.clone(),
            schedule,
            timeout,
            mechanism,
            renewal: Renewal::Idle,
            events: VecDeque::new(),
        })
    }

    pub(crate) fn deadline(&self, _now: Instant) -> Option<Instant> {
        let late = match &self.renewal {
            Renewal::Idle => None,
            #[cfg(unix)]
            Renewal::Asking(asking) => Some(asking.late),
            #[cfg(not(unix))]
            Renewal::Asking(asking) => Some(asking.late.min(_now + Duration::from_millis(10))),
            Renewal::Updating { late, .. } => Some(*late),
        };
        [self.schedule.poll_timeout(), late].into_iter().flatten().min()
    }

    /// The call under way, to be registered.
    pub(crate) fn call(&mut self) -> Option<&mut Call> {
        match &mut self.renewal {
            Renewal::Asking(asking) => Some(&mut asking.call),
            _ => None,
        }
    }

    /// Does what it is time for; says whether a call was begun.
    pub(crate) fn step(&mut self, now: Instant, session: &mut Session) -> bool {
        if !session.core.is_open() {
            return false;
        }
        match &self.renewal {
            Renewal::Asking(asking) => {
                if let Some(answer) = asking.poll(now) {
                    self.update(now, answer, session);
                }
            }
            Renewal::Updating { request, late, .. } if *late <= now => {
                session.commands().abandon(*request);
                self.fail(now, RequestError::Timeout);
            }
            _ => {}
        }
        let mut has_begun = false;
        while let Some(step) = self.schedule.poll_step(now) {
            match step {
                RefreshStep::Ask => match self.source.ask(now) {
                    Ok(asking) => {
                        self.renewal = Renewal::Asking(asking);
                        has_begun = true;
                    }
                    Err(error) => self.fail(now, error),
                },
                _ => self.tell(CredentialsEvent::Expired),
            }
        }
        has_begun
    }

    /// Sends what the provider gave.
    fn update(
        &mut self,
        now: Instant,
        answer: Result<ProvidedCredentials, ProviderError>,
        session: &mut Session,
    ) {
        let sent = answer.map_err(RefreshError::from).and_then(|provided| {
            let secret = provided.credentials.secret_to_renew(&self.mechanism)?;
            let request = session.commands().update_secret(&secret, REASON)?;
            Ok((request.untyped(), provided))
        });
        match sent {
            Ok((request, provided)) => {
                // What the broker takes to answer is a part of its life.
                let (since, late) = (now, now + self.timeout);
                self.renewal = Renewal::Updating {
                    request,
                    provided,
                    since,
                    late,
                };
            }
            Err(error) => self.fail(now, error),
        }
    }

    /// Whether that event is the broker's answer to what was sent here.
    pub(crate) fn takes(&mut self, now: Instant, event: &Event) -> bool {
        let Renewal::Updating {
            request,
            provided,
            since,
            ..
        } = &self.renewal
        else {
            return false;
        };
        match event {
            Event::Reply(reply) if reply.request() == *request => {
                let valid_for = provided.valid_for;
                if provided.credentials.is_erase_on_connect() {
                    provided.credentials.erase();
                }
                self.schedule.handle_renewed(*since, valid_for);
                self.renewal = Renewal::Idle;
                self.tell(CredentialsEvent::Refreshed { valid_for });
            }
            Event::RequestFailed {
                request: failed,
                cause,
            } if failed == request => {
                self.fail(now, cause.clone());
            }
            _ => return false,
        }
        true
    }

    fn fail(&mut self, now: Instant, error: impl Into<RefreshError>) {
        self.renewal = Renewal::Idle;
        let error = error.into();
        let retry_in = match error {
            RefreshError::Provider(ProviderError::NothingToRenew { .. }) => {
                self.schedule = Refresh::new(self.source.make_policy());
                None
            }
            _ => self.schedule.handle_failed(now),
        };
        self.tell(CredentialsEvent::NotRefreshed { error, retry_in });
    }

    fn tell(&mut self, event: CredentialsEvent) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(crate) fn poll_event(&mut self) -> Option<CredentialsEvent> {
        self.events.pop_front()
    }
}
