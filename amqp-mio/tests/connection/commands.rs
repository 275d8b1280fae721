//! Commands beside the main job, and where the connection is registered.

use std::sync::mpsc::channel;

use amqp_mio::proto::trace::Direction;
use amqp_mio::proto::wire::{QueueDeclare, ReplyCode};
use amqp_mio::proto::{ConnectionParameters, Event, Host, Instant};
use amqp_mio::{ConnectError, Connector};
use amqp_testbroker::TestBroker;

use crate::round::{Round, tls_broker, trusting};

fn connector(broker: &TestBroker) -> Connector {
    Connector::from_uri(&broker.uri()).unwrap()
}

fn own_queue() -> QueueDeclare<'static> {
    QueueDeclare {
        exclusive: true,
        ..Default::default()
    }
}

/// A round trip.
fn works(round: &mut Round) {
    let id = round.connection.open_channel().unwrap();
    round.until_event(|event| *event == Event::ChannelOpened { channel: id });
    let mut channel = round.connection.channel(id).unwrap();
    channel.close(ReplyCode::REPLY_SUCCESS, "").unwrap();
    round.until_event(|event| matches!(event, Event::ChannelClosed { channel, .. } if *channel == id));
}

#[test]
fn it_moves_to_another_poll_and_to_another_token() {
    let broker = TestBroker::start().unwrap();
    let mut round = Round::new(connector(&broker).connect().unwrap());
    round.move_house();
    round.rename();
    round.until_event(|event| *event == Event::Connected);
    works(&mut round);
    round.move_house();
    works(&mut round);
    round.rename();
    works(&mut round);
}

#[test]
fn it_moves_while_its_name_is_looked_up() {
    let broker = tls_broker();
    let uri = broker.tls_uri().unwrap();
    let mut parameters = ConnectionParameters::from_uri(&uri).unwrap();
    let port = parameters.hosts[0].port.unwrap();
    parameters.hosts = vec![Host::new("localhost").port(port)];
    let connector = Connector::new(parameters).tls(trusting(&broker));
    let mut round = Round::new(connector.connect().unwrap());
    assert_eq!(round.connection.poll_event(), Ok(None), "the lookup has begun");
    round.move_house();
    round.rename();
    round.until_event(|event| *event == Event::Connected);
    works(&mut round);
}

#[test]
fn a_tap_sees_every_frame() {
    let broker = TestBroker::start().unwrap();
    let mut round = Round::new(connector(&broker).connect().unwrap()).connected();
    let (sender, seen) = channel();
    let tap = move |_: Instant, direction: Direction, channel: u16, _: &[u8]| {
        sender.send((direction, channel)).unwrap();
    };
    round.connection.set_tap(Some(Box::new(tap)));
    works(&mut round);
    round.connection.set_tap(None);
    let expected = [
        (Direction::Sent, 1),
        (Direction::Received, 1),
        (Direction::Sent, 1),
        (Direction::Received, 1),
    ];
    assert_eq!(seen.iter().collect::<Vec<_>>(), expected);
}

#[test]
fn nobody_hears_the_answer_to_what_was_abandoned() {
    let broker = TestBroker::start().unwrap();
    let mut round = Round::new(connector(&broker).connect().unwrap()).connected();
    let id = round.connection.open_channel().unwrap();
    let mut channel = round.connection.channel(id).unwrap();
    let abandoned = channel.request(&own_queue()).unwrap();
    let awaited = channel.request(&own_queue()).unwrap();
    round.connection.abandon(abandoned);
    let Event::Reply(reply) = round.until_event(|event| matches!(event, Event::Reply(_))) else {
        panic!("a reply");
    };
    assert!(reply.read(awaited).is_some());
}

#[test]
fn what_was_written_by_hand_arrives() {
    let broker = TestBroker::start().unwrap();
    let mut round = Round::new(connector(&broker).connect().unwrap()).connected();
    let id = round.connection.open_channel().unwrap();
    let before = round.connection.core().unwrap().counters().octets_sent;
    round.connection.flush();
    assert!(round.connection.core().unwrap().counters().octets_sent > before);
    // Without another word from us.
    let opened = round.until_event(|event| matches!(event, Event::ChannelOpened { .. }));
    assert_eq!(opened, Event::ChannelOpened { channel: id });
}

#[test]
fn incarnations_go_on_where_they_ended() {
    let broker = TestBroker::start().unwrap();
    let connector = connector(&broker);
    assert_eq!(connector.incarnation(), 0);
    let mut first = Round::new(connector.connect().unwrap()).connected();
    let old = first.connection.open_channel().unwrap();
    let next = first.connection.core().unwrap().next_incarnation();
    let connector = connector.first_incarnation(next);
    assert_eq!(connector.incarnation(), next);
    let mut second = Round::new(connector.connect().unwrap()).connected();
    let new = second.connection.open_channel().unwrap();
    assert_eq!(new.number(), old.number());
    assert_ne!(new, old);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_tried() {
    let refused = Connector::from_uri("amqp://localhost:port").map(drop);
    assert!(matches!(refused, Err(ConnectError::Uri(_))), "{refused:?}");
    let mut connector = Connector::default();
    connector.parameters_mut().connection_attempts = 0;
    assert_eq!(connector.parameters().connection_attempts, 0);
    let refused = connector.connect().map(drop);
    assert!(matches!(refused, Err(ConnectError::Config(_))), "{refused:?}");
}
