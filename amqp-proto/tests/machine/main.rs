//! The connection and channel machines, octet by octet, on a virtual clock. The other end is played by hand.

mod allocations;
mod backpressure;
mod blocked;
mod channel_close;
mod channel_open;
mod close;
mod confirms;
mod consumers;
mod content;
mod errors;
mod get;
mod handshake;
mod heartbeat;
mod late;
mod limits;
mod matrix;
mod peer;
mod properties;
mod requests;
mod returns;
mod settle;
mod stage;
mod states;
mod tap;
mod timeouts;
mod tune;
