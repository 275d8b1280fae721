//! The examples, as programs: they are run as a reader would, given what they need, and asked for what they printed.
//!
//! A receiver prints that it is waiting when it is ready, and is ended with SIGINT, which is Ctrl-C.

#![cfg(unix)]

#[macro_use]
#[path = "../../amqp-tokio/tests/tutorials/expected.rs"]
mod expected;
#[path = "../../amqp-tokio/tests/tutorials/program.rs"]
mod program;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use amqp_mio::proto::ConnectionParameters;
use amqp_mio::proto::wire::{BasicPublish, Properties, ReplyCode, ShortStr};
use amqp_mio::{ChannelView, Connector, SelectConnection};
use amqp_testbroker::{Access, BrokerConfig, Permissions, TestBroker, User};
use expected::{
    delete, delete_settled, publish_subscribe, remote_procedure_call, routing, topics, work_queues,
};
use program::{Program, run, run_in_vain};

/// Does something on a channel, and closes the connection.
fn with_channel(url: &str, act: impl FnOnce(&mut ChannelView<'_, ()>) + 'static) {
    let connector = Connector::from_uri(url).unwrap();
    let on_open = |ctx: &mut amqp_mio::Ctx<'_, ()>, _| ctx.stop();
    let mut connection = SelectConnection::new(&connector, (), on_open).unwrap();
    connection.ioloop().run().unwrap();
    connection
        .channel(None, move |ctx, channel| {
            act(&mut ctx.channel(channel).unwrap());
            let mut connection = ctx.connection(channel.connection()).unwrap();
            connection.close(ReplyCode::REPLY_SUCCESS, "Normal shutdown");
        })
        .unwrap();
    connection.ioloop().run().unwrap();
}

mod adapter {
    use amqp_mio::proto::wire::{QueueDelete, ShortStr};

    use super::with_channel;

    pub(crate) const PREFIX: &str = "mio_";

    pub(crate) const UNROUTED_CALL: &str = "no queue takes the call";

    pub(crate) fn delete_if(url: &str, queue: &'static str, is_settled: bool) {
        with_channel(url, move |channel| {
            let delete = QueueDelete {
                queue: ShortStr::new(queue).unwrap(),
                if_empty: is_settled,
                if_unused: is_settled,
                ..Default::default()
            };
            channel
                .request(&delete, |_, _, answer| {
                    answer.unwrap();
                })
                .unwrap();
        });
    }
}

fn hello(url: &str) {
    let printed = run(url, "mio_hello", &[]);
    let [connected, declared, rest @ ..] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(connected, "connected");
    assert!(declared.starts_with("declared the queue amq.gen-"), "{declared}");
    let expected = [
        "published, and the broker has confirmed it",
        "received: Hello, world!",
        "acknowledged",
        "closed on request",
    ];
    assert_eq!(rest, expected);
}

/// Two pairs of programs that use the same queue.
fn hello_world(url: &str) {
    expected::hello_world(url);

    let dropped = ["not sent: returned by the broker: no queue got it"];
    assert_eq!(run(url, "mio_javatpoint_publisher", &[]), dropped);
    let consumer = Program::start_receiver(url, "mio_javatpoint_consumer", &[]);
    assert_eq!(run(url, "mio_javatpoint_publisher", &[]), ["sent Hello World!"]);
    consumer.expect("received Hello World!");
    consumer.interrupt();
    delete_settled(url, "hello");
    delete_settled(url, "my_queue");
}

/// Two servers, three guests, one chat.
fn chat(url: &str) {
    let mut guests = Vec::new();
    let servers = [(); 2].map(|()| {
        let server = Program::start(url, "mio_chat", &["127.0.0.1:0"]);
        let first = server.line().unwrap();
        let address = first.strip_prefix("listening on ").unwrap().to_owned();
        server.expect("joined the chat");
        (server, address)
    });
    let [(first, one), (second, other)] = servers;
    for address in [&one, &one, &other] {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        guests.push(BufReader::new(stream));
    }
    for speaker in [2, 0, 1] {
        let line = format!("{speaker} says hello\n");
        // Whoever has heard something before is known to have been welcomed: the first to speak is alone with the second server.
        guests[speaker].get_mut().write_all(line.as_bytes()).unwrap();
        let listeners = if speaker == 2 { 2..3 } else { 0..3 };
        for guest in &mut guests[listeners] {
            let mut heard = String::new();
            while heard != line {
                heard.clear();
                assert!(guest.read_line(&mut heard).unwrap() > 0, "the server hung up");
            }
        }
    }
    first.interrupt();
    second.interrupt();
}

/// A role, its token and its virtual host.
type Tenant<'t> = [&'t str; 3];

fn tencent(url: &str, [role, token, virtual_host]: Tenant<'_>) {
    let parameters = ConnectionParameters::from_uri(url).unwrap();
    let (host, port) = parameters.addresses().next().unwrap();
    let port = port.to_string();
    let start = |name, token, arguments: &[&str]| {
        let variables = [
            ("TDMQ_HOST", host),
            ("TDMQ_PORT", &port),
            ("TDMQ_VHOST", virtual_host),
            ("TDMQ_ROLE", role),
            ("TDMQ_TOKEN", token),
        ];
        Program::start_with(&variables, name, arguments)
    };
    let usage = start("mio_message_consumer", token, &[]).rest_in_vain();
    assert!(
        usage.contains("usage: mio_message_consumer ROUTING_KEY..."),
        "{usage}"
    );
    let consumer = start("mio_message_consumer", token, &["info", "error"]);
    consumer.expect("waiting for messages, until Ctrl-C");
    let complaint = start("mio_message_consumer", token, &["info"]).rest_in_vain();
    assert!(complaint.contains("RESOURCE_LOCKED"), "{complaint}");

    let printed = start("mio_message_producer", token, &[]).rest();
    assert_eq!(printed, ["closed on request, 9 confirmed"]);
    for message in ["info 1", "error 3", "info 4", "error 6", "info 7", "error 9"] {
        consumer.expect(&format!("received {message}"));
    }
    consumer.interrupt();

    let complaint = start("mio_message_producer", "expired", &[]).rest_in_vain();
    assert!(
        complaint.contains("ACCESS_REFUSED") && !complaint.contains("expired"),
        "{complaint}"
    );
}

/// `limited` may write and read, and configure nothing.
fn amazon_mq(tls_url: &str, ca_file: &str) {
    const QUEUE: &str = "hello world queue";
    let parameters = ConnectionParameters::from_uri(tls_url).unwrap();
    let (host, port) = parameters.addresses().next().unwrap();
    let url = |user| format!("amqps://{user}:{user}@{host}:{port}");
    let own = format!("{}?cacertfile={ca_file}", url("guest"));
    let start = |name, user| {
        let variables = [("AMQP_URL", &*url(user)), ("SSL_CERT_FILE", ca_file)];
        Program::start_with(&variables, name, &[])
    };
    delete(&own, QUEUE);
    let expected = [
        "sent to hello world queue",
        "Message { exchange: \"\", routing_key: \"hello world queue\", properties: Properties { delivery_mode: 2 }, body_len: 12, .. }",
        "Hello World!",
        "closed on request",
    ];
    assert_eq!(start("mio_amazon_mq_publisher", "guest").rest(), expected);

    let consumer = start("mio_amazon_mq_consumer", "limited");
    let refusal = consumer.line().unwrap();
    let names = |text| refusal.contains(text);
    assert!(
        names("ACCESS_REFUSED") && names("'hello world queue'") && names("'limited'"),
        "{refusal}"
    );
    consumer.expect("waiting for messages, until Ctrl-C");
    with_channel(&own, |channel| {
        let to_queue = BasicPublish {
            routing_key: ShortStr::new(QUEUE).unwrap(),
            ..Default::default()
        };
        channel
            .publish(&to_queue, &Properties::default(), "to whom it may concern")
            .unwrap();
    });
    consumer.expect("received to whom it may concern");
    consumer.interrupt();
    delete_settled(&own, QUEUE);

    let complaint = start("mio_amazon_mq_publisher", "limited").rest_in_vain();
    assert!(
        complaint.contains("NOT_FOUND - no queue 'hello world queue'"),
        "{complaint}"
    );
    let complaint = run_in_vain(&url("guest"), "mio_amazon_mq_publisher", &[]);
    assert!(complaint.contains("UnknownIssuer"), "{complaint}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

programs! {
    hello hello_world work_queues publish_subscribe routing topics remote_procedure_call chat
}

#[test]
fn tencent_on_the_embedded_broker() {
    let token = "eyJr".repeat(300);
    let tenant = ["role", &token, "amqp-xxx|Vhostname"];
    let [role, token, virtual_host] = tenant;
    let all = Permissions::new(Access::All, Access::All, Access::All);
    let mut config = BrokerConfig::default();
    config.virtual_hosts = vec![virtual_host.to_owned()];
    config.users = [(
        role.to_owned(),
        User::new(token).with_permissions(virtual_host, all),
    )]
    .into();
    let broker = TestBroker::builder().config(config).start().unwrap();
    tencent(&broker.uri(), tenant);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn tencent_on_rabbitmq() {
    tencent(&variable("AMQP_TEST_URL"), ["guest", "guest", "a|b"]);
}

#[test]
fn amazon_mq_on_the_embedded_broker() {
    let all = || Permissions::new(Access::All, Access::All, Access::All);
    let limited = Permissions::new(Access::Nothing, Access::All, Access::All);
    let mut config = BrokerConfig::default();
    config.users = [("guest", all()), ("limited", limited)]
        .map(|(name, permissions)| {
            let user = User::new(name).with_permissions("/", permissions);
            (name.to_owned(), user)
        })
        .into();
    let broker = TestBroker::builder()
        .config(config)
        .tls_address(([127, 0, 0, 1], 0).into())
        .start()
        .unwrap();
    let ca_file = concat!(env!("CARGO_TARGET_TMPDIR"), "/mio-embedded-ca.pem");
    std::fs::write(ca_file, broker.ca_pem().unwrap()).unwrap();
    amazon_mq(&broker.tls_uri().unwrap(), ca_file);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn amazon_mq_on_rabbitmq_over_tls() {
    let url = variable("AMQP_TEST_TLS_URL");
    let tls = ConnectionParameters::from_uri(&url).unwrap().tls.unwrap();
    amazon_mq(&url, &tls.ca_certificate.unwrap());
}
