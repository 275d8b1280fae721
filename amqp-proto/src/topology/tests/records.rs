//! What is recorded, what is taken out, what is renamed.

use super::*;

#[test]
fn a_plan_goes_from_exchanges_to_consumers_whatever_the_order_of_declaring() {
    let mut topology = Topology::default()
        .named("q2", false)
        .bound("q2", "x2", "k")
        .consuming(TWO, "q2", "t2")
        .exchange("x2", false)
        .exchange("x1", false)
        .exchange_to("x1", "x2")
        .named("q1", false)
        .limited(TWO, 7, true);
    topology.confirm_selected(ONE);
    assert_eq!(
        steps(&topology),
        [
            r#"exchange.declare exchange="x2" exchange_type="direct""#,
            r#"exchange.declare exchange="x1" exchange_type="direct""#,
            r#"exchange.bind destination="x2" source="x1" routing_key="""#,
            r#"queue.declare queue="q2""#,
            r#"queue.declare queue="q1""#,
            r#"queue.bind queue="q2" exchange="x2" routing_key="k""#,
            "channel.open",
            "confirm.select",
            "channel.open",
            "basic.qos prefetch_size=0 prefetch_count=7 global",
            r#"basic.consume queue="q2" consumer_tag="t2""#,
        ]
    );
    let plan = Plan::new(&topology);
    let channels: Vec<_> = plan.outcomes().map(|(step, _)| step.channel()).collect();
    let expected = [[None; 6].as_slice(), &[Some(ONE); 2], &[Some(TWO); 3]].concat();
    assert_eq!(channels, expected);
    assert_eq!(
        topology.channels().map(ChannelKey::number).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn everything_that_was_asked_for_is_asked_for_again_but_not_to_leave_out_the_answer() {
    let arguments = FieldTable::new().with("x-a", 1).unwrap();
    let mut topology = Topology::default();
    topology.exchange_declared(&ExchangeDeclare {
        exchange: short("x"),
        exchange_type: short("topic"),
        passive: false,
        durable: true,
        auto_delete: true,
        internal: true,
        no_wait: true,
        arguments: arguments.as_ref(),
    });
    topology.exchange_bound(&ExchangeBind {
        destination: short("x"),
        source: short("amq.topic"),
        routing_key: short("#"),
        no_wait: true,
        arguments: arguments.as_ref(),
    });
    let declare = QueueDeclare {
        queue: short("q"),
        passive: false,
        durable: true,
        exclusive: true,
        auto_delete: true,
        no_wait: true,
        arguments: arguments.as_ref(),
    };
    topology.queue_declared(ONE, &declare, short(""));
    topology.queue_bound(
        ONE,
        &QueueBind {
            queue: short("q"),
            exchange: short("x"),
            routing_key: short("k"),
            no_wait: true,
            arguments: arguments.as_ref(),
        },
    );
    let consume = BasicConsume {
        queue: short("q"),
        consumer_tag: short("t"),
        no_local: true,
        no_ack: true,
        exclusive: true,
        no_wait: true,
        arguments: arguments.as_ref(),
    };
    topology.consumer_started(ONE, &consume, short(""));
    topology.transaction_selected(ONE);
    let table = r#"arguments={"x-a": 1}"#;
    assert_eq!(
        steps(&topology),
        [
            format!(
                r#"exchange.declare exchange="x" exchange_type="topic" durable auto_delete internal {table}"#
            ),
            format!(r##"exchange.bind destination="x" source="amq.topic" routing_key="#" {table}"##),
            format!(r#"queue.declare queue="q" durable exclusive auto_delete {table}"#),
            format!(r#"queue.bind queue="q" exchange="x" routing_key="k" {table}"#),
            "channel.open".into(),
            "tx.select".into(),
            format!(r#"basic.consume queue="q" consumer_tag="t" no_local no_ack exclusive {table}"#),
        ]
    );
}

#[test]
fn passive_declares_and_predeclared_exchanges_are_not_recorded_and_bindings_to_them_are() {
    let mut topology = Topology::default()
        .exchange("amq.direct", false)
        .exchange("", false);
    topology.exchange_declared(&ExchangeDeclare {
        exchange: short("x"),
        passive: true,
        ..Default::default()
    });
    let passive = QueueDeclare {
        queue: short("theirs"),
        passive: true,
        ..Default::default()
    };
    topology.queue_declared(ONE, &passive, short("theirs"));
    let topology = topology
        .bound("", "amq.direct", "k")
        .exchange_to("amq.fanout", "amq.direct");
    assert_eq!(
        entities(&topology),
        [
            r#"exchange.bind destination="amq.direct" source="amq.fanout" routing_key="""#,
            r#"queue.bind queue="theirs" exchange="amq.direct" routing_key="k""#,
        ]
    );
    assert_eq!(topology.exchanges().count() + topology.queues().count(), 0);
}

#[test]
fn what_cannot_be_named_is_not_recorded() {
    let mut topology = Topology::default()
        .bound("", "amq.direct", "")
        .consuming(ONE, "", "t");
    topology.queue_declared(ONE, &QueueDeclare::default(), short(""));
    topology.consumer_started(
        ONE,
        &BasicConsume {
            queue: short("q"),
            ..Default::default()
        },
        short(""),
    );
    topology.queue_unbound(ONE, &QueueUnbind::default());
    topology.queue_deleted(ONE, &QueueDelete::default());
    assert_eq!(entities(&topology), [""; 0]);
    topology.consumer_started(
        ONE,
        &BasicConsume {
            queue: short("q"),
            ..Default::default()
        },
        short("made-up"),
    );
    assert_eq!(
        entities(&topology),
        [r#"basic.consume queue="q" consumer_tag="made-up""#]
    );
}

#[test]
fn an_empty_name_is_the_last_queue_declared_on_that_channel() {
    let mut topology = Topology::default().named("q1", false);
    let declare = QueueDeclare {
        queue: short("q2"),
        ..Default::default()
    };
    topology.queue_declared(TWO, &declare, short("q2"));
    topology = topology
        .bound("", "amq.direct", "")
        .bound("", "amq.direct", "k")
        .bound("q1", "amq.direct", "");
    topology = topology.consuming(TWO, "", "t2").consuming(ONE, "", "t1");
    assert_eq!(topology.last_queue(TWO).unwrap(), &"q2");
    assert_eq!(
        entities(&topology)[2..],
        [
            r#"queue.bind queue="q1" exchange="amq.direct" routing_key="q1""#,
            r#"queue.bind queue="q1" exchange="amq.direct" routing_key="k""#,
            r#"queue.bind queue="q1" exchange="amq.direct" routing_key="""#,
            r#"basic.consume queue="q1" consumer_tag="t1""#,
            r#"basic.consume queue="q2" consumer_tag="t2""#,
        ]
    );
    topology.queue_unbound(
        ONE,
        &QueueUnbind {
            exchange: short("amq.direct"),
            ..Default::default()
        },
    );
    assert_eq!(topology.bindings().count(), 2);
    topology.queue_deleted(TWO, &QueueDelete::default());
    assert_eq!(
        topology
            .queues()
            .map(|queue| queue.name().to_string())
            .collect::<Vec<_>>(),
        ["q1"]
    );
    assert_eq!(
        (topology.consumers(ONE).count(), topology.consumers(TWO).count()),
        (1, 0)
    );
}

#[test]
fn what_is_declared_again_replaces_what_was_and_keeps_its_place() {
    let mut topology = Topology::default()
        .named("q1", false)
        .named("q2", false)
        .named("q1", true);
    topology = topology
        .exchange("x1", false)
        .exchange("x2", false)
        .exchange("x1", true);
    topology = topology
        .bound("q1", "x1", "k")
        .bound("q1", "x2", "k")
        .bound("q1", "x1", "k");
    topology = topology.consuming(ONE, "q1", "t").consuming(ONE, "q2", "t");
    assert_eq!(
        entities(&topology),
        [
            r#"exchange.declare exchange="x1" exchange_type="direct" auto_delete"#,
            r#"exchange.declare exchange="x2" exchange_type="direct""#,
            r#"queue.declare queue="q1" auto_delete"#,
            r#"queue.declare queue="q2""#,
            r#"queue.bind queue="q1" exchange="x1" routing_key="k""#,
            r#"queue.bind queue="q1" exchange="x2" routing_key="k""#,
            r#"basic.consume queue="q2" consumer_tag="t""#,
        ]
    );
}

#[test]
fn bindings_are_told_apart_by_their_arguments() {
    let arguments = FieldTable::new().with("x-match", "any").unwrap();
    let mut topology = Topology::default().bound("q", "amq.headers", "");
    let mut bind = QueueBind {
        queue: short("q"),
        exchange: short("amq.headers"),
        ..Default::default()
    };
    bind.arguments = arguments.as_ref();
    topology.queue_bound(ONE, &bind);
    assert_eq!(topology.bindings().count(), 2);
    let unbind = QueueUnbind {
        queue: bind.queue,
        exchange: bind.exchange,
        ..Default::default()
    };
    topology.queue_unbound(ONE, &unbind);
    let left: Vec<_> = topology
        .bindings()
        .map(|binding| binding.bind().to_string())
        .collect();
    assert_eq!(
        left,
        [format!(
            r#"queue.bind queue="q" exchange="amq.headers" routing_key="" arguments={arguments:?}"#
        )]
    );
}

#[test]
fn each_consumer_starts_under_the_limit_it_was_started_under() {
    let topology = Topology::default()
        .consuming(ONE, "q", "unlimited")
        .limited(ONE, 1, false);
    let topology = topology
        .consuming(ONE, "q", "one")
        .limited(ONE, 50, true)
        .consuming(ONE, "q", "one too");
    let topology = topology
        .limited(ONE, 10, false)
        .consuming(ONE, "q", "ten")
        .limited(ONE, 0, false);
    assert_eq!(
        steps(&topology),
        [
            "channel.open",
            "basic.qos prefetch_size=0 prefetch_count=50 global",
            r#"basic.consume queue="q" consumer_tag="unlimited""#,
            "basic.qos prefetch_size=0 prefetch_count=1",
            r#"basic.consume queue="q" consumer_tag="one""#,
            r#"basic.consume queue="q" consumer_tag="one too""#,
            "basic.qos prefetch_size=0 prefetch_count=10",
            r#"basic.consume queue="q" consumer_tag="ten""#,
            "basic.qos prefetch_size=0 prefetch_count=0",
        ]
    );
    // One that is started again stands where it belongs now.
    let topology = topology.consuming(ONE, "q", "unlimited");
    assert_eq!(
        steps(&topology)[7..],
        [
            "basic.qos prefetch_size=0 prefetch_count=0",
            r#"basic.consume queue="q" consumer_tag="unlimited""#,
        ]
    );
}

#[test]
fn the_last_consumer_takes_the_queue_which_takes_its_bindings_and_their_exchanges() {
    type Action = fn(&mut Topology);
    let actions: [Action; 5] = [
        |topology| topology.consumer_cancelled(ONE, short("t")),
        |topology| topology.channel_closed(ONE),
        |topology| topology.forget_queue(short("q")),
        |topology| {
            topology.queue_deleted(
                ONE,
                &QueueDelete {
                    queue: short("q"),
                    ..Default::default()
                },
            )
        },
        |topology| {
            topology.forget_exchange(short("x3"));
            topology.forget_queue(short("q"));
        },
    ];
    for action in actions {
        let mut topology = chain();
        action(&mut topology);
        assert_eq!(entities(&topology), [""; 0]);
    }
}

#[test]
fn nothing_goes_that_something_else_holds_or_that_never_had_anything() {
    let cancel = |mut topology: Topology| {
        topology.consumer_cancelled(ONE, short("t"));
        topology.consumer_cancelled(ONE, short("unknown"));
        topology.consumer_cancelled(ChannelKey::new(9), short("t"));
        (
            topology.exchanges().count(),
            topology.queues().count(),
            topology.bindings().count(),
        )
    };
    assert_eq!(cancel(chain()), (0, 0, 0));
    // Another consumer, on this channel or on another one.
    assert_eq!(cancel(chain().consuming(TWO, "q", "t")), (3, 1, 3));
    assert_eq!(cancel(chain().consuming(ONE, "q", "t2")), (3, 1, 3));
    // A queue that is not auto-delete.
    assert_eq!(cancel(chain().named("q", false)), (3, 1, 3));
    // Another binding in the middle: x1 and x2 stay, x3 has none left.
    let other = chain().exchange_to("x2", "amq.fanout");
    assert_eq!(cancel(other), (2, 0, 2));
    // An exchange in the middle that is not auto-delete.
    assert_eq!(cancel(chain().exchange("x2", false)), (2, 0, 1));
    // Neither a queue without a consumer nor an exchange without a binding goes by itself.
    let mut idle = Topology::default().exchange("x", true).named("q", true);
    idle.consumer_cancelled(ONE, short("t"));
    idle.exchange_unbound(&ExchangeUnbind {
        source: short("x"),
        ..Default::default()
    });
    assert_eq!(entities(&idle).len(), 2);
}

#[test]
fn an_exchange_takes_its_bindings_in_both_directions() {
    let mut topology = chain();
    topology.exchange_deleted(&ExchangeDelete {
        exchange: short("x2"),
        ..Default::default()
    });
    // x1 has lost its last binding; x3 has lost none.
    assert_eq!(
        entities(&topology),
        [
            r#"exchange.declare exchange="x3" exchange_type="direct" auto_delete"#,
            r#"queue.declare queue="q" auto_delete"#,
            r#"queue.bind queue="q" exchange="x3" routing_key="k""#,
            r#"basic.consume queue="q" consumer_tag="t""#,
        ]
    );
    let unbind = QueueUnbind {
        queue: short("q"),
        exchange: short("x3"),
        routing_key: short("k"),
        ..Default::default()
    };
    topology.queue_unbound(ONE, &unbind);
    assert_eq!(entities(&topology).len(), 2);
}

#[test]
fn a_long_chain_of_exchanges_goes_without_a_deep_stack() {
    let mut topology = Topology::default().exchange("0", true);
    for number in 1..3000 {
        let (source, name) = ((number - 1).to_string(), number.to_string());
        topology = topology.exchange(&name, true).exchange_to(&source, &name);
    }
    topology = topology.exchange_to("2999", "amq.fanout");
    topology.exchange_unbound(&ExchangeUnbind {
        source: short("2999"),
        destination: short("amq.fanout"),
        ..Default::default()
    });
    assert_eq!(topology.exchanges().count(), 0);
}

#[test]
fn a_new_name_reaches_bindings_routing_keys_consumers_and_whoever_asks() {
    let mut topology = Topology::default().server_named("gen-1");
    topology = topology
        .bound("", "x", "")
        .bound("", "x", "k")
        .bound("q", "x", "gen-1")
        .consuming(TWO, "gen-1", "t");
    assert!(topology.queue_renamed(&name("gen-1"), &name("gen-2")));
    assert!(topology.queue_renamed(&name("gen-2"), &name("gen-3")));
    assert!(!topology.queue_renamed(&name("gen-1"), &name("gen-4")));
    assert!(!topology.queue_renamed(&name("gen-3"), &name("gen-3")));
    assert_eq!(
        entities(&topology),
        [
            r#"queue.declare queue="" exclusive"#,
            r#"queue.bind queue="gen-3" exchange="x" routing_key="gen-3""#,
            r#"queue.bind queue="gen-3" exchange="x" routing_key="k""#,
            r#"queue.bind queue="q" exchange="x" routing_key="gen-1""#,
            r#"basic.consume queue="gen-3" consumer_tag="t""#,
        ]
    );
    assert_eq!(topology.last_queue(ONE), Some(&name("gen-3")));
    for old in ["gen-1", "gen-2", "gen-3"] {
        assert_eq!(topology.current_queue_name(&name(old)), Some(&name("gen-3")));
    }
    assert_eq!(topology.current_queue_name(&name("gen-4")), None);
    let queue = topology.queue(&name("gen-3")).unwrap();
    assert!(queue.is_server_named() && queue.former_names() == [name("gen-1"), name("gen-2")]);
    topology.forget_queue(short("gen-3"));
    assert_eq!(topology.current_queue_name(&name("gen-1")), None);
}

#[test]
fn a_queue_remembers_its_last_sixteen_names() {
    let mut topology = Topology::default().server_named("0");
    for number in 0..40 {
        assert!(topology.queue_renamed(&name(&number.to_string()), &name(&(number + 1).to_string())));
    }
    let current = name("40");
    let queue = topology.queue(&current).unwrap();
    assert_eq!(queue.former_names().len(), 16);
    assert_eq!(topology.current_queue_name(&name("24")), Some(&current));
    assert_eq!(topology.current_queue_name(&name("23")), None);
    // A name that comes back is not a former one.
    assert!(topology.queue_renamed(&current, &name("30")));
    let names = topology.queue(&name("30")).unwrap().former_names();
    assert_eq!(
        (names.len(), names.contains(&name("30")), names.last()),
        (16, false, Some(&current))
    );
}

#[test]
fn a_consumer_of_a_stream_goes_on_somewhere_else_with_its_other_arguments() {
    let mut topology = Topology::default();
    let arguments = FieldTable::new().with("x-stream-offset", "first").unwrap();
    let arguments = arguments.with("x-priority", 3_i64).unwrap();
    let consume = BasicConsume {
        queue: short("stream"),
        arguments: arguments.as_ref(),
        ..BasicConsume::default()
    };
    topology.consumer_started(ONE, &consume, short("t"));
    assert!(topology.set_stream_offset(ONE, short("t"), 42));
    assert!(!topology.set_stream_offset(ONE, short("u"), 42));
    assert!(!topology.set_stream_offset(TWO, short("t"), 42));
    let consumer = topology.consumers(ONE).next().unwrap();
    assert_eq!((consumer.queue(), consumer.tag()), (&name("stream"), &name("t")));
    let arguments = consumer.consume().arguments.to_owned().unwrap();
    let expected = FieldTable::new().with("x-stream-offset", 42_i64).unwrap();
    assert_eq!(arguments, expected.with("x-priority", 3_i64).unwrap());
}

#[test]
fn a_closed_channel_is_forgotten_with_its_state() {
    let mut topology = Topology::default().limited(ONE, 3, false);
    topology.channel_opened(TWO);
    topology.channel_opened(ONE);
    assert_eq!(steps(&topology).len(), 3);
    topology.channel_closed(ONE);
    topology.channel_closed(ONE);
    assert_eq!(topology.channels().collect::<Vec<_>>(), vec![TWO]);
}
