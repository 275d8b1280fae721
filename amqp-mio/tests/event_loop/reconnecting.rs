//! Connections that are made again.

use std::net::TcpListener;
use std::time::Duration;

use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::proto::{
    Backoff, CloseReason, ConfigError, ConnectionParameters, Credentials, DeliveryTag, GiveUpReason, Host,
    ReconnectPolicy, SendError,
};
use amqp_mio::{ConnectError, ConnectionId, Connector, EventLoop, RunError};
use amqp_testbroker::TestBroker;

use crate::world::{CLOSED, Log, close, connector, note};

fn after(delay: Duration) -> ReconnectPolicy {
    ReconnectPolicy::new(Backoff::new(1).initial(delay).jitter(0.0))
}

/// A loop that notes everything about its connection, and stops when it is open.
fn start(connector: &Connector, policy: ReconnectPolicy) -> (EventLoop<Log>, ConnectionId) {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect_with(connector, policy).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(|ctx, _| {
        note(ctx, "open");
        ctx.stop();
    });
    view.on_open_error(|ctx, _, _| note(ctx, "not reached"));
    view.on_close(|ctx, _, reason| {
        let text = match reason {
            CloseReason::Peer(peer) => format!("closed: {}", peer.code.0),
            reason => format!("closed: {reason}"),
        };
        note(ctx, text);
    });
    view.on_reconnect(|ctx, _, delay| note(ctx, format!("again in {delay:?}")));
    view.on_give_up(|ctx, _, reason| {
        let text = match reason {
            GiveUpReason::Permanent(_) => "permanent",
            GiveUpReason::Exhausted(_) => "exhausted",
            _ => "another reason",
        };
        note(ctx, text);
    });
    (event_loop, connection)
}

/// An address where nobody listens, for as long as what comes with it is kept.
fn closed_port() -> (Host, impl Sized) {
    // Bound, so that nobody else gets it, and connected to: it does not listen.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bound = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let host = Host::new("127.0.0.1").port(bound.local_addr().unwrap().port());
    (host, (listener, bound))
}

fn end_by_force(broker: &TestBroker) {
    let (now, key) = (broker.now(), broker.connections()[0].key);
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "maintenance"));
}

#[test]
fn a_lost_connection_is_made_again_and_nothing_old_counts_there() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = start(&connector(&broker), after(Duration::from_millis(3)));
    event_loop.run().unwrap();
    let old = event_loop
        .context()
        .connection(connection)
        .unwrap()
        .open_channel(|_, _| ())
        .unwrap();
    end_by_force(&broker);
    event_loop.run().unwrap();
    assert_eq!(
        event_loop.state(),
        &["open", "closed: 320", "again in 3ms", "open"]
    );

    let mut ctx = event_loop.context();
    assert_eq!(ctx.channel(old).map(drop), Err(SendError::Stale));
    let mut view = ctx.connection(connection).unwrap();
    let new = view.open_channel(|_, _| ()).unwrap();
    assert_eq!(new.id().number(), old.id().number());
    assert_ne!(new, old);
    let stale = DeliveryTag::new(old.id(), 1);
    assert_eq!(ctx.channel(new).unwrap().ack(stale), Err(SendError::Stale));

    close(&mut ctx, connection);
    event_loop.run().unwrap();
    assert_eq!(
        event_loop.state()[4..],
        [CLOSED],
        "nobody gives up what was closed"
    );
    let gone = event_loop.context().connection(connection).map(drop);
    assert_eq!(gone, Err(SendError::Closed));
}

#[test]
fn one_that_the_broker_closes_before_our_close_is_through_is_not_made_again() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = start(&connector(&broker), after(Duration::ZERO));
    event_loop.run().unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    // Its channel is closed first.
    view.open_channel(|ctx, channel| {
        close(ctx, channel.connection());
        ctx.stop();
    })
    .unwrap();
    event_loop.run().unwrap();
    end_by_force(&broker);
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["open", "closed: 320"]);
}

#[test]
fn each_host_is_tried_at_once_and_then_they_all_wait() {
    let ((first, _one), (second, _two)) = (closed_port(), closed_port());
    let parameters = ConnectionParameters::default()
        .hosts([first, second])
        .connection_attempts(3);
    let policy = ReconnectPolicy::new(
        Backoff::new(1)
            .initial(Duration::from_millis(2))
            .jitter(0.0)
            .attempts(2),
    );
    let (mut event_loop, connection) = start(&Connector::new(parameters), policy);
    event_loop.run().unwrap();
    let expected = [
        "not reached",
        "again in 0ns",
        "not reached",
        "again in 2ms",
        "not reached",
        "again in 0ns",
        "not reached",
        "again in 4ms",
        "not reached",
        "again in 0ns",
        "not reached",
        "exhausted",
    ];
    assert_eq!(event_loop.state(), &expected);
    assert!(event_loop.context().connection(connection).is_err());
}

#[test]
fn the_next_host_is_the_one_that_answers() {
    let broker = TestBroker::start().unwrap();
    let (closed, _keep) = closed_port();
    let hosts = [closed, Host::new("127.0.0.1").port(broker.port())];
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    let (mut event_loop, _) = start(&connector, after(Duration::from_secs(30)));
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["not reached", "again in 0ns", "open"]);
}

#[test]
fn after_a_connection_that_was_open_a_delay_comes_first() {
    let broker = TestBroker::start().unwrap();
    let hosts = [(); 2].map(|()| Host::new("127.0.0.1").port(broker.port()));
    let connector = Connector::new(ConnectionParameters::default().hosts(hosts));
    let (mut event_loop, _) = start(&connector, after(Duration::from_millis(3)));
    event_loop.run().unwrap();
    end_by_force(&broker);
    event_loop.run().unwrap();
    assert_eq!(
        event_loop.state(),
        &["open", "closed: 320", "again in 3ms", "open"]
    );
}

#[test]
fn a_wrong_password_is_tried_once() {
    let broker = TestBroker::start().unwrap();
    let uri = format!("amqp://guest:wrong@127.0.0.1:{}", broker.port());
    let (mut event_loop, _) = start(
        &Connector::from_uri(&uri).unwrap(),
        after(Duration::from_millis(1)),
    );
    event_loop.run().unwrap();
    assert_eq!(event_loop.state(), &["not reached", "permanent"]);
}

#[test]
fn a_delay_can_be_cut_short_by_closing() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = start(&connector(&broker), after(Duration::from_secs(30)));
    event_loop
        .context()
        .connection(connection)
        .unwrap()
        .on_reconnect(|ctx, connection, _| close(ctx, connection));
    event_loop.run().unwrap();
    end_by_force(&broker);
    event_loop.run().unwrap();
    let unanswered = "closed: closed on request, and the peer did not confirm that";
    assert_eq!(
        event_loop.state(),
        &["open", "closed: 320", "again in 30s", unanswered]
    );
}

#[test]
fn a_panic_ends_it_even_if_the_connection_is_lost_at_that_moment() {
    let broker = TestBroker::start().unwrap();
    let (mut event_loop, connection) = start(&connector(&broker), after(Duration::from_millis(1)));
    event_loop
        .context()
        .connection(connection)
        .unwrap()
        .on_close(|_, _, _| panic!("oh no"));
    event_loop.run().unwrap();
    end_by_force(&broker);
    let result = event_loop.run();
    assert!(matches!(result, Err(RunError::Panicked(message)) if message == "oh no"));
    assert_eq!(event_loop.state(), &["open", "closed: 320"]);
    assert!(event_loop.context().connection(connection).is_err());
}

#[test]
fn credentials_that_erase_themselves_allow_no_second_connection() {
    let mut connector = Connector::default();
    connector.parameters_mut().config.credentials =
        Credentials::plain("guest", "guest").erase_on_connect(true);
    let mut event_loop = EventLoop::new(()).unwrap();
    let refused = event_loop.connect_with(&connector, after(Duration::ZERO));
    assert_eq!(
        refused,
        Err(ConnectError::Config(ConfigError::EraseOnConnectWithReconnect))
    );
    connector.parameters_mut().hosts.clear();
    connector.parameters_mut().config.credentials = Credentials::default();
    let refused = event_loop.connect_with(&connector, after(Duration::ZERO));
    assert_eq!(refused, Err(ConnectError::Config(ConfigError::NoHosts)));
}
