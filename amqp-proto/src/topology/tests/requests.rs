//! Requests that are under way, and what is told at the end.

use super::*;
use crate::wire::{ExchangeDeclareOk, Method};
use crate::{ChannelId, Reply, RequestId};

fn declare(name: &str) -> Method<'_> {
    ExchangeDeclare {
        exchange: short(name),
        ..Default::default()
    }
    .into()
}

fn names(recorder: &Recorder) -> Vec<String> {
    recorder
        .topology()
        .exchanges()
        .map(|exchange| exchange.name.to_string())
        .collect()
}

#[test]
fn what_was_asked_is_recorded_when_it_is_answered() {
    let requests = [0, 1, 2].map(|sequence| RequestId::<()>::new(ChannelId::new(1, 0), sequence));
    let ok = |request| Reply::new(request, ExchangeDeclareOk::default()).unwrap();
    let mut recorder = Recorder::default();
    for (request, name) in requests.into_iter().zip(["one", "two", "three"]) {
        recorder.asked(ONE, request, &declare(name));
        assert!(recorder.is_asked(request));
    }
    assert_eq!(names(&recorder), [""; 0]);
    assert!(recorder.answered(&ok(requests[1])));
    assert!(!recorder.answered(&ok(requests[1])), "it was answered before");
    recorder.failed(requests[0]);
    assert!(!recorder.answered(&ok(requests[0])), "it was refused");
    recorder.disconnected();
    assert!(
        !recorder.answered(&ok(requests[2])),
        "that was on another connection"
    );
    assert_eq!(names(&recorder), ["two"]);
    recorder.told(ONE, &declare("four"));
    assert_eq!(names(&recorder), ["two", "four"]);
}

#[test]
fn a_report_has_what_failed_and_what_was_not_tried() {
    let topology = Topology::default()
        .exchange("news", false)
        .exchange("other", false)
        .exchange_to("news", "other");
    let filter = StepFilter::new(|step| !step.to_string().contains("other\""));
    let left = StepFilter::plan(Some(&filter), &topology);
    assert_eq!(left.outcomes().count(), 1);
    let mut plan = StepFilter::plan(None, &topology);
    let steps: Vec<_> = plan.outcomes().map(|(step, _)| step.id()).collect();
    plan.failed(steps[0], SendError::Stale);
    plan.succeeded(steps[1], None);
    let report = RecoveryReport::new(&plan);
    assert_eq!((report.restored, report.is_complete()), (1, false));
    let whats: Vec<_> = report
        .unrestored
        .iter()
        .map(|one| (&*one.what, one.error.is_some()))
        .collect();
    let expected = [
        (
            "exchange.declare exchange=\"news\" exchange_type=\"direct\"",
            true,
        ),
        (
            "exchange.bind destination=\"other\" source=\"news\" routing_key=\"\"",
            false,
        ),
    ];
    assert_eq!(whats, expected);
}
