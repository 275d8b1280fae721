//! Which queues a message gets to.

use amqp_proto::wire::*;

use crate::session::{Session, args, auto_delete, publish, short};
use crate::world::World;

/// Declares an exchange and a queue bound with each of these keys; the names of both.
fn bound(world: &World, session: &mut Session, exchange_type: &str, keys: &[&str]) -> (String, String) {
    let (exchange, queue) = (world.name("x"), world.name("q"));
    session.exchange(&exchange, exchange_type);
    session.queue(&queue);
    for key in keys {
        session.bind(&queue, &exchange, key);
    }
    (exchange, queue)
}

/// Publishes with each of these keys; those that got through.
#[track_caller]
fn through(session: &mut Session, exchange: &str, queue: &str, keys: &[&str]) -> Vec<String> {
    for key in keys {
        session.publish(exchange, key, key);
    }
    session.drain(queue)
}

pub(crate) fn direct_matches_the_whole_key(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "direct", &["key"]);
    let keys = ["key", "ke", "key.", "KEY", ""];
    assert_eq!(through(&mut session, &exchange, &queue, &keys), ["key"]);
    session.close();
}

pub(crate) fn a_queue_bound_twice_gets_one_copy(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["a.*", "*.b", "#", "a.b"]);
    assert_eq!(through(&mut session, &exchange, &queue, &["a.b"]), ["a.b"]);
    session.close();
}

pub(crate) fn every_bound_queue_gets_a_copy(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "direct", &["k"]);
    let other = world.name("q");
    session.queue(&other);
    session.bind(&other, &exchange, "k");
    session.publish(&exchange, "k", "m");
    assert_eq!(session.drain(&queue), ["m"]);
    assert_eq!(session.drain(&other), ["m"]);
    session.close();
}

pub(crate) fn the_default_exchange_routes_by_queue_name(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    session.put(&queue, "m");
    let got = session.take(&queue).unwrap();
    assert_eq!(
        got.to_string(),
        format!(r#"ch 1 basic.get-ok delivery_tag=1 exchange="" routing_key="{queue}" message_count=0 "m""#)
    );
    session.close();
}

pub(crate) fn fanout_ignores_keys(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "fanout", &["key"]);
    let keys = ["key", "other", ""];
    assert_eq!(through(&mut session, &exchange, &queue, &keys), keys);
    session.close();
}

pub(crate) fn topic_star_is_one_word(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["*.orange.*"]);
    let keys = ["a.orange.b", "orange", "a.orange", "a.orange.b.c", ".orange.", "a.ORANGE.b", "*.orange.*"];
    assert_eq!(
        through(&mut session, &exchange, &queue, &keys),
        ["a.orange.b", ".orange.", "*.orange.*"]
    );
    session.close();
}

pub(crate) fn topic_hash_is_any_number_of_words(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["a.#.z"]);
    let keys = ["a.z", "a.b.z", "a.b.c.z", "a..z", "a", "z", "a.b", "az", "a.z.z", "a.a.z"];
    assert_eq!(
        through(&mut session, &exchange, &queue, &keys),
        ["a.z", "a.b.z", "a.b.c.z", "a..z", "a.z.z", "a.a.z"]
    );
    session.close();
}

pub(crate) fn topic_hash_alone_takes_all(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["#"]);
    let keys = ["", ".", "a", "a.b.c"];
    assert_eq!(through(&mut session, &exchange, &queue, &keys), keys);
    session.close();
}

pub(crate) fn topic_words_may_be_empty(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["*.*"]);
    let keys = ["", "a", ".", "a.", ".b", "..", "a.b"];
    assert_eq!(
        through(&mut session, &exchange, &queue, &keys),
        [".", "a.", ".b", "a.b"]
    );
    session.close();
}

pub(crate) fn topic_star_does_not_take_the_empty_key(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["*"]);
    assert_eq!(
        through(&mut session, &exchange, &queue, &["", "a", "a.b"]),
        ["a"]
    );
    let (exchange, queue) = bound(world, &mut session, "topic", &[""]);
    assert_eq!(through(&mut session, &exchange, &queue, &["", "a", "."]), [""]);
    session.close();
}

pub(crate) fn topic_wildcards_are_whole_words(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["a*.#b"]);
    let keys = ["ab.cb", "a*.#b", "a.b"];
    assert_eq!(through(&mut session, &exchange, &queue, &keys), ["a*.#b"]);
    session.close();
}

pub(crate) fn topic_two_hashes(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "topic", &["#.x.#", "*.#.y"]);
    let keys = ["x", "a.x", "x.a", "a.x.b", "a", "y", "a.y", "a.b.y"];
    assert_eq!(
        through(&mut session, &exchange, &queue, &keys),
        ["x", "a.x", "x.a", "a.x.b", "a.y", "a.b.y"]
    );
    session.close();
}

/// A headers exchange with one binding; the bodies of what gets through it.
#[track_caller]
fn through_headers<const B: usize>(
    world: &World,
    binding: [(&str, FieldValue<'_>); B],
    messages: &[(&str, FieldTable)],
) -> Vec<String> {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "headers", &[]);
    let arguments = args(binding);
    session.call(&QueueBind {
        queue: short(&queue),
        exchange: short(&exchange),
        arguments: arguments.as_ref(),
        ..Default::default()
    });
    for (body, headers) in messages {
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        session.publish_with(&publish(&exchange, ""), &properties, body);
    }
    session.publish(&exchange, "", "no headers");
    let bodies = session.drain(&queue);
    session.close();
    bodies
}

fn header_messages() -> [(&'static str, FieldTable); 5] {
    [
        ("both", args([("a", 1.into()), ("b", "two".into())])),
        ("more", args([("a", 1.into()), ("b", "two".into()), ("c", 3.into())])),
        ("one", args([("a", 1.into())])),
        ("other value", args([("a", 2.into()), ("b", "two".into())])),
        ("neither", args([("c", 3.into())])),
    ]
}

pub(crate) fn headers_all_is_the_default(world: &World) {
    let binding = [("a", 1.into()), ("b", "two".into())];
    assert_eq!(
        through_headers(world, binding, &header_messages()),
        ["both", "more"]
    );
}

pub(crate) fn headers_all(world: &World) {
    let binding = [("x-match", "all".into()), ("a", 1.into()), ("b", "two".into())];
    assert_eq!(
        through_headers(world, binding, &header_messages()),
        ["both", "more"]
    );
}

pub(crate) fn headers_any(world: &World) {
    let binding = [("x-match", "any".into()), ("a", 1.into()), ("b", "two".into())];
    assert_eq!(
        through_headers(world, binding, &header_messages()),
        ["both", "more", "one", "other value"]
    );
}

fn x_messages() -> [(&'static str, FieldTable); 3] {
    [
        ("both", args([("a", 1.into()), ("x-b", 2.into())])),
        ("without x", args([("a", 1.into())])),
        ("only x", args([("x-b", 2.into())])),
    ]
}

pub(crate) fn headers_all_ignores_what_begins_with_x(world: &World) {
    let binding = [("x-match", "all".into()), ("a", 1.into()), ("x-b", 2.into())];
    assert_eq!(
        through_headers(world, binding, &x_messages()),
        ["both", "without x"]
    );
}

pub(crate) fn headers_any_ignores_what_begins_with_x(world: &World) {
    let binding = [("x-match", "any".into()), ("a", 1.into()), ("x-b", 2.into())];
    assert_eq!(
        through_headers(world, binding, &x_messages()),
        ["both", "without x"]
    );
}

pub(crate) fn headers_all_with_x(world: &World) {
    let binding = [("x-match", "all-with-x".into()), ("a", 1.into()), ("x-b", 2.into())];
    assert_eq!(through_headers(world, binding, &x_messages()), ["both"]);
}

pub(crate) fn headers_any_with_x(world: &World) {
    let binding = [("x-match", "any-with-x".into()), ("a", 1.into()), ("x-b", 2.into())];
    assert_eq!(
        through_headers(world, binding, &x_messages()),
        ["both", "without x", "only x"]
    );
}

pub(crate) fn headers_without_a_value_ask_only_for_the_name(world: &World) {
    let binding = [("a", FieldValue::Void)];
    let messages = [
        ("one", args([("a", 1.into())])),
        ("text", args([("a", "t".into())])),
        ("none", args([("b", 1.into())])),
    ];
    assert_eq!(through_headers(world, binding, &messages), ["one", "text"]);
}

pub(crate) fn headers_compare_values_whatever_their_integer_type(world: &World) {
    let binding = [("a", FieldValue::I64(1))];
    let messages = [
        ("i8", args([("a", FieldValue::I8(1))])),
        ("i32", args([("a", FieldValue::I32(1))])),
        ("text", args([("a", "1".into())])),
    ];
    let seen = through_headers(world, binding, &messages);
    assert_eq!(seen, ["i8", "i32"]);
}

pub(crate) fn headers_of_an_empty_binding(world: &World) {
    assert_eq!(
        through_headers(world, [("x-match", "all".into())], &header_messages()[..1]),
        ["both", "no headers"]
    );
    assert_eq!(
        through_headers(world, [("x-match", "any".into())], &header_messages()[..1]),
        [""; 0]
    );
}

pub(crate) fn headers_of_an_unknown_x_match(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "headers", &["keeps it"]);
    let arguments = args([("x-match", "some".into())]);
    let bind = QueueBind {
        queue: short(&queue),
        exchange: short(&exchange),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    let text = "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or \
                any-with-x";
    session.refused(&bind, 406, text);
    let arguments = args([("x-match", 1.into())]);
    let bind = QueueBind {
        arguments: arguments.as_ref(),
        ..bind
    };
    session.refused(
        &bind,
        406,
        "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr",
    );
    session.close();
}

pub(crate) fn an_alternate_exchange_gets_what_is_not_routed(world: &World) {
    let mut session = world.connect();
    let (alternate, rest) = bound(world, &mut session, "fanout", &[""]);
    let (exchange, queue) = (world.name("x"), world.name("q"));
    let arguments = args([("alternate-exchange", alternate.as_str().into())]);
    session.call(&ExchangeDeclare {
        arguments: arguments.as_ref(),
        ..auto_delete(&exchange, "direct")
    });
    session.queue(&queue);
    session.bind(&queue, &exchange, "k");
    session.publish(&exchange, "k", "routed");
    session.publish(&exchange, "other", "not routed");
    assert_eq!(session.drain(&queue), ["routed"]);
    let got = session.take(&rest).unwrap();
    assert_eq!(
        got.to_string(),
        format!(r#"ch 1 basic.get-ok delivery_tag=2 exchange="{exchange}" routing_key="other" message_count=0 "not routed""#)
    );
    session.close();
}

pub(crate) fn an_alternate_exchange_counts_for_mandatory(world: &World) {
    let mut session = world.connect();
    let (alternate, rest) = bound(world, &mut session, "direct", &["k"]);
    let (exchange, queue) = (world.name("x"), world.name("q"));
    let arguments = args([("alternate-exchange", alternate.as_str().into())]);
    session.call(&ExchangeDeclare {
        arguments: arguments.as_ref(),
        ..auto_delete(&exchange, "direct")
    });
    session.queue(&queue);
    session.bind(&queue, &exchange, "only this");
    for key in ["k", "nowhere"] {
        let mandatory = BasicPublish {
            mandatory: true,
            ..publish(&exchange, key)
        };
        session.publish_with(&mandatory, &Properties::default(), key);
    }
    session.expect(&format!(
        r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="{exchange}" routing_key="nowhere" "nowhere""#
    ));
    assert_eq!(session.drain(&rest), ["k"]);
    session.close();
}

pub(crate) fn an_alternate_exchange_that_is_not_there_is_none(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = (world.name("x"), world.name("q"));
    let missing = world.name("missing");
    let arguments = args([("alternate-exchange", missing.as_str().into())]);
    session.call(&ExchangeDeclare {
        arguments: arguments.as_ref(),
        ..auto_delete(&exchange, "direct")
    });
    session.queue(&queue);
    session.bind(&queue, &exchange, "k");
    session.publish(&exchange, "other", "lost");
    session.expect_nothing();
    session.close();
}

pub(crate) fn alternate_exchanges_in_a_circle_drop_the_message(world: &World) {
    let mut session = world.connect();
    let (one, two) = (world.lasting("x"), world.lasting("x"));
    for (exchange, alternate) in [(&one, &two), (&two, &one)] {
        let arguments = args([("alternate-exchange", alternate.as_str().into())]);
        session.call(&ExchangeDeclare {
            exchange: short(exchange),
            arguments: arguments.as_ref(),
            ..Default::default()
        });
    }
    let mandatory = BasicPublish {
        mandatory: true,
        ..publish(&one, "k")
    };
    session.publish_with(&mandatory, &Properties::default(), "m");
    session.expect(&format!(
        r#"ch 1 basic.return reply_code=312 NO_ROUTE reply_text="NO_ROUTE" exchange="{one}" routing_key="k" "m""#
    ));
    session.close();
}

fn bind_exchange(session: &mut Session, destination: &str, source: &str, key: &str) {
    session.call(&ExchangeBind {
        destination: short(destination),
        source: short(source),
        routing_key: short(key),
        ..Default::default()
    });
}

pub(crate) fn an_exchange_bound_to_an_exchange(world: &World) {
    let mut session = world.connect();
    let (target, queue) = bound(world, &mut session, "topic", &["#.x"]);
    let source = world.name("x");
    session.exchange(&source, "topic");
    bind_exchange(&mut session, &target, &source, "a.#");
    assert_eq!(
        through(&mut session, &source, &queue, &["a.x", "a.b", "b.x", "a.b.x"]),
        ["a.x", "a.b.x"]
    );
    session.publish(&source, "a.x", "m");
    // It keeps the exchange it was published to.
    let got = session.take(&queue).unwrap().to_string();
    assert!(got.contains(&format!(r#"exchange="{source}""#)), "{got}");
    session.call(&ExchangeUnbind {
        destination: short(&target),
        source: short(&source),
        routing_key: short("a.#"),
        ..Default::default()
    });
    // That was its last binding.
    let text = format!("NOT_FOUND - no exchange '{source}' in vhost '/'");
    session.publish(&source, "a.x", "m");
    session.expect_close(404, &text, BasicPublish::SPEC);
    session.close();
}

pub(crate) fn exchanges_bound_in_a_circle_route_once(world: &World) {
    let mut session = world.connect();
    let (one, first) = bound(world, &mut session, "fanout", &[""]);
    let (two, second) = bound(world, &mut session, "fanout", &[""]);
    bind_exchange(&mut session, &two, &one, "");
    bind_exchange(&mut session, &one, &two, "");
    bind_exchange(&mut session, &one, &one, "");
    session.publish(&one, "", "m");
    assert_eq!(session.drain(&first), ["m"]);
    assert_eq!(session.drain(&second), ["m"]);
    // Bound to each other, they would stay.
    session.call(&ExchangeDelete {
        exchange: short(&one),
        ..Default::default()
    });
    session.close();
}

pub(crate) fn the_alternate_of_a_bound_exchange_takes_what_that_does_not_route(world: &World) {
    let mut session = world.connect();
    let (alternate, rest) = bound(world, &mut session, "fanout", &[""]);
    let (source, target) = (world.name("x"), world.lasting("x"));
    session.exchange(&source, "fanout");
    let arguments = args([("alternate-exchange", alternate.as_str().into())]);
    session.call(&ExchangeDeclare {
        exchange: short(&target),
        arguments: arguments.as_ref(),
        ..Default::default()
    });
    bind_exchange(&mut session, &target, &source, "");
    session.publish(&source, "k", "m");
    assert_eq!(session.drain(&rest), ["m"]);
    session.close();
}

pub(crate) fn an_internal_exchange_refuses_publishes(world: &World) {
    let mut session = world.connect();
    let (internal, queue) = (world.lasting("x"), world.name("q"));
    session.call(&ExchangeDeclare {
        exchange: short(&internal),
        exchange_type: short("fanout"),
        internal: true,
        ..Default::default()
    });
    session.queue(&queue);
    session.bind(&queue, &internal, "");
    let source = world.name("x");
    session.exchange(&source, "fanout");
    bind_exchange(&mut session, &internal, &source, "");
    session.publish(&source, "", "through the other");
    assert_eq!(session.drain(&queue), ["through the other"]);
    session.publish(&internal, "", "not so");
    session.expect_close(
        403,
        &format!("ACCESS_REFUSED - cannot publish to internal exchange '{internal}' in vhost '/'"),
        BasicPublish::SPEC,
    );
    session.close();
}

/// Publishes with those headers to the default exchange.
fn publish_with_copies(session: &mut Session, key: &str, headers: &FieldTable) {
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    session.publish_with(&publish("", key), &properties, "m");
}

fn keys(queues: &[&str]) -> FieldArray {
    let mut array = FieldArray::new();
    for queue in queues {
        array.push(*queue).unwrap();
    }
    array
}

pub(crate) fn cc_and_bcc_are_further_keys(world: &World) {
    let mut session = world.connect();
    let queues = ["a", "b", "c"].map(|name| world.name(name));
    for queue in &queues {
        session.queue(queue);
    }
    let [to, cc, bcc] = &queues;
    let (copies, blind) = (keys(&[cc, to]), keys(&[bcc]));
    let headers = args([("CC", (&copies).into()), ("BCC", (&blind).into()), ("h", 1.into())]);
    publish_with_copies(&mut session, to, &headers);
    for queue in &queues {
        let got = session.take(queue).unwrap();
        assert!(got.to_string().contains(&format!(r#"routing_key="{to}""#)), "{got}");
        assert_eq!(got.header("BCC"), None);
        assert_eq!(got.header("CC"), Some((&copies).into()));
        assert_eq!(got.header("h"), Some(1.into()));
        assert_eq!(session.take(queue), None);
    }
    // Either does without the other.
    for (header, copy) in [("CC", cc), ("BCC", bcc)] {
        publish_with_copies(&mut session, to, &args([(header, (&keys(&[copy])).into())]));
        for queue in [to, copy] {
            assert!(session.take(queue).is_some(), "{header}");
        }
    }
    session.close();
}

pub(crate) fn cc_must_be_a_list(world: &World) {
    let mut session = world.connect();
    let queue = world.name("q");
    session.queue(&queue);
    publish_with_copies(&mut session, &queue, &args([("CC", "not a list".into())]));
    session.expect_close(
        406,
        r#"PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}"#,
        BasicPublish::SPEC,
    );
    session.close();
}

pub(crate) fn a_publish_to_no_exchange(world: &World) {
    let mut session = world.connect();
    let missing = world.name("x");
    session.publish(&missing, "k", "m");
    session.expect_close(
        404,
        &format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"),
        BasicPublish::SPEC,
    );
    session.close();
}

pub(crate) fn unbinding_ends_routing(world: &World) {
    let mut session = world.connect();
    let (exchange, queue) = bound(world, &mut session, "direct", &["a", "b"]);
    session.call(&QueueUnbind {
        queue: short(&queue),
        exchange: short(&exchange),
        routing_key: short("a"),
        ..Default::default()
    });
    assert_eq!(through(&mut session, &exchange, &queue, &["a", "b"]), ["b"]);
    session.close();
}
