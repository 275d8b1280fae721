//! A channel.

#[allow(dead_code, reason = "the machine that uses all of it is not there yet")]
pub(crate) mod confirm;

pub use confirm::{ConfirmLimits, ConfirmOutcome};
