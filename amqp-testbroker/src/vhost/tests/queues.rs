use super::*;

const LOCKED: &str = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
    originally declared on another connection or the exclusive property value does not match that of the \
    original declaration.";

fn exclusive(name: &str) -> QueueDeclare<'_> {
    QueueDeclare {
        queue: short(name),
        exclusive: true,
        ..Default::default()
    }
}

#[test]
fn a_declaration_says_what_is_in_the_queue() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish("", "q", "a");
    scene.publish("", "q", "b");
    let declared = scene.passive("q").unwrap();
    assert_eq!(
        declared,
        Declared {
            queue: Name::from_static(b"q"),
            messages: 2,
            consumers: 0
        }
    );
    scene.consume("q", "c");
    assert_eq!(scene.try_queue_with("q", &[]).unwrap().consumers, 1);
    assert_eq!(scene.host.queue_len(b"q"), Some(2));
    assert_eq!(scene.host.consumer_count(b"q"), Some(1));
    assert_eq!(scene.host.queue_names().collect::<Vec<_>>(), ["q"]);
}

#[test]
fn an_empty_name_is_made_up_the_same_in_every_run() {
    let names = || {
        let mut scene = Scene::new();
        let first = scene.try_queue(&exclusive("")).unwrap().queue;
        let second = scene.try_queue(&exclusive("")).unwrap().queue;
        [first, second]
    };
    let [first, second] = names();
    assert_ne!(first, second);
    assert!(first.starts_with(b"amq.gen-") && first.len() == 30, "{first:?}");
    assert_eq!(names(), [first, second]);
}

#[test]
fn reserved_names_are_only_for_the_server_to_make() {
    let mut scene = Scene::new();
    assert_eq!(
        refused(scene.try_queue_with("amq.q", &[])),
        (
            403,
            "ACCESS_REFUSED - queue name 'amq.q' contains reserved prefix 'amq.*'".into()
        )
    );
    assert_eq!(
        refused(scene.passive("amq.q")),
        (404, "NOT_FOUND - no queue 'amq.q' in vhost '/'".into())
    );
    let name = scene.try_queue(&exclusive("")).unwrap().queue;
    let name = std::str::from_utf8(&name).unwrap();
    scene.passive(name).unwrap();
    assert_eq!(
        refused(scene.passive("")).1,
        "NOT_FOUND - no queue '' in vhost '/'"
    );
}

#[test]
fn what_is_not_there_is_404() {
    let mut scene = Scene::new();
    let missing = (404, "NOT_FOUND - no queue 'q' in vhost '/'".to_owned());
    assert_eq!(refused(scene.host.get(b"q", ME, at(0))), missing);
    assert_eq!(refused(scene.host.purge(b"q", ME, at(0))), missing);
    assert_eq!(refused(scene.consume_with("q", "c", false, &[])), missing);
    assert_eq!(scene.delete_queue("q"), Ok(0));
}

#[test]
fn an_exclusive_queue_is_for_one_connection() {
    let mut scene = Scene::new();
    scene.try_queue(&exclusive("q")).unwrap();
    scene.try_queue(&exclusive("q")).unwrap();
    // It is never durable, so that is no difference.
    let durable = QueueDeclare {
        durable: true,
        ..exclusive("q")
    };
    scene.try_queue(&durable).unwrap();
    let locked = (405, LOCKED.to_owned());
    assert_eq!(refused(scene.try_queue_with("q", &[])), locked);
    let host = &mut scene.host;
    let passive = QueueDeclare {
        queue: short("q"),
        passive: true,
        ..Default::default()
    };
    assert_eq!(refused(host.declare_queue(&passive, OTHER, at(0))), locked);
    assert_eq!(refused(host.declare_queue(&exclusive("q"), OTHER, at(0))), locked);
    assert_eq!(refused(host.get(b"q", OTHER, at(0))), locked);
    assert_eq!(refused(host.purge(b"q", OTHER, at(0))), locked);
    let delete = QueueDelete {
        queue: short("q"),
        ..Default::default()
    };
    assert_eq!(refused(host.delete_queue(&delete, OTHER, at(0))), locked);
    let bind = QueueBind {
        queue: short("q"),
        exchange: short("amq.direct"),
        ..Default::default()
    };
    assert_eq!(refused(host.bind_queue(&bind, OTHER, at(0))), locked);
    let unbind = QueueUnbind {
        queue: short("q"),
        exchange: short("amq.direct"),
        ..Default::default()
    };
    assert_eq!(refused(host.unbind_queue(&unbind, OTHER, at(0))), locked);
    let consume = BasicConsume {
        queue: short("q"),
        ..Default::default()
    };
    let by_other = ConsumerKey {
        connection: OTHER,
        ..key("c")
    };
    assert_eq!(refused(host.consume(&consume, by_other, at(0))), locked);
    // Everybody publishes to it.
    assert_eq!(scene.publish("", "q", "m").queues, 1);
}

#[test]
fn exclusive_queues_go_with_their_connection_and_no_others() {
    let mut scene = Scene::new();
    scene.try_queue(&exclusive("mine")).unwrap();
    scene
        .host
        .declare_queue(&exclusive("theirs"), OTHER, at(0))
        .unwrap();
    scene.queue("everybodys");
    scene.publish("", "mine", "m");
    scene.host.forget_connection(ME, at(0));
    assert_eq!(
        scene.host.queue_names().collect::<Vec<_>>(),
        ["everybodys", "theirs"]
    );
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn another_exclusiveness_is_refused_as_locked() {
    let mut scene = Scene::new();
    scene.queue("q");
    assert_eq!(refused(scene.try_queue(&exclusive("q"))), (405, LOCKED.into()));
}

#[test]
fn another_redeclaration_is_refused_in_rabbitmqs_words() {
    let mut scene = Scene::new();
    let arguments = table(&[
        ("x-max-length", 5_i32.into()),
        ("x-dead-letter-exchange", text("a")),
        ("ignored", 1_i32.into()),
    ]);
    let declared = QueueDeclare {
        queue: short("q"),
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    scene.try_queue(&declared).unwrap();
    let says = |key: &str, received: &str, current: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{key}' for queue 'q' in vhost '/': \
             received {received} but current is {current}"
        )
    };
    let transient = QueueDeclare {
        durable: false,
        ..declared
    };
    assert_eq!(
        refused(scene.try_queue(&transient)),
        (406, says("durable", "'false'", "'true'"))
    );
    let auto_delete = QueueDeclare {
        auto_delete: true,
        ..declared
    };
    assert_eq!(
        refused(scene.try_queue(&auto_delete)),
        (406, says("auto_delete", "'true'", "'false'"))
    );
    let dlx = ("x-dead-letter-exchange", text("a"));
    let length = ("x-max-length", 5_i32.into());
    type Arguments<'a> = &'a [(&'a str, FieldValue<'a>)];
    let cases: [(Arguments<'_>, &str, &str, &str); 5] = [
        (
            &[dlx, ("x-max-length", 6_i32.into())],
            "x-max-length",
            "'6'",
            "'5'",
        ),
        (
            &[dlx],
            "x-max-length",
            "none",
            "the value '5' of type 'signedint'",
        ),
        (
            &[length, ("x-dead-letter-exchange", text("b"))],
            "x-dead-letter-exchange",
            "'b'",
            "'a'",
        ),
        (
            &[length, dlx, ("x-single-active-consumer", true.into())],
            "x-single-active-consumer",
            "the value 'true' of type 'bool'",
            "none",
        ),
        (
            &[length, dlx, ("x-queue-type", text("quorum"))],
            "x-queue-type",
            "'quorum'",
            "'classic'",
        ),
    ];
    for (arguments, key, received, current) in cases {
        assert_eq!(
            refused(scene.try_queue_with("q", arguments)),
            (406, says(key, received, current))
        );
    }
    // The width of a number, the default type and what is no argument are no difference.
    scene
        .try_queue_with(
            "q",
            &[
                dlx,
                ("x-max-length", 5_i64.into()),
                ("x-queue-type", text("classic")),
            ],
        )
        .unwrap();
}

#[test]
fn a_type_that_was_not_said_is_none_in_3_10() {
    let mut scene = Scene::of(Release::V3_10);
    scene.queue("q");
    assert_eq!(
        refused(scene.try_queue_with("q", &[("x-queue-type", text("quorum"))])).1,
        "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': \
         received the value 'quorum' of type 'longstr' but current is none"
    );
    scene
        .try_queue_with("q", &[("x-queue-type", text("classic"))])
        .unwrap();
}

#[test]
fn arguments_that_mean_nothing_are_refused_in_rabbitmqs_words() {
    let mut scene = Scene::of(Release::V3_10);
    let long = 315_360_000_001_i64;
    for (key, value, why) in [
        ("x-max-length", text("a"), "\"expected integer, got longstr\""),
        ("x-max-length", true.into(), "\"expected integer, got bool\""),
        ("x-max-length", FieldValue::I32(-1), "{value_negative,-1}"),
        ("x-max-length-bytes", FieldValue::I32(-1), "{value_negative,-1}"),
        ("x-expires", FieldValue::I32(0), "{value_zero,0}"),
        ("x-expires", FieldValue::I32(-1), "{value_negative,-1}"),
        ("x-expires", long.into(), "{value_too_large,315360000001}"),
        ("x-message-ttl", FieldValue::I32(-1), "{value_negative,-1}"),
        ("x-message-ttl", long.into(), "{value_too_large,315360000001}"),
        (
            "x-message-ttl",
            FieldValue::Void,
            "\"expected integer, got void\"",
        ),
        (
            "x-dead-letter-routing-key",
            text("k"),
            "routing_key_but_no_dlx_defined",
        ),
        (
            "x-dead-letter-routing-key",
            1_i32.into(),
            "{unacceptable_type,signedint}",
        ),
        ("x-max-priority", 256_i32.into(), "{max_value_exceeded,256}"),
        ("x-max-priority", FieldValue::I32(-1), "{value_negative,-1}"),
        ("x-overflow", text("zz"), "invalid_overflow"),
        ("x-overflow", 1_i32.into(), "{unacceptable_type,signedint}"),
        ("x-queue-mode", text("zz"), "\"unsupported queue mode 'zz'\""),
        (
            "x-queue-version",
            3_i32.into(),
            "\"unsupported queue version '3'\"",
        ),
        (
            "x-single-active-consumer",
            text("yes"),
            "{unacceptable_type,longstr}",
        ),
        ("x-queue-type", text("zz"), "\"unsupported queue type 'zz'\""),
        (
            "x-queue-type",
            text("stream"),
            "\"unsupported queue type 'stream'\"",
        ),
        ("x-queue-type", 3_i32.into(), "{unacceptable_type,signedint}"),
    ] {
        assert_eq!(
            refused(scene.try_queue_with("q", &[(key, value)])),
            (
                406,
                format!("PRECONDITION_FAILED - invalid arg '{key}' for queue 'q' in vhost '/': {why}")
            )
        );
        assert_eq!(scene.host.queue_len(b"q"), None);
    }
    assert_eq!(
        refused(scene.try_queue_with("q", &[("x-dead-letter-exchange", 1_i32.into())])).1,
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' \
         in vhost '/'"
    );
}

#[test]
fn only_3_10_compares_the_queue_mode() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue_with("q", &[("x-queue-mode", text("lazy"))]);
        let again = scene.try_queue_with("q", &[("x-queue-mode", text("default"))]);
        assert_eq!(again.is_ok(), release == Release::V4);
    }
}

#[test]
fn arguments_of_another_type_of_queue_are_refused() {
    let quorum = ("x-queue-type", text("quorum"));
    for (arguments, key, module) in [
        (
            vec![("x-max-age", text("1D"))],
            "x-max-age",
            "rabbit_classic_queue",
        ),
        (
            vec![("x-delivery-limit", 3_i32.into())],
            "x-delivery-limit",
            "rabbit_classic_queue",
        ),
        (
            vec![quorum, ("x-max-priority", 3_i32.into())],
            "x-max-priority",
            "rabbit_quorum_queue",
        ),
        (
            vec![quorum, ("x-queue-mode", text("lazy"))],
            "x-queue-mode",
            "rabbit_quorum_queue",
        ),
    ] {
        assert_eq!(
            refused(Scene::new().try_queue_with("q", &arguments)),
            (
                406,
                format!(
                    "PRECONDITION_FAILED - invalid arg '{key}' for queue 'q' in vhost '/' of queue type {module}"
                )
            )
        );
    }
}

#[test]
fn good_arguments_are_taken() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        let classic = [
            ("x-max-priority", 255_i32.into()),
            ("x-queue-mode", text("lazy")),
            ("x-queue-version", 2_i32.into()),
            ("x-message-ttl", 0_i32.into()),
            ("x-expires", 315_360_000_000_i64.into()),
            ("x-overflow", text("reject-publish-dlx")),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("k")),
            ("something", text("else")),
        ];
        scene.queue_with("classic", &classic);
        let quorum = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", 3_i32.into()),
            ("x-dead-letter-strategy", text("at-most-once")),
            ("x-quorum-initial-group-size", 3_i32.into()),
        ];
        scene.queue_with("quorum", &quorum);
        assert_eq!(scene.host.queue_names().count(), 2);
    }
    // Only 3.10 looks at these.
    let mut scene = Scene::of(Release::V4);
    scene.queue_with("q", &[("x-queue-mode", text("zz"))]);
    assert!(
        scene
            .try_queue_with("p", &[("x-queue-version", 1_i32.into())])
            .is_err()
    );
    Scene::of(Release::V3_10).queue_with("p", &[("x-queue-version", 1_i32.into())]);
}

#[test]
fn a_quorum_queue_is_durable_and_for_all_and_has_a_name() {
    let mut scene = Scene::of(Release::V3_10);
    let arguments = table(&[("x-queue-type", text("quorum"))]);
    let method = QueueDeclare {
        queue: short("q"),
        durable: true,
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    for (method, property) in [
        (
            QueueDeclare {
                durable: false,
                ..method
            },
            "non-durable",
        ),
        (
            QueueDeclare {
                exclusive: true,
                ..method
            },
            "exclusive-owner",
        ),
        (
            QueueDeclare {
                auto_delete: true,
                ..method
            },
            "auto-delete",
        ),
    ] {
        assert_eq!(
            refused(scene.try_queue(&method)),
            (
                406,
                format!("PRECONDITION_FAILED - invalid property '{property}' for queue 'q' in vhost '/'")
            )
        );
    }
    let nameless = QueueDeclare {
        queue: short(""),
        ..method
    };
    assert_eq!(
        refused(scene.try_queue(&nameless)).1,
        "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
    scene.try_queue(&method).unwrap();
}

#[test]
fn messages_come_out_as_they_came_in() {
    let mut scene = Scene::new();
    scene.queue("q");
    for body in ["a", "b", "c"] {
        scene.publish("", "q", body);
    }
    let (entry, left) = scene.host.get(b"q", ME, at(0)).unwrap().unwrap();
    assert_eq!(
        (body(&entry.message).as_str(), left, entry.deliveries),
        ("a", 2, 0)
    );
    assert_eq!(scene.get("q").map(|entry| body(&entry.message)).unwrap(), "b");
    assert_eq!(scene.get("q").map(|entry| body(&entry.message)).unwrap(), "c");
    assert!(scene.get("q").is_none());
}

#[test]
fn what_is_requeued_goes_back_to_its_place() {
    let mut scene = Scene::new();
    scene.queue("q");
    for body in ["a", "b", "c", "d"] {
        scene.publish("", "q", body);
    }
    let taken: Vec<Entry> = (0..3).filter_map(|_| scene.get("q")).collect();
    let [a, b, c] = <[Entry; 3]>::try_from(taken).unwrap();
    scene.host.requeue(vec![c, a], at(0));
    assert_eq!(scene.bodies("q"), ["a", "c", "d"]);
    scene.host.requeue(vec![b], at(0));
    assert_eq!(scene.bodies("q"), ["a", "b", "c", "d"]);
    assert_eq!(scene.get("q").unwrap().deliveries, 1);
}

#[test]
fn priorities_go_first_up_to_the_queues_highest() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-max-priority", 2_i32.into())]);
    scene.queue("plain");
    for (body, priority) in [
        ("none", None),
        ("one", Some(1)),
        ("two", Some(2)),
        ("nine", Some(9)),
        ("one again", Some(1)),
    ] {
        let properties = Properties {
            priority,
            ..Default::default()
        };
        scene.publish_with("", "q", body, &properties).unwrap();
        scene.publish_with("", "plain", body, &properties).unwrap();
    }
    assert_eq!(scene.bodies("q"), ["two", "nine", "one", "one again", "none"]);
    assert_eq!(scene.bodies("plain"), ["none", "one", "two", "nine", "one again"]);
    let two = scene.get("q").unwrap();
    scene.host.requeue(vec![two], at(0));
    assert_eq!(scene.bodies("q")[0], "two");
}

#[test]
fn a_quorum_queue_has_what_comes_back_before_all_or_behind_all() {
    let quorum = ("x-queue-type", text("quorum"));
    let limited = ("x-delivery-limit", 9_i32.into());
    for (arguments, expected) in [
        (&[quorum, limited][..], ["c", "a", "b", "d"]),
        (&[quorum][..], ["d", "c", "a", "b"]),
    ] {
        let mut scene = Scene::of(Release::V3_10);
        scene.queue_with("q", arguments);
        for body in ["a", "b", "c", "d"] {
            scene.publish("", "q", body);
        }
        let [a, b, c] = [(); 3].map(|()| scene.get("q").unwrap());
        scene.host.requeue(vec![c, a], at(0));
        scene.host.requeue(vec![b], at(0));
        assert_eq!(scene.bodies("q"), expected);
    }
}

#[test]
fn quorum_queues_have_priorities_since_4() {
    for (release, expected) in [
        (Release::V3_10, ["low", "none", "high", "higher"]),
        (Release::V4, ["high", "higher", "none", "low"]),
    ] {
        let mut scene = Scene::of(release);
        scene.queue_with("q", &[("x-queue-type", text("quorum"))]);
        for (body, priority) in [
            ("low", Some(3)),
            ("none", None),
            ("high", Some(31)),
            ("higher", Some(99)),
        ] {
            let properties = Properties {
                priority,
                ..Default::default()
            };
            scene.publish_with("", "q", body, &properties).unwrap();
        }
        assert_eq!(scene.bodies("q"), expected);
    }
}

#[test]
fn a_purge_takes_what_is_ready() {
    let mut scene = Scene::new();
    scene.queue("q");
    for body in ["a", "b", "c"] {
        scene.publish("", "q", body);
    }
    let taken = scene.get("q").unwrap();
    assert_eq!(scene.host.purge(b"q", ME, at(0)), Ok(2));
    assert_eq!(scene.bodies("q"), [""; 0]);
    scene.host.requeue(vec![taken], at(0));
    assert_eq!(scene.bodies("q"), ["a"]);
}

#[test]
fn a_queue_is_deleted_if_it_may_be() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish("", "q", "m");
    scene.consume("q", "c");
    let method = QueueDelete {
        queue: short("q"),
        if_empty: true,
        if_unused: true,
        ..Default::default()
    };
    assert_eq!(
        refused(scene.host.delete_queue(&method, ME, at(0))),
        (
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty".into()
        )
    );
    let method = QueueDelete {
        if_empty: false,
        ..method
    };
    assert_eq!(
        refused(scene.host.delete_queue(&method, ME, at(0))),
        (406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use".into())
    );
    assert_eq!(scene.delete_queue("q"), Ok(1));
    assert_eq!(scene.host.take_cancelled(), [key("c")]);
    assert_eq!(scene.host.take_cancelled(), []);
    assert_eq!(scene.host.queue_len(b"q"), None);
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn what_is_out_of_a_deleted_queue_does_not_come_into_one_of_its_name() {
    let mut scene = Scene::new();
    let dlx = [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("dead")),
    ];
    scene.queue("dead");
    scene.queue_with("q", &dlx);
    for body in ["a", "b", "c"] {
        scene.publish("", "q", body);
    }
    let [a, b, c] = [(); 3].map(|()| scene.get("q").unwrap());
    scene.delete_queue("q").unwrap();
    scene.queue_with("q", &dlx);
    scene.host.requeue(vec![a], at(0));
    scene.host.reject(b, at(0));
    scene.host.acknowledge(c, at(0));
    assert_eq!(scene.bodies("q"), [""; 0]);
    assert_eq!(scene.bodies("dead"), [""; 0]);
    assert_eq!(scene.host.memory(), 0);
}
