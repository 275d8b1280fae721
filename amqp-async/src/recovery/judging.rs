//! What the program says about steps that failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use amqp_proto::Instant;
use amqp_proto::topology::{Outcome, Plan, Restorer, Step, StepError, StepId};

use crate::shared::State;

/// How often failed steps are tried again on one connection.
const MOST_ROUNDS: u32 = 10;

/// What is to become of a step that failed ([`Recovery::on_step`](super::Recovery::on_step)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum StepDecision {
    /// It is in the report, and whatever needs it ends.
    #[default]
    LeaveOut,
    /// It is tried again on this connection, after so much time, with what needs it; ten times at most. All calls wait meanwhile. What
    /// ends connections is left out all the same.
    TryAgain(Duration),
    /// The recovery ends with [`GiveUpReason::Unrestored`](amqp_proto::GiveUpReason::Unrestored).
    GiveUp,
}

/// Decides about steps; it is the user's code.
#[derive(Clone)]
pub struct StepJudge(Arc<Decide>);

type Decide = dyn Fn(&Step, &Outcome) -> StepDecision + Send + Sync;

/// What it said of a plan.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    retries: Vec<StepId>,
    /// The longest delay of those.
    delay: Duration,
    /// What there is no going on without.
    pub(crate) given_up: Option<Arc<str>>,
}

/// How far that is.
#[derive(Debug, Default)]
pub(super) struct Judging {
    /// Every step is settled, and it is to say something about them.
    is_due: bool,
    /// How often something was tried again on this connection.
    rounds: u32,
    /// What is to be tried again, and when.
    retry: Option<(Instant, Vec<StepId>)>,
}

impl StepJudge {
    pub(super) fn new(decide: impl Fn(&Step, &Outcome) -> StepDecision + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    /// Not to be called under the lock.
    pub(crate) fn judge(&self, plan: &Plan) -> Judged {
        let mut judged = Judged::default();
        for (step, outcome) in plan.outcomes() {
            match ((self.0)(step, outcome), outcome) {
                (StepDecision::TryAgain(_), Outcome::Failed(StepError::EndedConnection(_))) => {}
                (StepDecision::TryAgain(delay), Outcome::Failed(_)) => {
                    judged.retries.push(step.id());
                    judged.delay = judged.delay.max(delay);
                }
                (StepDecision::GiveUp, Outcome::Failed(error)) => {
                    let what = || format!("{step}: {error}").into();
                    judged.given_up.get_or_insert_with(what);
                }
                _ => {}
            }
        }
        judged
    }
}

impl fmt::Debug for StepJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepJudge(..)")
    }
}

impl Judging {
    /// There is another connection.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Every step is settled.
    pub(super) const fn on_settled(&mut self) {
        self.is_due = self.retry.is_none();
    }

    /// Tries again what it is time for.
    pub(super) fn retry(&mut self, restorer: &mut Restorer, now: Instant) {
        if let Some((_, steps)) = self.retry.take_if(|(at, _)| *at <= now) {
            steps.into_iter().for_each(|step| restorer.retry(step));
        }
    }
}

impl State {
    /// The plan that is to be judged now.
    pub(crate) fn take_unjudged(&mut self) -> Option<Plan> {
        let recovering = self.recovering.as_mut()?;
        let judging = recovering.judging.as_mut()?;
        let restorer = recovering.restorer.as_ref()?;
        std::mem::take(&mut judging.is_due).then(|| restorer.plan().clone())
    }

    /// When something is to be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let judging = self.recovering.as_ref()?.judging.as_ref()?;
        judging.retry.as_ref().map(|(at, _)| *at)
    }

    /// It was judged: goes on with everything that is there, or tries some of it again.
    pub(crate) fn on_judged(&mut self, judged: Judged, now: Instant) {
        let Some(recovering) = &mut self.recovering else {
            return;
        };
        let (Some(judging), Some(_)) = (&mut recovering.judging, &recovering.restorer) else {
            return;
        };
        if judged.retries.is_empty() || judging.rounds >= MOST_ROUNDS {
            if let Some(restorer) = recovering.restorer.take() {
                self.on_restored(restorer.plan(), now);
            }
            return;
        }
        judging.rounds += 1;
        judging.retry = Some((now + judged.delay, judged.retries));
    }
}
