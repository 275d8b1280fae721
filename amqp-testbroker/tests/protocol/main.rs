//! What the broker says on the wire, frame by frame.

mod blocked;
mod channels;
mod client;
mod confirms;
mod consumers;
mod content;
mod handshake;
mod heartbeats;
mod inspect;
mod methods;
mod permissions;
mod reply_to;
mod settle;
mod stage;
mod transactions;
