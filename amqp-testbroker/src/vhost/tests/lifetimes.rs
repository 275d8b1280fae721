use super::*;
use crate::vhost::expiration;

fn expiring(text: &str) -> Properties<'_> {
    Properties {
        expiration: Some(short(text)),
        ..Default::default()
    }
}

#[test]
fn the_shorter_of_both_times_to_live_counts() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-message-ttl", 100_i32.into())]);
    scene.publish_with("", "q", "short", &expiring("50")).unwrap();
    scene.publish_with("", "q", "long", &expiring("500")).unwrap();
    scene.publish("", "q", "own");
    assert_eq!(scene.host.next_deadline(), Some(at(50)));
    scene.pass(49);
    assert_eq!(scene.bodies("q").len(), 3);
    scene.pass(50);
    assert_eq!(scene.bodies("q"), ["long", "own"]);
    assert_eq!(scene.host.next_deadline(), Some(at(100)));
    scene.pass(100);
    assert_eq!(scene.bodies("q"), [""; 0]);
    assert_eq!(scene.host.next_deadline(), None);
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn a_message_expires_at_the_head_only() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish_with("", "q", "long", &expiring("500")).unwrap();
    scene.publish_with("", "q", "short", &expiring("50")).unwrap();
    scene.publish("", "q", "for ever");
    scene.pass(499);
    assert_eq!(scene.bodies("q"), ["long", "short", "for ever"]);
    scene.pass(500);
    assert_eq!(scene.bodies("q"), ["for ever"]);
}

#[test]
fn a_message_that_comes_to_the_head_too_late_goes() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish("", "q", "first");
    scene.publish_with("", "q", "late", &expiring("50")).unwrap();
    scene.publish("", "q", "last");
    scene.pass(60);
    let (entry, left) = scene.host.get(b"q", ME, at(60)).unwrap().unwrap();
    assert_eq!((body(&entry.message).as_str(), left), ("first", 1));
    assert_eq!(scene.bodies("q"), ["last"]);
    scene.host.requeue(vec![entry], at(60));
    assert_eq!(scene.bodies("q"), ["first", "last"]);
}

#[test]
fn an_expired_message_is_dead_lettered() {
    let mut scene = Scene::new();
    scene.queue("dead");
    scene.queue_with(
        "q",
        &[
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ],
    );
    scene.publish_with("", "q", "m", &expiring("50")).unwrap();
    scene.pass(50);
    assert_eq!(scene.bodies("dead"), ["m"]);
    assert_eq!(
        header(&scene.head("dead"), "x-first-death-reason").unwrap(),
        r#""expired""#
    );
    // It has no time to live any more.
    assert_eq!(scene.host.next_deadline(), None);
}

#[test]
fn no_time_to_live_is_time_enough_for_who_has_room() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish_with("", "q", "nobody", &expiring("0")).unwrap();
    assert_eq!(scene.bodies("q"), [""; 0]);
    scene.consume("q", "c");
    scene.publish_with("", "q", "somebody", &expiring("0")).unwrap();
    assert_eq!(scene.dispatch(&mut FakeSink::default()), ["c:somebody"]);
    scene.publish_with("", "q", "busy", &expiring("0")).unwrap();
    assert_eq!(scene.dispatch(&mut FakeSink::with_room(&[("c", 0)])), [""; 0]);
    assert_eq!(scene.bodies("q"), [""; 0]);
}

#[test]
fn what_is_too_old_is_not_dispatched() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish("", "q", "first");
    scene.publish_with("", "q", "late", &expiring("50")).unwrap();
    scene.consume("q", "c");
    scene.now = at(60);
    assert_eq!(scene.dispatch(&mut FakeSink::default()), ["c:first"]);
    assert_eq!(scene.bodies("q"), [""; 0]);
}

#[test]
fn what_is_requeued_has_no_more_time_than_before() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish_with("", "q", "m", &expiring("50")).unwrap();
    let entry = scene.get("q").unwrap();
    assert_eq!(scene.host.next_deadline(), None);
    scene.pass(30);
    scene.host.requeue(vec![entry], at(30));
    assert_eq!(scene.host.next_deadline(), Some(at(50)));
    let entry = scene.get("q").unwrap();
    scene.host.requeue(vec![entry], at(70));
    assert_eq!(scene.bodies("q"), [""; 0]);
}

#[test]
fn a_queue_goes_when_nobody_uses_it() {
    let mut scene = Scene::new();
    scene.queue_with("q", &[("x-expires", 100_i32.into())]);
    scene.publish("", "q", "m");
    assert_eq!(scene.host.next_deadline(), Some(at(100)));
    scene.pass(90);
    scene.passive("q").unwrap();
    assert_eq!(scene.host.next_deadline(), Some(at(190)));
    scene.pass(150);
    assert!(scene.get("q").is_some());
    assert_eq!(scene.host.next_deadline(), Some(at(250)));
    scene.pass(200);
    scene.consume("q", "c");
    assert_eq!(scene.host.next_deadline(), None);
    scene.pass(1000);
    scene.host.cancel(b"q", &key("c"), at(1000));
    assert_eq!(scene.host.next_deadline(), Some(at(1100)));
    scene.pass(1099);
    assert_eq!(scene.host.queue_len(b"q"), Some(0));
    scene.pass(1100);
    assert_eq!(scene.host.queue_len(b"q"), None);
    assert_eq!(scene.host.next_deadline(), None);
}

#[test]
fn a_queue_that_goes_for_want_of_use_takes_its_messages_with_it() {
    let mut scene = Scene::new();
    scene.queue("dead");
    scene.queue_with(
        "q",
        &[
            ("x-expires", 100_i32.into()),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("dead")),
        ],
    );
    scene.publish("", "q", "m");
    scene.pass(100);
    assert_eq!(scene.host.queue_len(b"q"), None);
    assert_eq!(scene.bodies("dead"), [""; 0]);
    assert_eq!(scene.host.memory(), 0);
}

#[test]
fn a_deleted_or_purged_queue_has_no_deadline() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.publish_with("", "q", "m", &expiring("50")).unwrap();
    scene.host.purge(b"q", ME, at(0)).unwrap();
    assert_eq!(scene.host.next_deadline(), None);
    scene.publish_with("", "q", "m", &expiring("50")).unwrap();
    scene.delete_queue("q").unwrap();
    assert_eq!(scene.host.next_deadline(), None);
}

#[test]
fn an_expiration_is_milliseconds_in_digits() {
    for (text, millis) in [
        ("0", 0),
        ("5", 5),
        ("+5", 5),
        ("007", 7),
        ("-0", 0),
        ("315360000000", 315_360_000_000),
    ] {
        assert_eq!(expiration(text.as_bytes()), Ok(Duration::from_millis(millis)));
    }
    let huge = "9".repeat(200);
    for (text, why) in [
        ("", "no_integer".to_owned()),
        ("x", "no_integer".to_owned()),
        ("-", "no_integer".to_owned()),
        ("12x", "{leftover_string,\"x\"}".to_owned()),
        ("1.5", "{leftover_string,\".5\"}".to_owned()),
        ("-12", "{value_negative,-12}".to_owned()),
        ("315360000001", "{value_too_large,315360000001}".to_owned()),
        (&huge, format!("{{value_too_large,{huge}}}")),
    ] {
        assert_eq!(
            refused(expiration(text.as_bytes())),
            (
                406,
                format!("PRECONDITION_FAILED - invalid expiration '{text}': {why}")
            )
        );
    }
}
