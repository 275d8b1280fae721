//! The main job, on every kind of stream.

use amqp_mio::proto::wire::{
    BasicConsume, BasicGet, BasicPublish, ConfirmSelect, QueueDeclare, QueueDelete, ReplyCode, ShortStr,
};
use amqp_mio::proto::{CloseReason, ConnectionParameters, Event};
use amqp_mio::{Connector, MioConnection};
use amqp_testbroker::TestBroker;

use crate::round::{Round, tls_broker, trusting, unique, variable};

fn close(mut round: Round) {
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

/// Declares, publishes with a confirm, consumes, acknowledges, closes.
fn do_the_main_job(mut round: Round, queue: ShortStr<'_>) {
    let connection = &mut round.connection;
    let id = connection.open_channel().unwrap();
    let mut channel = connection.channel(id).unwrap();
    channel.request(&ConfirmSelect::default()).unwrap();
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
    close(round);
}

/// What was not acknowledged would be back in the queue.
fn nothing_is_left(mut round: Round, queue: ShortStr<'_>) {
    let connection = &mut round.connection;
    let id = connection.open_channel().unwrap();
    let mut channel = connection.channel(id).unwrap();
    let get = BasicGet { queue, no_ack: true };
    channel.get(&get).unwrap();
    let delete = QueueDelete {
        queue,
        ..Default::default()
    };
    channel.send_nowait(&delete).unwrap();
    round.until_event(|event| {
        assert!(!matches!(event, Event::Got(_)));
        matches!(event, Event::GetEmpty { .. })
    });
    close(round);
}

fn on(connect: impl Fn() -> MioConnection) {
    let name = unique("jobs");
    let queue = ShortStr::new(&name).unwrap();
    do_the_main_job(Round::new(connect()).connected(), queue);
    nothing_is_left(Round::new(connect()).connected(), queue);
}

fn over_tcp(url: &str) {
    let connector = Connector::from_uri(url).unwrap();
    on(|| connector.connect().unwrap());
}

fn on_a_stream_of_ones_own(url: &str) {
    let connector = Connector::from_uri(url).unwrap();
    on(|| {
        let stream = mio::net::TcpStream::connect(address(url).parse().unwrap()).unwrap();
        connector.connect_tcp(stream).unwrap()
    });
}

/// RabbitMQ listens on none: a thread takes what comes to the broker, another one brings the answers.
#[cfg(unix)]
fn on_a_unix_socket(url: &str) {
    use std::io::copy;
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread::spawn;

    let connector = Connector::from_uri(url).unwrap();
    on(|| {
        let (ours, bridge) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let broker = TcpStream::connect(address(url)).unwrap();
        let (mut bridge_out, mut broker_out) = (bridge.try_clone().unwrap(), broker.try_clone().unwrap());
        spawn(move || {
            let _ = copy(&mut &bridge, &mut broker_out);
            let _ = broker_out.shutdown(Shutdown::Write);
        });
        spawn(move || {
            let _ = copy(&mut &broker, &mut bridge_out);
            let _ = bridge_out.shutdown(Shutdown::Write);
        });
        let stream = mio::net::UnixStream::from_std(ours);
        connector.connect_unix(stream).unwrap()
    });
}

/// IP address and port.
fn address(url: &str) -> String {
    let parameters = ConnectionParameters::from_uri(url).unwrap();
    let (host, port) = parameters.addresses().next().unwrap();
    format!("{host}:{port}")
}

macro_rules! everywhere {
    ($($(#[$attribute:meta])? $name:ident)+) => {
        mod embedded {
            $($(#[$attribute])?
            #[test]
            fn $name() {
                let broker = super::TestBroker::start().unwrap();
                super::$name(&broker.uri());
            })+
        }

        mod rabbitmq {
            $($(#[$attribute])?
            #[test]
            #[ignore = "needs a broker: cargo xtask test"]
            fn $name() {
                super::$name(&super::variable("AMQP_TEST_URL"));
            })+
        }
    };
}

everywhere! {
    over_tcp
    on_a_stream_of_ones_own
    #[cfg(unix)] on_a_unix_socket
}

#[test]
fn over_tls_on_the_embedded_broker() {
    let broker = tls_broker();
    let connector = Connector::from_uri(&broker.tls_uri().unwrap()).unwrap();
    let connector = connector.tls(trusting(&broker));
    on(|| connector.connect().unwrap());
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn over_tls_on_rabbitmq() {
    over_tcp(&variable("AMQP_TEST_TLS_URL"));
}
