//! Providers of credentials: who is asked before each attempt, and again before a secret runs out.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amqp_async::proto::{
    Backoff, CloseReason, Credentials, Host, ProviderError, RefreshPolicy, SaslError, SaslMechanism, Secret,
};
use amqp_async::{
    BoxFuture, ConnectionEvent, CredentialsSource, HandlerError, ProvidedCredentials, Recovery,
};

use super::connecting::{free_port, only_failure};
use super::{World, close};
use crate::runtime::{AttemptError, ConnectError, connect_as, connect_recovering_as};

type Answer = Result<ProvidedCredentials, HandlerError>;

/// Soon after the secret came, and again soon after a failure.
fn soon() -> RefreshPolicy {
    let pause = Duration::from_millis(20);
    let backoff = Backoff::new(1).initial(pause);
    RefreshPolicy::new(backoff).at(0.01).min_interval(pause)
}

/// Answers by the number of the call, from 1 on.
fn source(
    answer: impl Fn(u64) -> BoxFuture<Answer> + Send + Sync + 'static,
) -> (CredentialsSource, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let provider = move || answer(counter.fetch_add(1, Ordering::SeqCst) + 1);
    (CredentialsSource::new(provider).policy(soon()), calls)
}

/// RabbitMQ's own users have a secret that does not run out: whatever is sent, it is taken over.
fn guest() -> ProvidedCredentials {
    Credentials::plain("guest", "guest").into()
}

fn answer(answer: Answer) -> BoxFuture<Answer> {
    Box::pin(async { answer })
}

pub(crate) async fn a_secret_is_renewed_while_the_connection_goes_on(world: World) {
    let (source, calls) = source(|call| match call {
        1 => answer(Ok(guest().valid_for(Duration::from_secs(60)))),
        2 => answer(Err("try later".into())),
        _ => answer(Ok(guest())),
    });
    // Those in the parameters do not count.
    let parameters = world.parameters(|config| config.credentials(Credentials::plain("guest", "old")));
    let connection = connect_as(parameters, source).await.unwrap();
    let mut events = connection.events();
    let failed = events.next().await;
    let Some(ConnectionEvent::CredentialsNotRefreshed {
        error,
        retry_in: Some(_),
    }) = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(error, ProviderError::Failed("try later".into()).into());
    let valid_for = None;
    let refreshed = ConnectionEvent::CredentialsRefreshed { valid_for };
    assert_eq!(events.next().await, Some(refreshed));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    let channel = connection.channel().await.unwrap();
    channel.declare_queue("").exclusive(true).await.unwrap();
    close(&connection).await;
    let reason = CloseReason::Requested { acknowledged: true };
    assert_eq!(events.next().await, Some(ConnectionEvent::Closed(reason)));
}

/// Nobody listens at the first host; the second one gets what was given for it.
pub(crate) async fn credentials_are_asked_for_before_each_attempt(world: World) {
    let (source, calls) = source(|call| match call {
        1 => answer(Ok(Credentials::plain("guest", "wrong").into())),
        _ => answer(Ok(guest())),
    });
    let mut parameters = world.parameters(|config| config);
    parameters
        .hosts
        .insert(0, Host::new("127.0.0.1").port(free_port()));
    close(&connect_as(parameters.clone(), source.clone()).await.unwrap()).await;
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // The same provider for another connection.
    parameters.hosts.remove(0);
    close(&connect_as(parameters, source).await.unwrap()).await;
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

pub(crate) async fn without_credentials_nothing_is_tried(world: World) {
    let parameters = world.parameters(|config| config);
    let limit = Duration::from_millis(20);
    let silent = CredentialsSource::new(pending::<Answer>).policy(soon().timeout(limit));
    for (source, expected) in [
        (
            source(|_| answer(Err("no route".into()))).0,
            ProviderError::Failed("no route".into()),
        ),
        (
            source(|_| Box::pin(async { panic!("on purpose") })).0,
            ProviderError::Panicked,
        ),
        (source(|_| panic!("on purpose")).0, ProviderError::Panicked),
        (silent, ProviderError::TimedOut { limit }),
    ] {
        let error = connect_as(parameters.clone(), source).await.unwrap_err();
        let ConnectError::Attempts(failed) = &error else {
            panic!("{error:?}");
        };
        // One for each address of the host.
        assert!(failed.iter().next().is_some());
        for failed in failed {
            assert_eq!(failed.error, AttemptError::Credentials(expected.clone()));
        }
    }
}

/// One that no broker has.
#[derive(Debug)]
struct Unknown;

impl SaslMechanism for Unknown {
    fn name(&self) -> &str {
        "X-UNKNOWN"
    }

    fn respond(&self, _: u32, _: &[u8]) -> Result<Secret, SaslError> {
        unreachable!("nobody offers it")
    }
}

pub(crate) async fn the_first_mechanism_that_is_offered_is_used(world: World) {
    let list = || Credentials::custom(Unknown).or(Credentials::plain("guest", "guest"));
    let (both, _) = source(move |_| answer(Ok(list().into())));
    let parameters = world.parameters(|config| config);
    let connection = connect_as(parameters.clone(), both).await.unwrap();
    assert_eq!(connection.mechanism().as_deref(), Some("PLAIN"));
    close(&connection).await;

    let (only, _) = source(|_| answer(Ok(Credentials::custom(Unknown).into())));
    let error = connect_as(parameters, only).await.unwrap_err();
    let AttemptError::Closed(CloseReason::Sasl(error)) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(
        matches!(error, SaslError::AuthMechanismNotOffered { .. }),
        "{error:?}"
    );
}

/// Overwritten as soon as the broker has them, both for connecting and for renewing.
pub(crate) async fn credentials_are_erased_if_that_was_asked_for(world: World) {
    let given = [0, 1].map(|_| Credentials::plain("guest", "guest").erase_on_connect(true));
    let [first, second] = given.clone();
    let (source, _) = source(move |call| match call {
        1 => {
            let credentials = ProvidedCredentials::from(first.clone());
            answer(Ok(credentials.valid_for(Duration::from_secs(60))))
        }
        _ => answer(Ok(second.clone().into())),
    });
    let parameters = world.parameters(|config| config);
    let connection = connect_as(parameters, source).await.unwrap();
    let mut events = connection.events();
    assert!(given[0].is_erased());
    let event = events.next().await;
    assert!(
        matches!(event, Some(ConnectionEvent::CredentialsRefreshed { .. })),
        "{event:?}"
    );
    assert!(given[1].is_erased());
    close(&connection).await;
}

/// The first secret is valid for days; the second one, of the connection that was made again, not so long.
pub(crate) async fn a_connection_that_is_made_again_renews_the_secret_that_it_has_then(world: World) {
    let (source, calls) = source(|call| match call {
        1 => answer(Ok(guest().valid_for(Duration::from_secs(1_000_000)))),
        2 => answer(Ok(guest().valid_for(Duration::from_secs(60)))),
        _ => answer(Ok(guest())),
    });
    let policy = soon().at(0.001);
    let parameters = world.parameters(|config| config);
    let source = source.policy(policy);
    let connection = connect_recovering_as(parameters, Recovery::default(), Some(source))
        .await
        .unwrap();
    let mut events = connection.events();
    world.operator.close_all_connections("come again");
    loop {
        match events.next().await.unwrap() {
            ConnectionEvent::CredentialsRefreshed { valid_for } => break assert_eq!(valid_for, None),
            ConnectionEvent::CredentialsNotRefreshed { error, .. } => panic!("{error}"),
            ConnectionEvent::Closed(reason) => panic!("{reason}"),
            _ => {}
        }
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(connection.is_recovering().is_none());
    close(&connection).await;
}
