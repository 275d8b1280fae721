//! The connection and channel machines, octet by octet, on a virtual clock. The other end is played by hand.

mod allocations;
mod close;
mod errors;
mod handshake;
mod peer;
mod states;
mod tune;
