//! What becomes of plans.

use super::*;

/// Two exchanges, one bound to the other, two queues, two channels with consumers.
fn two_of_each() -> Topology {
    let exchanges = Topology::default()
        .exchange("x1", false)
        .exchange("x2", false)
        .exchange_to("x1", "x2");
    let queues = exchanges
        .named("q1", false)
        .named("q2", false)
        .bound("q1", "x1", "1")
        .bound("q2", "x2", "2");
    queues
        .limited(ONE, 5, false)
        .consuming(ONE, "q1", "a")
        .consuming(ONE, "q2", "b")
        .consuming(TWO, "q2", "c")
}

/// Carries out a plan; what contains one of these texts is refused. The lines that were sent.
fn carry_out(plan: &mut Plan, refusals: &[&str]) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some(step) = plan.next_step() {
        let (id, line) = (step.id(), step.to_string());
        match refusals.iter().any(|refusal| line.contains(refusal)) {
            true => plan.failed(id, refused(ReplyCode::PRECONDITION_FAILED)),
            false => assert_eq!(plan.succeeded(id, None), None),
        }
        sent.push(line);
    }
    sent
}

/// The lines that did not succeed, with the line of the step that is to blame.
fn losses(plan: &Plan) -> Vec<(String, String)> {
    let lost = plan.outcomes().filter_map(|(step, outcome)| match outcome {
        Outcome::Failed(_) => Some((step.to_string(), String::new())),
        Outcome::Skipped { because } => Some((step.to_string(), plan.step(*because).unwrap().to_string())),
        _ => None,
    });
    lost.collect()
}

#[test]
fn only_a_server_named_queue_that_is_named_anew_is_renamed() {
    let topology = Topology::default()
        .named("q", false)
        .server_named("gen-1")
        .bound("gen-1", "x", "k");
    let mut plan = Plan::new(&topology);
    let id = |plan: &Plan| plan.next_step().unwrap().id();
    // A named queue keeps its name whatever the answer says.
    assert_eq!(plan.succeeded(id(&plan), Some(short("other"))), None);
    let mut same = plan.clone();
    assert_eq!(same.succeeded(id(&same), Some(short("gen-1"))), None);
    let mut empty = plan.clone();
    assert_eq!(empty.succeeded(id(&empty), Some(short(""))), None);
    let mut silent = plan.clone();
    assert_eq!(silent.succeeded(id(&silent), None), None);
    let queue = id(&plan);
    let renamed = Renamed {
        old: name("gen-1"),
        new: name("gen-2"),
    };
    assert_eq!(plan.succeeded(queue, Some(short("gen-2"))), Some(renamed));
    assert_eq!(
        plan.next_step().unwrap().to_string(),
        r#"queue.bind queue="gen-2" exchange="x" routing_key="k""#
    );
    let StepKind::Queue(queue) = plan.step(queue).unwrap().kind() else {
        panic!()
    };
    assert_eq!(*queue.name(), "gen-2");
    // The record is as it was until it is told.
    assert_eq!(topology.queues().nth(1).unwrap().name(), &"gen-1");
    // Anything else than a queue has no name to tell.
    assert_eq!(plan.succeeded(id(&plan), Some(short("gen-3"))), None);
}

#[test]
fn what_needs_something_that_failed_is_skipped_and_the_rest_goes_on() {
    let table: [(&str, &[&str]); 4] = [
        (
            r#"declare exchange="x1""#,
            &["exchange.bind", r#"queue.bind queue="q1""#],
        ),
        (
            r#"declare exchange="x2""#,
            &["exchange.bind", r#"queue.bind queue="q2""#],
        ),
        (
            r#"declare queue="q1""#,
            &[r#"queue.bind queue="q1""#, r#"consumer_tag="a""#],
        ),
        (
            r#"declare queue="q2""#,
            &[
                r#"queue.bind queue="q2""#,
                r#"consumer_tag="b""#,
                r#"consumer_tag="c""#,
            ],
        ),
    ];
    for (refusal, skipped) in table {
        let mut plan = Plan::new(&two_of_each());
        let sent = carry_out(&mut plan, &[refusal]);
        let losses = losses(&plan);
        assert!(losses[0].0.contains(refusal) && losses[0].1.is_empty());
        assert_eq!(losses.len(), 1 + skipped.len());
        for ((line, because), expected) in losses[1..].iter().zip(skipped) {
            assert!(line.contains(expected) && because.contains(refusal), "{line}");
            assert!(!sent.contains(line));
        }
        assert!(plan.is_finished() && !plan.is_recovered());
        assert_eq!(sent.len(), lines(&plan).len() - skipped.len());
    }
    // A binding has nothing behind it.
    let mut plan = Plan::new(&two_of_each());
    carry_out(&mut plan, &["exchange.bind"]);
    assert_eq!(losses(&plan).len(), 1);
}

#[test]
fn a_refused_consumer_is_left_out_and_its_channel_starts_again() {
    let mut plan = Plan::new(&two_of_each());
    let sent = carry_out(&mut plan, &[r#"consumer_tag="b""#]);
    let (open, qos) = ("channel.open", "basic.qos prefetch_size=0 prefetch_count=5");
    let consume = |queue: &str, tag: &str| format!(r#"basic.consume queue="{queue}" consumer_tag="{tag}""#);
    let (a, b, c) = (consume("q1", "a"), consume("q2", "b"), consume("q2", "c"));
    let expected = [open, qos, &a, &b, open, qos, &a, open, &c];
    assert_eq!(sent[7..], expected);
    assert_eq!(losses(&plan), [(b, String::new())]);
}

#[test]
fn a_channel_without_its_mode_or_limits_is_not_given_back() {
    for refusal in ["basic.qos", "confirm.select"] {
        let mut topology = two_of_each();
        topology.confirm_selected(ONE);
        let mut plan = Plan::new(&topology);
        let sent = carry_out(&mut plan, &[refusal]);
        let losses = losses(&plan);
        assert_eq!(losses.len(), 5, "{losses:?}");
        assert_eq!(losses[0].0, "channel.open");
        for (line, because) in &losses {
            assert!(line.contains(refusal) || because.contains(refusal));
        }
        assert!(sent.last().unwrap().contains(r#"consumer_tag="c""#));
    }
    let mut plan = Plan::new(&two_of_each());
    carry_out(&mut plan, &["channel.open"]);
    assert_eq!(losses(&plan).len(), 6);
}

#[test]
fn queues_that_go_with_a_refused_consumers_channel_come_back_for_the_others() {
    let topology = Topology::default()
        .exchange("kept", false)
        .exchange("gone", true)
        .named("stays", false);
    let topology = topology
        .named("q", true)
        .named("unused", true)
        .bound("q", "gone", "k");
    let topology = topology
        .consuming(ONE, "q", "a")
        .consuming(ONE, "stays", "b")
        .consuming(TWO, "q", "c");
    let mut plan = Plan::new(&topology);
    let sent = carry_out(&mut plan, &[r#"consumer_tag="b""#]);
    assert_eq!(
        sent[9..],
        [
            r#"exchange.declare exchange="gone" exchange_type="direct" auto_delete"#,
            r#"queue.declare queue="q" auto_delete"#,
            r#"queue.bind queue="q" exchange="gone" routing_key="k""#,
            "channel.open",
            r#"basic.consume queue="q" consumer_tag="a""#,
            "channel.open",
            r#"basic.consume queue="q" consumer_tag="c""#,
        ]
    );
    // With the other consumer running, the queue is there.
    let mut plan = Plan::new(&topology.consuming(TWO, "stays", "b"));
    let sent = carry_out(&mut plan.clone(), &[r#"queue="stays" consumer_tag="b""#]);
    assert_eq!(
        sent.iter()
            .filter(|line| line.contains(r#"declare queue="q""#))
            .count(),
        2
    );
    plan = plan.leave_out(|step| step.channel() == Some(ONE) && step.to_string().contains(r#"tag="b""#));
    let sent = carry_out(&mut plan, &[r#"consumer_tag="b""#]);
    assert_eq!(
        sent.iter()
            .filter(|line| line.contains(r#"declare queue="q""#))
            .count(),
        1
    );
    assert_eq!(sent.len(), 5 + 1 + 2 + 3 + 2);
}

#[test]
fn what_is_under_way_when_its_channel_or_queue_is_lost_is_not_a_failure() {
    let mut plan = Plan::new(&two_of_each());
    while plan.next_step().unwrap().stage() < 4 {
        let id = plan.next_step().unwrap().id();
        plan.succeeded(id, None);
    }
    let batch: Vec<_> = plan.ready().map(Step::id).collect();
    assert_eq!(batch.len(), 6);
    assert_eq!(plan.succeeded(batch[0], None), None);
    plan.failed(batch[1], refused(ReplyCode::PRECONDITION_FAILED));
    plan.failed(batch[2], refused(ReplyCode::PRECONDITION_FAILED));
    plan.failed(batch[3], refused(ReplyCode::PRECONDITION_FAILED));
    assert_eq!(
        losses(&plan)
            .iter()
            .filter(|(_, because)| because.is_empty())
            .count(),
        1
    );
    assert_eq!(plan.ready().map(Step::id).collect::<Vec<_>>(), batch[4..]);
    // A settled step stays as it is, and one of another plan is nothing.
    let before = plan.clone();
    assert_eq!(plan.succeeded(batch[1], None), None);
    plan.failed(batch[0], RequestError::Timeout);
    plan.failed(StepId(1000), RequestError::Timeout);
    assert_eq!(plan, before);
    assert_eq!(plan.step(StepId(1000)), None);
}

#[test]
fn ready_are_all_of_a_kind_in_their_order() {
    let mut plan = Plan::new(&two_of_each());
    let mut counts = Vec::new();
    while !plan.is_finished() {
        let batch: Vec<_> = plan.ready().map(Step::id).collect();
        counts.push(batch.len());
        // Answers in any order.
        for id in batch.into_iter().rev() {
            plan.succeeded(id, None);
        }
    }
    assert_eq!(counts, [2, 1, 2, 2, 6]);
    assert!(plan.is_recovered() && plan.ready().next().is_none());
}

#[test]
fn the_end_of_the_connection_ends_the_plan_and_not_the_record() {
    let topology = two_of_each();
    let whole = Plan::new(&topology);
    for cut in 0..whole.outcomes().count() {
        for error in [
            connection_lost(),
            SendError::Closed.into(),
            SendError::NotConnected.into(),
        ] {
            let mut plan = whole.clone();
            for _ in 0..cut {
                plan.succeeded(plan.next_step().unwrap().id(), None);
            }
            assert!(error.is_connection_lost());
            plan.failed(plan.next_step().unwrap().id(), error);
            assert!(plan.is_finished() && !plan.is_recovered());
            assert_eq!(losses(&plan).len(), whole.outcomes().count() - cut);
        }
    }
    assert_eq!(Plan::new(&topology), whole);
    for error in [
        StepError::from(RequestError::Timeout),
        SendError::Stale.into(),
        refused(ReplyCode::NOT_FOUND),
    ] {
        assert!(!error.is_connection_lost());
    }
}

#[test]
fn steps_can_be_left_out_and_a_channel_goes_with_all_of_its_own() {
    let whole = Plan::new(&two_of_each());
    let plan = whole
        .clone()
        .leave_out(|step| step.to_string().contains("declare"));
    assert_eq!(lines(&plan).len(), 9);
    assert_eq!(plan.next_step().unwrap().to_string(), lines(&whole)[2]);
    let mut plan = whole
        .clone()
        .leave_out(|step| *step.kind() == StepKind::Channel && step.channel() == Some(ONE));
    assert_eq!(
        lines(&plan)[7..],
        ["channel.open", r#"basic.consume queue="q2" consumer_tag="c""#]
    );
    carry_out(&mut plan, &[]);
    assert!(plan.is_recovered());
    let nothing = whole.leave_out(|_| true);
    assert!(nothing.is_finished() && nothing.is_recovered() && nothing.next_step().is_none());
}

#[test]
fn a_closed_channel_comes_back_with_what_the_server_deleted_and_nothing_else() {
    let topology = two_of_each();
    assert_eq!(
        lines(&Plan::for_channel(&topology, TWO)),
        ["channel.open", r#"basic.consume queue="q2" consumer_tag="c""#]
    );
    assert_eq!(lines(&Plan::for_channel(&topology, ChannelKey::new(9))), [""; 0]);
    let topology = chain()
        .named("other", true)
        .bound("other", "amq.fanout", "")
        .consuming(TWO, "other", "c");
    let plan = Plan::for_channel(&topology, ONE);
    assert_eq!(lines(&plan), steps(&chain()));
    // A queue that has a consumer elsewhere is there, and so is all that leads to it.
    let shared = topology.consuming(TWO, "q", "d");
    assert_eq!(
        lines(&Plan::for_channel(&shared, ONE)),
        ["channel.open", r#"basic.consume queue="q" consumer_tag="t""#]
    );
}

#[test]
fn errors_say_what_was_said() {
    let error = StepError::from(SendError::Stale);
    assert_eq!(error.to_string(), "the channel is closed");
    assert!(refused(ReplyCode::NOT_FOUND).to_string().contains("404"));
}
