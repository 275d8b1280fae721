//! What must hold for any session: however its octets are cut, wherever it ends, whatever the order.

mod acks;
mod confirms;
mod gets;
mod limits;
mod outbox;
mod replay;
mod rows;
mod sessions;
mod transcript;
