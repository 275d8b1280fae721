//! Steps that end connections.

use alloc::vec::Vec;

use super::{Plan, Renamed, Step, StepError};
use crate::CloseReason;
use crate::wire::ReplyCode;

/// How many connections a step may end until it is not tried any more.
const MOST_ENDED: u32 = 2;

/// Which steps make the peer end connections, learned from one connection after the other: what
/// [`Restorer::into_culprits`](super::Restorer::into_culprits) gives is for [`Restorer::avoiding`](super::Restorer::avoiding) on the
/// next one. To be forgotten when a plan was carried out to its end.
///
/// When a `connection.close` has come in the middle of a plan, the next one is carried out step by step, so that it is known which
/// step it was; what has ended two connections is left out.
#[derive(Debug, Clone, Default)]
pub struct Culprits {
    /// Step by step from now on.
    pub(super) is_careful: bool,
    blamed: Vec<Blamed>,
}

#[derive(Debug, Clone)]
struct Blamed {
    step: Step,
    /// How many connections it has ended.
    ended: u32,
    /// How it ended the last one.
    reason: CloseReason,
}

impl Culprits {
    /// A connection has ended with those steps under way.
    pub(super) fn blame<'s>(&mut self, reason: &CloseReason, under_way: impl Iterator<Item = &'s Step>) {
        let CloseReason::Peer(peer) = reason else {
            return;
        };
        // An operator's doing, or the broker shuts down.
        if peer.code == ReplyCode::CONNECTION_FORCED {
            return;
        }
        self.is_careful = true;
        let mut under_way = under_way.fuse();
        let (Some(step), None) = (under_way.next(), under_way.next()) else {
            return;
        };
        let reason = reason.clone();
        match self.blamed.iter_mut().find(|blamed| blamed.step.is_same(step)) {
            Some(blamed) => {
                blamed.ended = blamed.ended.saturating_add(1);
                blamed.reason = reason;
            }
            None => self.blamed.push(Blamed {
                step: step.clone(),
                ended: 1,
                reason,
            }),
        }
    }

    /// A queue has another name on this connection.
    pub(super) fn rename(&mut self, renamed: &Renamed) {
        for blamed in &mut self.blamed {
            blamed.step.rename_queue(&renamed.old, &renamed.new);
        }
    }

    /// Gives up what has ended too many.
    pub(super) fn take_out_of(&self, plan: &mut Plan) {
        plan.give_up(|step| {
            let mut known = self.blamed.iter().filter(|blamed| blamed.ended >= MOST_ENDED);
            let known = known.find(|blamed| blamed.step.is_same(step))?;
            Some(StepError::EndedConnection(known.reason.clone()))
        });
    }
}
