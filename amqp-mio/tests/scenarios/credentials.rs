//! Providers of credentials: who is asked before each attempt, and again before a secret runs out.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_mio::proto::{
    Backoff, CloseReason, ConnectionParameters, Credentials, Host, ProviderError, RefreshPolicy, SaslError,
    SaslMechanism, Secret,
};
use amqp_mio::{
    AttemptError, ConnectError, Connector, CredentialsEvent, CredentialsSource, ProvidedCredentials, Recovery,
};

use super::World;
use super::client::{Client, Told};
use super::connecting::{failure, free_port, only_failure};
use super::recovery::Survivor;

type Answer = Result<ProvidedCredentials, Box<dyn Error + Send + Sync>>;

/// Soon after the secret came, and again soon after a failure.
fn soon() -> RefreshPolicy {
    let pause = Duration::from_millis(20);
    let backoff = Backoff::new(1).initial(pause);
    RefreshPolicy::new(backoff).at(0.01).min_interval(pause)
}

/// Answers by the number of the call, from 1 on.
fn source(answer: impl Fn(u64) -> Answer + Send + Sync + 'static) -> (CredentialsSource, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&calls);
    let provider = move || answer(counter.fetch_add(1, Ordering::SeqCst) + 1);
    (CredentialsSource::new(provider).policy(soon()), calls)
}

/// RabbitMQ's own users have a secret that does not run out: whatever is sent, it is taken over.
fn guest() -> ProvidedCredentials {
    Credentials::plain("guest", "guest").into()
}

fn connect_as(parameters: ConnectionParameters, source: CredentialsSource) -> Result<Client, ConnectError> {
    Client::connect(&Connector::new(parameters).credentials_source(source))
}

fn events_of(client: &mut Client) -> Told<CredentialsEvent> {
    let told = Told::new();
    let events = told.clone();
    client.connection(|view| {
        view.on_credentials(move |ctx, _, event| events.tell(ctx, event.clone()));
    });
    told
}

pub(crate) fn a_secret_is_renewed_while_the_connection_goes_on(world: World) {
    let (source, calls) = source(|call| match call {
        1 => Ok(guest().valid_for(Duration::from_secs(60))),
        2 => Err("try later".into()),
        _ => Ok(guest()),
    });
    // Those in the parameters do not count.
    let parameters = world.parameters(|config| config.credentials(Credentials::plain("guest", "old")));
    let mut client = connect_as(parameters, source).unwrap();
    let events = events_of(&mut client);
    let failed = client.wait(&events);
    let CredentialsEvent::NotRefreshed {
        error,
        retry_in: Some(_),
    } = failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(error, ProviderError::Failed("try later".into()).into());
    let valid_for = None;
    assert_eq!(client.wait(&events), CredentialsEvent::Refreshed { valid_for });
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    client.queue();
    client.close();
    assert_eq!(events.len(), 0);
}

/// Nobody listens at the first host; the second one gets what was given for it.
pub(crate) fn credentials_are_asked_for_before_each_attempt(world: World) {
    let (source, calls) = source(|call| match call {
        1 => Ok(Credentials::plain("guest", "wrong").into()),
        _ => Ok(guest()),
    });
    let mut parameters = world.parameters(|config| config);
    parameters
        .hosts
        .insert(0, Host::new("127.0.0.1").port(free_port()));
    connect_as(parameters.clone(), source.clone()).unwrap().close();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // The same provider for another connection.
    parameters.hosts.remove(0);
    connect_as(parameters, source).unwrap().close();
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}

pub(crate) fn without_credentials_nothing_is_tried(world: World) {
    let parameters = world.parameters(|config| config);
    let limit = Duration::from_millis(20);
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let silent = CredentialsSource::new(move || {
        let _ = held.lock().unwrap().recv();
        Err("released".into())
    });
    let silent = silent.policy(soon().timeout(limit));
    for (source, expected) in [
        (
            source(|_| Err("no route".into())).0,
            ProviderError::Failed("no route".into()),
        ),
        (source(|_| panic!("on purpose")).0, ProviderError::Panicked),
        (silent, ProviderError::TimedOut { limit }),
    ] {
        let error = failure(connect_as(parameters.clone(), source));
        let ConnectError::Attempts(failed) = &error else {
            panic!("{error:?}");
        };
        // One for each address of the host.
        let first = failed.iter().next().unwrap();
        assert_eq!(first.error, AttemptError::Credentials(expected));
        assert!(
            failed
                .iter()
                .all(|failed| matches!(failed.error, AttemptError::Credentials(_)))
        );
    }
    drop(release);
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

pub(crate) fn the_first_mechanism_that_is_offered_is_used(world: World) {
    let list = || Credentials::custom(Unknown).or(Credentials::plain("guest", "guest"));
    let (both, _) = source(move |_| Ok(list().into()));
    let parameters = world.parameters(|config| config);
    let mut client = connect_as(parameters.clone(), both).unwrap();
    client.connection(|view| assert_eq!(view.core().unwrap().mechanism(), Some("PLAIN")));
    client.close();

    let (only, _) = source(|_| Ok(Credentials::custom(Unknown).into()));
    let error = failure(connect_as(parameters, only));
    let AttemptError::Closed(CloseReason::Sasl(error)) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(
        matches!(error, SaslError::AuthMechanismNotOffered { .. }),
        "{error:?}"
    );
}

/// Overwritten as soon as the broker has them, both for connecting and for renewing.
pub(crate) fn credentials_are_erased_if_that_was_asked_for(world: World) {
    let given = [0, 1].map(|_| Credentials::plain("guest", "guest").erase_on_connect(true));
    let [first, second] = given.clone();
    let (source, _) = source(move |call| match call {
        1 => Ok(ProvidedCredentials::from(first.clone()).valid_for(Duration::from_secs(60))),
        _ => Ok(second.clone().into()),
    });
    let parameters = world.parameters(|config| config);
    let mut client = connect_as(parameters, source).unwrap();
    let events = events_of(&mut client);
    assert!(given[0].is_erased());
    let event = client.wait(&events);
    assert!(matches!(event, CredentialsEvent::Refreshed { .. }), "{event:?}");
    assert!(given[1].is_erased());
    client.close();
}

/// The first secret is valid for days; the second one, of the connection that was made again, not so long.
pub(crate) fn a_connection_that_is_made_again_renews_the_secret_that_it_has_then(world: World) {
    let (source, calls) = source(|call| match call {
        1 => Ok(guest().valid_for(Duration::from_secs(1_000_000))),
        2 => Ok(guest().valid_for(Duration::from_secs(60))),
        _ => Ok(guest()),
    });
    let source = source.policy(soon().at(0.001));
    let connector = Connector::new(world.parameters(|config| config)).credentials_source(source);
    let mut survivor = Survivor::connect(&connector, Recovery::default());
    let events = events_of(&mut survivor.client);
    survivor.suffer(&world, |operator| operator.close_all_connections("come again"));
    let valid_for = None;
    let client = &mut survivor.client;
    assert_eq!(client.wait(&events), CredentialsEvent::Refreshed { valid_for });
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    client.close();
}
