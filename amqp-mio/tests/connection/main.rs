//! A connection in a poll of somebody else's.

mod round;

mod bounds;
#[cfg(unix)]
mod breaking;
mod commands;
mod credentials;
mod reaching;
mod restoring;
mod talking;
