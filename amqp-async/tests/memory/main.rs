//! The client against a broker in memory, on a virtual clock: no runtime, no socket, the same every time.
#![allow(missing_docs, reason = "tests")]

mod cleanup;
mod coalescing;
mod confirms;
mod deadlines;
mod dropped;
mod flood;
mod giving_up;
mod handlers;
mod handles;
mod interruptions;
mod judging;
mod kill_switch;
mod ledger;
#[cfg(feature = "metrics")]
mod metered;
mod pipe;
mod world;

mod owners;
mod policies;
mod recovery;
mod refresh;
mod reopen;
mod reopen_late;
mod republishing;
mod resubscribe;
mod round;
mod shutdown;
mod stalls;
mod strange;
mod streams;
#[cfg(feature = "tracing")]
mod traced;
mod unsettled;
