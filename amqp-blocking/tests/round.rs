//! A round on the embedded broker, over TCP and TLS.

use std::time::{Duration, Instant};

use amqp_blocking::proto::CloseReason;
use amqp_blocking::proto::wire::ReplyCode;
use amqp_blocking::{
    BlockingConnection, ChannelOptions, Connector, ConsumeOptions, DeliverySource, Error, ExchangeOptions,
    FieldTable, Message, PublishError, QueueOptions, TlsConfig, TlsMaterial,
};
use amqp_testbroker::TestBroker;

fn connect(broker: &TestBroker) -> BlockingConnection {
    BlockingConnection::connect(&broker.uri()).unwrap()
}

fn close(connection: &BlockingConnection) {
    let report = connection.close().unwrap();
    assert_eq!(report.reason, CloseReason::Requested { acknowledged: true });
    assert_eq!(report.unconfirmed, 0);
}

fn round(connection: &BlockingConnection) {
    let channel = connection.channel().unwrap();
    let queue = channel
        .queue_declare("hello world queue", QueueOptions::default())
        .unwrap();
    assert_eq!(
        (queue.name.as_str(), queue.message_count),
        ("hello world queue", 0)
    );
    let message = Message::new("Hello").content_type("text/plain");
    channel.basic_publish("", &queue.name, message).unwrap();
    let got = channel.basic_get(&queue.name, false).unwrap().unwrap();
    assert_eq!(got.message_count, 0);
    let delivery = got.delivery;
    assert_eq!(&*delivery.body(), b"Hello");
    assert_eq!(
        delivery.properties().content_type.unwrap().to_str(),
        Ok("text/plain")
    );
    channel.basic_ack(delivery, false).unwrap();
    assert!(channel.basic_get(&queue.name, false).unwrap().is_none());
    channel.close().unwrap();
    assert!(!channel.is_open() && connection.is_open());
    close(connection);
    assert!(!connection.is_open());
}

#[test]
fn a_message_goes_and_comes() {
    let broker = TestBroker::start().unwrap();
    round(&connect(&broker));
}

#[test]
fn the_same_over_tls() {
    let broker = TestBroker::builder()
        .tls_address("127.0.0.1:0".parse().unwrap())
        .start()
        .unwrap();
    let connector = Connector::from_uri(&broker.tls_uri().unwrap()).unwrap();
    let trusting = TlsConfig::new().trust_only(TlsMaterial::memory(broker.ca_pem().unwrap()));
    round(&connector.clone().tls(trusting).connect().unwrap());

    let error = connector.tls(TlsConfig::new()).connect().unwrap_err();
    assert!(error.is_certificate_error(), "{error}");
}

#[test]
fn the_iterator_ends_when_nothing_comes_and_gives_back_what_it_has() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    channel
        .queue_declare("q", QueueOptions::default().durable(true))
        .unwrap();
    for body in ["0", "1", "2", "3", "4"] {
        channel.basic_publish("", "q", body).unwrap();
    }
    let mut consumer = channel.consume("q", ConsumeOptions::default()).unwrap();
    for body in ["0", "1"] {
        let delivery = consumer.next().unwrap().unwrap();
        assert_eq!(*delivery.body(), *body.as_bytes());
        delivery.ack().unwrap();
    }
    // The other three have come: the answer to a request comes behind them.
    channel
        .queue_declare("q", QueueOptions::default().passive(true))
        .unwrap();
    assert_eq!(consumer.cancel().unwrap(), 3);
    let again = channel.consume("q", ConsumeOptions::default()).unwrap();
    let again = again.inactivity_timeout(Duration::from_millis(50));
    let mut bodies = Vec::new();
    for delivery in again {
        let delivery = delivery.unwrap();
        assert!(delivery.is_redelivered());
        bodies.push(delivery.body().into_owned());
        delivery.ack().unwrap();
    }
    assert_eq!(bodies, [b"2", b"3", b"4"]);
    close(&connection);
    assert_eq!(broker.queue_len("/", "q"), Some(0));
}

#[test]
fn a_publish_says_what_became_of_it() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    let Err(PublishError::Returned(returned)) = channel.basic_publish("", "nowhere", "lost") else {
        panic!("it was not returned");
    };
    assert_eq!(&*returned.text, "NO_ROUTE");
    channel.basic_publish_optional("", "nowhere", "lost").unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    broker.with(|broker| broker.nack_publishes(1));
    assert_eq!(
        channel.basic_publish("", "q", "refused"),
        Err(PublishError::Nacked)
    );
    let confirms: Vec<_> = (0..10)
        .map(|_| channel.basic_publish_deferred("", "q", "many").unwrap())
        .collect();
    for confirm in confirms {
        confirm.wait().unwrap();
    }
    channel.basic_publish_unconfirmed("", "q", "whatever").unwrap();
    assert_eq!(channel.queue_purge("q").unwrap(), 11);
    close(&connection);
}

#[test]
fn confirms_can_be_asked_for_later() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let options = ChannelOptions::default().without_confirms();
    let channel = connection.channel_with(options).unwrap();
    channel.basic_publish("", "nowhere", "written").unwrap();
    channel.confirm_delivery().unwrap();
    let published = channel.basic_publish("", "nowhere", "lost");
    assert!(
        matches!(published, Err(PublishError::Returned(_))),
        "{published:?}"
    );
    close(&connection);
}

#[test]
fn a_transaction_counts_when_it_is_committed() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let options = ChannelOptions::default().without_confirms();
    let channel = connection.channel_with(options).unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    channel.tx_select().unwrap();
    channel.basic_publish("", "q", "forgotten").unwrap();
    channel.tx_rollback().unwrap();
    channel.basic_publish("", "q", "kept").unwrap();
    assert_eq!(broker.queue_len("/", "q"), Some(0));
    channel.tx_commit().unwrap();
    assert_eq!(channel.queue_purge("q").unwrap(), 1);
    close(&connection);
}

#[test]
fn exchanges_and_queues_are_bound_and_deleted() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel_with_id(7).unwrap();
    assert_eq!(channel.number(), 7);
    let options = ExchangeOptions::default().auto_delete(true);
    channel.exchange_declare("source", "topic", options).unwrap();
    channel
        .exchange_declare("target", "fanout", ExchangeOptions::default())
        .unwrap();
    channel
        .exchange_bind("target", "source", "a.*", &FieldTable::new())
        .unwrap();
    let queue = channel
        .queue_declare("", QueueOptions::default().exclusive(true))
        .unwrap()
        .name;
    assert!(queue.starts_with("amq.gen-"));
    channel.queue_bind(&queue, "target", "").unwrap();
    channel.basic_publish("source", "a.b", "routed").unwrap();
    let delivery = channel.basic_get(&queue, true).unwrap().unwrap().delivery;
    assert_eq!(
        (delivery.exchange().to_str(), delivery.routing_key().to_str()),
        (Ok("source"), Ok("a.b"))
    );
    drop(delivery);
    channel
        .queue_unbind(&queue, "target", "", &FieldTable::new())
        .unwrap();
    let published = channel.basic_publish("source", "a.b", "lost");
    assert!(
        matches!(published, Err(PublishError::Returned(_))),
        "{published:?}"
    );
    channel
        .exchange_unbind("target", "source", "a.*", &FieldTable::new())
        .unwrap();
    channel.exchange_delete("target", true).unwrap();
    assert_eq!(channel.queue_delete(&queue, false, false).unwrap(), 0);
    assert!(channel.flow(true).unwrap());
    close(&connection);
}

#[test]
fn queues_are_as_they_were_declared() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    let other = connect(&broker);
    let declare = |name, options| channel.queue_declare(name, options).unwrap();
    let is_refused = |name, options| {
        let refused = other.channel().unwrap().queue_declare(name, options);
        refused.unwrap_err().peer().unwrap().code
    };
    let options = QueueOptions::default;
    declare("durable", options().durable(true));
    declare("exclusive", options().exclusive(true));
    declare("passing", options().auto_delete(true));
    let mut arguments = FieldTable::new();
    arguments.insert("x-max-length", 1_i64).unwrap();
    declare("short", options().arguments(arguments.clone()));
    for (name, same) in [
        ("durable", options().durable(true)),
        ("passing", options().auto_delete(true)),
        ("short", options().arguments(arguments)),
    ] {
        assert_eq!(
            other.channel().unwrap().queue_declare(name, same).unwrap().name,
            name
        );
        assert_eq!(is_refused(name, options()), ReplyCode::PRECONDITION_FAILED);
    }
    assert_eq!(is_refused("exclusive", options()), ReplyCode::RESOURCE_LOCKED);
    assert_eq!(
        is_refused("missing", options().passive(true)),
        ReplyCode::NOT_FOUND
    );

    for body in ["first", "second"] {
        channel.basic_publish("", "short", body).unwrap();
    }
    let consumer = channel.consume("short", ConsumeOptions::default()).unwrap();
    let looked_at = declare("short", options().passive(true));
    // The oldest one had to go; the other one is on its way.
    assert_eq!((looked_at.message_count, looked_at.consumer_count), (0, 1));
    assert_eq!(consumer.cancel().unwrap(), 1);
    let last = channel.consume("passing", ConsumeOptions::default()).unwrap();
    last.cancel().unwrap();
    assert_eq!(broker.queue_len("/", "passing"), None);
    close(&connection);
    close(&other);
}

#[test]
fn a_refusal_has_the_broker_s_words() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    let error = channel.queue_purge("nowhere").unwrap_err();
    assert_eq!(
        &*error.peer().unwrap().text,
        "NOT_FOUND - no queue 'nowhere' in vhost '/'"
    );
    let again = channel.queue_purge("nowhere").unwrap_err();
    assert!(matches!(again, Error::ChannelClosed(_)), "{again}");
    close(&connection);
}

#[test]
fn what_was_delivered_twice_says_so_whoever_settles_it() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    channel.basic_publish("", "q", "again").unwrap();
    let get = || channel.basic_get("q", false).unwrap().unwrap().delivery;
    drop(get());
    let tag = get().into_tag();
    channel.basic_nack(tag, false, true).unwrap();
    let delivery = get();
    assert!(delivery.is_redelivered());
    channel.basic_reject(delivery, true).unwrap();
    get().nack(true).unwrap();
    get().reject(false).unwrap();
    assert!(channel.basic_get("q", false).unwrap().is_none());
    close(&connection);
}

#[test]
fn what_is_asked_for_says_how_many_are_left() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    for body in ["first", "second", "third"] {
        channel.basic_publish("", "q", body).unwrap();
    }
    for (body, left) in [("first", 2), ("second", 1), ("third", 0)] {
        let got = channel.basic_get("q", false).unwrap().unwrap();
        assert_eq!(
            (&*got.delivery.body(), got.message_count),
            (body.as_bytes(), left)
        );
        let source = DeliverySource::Get { message_count: left };
        assert_eq!(got.delivery.source(), source);
        got.delivery.ack().unwrap();
    }
    close(&connection);
    assert_eq!(broker.queue_len("/", "q"), Some(0));
}

#[test]
fn a_stream_of_one_s_own_is_spoken_over() {
    let broker = TestBroker::start().unwrap();
    let stream = mio::net::TcpStream::connect(([127, 0, 0, 1], broker.port()).into()).unwrap();
    round(&Connector::default().connect_over(stream).unwrap());

    let wrong = Connector::from_uri("amqp://guest:wrong@nowhere").unwrap();
    let stream = mio::net::TcpStream::connect(([127, 0, 0, 1], broker.port()).into()).unwrap();
    let reason = wrong.connect_over(stream).unwrap_err();
    assert!(reason.to_string().contains("ACCESS_REFUSED"), "{reason}");
}

/// As to a broker behind a proxy of one's own.
#[cfg(unix)]
#[test]
fn a_unix_socket_is_spoken_over() {
    use std::io::copy;
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::thread::spawn;

    let broker = TestBroker::start().unwrap();
    let (ours, bridge) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    let (mut bridge_out, mut socket_out) = (bridge.try_clone().unwrap(), socket.try_clone().unwrap());
    let there = spawn(move || {
        let copied = copy(&mut &bridge, &mut socket_out);
        let _ = socket_out.shutdown(Shutdown::Write);
        copied
    });
    let back = spawn(move || {
        let copied = copy(&mut &socket, &mut bridge_out);
        let _ = bridge_out.shutdown(Shutdown::Write);
        copied
    });
    let stream = mio::net::UnixStream::from_std(ours);
    round(&Connector::default().connect_over(stream).unwrap());
    assert!(there.join().unwrap().is_ok_and(|octets| octets > 100));
    assert!(back.join().unwrap().is_ok_and(|octets| octets > 100));
}

#[test]
fn nobody_waits_for_a_broker_that_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for scheme in ["amqp", "amqps"] {
        let uri = format!("{scheme}://127.0.0.1:{port}?verify=verify_none&stack_timeout=0.2");
        let uri = if scheme == "amqp" {
            uri.replace("verify=verify_none&", "")
        } else {
            uri
        };
        let begin = Instant::now();
        let error = BlockingConnection::connect(&uri).unwrap_err().to_string();
        assert!(error.contains("took longer than 200ms"), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
    }

    // Neither on a stream that is there.
    let hasty = Connector::from_uri("amqp://nowhere?stack_timeout=0.2").unwrap();
    let stream = mio::net::TcpStream::connect(silent.local_addr().unwrap()).unwrap();
    let reason = hasty.connect_over(stream).unwrap_err();
    assert!(reason.to_string().contains("took longer than 200ms"), "{reason}");
}

#[test]
fn nobody_waits_for_an_answer_for_ever() {
    let broker = TestBroker::start().unwrap();
    let connection = connect(&broker);
    let channel = connection.channel().unwrap();
    channel.queue_declare("q", QueueOptions::default()).unwrap();
    let now = broker.now();
    broker.with(|broker| {
        let key = broker.connections()[0].key;
        broker.set_mute(key, now, true);
    });
    let hasty = channel.with_timeout(Duration::from_millis(50));
    assert_eq!(hasty.queue_purge("q"), Err(Error::Timeout));
    let published = hasty.basic_publish("", "q", "?");
    assert_eq!(published, Err(PublishError::Lost(Error::Timeout)));
}
