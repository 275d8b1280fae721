//! The connection.

mod state;

pub use state::ConnectionState;
