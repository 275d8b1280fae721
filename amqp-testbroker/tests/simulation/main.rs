//! Random programs on random links with random faults, and what must be true of each: `cargo xtask sim`.
//!
//! A seed gives a case. `AMQP_SIM_SEEDS` says how many seeds to try, `AMQP_SIM_SEED` which is the first, or with
//! `AMQP_SIM_SEEDS` = 1 the only one. What breaks a rule is made as small as it gets and told.

mod case;
mod events;
mod found;
mod ledger;
mod mail;
mod ops;
mod program;
mod recovery;
mod seeds;
mod shrink;
mod world;

use amqp_proto::wire::ShortStr;

pub(crate) fn short(text: &str) -> ShortStr<'_> {
    ShortStr::new(text).unwrap()
}
