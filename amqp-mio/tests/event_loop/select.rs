//! pika's names.

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{CloseReason, SendError};
use amqp_mio::{
    AsyncoreConnection, Connector, EventLoop, PollBackend, PollerError, PollerType, SelectConnection,
    SelectError, poll_backend,
};

use crate::world::{CLOSED, Log, World, note};

everywhere! {
    a_connection_comes_with_its_loop callbacks_are_added_and_removed
}

/// pika's first example: run until Ctrl-C, for which `stop` stands here; close; run until it is closed.
fn a_connection_comes_with_its_loop(world: &World) {
    let on_open = |ctx: &mut amqp_mio::Ctx<'_, Log>, _| {
        note(ctx, "open");
        ctx.stop();
    };
    let mut connection = SelectConnection::new(&world.connector, Log::new(), on_open).unwrap();
    assert!(!connection.is_open());
    connection.ioloop().run().unwrap();
    assert!(connection.is_open());
    assert_eq!(connection.outcome(), None);
    let id = connection.id();
    assert!(connection.ioloop().context().connection(id).is_ok());
    for number in [None, Some(9)] {
        connection
            .channel(number, |ctx, channel| {
                note(ctx, format!("channel {}", channel.id().number()));
                ctx.stop();
            })
            .unwrap();
        connection.ioloop().run().unwrap();
    }
    connection.add_on_close_callback(|ctx, _, reason| note(ctx, format!("closed: {reason}")));
    connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    assert!(!connection.is_open());
    connection.ioloop().run().unwrap();
    assert_eq!(
        connection.ioloop().state(),
        &["open", "channel 1", "channel 9", CLOSED]
    );
    let acknowledged = true;
    assert_eq!(
        connection.outcome(),
        Some(Ok(CloseReason::Requested { acknowledged }))
    );
    assert_eq!(connection.channel(None, |_, _| ()), Err(SendError::Closed));
    assert_eq!(connection.add_on_open_callback(|_, _| ()), None);
}

fn callbacks_are_added_and_removed(world: &World) {
    let mut connection = AsyncoreConnection::new(&world.connector, Log::new(), |_, _| ()).unwrap();
    let added = [
        connection.add_on_open_callback(|ctx, _| note(ctx, "never")),
        connection.add_on_open_error_callback(|ctx, _, _| note(ctx, "never")),
        connection.add_on_close_callback(|ctx, _, _| note(ctx, "never")),
        connection.add_on_connection_blocked_callback(|ctx, _, _| note(ctx, "never")),
        connection.add_on_connection_unblocked_callback(|ctx, _| note(ctx, "never")),
        connection.add_backpressure_callback(|ctx, _, _| note(ctx, "never")),
    ];
    for callback in added {
        assert!(connection.remove_callback(callback.unwrap()));
        assert!(!connection.remove_callback(callback.unwrap()));
    }
    connection.add_on_open_callback(|ctx, _| {
        note(ctx, "open");
        ctx.stop();
    });
    connection.ioloop().run().unwrap();
    connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    connection.ioloop().run().unwrap();
    assert_eq!(connection.ioloop().state(), &["open"]);
    assert!(!connection.is_open());
}

#[test]
fn no_broker_is_told_to_its_callback() {
    let connector = Connector::from_uri("amqp://no.such.name.invalid").unwrap();
    let mut connection = SelectConnection::new(&connector, Log::new(), |ctx, _| note(ctx, "never")).unwrap();
    connection.add_on_open_error_callback(|ctx, _, error| note(ctx, error.to_string()));
    connection.ioloop().run().unwrap();
    let error = connection.outcome().unwrap().unwrap_err().to_string();
    assert!(error.contains("no.such.name.invalid"), "{error}");
    assert_eq!(connection.ioloop().state(), &[error]);
}

#[test]
fn what_cannot_be_tried_is_refused_at_once() {
    let mut connector = Connector::default();
    connector.parameters_mut().hosts.clear();
    let refused = SelectConnection::new(&connector, (), |_, _| ());
    assert!(matches!(refused, Err(SelectError::Connect(_))), "{refused:?}");
}

#[test]
fn a_poller_that_mio_does_not_use_here_is_refused() {
    let backend = poll_backend();
    let wanted = match backend {
        PollBackend::Epoll => PollerType::Epoll,
        PollBackend::Kqueue => PollerType::Kqueue,
        PollBackend::Poll => PollerType::Poll,
        _ => PollerType::Auto,
    };
    if cfg!(target_os = "linux") && !cfg!(mio_unsupported_force_poll_poll) {
        assert_eq!(backend, PollBackend::Epoll);
    }
    for poller in [
        PollerType::Auto,
        PollerType::Epoll,
        PollerType::Kqueue,
        PollerType::Poll,
    ] {
        match EventLoop::with_poller(poller, ()) {
            Ok(event_loop) => {
                assert!(poller == PollerType::Auto || poller == wanted, "{poller:?}");
                drop(event_loop);
            }
            Err(PollerError::Unavailable {
                wanted: named,
                backend: has,
            }) => {
                assert!(poller != PollerType::Auto && poller != wanted, "{poller:?}");
                assert_eq!((named, has), (poller, backend));
            }
            Err(error) => panic!("{error}"),
        }
    }
    if backend == PollBackend::Epoll {
        let refused = PollerType::Kqueue.backend().unwrap_err();
        assert_eq!(refused.to_string(), "Kqueue is not to be had here: it is epoll");
    }
}
