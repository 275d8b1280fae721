//! Getting in, or learning why not.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{CloseReason, ConnectionParameters, ConnectionState};
use amqp_mio::{AttemptError, ConnectError, Connector, Stage};

use super::World;
use super::client::{Client, Told};

/// Why there is none.
pub(crate) fn failure(result: Result<Client, ConnectError>) -> ConnectError {
    match result {
        Ok(_) => panic!("it is connected"),
        Err(error) => error,
    }
}

/// The one thing that was tried.
pub(crate) fn only_failure(error: &ConnectError) -> &AttemptError {
    let ConnectError::Attempts(failed) = error else {
        panic!("{error:?}");
    };
    let mut failed = failed.iter();
    let (first, second) = (failed.next(), failed.next());
    assert!(second.is_none(), "{error}");
    &first.unwrap().error
}

/// Why the broker does not let us in there.
pub(crate) fn refusal(url: &str) -> (CloseReason, ConnectError) {
    let error = failure(Client::connect_uri(url));
    let AttemptError::Closed(reason) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    (reason.clone(), error)
}

pub(crate) fn a_wrong_password_is_refused_for_good(world: World) {
    let url = world.url.replacen("guest:guest@", "guest:wrong@", 1);
    let (reason, error) = refusal(&url);
    let CloseReason::AuthRefused { peer: Some(peer) } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::ACCESS_REFUSED);
    assert!(
        peer.text.starts_with("ACCESS_REFUSED - Login was refused"),
        "{peer}"
    );
    assert!(!error.to_string().contains("wrong"));
}

/// The same URI with another virtual host.
pub(crate) fn with_virtual_host(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority: Vec<&str> = base.splitn(4, '/').take(3).collect();
    format!("{}/{name}?{query}", authority.join("/"))
}

pub(crate) fn an_unknown_virtual_host_is_refused_for_good(world: World) {
    let (reason, _) = refusal(&with_virtual_host(&world.url, "nowhere"));
    let CloseReason::Peer(peer) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
    assert!(peer.text.contains("vhost nowhere not found"), "{peer}");
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn a_port_where_nobody_listens_is_told(_: World) {
    let port = free_port();
    let error = failure(Client::connect_uri(&format!("amqp://127.0.0.1:{port}")));
    let AttemptError::Io { kind, .. } = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(*kind, std::io::ErrorKind::ConnectionRefused);
    let words = format!("127.0.0.1:{port}: connecting failed:");
    assert!(error.to_string().starts_with(&words), "{error}");
}

pub(crate) fn hosts_are_tried_in_their_order(world: World) {
    let first = format!("@127.0.0.1:{},", free_port());
    let url = world.url.replacen('@', &first, 1);
    Client::connect_uri(&url).unwrap().close();
}

pub(crate) fn a_connection_says_what_it_is_doing(world: World) {
    let mut client = world.connect();
    let state = client.connection(|view| view.core().map(|core| core.state()));
    assert_eq!(state, Some(ConnectionState::Open));
    let seen = Told::new();
    let closed = seen.clone();
    client.connection(|view| view.on_close(move |ctx, _, reason| closed.tell(ctx, reason.clone())));
    let (channel, queue) = client.queue();
    client.send(channel, &queue, vec![0; 100_000]);
    drop(client.get(channel, &queue).unwrap());
    let counters = client.connection(|view| view.core().unwrap().counters());
    assert_eq!(counters.got, 1);
    client.close();
    assert_eq!(seen.pop(), Some(CloseReason::Requested { acknowledged: true }));
}

/// As a broker whose process has stopped: the system takes the connection, and nothing comes.
pub(crate) fn a_host_that_says_nothing_is_given_up_in_time(_: World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(300);
    let parameters = |scheme| ConnectionParameters::from_uri(&format!("{scheme}://{address}")).unwrap();
    let connect = |parameters| failure(Client::connect(&Connector::new(parameters)));

    let mut silent = parameters("amqp");
    silent.config = silent.config.handshake_timeout(patience);
    let state = ConnectionState::WaitingForStart;
    let late = AttemptError::Closed(CloseReason::HandshakeTimeout { state });
    assert_eq!(*only_failure(&connect(silent)), late);

    for (scheme, expected) in [("amqp", Stage::Amqp), ("amqps", Stage::Tls)] {
        let begin = Instant::now();
        let error = connect(parameters(scheme).stack_timeout(patience));
        let AttemptError::TimedOut { stage, limit } = *only_failure(&error) else {
            panic!("{error:?}");
        };
        assert!([expected, Stage::Amqp].contains(&stage), "{stage}");
        assert_eq!(limit, patience);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

/// Whether the broker or the deadline comes first is up to chance.
pub(crate) fn a_connection_that_may_take_no_time_is_given_up_or_there(world: World) {
    let none = Duration::ZERO;
    let parameters = || world.parameters(|config| config);
    let late = |failure: &AttemptError| match failure {
        AttemptError::TimedOut { limit, .. } => *limit == none,
        AttemptError::Closed(reason) => matches!(reason, CloseReason::HandshakeTimeout { .. }),
        _ => false,
    };
    for hasty in [
        parameters().connection_timeout(none),
        parameters().stack_timeout(none),
        world.parameters(|config| config.handshake_timeout(none)),
    ] {
        match Client::connect(&Connector::new(hasty)) {
            Ok(mut client) => client.close(),
            Err(error) => assert!(late(only_failure(&error)), "{error:?}"),
        }
    }
}

/// TLS where there is none, and the other way round.
pub(crate) fn the_wrong_protocol_for_a_port_is_told_at_once(world: World) {
    let begin = Instant::now();
    if let Some(rest) = world.url.strip_prefix("amqps://") {
        let (rest, _) = rest.split_once('?').unwrap();
        let error = failure(Client::connect_uri(&format!("amqp://{rest}")));
        assert!(
            matches!(only_failure(&error), AttemptError::Closed(_)),
            "{error:?}"
        );
    } else {
        let url = world.url.replacen("amqp://", "amqps://", 1) + "?verify=verify_none";
        let error = failure(Client::connect_uri(&url));
        assert!(matches!(only_failure(&error), AttemptError::Tls(_)), "{error:?}");
    }
    // Before either side gives up waiting.
    assert!(begin.elapsed() < Duration::from_secs(5));
}
