//! The bodies of the fuzz targets: what must hold for any octets, and for any operations. They fail by panicking.
//!
//! `fuzz/` runs them under libFuzzer, `tests/fuzz_replay.rs` runs what that has found through them again. They are part of
//! this repository's tests, no interface to build on.
//!
//! ```text
//! octets ─┬─▶ uri ──▶ printed and parsed again
//!         ├─▶ trace ──▶ read, and written and read again
//!         ├─▶ frame, method, content_header, field_table ──▶ the codec ◀── compared ──▶ naive: the specification, spelt out
//!         ├─▶ session, session_chunks ──▶ a whole connection ◀── checked ──▶ what is outstanding
//!         ├─▶ Arbitrary ──▶ operations ──▶ a whole connection ◀── checked ──▶ what is outstanding, and an honest server
//!         └─▶ Arbitrary ──▶ field_table_ops, encode_decode, buffers, confirm_window, topology ──▶ the real thing
//!                                                                            ◀── compared ──▶ a naive model
//! ```

mod buffers;
mod check;
mod confirm_window;
mod content_header;
mod encode_decode;
mod field_table;
mod field_table_ops;
mod frame;
mod method;
mod naive;
mod session;
mod topology;
mod trace;
mod uri;

pub use buffers::buffers;
pub use confirm_window::confirm_window;
pub use content_header::content_header;
pub use encode_decode::encode_decode;
pub use field_table::field_table;
pub use field_table_ops::field_table_ops;
pub use frame::frame;
pub use method::method;
pub use session::{Asked, Ledger, operations, session, session_chunks};
pub use topology::topology;
pub use trace::trace;
pub use uri::uri;

/// A target: takes what a fuzzer made up, panics if something does not hold.
pub type Target = fn(&[u8]);

/// Every target by the name of its folders in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("buffers", buffers),
    ("confirm_window", confirm_window),
    ("content_header", content_header),
    ("encode_decode", encode_decode),
    ("field_table", field_table),
    ("field_table_ops", field_table_ops),
    ("frame", frame),
    ("method", method),
    ("operations", operations),
    ("session", session),
    ("session_chunks", session_chunks),
    ("trace", trace),
    ("topology", topology),
    ("uri", uri),
];
