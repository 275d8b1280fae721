use super::*;

fn declare<'a>(name: &'a str, kind: &'a str) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        exchange: short(name),
        exchange_type: short(kind),
        ..Default::default()
    }
}

fn passive(name: &str) -> ExchangeDeclare<'_> {
    ExchangeDeclare {
        passive: true,
        ..declare(name, "")
    }
}

#[test]
fn some_are_there_from_the_start() {
    let mut scene = Scene::new();
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ] {
        scene.try_exchange(&passive(name)).unwrap();
        let again = ExchangeDeclare {
            durable: true,
            ..declare(name, kind)
        };
        scene.try_exchange(&again).unwrap();
    }
    let trace = ExchangeDeclare {
        durable: true,
        internal: true,
        ..declare("amq.rabbitmq.trace", "topic")
    };
    scene.try_exchange(&trace).unwrap();
}

#[test]
fn another_redeclaration_is_refused_in_rabbitmqs_words() {
    let mut scene = Scene::new();
    scene.exchange("x", "direct");
    scene.exchange("x", "direct");
    let alternate = table(&[("alternate-exchange", text("b"))]);
    let ignored = table(&[("whatever", text("b"))]);
    let same = ExchangeDeclare {
        arguments: ignored.as_ref(),
        ..declare("x", "direct")
    };
    scene.try_exchange(&same).unwrap();
    let cases = [
        (declare("x", "fanout"), "'type'", "'fanout'", "'direct'"),
        (
            ExchangeDeclare {
                durable: true,
                ..declare("x", "direct")
            },
            "'durable'",
            "'true'",
            "'false'",
        ),
        (
            ExchangeDeclare {
                auto_delete: true,
                ..declare("x", "direct")
            },
            "'auto_delete'",
            "'true'",
            "'false'",
        ),
        (
            ExchangeDeclare {
                internal: true,
                ..declare("x", "direct")
            },
            "'internal'",
            "'true'",
            "'false'",
        ),
        (
            ExchangeDeclare {
                arguments: alternate.as_ref(),
                ..declare("x", "direct")
            },
            "'alternate-exchange'",
            "the value 'b' of type 'longstr'",
            "none",
        ),
    ];
    for (method, key, received, current) in cases {
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg {key} for exchange 'x' in vhost '/': \
             received {received} but current is {current}"
        );
        assert_eq!(refused(scene.try_exchange(&method)), (406, text));
    }
}

#[test]
fn reserved_and_default_names_are_refused() {
    let mut scene = Scene::new();
    assert_eq!(
        refused(scene.try_exchange(&declare("amq.x", "direct"))),
        (
            403,
            "ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*'".into()
        )
    );
    let default = (
        403,
        "ACCESS_REFUSED - operation not permitted on the default exchange".to_owned(),
    );
    assert_eq!(refused(scene.try_exchange(&declare("", "direct"))), default);
    assert_eq!(refused(scene.try_exchange(&passive(""))), default);
    assert_eq!(refused(scene.delete_exchange("")), default);
    assert_eq!(refused(scene.bind_exchange("", "amq.direct", "")), default);
    assert_eq!(refused(scene.bind_exchange("amq.direct", "", "")), default);
    assert_eq!(refused(scene.unbind_exchange("amq.direct", "", "")), default);
    scene.queue("q");
    assert_eq!(refused(scene.bind_with("q", "", "", &[])), default);
    assert_eq!(refused(scene.unbind("q", "", "")), default);
    assert_eq!(
        refused(scene.delete_exchange("amq.direct")),
        (
            403,
            "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed".into()
        )
    );
}

#[test]
fn line_ends_in_names_do_not_count() {
    let mut scene = Scene::new();
    scene.exchange("a\r\nb", "direct");
    scene.try_exchange(&passive("ab")).unwrap();
    let declared = scene.try_queue_with("q\n", &[]).unwrap();
    assert_eq!(declared.queue, "q");
}

#[test]
fn an_unknown_type_ends_the_connection_in_3_10_and_the_channel_in_4() {
    let mut scene = Scene::of(Release::V3_10);
    let refusal = scene.try_exchange(&declare("x", "nonsense")).unwrap_err();
    assert_eq!((refusal.scope, refusal.code.0), (Scope::Connection, 503));
    assert_eq!(refusal.text, "COMMAND_INVALID - unknown exchange type 'nonsense'");
    let mut scene = Scene::of(Release::V4);
    assert_eq!(
        refused(scene.try_exchange(&declare("x", "nonsense"))),
        (
            406,
            "PRECONDITION_FAILED - unknown exchange type 'nonsense'".into()
        )
    );
}

#[test]
fn what_is_not_there_is_404() {
    let mut scene = Scene::new();
    let missing = |name: &str| (404, format!("NOT_FOUND - no exchange '{name}' in vhost '/'"));
    assert_eq!(refused(scene.try_exchange(&passive("x"))), missing("x"));
    let properties = Properties::default();
    assert_eq!(
        refused(scene.publish_with("x", "", "", &properties)),
        missing("x")
    );
    assert_eq!(refused(scene.bind_exchange("d", "s", "")), missing("s"));
    assert_eq!(refused(scene.bind_exchange("d", "amq.direct", "")), missing("d"));
    assert_eq!(refused(scene.bind_with("q", "s", "", &[])), missing("s"));
    assert_eq!(
        refused(scene.bind_with("q", "amq.direct", "", &[])),
        (404, "NOT_FOUND - no queue 'q' in vhost '/'".into())
    );
    scene.unbind("q", "s", "").unwrap();
    scene.unbind("q", "amq.direct", "").unwrap();
    scene.unbind_exchange("d", "s", "").unwrap();
    scene.delete_exchange("x").unwrap();
}

#[test]
fn nobody_publishes_to_an_internal_exchange_but_exchanges_do() {
    let mut scene = Scene::new();
    scene
        .try_exchange(&ExchangeDeclare {
            internal: true,
            ..declare("inner", "fanout")
        })
        .unwrap();
    scene.exchange("outer", "fanout");
    scene.queue("q");
    scene.bind("q", "inner", "");
    scene.bind_exchange("inner", "outer", "").unwrap();
    assert_eq!(
        refused(scene.publish_with("inner", "", "", &Properties::default())),
        (
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'".into()
        )
    );
    scene.publish("outer", "", "m");
    assert_eq!(scene.bodies("q"), ["m"]);
}

#[test]
fn only_what_has_bindings_is_in_use() {
    let mut scene = Scene::new();
    scene.exchange("source", "fanout");
    scene.exchange("destination", "fanout");
    scene.bind_exchange("destination", "source", "").unwrap();
    let if_unused = |name| ExchangeDelete {
        exchange: short(name),
        if_unused: true,
        ..Default::default()
    };
    assert_eq!(
        refused(scene.host.delete_exchange(&if_unused("source"))),
        (
            406,
            "PRECONDITION_FAILED - exchange 'source' in vhost '/' in use".into()
        )
    );
    scene.host.delete_exchange(&if_unused("destination")).unwrap();
    // That was its only binding.
    scene.host.delete_exchange(&if_unused("source")).unwrap();
    assert!(scene.try_exchange(&passive("source")).is_err());
}

fn auto_delete<'a>(name: &'a str, kind: &'a str) -> ExchangeDeclare<'a> {
    ExchangeDeclare {
        auto_delete: true,
        ..declare(name, kind)
    }
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let mut scene = Scene::new();
    scene.try_exchange(&auto_delete("x", "direct")).unwrap();
    scene.queue("q");
    scene.bind("q", "x", "a");
    scene.bind("q", "x", "b");
    scene.unbind("q", "x", "nothing").unwrap();
    scene.unbind("q", "x", "a").unwrap();
    scene.try_exchange(&passive("x")).unwrap();
    scene.unbind("q", "x", "b").unwrap();
    assert!(scene.try_exchange(&passive("x")).is_err());
}

#[test]
fn auto_delete_exchanges_go_one_after_the_other() {
    let mut scene = Scene::new();
    scene.try_exchange(&auto_delete("first", "fanout")).unwrap();
    scene.try_exchange(&auto_delete("second", "fanout")).unwrap();
    scene.exchange("other", "fanout");
    scene.queue("q");
    scene.bind("q", "second", "");
    scene.bind("q", "other", "");
    scene.bind_exchange("second", "first", "").unwrap();
    scene.delete_queue("q").unwrap();
    assert!(scene.try_exchange(&passive("second")).is_err());
    assert!(scene.try_exchange(&passive("first")).is_err());
    scene.try_exchange(&passive("other")).unwrap();
}

#[test]
fn an_alternate_exchange_has_to_be_text() {
    let mut scene = Scene::new();
    let arguments = table(&[("alternate-exchange", 1_i32.into())]);
    let method = ExchangeDeclare {
        arguments: arguments.as_ref(),
        ..declare("x", "direct")
    };
    assert_eq!(
        refused(scene.try_exchange(&method)),
        (
            406,
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' \
             in exchange 'x' in vhost '/'"
                .into()
        )
    );
}
