//! Getting in, or learning why not.

use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{CloseReason, ConnectionParameters, ConnectionState};

use super::{World, close};
use crate::runtime::{AttemptError, ConnectError, Stage, connect, connect_with};

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

/// The same URI with another virtual host.
pub(crate) fn with_virtual_host(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let authority: Vec<&str> = base.splitn(4, '/').take(3).collect();
    format!("{}/{name}?{query}", authority.join("/"))
}

pub(crate) async fn a_wrong_password_is_refused_for_good(world: World) {
    let url = world.url.replacen("guest:guest@", "guest:wrong@", 1);
    let error = connect(&url).await.unwrap_err();
    let AttemptError::Closed(reason) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
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

pub(crate) async fn an_unknown_virtual_host_is_refused_for_good(world: World) {
    let url = with_virtual_host(&world.url, "nowhere");
    let error = connect(&url).await.unwrap_err();
    let AttemptError::Closed(reason @ CloseReason::Peer(peer)) = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert!(reason.is_permanent());
    assert_eq!(peer.code, ReplyCode::NOT_ALLOWED);
    assert!(peer.text.contains("vhost nowhere not found"), "{peer}");
}

/// A port that nobody has.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) async fn a_port_where_nobody_listens_is_told(_: World) {
    let port = free_port();
    let error = connect(&format!("amqp://127.0.0.1:{port}")).await.unwrap_err();
    let AttemptError::Io { kind, .. } = only_failure(&error) else {
        panic!("{error:?}");
    };
    assert_eq!(*kind, std::io::ErrorKind::ConnectionRefused);
    assert!(
        error
            .to_string()
            .starts_with(&format!("127.0.0.1:{port}: connecting failed:"))
    );
}

pub(crate) async fn hosts_are_tried_in_their_order(world: World) {
    let url = world
        .url
        .replacen('@', &format!("@127.0.0.1:{},", free_port()), 1);
    close(&connect(&url).await.unwrap()).await;
}

pub(crate) async fn a_connection_says_what_it_is_doing(world: World) {
    let connection = world.connect().await;
    assert_eq!(connection.state(), ConnectionState::Open);
    let (sender, receiver) = mpsc::channel();
    connection.on_close(move |reason| sender.send(reason).unwrap());
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("").exclusive(true).await.unwrap();
    let exchange = channel.default_exchange();
    exchange
        .publish_unconfirmed(vec![0; 100_000], queue.name())
        .await
        .unwrap();
    connection.flush().await.unwrap();
    drop(queue.get().await.unwrap().unwrap());
    let stats = connection.stats();
    assert_eq!(
        (stats.channels, stats.unsettled_dropped, stats.counters.got),
        (1, 1, 1)
    );
    close(&connection).await;
    assert_eq!(connection.state(), ConnectionState::Closed);
    let reason = receiver.recv().unwrap();
    assert_eq!(reason, connection.closed().await);
}

/// As a broker whose process has stopped: the system takes the connection, and nothing comes.
pub(crate) async fn a_host_that_says_nothing_is_given_up_in_time(_: World) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(300);
    let parameters = |scheme| ConnectionParameters::from_uri(&format!("{scheme}://{address}")).unwrap();

    let mut silent = parameters("amqp");
    silent.config = silent.config.handshake_timeout(patience);
    let error = connect_with(silent).await.unwrap_err();
    let state = ConnectionState::WaitingForStart;
    let late = AttemptError::Closed(CloseReason::HandshakeTimeout { state });
    assert_eq!(*only_failure(&error), late);

    for (scheme, stages) in [("amqp", [Stage::Amqp; 2]), ("amqps", [Stage::Tls, Stage::Amqp])] {
        let begin = Instant::now();
        let error = connect_with(parameters(scheme).stack_timeout(patience))
            .await
            .unwrap_err();
        let AttemptError::TimedOut { stage, limit } = *only_failure(&error) else {
            panic!("{error:?}");
        };
        assert!(stages.contains(&stage), "{stage}");
        assert_eq!(limit, patience);
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

/// Whether the broker or the deadline comes first is up to chance.
pub(crate) async fn a_connection_that_may_take_no_time_is_given_up_or_there(world: World) {
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
        match connect_with(hasty).await {
            Ok(connection) => close(&connection).await,
            Err(error) => assert!(late(only_failure(&error)), "{error:?}"),
        }
    }
}

/// TLS where there is none, and the other way round.
pub(crate) async fn the_wrong_protocol_for_a_port_is_told_at_once(world: World) {
    let begin = Instant::now();
    match world.url.strip_prefix("amqps://") {
        None => {
            let url = world.url.replacen("amqp://", "amqps://", 1) + "?verify=verify_none";
            let error = connect(&url).await.unwrap_err();
            let failure = only_failure(&error);
            assert!(matches!(failure, AttemptError::Tls(_)), "{failure:?}");
        }
        Some(rest) => {
            let (rest, _) = rest.split_once('?').unwrap();
            let error = connect(&format!("amqp://{rest}")).await.unwrap_err();
            let failure = only_failure(&error);
            assert!(matches!(failure, AttemptError::Closed(_)), "{failure:?}");
        }
    }
    // Before either side gives up waiting.
    assert!(begin.elapsed() < Duration::from_secs(5));
}
