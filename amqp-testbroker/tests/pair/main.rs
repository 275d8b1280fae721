//! Clients and servers on one clock, with all that can become of the stream between them.

mod broker;
mod cut;
mod drive;
mod restoring;
mod session;
mod time;
