//! No wake-up is lost, and nobody is woken under the lock: loom tries the orders in which threads can take the lock of a connection
//! (`cargo xtask loom`). What runs is the whole client, its core and a broker; what is replaced is the lock (`src/sync.rs`), the
//! stream, the clock and the runtime.
#![cfg(loom)]
#![allow(missing_docs, reason = "tests")]

mod confirms;
mod consumers;
mod requests;
mod tasks;
mod world;
