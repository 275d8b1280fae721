//! Who may do what.

use amqp_proto::wire::*;
use amqp_testbroker::{Access, BrokerConfig, Permissions, Release, User};

use crate::stage::{Stage, close, name};

fn stage(release: Release) -> Stage {
    let mut config = BrokerConfig::default();
    config.release = release;
    let only = || Access::Prefix("my-".to_owned());
    let permissions = Permissions::new(only(), only(), only());
    config
        .users
        .insert("u".to_owned(), User::new("p").with_permissions("/", permissions));
    let nothing = || Access::Nothing;
    let permissions = Permissions::new(nothing(), nothing(), nothing());
    config.users.insert(
        "none".to_owned(),
        User::new("p").with_permissions("/", permissions),
    );
    Stage::with(config)
}

#[track_caller]
fn refused<'m>(method: impl Into<Method<'m>>, operation: &str, resource: &str) {
    let method = method.into();
    let MethodId {
        class,
        method: number,
    } = method.spec().id;
    for (release, operation) in [(Release::V4, operation), (Release::V3_10, "")] {
        let mut stage = stage(release);
        let who = stage.open_as("u", "p");
        stage.channel(who, 1);
        stage.send(who, 1, method);
        if method.spec().has_content {
            stage.send_header(who, 1, 0, Properties::default());
        }
        let text =
            format!("ACCESS_REFUSED - {operation}access to {resource} in vhost '/' refused for user 'u'");
        assert_eq!(stage.received(who), [close(1, 403, &text, class, number)]);
    }
}

#[test]
fn each_method_asks_for_what_it_needs() {
    let (exchange, queue, mine) = (name("x"), name("q"), name("my-q"));
    refused(
        ExchangeDeclare {
            exchange,
            ..Default::default()
        },
        "configure ",
        "exchange 'x'",
    );
    refused(
        ExchangeDelete {
            exchange,
            ..Default::default()
        },
        "configure ",
        "exchange 'x'",
    );
    let bind = ExchangeBind {
        destination: exchange,
        source: mine,
        ..Default::default()
    };
    refused(bind, "write ", "exchange 'x'");
    refused(
        ExchangeBind {
            destination: mine,
            source: exchange,
            ..bind
        },
        "read ",
        "exchange 'x'",
    );
    let unbind = ExchangeUnbind {
        destination: exchange,
        source: mine,
        ..Default::default()
    };
    refused(unbind, "write ", "exchange 'x'");
    refused(
        QueueDeclare {
            queue,
            ..Default::default()
        },
        "configure ",
        "queue 'q'",
    );
    refused(
        QueueDelete {
            queue,
            ..Default::default()
        },
        "configure ",
        "queue 'q'",
    );
    refused(
        QueuePurge {
            queue,
            ..Default::default()
        },
        "read ",
        "queue 'q'",
    );
    let bind = QueueBind {
        queue,
        exchange: mine,
        ..Default::default()
    };
    refused(bind, "write ", "queue 'q'");
    refused(
        QueueBind {
            queue: mine,
            exchange,
            ..bind
        },
        "read ",
        "exchange 'x'",
    );
    let unbind = QueueUnbind {
        queue,
        exchange: mine,
        ..Default::default()
    };
    refused(unbind, "write ", "queue 'q'");
    refused(
        BasicConsume {
            queue,
            ..Default::default()
        },
        "read ",
        "queue 'q'",
    );
    refused(BasicGet { queue, no_ack: false }, "read ", "queue 'q'");
    refused(
        BasicPublish {
            exchange,
            ..Default::default()
        },
        "write ",
        "exchange 'x'",
    );
    refused(BasicPublish::default(), "write ", "exchange 'amq.default'");
    refused(QueueDeclare::default(), "configure ", "queue 'amq.gen-'");
}

#[test]
fn arguments_that_name_an_exchange_need_permission_too() {
    let alternate = FieldTable::new().with("alternate-exchange", "x").unwrap();
    let declare = ExchangeDeclare {
        exchange: name("my-x"),
        arguments: alternate.as_ref(),
        ..Default::default()
    };
    refused(declare, "write ", "exchange 'x'");
    let dead_letters = FieldTable::new().with("x-dead-letter-exchange", "x").unwrap();
    let declare = QueueDeclare {
        queue: name("my-q"),
        arguments: dead_letters.as_ref(),
        ..Default::default()
    };
    refused(declare, "write ", "exchange 'x'");
}

#[test]
fn but_not_if_they_are_declared_already() {
    for release in [Release::V4, Release::V3_10] {
        let mut stage = stage(release);
        let (owner, who) = (stage.open_channel(), stage.open_as("u", "p"));
        stage.channel(who, 1);
        let alternate = FieldTable::new().with("alternate-exchange", "x").unwrap();
        let exchange = ExchangeDeclare {
            exchange: name("my-x"),
            arguments: alternate.as_ref(),
            ..Default::default()
        };
        let dead_letters = FieldTable::new().with("x-dead-letter-exchange", "x").unwrap();
        let queue = QueueDeclare {
            queue: name("my-q"),
            arguments: dead_letters.as_ref(),
            ..Default::default()
        };
        let declared = r#"queue.declare-ok queue="my-q" message_count=0 consumer_count=0"#;
        for who in [owner, who] {
            stage.call(who, 1, exchange, "exchange.declare-ok");
            stage.call(who, 1, queue, declared);
        }
        let locked = QueueDeclare {
            queue: name("my-own"),
            exclusive: true,
            ..queue
        };
        stage.send(owner, 1, locked);
        stage.received(owner);
        stage.send(who, 1, locked);
        let received = stage.received(who);
        assert!(
            received[0].starts_with("ch 1 channel.close reply_code=405"),
            "{received:?}"
        );
    }
}

#[test]
fn at_the_default_exchange_nobody_needs_permission_to_be_refused() {
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let (mine, none) = (name("amq.direct"), name(""));
    for (destination, source) in [(mine, none), (none, mine)] {
        let mut stage = stage(Release::V4);
        let who = stage.open_as("none", "p");
        stage.channel(who, 1);
        let bind = ExchangeBind {
            destination,
            source,
            ..Default::default()
        };
        stage.send(who, 1, bind);
        assert_eq!(stage.received(who), [close(1, 403, text, 40, 30)]);
    }
}

#[test]
fn what_is_permitted_works_and_passive_declares_always_do() {
    let mut stage = stage(Release::V4);
    let owner = stage.open_as("u", "p");
    stage.channel(owner, 1);
    let queue = QueueDeclare {
        queue: name("my-q"),
        ..Default::default()
    };
    let declared = r#"queue.declare-ok queue="my-q" message_count=0 consumer_count=0"#;
    stage.call(owner, 1, queue, declared);
    let who = stage.open_as("none", "p");
    stage.channel(who, 1);
    stage.call(
        who,
        1,
        QueueDeclare {
            passive: true,
            ..queue
        },
        declared,
    );
    stage.send(who, 1, BasicPublish::default());
    stage.send_header(who, 1, 0, Properties::default());
    let text = "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'none'";
    assert_eq!(stage.received(who), [close(1, 403, text, 60, 40)]);
}
