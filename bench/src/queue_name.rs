//! The names of the null broker's queues: a name says what consuming from it gives, so nothing has to be agreed upon elsewhere.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};

/// The null broker's queue that gives its consumer a message of 16 octets for each that is published on the same channel.
pub const ECHO_QUEUE: &str = "echo";

/// A queue of the null broker, by name: `100000 x 16` gives whoever consumes from it 100 000 messages of 16 octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueName {
    /// How many messages a consumer gets.
    pub messages: u64,
    /// The octets of each body.
    pub size: usize,
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.messages, self.size)
    }
}

impl FromStr for QueueName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let read = || {
            let (messages, size) = name.split_once(" x ")?;
            Some(Self {
                messages: messages.parse().ok()?,
                size: size.parse().ok()?,
            })
        };
        read().with_context(|| format!("queue {name:?} is not called like \"100000 x 16\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        let name = QueueName {
            messages: 100_000,
            size: 16,
        };
        assert_eq!(name.to_string(), "100000 x 16");
        assert_eq!(name.to_string().parse::<QueueName>().expect("its own name"), name);
        assert!("hello".parse::<QueueName>().is_err());
    }
}
