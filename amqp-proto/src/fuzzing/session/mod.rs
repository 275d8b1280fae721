//! The whole connection: octets from the peer in any state, and operations of both sides.

mod client;
mod ledger;
mod machine;
mod octets;
mod operations;
mod server;

pub use ledger::{Asked, Ledger};
pub use octets::{session, session_chunks};
pub use operations::operations;
