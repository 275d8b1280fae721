//! The lock. With `--cfg loom` it is loom's, and `tests/loom` tries the orders in which threads can take it. The few atomics of this
//! crate are not here: they order nothing, and nobody is woken for what they say. But for two, by which the last handler wakes a driver
//! that leaves (`leaving.rs`): they need `SeqCst`, which loom takes for less.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};
