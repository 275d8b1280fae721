use super::*;

#[test]
fn the_default_exchange_leads_to_the_queue_of_that_name() {
    let mut scene = Scene::new();
    scene.queue("q");
    let published = scene.publish("", "q", "m");
    assert_eq!((published.queues, published.is_rejected), (1, false));
    assert_eq!(scene.publish("", "other", "m").queues, 0);
    assert_eq!(scene.bodies("q"), ["m"]);
    assert_eq!(scene.head("q").exchange(), "");
    assert_eq!(scene.head("q").routing_key(), "q");
}

#[test]
fn each_type_reads_its_bindings_in_its_way() {
    for (kind, binding, key, expected) in [
        ("direct", "a", "a", 1),
        ("direct", "a", "b", 0),
        ("direct", "*", "b", 0),
        ("fanout", "a", "b", 1),
        ("topic", "a.*", "a.b", 1),
        ("topic", "a.*", "a", 0),
        ("topic", "a.#", "a", 1),
    ] {
        let mut scene = Scene::new();
        scene.exchange("x", kind);
        scene.queue("q");
        scene.bind("q", "x", binding);
        assert_eq!(
            scene.publish("x", key, "").queues,
            expected,
            "{kind} {binding} {key}"
        );
    }
}

#[test]
fn a_headers_exchange_reads_the_arguments() {
    let mut scene = Scene::new();
    scene.queue("all");
    scene.queue("any");
    let wanted = [("a", 1_i32.into()), ("b", 2_i32.into())];
    scene.bind_with("all", "amq.headers", "", &wanted).unwrap();
    let wanted = [("a", 1_i32.into()), ("b", 2_i32.into()), ("x-match", text("any"))];
    scene.bind_with("any", "amq.headers", "", &wanted).unwrap();
    let headers = table(&[("a", 1_i32.into())]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        ..Default::default()
    };
    scene.publish_with("amq.headers", "", "one", &properties).unwrap();
    scene.publish("amq.headers", "", "none");
    assert_eq!(scene.bodies("all"), [""; 0]);
    assert_eq!(scene.bodies("any"), ["one"]);
    let refusal = scene.bind_with("any", "amq.headers", "", &[("x-match", text("zz"))]);
    assert_eq!(refused(refusal).0, 406);
    // Elsewhere nobody looks.
    scene
        .bind_with("any", "amq.direct", "", &[("x-match", text("zz"))])
        .unwrap();
}

#[test]
fn a_queue_gets_a_message_once_however_often_it_is_bound() {
    let mut scene = Scene::new();
    scene.queue("q");
    for key in ["#", "a.*", "a.b", "a.b"] {
        scene.bind("q", "amq.topic", key);
    }
    assert_eq!(scene.publish("amq.topic", "a.b", "m").queues, 1);
    assert_eq!(scene.bodies("q"), ["m"]);
}

#[test]
fn binding_twice_is_binding_once_but_other_arguments_are_another_binding() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.bind("q", "amq.direct", "k");
    scene.bind("q", "amq.direct", "k");
    scene.unbind("q", "amq.direct", "k").unwrap();
    assert_eq!(scene.publish("amq.direct", "k", "").queues, 0);

    let arguments = [("b", 1_i32.into()), ("a", 2_i32.into())];
    scene.bind_with("q", "amq.direct", "k", &arguments).unwrap();
    scene.unbind("q", "amq.direct", "k").unwrap();
    assert_eq!(scene.publish("amq.direct", "k", "").queues, 1);
    // The order of the arguments is no difference.
    let turned = table(&[("a", 2_i32.into()), ("b", 1_i32.into())]);
    let method = QueueUnbind {
        queue: short("q"),
        exchange: short("amq.direct"),
        routing_key: short("k"),
        arguments: turned.as_ref(),
    };
    scene.host.unbind_queue(&method, ME, at(0)).unwrap();
    assert_eq!(scene.publish("amq.direct", "k", "").queues, 0);
}

#[test]
fn exchanges_lead_to_exchanges_even_in_circles() {
    let mut scene = Scene::new();
    scene.exchange("a", "fanout");
    scene.exchange("b", "direct");
    scene.queue("q");
    scene.bind_exchange("b", "a", "").unwrap();
    scene.bind_exchange("a", "b", "k").unwrap();
    scene.bind_exchange("a", "a", "").unwrap();
    scene.bind("q", "b", "k");
    assert_eq!(scene.publish("a", "k", "m").queues, 1);
    assert_eq!(scene.publish("b", "k", "n").queues, 1);
    assert_eq!(scene.publish("a", "other", "o").queues, 0);
    assert_eq!(scene.bodies("q"), ["m", "n"]);
    assert_eq!(scene.head("q").exchange(), "a");
    scene.unbind_exchange("b", "a", "").unwrap();
    assert_eq!(scene.publish("a", "k", "p").queues, 0);
}

#[test]
fn the_alternate_exchange_gets_what_matches_nothing() {
    let mut scene = Scene::new();
    scene.queue("q");
    scene.queue("rest");
    scene.exchange("rests", "fanout");
    scene.bind("rest", "rests", "");
    let arguments = table(&[("alternate-exchange", text("rests"))]);
    let method = ExchangeDeclare {
        exchange: short("x"),
        arguments: arguments.as_ref(),
        ..Default::default()
    };
    scene.try_exchange(&method).unwrap();
    scene.bind("q", "x", "k");
    scene.publish("x", "k", "matched");
    scene.publish("x", "other", "left");
    assert_eq!(scene.bodies("q"), ["matched"]);
    assert_eq!(scene.bodies("rest"), ["left"]);
    scene.delete_exchange("rests").unwrap();
    assert_eq!(scene.publish("x", "other", "lost").queues, 0);
}

#[test]
fn cc_and_bcc_are_keys_too_and_bcc_is_not_shown() {
    let mut scene = Scene::new();
    for queue in ["to", "open", "blind", "other"] {
        scene.queue(queue);
        scene.bind(queue, "amq.direct", queue);
    }
    let (open, blind) = (array(&["open", "to"]), array(&["blind"]));
    let headers = table(&[
        ("CC", (&open).into()),
        ("BCC", (&blind).into()),
        ("a", 1_i32.into()),
    ]);
    let properties = Properties {
        headers: Some(headers.as_ref()),
        message_id: Some(short("id")),
        ..Default::default()
    };
    for exchange in ["", "amq.direct"] {
        assert_eq!(
            scene
                .publish_with(exchange, "to", "m", &properties)
                .unwrap()
                .queues,
            3
        );
    }
    for queue in ["to", "open", "blind"] {
        assert_eq!(scene.bodies(queue), ["m", "m"]);
        let message = scene.head(queue);
        assert_eq!(message.routing_key(), "to");
        assert_eq!(message.properties().message_id, Some(short("id")));
        assert_eq!(header(&message, "CC").unwrap(), r#"["open", "to"]"#);
        assert_eq!(header(&message, "BCC"), None);
        assert_eq!(header(&message, "a").unwrap(), "1");
    }
    assert_eq!(scene.bodies("other"), [""; 0]);
}

#[test]
fn cc_that_is_no_array_is_refused() {
    let mut scene = Scene::new();
    for key in ["CC", "BCC"] {
        let headers = table(&[(key, text("x"))]);
        let properties = Properties {
            headers: Some(headers.as_ref()),
            ..Default::default()
        };
        assert_eq!(
            refused(scene.publish_with("", "q", "", &properties)),
            (
                406,
                format!(
                    "PRECONDITION_FAILED - invalid message: \
                     {{unacceptable_type_in_header,\"{key}\",longstr}}"
                )
            )
        );
    }
}
