//! What is made again, and what became of it.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::{Outcome, Plan, Step, StepError, Topology};

/// Says of each step whether it is taken; what needs one that is not is still tried.
#[derive(Clone)]
pub struct StepFilter(Arc<dyn Fn(&Step) -> bool + Send + Sync>);

/// What became of what had to be made again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// How many steps it took: exchanges, queues, bindings, channels, their settings, consumers.
    pub restored: usize,
    /// What is not there again.
    pub unrestored: Vec<Unrestored>,
}

/// Something that could not be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unrestored {
    /// What was tried, as the method that was or would have been sent: `queue.declare queue="tasks" durable`.
    pub what: String,
    /// Why it failed; none if it was not tried because what it needs is not there.
    pub error: Option<StepError>,
}

impl StepFilter {
    /// Takes only those steps that `is_wanted` says.
    pub fn new(is_wanted: impl Fn(&Step) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_wanted))
    }

    /// What it says of that step.
    #[must_use]
    pub fn is_wanted(&self, step: &Step) -> bool {
        (self.0)(step)
    }

    /// The plan for what is recorded, without what is not wanted.
    #[must_use]
    pub fn plan(filter: Option<&Self>, topology: &Topology) -> Plan {
        let plan = Plan::new(topology);
        match filter {
            Some(filter) => plan.leave_out(|step| !filter.is_wanted(step)),
            None => plan,
        }
    }
}

impl fmt::Debug for StepFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepFilter(..)")
    }
}

impl RecoveryReport {
    /// What became of the steps of a plan that is carried out.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut report = Self::default();
        for (step, outcome) in plan.outcomes() {
            let error = match outcome {
                Outcome::Succeeded => {
                    report.restored = report.restored.saturating_add(1);
                    continue;
                }
                Outcome::Failed(error) => Some(error.clone()),
                Outcome::Pending | Outcome::Skipped { .. } => None,
            };
            report.unrestored.push(Unrestored::new(step.to_string(), error));
        }
        report
    }

    /// Whether everything is there again.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.unrestored.is_empty()
    }
}

impl Unrestored {
    /// Both.
    #[must_use]
    pub const fn new(what: String, error: Option<StepError>) -> Self {
        Self { what, error }
    }
}
