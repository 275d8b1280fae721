//! Credentials that are asked for when they are needed, by functions that wait.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use amqp_blocking::proto::{Backoff, Credentials, ProviderError, RefreshPolicy};
use amqp_blocking::{
    AttemptError, BlockingConnection, BlockingProvider, ConnectError, ConnectionEvent, Connector,
    CredentialsSource, HandlerError, ProvidedCredentials,
};
use amqp_testbroker::TestBroker;

const LONG: Duration = Duration::from_secs(30);

fn policy() -> RefreshPolicy {
    RefreshPolicy::new(Backoff::new(1))
        .at(0.001)
        .min_interval(Duration::from_millis(20))
}

fn guest() -> ProvidedCredentials {
    Credentials::plain("guest", "guest").into()
}

/// On the broker, with a wrong password in the URI.
fn connector(
    broker: &TestBroker,
    provider: impl Fn() -> Result<ProvidedCredentials, HandlerError> + Send + Sync + 'static,
) -> Connector {
    let uri = broker.uri().replacen("guest:guest@", "guest:wrong@", 1);
    let source = CredentialsSource::new(BlockingProvider::new(provider)).policy(policy());
    Connector::from_uri(&uri).unwrap().credentials_source(source)
}

/// Until a secret was renewed.
fn wait_for_renewal(connection: &BlockingConnection) {
    let (tell, told) = channel();
    connection.add_on_event_callback(move |_, event| {
        if let ConnectionEvent::CredentialsRefreshed { .. } = event {
            tell.send(()).unwrap();
        }
    });
    let begin = std::time::Instant::now();
    while told.try_recv().is_err() {
        assert!(begin.elapsed() < LONG, "it is not renewed");
        connection
            .process_data_events(Duration::from_millis(100))
            .unwrap();
    }
}

#[test]
fn a_provider_that_waits_is_asked_again_in_time() {
    let broker = TestBroker::start().unwrap();
    let (ask, asked) = channel();
    let (give, given) = channel();
    let (ask, given) = (Mutex::new(ask), Mutex::new(given));
    let connector = connector(&broker, move || {
        ask.lock().unwrap().send(thread::current().id())?;
        Ok(given.lock().unwrap().recv_timeout(LONG)?)
    });
    give.send(guest().valid_for(LONG)).unwrap();
    let connection = connector.connect().unwrap();
    assert_ne!(asked.recv_timeout(LONG).unwrap(), thread::current().id());

    // The I/O thread goes on while the provider waits.
    asked.recv_timeout(LONG).unwrap();
    let channel = connection.channel().unwrap();
    give.send(guest()).unwrap();
    wait_for_renewal(&connection);
    channel.close().unwrap();
    connection.close().unwrap();
}

#[test]
fn a_provider_that_fails_is_quoted() {
    let broker = TestBroker::start().unwrap();
    let connector = Connector::from_uri(&broker.uri()).unwrap();
    let connector = connector.credentials_provider(|| Err("no route".into()));
    let error = connector.connect().unwrap_err();
    let ConnectError::Attempts(failed) = &error else {
        panic!("{error:?}");
    };
    let failed = &failed.iter().next().unwrap().error;
    let expected = ProviderError::Failed("no route".into());
    assert_eq!(*failed, AttemptError::Credentials(expected));
    assert!(
        error
            .to_string()
            .ends_with("the provider of credentials failed: no route"),
        "{error}"
    );
}

#[test]
fn a_stream_that_is_there_needs_credentials_too() {
    use std::net::TcpStream;
    let broker = TestBroker::start().unwrap();
    let connector = connector(&broker, || Ok(guest().valid_for(LONG)));
    let stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    stream.set_nonblocking(true).unwrap();
    let connection = connector
        .connect_over(mio::net::TcpStream::from_std(stream))
        .unwrap();
    wait_for_renewal(&connection);
    connection.close().unwrap();
}
