//! What holds of every plan.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{Feedback, short};
use crate::topology::{ChannelKey, Plan, Step, StepKind};
use crate::wire::Method;

/// What a step needs comes before it, if the plan has it at all; nothing comes twice.
pub(crate) fn assert_sound(plan: &Plan) {
    let steps: Vec<&Step> = plan.outcomes().map(|(step, _)| step).collect();
    let mut seen = BTreeSet::new();
    for (place, step) in steps.iter().enumerate() {
        assert_eq!(plan.step(step.id()), Some(*step));
        let (before, behind) = steps.split_at(place);
        match step.method() {
            Method::ExchangeBind(bind) => {
                assert!(
                    !behind
                        .iter()
                        .any(|step| declares_exchange(step, bind.source.as_bytes()))
                );
                assert!(
                    !behind
                        .iter()
                        .any(|step| declares_exchange(step, bind.destination.as_bytes()))
                );
            }
            Method::QueueBind(bind) => {
                assert!(
                    !behind
                        .iter()
                        .any(|step| declares_exchange(step, bind.exchange.as_bytes()))
                );
                assert!(
                    !behind
                        .iter()
                        .any(|step| declares_queue(step, bind.queue.as_bytes()))
                );
            }
            Method::BasicConsume(consume) => {
                assert!(
                    !behind
                        .iter()
                        .any(|step| declares_queue(step, consume.queue.as_bytes()))
                );
            }
            _ => {}
        }
        if let Some(key) = step.channel() {
            let is_open = before.iter().any(|step| opens(step, key));
            assert_eq!(is_open, *step.kind() != StepKind::Channel);
        }
        if !matches!(step.kind(), StepKind::Qos(_)) {
            assert!(seen.insert(identity(step)), "{step} comes twice");
        }
    }
}

/// The same answers give the same plan.
pub(crate) fn assert_replays(mut fresh: Plan, feedback: &[Feedback], expected: &Plan) {
    for answer in feedback {
        match answer {
            Feedback::Succeeded(step, name) => {
                let queue = fresh
                    .step(*step)
                    .is_some_and(Step::declares_queue)
                    .then(|| short(name));
                let _ = fresh.succeeded(*step, queue);
            }
            Feedback::Failed(step, error) => fresh.failed(*step, error.clone()),
        }
    }
    assert_eq!(&fresh, expected);
}

fn identity(step: &Step) -> (Option<ChannelKey>, String) {
    let text = match step.kind() {
        StepKind::Queue(queue) => alloc::format!("queue {}", queue.name()),
        StepKind::Exchange(exchange) => alloc::format!("exchange {}", exchange.name()),
        StepKind::Consumer(consumer) => alloc::format!("consumer {}", consumer.tag()),
        _ => step.to_string(),
    };
    (step.channel(), text)
}

fn declares_exchange(step: &Step, name: &[u8]) -> bool {
    matches!(step.kind(), StepKind::Exchange(exchange) if exchange.name().as_short_str().as_bytes() == name)
}

fn declares_queue(step: &Step, name: &[u8]) -> bool {
    matches!(step.kind(), StepKind::Queue(queue) if queue.name().as_short_str().as_bytes() == name)
}

fn opens(step: &Step, key: ChannelKey) -> bool {
    *step.kind() == StepKind::Channel && step.channel() == Some(key)
}
