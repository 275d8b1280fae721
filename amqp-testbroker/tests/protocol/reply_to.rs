//! Direct reply-to.

use amqp_proto::wire::*;
use amqp_testbroker::{BrokerConfig, Release};

use crate::stage::{Stage, Who, close, name};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn consume() -> BasicConsume<'static> {
    BasicConsume {
        queue: name(REPLY_TO),
        consumer_tag: name("c"),
        no_ack: true,
        ..Default::default()
    }
}

/// Publishes a request to queue `rpc`, and says which address the server saw.
fn request(stage: &mut Stage, client: Who, server: Who) -> String {
    stage.send(
        server,
        1,
        QueueDeclare {
            queue: name("rpc"),
            ..Default::default()
        },
    );
    stage.received(server);
    let publish = BasicPublish {
        routing_key: name("rpc"),
        ..Default::default()
    };
    let properties = Properties {
        reply_to: Some(name(REPLY_TO)),
        ..Default::default()
    };
    stage.publish_with(client, 1, publish, properties, b"request");
    stage.run();
    let messages = stage.broker.messages("/", "rpc").unwrap();
    let address = messages[0].properties().reply_to.unwrap().to_string();
    assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
    address
}

#[test]
fn a_request_and_its_reply() {
    let mut stage = Stage::new();
    let (client, server) = (stage.open_channel(), stage.open_channel());
    stage.call(client, 1, consume(), r#"basic.consume-ok consumer_tag="c""#);
    let address = request(&mut stage, client, server);
    let passive = QueueDeclare {
        queue: name(&address),
        passive: true,
        ..Default::default()
    };
    let declared = format!("queue.declare-ok queue={address:?} message_count=0 consumer_count=1");
    stage.call(server, 1, passive, &declared);
    stage.publish(server, 1, &address, b"reply");
    assert!(stage.received(server).is_empty());
    let deliver =
        format!("ch 1 basic.deliver consumer_tag=\"c\" delivery_tag=1 exchange=\"\" routing_key={address:?}");
    let reply = [
        deliver.as_str(),
        "ch 1 header body_size=5",
        "ch 1 body 5 octets \"reply\"",
    ];
    assert_eq!(stage.received(client), reply);

    let cancel = BasicCancel {
        consumer_tag: name("c"),
        no_wait: false,
    };
    stage.call(client, 1, cancel, r#"basic.cancel-ok consumer_tag="c""#);
    stage.publish(server, 1, &address, b"too late");
    assert!(stage.received(client).is_empty());
    stage.send(server, 1, passive);
    let text = format!("NOT_FOUND - no queue '{address}' in vhost '/'");
    assert_eq!(stage.received(server), [close(1, 404, &text, 50, 10)]);
}

#[test]
fn a_mandatory_reply_comes_back_from_the_old_release_though_it_arrives() {
    for (release, returned) in [(Release::V3_10, 2), (Release::V4, 0)] {
        let mut config = BrokerConfig::default();
        config.release = release;
        let mut stage = Stage::with(config);
        let (client, server) = (stage.open_channel(), stage.open_channel());
        stage.send(client, 1, consume());
        let address = request(&mut stage, client, server);
        stage.received(client);
        let publish = BasicPublish {
            routing_key: name(&address),
            mandatory: true,
            ..Default::default()
        };
        stage.publish_with(server, 1, publish, Properties::default(), b"");
        assert_eq!(stage.received(server).len(), returned);
        assert_eq!(stage.received(client).len(), 2);
    }
}

#[test]
fn consumers_of_replies_that_are_refused() {
    let twice = "PRECONDITION_FAILED - reply consumer already set";
    let acks = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    let reuse = "NOT_ALLOWED - attempt to reuse consumer tag 'c'";
    let other = BasicConsume {
        consumer_tag: name("d"),
        ..consume()
    };
    for (method, channel, code, text) in [
        (other, 1, 406, twice),
        (
            BasicConsume {
                no_ack: false,
                ..other
            },
            1,
            406,
            acks,
        ),
        (consume(), 0, 530, reuse),
    ] {
        let mut stage = Stage::new();
        let who = stage.open_channel();
        stage.send(who, 1, consume());
        stage.received(who);
        stage.send(who, 1, method);
        assert_eq!(stage.received(who), [close(channel, code, text, 60, 20)]);
    }
}

#[test]
fn a_request_without_a_consumer_ends_the_channel() {
    let mut stage = Stage::new();
    let who = stage.open_channel();
    let properties = Properties {
        reply_to: Some(name(REPLY_TO)),
        ..Default::default()
    };
    stage.publish_with(who, 1, BasicPublish::default(), properties, b"");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    assert_eq!(stage.received(who), [close(1, 406, text, 60, 40)]);
}
