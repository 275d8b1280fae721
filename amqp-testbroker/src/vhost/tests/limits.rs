use super::*;

fn to_dead<'a>(more: &[(&'a str, FieldValue<'a>)]) -> Vec<(&'a str, FieldValue<'a>)> {
    let mut arguments = more.to_vec();
    arguments.push(("x-dead-letter-exchange", text("")));
    arguments.push(("x-dead-letter-routing-key", text("dead")));
    arguments
}

#[test]
fn a_full_queue_drops_its_head_to_the_dead_letters() {
    let mut scene = Scene::new();
    scene.queue("dead");
    scene.queue_with("q", &to_dead(&[("x-max-length", 2_i32.into())]));
    for body in ["a", "b", "c", "d"] {
        assert!(!scene.publish("", "q", body).is_rejected);
    }
    assert_eq!(scene.bodies("q"), ["c", "d"]);
    assert_eq!(scene.bodies("dead"), ["a", "b"]);
    assert_eq!(
        header(&scene.head("dead"), "x-first-death-reason").unwrap(),
        r#""maxlen""#
    );
}

#[test]
fn octets_are_counted_too() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-max-length-bytes", 4_i32.into())]);
    for body in ["aa", "bb", "c", "", "too long"] {
        scene.publish("", "q", body);
        let octets: usize = scene.bodies("q").iter().map(String::len).sum();
        assert!(octets <= 4);
        assert!(body == "too long" || scene.bodies("q").contains(&body.to_owned()));
    }
    assert_eq!(scene.bodies("q"), [""; 0]);
}

#[test]
fn what_is_unsettled_does_not_count_for_the_length() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-max-length", 1_i32.into())]);
    scene.publish("", "q", "a");
    let a = scene.get("q").unwrap();
    scene.publish("", "q", "b");
    assert_eq!(scene.bodies("q"), ["b"]);
    scene.host.requeue(vec![a], at(0));
    assert_eq!(scene.bodies("q"), ["b"]);
}

#[test]
fn a_full_queue_rejects_if_it_is_to() {
    for (overflow, dead) in [("reject-publish", &[][..]), ("reject-publish-dlx", &["b"])] {
        let mut scene = Scene::new();
        scene.queue("dead");
        scene.queue("other");
        let arguments = [("x-max-length", 1_i32.into()), ("x-overflow", text(overflow))];
        scene.queue_with("q", &to_dead(&arguments));
        scene.bind("q", "amq.fanout", "");
        scene.bind("other", "amq.fanout", "");
        assert_eq!(
            scene.publish("amq.fanout", "", "a"),
            Published {
                queues: 2,
                is_rejected: false
            }
        );
        assert_eq!(
            scene.publish("amq.fanout", "", "b"),
            Published {
                queues: 2,
                is_rejected: true
            }
        );
        assert_eq!(scene.bodies("q"), ["a"]);
        assert_eq!(scene.bodies("other"), ["a", "b"]);
        assert_eq!(scene.bodies("dead"), dead);
    }
}

#[test]
fn a_queue_that_rejects_counts_octets_too() {
    let mut scene = Scene::new();
    scene.queue_with(
        "q",
        &[
            ("x-max-length-bytes", 4_i32.into()),
            ("x-overflow", text("reject-publish")),
        ],
    );
    assert!(!scene.publish("", "q", "aaaa").is_rejected);
    assert!(scene.publish("", "q", "b").is_rejected);
    assert!(!scene.publish("", "q", "").is_rejected);
    scene.get("q").unwrap();
    assert!(!scene.publish("", "q", "bbbb").is_rejected);
}

#[test]
fn who_has_room_gets_a_message_before_it_is_too_much() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-max-length", 1_i32.into())]);
    scene.consume("q", "c");
    for body in ["a", "b", "c", "d"] {
        scene.publish("", "q", body);
    }
    assert_eq!(
        scene.dispatch(&mut FakeSink::with_room(&[("c", 2)])),
        ["c:a", "c:b"]
    );
    assert_eq!(scene.bodies("q"), ["d"]);
}

#[test]
fn the_length_is_kept_when_the_last_consumer_goes() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-max-length", 1_i32.into())]);
    scene.consume("q", "c");
    scene.publish("", "q", "a");
    scene.publish("", "q", "b");
    scene.host.cancel(b"q", &key("c"), at(0));
    assert_eq!(scene.bodies("q"), ["b"]);
}

#[test]
fn memory_is_what_is_held_and_given_back() {
    let mut scene = Scene::new();
    for queue in ["a", "b"] {
        scene.queue(queue);
        scene.bind(queue, "amq.fanout", "");
    }
    scene.publish("amq.fanout", "", "");
    let empty = scene.host.memory();
    assert!(empty > 0, "an empty message is not free");
    scene.publish("amq.fanout", "", &"x".repeat(1000));
    assert_eq!(scene.host.memory(), 2 * empty + 2000, "it is in two queues");
    let [first, second] = [(); 2].map(|()| scene.get("a").unwrap());
    assert_eq!(
        scene.host.memory(),
        2 * empty + 2000,
        "it counts until it is settled"
    );
    scene.host.acknowledge(second, at(0));
    assert_eq!(scene.host.memory(), empty + empty / 2 + 1000);
    scene.host.reject(first, at(0));
    assert_eq!(scene.host.purge(b"b", ME, at(0)), Ok(2));
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn headers_are_memory_too() {
    let mut scene = Scene::new();
    scene.queue("q");
    let long = "x".repeat(1000);
    let headers = table(&[("a", text(&long))]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    scene.publish_with("", "q", "", &properties).unwrap();
    assert!(scene.host.memory() > 1000);
}

#[test]
fn a_restart_leaves_what_is_durable_and_persistent() {
    let mut scene = Scene::of(Release::V3_10);
    let persistent = Properties {
        delivery_mode: Some(Properties::PERSISTENT),
        expiration: Some(short("500")),
        ..Default::default()
    };
    let transient_queue = QueueDeclare {
        queue: short("transient"),
        ..Default::default()
    };
    let exclusive_queue = QueueDeclare {
        queue: short("exclusive"),
        durable: true,
        exclusive: true,
        ..Default::default()
    };
    scene.try_queue(&transient_queue).unwrap();
    scene.try_queue(&exclusive_queue).unwrap();
    scene.queue_with("durable", &[("x-max-length-bytes", 6_i32.into())]);
    scene.queue_with("quorum", &[("x-queue-type", text("quorum"))]);
    scene.exchange("x", "fanout");
    scene
        .try_exchange(&ExchangeDeclare {
            exchange: short("y"),
            durable: true,
            ..Default::default()
        })
        .unwrap();
    scene.bind("durable", "y", "k");
    scene.bind("transient", "y", "k");
    scene.bind_exchange("x", "y", "k").unwrap();
    for queue in ["transient", "durable", "quorum"] {
        scene.publish_with("", queue, "pers", &persistent).unwrap();
        scene.publish("", queue, "t");
    }
    scene.consume("durable", "c");

    scene.host.restart();
    assert_eq!(
        scene.host.queue_names().collect::<Vec<_>>(),
        ["durable", "quorum"]
    );
    assert_eq!(scene.bodies("durable"), ["pers"]);
    assert_eq!(scene.bodies("quorum"), ["pers", "t"]);
    assert_eq!(scene.host.consumer_count(b"durable"), Some(0));
    assert_eq!(scene.host.next_deadline(), Some(at(500)));
    assert_eq!(scene.host.take_cancelled(), []);
    let missing = scene.publish_with("x", "", "", &Properties::default());
    assert_eq!(refused(missing).0, 404);
    // What is left works on: the binding, the length in octets, the deadline.
    assert_eq!(scene.publish("y", "k", "n").queues, 1);
    assert_eq!(scene.bodies("durable"), ["pers", "n"]);
    scene.pass(500);
    assert_eq!(scene.bodies("durable"), ["n"]);
    scene.host.purge(b"durable", ME, at(500)).unwrap();
    scene.host.purge(b"quorum", ME, at(500)).unwrap();
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn a_restart_keeps_the_predeclared_exchanges() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.bind("q", "amq.topic", "#");
    scene.host.restart();
    assert_eq!(scene.publish("amq.topic", "a", "m").queues, 1);
    assert_eq!(scene.publish("", "q", "m").queues, 1);
}
