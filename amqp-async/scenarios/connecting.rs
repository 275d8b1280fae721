//! Getting in, or learning why not.

use std::net::TcpListener;
use std::sync::mpsc;

use amqp_async::proto::wire::ReplyCode;
use amqp_async::proto::{CloseReason, ConnectionState};

use super::{World, close};
use crate::runtime::{AttemptError, ConnectError, connect};

/// The one thing that was tried.
fn only_failure(error: &ConnectError) -> &AttemptError {
    let ConnectError::Attempts(failed) = error else {
        panic!("{error:?}");
    };
    let mut failed = failed.iter();
    let (first, second) = (failed.next(), failed.next());
    assert!(second.is_none(), "{error}");
    &first.unwrap().error
}

/// The same URI with another virtual host.
fn with_virtual_host(url: &str, name: &str) -> String {
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
fn free_port() -> u16 {
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
