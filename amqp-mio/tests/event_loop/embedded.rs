//! What takes a broker of our own.

use amqp_mio::proto::CloseReason;
use amqp_mio::proto::wire::ReplyCode;
use amqp_mio::{Connector, EventLoop};
use amqp_testbroker::TestBroker;

use crate::world::{Log, close, connector, note, queue};

#[test]
fn several_connections_share_a_loop() {
    let brokers = [TestBroker::start().unwrap(), TestBroker::start().unwrap()];
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    for (number, broker) in brokers.iter().enumerate() {
        let connection = event_loop.connect(&connector(broker)).unwrap();
        let mut ctx = event_loop.context();
        let mut view = ctx.connection(connection).unwrap();
        view.on_open(move |ctx, connection| {
            let mut view = ctx.connection(connection).unwrap();
            view.open_channel(move |ctx, channel| {
                let name = format!("only.{number}");
                let mut lasting = queue(&name);
                lasting.exclusive = false;
                let mut view = ctx.channel(channel).unwrap();
                view.request(&lasting, |ctx, channel, answer| {
                    answer.unwrap();
                    close(ctx, channel.connection());
                })
                .unwrap();
            })
            .unwrap();
        });
    }
    event_loop.run().unwrap();
    assert_eq!(brokers[0].queue_len("/", "only.0"), Some(0));
    assert_eq!(brokers[0].queue_len("/", "only.1"), None);
    assert_eq!(brokers[1].queue_len("/", "only.1"), Some(0));
}

#[test]
fn no_broker_is_told_with_what_was_tried() {
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connector = Connector::from_uri("amqp://no.such.name.invalid").unwrap();
    let connection = event_loop.connect(&connector).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open_error(|ctx, _, error| note(ctx, error.to_string()));
    view.on_close(|ctx, _, _| note(ctx, "never"));
    event_loop.run().unwrap();
    let [text] = &event_loop.state()[..] else {
        panic!("{:?}", event_loop.state());
    };
    assert!(text.contains("no.such.name.invalid"), "{text}");
}

#[test]
fn a_broker_that_closes_it_says_why() {
    let broker = TestBroker::start().unwrap();
    let mut event_loop = EventLoop::new(Log::new()).unwrap();
    let connection = event_loop.connect(&connector(&broker)).unwrap();
    let mut ctx = event_loop.context();
    let mut view = ctx.connection(connection).unwrap();
    view.on_open(move |ctx, _| {
        note(ctx, "open");
        ctx.stop();
    });
    view.on_close(|ctx, _, reason| {
        assert!(matches!(reason, CloseReason::Peer(_)), "{reason:?}");
        note(ctx, reason.to_string());
    });
    event_loop.run().unwrap();
    let now = broker.now();
    let key = broker.connections()[0].key;
    broker.with(|broker| broker.close_connection(key, now, ReplyCode::CONNECTION_FORCED, "maintenance"));
    event_loop.run().unwrap();
    assert!(
        event_loop.state()[1].contains("maintenance"),
        "{:?}",
        event_loop.state()
    );
}
