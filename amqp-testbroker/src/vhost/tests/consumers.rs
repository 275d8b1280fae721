use super::*;

#[test]
fn consumers_take_turns() {
    let mut scene = Scene::new();
    scene.queue("q");
    for tag in ["a", "b", "c"] {
        scene.consume("q", tag);
    }
    for body in ["1", "2", "3", "4"] {
        scene.publish("", "q", body);
    }
    let mut sink = FakeSink::default();
    assert_eq!(scene.dispatch(&mut sink), ["a:1", "b:2", "c:3", "a:4"]);
    scene.publish("", "q", "5");
    assert_eq!(scene.dispatch(&mut sink), ["b:5"]);
    assert_eq!(scene.dispatch(&mut sink), [""; 0]);
}

#[test]
fn who_has_no_room_is_passed_over_and_comes_last_when_it_has() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.consume("q", "a");
    scene.consume("q", "b");
    for body in ["1", "2", "3", "4"] {
        scene.publish("", "q", body);
    }
    let mut sink = FakeSink::with_room(&[("a", 1), ("b", 2)]);
    assert_eq!(scene.dispatch(&mut sink), ["a:1", "b:2", "b:3"]);
    assert_eq!(scene.bodies("q"), ["4"]);
    // Nobody said that there is room.
    sink.room.insert(key("a"), 5);
    assert_eq!(scene.dispatch(&mut sink), [""; 0]);
    scene.host.note_room(b"q");
    assert_eq!(scene.dispatch(&mut sink), ["a:4"]);
    sink.room.insert(key("b"), 5);
    scene.publish("", "q", "5");
    scene.publish("", "q", "6");
    assert_eq!(scene.dispatch(&mut sink), ["a:5", "b:6"]);
}

#[test]
fn higher_priorities_go_first_while_they_have_room() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.consume("q", "low");
    for tag in ["high", "high too"] {
        scene
            .consume_with("q", tag, false, &[("x-priority", 5_i32.into())])
            .unwrap();
    }
    scene
        .consume_with("q", "lowest", false, &[("x-priority", FieldValue::I32(-1))])
        .unwrap();
    for body in ["1", "2", "3", "4", "5"] {
        scene.publish("", "q", body);
    }
    let mut sink = FakeSink::with_room(&[("high", 2), ("high too", 1), ("low", 1)]);
    assert_eq!(
        scene.dispatch(&mut sink),
        ["high:1", "high too:2", "high:3", "low:4", "lowest:5"]
    );
}

#[test]
fn arguments_of_consumers_are_checked() {
    let mut scene = Scene::new();
    scene.queue("q");
    assert_eq!(
        refused(scene.consume_with("q", "c", false, &[("x-priority", text("a"))])),
        (
            406,
            "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \
             \"expected integer, got longstr\""
                .into()
        )
    );
    assert_eq!(
        refused(scene.consume_with("q", "c", false, &[("x-stream-offset", text("first"))])),
        (
            406,
            "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/' \
             of queue type rabbit_classic_queue"
                .into()
        )
    );
    assert_eq!(scene.host.consumer_count(b"q"), Some(0));
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut scene = Scene::new();
    scene.queue("q");
    let in_use = (
        403,
        "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use".to_owned(),
    );
    scene.consume("q", "a");
    assert_eq!(refused(scene.consume_with("q", "b", true, &[])), in_use);
    scene.host.cancel(b"q", &key("a"), at(0));
    scene.consume_with("q", "b", true, &[]).unwrap();
    assert_eq!(refused(scene.consume_with("q", "c", false, &[])), in_use);
    scene.publish("", "q", "m");
    assert_eq!(scene.dispatch(&mut FakeSink::default()), ["b:m"]);
    scene.host.cancel(b"q", &key("b"), at(0));
    scene.consume("q", "c");
    scene.consume("q", "d");
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-single-active-consumer", true.into())]);
    for tag in ["a", "b", "c"] {
        scene.consume("q", tag);
    }
    assert_eq!(
        refused(scene.consume_with("q", "d", true, &[])),
        (
            403,
            "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use".into()
        )
    );
    let mut sink = FakeSink::with_room(&[("a", 2)]);
    for body in ["1", "2", "3"] {
        scene.publish("", "q", body);
    }
    // The others wait even if it has no room.
    assert_eq!(scene.dispatch(&mut sink), ["a:1", "a:2"]);
    scene.host.cancel(b"q", &key("b"), at(0));
    assert_eq!(scene.dispatch(&mut sink), [""; 0]);
    scene.host.cancel(b"q", &key("a"), at(0));
    assert_eq!(scene.dispatch(&mut sink), ["c:3"]);
}

#[test]
fn nothing_is_got_from_a_quorum_queue_with_a_single_active_consumer() {
    let mut scene = Scene::new();
    let quorum = ("x-queue-type", text("quorum"));
    scene.queue_with("q", &[quorum, ("x-single-active-consumer", true.into())]);
    assert_eq!(
        refused(scene.host.get(b"q", ME, at(0))),
        (
            405,
            "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are \
             not supported by quorum queues with single active consumer"
                .into()
        )
    );
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer_but_not_before_its_first() {
    let mut scene = Scene::new();
    let method = QueueDeclare {
        queue: short("q"),
        durable: true,
        auto_delete: true,
        ..Default::default()
    };
    scene.try_queue(&method).unwrap();
    scene.host.cancel(b"q", &key("nobody"), at(0));
    assert_eq!(scene.host.queue_len(b"q"), Some(0));
    scene.consume("q", "a");
    scene.consume("q", "b");
    scene.host.cancel(b"q", &key("a"), at(0));
    scene.host.cancel(b"q", &key("a"), at(0));
    assert_eq!(scene.host.consumer_count(b"q"), Some(1));
    scene.host.cancel(b"q", &key("b"), at(0));
    assert_eq!(scene.host.queue_len(b"q"), None);
    assert_eq!(scene.host.take_cancelled(), []);
}

#[test]
fn a_requeued_message_goes_to_who_has_room_and_says_that_it_was_delivered() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.consume("q", "a");
    scene.publish("", "q", "1");
    scene.publish("", "q", "2");
    let mut sink = FakeSink::with_room(&[("a", 1)]);
    scene.host.dispatch(at(0), &mut sink);
    let entries = sink.take_entries();
    assert_eq!(entries[0].deliveries, 0);
    sink.room.insert(key("a"), 2);
    scene.host.requeue(entries, at(0));
    scene.host.dispatch(at(0), &mut sink);
    let entries = sink.take_entries();
    let shown = entries
        .iter()
        .map(|entry| (body(&entry.message), entry.deliveries));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [("1".to_owned(), 1), ("2".to_owned(), 0)]
    );
}

#[test]
fn a_consumer_of_a_queue_with_messages_gets_them() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish("", "q", "before");
    scene.consume("q", "c");
    assert_eq!(scene.dispatch(&mut FakeSink::default()), ["c:before"]);
}
