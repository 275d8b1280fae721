//! The main job, on every kind of stream.

use amqp_mio::proto::wire::{BasicConsume, BasicPublish, ConfirmSelect, QueueDeclare, ReplyCode, ShortStr};
use amqp_mio::proto::{CloseReason, Event};
use amqp_mio::{Connector, MioConnection};
use amqp_testbroker::TestBroker;

use crate::round::{Round, tls_broker, trusting};

/// Declares, publishes with a confirm, consumes, acknowledges, closes.
fn do_the_main_job(round: &mut Round) {
    let connection = &mut round.connection;
    let id = connection.open_channel().unwrap();
    let mut channel = connection.channel(id).unwrap();
    channel.request(&ConfirmSelect::default()).unwrap();
    let queue = ShortStr::new("jobs").unwrap();
    let declare = QueueDeclare {
        queue,
        durable: true,
        ..Default::default()
    };
    channel.request(&declare).unwrap();
    let publish = BasicPublish {
        routing_key: queue,
        ..Default::default()
    };
    let tag = channel
        .publish(&publish, &Default::default(), &b"hello"[..])
        .unwrap();
    channel
        .consume(&BasicConsume {
            queue,
            ..Default::default()
        })
        .unwrap();
    let (mut is_confirmed, mut is_delivered) = (false, false);
    round
        .until(|connection, event| {
            match event {
                Event::Confirmed { tags, .. } => is_confirmed = tag.is_some_and(|tag| tags.contains(tag)),
                Event::Delivery(delivery) => {
                    assert_eq!(delivery.message.body().to_vec(), b"hello");
                    connection.channel(id).unwrap().ack(delivery.tag).unwrap();
                    is_delivered = true;
                }
                _ => {}
            }
            (is_confirmed && is_delivered).then_some(())
        })
        .unwrap();
    round
        .connection
        .close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
    let closed = round.until_event(|event| matches!(event, Event::Closed(_)));
    assert_eq!(
        closed,
        Event::Closed(CloseReason::Requested { acknowledged: true })
    );
    assert_eq!(round.connection.poll_event(), Ok(None));
}

fn on(connection: MioConnection, broker: &TestBroker) {
    do_the_main_job(&mut Round::new(connection).connected());
    assert_eq!(broker.queue_len("/", "jobs"), Some(0));
}

#[test]
fn over_tcp() {
    let broker = TestBroker::start().unwrap();
    let connector = Connector::from_uri(&broker.uri()).unwrap();
    on(connector.connect().unwrap(), &broker);
}

#[test]
fn over_tls() {
    let broker = tls_broker();
    let connector = Connector::from_uri(&broker.tls_uri().unwrap())
        .unwrap()
        .tls(trusting(&broker));
    on(connector.connect().unwrap(), &broker);
}

#[test]
fn on_a_stream_of_ones_own() {
    let broker = TestBroker::start().unwrap();
    let parameters = amqp_mio::proto::ConnectionParameters::from_uri(&broker.uri()).unwrap();
    let host = &parameters.hosts[0];
    let address = format!("{}:{}", host.name, host.port.unwrap());
    let stream = mio::net::TcpStream::connect(address.parse().unwrap()).unwrap();
    on(Connector::new(parameters).connect_tcp(stream).unwrap(), &broker);
}
