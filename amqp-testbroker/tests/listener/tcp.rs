//! Over TCP, and what the handle shows and does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use amqp_proto::wire::{BasicConsume, ReplyCode, ShortStr};
use amqp_proto::{ChannelId, Event};
use amqp_testbroker::{BrokerConfig, TestBroker};

use crate::client::{Client, PATIENCE, socket};

fn consume(client: &mut Client<TcpStream>, channel: ChannelId, queue: &str) {
    let consume = BasicConsume {
        queue: ShortStr::new(queue).unwrap(),
        no_ack: true,
        ..Default::default()
    };
    client
        .connection
        .channel(channel)
        .unwrap()
        .consume(&consume)
        .unwrap();
    client.until(|event| matches!(event, Event::Reply(_)).then_some(()));
}

/// The body of the next delivery.
fn delivery(client: &mut Client<TcpStream>) -> Vec<u8> {
    client.until(|event| match event {
        Event::Delivery(delivery) => Some(delivery.message.body().into_owned()),
        _ => None,
    })
}

#[test]
fn a_message_goes_in_and_comes_out_and_is_seen_in_between() {
    let broker = TestBroker::start().unwrap();
    assert_eq!(
        broker.uri(),
        format!("amqp://guest:guest@127.0.0.1:{}", broker.port())
    );
    let mut client = Client::connect(&broker.uri());
    let channel = client.open_channel();
    assert_eq!(broker.queue_len("/", "q"), None);
    client.declare(channel, "q");
    assert_eq!(broker.queue_len("/", "q"), Some(0));
    client.select_confirms(channel);
    client.publish(channel, "q", b"hello");
    client.await_acks(1);
    assert_eq!(broker.queue_len("/", "q"), Some(1));
    let messages = broker.messages("/", "q").unwrap();
    assert_eq!(messages[0].body(), &b"hello"[..]);
    let connections = broker.connections();
    assert_eq!(connections.len(), 1);
    assert_eq!(
        (connections[0].user.as_deref(), connections[0].channels),
        (Some("guest"), 1)
    );
    assert_eq!(client.get(channel, "q"), b"hello");
    assert_eq!(broker.queue_len("/", "q"), Some(0));
    broker.shutdown().unwrap();
}

/// More than all buffers on the way hold, in both directions.
#[test]
fn what_was_published_is_counted_and_the_clock_goes_on() {
    let broker = TestBroker::start().unwrap();
    let mut client = Client::connect(&broker.uri());
    let channel = client.open_channel();
    client.select_confirms(channel);
    client.publish(channel, "nowhere", b"1");
    client.publish(channel, "nowhere", b"2");
    client.await_acks(2);
    assert_eq!(broker.published(), 2);
    assert!(broker.now() > amqp_proto::Instant::EPOCH);
}

#[test]
fn large_messages_go_through() {
    let broker = TestBroker::start().unwrap();
    let mut client = Client::connect(&broker.uri());
    let channel = client.open_channel();
    client.declare(channel, "q");
    client.select_confirms(channel);
    let body: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    client.publish(channel, "q", &body);
    client.await_acks(1);
    assert!(client.get(channel, "q") == body, "another body came");
}

#[test]
fn what_one_connection_sends_comes_to_all_that_consume() {
    let broker = TestBroker::start().unwrap();
    let mut consumers: Vec<_> = (0..30).map(|_| Client::connect(&broker.uri())).collect();
    for (number, consumer) in consumers.iter_mut().enumerate() {
        let channel = consumer.open_channel();
        let queue = format!("q{number}");
        consumer.declare(channel, &queue);
        consume(consumer, channel, &queue);
    }
    let mut publisher = Client::connect(&broker.uri());
    let channel = publisher.open_channel();
    for number in 0..30 {
        publisher.publish(channel, &format!("q{number}"), number.to_string().as_bytes());
    }
    publisher.flush();
    for (number, consumer) in consumers.iter_mut().enumerate() {
        assert_eq!(delivery(consumer), number.to_string().as_bytes());
    }
    assert_eq!(broker.connections().len(), 31);
}

#[test]
fn one_that_does_not_read_keeps_nobody_else_waiting() {
    let broker = TestBroker::start().unwrap();
    let mut deaf = Client::connect(&broker.uri());
    let channel = deaf.open_channel();
    deaf.declare(channel, "q");
    consume(&mut deaf, channel, "q");
    let mut other = Client::connect(&broker.uri());
    let channel = other.open_channel();
    other.declare(channel, "other");
    other.select_confirms(channel);
    let body = vec![7; 1 << 20];
    for _ in 0..32 {
        other.publish(channel, "q", &body);
        other.flush();
    }
    other.publish(channel, "other", b"done");
    other.await_acks(33);
    assert_eq!(other.get(channel, "other"), b"done");
    // And nothing of it was lost.
    for _ in 0..32 {
        assert_eq!(delivery(&mut deaf).len(), body.len());
    }
}

#[test]
fn who_hangs_up_is_forgotten() {
    let broker = TestBroker::start().unwrap();
    let mut first = Client::connect(&broker.uri());
    let channel = first.open_channel();
    first.declare(channel, "q");
    first.publish(channel, "q", b"last words");
    first.flush();
    drop(first);
    let mut second = Client::connect(&broker.uri());
    let channel = second.open_channel();
    consume(&mut second, channel, "q");
    assert_eq!(delivery(&mut second), b"last words");
    let_go(&broker, 1);
    second.connection.close(ReplyCode::REPLY_SUCCESS, "");
    second.await_end();
    let_go(&broker, 0);
}

/// Until the broker has so few connections: it may learn of an end after we did.
fn let_go(broker: &TestBroker, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while broker.connections().len() > count {
        assert!(Instant::now() < deadline, "{:?}", broker.connections());
        thread::yield_now();
    }
}

#[test]
fn what_the_handle_does_reaches_the_connections() {
    let broker = TestBroker::start().unwrap();
    let mut client = Client::connect(&broker.uri());
    let channel = client.open_channel();
    client.declare(channel, "q");
    broker.with(|broker| broker.block("low on memory"));
    client.publish(channel, "q", b"1");
    let reason = client.until(|event| match event {
        Event::Blocked { reason } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(reason, "low on memory");
    let now = broker.now();
    broker.with(|broker| broker.unblock(now));
    client.until(|event| matches!(event, Event::Unblocked).then_some(()));
    assert_eq!(client.get(channel, "q"), b"1");
}

/// Often enough that the thread was asleep before.
#[test]
fn what_the_handle_does_wakes_the_thread() {
    let broker = TestBroker::start().unwrap();
    for _ in 0..100 {
        let mut client = Client::connect(&broker.uri());
        client.open_channel();
        let now = broker.now();
        broker.with(|broker| broker.restart(now));
        client.await_end();
    }
}

#[test]
fn what_was_not_read_for_a_while_is_read_when_that_is_over() {
    let broker = TestBroker::start().unwrap();
    let mut client = Client::connect(&broker.uri());
    let channel = client.open_channel();
    client.declare(channel, "q");
    let key = broker.connections()[0].key;
    let now = broker.now();
    broker.with(|broker| broker.set_deaf(key, now, true));
    // More than the broker's buffer holds, and less than the system's and that.
    client.publish(channel, "q", &vec![2; 400 * 1024]);
    // All is sent by now: nothing that comes later can wake the broker.
    client.ask(channel, "q");
    client.flush();
    // The thread serves both. Once it has answered this one, it has read of the other what it could.
    Client::connect(&broker.uri()).open_channel();
    let now = broker.now();
    broker.with(|broker| broker.set_deaf(key, now, false));
    assert_eq!(client.answer().len(), 400 * 1024);
}

#[test]
fn deadlines_come_without_any_input() {
    let mut config = BrokerConfig::default();
    config.handshake_timeout = Duration::from_millis(50);
    let broker = TestBroker::builder().config(config).start().unwrap();
    let mut silent = socket(&broker.uri());
    let mut octets = Vec::new();
    match silent.read_to_end(&mut octets) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    assert_eq!(octets, b"");
}

#[test]
fn another_protocol_is_told_ours_before_the_end() {
    let broker = TestBroker::start().unwrap();
    let mut stranger = socket(&broker.uri());
    stranger.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut octets = [0; 4];
    stranger.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"AMQP");
}

#[test]
fn dropping_it_ends_all() {
    let broker = TestBroker::start().unwrap();
    let uri = broker.uri();
    let mut client = Client::connect(&uri);
    let port = broker.port();
    drop(broker);
    client.await_end();
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let broker = TestBroker::start().unwrap();
    let address = ([127, 0, 0, 1], broker.port()).into();
    let error = TestBroker::builder().address(address).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

#[test]
fn a_test_that_fails_inside_leaves_the_broker_usable() {
    let broker = TestBroker::start().unwrap();
    let failure = catch_unwind(AssertUnwindSafe(|| {
        broker.with(|_| panic!("as a failed assertion would"))
    }));
    assert!(failure.is_err());
    let mut client = Client::connect(&broker.uri());
    client.open_channel();
    assert_eq!(broker.connections().len(), 1);
    broker.shutdown().unwrap();
}
