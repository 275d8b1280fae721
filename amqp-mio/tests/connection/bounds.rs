//! Bounded work, and no edge lost.

use std::time::Duration;

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, QueueDeclare, ShortStr};
use amqp_mio::proto::{ConnectionParameters, Event, Heartbeat};
use amqp_mio::{Connector, MioConnection};
use amqp_testbroker::TestBroker;

use crate::round::{Round, tls_broker, trusting, unique, variable};

const BODY: usize = 100 * 1024;
const MESSAGES: usize = 100;

/// A consumer of a queue with ten megabytes in it.
fn consume(connection: &mut MioConnection) {
    let id = connection.open_channel().unwrap();
    let mut channel = connection.channel(id).unwrap();
    let name = unique("full");
    let queue = ShortStr::new(&name).unwrap();
    let declare = QueueDeclare {
        queue,
        exclusive: true,
        ..Default::default()
    };
    channel.request(&declare).unwrap();
    let publish = BasicPublish {
        routing_key: queue,
        ..Default::default()
    };
    let body = vec![b'.'; BODY];
    for _ in 0..MESSAGES {
        channel.publish(&publish, &Default::default(), &body[..]).unwrap();
    }
    let consume = BasicConsume {
        queue,
        no_ack: true,
        ..Default::default()
    };
    channel.consume(&consume).unwrap();
}

/// With room for all of that.
fn roomy(uri: &str) -> Connector {
    let mut parameters = ConnectionParameters::from_uri(uri).unwrap();
    parameters.config.outbound_high_water = 32 * 1024 * 1024;
    parameters.config.outbound_limit = 64 * 1024 * 1024;
    Connector::new(parameters)
}

/// With one event a round, whatever is left in the socket or in TLS, all of a burst is told, though nothing follows it that could wake the
/// poll.
fn is_all_told(connector: &Connector) {
    let mut round = Round::new(connector.connect().unwrap()).connected();
    round.budget = 1;
    consume(&mut round.connection);
    let mut octets = 0;
    round
        .until(|_, event| {
            if let Event::Delivery(delivery) = event {
                octets += delivery.message.body().len();
            }
            (octets == BODY * MESSAGES).then_some(())
        })
        .unwrap();
}

#[test]
fn a_burst_with_one_event_a_round() {
    let broker = TestBroker::start().unwrap();
    is_all_told(&roomy(&broker.uri()));
}

#[test]
fn a_burst_over_tls_with_one_event_a_round() {
    let broker = tls_broker();
    is_all_told(&roomy(&broker.tls_uri().unwrap()).tls(trusting(&broker)));
}

mod rabbitmq {
    use super::*;

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_burst_with_one_event_a_round() {
        is_all_told(&roomy(&variable("AMQP_TEST_URL")));
    }

    #[test]
    #[ignore = "needs a broker: cargo xtask test"]
    fn a_burst_over_tls_with_one_event_a_round() {
        is_all_told(&roomy(&variable("AMQP_TEST_TLS_URL")));
    }
}

#[test]
fn an_idle_connection_wakes_nobody_but_for_heartbeats() {
    let broker = TestBroker::start().unwrap();
    let mut parameters = ConnectionParameters::from_uri(&broker.uri()).unwrap();
    parameters.config.heartbeat = Heartbeat::Seconds(60);
    let mut round = Round::new(Connector::new(parameters).connect().unwrap()).connected();
    while round.connection.next_timeout() == Some(Duration::ZERO) {
        assert_eq!(round.connection.poll_event(), Ok(None));
    }
    // What is awaited is the heartbeat that we send after half of its time.
    let timeout = round.connection.next_timeout().unwrap();
    assert!(timeout > Duration::from_secs(25), "{timeout:?}");
}

#[test]
fn while_it_is_paused_nothing_is_read_and_nothing_wakes_the_poll() {
    let broker = TestBroker::start().unwrap();
    let mut round = Round::new(roomy(&broker.uri()).connect().unwrap()).connected();
    round.connection.pause();
    consume(&mut round.connection);
    for _ in 0..3 {
        while round.connection.next_timeout() == Some(Duration::ZERO) {
            assert!(!matches!(
                round.connection.poll_event(),
                Ok(Some(Event::Delivery(_)))
            ));
        }
        round.connection.flush();
    }
    round.connection.resume();
    round.until_event(|event| matches!(event, Event::Delivery(_)));
}
