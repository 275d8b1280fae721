//! The bodies of the fuzz targets: what must hold of the broker for any octets, and for any operations on both ends of a link. They
//! fail by panicking.
//!
//! `fuzz/` runs them under libFuzzer, `tests/fuzz_replay.rs` runs what that has found through them again. They are part of
//! this repository's tests, no interface to build on.
//!
//! ```text
//! octets ─┬─▶ server ──▶ a Broker's stream ◀── checked ──▶ an honest client on another stream
//!         └─▶ Arbitrary ──▶ both_ends ──▶ a Pair of Connection and Broker ◀── checked ──▶ what is outstanding
//! ```

mod both_ends;
mod commands;
mod honest;
mod server;

pub use amqp_proto::fuzzing::Target;
pub use both_ends::both_ends;
pub use server::server;

use amqp_proto::wire::ShortStr;

use crate::broker::Broker;

const MAX_MEMORY: u64 = 64 * 1024;
const MAX_MESSAGE_SIZE: u64 = 20_000;
/// What a message may take besides its body.
const OVERHEAD: u64 = 9000;

/// Every target by the name of its folders in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[("both_ends", both_ends), ("server", server)];

/// A message counts once in each of its queues, and is measured before it is copied.
fn check_memory(broker: &Broker) {
    let memory = broker.common.memory();
    let queues = broker.queues("/").len() as u64;
    let most = MAX_MEMORY + queues * (MAX_MESSAGE_SIZE + OVERHEAD);
    assert!(memory <= most, "{memory} octets in {queues} queues");
}

fn short(octets: &[u8]) -> ShortStr<'_> {
    ShortStr::from_bytes(octets).expect("it is short")
}
