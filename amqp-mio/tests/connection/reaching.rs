//! The way to a broker: names, addresses, what fails on it.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{CloseReason, ConnectionParameters, Event, Host, SendError};
use amqp_mio::{AttemptError, ConnectError, Connector, Stage};
use amqp_testbroker::TestBroker;

use crate::round::{Round, tls_broker};

fn parameters(uri: &str) -> ConnectionParameters {
    ConnectionParameters::from_uri(uri).unwrap()
}

/// An address where nobody listens, for as long as what comes with it is kept.
fn closed_port() -> (SocketAddr, impl Sized) {
    // Bound, so that nobody else gets it, and connected to: it does not listen.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (bound.local_addr().unwrap(), (listener, bound))
}

fn failure(connector: &Connector) -> String {
    let mut round = Round::new(connector.connect().unwrap());
    let error = round.until(|_, _| None::<()>).unwrap_err();
    assert_eq!(round.connection.poll_event(), Ok(None), "it is said once");
    assert_eq!(round.connection.next_timeout(), None);
    assert_eq!(round.connection.open_channel(), Err(SendError::Closed));
    error.to_string()
}

#[test]
fn a_name_is_looked_up_without_waiting() {
    let broker = TestBroker::start().unwrap();
    let hosts = [Host::new("localhost").port(broker.port())];
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    let mut round = Round::new(connector.connect().unwrap());
    assert_eq!(round.connection.poll_event(), Ok(None));
    assert_eq!(round.connection.open_channel(), Err(SendError::NotConnected));
    round.until_event(|event| *event == Event::Connected);
    assert!(round.wakes < 20, "{} wakes", round.wakes);
}

#[test]
fn it_stays_registered_from_address_to_address() {
    let broker = TestBroker::start().unwrap();
    let (closed, _keep) = closed_port();
    let hosts = [
        Host::new("127.0.0.1").port(closed.port()),
        Host::new("127.0.0.1").port(broker.port()),
    ];
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    Round::new(connector.connect().unwrap()).connected();
}

#[test]
fn addresses_of_ones_own_are_tried_in_turn() {
    let broker = TestBroker::start().unwrap();
    let (closed, _keep) = closed_port();
    let open = SocketAddr::from(([127, 0, 0, 1], broker.port()));
    let connector = Connector::new(parameters("amqp://no.such.name.invalid"));
    Round::new(connector.connect_addrs(vec![closed, open]).unwrap()).connected();
}

#[test]
fn what_was_tried_is_told_once() {
    let (closed, _keep) = closed_port();
    let hosts = [
        Host::new("127.0.0.1").port(closed.port()),
        Host::new("no.such.name.invalid"),
    ];
    let text = failure(&Connector::new(ConnectionParameters::default().hosts(hosts)));
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("connecting failed: "), "{text}");
    assert!(lines[1].contains("resolving the name failed: "), "{text}");
}

#[test]
fn a_wrong_password_ends_the_search() {
    let broker = TestBroker::start().unwrap();
    let uri = format!("amqp://guest:wrong@127.0.0.1:{0},127.0.0.1:{0}", broker.port());
    let text = failure(&Connector::from_uri(&uri).unwrap());
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("ACCESS_REFUSED"), "{text}");
}

#[test]
fn an_unknown_authority_is_told_as_that() {
    let broker = tls_broker();
    let connector = Connector::from_uri(&broker.tls_uri().unwrap()).unwrap();
    let mut round = Round::new(connector.connect().unwrap());
    let error = round.until(|_, _| None::<()>).unwrap_err();
    assert!(error.is_certificate_error(), "{error}");
}

#[test]
fn a_listener_without_words_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let limit = Duration::from_millis(50);
    let hosts = [Host::new("127.0.0.1").port(silent.local_addr().unwrap().port())];
    let parameters = ConnectionParameters::default().hosts(hosts).stack_timeout(limit);
    let mut round = Round::new(Connector::new(parameters).connect().unwrap());
    let ConnectError::Attempts(attempts) = round.until(|_, _| None::<()>).unwrap_err() else {
        panic!("attempts");
    };
    let errors: Vec<_> = attempts.iter().map(|failed| &failed.error).collect();
    assert!(
        matches!(
            errors[..],
            [AttemptError::TimedOut {
                stage: Stage::Amqp,
                ..
            }]
        ),
        "{attempts}"
    );
}

#[test]
fn a_search_can_be_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = [Host::new("127.0.0.1").port(silent.local_addr().unwrap().port())];
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    let mut round = Round::new(connector.connect().unwrap());
    round.connection.close(ReplyCode::REPLY_SUCCESS, "never mind");
    let acknowledged = false;
    let closed = round.until_event(|event| matches!(event, Event::Closed(_)));
    assert_eq!(closed, Event::Closed(CloseReason::Requested { acknowledged }));
    assert_eq!(round.connection.next_timeout(), None);
}

#[test]
fn a_handshake_can_be_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = [Host::new("127.0.0.1").port(silent.local_addr().unwrap().port())];
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    let mut round = Round::new(connector.connect().unwrap());
    while round.connection.core().is_none() {
        assert_eq!(round.connection.poll_event(), Ok(None));
        round.wait();
    }
    round.connection.close(ReplyCode::REPLY_SUCCESS, "never mind");
    let acknowledged = false;
    let closed = round.until_event(|event| matches!(event, Event::Closed(_)));
    assert_eq!(closed, Event::Closed(CloseReason::Requested { acknowledged }));
}

#[test]
fn nothing_is_tried_before_its_time() {
    let delay = Duration::from_secs(30);
    let mut connection = Connector::default().connect_after(delay).unwrap();
    let start = Instant::now();
    assert_eq!(connection.poll_event(), Ok(None));
    let timeout = connection.next_timeout().unwrap();
    assert!(start.elapsed() < delay, "it does not wait");
    assert!(
        timeout > delay / 2 && timeout <= delay + Duration::from_millis(1),
        "{timeout:?}"
    );
}

#[test]
fn a_listener_that_hangs_up_did_not_speak_amqp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = [Host::new("127.0.0.1").port(listener.local_addr().unwrap().port())];
    std::thread::spawn(move || drop(listener.accept()));
    let text = failure(&Connector::new(ConnectionParameters::default().hosts(hosts)));
    assert!(text.contains("connection lost while"), "{text}");
}
