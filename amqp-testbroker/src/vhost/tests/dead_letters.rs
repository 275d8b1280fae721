use super::*;

const DEAD: [(&str, FieldValue<'static>); 2] = [
    ("x-dead-letter-exchange", FieldValue::LongStr(b"")),
    ("x-dead-letter-routing-key", FieldValue::LongStr(b"dead")),
];

fn to_dead<'a>(more: &[(&'a str, FieldValue<'a>)]) -> Vec<(&'a str, FieldValue<'a>)> {
    DEAD.iter().chain(more).copied().collect()
}

/// The entries of `x-death`, newest first.
fn deaths(message: &Message) -> Vec<FieldTable> {
    let headers = message.properties().headers.unwrap();
    let deaths = headers.get("x-death").unwrap().unwrap().as_array().unwrap();
    deaths
        .iter()
        .map(|death| death.unwrap().as_table().unwrap().to_owned().unwrap())
        .collect()
}

fn reject(scene: &mut Scene, queue: &str) {
    let entry = scene.get(queue).unwrap();
    scene.host.reject(entry, scene.now);
}

#[test]
fn a_rejected_message_says_how_it_died() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue("dead");
        scene.queue_with("q", &DEAD);
        scene.bind("q", "amq.direct", "k");
        scene.now = at(7_900);
        let headers = table(&[("a", 1_i32.into())]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            expiration: Some(short("60000")),
            message_id: Some(short("id")),
            ..Default::default()
        };
        scene.publish_with("amq.direct", "k", "m", &properties).unwrap();
        reject(&mut scene, "q");
        let dead = scene.head("dead");
        assert_eq!((dead.exchange(), dead.routing_key()), (short(""), short("dead")));
        assert_eq!(body(&dead), "m");
        assert_eq!(dead.properties().expiration, None);
        assert_eq!(dead.properties().message_id, Some(short("id")));
        let deaths = deaths(&dead);
        assert_eq!(
            format!("{deaths:?}"),
            r#"[{"count": 1, "reason": "rejected", "queue": "q", "time": @7, "exchange": "amq.direct", "#
                .to_owned()
                + r#""routing-keys": ["k"], "original-expiration": "60000"}]"#
        );
        assert_eq!(deaths[0].get("count"), Some(FieldValue::I64(1)));
        assert_eq!(header(&dead, "a").unwrap(), "1");
        let last = (release == Release::V4).then(|| "rejected".to_owned());
        for (key, value) in [
            ("x-first-death-reason", Some("\"rejected\"".to_owned())),
            ("x-first-death-queue", Some("\"q\"".to_owned())),
            ("x-first-death-exchange", Some("\"amq.direct\"".to_owned())),
            ("x-last-death-reason", last.map(|text| format!("{text:?}"))),
        ] {
            assert_eq!(header(&dead, key), value, "{key}");
        }
        assert_eq!(scene.bodies("q"), [""; 0]);
    }
}

#[test]
fn without_a_dead_letter_exchange_the_message_is_gone() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.queue_with("nowhere", &[("x-dead-letter-exchange", text("missing"))]);
    for queue in ["q", "nowhere"] {
        scene.publish("", queue, "m");
        reject(&mut scene, queue);
    }
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn without_a_key_for_the_dead_all_the_messages_keys_are_taken() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        for queue in ["by key", "by cc", "by bcc"] {
            scene.queue(queue);
        }
        scene.exchange("dlx", "direct");
        scene.bind("by key", "dlx", "q");
        scene.bind("by cc", "dlx", "c");
        scene.bind("by bcc", "dlx", "b");
        scene.queue_with("q", &[("x-dead-letter-exchange", text("dlx"))]);
        let (open, blind) = (array(&["c"]), array(&["b"]));
        let headers = table(&[("CC", (&open).into()), ("BCC", (&blind).into())]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        scene.publish_with("", "q", "m", &properties).unwrap();
        reject(&mut scene, "q");
        for queue in ["by key", "by cc", "by bcc"] {
            let dead = scene.head(queue);
            assert_eq!(dead.routing_key(), "q");
            let keys = deaths(&dead)[0]
                .get("routing-keys")
                .map(|keys| format!("{keys:?}"));
            assert_eq!(keys.unwrap(), r#"["q", "c"]"#, "and not what is blind");
        }
    }
}

#[test]
fn a_key_for_the_dead_replaces_all_others_and_3_10_takes_cc_out() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue("dead");
        scene.queue("c");
        scene.queue_with("q", &DEAD);
        let open = array(&["c"]);
        let headers = table(&[("CC", (&open).into())]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        scene.publish_with("", "q", "m", &properties).unwrap();
        assert_eq!(scene.host.purge(b"c", ME, at(0)), Ok(1));
        reject(&mut scene, "q");
        assert_eq!(scene.bodies("c"), [""; 0]);
        let shown = header(&scene.head("dead"), "CC");
        assert_eq!(shown.is_some(), release == Release::V4);
    }
}

#[test]
fn the_same_death_is_counted_and_another_one_put_before_it() {
    let mut scene = Scene::new();
    scene.queue_with(
        "a",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("b")),
        ],
    );
    scene.queue_with(
        "b",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("a")),
        ],
    );
    scene.publish("", "a", "m");
    for second in 0..3 {
        scene.now = at(second * 1000);
        reject(&mut scene, "a");
        reject(&mut scene, "b");
    }
    let message = scene.head("a");
    let shown = deaths(&message)
        .iter()
        .map(|death| {
            format!(
                "{:?} {:?} {:?}",
                death.get("queue").unwrap(),
                death.get("count").unwrap(),
                death.get("time").unwrap()
            )
        })
        .collect::<Vec<_>>();
    // The time is that of the first.
    assert_eq!(shown, [r#""b" 3 @0"#, r#""a" 3 @0"#]);
    assert_eq!(header(&message, "x-first-death-queue").unwrap(), r#""a""#);
    assert_eq!(header(&message, "x-last-death-queue").unwrap(), r#""b""#);
}

#[test]
fn what_goes_round_by_itself_is_dropped() {
    let mut scene = Scene::new();
    let next = |queue: &'static str| {
        [
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(queue)),
            ("x-message-ttl", 10_i32.into()),
        ]
    };
    scene.queue_with("a", &next("b"));
    scene.queue_with("b", &next("a"));
    scene.publish("", "a", "m");
    scene.pass(10);
    assert_eq!(scene.bodies("b"), ["m"]);
    scene.pass(20);
    assert_eq!(scene.bodies("a"), [""; 0]);
    assert_eq!(scene.host.memory(), 0);

    // A rejection in between makes it none of the broker's business.
    scene.publish("", "a", "n");
    scene.pass(30);
    reject(&mut scene, "b");
    assert_eq!(scene.bodies("a"), ["n"]);
    scene.pass(40);
    assert_eq!(scene.bodies("b"), ["n"]);
    // Nothing was rejected since it was in `a`.
    scene.pass(50);
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn only_3_10_believes_a_clients_own_deaths() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue("dead");
        scene.queue_with("q", &to_dead(&[("x-message-ttl", 10_i32.into())]));
        let was = table(&[
            ("queue", text("dead")),
            ("reason", text("expired")),
            ("count", 5_i64.into()),
        ]);
        let mut all = FieldArray::new();
        all.push(&was).unwrap();
        let headers = table(&[("x-death", (&all).into())]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        scene.publish_with("", "q", "m", &properties).unwrap();
        scene.pass(10);
        let arrived = scene.host.queue_len(b"dead").unwrap();
        assert_eq!(arrived, usize::from(release == Release::V4));
    }
}

#[test]
fn x_death_that_is_no_array_begins_anew() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue("dead");
        scene.queue_with("q", &DEAD);
        let headers = table(&[("x-death", text("zz"))]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        scene.publish_with("", "q", "m", &properties).unwrap();
        reject(&mut scene, "q");
        assert_eq!(deaths(&scene.head("dead")).len(), 1);
    }
}

#[test]
fn dead_letters_go_the_way_of_all_messages() {
    let mut scene = Scene::new();
    scene
        .try_exchange(&ExchangeDeclare {
            exchange: short("dlx"),
            exchange_type: short("fanout"),
            internal: true,
            ..Default::default()
        })
        .unwrap();
    scene.queue("one");
    scene.queue_with("two", &[("x-max-length", 1_i32.into())]);
    scene.bind("one", "dlx", "");
    scene.bind("two", "dlx", "");
    scene.queue_with("q", &[("x-dead-letter-exchange", text("dlx"))]);
    scene.consume("one", "c");
    for body in ["a", "b"] {
        scene.publish("", "q", body);
    }
    reject(&mut scene, "q");
    reject(&mut scene, "q");
    assert_eq!(scene.dispatch(&mut FakeSink::default()), ["c:a", "c:b"]);
    assert_eq!(scene.bodies("two"), ["b"]);
}

#[test]
fn a_quorum_queue_counts_deliveries_and_gives_up() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue("dead");
        let quorum = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", 2_i32.into()),
        ];
        scene.queue_with("q", &to_dead(&quorum));
        scene.publish("", "q", "m");
        for deliveries in 0..3 {
            let entry = scene.get("q").unwrap();
            assert_eq!(entry.deliveries, deliveries);
            let is_4 = release == Release::V4;
            let shown = (deliveries > 0 || !is_4).then(|| deliveries.to_string());
            assert_eq!(header(&entry.message, "x-delivery-count"), shown);
            let shown = shown.filter(|_| is_4);
            assert_eq!(header(&entry.message, "x-acquired-count"), shown);
            scene.host.requeue(vec![entry], at(0));
        }
        assert_eq!(scene.bodies("q"), [""; 0]);
        let dead = scene.head("dead");
        assert_eq!(
            header(&dead, "x-first-death-reason").unwrap(),
            r#""delivery_limit""#
        );
        for key in ["x-delivery-count", "x-acquired-count"] {
            assert_eq!(header(&dead, key), None, "that was the queue's own");
        }
        assert_eq!(scene.host.queue_len(b"dead"), Some(1));
    }
}

#[test]
fn consumers_of_a_quorum_queue_see_the_count_too() {
    for release in [Release::V3_10, Release::V4] {
        let mut scene = Scene::of(release);
        scene.queue_with("q", &[("x-queue-type", text("quorum"))]);
        scene.consume("q", "c");
        scene.publish("", "q", "m");
        let mut sink = FakeSink::default();
        scene.host.dispatch(at(0), &mut sink);
        let entries = sink.take_entries();
        assert_eq!(header(&entries[0].message, "x-delivery-count"), None);
        scene.host.requeue(entries, at(0));
        scene.host.dispatch(at(0), &mut sink);
        let entries = sink.take_entries();
        assert_eq!(header(&entries[0].message, "x-delivery-count").unwrap(), "1");
    }
}

#[test]
fn the_delivery_limit_is_20_since_4_and_none_before_or_in_classic_queues() {
    let quorum = [("x-queue-type", text("quorum"))];
    let unlimited = [quorum[0], ("x-delivery-limit", FieldValue::I32(-1))];
    for (release, arguments, survives) in [
        (Release::V4, &quorum[..], 20),
        (Release::V3_10, &quorum[..], 100),
        (Release::V4, &unlimited[..], 100),
        (Release::V4, &[], 100),
    ] {
        let mut scene = Scene::of(release);
        scene.queue_with("q", arguments);
        scene.publish("", "q", "m");
        let mut requeued = 0;
        while requeued < 100 && scene.host.queue_len(b"q") == Some(1) {
            let entry = scene.get("q").unwrap();
            scene.host.requeue(vec![entry], at(0));
            requeued += usize::from(scene.host.queue_len(b"q") == Some(1));
        }
        assert_eq!(requeued, survives, "{release:?} {arguments:?}");
    }
}

#[test]
fn full_queues_that_lead_to_each_other_come_to_an_end() {
    let mut scene = Scene::new();
    scene.exchange("dlx", "fanout");
    for name in 0..12 {
        let name = name.to_string();
        let arguments = [
            ("x-max-length", 0_i32.into()),
            ("x-dead-letter-exchange", text("dlx")),
        ];
        scene.queue_with(&name, &arguments);
        scene.bind(&name, "dlx", "");
    }
    assert_eq!(scene.publish("dlx", "", "m").queues, 12);
    assert_eq!(scene.host.memory(), 0);
}
