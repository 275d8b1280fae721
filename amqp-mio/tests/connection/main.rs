//! A connection in a poll of somebody else's.

mod round;

mod bounds;
mod reaching;
mod talking;
