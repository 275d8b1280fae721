//! The programs of Amazon MQ's and Tencent's tutorials, as every adapter has them, and what they print.
//!
//! They need what `expected` needs; `crate::adapter` has `ConnectionParameters` and `publish` besides.

use amqp_testbroker::{Access, BrokerConfig, Permissions, TestBroker, User};

use crate::adapter::{self, ConnectionParameters, PREFIX};
use crate::expected::{delete, delete_settled};
use crate::program::{Program, run_in_vain};

fn start(variables: &[(&str, &str)], name: &str, arguments: &[&str]) -> Program {
    Program::start_with(variables, &format!("{PREFIX}{name}"), arguments)
}

fn all() -> Permissions {
    Permissions::new(Access::All, Access::All, Access::All)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
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
        start(&variables, name, arguments)
    };
    let usage = start("tencent_consumer", token, &[]).rest_in_vain();
    let expected = format!("usage: {PREFIX}tencent_consumer ROUTING_KEY...");
    assert!(usage.contains(&expected), "{usage}");
    let consumer = start("tencent_consumer", token, &["info", "error"]);
    consumer.expect("waiting for messages, until Ctrl-C");
    let complaint = start("tencent_consumer", token, &["info"]).rest_in_vain();
    assert!(complaint.contains("RESOURCE_LOCKED"), "{complaint}");

    let printed = start("tencent_producer", token, &[]).rest();
    assert_eq!(printed, ["closed on request, 0 unconfirmed"]);
    for message in ["info 1", "error 3", "info 4", "error 6", "info 7", "error 9"] {
        consumer.expect(&format!("received {message}"));
    }
    consumer.interrupt();

    let complaint = start("tencent_producer", "expired", &[]).rest_in_vain();
    assert!(
        complaint.contains("ACCESS_REFUSED") && !complaint.contains("expired"),
        "{complaint}"
    );
}

#[test]
fn tencent_on_the_embedded_broker() {
    let token = "eyJr".repeat(300);
    let tenant = ["role", &token, "amqp-xxx|Vhostname"];
    let [role, token, virtual_host] = tenant;
    let user = User::new(token).with_permissions(virtual_host, all());
    let mut config = BrokerConfig::default();
    config.virtual_hosts = vec![virtual_host.to_owned()];
    config.users = [(role.to_owned(), user)].into();
    let broker = TestBroker::builder().config(config).start().unwrap();
    tencent(&format!("amqp://127.0.0.1:{}", broker.port()), tenant);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn tencent_on_rabbitmq() {
    tencent(&variable("AMQP_TEST_URL"), ["guest", "guest", "a|b"]);
}

/// `limited` may write and read, and configure nothing.
fn amazon_mq(tls_url: &str, ca_file: &str) {
    const QUEUE: &str = "hello world queue";
    let parameters = ConnectionParameters::from_uri(tls_url).unwrap();
    let (host, port) = parameters.addresses().next().unwrap();
    let url = |user| format!("amqps://{user}:{user}@{host}:{port}");
    let own = format!("{}?cacertfile={ca_file}", url("guest"));
    // What the system trusts is what this file has.
    let start = |name, user| {
        let variables = [("AMQP_URL", &*url(user)), ("SSL_CERT_FILE", ca_file)];
        start(&variables, name, &[])
    };
    delete(&own, QUEUE);
    let printed = start("amazon_mq_publisher", "guest").rest();
    let [sent, message, rest @ ..] = &printed[..] else {
        panic!("{printed:?}");
    };
    assert_eq!(sent, "sent to hello world queue");
    assert!(
        message.contains(
            "Message { exchange: \"\", routing_key: \"hello world queue\", properties: Properties { delivery_mode: 2 }, \
             body_len: 12, .. }"
        ),
        "{message}"
    );
    assert_eq!(rest, ["Hello World!", "closed on request"]);

    let consumer = start("amazon_mq_consumer", "limited");
    let refusal = consumer.line().unwrap();
    let names = |text| refusal.contains(text);
    assert!(
        names("ACCESS_REFUSED") && names("'hello world queue'") && names("'limited'"),
        "{refusal}"
    );
    consumer.expect("waiting for messages, until Ctrl-C");
    adapter::publish(&own, QUEUE, "to whom it may concern");
    consumer.expect("received to whom it may concern");
    consumer.interrupt();
    delete_settled(&own, QUEUE);

    let complaint = start("amazon_mq_publisher", "limited").rest_in_vain();
    assert!(
        complaint.contains("NOT_FOUND - no queue 'hello world queue'"),
        "{complaint}"
    );
    // Without that variable its authority is unknown, if the system knows any.
    let complaint = run_in_vain(&url("guest"), &format!("{PREFIX}amazon_mq_publisher"), &[]);
    assert!(
        ["UnknownIssuer", "NoSystemRoots", "NoRoots"]
            .iter()
            .any(|why| complaint.contains(why)),
        "{complaint}"
    );
}

#[test]
fn amazon_mq_on_the_embedded_broker() {
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
    let ca_file = format!("{}/{PREFIX}vendors-ca.pem", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&ca_file, broker.ca_pem().unwrap()).unwrap();
    amazon_mq(&broker.tls_uri().unwrap(), &ca_file);
}

#[test]
#[ignore = "needs a broker: cargo xtask test"]
fn amazon_mq_on_rabbitmq_over_tls() {
    let url = variable("AMQP_TEST_TLS_URL");
    let tls = ConnectionParameters::from_uri(&url).unwrap().tls.unwrap();
    amazon_mq(&url, &tls.ca_certificate.unwrap());
}
