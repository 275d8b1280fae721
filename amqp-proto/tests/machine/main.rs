//! The connection and channel machines, octet by octet, on a virtual clock. The other end is played by hand.

mod allocations;
mod blocked;
mod close;
mod errors;
mod backpressure;
mod channel_close;
mod channel_open;
mod confirms;
mod consumers;
mod content;
mod get;
mod handshake;
mod heartbeat;
mod limits;
mod matrix;
mod peer;
mod states;
mod tap;
mod timeouts;
mod tune;
mod channel_open;
mod matrix;
mod requests;
mod returns;
mod settle;
mod stage;
