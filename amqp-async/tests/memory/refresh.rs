//! Secrets that run out, and the provider that is asked for new ones in time.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amqp_async::{
    BoxFuture, Connection, ConnectionEvent, CredentialsProvider, CredentialsSource, Error, Events,
    HandlerError, ProvidedCredentials, Recovery, RefreshError,
};
use amqp_proto::wire::{
    ConnectionClose, ConnectionCloseOk, ConnectionOpenOk, ConnectionStart, ConnectionTune,
    ConnectionUpdateSecretOk, LongStr, ReplyCode,
};
use amqp_proto::{
    Backoff, CloseReason, Credentials, ProviderError, ReconnectPolicy, RefreshPolicy, SaslError,
};
use amqp_testbroker::Script;

use crate::pipe::lock;
use crate::world::{World, config, in_time};

const SECOND: Duration = Duration::from_secs(1);

/// At 0.8 of the life sharp; after failures 1 s, 2 s, 4 s …
fn policy() -> RefreshPolicy {
    let backoff = Backoff::new(1).initial(SECOND).jitter(0.0);
    RefreshPolicy::new(backoff).jitter(0.0).timeout(10 * SECOND)
}

type Answer = Result<ProvidedCredentials, HandlerError>;

/// Gives what it was given, in its order, and then nothing for ever.
#[derive(Clone, Default)]
struct Provider {
    answers: Arc<Mutex<VecDeque<BoxFuture<Answer>>>>,
}

impl Provider {
    fn then(self, answer: impl Future<Output = Answer> + Send + 'static) -> Self {
        lock(&self.answers).push_back(Box::pin(answer));
        self
    }

    /// A token that is valid for so many seconds.
    fn token(self, token: &'static str, seconds: u32) -> Self {
        self.then(async move { Ok(valid_for(Credentials::token(token), seconds)) })
    }

    fn failure(self, words: &'static str) -> Self {
        self.then(async move { Err(words.into()) })
    }

    fn source(&self) -> CredentialsSource {
        CredentialsSource::new(self.clone()).policy(policy())
    }

    fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.answers) == 1
    }
}

impl CredentialsProvider for Provider {
    fn credentials(&self) -> BoxFuture<Answer> {
        let next = lock(&self.answers).pop_front();
        next.unwrap_or_else(|| Box::pin(pending()))
    }
}

fn valid_for(credentials: Credentials, seconds: u32) -> ProvidedCredentials {
    ProvidedCredentials::from(credentials).valid_for(seconds * SECOND)
}

/// A connection whose secret is valid for 100 s, and what happens to it.
async fn refreshing(world: &World, provider: &Provider) -> (Connection, Events) {
    let connection = world.connect().await;
    let events = connection.events();
    connection.refresh_credentials(provider.source(), Some(100 * SECOND));
    (connection, events)
}

async fn refreshed(events: &mut Events) -> Option<Duration> {
    match events.next().await {
        Some(ConnectionEvent::CredentialsRefreshed { valid_for }) => valid_for,
        event => panic!("{event:?}"),
    }
}

/// Why, and in how many seconds it is tried again.
async fn not_refreshed(events: &mut Events) -> (RefreshError, Option<u64>) {
    match events.next().await {
        Some(ConnectionEvent::CredentialsNotRefreshed { error, retry_in }) => {
            (error, retry_in.map(|delay| delay.as_secs()))
        }
        event => panic!("{event:?}"),
    }
}

fn failed(words: &str) -> RefreshError {
    ProviderError::Failed(words.into()).into()
}

#[test]
fn a_secret_is_renewed_at_four_fifths_of_its_life_each_time() {
    in_time(async |world| {
        let provider = Provider::default()
            .token("second", 200)
            .then(async { Ok(Credentials::token("for ever").into()) });
        let (connection, mut events) = refreshing(world, &provider).await;
        assert_eq!(refreshed(&mut events).await, Some(200 * SECOND));
        assert_eq!(world.elapsed(), 80 * SECOND);
        assert_eq!(refreshed(&mut events).await, None);
        assert_eq!(world.elapsed(), (80 + 160) * SECOND);
        world.idle().await;
        assert!(provider.is_forgotten(), "nothing is left to be done");
        assert!(!connection.is_closed());
    });
}

#[test]
fn failures_are_told_and_followed_by_growing_pauses_until_one_succeeds() {
    in_time(async |world| {
        let provider = Provider::default()
            .failure("no route")
            .failure("503")
            .token("second", 100)
            .failure("no route");
        let (_connection, mut events) = refreshing(world, &provider).await;
        assert_eq!(not_refreshed(&mut events).await, (failed("no route"), Some(1)));
        assert_eq!(world.elapsed(), 80 * SECOND);
        assert_eq!(not_refreshed(&mut events).await, (failed("503"), Some(2)));
        assert_eq!(world.elapsed(), 81 * SECOND);
        assert_eq!(refreshed(&mut events).await, Some(100 * SECOND));
        assert_eq!(world.elapsed(), 83 * SECOND);
        // It starts anew.
        assert_eq!(not_refreshed(&mut events).await, (failed("no route"), Some(1)));
        assert_eq!(world.elapsed(), (83 + 80) * SECOND);
    });
}

#[test]
fn a_provider_that_panics_or_does_not_answer_is_asked_again_until_the_secret_has_run_out_and_after_that() {
    in_time(async |world| {
        let provider = Provider::default()
            .then(async { panic!("the token is s3cret") })
            .then(pending())
            .failure("it is over")
            .token("second", 100);
        let (connection, mut events) = refreshing(world, &provider).await;
        let panicked = RefreshError::from(ProviderError::Panicked);
        assert_eq!(not_refreshed(&mut events).await, (panicked, Some(1)));
        let limit = 10 * SECOND;
        let late = RefreshError::from(ProviderError::TimedOut { limit });
        assert_eq!(not_refreshed(&mut events).await, (late, Some(2)));
        assert_eq!(world.elapsed(), 91 * SECOND);
        assert_eq!(not_refreshed(&mut events).await, (failed("it is over"), Some(4)));
        assert_eq!(refreshed(&mut events).await, Some(100 * SECOND));
        assert_eq!(world.elapsed(), 97 * SECOND);

        let (late, retry_in) = not_refreshed(&mut events).await;
        assert_eq!(retry_in, Some(1));
        assert!(late.to_string().contains("took longer"), "{late}");
        assert_eq!(world.elapsed(), (97 + 80 + 10) * SECOND);
        not_refreshed(&mut events).await;
        assert_eq!(events.next().await, Some(ConnectionEvent::CredentialsExpired));
        assert_eq!(world.elapsed(), (97 + 80 + 10 + 1 + 10) * SECOND);
        not_refreshed(&mut events).await;
        assert_eq!(world.panics(), 0);
        assert!(!connection.is_closed());
    });
}

#[test]
fn a_provider_that_panics_when_it_is_called_is_asked_again() {
    in_time(async |world| {
        let connection = world.connect().await;
        let mut events = connection.events();
        let calls = Mutex::new(0);
        let provider = move || {
            let mut calls = lock(&calls);
            *calls += 1;
            assert!(*calls > 1, "not yet");
            drop(calls);
            async { Ok(Credentials::token("second").into()) }
        };
        let source = CredentialsSource::new(provider).policy(policy());
        connection.refresh_credentials(source, Some(100 * SECOND));
        assert_eq!(not_refreshed(&mut events).await.1, Some(1));
        assert_eq!(refreshed(&mut events).await, None);
        assert_eq!(world.panics(), 0);
    });
}

#[test]
fn a_broker_that_does_not_answer_is_told_of_another_secret() {
    in_time(async |world| {
        let provider = Provider::default().token("second", 100).token("third", 100);
        let (_connection, mut events) = refreshing(world, &provider).await;
        world.set_mute(true);
        let late = RefreshError::NotUpdated(Error::Timeout);
        assert_eq!(not_refreshed(&mut events).await, (late, Some(1)));
        assert_eq!(world.elapsed(), 90 * SECOND);
        world.set_mute(false);
        assert_eq!(refreshed(&mut events).await, Some(100 * SECOND));
        assert_eq!(world.elapsed(), 91 * SECOND);
    });
}

#[test]
fn the_new_secret_is_what_the_broker_gets() {
    let script = Script::new()
        .handshake()
        .expect(
            r#"ch 0 connection.update-secret new_secret=<7 secret octets> reason="it is about to expire""#,
        )
        .wait(SECOND)
        .reply(ConnectionUpdateSecretOk {})
        .expect(
            r#"ch 0 connection.update-secret new_secret=<12 secret octets> reason="it is about to expire""#,
        )
        .reply(ConnectionUpdateSecretOk {})
        .expect("connection.close")
        .reply(ConnectionCloseOk {});
    let world = World::scripted(script);
    world.run(async {
        let connection = world.connect().await;
        let mut events = connection.events();
        let erased = Credentials::token("the second 2").erase_on_connect(true);
        let second = erased.clone();
        let provider = Provider::default()
            .token("second!", 10)
            .then(async { Ok(second.into()) });
        connection.refresh_credentials(provider.source(), Some(10 * SECOND));
        assert_eq!(refreshed(&mut events).await, Some(10 * SECOND));
        assert_eq!(world.elapsed(), 9 * SECOND);
        assert!(!erased.is_erased());
        // It was valid from when it was given, not from when the broker had it.
        assert_eq!(refreshed(&mut events).await, None);
        assert_eq!(world.elapsed(), (8 + 8) * SECOND);
        assert!(erased.is_erased());
        connection.close().await;
    });
    world.finish_script();
}

#[test]
fn a_broker_that_refuses_the_secret_ends_the_connection() {
    let script = Script::new()
        .handshake()
        .expect("connection.update-secret")
        .reply(ConnectionClose {
            reply_code: ReplyCode::NOT_ALLOWED,
            ..ConnectionClose::default()
        })
        .expect("connection.close-ok");
    let world = World::scripted(script);
    world.run(async {
        let connection = world.connect().await;
        let mut events = connection.events();
        let provider = Provider::default().token("second", 10);
        connection.refresh_credentials(provider.source(), Some(10 * SECOND));
        let Some(ConnectionEvent::Closed(CloseReason::Peer(peer))) = events.next().await else {
            panic!("the end comes first, and last");
        };
        assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
        assert_eq!(events.next().await, None);
        world.idle().await;
        assert!(provider.is_forgotten());
    });
    world.finish_script();
}

#[test]
fn what_does_not_fit_the_connection_is_told() {
    in_time(async |world| {
        let erased = Credentials::token("second");
        erased.erase();
        let provider = Provider::default()
            .then(async { Ok(erased.into()) })
            .then(async { Ok(Credentials::external().into()) })
            .then(async { Ok(Credentials::external().or(Credentials::token("third")).into()) });
        let (connection, mut events) = refreshing(world, &provider).await;
        assert_eq!(connection.mechanism().as_deref(), Some("PLAIN"));
        let unfit = RefreshError::from(ProviderError::Unfit(SaslError::CredentialsErased));
        assert_eq!(not_refreshed(&mut events).await, (unfit, Some(1)));
        let (error, retry_in) = not_refreshed(&mut events).await;
        let not_offered = matches!(
            &error,
            RefreshError::Provider(ProviderError::Unfit(SaslError::AuthMechanismNotOffered { .. }))
        );
        assert!(not_offered && retry_in == Some(2), "{error:?}");
        assert_eq!(refreshed(&mut events).await, None);
    });
}

/// As when the broker takes the certificate, and the token that runs out was only the second choice.
#[test]
fn what_has_no_secret_is_not_renewed() {
    for is_erased in [false, true] {
        let start = ConnectionStart {
            mechanisms: LongStr::new(b"ANONYMOUS PLAIN"),
            ..ConnectionStart::default()
        };
        let script = Script::new()
            .expect("protocol header")
            .reply(start)
            .expect("connection.start-ok")
            .reply(ConnectionTune {
                channel_max: 2047,
                frame_max: 131_072,
                heartbeat: 0,
            })
            .expect("connection.tune-ok")
            .expect("connection.open")
            .reply(ConnectionOpenOk {})
            .expect("connection.close")
            .reply(ConnectionCloseOk {});
        let world = World::scripted(script);
        world.run(async {
            let credentials = Credentials::anonymous().erase_on_connect(is_erased);
            let connection = world.connect_with(config().credentials(credentials)).await;
            let mut events = connection.events();
            let anonymous = || Credentials::anonymous().or(Credentials::token("t"));
            let provider = Provider::default().then(async move { Ok(anonymous().into()) });
            connection.refresh_credentials(provider.source(), Some(10 * SECOND));
            if is_erased {
                let (error, retry_in) = not_refreshed(&mut events).await;
                assert_eq!(error.to_string(), "ANONYMOUS has no secret to renew");
                assert_eq!(retry_in, None);
            }
            world.idle().await;
            assert!(provider.is_forgotten());
            connection.close().await;
        });
        world.finish_script();
    }
}

#[test]
fn it_ends_with_the_connection_whatever_it_is_doing() {
    for seconds in [0, 79, 81, 85] {
        in_time(async |world| {
            let connection = world.start_unkept(config());
            connection.ready().await.unwrap();
            let sleep = world.sleeper();
            // From 80 s on it waits for the provider, from 82 s on for the broker.
            let provider = Provider::default().then(async move {
                sleep(2 * SECOND).await;
                Ok(valid_for(Credentials::token("second"), 10))
            });
            connection.refresh_credentials(provider.source(), Some(100 * SECOND));
            world.sleep(seconds * SECOND).await;
            let key = world.key();
            world.broker(|broker, now| {
                broker.set_mute(key, now, seconds == 81);
            });
            if seconds == 81 {
                world.sleep(2 * SECOND).await;
                world.set_mute(false);
            }
            assert!(!provider.is_forgotten());
            drop(connection);
            world.idle().await;
            assert!(provider.is_forgotten(), "after {seconds} s");
        });
    }
}

#[test]
fn it_ends_with_the_driver() {
    let world = World::new();
    world.run(async {
        let provider = Provider::default().token("second", 10);
        let (connection, _) = refreshing(&world, &provider).await;
        world.idle().await;
        world.drop_driver(0);
        world.idle().await;
        assert!(provider.is_forgotten() && connection.is_closed());
    });
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let provided = valid_for(Credentials::plain("ann", "s3cret"), 10);
    let provider = CredentialsSource::new(move || {
        let provided = provided.clone();
        async { Ok(provided) }
    });
    let world = World::new();
    let asked = world.run(provider.ask()).unwrap();
    let shown = format!("{asked:?} {provider:?}");
    assert!(shown.contains("ann") && !shown.contains("s3cret"), "{shown}");
}

/// Each connection has its own secret, which is renewed when that runs out and not when an older one would have.
#[test]
fn a_connection_that_is_made_again_renews_the_secret_that_it_has_then() {
    let world = World::new();
    world.run(async {
        let provider = Provider::default().token("renewed", 1000);
        let source = provider.source();
        // The first one is valid for 100 s, the second one for 500 s.
        let mut lives = [100, 500].into_iter();
        let recovery = Recovery::new(ReconnectPolicy::new(Backoff::new(1).initial(SECOND).jitter(0.0)));
        let connection = world.start_recovering_with(config(), &recovery, move |connected| {
            let valid_for = lives.next().map(|seconds| seconds * SECOND);
            connected.renewed_by(source.clone(), valid_for)
        });
        connection.ready().await.unwrap();
        let mut events = connection.events();
        world.sleeper()(10 * SECOND).await;
        crate::recovery::close(&world);
        loop {
            match events.next().await.unwrap() {
                ConnectionEvent::Recovered(_) => assert_eq!(world.elapsed(), 11 * SECOND),
                ConnectionEvent::CredentialsRefreshed { valid_for } => {
                    break assert_eq!(valid_for, Some(1000 * SECOND));
                }
                ConnectionEvent::Lost { .. } | ConnectionEvent::Retrying { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.elapsed(), (11 + 400) * SECOND);
        // The third one is valid for ever: nobody is asked any more.
        crate::recovery::close(&world);
        while !matches!(events.next().await.unwrap(), ConnectionEvent::Recovered(_)) {}
        world.sleeper()(5000 * SECOND).await;
        drop(connection.close().await);
        assert!(matches!(events.next().await, Some(ConnectionEvent::Closed(_))));
    });
    world.wind_up();
}
