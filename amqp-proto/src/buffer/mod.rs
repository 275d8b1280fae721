//! The two buffers between the core and the socket. Both belong to the caller, so that neither is locked during I/O.

mod recv;
mod send;

pub use recv::RecvBuf;
pub use send::{Payload, SendBuf};
