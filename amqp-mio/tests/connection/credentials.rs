//! A provider of credentials, for a connection in a poll of somebody else's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use amqp_mio::proto::{Backoff, Credentials, Event, ProviderError, RefreshPolicy, RequestError};
use amqp_mio::{
    AttemptError, ConnectError, Connector, CredentialsEvent, CredentialsSource, ProvidedCredentials,
    RefreshError,
};
use amqp_testbroker::TestBroker;
use mio::net::TcpStream;

use crate::round::Round;

const LONG: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(20);

/// Runs out, is renewed soon, and never fails.
fn source(timeout: Duration) -> (CredentialsSource, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let source = CredentialsSource::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        let credentials = Credentials::plain("guest", "guest");
        Ok(ProvidedCredentials::from(credentials).valid_for(Duration::from_secs(60)))
    });
    let backoff = Backoff::new(1).initial(Duration::from_secs(60));
    let policy = RefreshPolicy::new(backoff).at(0.001).min_interval(PAUSE);
    (source.policy(policy.timeout(timeout)), calls)
}

fn stream(broker: &TestBroker) -> TcpStream {
    TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], broker.port()))).unwrap()
}

fn next_event(round: &mut Round) -> CredentialsEvent {
    loop {
        assert_eq!(round.connection.poll_event(), Ok(None));
        if let Some(event) = round.connection.poll_credentials() {
            return event;
        }
        round.wait();
    }
}

#[test]
fn on_a_stream_that_is_there_they_are_asked_for_and_renewed() {
    let broker = TestBroker::start().unwrap();
    let (source, calls) = source(LONG);
    let start = Instant::now();
    let connector = Connector::default().credentials_source(source);
    let mut round = Round::new(connector.connect_tcp(stream(&broker)).unwrap());
    round.until_event(|event| *event == Event::Connected);
    for renewals in 1..4 {
        let valid_for = Some(Duration::from_secs(60));
        assert_eq!(next_event(&mut round), CredentialsEvent::Refreshed { valid_for });
        assert_eq!(calls.load(Ordering::SeqCst), 1 + renewals);
    }
    assert!(start.elapsed() < LONG / 2, "each answer wakes the poll");
    assert!(round.wakes < 50, "{} times", round.wakes);
}

#[test]
fn without_credentials_a_stream_is_not_spoken_on() {
    let broker = TestBroker::start().unwrap();
    let connector = Connector::default().credentials_provider(|| Err("no route".into()));
    let mut round = Round::new(connector.connect_tcp(stream(&broker)).unwrap());
    let error = round.until(|_, event| Some(event)).unwrap_err();
    let ConnectError::Attempts(failed) = &error else {
        panic!("{error:?}");
    };
    let expected = AttemptError::Credentials(ProviderError::Failed("no route".into()));
    assert_eq!(
        failed.iter().map(|failed| &failed.error).collect::<Vec<_>>(),
        [&expected]
    );
    assert_eq!(round.connection.poll_event(), Ok(None), "that was all");
    assert_eq!(round.connection.next_timeout(), None);
}

#[test]
fn a_broker_that_does_not_answer_is_told_in_time() {
    let broker = TestBroker::start().unwrap();
    let (source, _) = source(Duration::from_millis(300));
    let connector = Connector::default().credentials_source(source);
    let mut round = Round::new(connector.connect_tcp(stream(&broker)).unwrap());
    round.until_event(|event| *event == Event::Connected);
    let key = broker.connections()[0].key;
    let now = broker.now();
    broker.with(|broker| broker.set_deaf(key, now, true));
    let event = next_event(&mut round);
    let CredentialsEvent::NotRefreshed {
        error,
        retry_in: Some(_),
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(error, RefreshError::NotUpdated(RequestError::Timeout));
}
